/**
 * The 3.x form on real servers of one line: directory backups through the command line, opened by Neo4j, restored and
 * judged. One server lives through the story; the tests of it build on each other in order.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { listLogFolder } from '../../src/hotcopy/logfolder.ts';
import { findStockNeo4j } from '../../src/neo4j/stockinstallation.ts';
import { readDatabaseInfo } from '../../src/operations/info.ts';
import type { DatabaseFolders } from '../../src/operations/types.ts';
import { type CliRun, cli } from '../unit/cli/harness.ts';
import { foldersOf } from './cycle.ts';
import { damageRelationship } from './damage.ts';
import { ensureDistribution, type Line } from './harness/distribution.ts';
import { assertVerdict, createJudge, type Judge } from './harness/judge.ts';
import { prepareSchema, startLoad } from './harness/load.ts';
import { createHome, type Home, type Server, scratchRoot, startServer } from './harness/server.ts';
import { endServer, WRITER_PAUSE_MS } from './loadedserver.ts';
import { PROGRAM, runProgram } from './program.ts';
import { transactionsOf } from './serverlog.ts';

const INCREMENTALS_UNDER_LOAD = 2;
/** Small log files, often rotated, checkpoints all the time; but kept, so that incremental backups are possible. */
const KEEPING_LOGS = { harsh: true, extraConf: { 'db.tx_log.rotation.retention_policy': '1 hours' } };
/** What a server that keeps as little as it may has left of its log. */
const SHORT_RETENTION = { harsh: true };
/** The processes are short, so that starting them is most of the work. */
const QUICK_START = '-XX:+UseSerialGC -XX:TieredStopAtLevel=1';
const NAME = 'graph.db-backup';
const COPY = ['copy', '--from-database=neo4j', '--to-database=copy'];

interface Story {
  readonly line: Line;
  judge: Judge;
  scratch: string;
  home: Home;
  server: Server;
  environment: Record<string, string>;
  backups: string;
  writers: number;
}

export function defineLegacyTests(line: Line): void {
  describe(`the 3.x form with Neo4j ${line}`, () => {
    const story = { line, writers: 0 } as unknown as Story;
    before(async () => {
      story.judge = await createJudge(line);
      story.scratch = await mkdtemp(join(await scratchRoot(), 'graphkeep-legacy-'));
      story.backups = join(story.scratch, 'backups');
      await mkdir(story.backups);
      story.home = await createHome({ line, dir: join(story.scratch, 'source'), ...KEEPING_LOGS });
      await giveJars(story);
      story.server = await startServer(story.home);
      await prepareSchema(story.server, { lucene: true });
    });
    after(() => endServer(story));
    defineUnderLoad(story);
    defineOpening(story);
    defineRetention(story);
    defineCheck(story);
    defineCopy(story);
    if (line === '5.26') definePipe(story);
  });
}

/** The home becomes an installation as a user has it, whose jars are those of the distribution. */
async function giveJars(story: Story): Promise<void> {
  const distribution = await ensureDistribution(story.line);
  await symlink(distribution.libraryFolder, join(story.home.dir, 'lib'));
  story.environment = {
    PATH: process.env.PATH ?? '',
    NEO4J_HOME: story.home.dir,
    JAVA_HOME: distribution.javaHome,
    JAVA_TOOL_OPTIONS: QUICK_START,
  };
  const stock = await findStockNeo4j(story.home.dir, story.environment);
  assert.ok(stock !== undefined);
}

async function backup(story: Story, ...more: string[]): Promise<CliRun> {
  const args = [
    'backup',
    `--backup-dir=${story.backups}`,
    `--name=${NAME}`,
    '--from=localhost:6362',
    ...more,
  ];
  return cli(args, story.environment);
}

const unchecked = '--check-consistency=false';
const linesOf = ({ stdout }: CliRun): string[] => stdout.trim().split('\n');

function flat(story: Story, name = NAME): DatabaseFolders {
  const path = join(story.backups, name);
  return { name: 'neo4j', storeDirectory: path, logDirectory: path };
}

async function write(story: Story, transfers: number): Promise<void> {
  story.writers += 10;
  const load = startLoad(story.server, {
    writers: 4,
    firstWriter: story.writers,
    vector: story.line !== '5.26',
    pauseMs: WRITER_PAUSE_MS,
  });
  await load.waitForMore(transfers);
  await load.stop();
}

/** Restores into a fresh home and has the result judged, the stock check included. */
async function restoreAndJudge(story: Story, acknowledged: Map<number, number>): Promise<void> {
  const home = await createHome({ line: story.line, dir: join(story.scratch, `home-${story.writers++}`) });
  const args = ['restore', `--from=${join(story.backups, NAME)}`, '--database=neo4j'];
  const run = await cli(args, { NEO4J_HOME: home.dir });
  assert.equal(run.exitStatus, 0, run.stderr);
  const verdict = await story.judge.judge(home.dir, { expectAcknowledged: acknowledged });
  assertVerdict(verdict, { acknowledgedBefore: acknowledged });
  const { lastCommittedTransaction } = await readDatabaseInfo(flat(story));
  assert.equal(verdict.lastTransactionId, Number(lastCommittedTransaction));
  await rm(home.dir, { recursive: true, force: true });
}

function defineUnderLoad(story: Story): void {
  test('a full one and incremental ones under load, restored with every acknowledged write', async () => {
    const load = startLoad(story.server, {
      writers: 6,
      vector: story.line !== '5.26',
      pauseMs: WRITER_PAUSE_MS,
    });
    await load.waitForMore(200);
    const full = await backup(story, unchecked);
    assert.deepEqual([full.exitStatus, linesOf(full)], [0, ['Doing full backup...', 'Backup complete.']]);
    let acknowledged = new Map<number, number>();
    for (let number = 0; number < INCREMENTALS_UNDER_LOAD; number++) {
      await load.waitForMore(150);
      acknowledged = load.snapshotAcknowledged();
      const run = await backup(story, unchecked);
      const expected = ['Destination is not empty, doing incremental backup...', 'Backup complete.'];
      assert.deepEqual([run.exitStatus, linesOf(run)], [0, expected], run.stderr);
    }
    await load.stop();
    await restoreAndJudge(story, acknowledged);
    assert.equal((await backup(story, unchecked)).exitStatus, 0);
    assert.match((await backup(story, unchecked)).stderr, /nothing has happened since/);
  });
}

function defineOpening(story: Story): void {
  test('Neo4j opens the directory as it is, torn by a kill as well, and the backup goes on after that', async () => {
    const dir = join(story.scratch, 'opened');
    const databases = join(dir, 'data/databases');
    const extraConf = { 'server.directories.transaction.logs.root': databases };
    const home = await createHome({ line: story.line, dir, extraConf });
    const folders = { ...foldersOf(home), logDirectory: join(databases, 'neo4j') };
    await mkdir(databases);
    await cp(join(story.backups, NAME), folders.storeDirectory, { recursive: true });
    const { lastCommittedTransaction: whole } = await readDatabaseInfo(folders);
    await tear(folders);
    await using server = await startServer(home);
    await server.driver.executeQuery('MATCH (t:Transfer) RETURN count(t)');
    await server.stop();
    const opened = await readDatabaseInfo(folders);
    assert.deepEqual([opened.recoveryRequired, opened.lastCommittedTransaction], [false, whole! - 1n]);
    // A directory that a server had open has checkpoints, and zeros behind its log: it is continued all the same.
    await cp(folders.storeDirectory, join(story.backups, 'opened'), { recursive: true });
    const args = ['backup', `--backup-dir=${story.backups}`, '--name=opened', unchecked];
    const run = await cli(args, story.environment);
    assert.match(run.stdout, /doing incremental backup\.\.\.\nBackup complete/);
    const continued = await readDatabaseInfo(flat(story, 'opened'));
    assert.equal(continued.lastCommittedTransaction, whole);
    await rm(join(story.backups, 'opened'), { recursive: true });
    await rm(dir, { recursive: true });
  });
}

/** The last transaction of the log loses its end. */
async function tear({ logDirectory }: DatabaseFolders): Promise<void> {
  const { logs } = await listLogFolder(logDirectory);
  const newest = join(logDirectory, logs.at(-1)!.name);
  await truncate(newest, (await stat(newest)).size - 7);
}

function defineRetention(story: Story): void {
  test('with a short retention of the log there can be no incremental one: .err.1 and a full one', async () => {
    await backup(story, unchecked);
    const { lastCommittedTransaction: last } = await readDatabaseInfo(flat(story));
    await story.server.stop();
    story.home = await createHome({ line: story.line, dir: story.home.dir, ...SHORT_RETENTION });
    story.server = await startServer(story.home);
    for (let round = 0; (await oldestTransaction(story)) <= last! + 1n; round++) {
      assert.ok(round < 50, 'the server did not prune its log');
      await write(story, 100);
      await sleep(1200);
    }
    const refused = await backup(story, unchecked, '--fallback-to-full=false');
    assert.equal(refused.exitStatus, 1);
    assert.match(refused.stderr, /too long since this backup was last updated.*retention_policy/);
    assert.equal((await readDatabaseInfo(flat(story))).lastCommittedTransaction, last);
    const run = await backup(story, '--pagecache=8m');
    assert.equal(run.exitStatus, 0, run.stderr);
    assert.deepEqual(linesOf(run), [
      'Destination is not empty, doing incremental backup...',
      'Doing full backup...',
      `Old backup renamed to '${NAME}.err.1'.`,
      'Doing consistency check...',
      'Backup complete.',
    ]);
    assert.equal((await readDatabaseInfo(flat(story, `${NAME}.err.1`))).lastCommittedTransaction, last);
    assert.deepEqual((await readdir(story.backups)).sort(), [
      `.${NAME}.lock`,
      '.opened.lock',
      NAME,
      `${NAME}.err.1`,
    ]);
  });
}

async function oldestTransaction(story: Story): Promise<bigint> {
  const [oldest] = (await transactionsOf(foldersOf(story.home).logDirectory)).keys();
  return oldest ?? 0n;
}

function defineCheck(story: Story): void {
  test('a damaged backup is inconsistent: 3, and a report', async () => {
    await damageRelationship(join(story.backups, NAME, 'neostore.relationshipstore.db'));
    const reports = join(story.scratch, 'reports');
    const run = await backup(story, '--pagecache=64m', `--cc-report-dir=${reports}`, '--cc-indexes=false');
    assert.equal(run.exitStatus, 3, run.stderr);
    const [report] = await readdir(reports);
    assert.match(run.stderr, new RegExp(`Inconsistencies found. See '${join(reports, report!)}'`));
    assert.match(await readFile(join(reports, report!), 'utf8'), /ERROR/);
    const left = (await readdir(story.backups)).filter((name) => name.startsWith('.graphkeep'));
    assert.deepEqual(left, []);
  });
}

/** What the load left, found by scanning, by an index of trees and by one of Lucene. */
async function countsOf({ driver }: Server, database: string): Promise<number[]> {
  const { records } = await driver.executeQuery(
    `MATCH (n) WITH count(n) AS nodes
     MATCH ()-[r]->() WITH nodes, count(r) AS relationships
     MATCH (t:Transfer) USING INDEX t:Transfer(amount) WHERE t.amount >= 0
     WITH nodes, relationships, count(t) AS byAmount
     MATCH (t:Transfer) USING INDEX t:Transfer(memo) WHERE t.memo CONTAINS 'a'
     WITH nodes, relationships, byAmount, count(t) AS byMemo
     RETURN [nodes, relationships, byAmount, byMemo] AS counts`,
    {},
    { database },
  );
  return records[0]!.get('counts');
}

async function assertIndexesOnline({ driver }: Server, database: string): Promise<void> {
  await driver.executeQuery('CALL db.awaitIndexes(120)', {}, { database });
  const { records } = await driver.executeQuery('SHOW INDEXES YIELD name, state', {}, { database });
  assert.ok(records.length > 5);
  for (const record of records) assert.equal(record.get('state'), 'ONLINE', record.get('name'));
}

function defineCopy(story: Story): void {
  test('a copy of the stopped database is one that Neo4j serves under its new name', async () => {
    await write(story, 50);
    const running = await cli(COPY, story.environment);
    assert.equal(running.exitStatus, 1);
    assert.match(running.stderr, /database neo4j is in use/);
    const dump = await runProgram(['dump', '--to=-'], story.environment);
    assert.deepEqual([dump.status, dump.stdout], [1, '']);
    assert.match(dump.stderr, /error: neo4j-admin ended with 1: /);
    const counts = await countsOf(story.server, 'neo4j');
    assert.ok(
      counts.every((count) => count > 0),
      String(counts),
    );
    await story.server.stop();
    const run = await cli(COPY, story.environment);
    assert.equal(run.exitStatus, 0, run.stderr);
    assert.match(run.stdout, /^Copied database 'neo4j' to 'copy', up to transaction \d+\.\n$/);
    const extraConf = { 'initial.dbms.default_database': 'copy' };
    const home = await createHome({ line: story.line, dir: story.home.dir, extraConf });
    await using server = await startServer(home, { database: 'copy' });
    assert.deepEqual(await countsOf(server, 'copy'), counts);
    await assertIndexesOnline(server, 'copy');
    await server.stop();
    const again = await cli([...COPY, '--force'], story.environment);
    assert.match(again.stderr, /database with name \[copy\] already exists/);
  });
}

function definePipe(story: Story): void {
  test('a dump goes through a pipe into the database of another home', async () => {
    const other = await createHome({ line: story.line, dir: join(story.scratch, 'piped') });
    await symlink(join(story.home.dir, 'lib'), join(other.dir, 'lib'));
    const line =
      'set -o pipefail; "$GRAPHKEEP" dump --database=neo4j --to=- | tee "$SCRATCH/piped.dump" | ' +
      '"$GRAPHKEEP" load --database=neo4j --from=- --neo4j-home="$OTHER" && ' +
      '"$GRAPHKEEP" load --database=neo4j --from=- --info < "$SCRATCH/piped.dump"';
    const variables = { GRAPHKEEP: PROGRAM, OTHER: other.dir, SCRATCH: story.scratch };
    const env = { ...story.environment, ...variables };
    const { stdout, stderr } = await promisify(execFile)('bash', ['--norc', '-c', line], { env });
    assert.match(stdout, /Database: neo4j/, stderr);
    const [from, to] = [foldersOf(story.home), foldersOf(other)];
    assert.deepEqual(await readDatabaseInfo(to), await readDatabaseInfo(from));
    for (const name of ['neostore.nodestore.db', 'neostore.propertystore.db']) {
      const [left, right] = [from, to].map(({ storeDirectory }) => readFile(join(storeDirectory, name)));
      assert.ok((await left)!.equals((await right)!), name);
    }
  });
}
