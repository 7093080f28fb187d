/**
 * Chains on real servers of one line: differential backups across everything that happens to a server, restored and judged.
 * One server lives through the story; the tests of it build on each other in order.
 */
import assert from 'node:assert/strict';
import { link, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { GraphkeepError } from '../../src/errors.ts';
import { renameTransaction } from '../../src/formats/txlog/checkpoint.ts';
import { readFence } from '../../src/hotcopy/fence.ts';
import { findStockNeo4j, type StockNeo4j } from '../../src/neo4j/stock.ts';
import { aggregateChain } from '../../src/operations/aggregate.ts';
import { backupDatabase } from '../../src/operations/backup.ts';
import { readDatabaseInfo } from '../../src/operations/info.ts';
import { inspectArtifacts } from '../../src/operations/inspect.ts';
import { planRestore } from '../../src/operations/plan.ts';
import { restoreDatabase } from '../../src/operations/restore.ts';
import type { BackupOptions, BackupResult, ChainRequest, RestoreResult } from '../../src/operations/types.ts';
import { randomNumbers } from '../fixtures/random.ts';
import { namesIn } from '../fixtures/workspace.ts';
import { KEEPING_LOGS } from './chaincycle.ts';
import { foldersOf } from './cycle.ts';
import { ensureDistribution, type Line } from './harness/distribution.ts';
import { assertVerdict, runStockTool, type Verdict } from './harness/judge.ts';
import { startLoad } from './harness/load.ts';
import { createHome, startServer, whileStopped } from './harness/server.ts';
import { endServer, type LoadedServer, startLoadedServer, WRITER_PAUSE_MS } from './loadedserver.ts';
import { AT_FULL_SPEED, runProgram } from './program.ts';
import { transactionsOf } from './serverlog.ts';

const DIFFERENTIALS_UNDER_LOAD = 3;
const CUTS = 2;
const FORM = { compress: true, compressionLevel: 1, keepFailed: false };
interface Story extends LoadedServer {
  results: BackupResult[];
  homes: number;
}

export function defineChainTests(line: Line): void {
  describe(`chains of Neo4j ${line}`, () => {
    const story = { line, results: [], homes: 0 } as unknown as Story;
    before(() => startLoadedServer(story, { name: 'chain', writers: 8, warmUp: 150 }));
    after(() => endServer(story));
    defineUnderLoad(story);
    defineCuts(story);
    defineLives(story);
    defineAggregate(story);
    defineCheck(story);
    defineOverlap(story);
    definePruned(story);
    defineSetBack(story);
    defineEarlierName(story);
  });
}

function backup(story: Story, options: Partial<BackupOptions> = {}): Promise<BackupResult> {
  return backupDatabase(foldersOf(story.home), {
    targetDirectory: story.artifacts,
    type: 'AUTO',
    ...FORM,
    ...options,
  });
}

interface Expected {
  readonly acknowledged?: ReadonlyMap<number, number>;
  /** false saves seconds, where the same way of restoring is checked elsewhere. */
  readonly consistencyCheck?: boolean;
}

/** Restores into a fresh home and has the result judged, the stock check included. */
async function restoreAndJudge(
  story: Story,
  request: Partial<ChainRequest> = {},
  { acknowledged, consistencyCheck = true }: Expected = {},
): Promise<{ restored: RestoreResult; verdict: Verdict }> {
  const home = await createHome({ line: story.line, dir: join(story.scratch, `home-${story.homes++}`) });
  try {
    const restored = await restoreDatabase({
      artifactPath: story.artifacts,
      target: foldersOf(home),
      overwriteDestination: false,
      ...request,
    });
    const expected = acknowledged === undefined ? {} : { expectAcknowledged: acknowledged };
    const verdict = await story.judge.judge(home.dir, { ...expected, consistencyCheck });
    const before = acknowledged === undefined ? {} : { acknowledgedBefore: acknowledged };
    assertVerdict(verdict, { ...before, consistencyCheck });
    assert.equal(verdict.lastTransactionId, Number(restored.highestTransaction));
    return { restored, verdict };
  } finally {
    await rm(home.dir, { recursive: true, force: true });
  }
}

function defineUnderLoad(story: Story): void {
  test('AUTO takes a full backup first and then differentials, which restore to every acknowledged write', async () => {
    const full = await backup(story);
    assert.equal(full.fullBecause?.reason, 'noChain');
    story.results.push(full);
    let acknowledged = new Map<number, number>();
    for (let number = 0; number < DIFFERENTIALS_UNDER_LOAD; number++) {
      await story.load.waitForMore(100);
      acknowledged = story.load.snapshotAcknowledged();
      const result = await backup(story, { compress: number % 2 === 0 });
      assert.equal(result.kind, 'differential');
      assert.equal(result.lowestTransaction, story.results.at(-1)!.highestTransaction + 1n);
      assert.equal(result.parentPath, story.results.at(-1)!.artifactPath);
      story.results.push(result);
    }
    assert.ok(
      story.results.some((result) => result.kind === 'differential' && result.memberCount > 1),
      'no rotation',
    );
    const { restored } = await whileStopped(story.server, () => restoreAndJudge(story, {}, { acknowledged }));
    assert.equal(restored.differentialPaths.length, DIFFERENTIALS_UNDER_LOAD);
    assert.equal(restored.highestTransaction, story.results.at(-1)!.highestTransaction);
  });

  test('a file of the chain restores up to itself', async () => {
    const second = story.results[2]!;
    const { artifactPath } = second;
    const { restored } = await whileStopped(story.server, () =>
      restoreAndJudge(story, { artifactPath }, { consistencyCheck: false }),
    );
    assert.equal(restored.highestTransaction, second.highestTransaction);
    assert.equal(restored.differentialPaths.length, 2);
  });

  test('an idle server: an empty differential, that nothing follows', async () => {
    await story.load.stop();
    story.results.push(await backup(story));
    const empty = await backup(story);
    assert.deepEqual(
      [empty.kind, empty.lowestTransaction, empty.highestTransaction],
      ['differential', 0n, 0n],
    );
    assert.equal(empty.memberCount, 0);
    const again = await backup(story);
    assert.equal(again.parentPath, story.results.at(-1)!.artifactPath);
  });
}

function defineCuts(story: Story): void {
  test('restore-until a transaction: all before it and none after, in store, indexes and counts', async () => {
    const [full, ...differentials] = story.results as [BackupResult, ...BackupResult[]];
    const first = full.highestTransaction + 1n;
    const last = differentials.at(-1)!.highestTransaction;
    const random = randomNumbers(Number(last));
    const targets = Array.from({ length: CUTS }, () => first + BigInt(random(Number(last - first))));
    for (const transaction of new Set([first, ...targets])) {
      const { restored } = await restoreAndJudge(story, { until: { transaction } });
      assert.equal(restored.highestTransaction, transaction - 1n);
    }
  });

  test('restore-until a time: the log of the server says where it must end', async () => {
    const [full] = story.results as [BackupResult];
    const transactions = await transactionsOf(foldersOf(story.home).logDirectory);
    const after = [...transactions.values()].filter(
      ({ appendIndex }) => appendIndex > full.highestTransaction,
    );
    const inTheMiddle = Number(after[Math.floor(after.length / 2)]!.commitTimeMillis);
    const time = new Date(Math.ceil(inTheMiddle / 1000) * 1000);
    const firstLeftOut = after.find(({ commitTimeMillis }) => commitTimeMillis >= BigInt(time.getTime()));
    const expected = firstLeftOut === undefined ? after.at(-1)!.appendIndex : firstLeftOut.appendIndex - 1n;
    const { restored } = await restoreAndJudge(story, { until: { time } });
    assert.equal(restored.highestTransaction, expected);
  });

  test('a target inside a full artifact is refused, and the earliest possible one is named', async () => {
    const [full] = story.results as [BackupResult];
    const request = { artifactPath: story.artifacts, until: { transaction: full.highestTransaction } };
    await assert.rejects(
      planRestore(request),
      (error) =>
        error instanceof GraphkeepError &&
        error.code === 'GK_OUT_OF_WINDOW' &&
        error.message.includes(`from ${full.highestTransaction + 1n} `),
    );
  });
}

/** A little more data, by writers of their own. */
async function write(story: Story, firstWriter: number, transfers = 60): Promise<Map<number, number>> {
  const load = startLoad(story.server, { writers: 4, firstWriter, pauseMs: WRITER_PAUSE_MS });
  await load.waitForMore(transfers);
  await load.stop();
  return load.snapshotAcknowledged();
}

function defineLives(story: Story): void {
  test('a chain goes on across a restart, a crash with recovery, and a backup of the stopped server', async () => {
    const before = story.results.at(-1)!.highestTransaction;
    await story.server.stop();
    story.server = await startServer(story.home);
    await write(story, 100);
    const restarted = await backup(story, { type: 'DIFF' });
    const load = startLoad(story.server, { writers: 8, firstWriter: 200, pauseMs: WRITER_PAUSE_MS });
    await load.waitForMore(100);
    await story.server.kill();
    await load.stop();
    const acknowledged = load.snapshotAcknowledged();
    const crashed = await backup(story, { type: 'DIFF' });
    story.server = await startServer(story.home);
    await write(story, 300);
    const recovered = await backup(story, { type: 'DIFF' });
    await story.server.stop();
    const stopped = await backup(story, { type: 'DIFF' });
    story.results.push(restarted, crashed, recovered);
    if (stopped.highestTransaction > 0n) story.results.push(stopped);
    assert.equal(restarted.lowestTransaction, before + 1n);
    assert.equal(recovered.lowestTransaction, crashed.highestTransaction + 1n);
    const { restored } = await restoreAndJudge(story, {}, { acknowledged });
    assert.equal(restored.highestTransaction, story.results.at(-1)!.highestTransaction);
  });

  test('a chain goes on from a server that was restored from it', async () => {
    await restoreDatabase({
      artifactPath: story.artifacts,
      target: foldersOf(story.home),
      overwriteDestination: true,
    });
    story.server = await startServer(story.home);
    const acknowledged = await write(story, 400);
    const result = await backup(story, { type: 'DIFF' });
    assert.equal(result.lowestTransaction, story.results.at(-1)!.highestTransaction + 1n);
    story.results.push(result);
    const { restored } = await restoreAndJudge(story, {}, { acknowledged });
    assert.equal(restored.highestTransaction, result.highestTransaction);
  });
}

/** The same artifacts in a folder of their own, so that the story goes on with the old ones. */
async function linkedArtifacts(story: Story, name: string): Promise<string> {
  const folder = join(story.scratch, name);
  await mkdir(folder);
  for (const { artifactPath } of story.results)
    await link(artifactPath, join(folder, basename(artifactPath)));
  return folder;
}

function defineAggregate(story: Story): void {
  test('an aggregated chain is one artifact, which stock load restores, and which later differentials follow', async () => {
    const folder = await linkedArtifacts(story, 'aggregated');
    const result = await aggregateChain({ artifactPath: folder, ...FORM, keepOldBackup: false });
    const last = story.results.at(-1)!;
    assert.deepEqual([result.recovered, result.highestTransaction], [false, last.highestTransaction]);
    assert.deepEqual(namesIn(folder), [basename(result.artifactPath)], 'the old ones are gone');
    const home = await createHome({ line: story.line, dir: join(folder, 'home') });
    const load = await runStockTool(story.line, home, ['database', 'load', `--from-path=${folder}`, 'neo4j']);
    assert.equal(load.exitCode, 0, load.stderr);
    const verdict = await story.judge.judge(home.dir);
    assertVerdict(verdict);
    assert.equal(verdict.lastTransactionId, Number(last.highestTransaction));
    await rm(home.dir, { recursive: true });
    const next = await backup(story, { type: 'DIFF', targetDirectory: folder });
    assert.equal(next.parentPath, result.artifactPath);
    await rm(folder, { recursive: true });
  });

  test('with a Neo4j at hand the result is recovered, and the old ones stay when they are to be kept', async () => {
    const folder = await linkedArtifacts(story, 'recovered');
    const stock = await stockOf(story);
    const result = await aggregateChain({ artifactPath: folder, ...FORM, keepOldBackup: true, stock });
    assert.deepEqual([result.recovered, result.removed], [true, []]);
    assert.equal(namesIn(folder).length, story.results.length + 1);
    const [summary] = (await inspectArtifacts(result.artifactPath)).artifacts;
    assert.deepEqual([summary?.full, summary?.recovered], [true, true]);
    const { restored } = await restoreAndJudge(
      story,
      { artifactPath: result.artifactPath },
      { consistencyCheck: false },
    );
    assert.equal(restored.highestTransaction, story.results.at(-1)!.highestTransaction);
    await rm(folder, { recursive: true });
  });
}

function defineCheck(story: Story): void {
  test('check-consistency: the installed Neo4j recovers and checks what was taken', async () => {
    const folder = join(story.scratch, 'checked');
    await mkdir(folder);
    const { javaHome, libraryFolder } = await ensureDistribution(story.line);
    await symlink(libraryFolder, join(story.home.dir, 'lib'));
    const run = await runProgram(
      [
        'database',
        'backup',
        `--neo4j-home=${story.home.dir}`,
        `--to-path=${folder}`,
        '--check-consistency',
        AT_FULL_SPEED,
        '--format=json',
      ],
      { JAVA_HOME: javaHome },
    );
    assert.equal(run.status, 0, run.stdout + run.stderr);
    const { backups } = JSON.parse(run.stdout) as { backups: { consistency: { consistent: boolean } }[] };
    assert.equal(backups[0]?.consistency.consistent, true);
    assert.equal(namesIn(folder).length, 1, 'no scratch and no report is left');
    await rm(folder, { recursive: true });
  });
}

/** The jars of the line as an installation: a folder with `lib`. */
async function stockOf(story: Story): Promise<StockNeo4j> {
  const { libraryFolder, javaHome } = await ensureDistribution(story.line);
  const installation = join(story.scratch, 'installation');
  await mkdir(installation);
  await symlink(libraryFolder, join(installation, 'lib'));
  const stock = await findStockNeo4j(installation, { JAVA_HOME: javaHome });
  assert.ok(stock !== undefined);
  return stock;
}

function defineOverlap(story: Story): void {
  test('with prefer-diff-as-parent a full artifact between differentials costs no point in time', async () => {
    const last = story.results.at(-1)!;
    await write(story, 500, 60);
    const full = await backup(story, { type: 'FULL' });
    await write(story, 600, 60);
    const result = await backup(story, { type: 'DIFF', preferDifferentialAsParent: true });
    assert.equal(result.parentPath, last.artifactPath);
    assert.equal(result.lowestTransaction, last.highestTransaction + 1n);
    const newest = await restoreAndJudge(story, {}, { consistencyCheck: false });
    assert.deepEqual(
      [newest.restored.artifactPath, newest.restored.differentialPaths],
      [full.artifactPath, [result.artifactPath]],
    );
    assert.equal(newest.restored.highestTransaction, result.highestTransaction);
    const until = { transaction: full.highestTransaction - 1n };
    const earlier = await restoreAndJudge(story, { until });
    assert.equal(earlier.restored.artifactPath, story.results[0]!.artifactPath);
    assert.equal(earlier.restored.highestTransaction, until.transaction - 1n);
    story.results.push(full, result);
  });
}

function definePruned(story: Story): void {
  test('pruned log: AUTO takes a full one and says why, DIFF fails unless it may fall back', async () => {
    await story.server.stop();
    story.home = await createHome({ line: story.line, dir: story.home.dir, harsh: true });
    story.server = await startServer(story.home);
    const parent = story.results.at(-1)!;
    for (let round = 0; (await oldestTransaction(story)) <= parent.highestTransaction + 1n; round++) {
      assert.ok(round < 50, 'the server did not prune its log');
      await write(story, 700 + round * 10, 60);
      await sleep(1200);
    }
    await assert.rejects(
      backup(story, { type: 'DIFF' }),
      (error) =>
        error instanceof GraphkeepError && error.code === 'GK_NO_PARENT' && /pruned/.test(error.message),
    );
    const fallback = await backup(story, { type: 'DIFF', fallbackToFull: true });
    assert.deepEqual([fallback.kind, fallback.fullBecause?.reason], ['full', 'pruned']);
    await rm(fallback.artifactPath);
    await story.server.stop();
    story.home = await createHome({ line: story.line, dir: story.home.dir, ...KEEPING_LOGS });
    story.server = await startServer(story.home);
    const full = await backup(story);
    assert.deepEqual([full.kind, full.fullBecause?.reason], ['full', 'pruned']);
    await restoreAndJudge(story);
    story.results.push(full);
  });
}

async function oldestTransaction(story: Story): Promise<bigint> {
  const [oldest] = (await transactionsOf(foldersOf(story.home).logDirectory)).keys();
  return oldest ?? 0n;
}

function defineSetBack(story: Story): void {
  test('a server that was set back is noticed by the checksum, and never chained', async () => {
    const full = story.results.at(-1)!;
    await write(story, 2000, 60);
    const lost = await backup(story, { type: 'DIFF' });
    assert.equal(lost.parentPath, full.artifactPath);
    await story.server.stop();
    await restoreDatabase({
      artifactPath: full.artifactPath,
      target: foldersOf(story.home),
      overwriteDestination: true,
    });
    story.server = await startServer(story.home);
    // At first its log ends before the parent's end, later it has another transaction of that number.
    await assert.rejects(
      backup(story, { type: 'DIFF' }),
      (error) =>
        error instanceof GraphkeepError && error.code === 'GK_NO_PARENT' && /set back/.test(error.message),
    );
    while (
      ((await readDatabaseInfo(foldersOf(story.home))).lastCommittedTransaction ?? 0n) <=
      lost.highestTransaction
    ) {
      await write(story, 3000 + story.homes++ * 10, 60);
    }
    const auto = await backup(story);
    assert.deepEqual([auto.kind, auto.fullBecause?.reason], ['full', 'diverged']);
    const next = await backup(story, { type: 'DIFF', preferDifferentialAsParent: true });
    assert.equal(next.parentPath, auto.artifactPath, 'the differential of the lost history is not followed');
    const { restored } = await restoreAndJudge(story);
    assert.equal(restored.artifactPath, auto.artifactPath);
    const ofTheLost = await restoreAndJudge(
      story,
      { artifactPath: lost.artifactPath },
      { consistencyCheck: false },
    );
    assert.equal(ofTheLost.restored.highestTransaction, lost.highestTransaction);
  });
}

/**
 * What a server leaves when it is killed right behind a checkpoint during which transactions closed, which no test can wait
 * for: by the shutdown's checkpoint, the last transaction but one is the last. A Neo4j that starts on that gives out the
 * last one's number again.
 */
function defineEarlierName(story: Story): void {
  test('a checkpoint that names a transaction before its position: what is restored ends with the last one', async () => {
    await write(story, 5000);
    await story.server.stop();
    const { logDirectory } = foldersOf(story.home);
    const { checkpoint, fileName, fileBytes } = await readFence(logDirectory);
    const earlier = (await transactionsOf(logDirectory)).get(checkpoint.appendIndex - 1n)!;
    await writeFile(join(logDirectory, fileName), renameTransaction(fileBytes, checkpoint, earlier));
    const full = await backup(story, { type: 'FULL' });
    assert.equal(full.highestTransaction, checkpoint.appendIndex);
    const { restored } = await restoreAndJudge(story, { artifactPath: full.artifactPath });
    assert.equal(restored.highestTransaction, checkpoint.appendIndex);
  });
}
