import assert from 'node:assert/strict';
import { readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { readFence } from '../../../src/hotcopy/fence.ts';
import { openLocalSnapshot } from '../../../src/hotcopy/snapshot.ts';
import { MANDATORY_FILES } from '../../../src/hotcopy/storefiles.ts';
import { CHECKPOINT_FILE_BYTES_MAX } from '../../../src/limits.ts';
import type { DatabaseFolders } from '../../../src/neo4j/folders.ts';
import { makeDatabase, put } from '../../fixtures/database.ts';
import {
  CHECKPOINT_FIXTURE,
  fixture,
  LINES,
  LOG_FIXTURE,
  NEOSTORE_FIXTURE,
  storeIdOf,
} from '../../fixtures/lines.ts';
import {
  checkpointAfter,
  checkpointAtStart,
  checkpointFile,
  fixtureCheckpoint,
  type LogFile,
  logFromFence,
  sealed,
  splitLog,
  transactionIn,
  writePosition,
} from '../../fixtures/logs.ts';
import { failure, openFilesBelow, temporaryFolder } from '../../fixtures/workspace.ts';

const logs = (folders: DatabaseFolders, name: string): string => join(folders.logDirectory, name);

for (const line of LINES) {
  describe(`fence of ${line}`, () => {
    const whole = fixture(line, CHECKPOINT_FIXTURE);
    const last = fixtureCheckpoint(line);

    test('the last entry of the newest file, and the file up to there', async (context) => {
      const { logDirectory } = makeDatabase(temporaryFolder(context), line);
      const fence = await readFence(logDirectory);
      assert.deepEqual(fence.checkpoint, last);
      assert.equal(fence.fileName, 'checkpoint.0');
      assert.equal(fence.fileBytes.equals(whole.subarray(0, last.endBytes)), true, 'cut behind the entry');
    });

    test('falls back to a lower file when the newest has no entry', async (context) => {
      const { logDirectory } = makeDatabase(temporaryFolder(context), line);
      for (const unbegun of [
        Buffer.alloc(0),
        Buffer.alloc(100),
        Buffer.alloc(5000),
        whole.subarray(0, 128),
      ]) {
        put(join(logDirectory, 'checkpoint.1'), unbegun);
        const fence = await readFence(logDirectory);
        assert.equal(fence.fileName, 'checkpoint.0');
        assert.deepEqual(fence.checkpoint, last);
      }
      put(join(logDirectory, 'checkpoint.1'), Buffer.concat([whole.subarray(0, 200), Buffer.alloc(500)]));
      assert.equal((await readFence(logDirectory)).fileName, 'checkpoint.0', 'torn in its first entry');
    });

    test('the newest file is the one of the highest number', async (context) => {
      const { logDirectory } = makeDatabase(temporaryFolder(context), line);
      put(join(logDirectory, 'checkpoint.9'), checkpointAfter(line, 20n, splitLog(line, [])));
      put(join(logDirectory, 'checkpoint.10'), checkpointAfter(line, 25n, splitLog(line, [])));
      const fence = await readFence(logDirectory);
      assert.equal(fence.fileName, 'checkpoint.10');
      assert.equal(fence.checkpoint.appendIndex, 25n);
    });

    test('refused: no checkpoint, one that is too long, a format or version that is not known', async (context) => {
      const { logDirectory } = makeDatabase(temporaryFolder(context), line);
      const path = join(logDirectory, 'checkpoint.0');
      const unknown = Buffer.from(whole);
      unknown[last.startBytes] = 77;
      const envelopes = Buffer.from(whole);
      envelopes[0] = 11;
      for (const [what, bytes, code] of [
        ['an unknown kernel version', unknown, 'GK_UNSUPPORTED'],
        ['format 11', envelopes, 'GK_UNSUPPORTED'],
        ['no entry', whole.subarray(0, 128), 'GK_STORE_DAMAGED'],
      ] as const) {
        writeFileSync(path, bytes);
        await assert.rejects(readFence(logDirectory), failure(code, /checkpoint/), what);
      }
      truncateSync(path, CHECKPOINT_FILE_BYTES_MAX + 1);
      await assert.rejects(readFence(logDirectory), failure('GK_UNSUPPORTED', /bytes long/));
      rmSync(path);
      await assert.rejects(readFence(logDirectory), failure('GK_STORE_DAMAGED', /no valid checkpoint/));
      assert.deepEqual(openFilesBelow(logDirectory), []);
    });
  });

  describe(`snapshot of ${line}`, () => {
    test('groups, tail and final members, in their order', async (context) => {
      const root = temporaryFolder(context);
      const folders = makeDatabase(root, line);
      const snapshot = await openLocalSnapshot(folders);
      assert.deepEqual(snapshot.neostore.storeId, storeIdOf(line));
      const kinds = snapshot.groups.map((group) => group.rebuildable);
      assert.deepEqual(kinds, [...kinds].sort(), 'what cannot be rebuilt goes first');
      const paths = snapshot.groups.map((group) => group.path);
      assert.equal(paths.includes('neostore'), false, 'neostore goes last');
      for (const name of MANDATORY_FILES) if (name !== 'neostore') assert.ok(paths.includes(name), name);
      const tail = await snapshot.takeTail();
      assert.equal(tail.highestAppendIndex, 41n);
      const final = await snapshot.finalMembers();
      assert.deepEqual(
        final.map((member) => member.path),
        [LOG_FIXTURE, 'neostore', CHECKPOINT_FIXTURE],
      );
      assert.equal(
        final[0]!.bytes,
        logFromFence(line).log.length,
        'the log from the fence, without its zero tail',
      );
      await snapshot.close();
      assert.deepEqual(openFilesBelow(root), []);
    });

    test('the checkpoint of the beginning stays the fence, whatever happens meanwhile', async (context) => {
      const folders = makeDatabase(temporaryFolder(context), line);
      const path = join(folders.logDirectory, CHECKPOINT_FIXTURE);
      writeFileSync(path, checkpointAfter(line, 20n, splitLog(line, [])));
      const before = readFileSync(path);
      const snapshot = await openLocalSnapshot(folders);
      writeFileSync(path, checkpointAfter(line, 40n, splitLog(line, [])));
      const tail = await snapshot.takeTail();
      assert.equal(tail.transactions, 21n);
      const member = (await snapshot.finalMembers()).at(-1)!;
      const content = Buffer.alloc(member.bytes);
      await member.read(content, 0);
      assert.equal(content.equals(checkpointAtStart(before)), true);
      await snapshot.close();
    });

    for (const [what, last] of [
      ['with the transactions behind it', 41n],
      ['and nothing behind it', 20n],
    ] as const) {
      test(`a checkpoint that names a transaction before its position, ${what}: the copy's names the last one there`, async (context) => {
        const folders = makeDatabase(temporaryFolder(context), line);
        const whole = fixture(line, LOG_FIXTURE);
        const { endBytes } = transactionIn(whole, last);
        const [log] = splitLog(line, []) as [LogFile];
        writeFileSync(
          logs(folders, LOG_FIXTURE),
          Buffer.concat([whole.subarray(0, endBytes), Buffer.alloc(500)]),
        );
        writeFileSync(logs(folders, CHECKPOINT_FIXTURE), checkpointAfter(line, 20n, [log], 17n));
        const snapshot = await openLocalSnapshot(folders);
        const tail = await snapshot.takeTail();
        assert.equal(snapshot.fence.appendIndex, 20n);
        assert.deepEqual([tail.appendIndexBefore, tail.highestAppendIndex], [20n, last]);
        assert.equal(tail.highestChecksum, transactionIn(whole, last).checksum);
        const member = (await snapshot.finalMembers()).at(-1)!;
        const content = Buffer.alloc(member.bytes);
        await member.read(content, 0);
        assert.equal(content.equals(checkpointAtStart(checkpointAfter(line, 20n, [log]))), true);
        await snapshot.close();
      });
    }

    test('another transaction at its position than it says is not taken for that', async (context) => {
      const folders = makeDatabase(temporaryFolder(context), line);
      const whole = fixture(line, LOG_FIXTURE);
      const { endBytes } = transactionIn(whole, 20n);
      const place = { version: 0n, offsetBytes: endBytes, appendIndex: 21n };
      const checkpoint = checkpointFile(line, place, transactionIn(whole, 19n));
      writeFileSync(logs(folders, CHECKPOINT_FIXTURE), checkpoint);
      for (const [log, why] of [
        [whole, /gap/],
        [whole.subarray(0, endBytes), /does not hold transaction 19/],
      ] as const) {
        writeFileSync(logs(folders, LOG_FIXTURE), log);
        const snapshot = await openLocalSnapshot(folders);
        await assert.rejects(snapshot.takeTail(), failure('GK_STORE_DAMAGED', why));
        await snapshot.close();
      }
    });

    test('a log file that is made right before the tail is taken is in it', async (context) => {
      const folders = makeDatabase(temporaryFolder(context), line);
      const files = splitLog(line, [15n]);
      const log = (number: number): string => join(folders.logDirectory, files[number]!.name);
      writeFileSync(log(0), files[0]!.bytes);
      writeFileSync(join(folders.logDirectory, CHECKPOINT_FIXTURE), checkpointAfter(line, 10n, files));
      const snapshot = await openLocalSnapshot(folders);
      writeFileSync(log(1), files[1]!.bytes);
      assert.equal((await snapshot.takeTail()).highestAppendIndex, 41n);
      await snapshot.close();
    });

    test('log files that are made and pruned during the copy are in the tail', async (context) => {
      const folders = makeDatabase(temporaryFolder(context), line);
      const files = splitLog(line, [15n, 25n]);
      const log = (number: number): string => join(folders.logDirectory, files[number]!.name);
      writeFileSync(log(0), files[0]!.bytes);
      writeFileSync(join(folders.logDirectory, CHECKPOINT_FIXTURE), checkpointAfter(line, 10n, files));
      const snapshot = await openLocalSnapshot(folders);
      for (const number of [1, 2]) {
        writeFileSync(log(number), files[number]!.bytes);
        await sleep(150);
        rmSync(log(number - 1));
      }
      const tail = await snapshot.takeTail();
      assert.deepEqual(
        tail.files.map((file) => [file.version, file.endBytes]),
        files.map((file) => [file.version, file.bytes.length]),
      );
      assert.equal(tail.highestAppendIndex, 41n);
      await snapshot.close();
    });
  });
}

describe('a snapshot is refused', () => {
  const store = (folders: DatabaseFolders, name: string): string => join(folders.storeDirectory, name);

  function changed(path: string, change: (bytes: Buffer) => void): void {
    const bytes = readFileSync(path);
    change(bytes);
    writeFileSync(path, bytes);
  }

  /** Rewrites the family in `neostore`: 7 letters, like `aligned`. */
  function withFamily(folders: DatabaseFolders, family: string): void {
    changed(store(folders, NEOSTORE_FIXTURE), (bytes) => {
      const slots = Buffer.alloc(64);
      for (let slot = 0; slot < 8; slot++) bytes.copy(slots, slot * 8, (5 + slot) * 9 + 1, (6 + slot) * 9);
      assert.equal(slots.toString('latin1', 25, 32), 'aligned');
      slots.write(family, 25, 'latin1');
      for (let slot = 0; slot < 8; slot++) slots.copy(bytes, (5 + slot) * 9 + 1, slot * 8, slot * 8 + 8);
    });
  }

  const cases: [string, (folders: DatabaseFolders) => void, Parameters<typeof failure>[0], RegExp][] = [
    [
      'no store folder',
      (folders) => rmSync(folders.storeDirectory, { recursive: true }),
      'GK_NOT_FOUND',
      /no folder/,
    ],
    [
      'no log folder',
      (folders) => rmSync(folders.logDirectory, { recursive: true }),
      'GK_NOT_FOUND',
      /no folder/,
    ],
    ['no neostore', (folders) => rmSync(store(folders, 'neostore')), 'GK_NOT_FOUND', /no database/],
    [
      'a block store',
      (folders) => {
        rmSync(store(folders, 'neostore'));
        writeFileSync(store(folders, 'block.x1.db'), '');
      },
      'GK_UNSUPPORTED',
      /block/,
    ],
    [
      'a store of 4.x',
      (folders) => changed(store(folders, 'neostore'), (bytes) => void bytes.fill(0, 36, 45)),
      'GK_UNSUPPORTED',
      /5\.0/,
    ],
    [
      'a neostore cut short',
      (folders) => truncateSync(store(folders, 'neostore'), 100),
      'GK_UNSUPPORTED',
      /shorter/,
    ],
    ['an unknown family', (folders) => withFamily(folders, 'blocked'), 'GK_UNSUPPORTED', /blocked/],
    [
      'a store file that is missing',
      (folders) => rmSync(store(folders, 'neostore.nodestore.db')),
      'GK_STORE_DAMAGED',
      /lacks neostore\.nodestore\.db/,
    ],
    [
      'a log of format 10',
      (folders) => changed(logs(folders, CHECKPOINT_FIXTURE), (bytes) => void bytes.writeUInt8(10, 0)),
      'GK_UNSUPPORTED',
      /format 10/,
    ],
    [
      'no checkpoint file',
      (folders) => rmSync(logs(folders, CHECKPOINT_FIXTURE)),
      'GK_STORE_DAMAGED',
      /no valid checkpoint/,
    ],
    ['no log file', (folders) => rmSync(logs(folders, LOG_FIXTURE)), 'GK_STORE_DAMAGED', /not there/],
    [
      'a log that is shorter than the checkpoint says',
      (folders) => truncateSync(logs(folders, LOG_FIXTURE), 5000),
      'GK_STORE_DAMAGED',
      /not there/,
    ],
    [
      'a checkpoint that points to an absurd place',
      (folders) =>
        changed(logs(folders, CHECKPOINT_FIXTURE), (bytes) => {
          const { startBytes, endBytes } = fixtureCheckpoint('5.26');
          const entry = bytes.subarray(startBytes, endBytes);
          writePosition(entry, 0n, 2n ** 62n);
          sealed(entry);
        }),
      'GK_STORE_DAMAGED',
      /not there/,
    ],
    [
      'a checkpoint before the beginning of the log',
      (folders) =>
        changed(logs(folders, CHECKPOINT_FIXTURE), (bytes) => {
          const { startBytes, endBytes } = fixtureCheckpoint('5.26');
          const entry = bytes.subarray(startBytes, endBytes);
          writePosition(entry, 0n, -5n);
          sealed(entry);
        }),
      'GK_STORE_DAMAGED',
      /./,
    ],
    [
      'logs of another store',
      (folders) => {
        writeFileSync(logs(folders, CHECKPOINT_FIXTURE), fixture('2026.08', CHECKPOINT_FIXTURE));
        writeFileSync(logs(folders, LOG_FIXTURE), fixture('2026.08', LOG_FIXTURE));
      },
      'GK_STORE_DAMAGED',
      /another store/,
    ],
    [
      'a checkpoint of another store beside logs of this one',
      (folders) =>
        changed(logs(folders, CHECKPOINT_FIXTURE), (bytes) => {
          const { startBytes, endBytes } = fixtureCheckpoint('5.26');
          const entry = bytes.subarray(startBytes, endBytes);
          entry[42 + 9]! ^= 1;
          sealed(entry);
        }),
      'GK_STORE_DAMAGED',
      /checkpoint\.0 .* another store/,
    ],
    [
      'a file that cannot be opened',
      (folders) => {
        const path = store(folders, 'schema/index/range-1.0/3/index-3');
        rmSync(path);
        symlinkSync(path, path);
      },
      'GK_IO',
      /index-3/,
    ],
  ];

  async function openAndTail(folders: DatabaseFolders): Promise<void> {
    const snapshot = await openLocalSnapshot(folders);
    try {
      await snapshot.takeTail();
    } finally {
      await snapshot.close();
    }
  }

  function makeFolders(context: TestContext): { root: string; folders: DatabaseFolders } {
    const root = temporaryFolder(context);
    return { root, folders: makeDatabase(root, '5.26') };
  }

  for (const [what, damage, code, message] of cases) {
    test(`with ${what}, and nothing stays open`, async (context) => {
      const { root, folders } = makeFolders(context);
      await openAndTail(folders);
      damage(folders);
      await assert.rejects(openAndTail(folders), failure(code, message));
      assert.deepEqual(openFilesBelow(root), []);
    });
  }
});
