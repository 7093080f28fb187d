/**
 * `npm run demo -- [--neo4j=5.26|2026.08] [--keep]`: a real Neo4j Community under a write load is backed up with the
 * real program, restored into a second home, started there, and proven. Leaves nothing behind, Ctrl-C included.
 */
import { rmSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { ensureDistribution, LINES, type Line } from '../test/real/harness/distribution.ts';
import { type Load, prepareSchema, startLoad, type Throughput } from '../test/real/harness/load.ts';
import { createHome, type Home, type Server, startServer } from '../test/real/harness/server.ts';
import { type BackupFigures, backup, restore, validate } from './program.ts';
import { type Proof, proveByStockCheck, proveByStockInfo, proveOverBolt } from './proofs.ts';
import { printReport, type Report } from './report.ts';
import { count, live, paint, say, seconds, step } from './screen.ts';

const BALLAST_PAIRS = 100_000;
const BALLAST_ROWS_PER_TRANSACTION = 10_000;
/** Two writers of small batches among them; more would make the others wait for their locks. */
const LOAD = { writers: 16, batchWriters: 2, batchSize: 10, vector: false };
/** The first seconds of a load run on a cold JVM and would make any later stretch look good. */
const WARM_UP_MS = 8_000;
const BEFORE_MS = 8_000;
/** One backup of a store of this size is over too soon to measure a throughput in. */
const DURING_MS = 8_000;
const AFTER_MS = 4_000;
const LIVE_INTERVAL_MS = 500;

const servers = new Set<Server>();

async function boot(home: Home): Promise<Server> {
  const server = await startServer(home);
  servers.add(server);
  return server;
}

async function halt(server: Server): Promise<void> {
  await server.stop();
  servers.delete(server);
}

/**
 * The load's own data is small; this makes the copy large enough to take a while. It also carries the Lucene indexes:
 * on the transfers they would be refreshed at each commit and hold the load down to a few transactions a second.
 */
async function addBallast(server: Server): Promise<void> {
  const statements = [
    `UNWIND range(0, ${BALLAST_PAIRS - 1}) AS id
     CALL (id) {
       CREATE (:Item {id: 2 * id, name: 'item ' + id, text: 'left of ' + id + ', ' + (id * 7919) % 1000003})
         -[:PAIR {weight: id % 71}]->
         (:Item {id: 2 * id + 1, name: 'item ' + id, numbers: [id % 97, id % 89, id % 83]})
     } IN TRANSACTIONS OF ${BALLAST_ROWS_PER_TRANSACTION} ROWS`,
    'CREATE CONSTRAINT item_id FOR (i:Item) REQUIRE i.id IS UNIQUE',
    'CREATE TEXT INDEX item_text FOR (i:Item) ON (i.text)',
    'CREATE FULLTEXT INDEX item_words FOR (i:Item) ON EACH [i.text]',
    'CALL db.awaitIndexes(120)',
  ];
  const session = server.driver.session({ database: 'neo4j' });
  try {
    // Not executeQuery: its transaction would be around the transactions of the statement.
    for (const statement of statements) await session.run(statement);
  } finally {
    await session.close();
  }
}

function throughputText(now: Throughput, total: number): string {
  const rate = count(now.transactionsPerSecond).padStart(6);
  return `write load ${rate} transactions/s, ${count(total)} transfers so far`;
}

/** Shows the load until `work` is done, and gives its throughput over that time. */
async function watchLoad(load: Load, note: string, work: Promise<unknown>): Promise<Throughput> {
  const start = load.total();
  let running = true;
  const done = work.finally(() => {
    running = false;
  });
  load.throughput();
  while (running) {
    await Promise.race([sleep(LIVE_INTERVAL_MS), done]);
    if (running) live(`${throughputText(load.throughput(), load.acknowledged())}   ${paint('dim', note)}`);
  }
  await done;
  if (load.errors.length > 0) throw new Error(`the load failed: ${load.errors.map(String).join('; ')}`);
  return difference(start, load.total());
}

function difference(start: Throughput, end: Throughput): Throughput {
  const elapsedMs = end.elapsedMs - start.elapsedMs;
  const transfers = end.transfers - start.transfers;
  const transactions = end.transactions - start.transactions;
  return {
    transfers,
    transactions,
    retries: end.retries - start.retries,
    elapsedMs,
    transfersPerSecond: (transfers * 1000) / elapsedMs,
    transactionsPerSecond: (transactions * 1000) / elapsedMs,
  };
}

interface Backups {
  readonly last: BackupFigures;
  readonly backups: number;
  /** What the server had acknowledged when the last backup was started; of the whole story, at its end. */
  readonly acknowledged: ReadonlyMap<number, number>;
}

/** Backups back to back until the time is over. The last one is the one that everything else is about. */
async function backUpRepeatedly(home: Home, load: Load, folder: string): Promise<Backups> {
  const endMs = performance.now() + DURING_MS;
  for (let backups = 1; ; backups++) {
    // A folder each: in one folder, two backups within a second would wait for a free name.
    const target = join(folder, String(backups));
    await mkdir(target, { recursive: true });
    const acknowledged = load.snapshotAcknowledged();
    const last = await backup(home.dir, target);
    if (performance.now() >= endMs) return { last, backups, acknowledged };
    await rm(target, { recursive: true });
  }
}

interface Source {
  readonly home: Home;
  readonly server: Server;
}

async function prepareSource(line: Line, folder: string): Promise<Source> {
  // Default settings, but a checkpoint now and then, as there would be one on a server that runs for longer.
  const extraConf = { 'db.checkpoint.interval.time': '5s', 'server.memory.pagecache.size': '256m' };
  const home = await createHome({ line, dir: join(folder, 'source'), extraConf });
  const server = await step('start Neo4j', () => boot(home));
  await step(`make constraints, indexes and ${count(2 * BALLAST_PAIRS)} items`, async () => {
    await prepareSchema(server, { lucene: false });
    await addBallast(server);
  });
  return { home, server };
}

interface Measured extends Backups {
  /** What was committed after the last backup under load. */
  readonly differential: BackupFigures;
  readonly before: Throughput;
  readonly during: Throughput;
  readonly after: Throughput;
}

async function backUpUnderLoad({ home, server }: Source, folder: string): Promise<Measured> {
  const load = startLoad(server, LOAD);
  await watchLoad(load, 'warming up', sleep(WARM_UP_MS));
  const before = await watchLoad(load, 'before the backup', sleep(BEFORE_MS));
  const backups = backUpRepeatedly(home, load, folder);
  const during = await watchLoad(load, 'during backups', backups);
  const after = await watchLoad(load, 'after the backup', sleep(AFTER_MS));
  await load.stop();
  const result = await backups;
  const { backups: number, last } = result;
  say(`${paint('dim', '·')} back up under load, ${number} times; the last took ${seconds(last.processMs)}`);
  const differential = await step('back up what is new since then', () =>
    backup(home.dir, dirname(last.artifactPath)),
  );
  // The load has ended: all that was ever acknowledged is in the two artifacts.
  const acknowledged = load.snapshotAcknowledged();
  return { ...result, differential, acknowledged, before, during, after };
}

interface Proven {
  readonly bootMs: number;
  readonly proofs: Proof[];
}

async function startAndProve(home: Home, measured: Measured, folder: string): Promise<Proven> {
  const server = await step('start a second Neo4j on the restored files', () => boot(home));
  const { acknowledged } = measured;
  const proofs = await step('ask it whether everything is there', () =>
    proveOverBolt(server, { acknowledged, ballastPairs: BALLAST_PAIRS }),
  );
  await halt(server);
  proofs.push(await step('run the stock consistency check', () => proveByStockCheck(home, folder)));
  const artifacts = join(measured.last.artifactPath, '..');
  proofs.push(await step('show the artifact to the stock tools', () => proveByStockInfo(home, artifacts)));
  return { bootMs: server.bootMs, proofs };
}

async function runDemo(line: Line, folder: string, keep: boolean): Promise<boolean> {
  const { version } = await step(`find Neo4j Community ${line} (the first time: download it)`, () =>
    ensureDistribution(line),
  );
  const source = await prepareSource(line, folder);
  const measured = await backUpUnderLoad(source, join(folder, 'artifacts'));
  const { artifactPath } = measured.last;
  const artifacts = dirname(artifactPath);
  await step('stop the first Neo4j', () => halt(source.server));
  const validation = await step('validate the chain', () => validate(artifacts));
  const home = await createHome({ line, dir: join(folder, 'restored') });
  const restored = await step('restore it into a second home', () => restore(home.dir, artifacts));
  const { bootMs, proofs } = await startAndProve(home, measured, folder);
  const validated: Proof = {
    claim: 'the artifacts are whole and fit together, and their log has no gap',
    figure: `${validation.memberCount} files, ${count(validation.transactionsChecked)} transactions`,
    holds: validation.valid,
  };
  const report: Report = {
    version,
    ...measured,
    backup: measured.last,
    validation,
    restore: restored,
    bootMs,
    proofs: [validated, ...proofs],
  };
  const good = printReport(report);
  if (keep) await keepArtifact(artifactPath);
  return good;
}

async function keepArtifact(artifactPath: string): Promise<void> {
  const kept = join(process.cwd(), basename(artifactPath));
  await copyFile(artifactPath, kept);
  say(`  The artifact is kept: ${kept}`);
}

function parseLine(value: string): Line {
  const line = LINES.find((candidate) => candidate === value);
  if (line === undefined) throw new Error(`--neo4j=${value} is not possible; possible: ${LINES.join(', ')}`);
  return line;
}

let interrupted = false;

/** The harness kills its Java processes at a signal; what is left to do is the folder, once they are gone. */
function cleanUpAtSignals(folder: string): void {
  for (const [signal, exitStatus] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    process.on(signal, () => {
      if (interrupted) return;
      interrupted = true;
      say(paint('dim', 'interrupted, cleaning up'));
      void Promise.allSettled([...servers].map((server) => server.kill())).then(() => {
        removeFolder(folder);
        process.exit(exitStatus);
      });
    });
  }
}

function removeFolder(folder: string): void {
  // Retries: a process that was just killed may still have been making files.
  rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      neo4j: { type: 'string', default: '5.26' },
      keep: { type: 'boolean', default: false },
    },
  });
  const line = parseLine(values.neo4j);
  const folder = await mkdtemp(join(tmpdir(), 'graphkeep-demo-'));
  cleanUpAtSignals(folder);
  const startedMs = performance.now();
  try {
    process.exitCode = (await runDemo(line, folder, values.keep)) ? 0 : 1;
    say(paint('dim', `  The demo took ${seconds(performance.now() - startedMs)}; nothing is left running.`));
  } catch (error) {
    // At a signal the servers are killed under the demo: its complaints mean nothing then.
    if (interrupted) return;
    say(paint('red', `The demo failed: ${error instanceof Error ? error.message : String(error)}`));
    process.exitCode = 1;
  } finally {
    if (!interrupted) {
      await Promise.allSettled([...servers].map((server) => server.kill()));
      removeFolder(folder);
    }
  }
}

await main();
