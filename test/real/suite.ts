/**
 * The real-Neo4j tests of one line. Servers are started a few times and shared, since a start costs seconds; the
 * tests of one `describe` build on each other in order.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openArtifact } from '../../src/artifact/reader.ts';
import { GraphkeepError } from '../../src/errors.ts';
import { writeSkippableHeader } from '../../src/formats/zstd.ts';
import { backupDatabase } from '../../src/operations/backup.ts';
import { readDatabaseInfo } from '../../src/operations/info.ts';
import { inspectArtifacts } from '../../src/operations/inspect.ts';
import { restoreDatabase } from '../../src/operations/restore.ts';
import type { BackupOptions, BackupResult } from '../../src/operations/types.ts';
import { namesIn } from '../fixtures/workspace.ts';
import { type CycleResult, foldersOf, runCycle, untilCheckpointed } from './cycle.ts';
import type { Line } from './harness/distribution.ts';
import { assertVerdict, createJudge, type Judge, runStockTool } from './harness/judge.ts';
import { type Load, prepareSchema, startLoad } from './harness/load.ts';
import {
  createHome,
  type Home,
  type Server,
  type StoreFormat,
  scratchRoot,
  startServer,
} from './harness/server.ts';
import { type CommandResult, runProgram } from './program.ts';

const KILL_SCRIPT = fileURLToPath(new URL('./killrestore.ts', import.meta.url));

/** Together more than the ten backups under load that each line owes. */
const CYCLES: Readonly<Record<StoreFormat, number>> = { aligned: 6, standard: 5 };
const RATES_BYTES_PER_SECOND = [4_000_000, 8_000_000, undefined];
/**
 * Keeps the data small: with a larger store every slow copy takes longer, and shows nothing more. Without Lucene indexes
 * writers are many times as fast.
 */
const WRITER_PAUSE_MS: Readonly<Record<StoreFormat, number>> = { aligned: 10, standard: 40 };

interface Bench {
  readonly line: Line;
  judge: Judge;
  scratch: string;
}

export function defineLineTests(line: Line): void {
  describe(`Neo4j ${line}`, () => {
    const bench = { line } as Bench;
    before(async () => {
      bench.judge = await createJudge(line);
      bench.scratch = await mkdtemp(join(await scratchRoot(), 'graphkeep-test-'));
    });
    after(async () => {
      await bench.judge.close();
      await rm(bench.scratch, { recursive: true, force: true });
    });
    defineUnderLoad(bench, 'standard');
    defineUnderLoad(bench, 'aligned');
  });
}

/** One server under load, then every state that its files can be in afterwards. */
function defineUnderLoad(bench: Bench, format: StoreFormat): void {
  describe(`a ${format} store`, () => {
    const lucene = format === 'aligned';
    const results: CycleResult[] = [];
    let home: Home;
    let server: Server;
    let load: Load;

    before(async () => {
      home = await createHome({ line: bench.line, dir: join(bench.scratch, format), format, harsh: true });
      server = await startServer(home);
      await prepareSchema(server, { lucene });
      load = startLoad(server, { writers: 8, vector: lucene, pauseMs: WRITER_PAUSE_MS[format] });
      await load.waitForMore(500);
    });
    after(async () => {
      await server.kill();
      await rm(home.dir, { recursive: true, force: true });
    });

    for (let number = 0; number < CYCLES[format]; number++) {
      test(`backup ${number + 1} under load, with checkpoints, rotation and pruning, is right`, async () => {
        const rateBytesPerSecond = RATES_BYTES_PER_SECOND[number % RATES_BYTES_PER_SECOND.length];
        const compress = number % 2 === 0;
        const rate = rateBytesPerSecond === undefined ? {} : { rateBytesPerSecond };
        results.push(await runCycle({ ...bench, home, load, server, compress, ...rate }));
      });
    }

    test('checkpoints and pruning really fell into the copies', () => {
      assert.ok(results.filter((result) => result.checkpointsDuringCopy).length >= 2);
      assert.ok(results.filter((result) => result.prunedDuringCopy).length >= 1);
      assert.ok(results.some((result) => result.backup.transactionsAfterFence > 0n));
    });

    if (format === 'aligned') {
      defineInUse(bench, () => home);
      defineStates(
        bench,
        () => ({ home, server, load }),
        (next) => {
          server = next;
        },
      );
    }
  });
}

function defineInUse(bench: Bench, home: () => Home): void {
  test('a database in use is not replaced, and the command says so with its own status', async () => {
    const artifact = await takeBackup(home(), join(bench.scratch, 'in-use'));
    const refused = restoreDatabase({
      artifactPath: artifact.artifactPath,
      target: foldersOf(home()),
      overwriteDestination: true,
    });
    await assert.rejects(refused, (error) => error instanceof GraphkeepError && error.code === 'GK_IN_USE');
    const info = await readDatabaseInfo(foldersOf(home()));
    assert.equal(info.inUse, true);
    assert.equal(info.storeFormat, 'record-aligned-1.1');
    await rm(join(bench.scratch, 'in-use'), { recursive: true });
  });
}

async function takeBackup(
  home: Home,
  directory: string,
  options: Partial<BackupOptions> = {},
): Promise<BackupResult> {
  await mkdir(directory, { recursive: true });
  return backupDatabase(foldersOf(home), {
    targetDirectory: directory,
    compress: true,
    compressionLevel: 1,
    keepFailed: false,
    type: 'FULL',
    ...options,
  });
}

interface Running {
  readonly home: Home;
  readonly server: Server;
  readonly load: Load;
}

function defineStates(bench: Bench, running: () => Running, replaceServer: (server: Server) => void): void {
  const restoredTwice = (): string => join(bench.scratch, 'restored');
  let stopped: BackupResult;

  test('SIGKILL of Neo4j during the copy: the copy ends and is right', async () => {
    const { home, server, load } = running();
    let killed: Promise<void> | undefined;
    const { backup } = await runCycle({
      ...bench,
      home,
      load,
      rateBytesPerSecond: 4_000_000,
      onProgress: (doneBytes) => {
        if (doneBytes > 2_000_000) killed ??= server.kill();
      },
    });
    assert.ok(killed !== undefined, 'the server was to be killed during the copy');
    await killed;
    assert.ok(backup.highestTransaction > 0n);
    await load.stop();
  });

  test('a server that crashed and was not started again', async () => {
    const { home, load } = running();
    await runCycle({ ...bench, home, load });
  });

  test('an idle server', async () => {
    const { home } = running();
    const server = await startServer(home);
    replaceServer(server);
    await untilCheckpointed(home);
    const { backup } = await runCycle({ ...bench, home, server });
    assert.equal(backup.transactionsAfterFence, 0n);
  });

  test('a stopped server: the artifact needs no recovery', async () => {
    const { home, server } = running();
    await server.stop();
    const { backup, verdict } = await runCycle({ ...bench, home });
    assert.equal(backup.transactionsAfterFence, 0n);
    assert.equal(verdict.recovered, false);
    stopped = await takeBackup(home, join(bench.scratch, 'stopped'));
    const [summary] = (await inspectArtifacts(stopped.artifactPath)).artifacts;
    assert.equal(summary?.recovered, true);
  });

  test('a database that was itself just restored, before and after its first start', async () => {
    const home = await createHome({ line: bench.line, dir: restoredTwice(), harsh: true });
    const options = {
      artifactPath: stopped.artifactPath,
      target: foldersOf(home),
      overwriteDestination: false,
    };
    await restoreDatabase(options);
    await runCycle({ ...bench, home });
    await using server = await startServer(home);
    const load = startLoad(server, { writers: 4, firstWriter: 100 });
    await load.waitForMore(200);
    await runCycle({ ...bench, home, server, load });
    await load.stop();
    await server.stop();
  });

  defineStockTools(bench, () => stopped);
  defineSwap(bench, () => ({ older: stopped, newerHome: restoredTwice() }));
  defineCommands(bench, () => running().home);
}

/** What the stock tools of this line make of our artifacts, and we of the vendor's. */
function defineStockTools(bench: Bench, artifact: () => BackupResult): void {
  const forms = [
    ['compressed', true, undefined],
    ['not compressed', false, undefined],
    ['compressed, with skippable frames between its frames', true, addSkippableFrames],
  ] as const;
  for (const [form, compress, change] of forms) {
    test(`stock load restores our artifact, ${form}, and Neo4j starts`, async () => {
      const folder = join(bench.scratch, 'stock');
      const backup = await takeBackup(await reopen(bench.line, join(bench.scratch, 'aligned')), folder, {
        compress,
      });
      await change?.(backup.artifactPath);
      const home = await createHome({ line: bench.line, dir: join(folder, 'home') });
      const info = await runStockTool(bench.line, home, [
        'database',
        'load',
        '--info',
        `--from-path=${folder}`,
        'neo4j',
      ]);
      assert.match(info.stdout, /Neo4j Full Backup/);
      const load = await runStockTool(bench.line, home, [
        'database',
        'load',
        `--from-path=${folder}`,
        'neo4j',
      ]);
      assert.equal(load.exitCode, 0, load.stderr);
      const verdict = await bench.judge.judge(home.dir);
      assertVerdict(verdict);
      assert.equal(verdict.lastTransactionId, Number(backup.highestTransaction));
      await rm(folder, { recursive: true });
    });
  }

  test('a restored database starts in a real server, and the stock check in its own process is clean', async () => {
    const home = await createHome({ line: bench.line, dir: join(bench.scratch, 'server') });
    await restoreDatabase({
      artifactPath: artifact().artifactPath,
      target: foldersOf(home),
      overwriteDestination: false,
    });
    const server = await startServer(home);
    const { records } = await server.driver.executeQuery(
      'MATCH (a:Account) RETURN sum(a.balance) AS sum, count(a) AS accounts',
      {},
      { database: 'neo4j' },
    );
    assert.equal(Number(records[0]?.get('sum')), 5_000_000);
    await server.stop();
    const check = await runStockTool(bench.line, home, [
      'database',
      'check',
      'neo4j',
      `--report-path=${home.dir}`,
    ]);
    assert.equal(check.exitCode, 0, check.stdout + check.stderr);
    const info = await readDatabaseInfo(foldersOf(home));
    assert.equal(info.inUse, false);
    assert.equal(info.recoveryRequired, false);
    await rm(home.dir, { recursive: true });
  });
}

/** What a later graphkeep may put between frames: stock tools must not care. Our own index is lost by it. */
async function addSkippableFrames(path: string): Promise<void> {
  const { index, file } = await openArtifact(path);
  await file.close();
  const bytes = await readFile(path);
  const parts = (index?.frames ?? []).flatMap(([offset, storedBytes], number) => [
    bytes.subarray(offset, offset + storedBytes),
    writeSkippableHeader(number),
    Buffer.alloc(number, 0x28),
  ]);
  assert.ok(parts.length > 100);
  await writeFile(path, Buffer.concat(parts));
}

/** The home of an earlier start, by its folder. */
async function reopen(line: Line, dir: string): Promise<Home> {
  return createHome({ line, dir, harsh: true });
}

/** A restore over an existing database, killed at every step: the old or the new one, never a mixture. */
function defineSwap(bench: Bench, sources: () => { older: BackupResult; newerHome: string }): void {
  test('SIGKILL at every step of a restore leaves the old or the new database, and the next restore settles it', async () => {
    const { older, newerHome } = sources();
    const newer = await reopen(bench.line, newerHome);
    const oldTransaction = Number((await readDatabaseInfo(foldersOf(newer))).lastCommittedTransaction);
    const newTransaction = Number(older.highestTransaction);
    assert.notEqual(oldTransaction, newTransaction);
    const seen = new Set<number>();
    let steps = 0;
    for (let finished = false; !finished; steps++) {
      const home = await createHome({ line: bench.line, dir: join(bench.scratch, `swap-${steps}`) });
      await cp(foldersOf(newer).storeDirectory, foldersOf(home).storeDirectory, { recursive: true });
      await cp(foldersOf(newer).logDirectory, foldersOf(home).logDirectory, { recursive: true });
      finished = (await killedRestore(older.artifactPath, home, steps)) === 'finished';
      const state = await bench.judge.judge(home.dir, { consistencyCheck: false });
      assertVerdict(state, { consistencyCheck: false });
      const isOld = state.lastTransactionId === oldTransaction;
      assert.ok(isOld || state.lastTransactionId === newTransaction, `a mixture after step ${steps}`);
      seen.add(state.lastTransactionId ?? 0);
      await restoreDatabase({
        artifactPath: older.artifactPath,
        target: foldersOf(home),
        overwriteDestination: true,
      });
      await assertSettled(home, newTransaction);
      await rm(home.dir, { recursive: true });
    }
    assert.ok(steps >= 8, `only ${steps} steps were seen`);
    assert.deepEqual(seen, new Set([oldTransaction, newTransaction]));
  });
}

/** Runs a restore in a process of its own that kills itself at the given step (-1: before the swap). */
async function killedRestore(artifactPath: string, home: Home, step: number): Promise<'killed' | 'finished'> {
  const { storeDirectory, logDirectory } = foldersOf(home);
  const child = spawn(
    process.execPath,
    [KILL_SCRIPT, artifactPath, storeDirectory, logDirectory, String(step)],
    {
      stdio: ['ignore', 'inherit', 'inherit'],
    },
  );
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) => {
    child.on('exit', (exitCode, exitSignal) => resolve([exitCode, exitSignal]));
  });
  if (signal === 'SIGKILL') return 'killed';
  assert.equal(code, 0);
  return 'finished';
}

async function assertSettled(home: Home, transaction: number): Promise<void> {
  for (const directory of Object.values(foldersOf(home)).slice(1)) {
    assert.deepEqual(
      (await readdir(join(directory, '..'))).filter((name) => name.startsWith('.')),
      [],
    );
  }
  const info = await readDatabaseInfo(foldersOf(home));
  assert.equal(Number(info.lastCommittedTransaction), transaction);
}

function graphkeep(...args: string[]): Promise<CommandResult> {
  return runProgram(args);
}

/** The program itself on a real installation. */
function defineCommands(bench: Bench, source: () => Home): void {
  test('the command backs up both databases, inspects, validates, restores and tells about them', async () => {
    const target = join(bench.scratch, 'command');
    await mkdir(target);
    const backup = await graphkeep(
      'database',
      'backup',
      `--neo4j-home=${source().dir}`,
      `--to-path=${target}`,
      'neo4j',
      'system',
    );
    assert.equal(backup.status, 0, backup.stderr);
    const inspect = await graphkeep('backup', 'inspect', '--format=json', target);
    const { artifacts: rows } = JSON.parse(inspect.stdout) as { artifacts: { database: string }[] };
    assert.deepEqual(rows.map((row) => row.database).sort(), ['neo4j', 'system'], inspect.stdout);
    const artifacts = namesIn(target).map((name) => join(target, name));
    const validate = await graphkeep('backup', 'validate', ...artifacts);
    assert.equal(validate.status, 0, validate.stdout + validate.stderr);
    const home = await createHome({ line: bench.line, dir: join(target, 'home') });
    const restore = await graphkeep(
      'database',
      'restore',
      `--neo4j-home=${home.dir}`,
      `--from-path=${artifacts.join(',')}`,
    );
    assert.equal(restore.status, 0, restore.stderr);
    const info = await graphkeep('database', 'info', `--neo4j-home=${home.dir}`, '--format=json', 'neo4j');
    assert.equal(info.status, 0, info.stderr);
    assert.match(info.stdout, /record-aligned-1\.1/);
    const server = await startServer(home);
    await server.stop();
    assertVerdict(await bench.judge.judge(home.dir));
    await rm(target, { recursive: true });
  });

  test('one database that fails does not keep the others from their backup, and the status says so', async () => {
    const target = join(bench.scratch, 'partly');
    await mkdir(target);
    const backup = await graphkeep(
      'database',
      'backup',
      `--neo4j-home=${source().dir}`,
      `--to-path=${target}`,
      'nothere',
      'system',
    );
    assert.equal(backup.status, 1);
    assert.deepEqual(
      namesIn(target).map((name) => name.split('-')[0]),
      ['system'],
    );
    await rm(target, { recursive: true });
  });
}
