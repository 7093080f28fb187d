import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { GraphkeepError } from '../../../src/errors.ts';
import { storeIdHash } from '../../../src/formats/storeid.ts';
import { KIB, MIB } from '../../../src/limits.ts';
import type { DatabaseFolders } from '../../../src/neo4j/folders.ts';
import { formatTime } from '../../../src/operations/artifactfile.ts';
import { backupDatabase } from '../../../src/operations/backup.ts';
import { readDatabaseInfo } from '../../../src/operations/info.ts';
import { inspectArtifacts } from '../../../src/operations/inspect.ts';
import { ProcessorShare } from '../../../src/operations/processorshare.ts';
import type { BackupOptions, ProgressListener } from '../../../src/operations/types.ts';
import { validateArtifact } from '../../../src/operations/validate.ts';
import { makeDatabase } from '../../fixtures/database.ts';
import { CHECKPOINT_FIXTURE, LINES, LOG_FIXTURE, storeIdOf } from '../../fixtures/lines.ts';
import { checkpointAfter, splitLog } from '../../fixtures/logs.ts';
import { busyMachine } from '../../fixtures/machine.ts';
import {
  failure,
  filesBelow,
  isRoot,
  makeFolder,
  namesIn,
  openFilesBelow,
  smallFileSystem,
  temporaryFolder,
} from '../../fixtures/workspace.ts';

interface Setting {
  readonly root: string;
  readonly source: DatabaseFolders;
  readonly target: string;
}

function makeSetting(
  context: TestContext,
  line: (typeof LINES)[number] = '5.26',
  storeBytes = 100 * KIB,
): Setting {
  const root = temporaryFolder(context);
  const source = makeDatabase(join(root, 'data'), line, {
    propertyStoreBytes: storeBytes - (storeBytes % 8192),
  });
  return { root, source, target: makeFolder(root, 'backups') };
}

function optionsFor(target: string, more: Partial<BackupOptions> = {}): BackupOptions {
  return {
    targetDirectory: target,
    compress: true,
    compressionLevel: 1,
    keepFailed: false,
    type: 'FULL',
    ...more,
  };
}

const NAME = /^neo4j-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.backup$/;

for (const line of LINES) {
  for (const compress of [true, false]) {
    test(`backup of ${line}, ${compress ? '' : 'un'}compressed: valid, and described by its header`, async (context) => {
      const { root, source, target } = makeSetting(context, line);
      const before = filesBelow(join(root, 'data'));
      const result = await backupDatabase(source, optionsFor(target, { compress }));
      assert.deepEqual(filesBelow(join(root, 'data')), before, 'the source is as it was');
      assert.deepEqual(
        namesIn(target).map((name) => NAME.test(name)),
        [true],
      );
      assert.equal(result.artifactPath, join(target, namesIn(target)[0]!));
      assert.equal(result.artifactBytes, readFileSync(result.artifactPath).length);
      assert.deepEqual(
        [result.lowestTransaction, result.highestTransaction, result.attempts, result.leftOut],
        [1n, 41n, 1, []],
      );
      const fenceIndex = line === '5.26' ? 32n : 33n;
      assert.equal(result.transactionsAfterFence, 41n - fenceIndex);
      assert.equal(result.storeBytes + result.logBytes, result.memberBytes);

      const validated = await validateArtifact(result.artifactPath);
      assert.deepEqual([validated.valid, validated.problems, validated.warnings], [true, [], []]);
      assert.equal(validated.memberCount, result.memberCount);
      assert.equal(validated.memberBytes, result.memberBytes);
      assert.equal(validated.highestTransaction, 41n);
      assert.equal(validated.transactionsChecked, 41n - fenceIndex);

      const { artifacts, unreadable } = await inspectArtifacts(target);
      assert.deepEqual(unreadable, []);
      const [summary] = artifacts;
      assert.equal(summary!.database, 'neo4j');
      assert.equal(summary!.container, compress ? 'BZV2' : 'BTV2');
      assert.deepEqual(
        [summary!.full, summary!.compressed, summary!.recovered, summary!.indexed],
        [true, compress, false, true],
      );
      assert.equal(summary!.highestTransaction, 41n);
      assert.equal(summary!.memberCount, result.memberCount);
      assert.ok(Math.abs(summary!.time!.getTime() - Date.now()) < 60_000);
      assert.deepEqual(openFilesBelow(root), []);
    });
  }
}

test('a backup of a database at rest says that it needs no recovery', async (context) => {
  const { source, target } = makeSetting(context);
  writeFileSync(
    join(source.logDirectory, CHECKPOINT_FIXTURE),
    checkpointAfter('5.26', 41n, splitLog('5.26', [])),
  );
  const result = await backupDatabase(source, optionsFor(target));
  assert.equal(result.transactionsAfterFence, 0n);
  assert.equal((await inspectArtifacts(result.artifactPath)).artifacts[0]!.recovered, true);
});

test('two backups in one second have two names', async (context) => {
  const { source, target } = makeSetting(context);
  const first = await backupDatabase(source, optionsFor(target));
  // The name that the second one would take, for sure.
  for (const seconds of [0, 1, 2]) {
    writeFileSync(join(target, `neo4j-${formatTime(new Date(Date.now() + seconds * 1000))}.backup`), 'taken');
  }
  const second = await backupDatabase(source, optionsFor(target));
  assert.notEqual(second.artifactPath, first.artifactPath);
  assert.equal((await validateArtifact(second.artifactPath)).valid, true);
  const taken = namesIn(target).filter((name) => readFileSync(join(target, name), 'latin1') === 'taken');
  assert.ok(taken.length >= 2, 'what had the names is as it was');
});

describe('what killed backups left', () => {
  const HOUR_MS = 3_600_000;

  function leavePartial(target: string, name: string, ageMs: number): string {
    const path = join(target, name);
    writeFileSync(path, 'half');
    const time = new Date(Date.now() - ageMs);
    utimesSync(path, time, time);
    return path;
  }

  test('is removed by the next backup of the same database, once it is old', async (context) => {
    const { source, target } = makeSetting(context);
    leavePartial(target, '.neo4j.backup.aa.partial', HOUR_MS);
    const young = leavePartial(target, '.neo4j.backup.bb.partial', 0);
    const other = leavePartial(target, '.system.backup.cc.partial', HOUR_MS);
    const foreign = leavePartial(target, 'neo4j.backup.partial', HOUR_MS);
    const { artifactPath } = await backupDatabase(source, optionsFor(target));
    const left = namesIn(target).map((name) => join(target, name));
    assert.deepEqual(left.sort(), [artifactPath, young, other, foreign].sort());
  });

  test('is kept as long as another process writes it', async (context) => {
    const { source, target } = makeSetting(context);
    const written = leavePartial(target, '.neo4j.backup.aa.partial', HOUR_MS);
    const script =
      'import fcntl,sys; f=open(sys.argv[1],"r+"); fcntl.lockf(f,fcntl.LOCK_EX); print("locked",flush=True); sys.stdin.read()';
    const writer = spawn('python3', ['-c', script, written], { stdio: ['pipe', 'pipe', 'inherit'] });
    const started = await Promise.race([
      once(writer.stdout, 'data').then(() => true),
      once(writer, 'error').then(() => false),
    ]);
    if (!started) return context.skip('there is no python3 to hold a lock');
    await backupDatabase(source, optionsFor(target));
    assert.equal(existsSync(written), true);
    writer.stdin.end();
    await once(writer, 'exit');
    await backupDatabase(source, optionsFor(target));
    assert.equal(existsSync(written), false);
  });

  test('two backups of one database at once do not disturb each other', async (context) => {
    const { source, target } = makeSetting(context);
    const both = await Promise.all([1, 2].map(() => backupDatabase(source, optionsFor(target))));
    assert.notEqual(both[0]!.artifactPath, both[1]!.artifactPath);
    for (const { artifactPath } of both) assert.equal((await validateArtifact(artifactPath)).valid, true);
  });
});

test('an index that keeps changing is left out with a notice, and the rest is valid', async (context) => {
  const { source, target } = makeSetting(context);
  const tree = join(source.storeDirectory, 'neostore.counts.db');
  truncateSync(tree, 3 * 8192);
  rmSync(join(source.storeDirectory, 'schema/index/text-2.0/5/1/_2.si'));
  const notices: string[] = [];
  const listener: ProgressListener = { progress: () => {}, notice: (text) => notices.push(text) };
  const result = await backupDatabase(source, optionsFor(target, { listener }));
  assert.deepEqual([...result.leftOut].sort(), ['neostore.counts.db', 'schema/index/text-2.0/5']);
  assert.equal(notices.length, 2);
  assert.equal((await validateArtifact(result.artifactPath)).valid, true);
});

test('progress never goes back and ends at what was copied', async (context) => {
  const { source, target } = makeSetting(context);
  const seen: [number, number][] = [];
  const listener: ProgressListener = {
    progress: ({ doneBytes, totalBytes }) => seen.push([doneBytes, totalBytes]),
    notice: (text) => assert.fail(text),
  };
  const result = await backupDatabase(source, optionsFor(target, { listener }));
  for (const [number, [done, total]] of seen.entries()) {
    assert.ok(done <= total);
    assert.ok(done >= (seen[number - 1]?.[0] ?? 0));
  }
  assert.ok(seen.at(-1)![0] >= result.memberBytes);
});

test('a rate is kept', async (context) => {
  const { source, target } = makeSetting(context, '5.26', 200 * KIB);
  const startedMs = performance.now();
  const result = await backupDatabase(source, optionsFor(target, { rateBytesPerSecond: 800 * KIB }));
  const leastMs = (result.memberBytes / (800 * KIB)) * 1000;
  // The last member is paid for and not waited for.
  assert.ok(performance.now() - startedMs > leastMs * 0.7, `faster than ${Math.round(leastMs)} ms`);
});

test('beside busy processors it waits for its turn, told once, and is right', async (context) => {
  const { source, target } = makeSetting(context, '5.26', 3 * MIB);
  const machine = busyMachine();
  let notices = 0;
  const processorShare = new ProcessorShare(3, { meter: machine, onBusy: () => notices++ });
  const { artifactPath, memberCount } = await backupDatabase(source, optionsFor(target, { processorShare }));
  assert.ok(machine.pauses >= memberCount / 2, `${machine.pauses} pauses`);
  assert.equal(notices, 1);
  assert.deepEqual((await validateArtifact(artifactPath)).problems, []);
});

describe('a backup that fails publishes nothing and leaves nothing', () => {
  async function assertNothingLeft(
    setting: Setting,
    run: Promise<unknown>,
    expected: (error: unknown) => boolean,
  ) {
    await assert.rejects(run, expected);
    assert.deepEqual(namesIn(setting.target), []);
    assert.deepEqual(openFilesBelow(setting.root), []);
  }

  test('the target is full', async (context) => {
    const small = smallFileSystem(context, 256 * KIB);
    if ('skip' in small) return context.skip(small.skip);
    const setting = { ...makeSetting(context, '5.26', MIB), target: small.folder };
    for (const compress of [true, false]) {
      const run = backupDatabase(setting.source, optionsFor(setting.target, { compress }));
      await assertNothingLeft(setting, run, failure('GK_NO_SPACE', /graphkeep-small/));
    }
  });

  test('the target is full only when the index is written', async (context) => {
    const setting = makeSetting(context, '5.26', 40 * KIB);
    const whole = await backupDatabase(setting.source, optionsFor(setting.target, { compress: false }));
    const blocks = Math.floor((whole.artifactBytes - 1) / 4096);
    const small = smallFileSystem(context, blocks * 4096);
    if ('skip' in small) return context.skip(small.skip);
    const run = backupDatabase(setting.source, optionsFor(small.folder, { compress: false }));
    await assertNothingLeft({ ...setting, target: small.folder }, run, failure('GK_NO_SPACE'));
  });

  test('the target is missing, or a file', async (context) => {
    const setting = makeSetting(context);
    const missing = backupDatabase(setting.source, optionsFor(join(setting.target, 'missing')));
    await assertNothingLeft(setting, missing, failure('GK_NOT_FOUND', /missing/));
    const file = join(setting.root, 'file');
    writeFileSync(file, '');
    const onFile = backupDatabase(setting.source, optionsFor(file));
    await assertNothingLeft(setting, onFile, failure('GK_NOT_FOUND', /not a folder/));
  });

  test('the target is not writable', async (context) => {
    const setting = makeSetting(context);
    // Root may write into every folder of a disk, but not into this one.
    const run = backupDatabase(setting.source, optionsFor(isRoot ? '/proc/self/fdinfo' : '/'));
    await assertNothingLeft(setting, run, (error) => {
      assert.ok(error instanceof GraphkeepError);
      assert.ok(['GK_NO_PERMISSION', 'GK_NOT_FOUND'].includes(error.code), error.message);
      return true;
    });
  });

  test('the log is damaged', async (context) => {
    const setting = makeSetting(context);
    const log = join(setting.source.logDirectory, LOG_FIXTURE);
    const bytes = readFileSync(log);
    bytes[bytes.length - 1] = 1;
    writeFileSync(log, bytes);
    await assertNothingLeft(
      setting,
      backupDatabase(setting.source, optionsFor(setting.target)),
      failure('GK_STORE_DAMAGED'),
    );
  });

  test('it is interrupted, whenever that is', async (context) => {
    const setting = makeSetting(context);
    const run = (
      onReport: (number: number) => void,
      signal: AbortSignal,
    ): ReturnType<typeof backupDatabase> => {
      let reports = 0;
      const listener: ProgressListener = { progress: () => onReport(++reports), notice: () => {} };
      return backupDatabase(setting.source, optionsFor(setting.target, { listener, signal }));
    };
    let total = 0;
    const { artifactPath } = await run((number) => {
      total = number;
    }, new AbortController().signal);
    rmSync(artifactPath);
    assert.ok(total > 10);
    for (let stopAt = 1; stopAt <= total; stopAt++) {
      const stop = new AbortController();
      const stopped = run((number) => {
        if (number === stopAt) stop.abort();
      }, stop.signal);
      await assertNothingLeft(setting, stopped, failure('GK_INTERRUPTED'));
    }
  });

  test('it is interrupted while it waits for its rate', { timeout: 20_000 }, async (context) => {
    const setting = makeSetting(context);
    const stop = new AbortController();
    const run = backupDatabase(
      setting.source,
      optionsFor(setting.target, { rateBytesPerSecond: 1000, signal: stop.signal }),
    );
    setTimeout(() => stop.abort(), 100);
    await assertNothingLeft(setting, run, failure('GK_INTERRUPTED'));
  });

  test('it was interrupted before it began', async (context) => {
    const setting = makeSetting(context);
    const run = backupDatabase(setting.source, optionsFor(setting.target, { signal: AbortSignal.abort() }));
    await assertNothingLeft(setting, run, failure('GK_INTERRUPTED'));
  });
});

test('kept on request, a failed backup has a name that no command takes for an artifact', async (context) => {
  const setting = makeSetting(context);
  const notices: string[] = [];
  const stop = new AbortController();
  const listener: ProgressListener = { progress: () => stop.abort(), notice: (text) => notices.push(text) };
  const options = optionsFor(setting.target, { keepFailed: true, signal: stop.signal, listener });
  await assert.rejects(backupDatabase(setting.source, options), failure('GK_INTERRUPTED'));
  const [name, ...others] = namesIn(setting.target);
  assert.deepEqual(others, []);
  assert.match(name!, /^neo4j-.*\.backup\.failed$/);
  assert.match(notices.join(), new RegExp(name!));
  assert.deepEqual((await inspectArtifacts(setting.target)).artifacts, []);
});

describe('info', () => {
  test('of a database with transactions after its checkpoint', async (context) => {
    const { root, source } = makeSetting(context);
    assert.deepEqual(await readDatabaseInfo(source), {
      databaseName: 'neo4j',
      inUse: false,
      storeFormat: 'record-aligned-1.1',
      storeFormatIntroduced: '5.0.0',
      lastCommittedTransaction: 41n,
      recoveryRequired: true,
    });
    assert.deepEqual(openFilesBelow(root), []);
  });

  test('of a database at rest, and of one whose log is damaged', async (context) => {
    const { source } = makeSetting(context);
    const checkpoint = join(source.logDirectory, CHECKPOINT_FIXTURE);
    writeFileSync(checkpoint, checkpointAfter('5.26', 41n, splitLog('5.26', [])));
    assert.equal((await readDatabaseInfo(source)).recoveryRequired, false);
    const log = join(source.logDirectory, LOG_FIXTURE);
    const bytes = readFileSync(log);
    bytes[bytes.length - 1] = 1;
    writeFileSync(log, bytes);
    const damaged = await readDatabaseInfo(source);
    assert.deepEqual([damaged.lastCommittedTransaction, damaged.recoveryRequired], [undefined, true]);
  });

  test('of no database', async (context) => {
    const { root, source } = makeSetting(context);
    const missing = { ...source, storeDirectory: join(root, 'no') };
    await assert.rejects(readDatabaseInfo(missing), failure('GK_NOT_FOUND'));
  });
});

describe('inspect', () => {
  test('of a folder: newest first, strange files reported, unfinished ones not seen', async (context) => {
    const { source, target } = makeSetting(context);
    const first = await backupDatabase(source, optionsFor(target));
    const second = await backupDatabase(source, optionsFor(target));
    writeFileSync(join(target, 'strange.backup'), 'no artifact');
    writeFileSync(join(target, '.neo4j.backup'), 'hidden');
    writeFileSync(join(target, 'x.backup.failed'), 'failed');
    writeFileSync(join(target, 'readme.txt'), 'text');
    makeFolder(target, 'folder.backup');
    const { artifacts, unreadable } = await inspectArtifacts(target);
    assert.deepEqual(
      artifacts.map((artifact) => artifact.path),
      [second.artifactPath, first.artifactPath],
    );
    assert.deepEqual(
      unreadable.map(({ path, code }) => [path, code]),
      [[join(target, 'strange.backup'), 'GK_ARTIFACT_CORRUPT']],
    );
    await assert.rejects(inspectArtifacts(join(target, 'strange.backup')), failure('GK_ARTIFACT_CORRUPT'));
    await assert.rejects(inspectArtifacts(join(target, 'missing')), failure('GK_NOT_FOUND'));
    await assert.rejects(
      inspectArtifacts(target, { signal: AbortSignal.abort() }),
      failure('GK_INTERRUPTED'),
    );
  });

  test('the ids are those of the store', async (context) => {
    const { source, target } = makeSetting(context, '2026.08');
    const { artifactPath } = await backupDatabase(source, optionsFor(target));
    const [summary] = (await inspectArtifacts(artifactPath)).artifacts;
    assert.equal(summary!.storeIdHash, storeIdHash(storeIdOf('2026.08')));
    assert.match(summary!.databaseId, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  });
});
