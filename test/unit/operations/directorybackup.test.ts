/** Backups into a directory: what is appended to it, when a full one is taken, and what a kill leaves. */
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { crc32c } from '@node-rs/crc32';
import { skipCommand } from '../../../src/formats/txlog/commands.ts';
import { LOG_HEADER_BYTES } from '../../../src/formats/txlog/header.ts';
import { openLocalSnapshot } from '../../../src/hotcopy/snapshot.ts';
import { KIB, MIB, STALE_PARTIAL_AGE_MS } from '../../../src/limits.ts';
import type { DatabaseFolders } from '../../../src/neo4j/folders.ts';
import {
  backupToDirectory,
  type DirectoryBackupEvent,
  type DirectoryBackupOptions,
  type DirectoryBackupResult,
} from '../../../src/operations/directorybackup.ts';
import { restoreFromDirectory } from '../../../src/operations/directoryrestore.ts';
import { tryLock } from '../../../src/storage/locks.ts';
import {
  bytesOf,
  diverged,
  GrowingDatabase,
  type History,
  historyOf,
  logName,
  readLogFiles,
} from '../../fixtures/chains.ts';
import { foldersIn, put } from '../../fixtures/database.ts';
import { CHECKPOINT_FIXTURE, LINES, type Line } from '../../fixtures/lines.ts';
import { logHeader } from '../../fixtures/logs.ts';
import {
  assertSameFiles,
  failure,
  filesBelow,
  isRoot,
  makeFolder,
  openFilesBelow,
  smallFileSystem,
  temporaryFolder,
} from '../../fixtures/workspace.ts';

const KILLED = fileURLToPath(new URL('../../fixtures/killdirectory.ts', import.meta.url));

/** A growing database and the folder of its directory backups. */
class DirectoryScene {
  readonly root: string;
  readonly target: string;
  readonly database: GrowingDatabase;
  events: DirectoryBackupEvent[] = [];

  constructor(context: TestContext, line: Line, history: History = historyOf(line)) {
    // Backups sync every file: memory is a faster disk where there is one to be had.
    const memory = smallFileSystem(context, 64 * MIB);
    this.root = 'folder' in memory ? memory.folder : temporaryFolder(context);
    this.target = makeFolder(this.root, 'backups');
    this.database = new GrowingDatabase(join(this.root, 'source'), history, 20n, 10n);
  }

  get path(): string {
    return join(this.target, 'backup');
  }

  get flat(): DatabaseFolders {
    return { name: 'neo4j', storeDirectory: this.path, logDirectory: this.path };
  }

  backup(
    more: Partial<DirectoryBackupOptions> = {},
    onStep?: (step: string) => void,
  ): Promise<DirectoryBackupResult> {
    this.events = [];
    const onEvent = (event: DirectoryBackupEvent): void => void this.events.push(event);
    const names = { backupDirectory: this.target, name: 'backup' };
    return backupToDirectory(
      this.database.folders,
      { ...names, fallbackToFull: true, onEvent, ...more },
      onStep,
    );
  }

  backupAt(last: bigint, more: Partial<DirectoryBackupOptions> = {}): Promise<DirectoryBackupResult> {
    this.database.appendTo(last);
    return this.backup(more);
  }

  log(version: bigint, directory = this.path): Buffer {
    return readFileSync(join(directory, logName(version)));
  }

  logNames(): string[] {
    return readdirSync(this.path).filter((name) => name.startsWith('neostore.transaction'));
  }

  /** Highest transaction by the rules of a hot copy: fence, continuity and every checksum. */
  async end(directory = this.path): Promise<bigint> {
    const folders = { name: 'neo4j', storeDirectory: directory, logDirectory: directory };
    const snapshot = await openLocalSnapshot(folders);
    try {
      return (await snapshot.takeTail()).highestAppendIndex;
    } finally {
      await snapshot.close();
    }
  }

  /** Nothing beside the backups but the lock file. */
  assertTidy(names: readonly string[] = ['backup']): void {
    assert.deepEqual(readdirSync(this.target).sort(), ['.backup.lock', ...names].sort());
    assert.deepEqual(openFilesBelow(this.target), []);
  }
}

const rangeOf = ({ kind, lowestTransaction, highestTransaction }: DirectoryBackupResult): unknown[] => [
  kind,
  lowestTransaction,
  highestTransaction,
];

for (const line of LINES) {
  const history = historyOf(line);
  /** The checkpoint of the scenes lies behind transaction 10, so the log of a full one begins with 11. */
  const logOf = (version: bigint, from: bigint, to: bigint): Buffer =>
    Buffer.concat([logHeader(line, version, from - 1n), bytesOf(history, from, to)]);

  describe(`directory backup of ${line}`, () => {
    test('the first one is full: store files and log in one folder, as they are', async (context) => {
      const scene = new DirectoryScene(context, line);
      const result = await scene.backup();
      assert.deepEqual(rangeOf(result), ['full', 1n, 20n]);
      assert.deepEqual(
        [result.path, result.renamedTo, result.fullBecause],
        [scene.path, undefined, undefined],
      );
      assert.deepEqual(scene.events, [{ kind: 'full' }]);
      const { storeDirectory } = scene.database.folders;
      const leftOut = /^(database_lock|id-buffer\.tmp\.0|schema\/index\/text-2\.0\/5\/1\/write\.lock)$/;
      const expected = new Map([...filesBelow(storeDirectory)].filter(([name]) => !leftOut.test(name)));
      const actual = filesBelow(scene.path);
      assert.equal(actual.get(logName(0n))!.equals(logOf(0n, 11n, 20n)), true);
      assert.equal(actual.delete(logName(0n)) && actual.delete(CHECKPOINT_FIXTURE), true);
      assertSameFiles(actual, expected);
      assert.deepEqual([statSync(scene.path).mode & 0o777, await scene.end()], [0o700, 20n]);
      scene.assertTidy();
    });

    test('later ones append to the log in place, byte for byte, and leave the rest alone', async (context) => {
      const scene = new DirectoryScene(context, line);
      await scene.backup();
      const before = filesBelow(scene.path);
      const inode = statSync(join(scene.path, logName(0n))).ino;
      const result = await scene.backupAt(27n);
      assert.deepEqual(rangeOf(result), ['incremental', 21n, 27n]);
      assert.equal(result.copiedBytes, bytesOf(history, 21n, 27n).length);
      assert.deepEqual(scene.events, [{ kind: 'incremental' }]);
      assertSameFiles(filesBelow(scene.path), new Map([...before, [logName(0n), logOf(0n, 11n, 27n)]]));
      assert.equal(statSync(join(scene.path, logName(0n))).ino, inode);
      assert.deepEqual(rangeOf(await scene.backupAt(28n)), ['incremental', 28n, 28n]);
      assert.equal(scene.log(0n).equals(logOf(0n, 11n, 28n)), true);
      assert.deepEqual(rangeOf(await scene.backup()), ['incremental', 0n, 0n], 'nothing new');
      assert.equal(scene.log(0n).equals(logOf(0n, 11n, 28n)), true);
      scene.assertTidy();
    });

    test('what the server rotated goes on in the same file as long as it has room', async (context) => {
      const scene = new DirectoryScene(context, line);
      await scene.backup();
      scene.database.appendTo(24n);
      scene.database.rotate();
      scene.database.appendTo(30n);
      scene.database.rotate();
      writeFileSync(scene.database.pathOf(3n), Buffer.alloc(9000));
      assert.deepEqual(rangeOf(await scene.backupAt(35n)), ['incremental', 21n, 35n]);
      assert.deepEqual(scene.logNames(), [logName(0n)]);
      assert.equal(scene.log(0n).equals(logOf(0n, 11n, 35n)), true);
    });

    test('a file that would grow too large is followed by another', async (context) => {
      const scene = new DirectoryScene(context, line);
      await scene.backup();
      scene.database.appendTo(24n);
      scene.database.rotate();
      const first = LOG_HEADER_BYTES + bytesOf(history, 11n, 24n).length;
      await scene.backupAt(30n, { logBytesMax: first });
      await scene.backupAt(31n, { logBytesMax: first - 1 });
      const logBytesMax = LOG_HEADER_BYTES + bytesOf(history, 31n, 32n).length;
      await scene.backupAt(33n, { logBytesMax });
      const files = readLogFiles(filesBelow(scene.path));
      const ends = files.map(({ transactions }) => transactions.at(-1)?.appendIndex);
      assert.deepEqual(ends.slice(0, 2), [24n, ends[1]]);
      assert.equal(ends.at(-1), 33n);
      assert.equal(scene.log(0n).equals(logOf(0n, 11n, 24n)), true, 'a finished file is as it was');
      assert.ok(files.length >= 3);
      assert.equal(await scene.end(), 33n);
      assert.equal(statSync(join(scene.path, logName(1n))).mode & 0o777, 0o600);
      scene.assertTidy();
    });

    test('a torn tail is cut off, wherever it was torn', async (context) => {
      const scene = new DirectoryScene(context, line);
      await scene.backup();
      await scene.backupAt(27n);
      const whole = scene.log(0n);
      const keep = logOf(0n, 11n, 24n).length;
      for (const bytes of [keep, keep + 1, keep + 20, logOf(0n, 11n, 25n).length - 1]) {
        writeFileSync(join(scene.path, logName(0n)), whole.subarray(0, bytes));
        assert.equal(await scene.end(), 24n, 'it can be opened as it is');
        assert.deepEqual(rangeOf(await scene.backup()), ['incremental', 25n, 27n]);
        assert.equal(scene.log(0n).equals(whole), true);
      }
      for (const tail of [Buffer.alloc(5000), Buffer.concat([Buffer.alloc(4096), whole.subarray(keep)])]) {
        writeFileSync(join(scene.path, logName(0n)), Buffer.concat([whole.subarray(0, keep), tail]));
        await scene.backup();
        assert.equal(scene.log(0n).equals(whole), true);
      }
      const zeros = Buffer.concat([whole, Buffer.alloc(64 * KIB)]);
      writeFileSync(join(scene.path, logName(0n)), zeros);
      await scene.backupAt(28n, { logBytesMax: 1 });
      assert.equal(scene.log(0n).equals(whole), true, 'a finished file ends with its last transaction');
      assert.deepEqual(readLogFiles(filesBelow(scene.path)).length, 2);
    });

    test('a log of another format is a file of its own', async (context) => {
      const scene = new DirectoryScene(context, line);
      await scene.backup();
      const log = scene.log(0n);
      const old = Buffer.alloc(LOG_HEADER_BYTES);
      old.writeBigUInt64BE(8n << 56n, 0);
      old.writeBigInt64BE(10n, 8);
      log.copy(old, 16, 24, LOG_HEADER_BYTES);
      writeFileSync(join(scene.path, logName(0n)), Buffer.concat([old, log.subarray(LOG_HEADER_BYTES)]));
      await scene.backupAt(22n);
      assert.equal(scene.log(1n).equals(logOf(1n, 21n, 22n)), true);
      await scene.backupAt(24n);
      assert.deepEqual(scene.logNames(), [logName(0n), logName(1n)]);
      assert.equal(scene.log(1n).equals(logOf(1n, 21n, 24n)), true);
      assert.equal(await scene.end(), 24n);
    });

    test('a full one of an idle server has an empty log, and goes on', async (context) => {
      const scene = new DirectoryScene(context, line);
      scene.database.checkpoint(20n);
      await scene.backup();
      assert.equal(scene.log(0n).length, LOG_HEADER_BYTES);
      assert.deepEqual(rangeOf(await scene.backupAt(21n)), ['incremental', 21n, 21n]);
      assert.equal(scene.log(0n).equals(logOf(0n, 21n, 21n)), true);
    });
  });

  describe(`a directory of ${line} that cannot be continued`, () => {
    /** With fallback the old one is kept and a full one taken; without, nothing happens to it. */
    async function assertFallback(scene: DirectoryScene, reason: string, message: RegExp): Promise<void> {
      const before = filesBelow(scene.path);
      const refused = scene.backup({ fallbackToFull: false });
      await assert.rejects(refused, failure('GK_NO_PARENT', message));
      assertSameFiles(filesBelow(scene.path), before);
      scene.assertTidy();
      const notices: string[] = [];
      const listener = { progress() {}, notice: (text: string) => void notices.push(text) };
      const result = await scene.backup({ listener });
      const errPath = `${scene.path}.err.1`;
      assert.deepEqual(
        [result.kind, result.fullBecause?.reason, result.renamedTo],
        ['full', reason, errPath],
      );
      assert.match(notices.join(), message);
      const expected = ['incremental', 'full', 'renamed'];
      assert.deepEqual(
        scene.events.map(({ kind }) => kind),
        expected,
      );
      assertSameFiles(filesBelow(errPath), before);
      assert.equal(await scene.end(), scene.database.last);
      scene.assertTidy(['backup', 'backup.err.1']);
    }

    test('the server pruned its log', async (context) => {
      const scene = new DirectoryScene(context, line);
      await scene.backup();
      scene.database.appendTo(24n);
      scene.database.rotate();
      scene.database.appendTo(30n);
      scene.database.checkpoint(28n);
      scene.database.prune(1n);
      await assertFallback(
        scene,
        'pruned',
        /ends with transaction 20.*pruned its log up to 24.*retention_policy/,
      );
    });

    test('the server was set back, and has another transaction of that number', async (context) => {
      const scene = new DirectoryScene(context, line);
      await scene.backup();
      scene.database.setBack(15n, diverged(history, 16n));
      scene.database.appendTo(25n);
      await assertFallback(scene, 'diverged', /set back/);
    });

    test('the server was set back and has not come that far again', async (context) => {
      const scene = new DirectoryScene(context, line);
      await scene.backup();
      scene.database.setBack(15n, history);
      await assertFallback(scene, 'diverged', /set back/);
    });

    test('it is of another database', async (context) => {
      const scene = new DirectoryScene(context, line);
      const other = new GrowingDatabase(join(scene.root, 'other'), historyOf(line), 20n, 10n);
      const neostore = join(other.folders.storeDirectory, 'neostore');
      const bytes = readFileSync(neostore);
      bytes.writeUInt8(bytes.readUInt8(1) ^ 0xff, 1); // the id of the store for the outside world
      writeFileSync(neostore, bytes);
      await backupToDirectory(other.folders, {
        backupDirectory: scene.target,
        name: 'backup',
        fallbackToFull: true,
      });
      await assertFallback(scene, 'otherStore', /another database/);
    });

    test('it is no database', async (context) => {
      const scene = new DirectoryScene(context, line);
      put(join(scene.path, 'notes.txt'), Buffer.from('mine'));
      await assertFallback(scene, 'notABackup', /doesn't contain a database/);
    });

    test('its log is gone, or has a hole', async (context) => {
      const scene = new DirectoryScene(context, line);
      await scene.backup();
      await scene.backupAt(24n, { logBytesMax: 1 });
      await scene.backupAt(26n, { logBytesMax: 1 });
      cpSync(scene.path, join(scene.root, 'whole'), { recursive: true });
      rmSync(join(scene.path, logName(1n)));
      await assertFallback(scene, 'damaged', /log file 1 is missing/);
      rmSync(`${scene.path}.err.1`, { recursive: true });
      rmSync(scene.path, { recursive: true });
      renameSync(join(scene.root, 'whole'), scene.path);
      const middle = join(scene.path, logName(2n));
      const bytes = readFileSync(middle);
      bytes.writeBigInt64BE(22n, 16);
      writeFileSync(middle, bytes);
      await assertFallback(scene, 'damaged', /goes on with transaction 25 instead of 23/);
    });
  });
}

describe('directory backup', () => {
  test('of an absent, an empty and a fallback directory, N counts up', async (context) => {
    const scene = new DirectoryScene(context, '2026.08');
    mkdirSync(scene.path);
    assert.equal((await scene.backup({ fallbackToFull: false })).kind, 'full');
    mkdirSync(`${scene.path}.err.2`);
    for (const number of [1, 3, 4]) {
      rmSync(join(scene.path, 'neostore'));
      assert.equal((await scene.backup()).renamedTo, `${scene.path}.err.${number}`);
    }
    const names = ['backup', ...[1, 2, 3, 4].map((number) => `backup.err.${number}`)];
    scene.assertTidy(names);
    assert.deepEqual(readdirSync(`${scene.path}.err.2`), []);
  });

  test('a file of that name is moved away like a folder that is none', async (context) => {
    const scene = new DirectoryScene(context, '5.26');
    writeFileSync(scene.path, 'a file');
    await assert.rejects(scene.backup({ fallbackToFull: false }), failure('GK_NO_PARENT', /not a folder/));
    await scene.backup();
    assert.equal(readFileSync(`${scene.path}.err.1`, 'utf8'), 'a file');
  });

  test('a transaction of another kernel version begins a new file', async (context) => {
    const scene = new DirectoryScene(context, '2026.08', withKernelUntil(historyOf('2026.08'), 22n, 31));
    await scene.backup();
    const upgraded = scene.database.history;
    await scene.backupAt(22n);
    assert.deepEqual(scene.logNames(), [logName(0n)]);
    scene.database.rotate();
    await scene.backupAt(25n);
    await scene.backupAt(26n);
    assert.deepEqual(scene.logNames(), [logName(0n), logName(1n)]);
    const expected = Buffer.concat([logHeader('2026.08', 1n, 22n), bytesOf(upgraded, 23n, 26n)]);
    assert.equal(scene.log(1n).equals(expected), true);
    assert.equal(await scene.end(), 26n);
  });

  test('a damaged transaction of the server reaches nothing', async (context) => {
    const scene = new DirectoryScene(context, '5.26');
    await scene.backup();
    const before = filesBelow(scene.path);
    scene.database.appendTo(27n);
    const log = readFileSync(scene.database.pathOf(0n));
    const at = LOG_HEADER_BYTES + bytesOf(historyOf('5.26'), 2n, 25n).length - 30;
    log.writeUInt8(log.readUInt8(at) ^ 1, at);
    writeFileSync(scene.database.pathOf(0n), log);
    await assert.rejects(scene.backup(), failure('GK_STORE_DAMAGED', /cannot be read from byte/));
    assertSameFiles(filesBelow(scene.path), before);
    scene.assertTidy();
  });

  test('a log that becomes another one while it is copied is noticed', async (context) => {
    const scene = new DirectoryScene(context, '2026.08');
    await scene.backup();
    scene.database.appendTo(24n);
    scene.database.rotate();
    scene.database.appendTo(30n);
    const other = bytesOf(diverged(historyOf('2026.08'), 25n), 25n, 30n);
    const replaced = Buffer.concat([logHeader('2026.08', 1n, 24n), other]);
    const run = scene.backup({}, (step) => {
      if (step === 'sync log') writeFileSync(scene.database.pathOf(1n), replaced);
    });
    await assert.rejects(run, failure('GK_STORE_DAMAGED', /became another one/));
  });

  test('the database itself is never the target', async (context) => {
    const scene = new DirectoryScene(context, '5.26');
    const { storeDirectory } = scene.database.folders;
    const before = filesBelow(join(scene.root, 'source'));
    const link = join(scene.root, 'link');
    symlinkSync(join(storeDirectory, '..'), link);
    for (const [backupDirectory, name] of [
      [join(storeDirectory, '..'), 'neo4j'],
      [join(scene.root, 'source'), 'databases'],
      [link, 'neo4j'],
      [storeDirectory, 'inside'],
    ] as const) {
      await assert.rejects(scene.backup({ backupDirectory, name }), failure('GK_USAGE', /itself/));
    }
    assertSameFiles(filesBelow(join(scene.root, 'source')), before);
  });

  test('names that lead elsewhere, links, a missing folder', async (context) => {
    const scene = new DirectoryScene(context, '5.26');
    for (const name of ['', '.', '..', '../x', 'a/b', '.hidden', 'x'.repeat(201)]) {
      await assert.rejects(scene.backup({ name }), failure('GK_USAGE', /cannot be the name/), name);
    }
    symlinkSync(makeFolder(scene.root, 'elsewhere'), scene.path);
    await assert.rejects(scene.backup(), failure('GK_UNSUPPORTED', /symbolic link/));
    const missing = join(scene.target, 'missing');
    await assert.rejects(scene.backup({ backupDirectory: missing }), failure('GK_NOT_FOUND', /missing/));
    assert.equal(existsSync(missing), false);
  });

  test('one at a time, and not while a server runs on it', async (context) => {
    const scene = new DirectoryScene(context, '5.26');
    let second: Promise<DirectoryBackupResult> | undefined;
    await scene.backup({}, () => {
      second ??= scene.backup();
      second.catch(() => undefined);
    });
    await assert.rejects(second!, failure('GK_IN_USE', /another graphkeep/));
    const lock = await heldByAnother(context, join(scene.target, '.backup.lock'));
    await assert.rejects(scene.backup(), failure('GK_IN_USE', /another graphkeep/));
    await lock.release();
    const server = await heldByAnother(context, join(scene.path, 'database_lock'));
    await assert.rejects(scene.backup(), failure('GK_IN_USE', /running Neo4j/));
    await server.release();
    assert.equal((await scene.backupAt(21n)).kind, 'incremental');
    assert.equal(tryLock(join(scene.target, '.backup.lock'), { create: false })?.release(), undefined);
  });

  test('leftovers of killed runs go, what belongs to another name stays', async (context) => {
    const scene = new DirectoryScene(context, '5.26');
    await scene.backup();
    const ours = [
      join(scene.target, '.backup.0123456789abcdef.partial/backup/neostore'),
      join(scene.path, '.neostore.transaction.db.1.0123456789abcdef.partial'),
    ];
    const others = [
      '.backup1.0123456789abcdef.partial',
      '.backup.x.partial',
      '.other.0123456789abcdef.partial',
    ];
    for (const path of ours) put(path, Buffer.from('rest'));
    for (const name of others) put(join(scene.target, name), Buffer.from('rest'));
    await scene.backup();
    assert.deepEqual(
      ours.filter((path) => existsSync(path)),
      [],
    );
    scene.assertTidy(['backup', ...others]);
  });
});

describe('a directory backup that fails never falls back', () => {
  /** The directory is as it was, and nothing is left beside it. */
  async function assertUnchanged(scene: DirectoryScene, work: () => Promise<void>): Promise<void> {
    const before = filesBelow(scene.path);
    await work();
    assertSameFiles(filesBelow(scene.path), before);
    scene.assertTidy();
  }

  test('interrupted in an incremental one: what was whole stays, the rest is not there', async (context) => {
    for (const [logBytesMax, last] of [
      [MIB, 27n],
      [1, 20n],
    ] as const) {
      const scene = new DirectoryScene(context, '5.26');
      await scene.backup();
      const before = filesBelow(scene.path);
      scene.database.appendTo(27n);
      scene.database.rotate();
      scene.database.appendTo(30n);
      const stop = new AbortController();
      const run = scene.backup({ signal: stop.signal, logBytesMax }, () => stop.abort());
      await assert.rejects(run, failure('GK_INTERRUPTED'));
      assert.equal(await scene.end(), last);
      assert.deepEqual([...filesBelow(scene.path).keys()], [...before.keys()]);
      scene.assertTidy();
    }
  });

  test('interrupted before it began, and during a full one', async (context) => {
    const scene = new DirectoryScene(context, '5.26');
    await scene.backup();
    scene.database.appendTo(27n);
    await assertUnchanged(scene, async () => {
      const run = scene.backup({ signal: AbortSignal.abort() });
      await assert.rejects(run, failure('GK_INTERRUPTED'));
      assert.deepEqual(scene.events, [{ kind: 'incremental' }], 'no full one was begun');
    });
    rmSync(join(scene.path, 'neostore'));
    await assertUnchanged(scene, async () => {
      for (const stopAt of ['take artifact', 'unpack artifact']) {
        const stop = new AbortController();
        const run = scene.backup({ signal: stop.signal }, (step) => {
          if (step === stopAt) stop.abort();
        });
        await assert.rejects(run, failure('GK_INTERRUPTED'));
      }
    });
  });

  test('no space for the log, and none for a full one', async (context) => {
    const scene = new DirectoryScene(context, '5.26');
    if (!isRoot) return context.skip('only root can fill a small tmpfs');
    await scene.backup();
    scene.database.appendTo(41n);
    for (const logBytesMax of [MIB, 1]) {
      await assertUnchanged(scene, async () => {
        const filler = fill(scene.root);
        await assert.rejects(scene.backup({ logBytesMax }), failure('GK_NO_SPACE'));
        filler.remove();
      });
    }
    rmSync(join(scene.path, 'neostore'));
    await assertUnchanged(scene, async () => {
      const filler = fill(scene.root);
      await assert.rejects(scene.backup(), failure('GK_NO_SPACE'));
      filler.remove();
    });
    assert.equal((await scene.backup()).kind, 'full');
  });

  test('no permission', async (context) => {
    const scene = new DirectoryScene(context, '5.26');
    if (!isRoot) return context.skip('only root can mount a file system read-only');
    await scene.backup();
    scene.database.appendTo(27n);
    const before = filesBelow(scene.path);
    execFileSync('mount', ['-o', 'remount,ro', scene.root]);
    await assert.rejects(scene.backup(), failure('GK_NO_PERMISSION'));
    execFileSync('mount', ['-o', 'remount,rw', scene.root]);
    assertSameFiles(filesBelow(scene.path), before);
  });

  test('a source that cannot be read', async (context) => {
    const scene = new DirectoryScene(context, '5.26');
    await scene.backup();
    await assertUnchanged(scene, async () => {
      rmSync(join(scene.database.folders.storeDirectory, 'neostore'));
      await assert.rejects(scene.backup(), failure('GK_NOT_FOUND', /source/));
    });
  });
});

describe('a directory backup that is killed', () => {
  /** Kills it before each of its steps in turn; `prepare` brings everything to the same state each time. */
  async function killAtEachStep(
    scene: DirectoryScene,
    options: { logBytesMax: number; steps: readonly string[] },
    assertState: (step: number) => Promise<void>,
  ): Promise<void> {
    const saved = join(scene.root, 'saved');
    cpSync(scene.target, saved, { recursive: true });
    const { storeDirectory, logDirectory } = scene.database.folders;
    const places = [storeDirectory, logDirectory, scene.target];
    const run = (step: number): { signal: string | null; stdout: string } => {
      rmSync(scene.target, { recursive: true });
      cpSync(saved, scene.target, { recursive: true });
      const args = [KILLED, ...places, String(step), String(options.logBytesMax)];
      const { signal, stdout, stderr, status } = spawnSync(process.execPath, args, { encoding: 'utf8' });
      assert.ok(status === 0 || signal === 'SIGKILL', stderr);
      return { signal, stdout };
    };
    assert.deepEqual(run(-1).stdout.trim().split('\n'), options.steps);
    const expected = filesBelow(scene.path);
    for (const step of options.steps.keys()) {
      assert.equal(run(step).signal, 'SIGKILL');
      await assertState(step);
      await scene.backup({ logBytesMax: options.logBytesMax });
      assertSameFiles(filesBelow(scene.path), expected);
      const left = readdirSync(scene.target).filter((name) => name.endsWith('.partial'));
      assert.deepEqual(left, []);
    }
  }

  test('a full one: nothing has the name until it is whole', async (context) => {
    const scene = new DirectoryScene(context, '5.26');
    const steps = ['take artifact', 'unpack artifact', 'unpacked artifact', 'take the name', 'sync folder'];
    await killAtEachStep(scene, { logBytesMax: MIB, steps }, async (step) => {
      const isThere = existsSync(scene.path);
      assert.equal(isThere, steps[step] === 'sync folder');
      if (isThere) assert.equal(await scene.end(), 20n);
    });
  });

  test('an incremental one: a whole log of some moment', async (context) => {
    const scene = new DirectoryScene(context, '2026.08');
    await scene.backup();
    writeFileSync(join(scene.path, logName(0n)), Buffer.concat([scene.log(0n), Buffer.alloc(100)]));
    scene.database.appendTo(24n);
    scene.database.rotate();
    scene.database.appendTo(27n);
    scene.database.rotate();
    scene.database.appendTo(30n);
    const history = historyOf('2026.08');
    const logBytesMax = LOG_HEADER_BYTES + bytesOf(history, 11n, 24n).length;
    const file = ['begin new log', 'write new log', 'publish new log', 'published new log'];
    const merged = LOG_HEADER_BYTES + bytesOf(history, 25n, 30n).length <= logBytesMax;
    const last = merged ? ['append', 'sync log'] : file;
    const steps = ['cut tail', 'append', 'sync log', ...file, ...last, 'sync folder'];
    const seen = new Set<bigint>();
    await killAtEachStep(scene, { logBytesMax, steps }, async (step) => {
      const end = await scene.end();
      assert.ok([20n, 24n, 27n, 30n].includes(end), `${steps[step]}: ${end}`);
      seen.add(end);
    });
    assert.deepEqual([...seen], [20n, 24n, 27n, 30n]);
  });

  test('a fallback: the old one or the new one is there, under one name or the other', async (context) => {
    const scene = new DirectoryScene(context, '5.26');
    await scene.backup();
    const log = scene.log(0n);
    scene.database.setBack(15n, diverged(historyOf('5.26'), 16n));
    scene.database.appendTo(25n);
    const full = ['take artifact', 'unpack artifact', 'unpacked artifact'];
    const steps = [...full, 'rename old', 'take the name', 'sync folder'];
    await killAtEachStep(scene, { logBytesMax: MIB, steps }, async (step) => {
      const errPath = `${scene.path}.err.1`;
      const wasRenamed = step > steps.indexOf('rename old');
      assert.equal(existsSync(errPath), wasRenamed);
      assert.equal(existsSync(scene.path), steps[step] !== 'take the name');
      assert.equal(scene.log(0n, wasRenamed ? errPath : scene.path).equals(log), true);
      if (steps[step] === 'sync folder') assert.equal(await scene.end(), 25n);
    });
  });
});

describe('restore from a directory', () => {
  async function makeSetting(context: TestContext): Promise<{
    scene: DirectoryScene;
    target: DatabaseFolders;
    options: Parameters<typeof restoreFromDirectory>[0];
  }> {
    const scene = new DirectoryScene(context, '2026.08');
    await scene.backup();
    await scene.backupAt(27n, { logBytesMax: 1 });
    const target = foldersIn(makeFolder(scene.root, 'target'));
    mkdirSync(join(target.storeDirectory, '..'));
    const scratchDirectory = makeFolder(scene.root, 'scratch');
    const rest = { overwriteDestination: false, move: false };
    return { scene, target, options: { directory: scene.path, target, scratchDirectory, ...rest } };
  }

  test('the same files, the log in its own folder, the backup untouched', async (context) => {
    const { scene, target, options } = await makeSetting(context);
    const before = filesBelow(scene.path);
    const result = await restoreFromDirectory(options);
    assert.deepEqual([result.highestTransaction, result.replacedExisting], [27n, false]);
    const store = new Map([...before].filter(([name]) => !/^(neostore\.transaction|checkpoint)/.test(name)));
    assertSameFiles(filesBelow(target.storeDirectory), store);
    const log = filesBelow(target.logDirectory);
    assert.deepEqual([...log.keys()], [CHECKPOINT_FIXTURE, logName(0n), logName(1n)]);
    for (const [name, bytes] of log) assert.equal(bytes.equals(before.get(name)!), true, name);
    assertSameFiles(filesBelow(scene.path), before);
    assert.deepEqual(readdirSync(options.scratchDirectory), []);
    const again = restoreFromDirectory(options);
    await assert.rejects(again, failure('GK_TARGET_EXISTS', /already exists/));
    const forced = await restoreFromDirectory({ ...options, overwriteDestination: true, move: true });
    assert.equal(forced.replacedExisting, true);
    assert.equal(existsSync(scene.path), false, 'moved');
  });

  test('a folder that is no backup: the existing database is kept, even with force', async (context) => {
    const { scene, target, options } = await makeSetting(context);
    await restoreFromDirectory(options);
    const before = filesBelow(target.storeDirectory);
    const force = { ...options, overwriteDestination: true };
    rmSync(join(scene.path, logName(0n)));
    await assert.rejects(restoreFromDirectory(force), failure('GK_STORE_DAMAGED', /nothing was restored/));
    rmSync(join(scene.path, 'neostore'));
    await assert.rejects(restoreFromDirectory(force), failure('GK_NOT_FOUND', /doesn't contain a database/));
    assertSameFiles(filesBelow(target.storeDirectory), before);
    assert.deepEqual(readdirSync(options.scratchDirectory), []);
  });

  test('what a killed restore left is removed, what another is using stays', async (context) => {
    const { options } = await makeSetting(context);
    const folders = ['old', 'used', 'new'].map((name) =>
      join(options.scratchDirectory, `.graphkeep-restore-${name}`),
    ) as [string, string, string];
    for (const folder of folders) put(join(folder, '.lock'), Buffer.alloc(0));
    const longAgo = new Date(Date.now() - 2 * STALE_PARTIAL_AGE_MS);
    for (const folder of folders.slice(0, 2)) utimesSync(folder, longAgo, longAgo);
    const user = await heldByAnother(context, join(folders[1], '.lock'));
    await restoreFromDirectory(options);
    assert.deepEqual(readdirSync(options.scratchDirectory).sort(), [
      '.graphkeep-restore-new',
      '.graphkeep-restore-used',
    ]);
    await user.release();
  });

  test('a read-only folder of backups will do', async (context) => {
    const { scene, options } = await makeSetting(context);
    if (!isRoot) return context.skip('only root can mount a file system read-only');
    const elsewhere = temporaryFolder(context);
    rmSync(join(scene.target, '.backup.lock'));
    execFileSync('mount', ['-o', 'remount,ro', scene.root]);
    try {
      const target = foldersIn(elsewhere);
      const result = await restoreFromDirectory({ ...options, target, scratchDirectory: elsewhere });
      assert.equal(result.highestTransaction, 27n);
    } finally {
      execFileSync('mount', ['-o', 'remount,rw', scene.root]);
    }
  });
});

/** Another process that holds a lock, since a process never meets its own. */
async function heldByAnother(context: TestContext, path: string): Promise<{ release(): Promise<void> }> {
  const program =
    'import fcntl, sys\nfile = open(sys.argv[1], "a+")\nfcntl.lockf(file, fcntl.LOCK_EX)\nprint("locked", flush=True)\nsys.stdin.read()';
  const child = spawn('python3', ['-c', program, path], { stdio: ['pipe', 'pipe', 'inherit'] });
  // A failed assertion leaves it behind, and it would keep the test run alive.
  context.after(() => child.kill('SIGKILL'));
  await new Promise<void>((resolve) => child.stdout.once('data', () => resolve()));
  return {
    release: () =>
      new Promise<void>((resolve) => {
        child.once('exit', () => resolve());
        child.stdin.end();
      }),
  };
}

/** Takes what is left of a small file system, but for less than any backup needs. */
function fill(folder: string): { remove(): void } {
  const path = join(folder, 'filler');
  let bytes = 64 * MIB;
  while (bytes >= 4 * KIB) {
    try {
      writeFileSync(path, Buffer.alloc(bytes, 1), { flag: 'a' });
    } catch {
      bytes /= 2;
    }
  }
  return { remove: () => rmSync(path) };
}

const ENTRY_START = 1;
const ENTRY_COMMIT = 5;
const START_ENTRY_BYTES = 2 + 8 * 4 + 4;
const COMMIT_ENTRY_BYTES = 22;

/** The transactions up to one as another kernel version of the same layout (2026.06 or later) writes them. */
function withKernelUntil(history: History, last: bigint, kernelVersion: number): History {
  const transactions = history.transactions.map((transaction) => {
    if (transaction.appendIndex > last) return transaction;
    const bytes = Buffer.from(transaction.bytes);
    for (let cursor = 0; cursor < bytes.length; ) {
      bytes.writeUInt8(kernelVersion, cursor);
      const type = bytes.readUInt8(cursor + 1);
      if (type === ENTRY_START)
        cursor += START_ENTRY_BYTES + bytes.readInt32LE(cursor + START_ENTRY_BYTES - 4);
      else if (type === ENTRY_COMMIT) cursor += COMMIT_ENTRY_BYTES;
      else cursor = skipCommand(bytes, cursor + 2, bytes.length);
    }
    const checksum = crc32c(bytes.subarray(0, bytes.length - 4));
    bytes.writeUInt32LE(checksum, bytes.length - 4);
    return { ...transaction, checksum, bytes };
  });
  return { ...history, transactions };
}
