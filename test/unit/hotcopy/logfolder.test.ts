import assert from 'node:assert/strict';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LogPins, listLogFolder, pinFile } from '../../../src/hotcopy/logfolder.ts';
import { PIN_INTERVAL_MS } from '../../../src/limits.ts';
import { readFully } from '../../../src/storage/local.ts';
import { failure, openFilesBelow, temporaryFolder } from '../../fixtures/workspace.ts';

function writeLog(folder: string, version: number, content = `log ${version}`): string {
  const path = join(folder, `neostore.transaction.db.${version}`);
  writeFileSync(path, content);
  return path;
}

async function waitFor(condition: () => boolean): Promise<void> {
  for (let waited = 0; waited < 5000; waited += 5) {
    if (condition()) return;
    await sleep(5);
  }
  assert.fail('waited five seconds in vain');
}

describe('log folder', () => {
  test('is listed by number, not by name', async (context) => {
    const folder = temporaryFolder(context);
    for (const version of [10, 9, 100, 2]) {
      writeLog(folder, version);
      writeFileSync(join(folder, `checkpoint.${version}`), '');
    }
    for (const other of [
      'neostore.transaction.db',
      'neostore.transaction.db.1.bak',
      'checkpoint.x',
      'raft.1',
    ]) {
      writeFileSync(join(folder, other), '');
    }
    const { logs, checkpoints } = await listLogFolder(folder);
    assert.deepEqual(
      logs.map((file) => file.version),
      [2n, 9n, 10n, 100n],
    );
    assert.deepEqual(
      checkpoints.map((file) => file.name),
      ['checkpoint.2', 'checkpoint.9', 'checkpoint.10', 'checkpoint.100'],
    );
    await assert.rejects(listLogFolder(join(folder, 'no')), failure('GK_NOT_FOUND'));
  });

  test('a file that is gone cannot be pinned, which is no error', async (context) => {
    assert.equal(await pinFile(join(temporaryFolder(context), 'no')), undefined);
  });
});

describe('pins', () => {
  test('hold a file that is deleted after it was pinned', async (context) => {
    const folder = temporaryFolder(context);
    const path = writeLog(folder, 3, 'content of log 3');
    const pins = new LogPins(folder, 3n);
    await pins.refresh();
    rmSync(path);
    await pins.refresh();
    const [pin, ...others] = pins.pinned();
    assert.deepEqual(others, []);
    const content = Buffer.alloc(100);
    const got = await readFully(pin!.handle, content, 0, path);
    assert.equal(content.toString('utf8', 0, got), 'content of log 3');
    await pins.close();
    assert.deepEqual(openFilesBelow(folder), []);
  });

  test('take nothing before the first version, and everything from it on, in order', async (context) => {
    const folder = temporaryFolder(context);
    for (const version of [11, 1, 9, 10, 8]) writeLog(folder, version);
    const pins = new LogPins(folder, 9n);
    await pins.refresh();
    assert.deepEqual(
      pins.pinned().map((pin) => pin.version),
      [9n, 10n, 11n],
    );
    await pins.close();
  });

  test('watching pins files that appear later, even if they live only for a moment', async (context) => {
    const folder = temporaryFolder(context);
    writeLog(folder, 0);
    const pins = new LogPins(folder, 0n);
    await pins.refresh();
    pins.watch();
    for (const version of [1, 2, 3]) {
      const path = writeLog(folder, version);
      await waitFor(() => pins.pinned().length === version + 1);
      rmSync(path);
    }
    assert.equal(existsSync(join(folder, 'neostore.transaction.db.2')), false);
    const contents = await Promise.all(
      pins.pinned().map(async (pin) => {
        const content = Buffer.alloc(20);
        return content.toString('utf8', 0, await readFully(pin.handle, content, 0, pin.name));
      }),
    );
    assert.deepEqual(contents, ['log 0', 'log 1', 'log 2', 'log 3']);
    await pins.close();
    assert.deepEqual(openFilesBelow(folder), []);
  });

  test('after close nothing is watched any more', async (context) => {
    const folder = temporaryFolder(context);
    const pins = new LogPins(folder, 0n);
    pins.watch();
    await pins.close();
    writeLog(folder, 0);
    await sleep(5 * PIN_INTERVAL_MS);
    assert.deepEqual(pins.pinned(), []);
    assert.deepEqual(openFilesBelow(folder), []);
  });

  test('a failure of the watch is told, not swallowed', async (context) => {
    const folder = temporaryFolder(context);
    const pins = new LogPins(join(folder, 'vanishes'), 0n);
    pins.watch();
    await waitFor(() => {
      try {
        pins.pinned();
        return false;
      } catch {
        return true;
      }
    });
    assert.throws(() => pins.pinned(), failure('GK_NOT_FOUND'));
    await pins.close();
  });
});
