import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { LOG_NAME } from '../../../src/hotcopy/logfolder.ts';
import { LogPins } from '../../../src/hotcopy/logpins.ts';
import { watchFolder } from '../../../src/hotcopy/pinthread.ts';
import { PIN_INTERVAL_MS, PINNED_LOG_FILES_MAX } from '../../../src/limits.ts';
import { readFully } from '../../../src/storage/local.ts';
import { failure, openFilesBelow, temporaryFolder } from '../../fixtures/workspace.ts';

function writeLog(folder: string, version: number, content = `log ${version}`): string {
  const path = join(folder, `neostore.transaction.db.${version}`);
  writeFileSync(path, content);
  return path;
}

/** Nothing else happens in this thread meanwhile. */
function waitBlockingUntil(condition: () => boolean): void {
  const deadlineMs = performance.now() + 20_000;
  while (!condition()) assert.ok(performance.now() < deadlineMs, 'waited twenty seconds in vain');
}

/** The newest thread of this process. */
let worker: Worker | undefined;
process.on('worker', (started) => {
  worker = started;
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

  test('hold files that live only for a moment, while the main thread has no time', async (context) => {
    const folder = temporaryFolder(context);
    writeLog(folder, 0);
    const pins = new LogPins(folder, 0n);
    await pins.refresh();
    for (const version of [1, 2, 3]) {
      const path = writeLog(folder, version);
      waitBlockingUntil(() => openFilesBelow(folder).some((open) => open === path));
      rmSync(path);
    }
    await pins.refresh();
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

  test('of two folders are not taken for one another', async (context) => {
    const folders = [temporaryFolder(context), temporaryFolder(context)] as const;
    const pins = folders.map((folder) => new LogPins(folder, 1n));
    for (const [number, folder] of folders.entries()) writeLog(folder, 5 + number);
    await Promise.all(pins.map((each) => each.refresh()));
    assert.deepEqual(
      pins.map((each) => each.pinned().map(({ version }) => version)),
      [[5n], [6n]],
    );
    await pins[0]!.close();
    writeLog(folders[1], 8);
    await pins[1]!.refresh();
    assert.equal(pins[1]!.pinned().length, 2);
    await pins[1]!.close();
    assert.deepEqual(folders.flatMap(openFilesBelow), []);
  });

  test('more files than can be held are refused, and what was opened is closed', async (context) => {
    const folder = temporaryFolder(context);
    for (let version = 0; version <= PINNED_LOG_FILES_MAX; version++) writeLog(folder, version, '');
    const pins = new LogPins(folder, 0n);
    await assert.rejects(pins.refresh(), failure('GK_UNSUPPORTED', /more than \d+ log files/));
    await pins.close();
    assert.deepEqual(openFilesBelow(folder), []);
    const fewer = new LogPins(folder, 1n);
    await fewer.refresh();
    assert.equal(fewer.pinned().length, PINNED_LOG_FILES_MAX);
    await fewer.close();
  });

  test('a folder with more in it than is to be listed is refused, and nothing of it opened', async (context) => {
    const folder = temporaryFolder(context);
    for (const version of [0, 1, 2]) writeLog(folder, version);
    const bounds = { filesMax: 10, entriesMax: 2 };
    const port = watchFolder({ directory: folder, pattern: LOG_NAME, firstVersion: 0n, ...bounds });
    const answered = once(port, 'message');
    port.postMessage(true);
    assert.deepEqual(await answered, [{ type: 'tooMany', what: 'entries' }]);
    assert.deepEqual(openFilesBelow(folder), []);
    port.close();
  });

  test('a thread that ends is told to everybody who waits for it, and the next one begins anew', async (context) => {
    const folder = temporaryFolder(context);
    writeLog(folder, 0);
    const pins = new LogPins(folder, 0n);
    await pins.refresh();
    const ended = worker!.terminate();
    await assert.rejects(pins.refresh(), failure('GK_INTERNAL', /has ended/));
    await ended;
    assert.throws(() => pins.pinned(), failure('GK_INTERNAL'));
    await pins.close();
    assert.deepEqual(openFilesBelow(folder), []);
    const next = new LogPins(folder, 0n);
    await next.refresh();
    assert.equal(next.pinned().length, 1);
    await next.close();
  });

  test('after close nothing is watched any more', async (context) => {
    const folder = temporaryFolder(context);
    const pins = new LogPins(folder, 0n);
    await pins.close();
    writeLog(folder, 0);
    await sleep(10 * PIN_INTERVAL_MS);
    assert.deepEqual(pins.pinned(), []);
    assert.deepEqual(openFilesBelow(folder), []);
  });

  test('a folder that vanishes is told, not swallowed', async (context) => {
    const folder = join(temporaryFolder(context), 'vanishes');
    mkdirSync(folder);
    const pins = new LogPins(folder, 0n);
    await pins.refresh();
    rmdirSync(folder);
    await assert.rejects(pins.refresh(), failure('GK_NOT_FOUND', /vanishes/));
    assert.throws(() => pins.pinned(), failure('GK_NOT_FOUND'));
    await pins.close();
  });
});
