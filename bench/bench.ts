/**
 * `npm run bench -- [--scale=1] [--runs=3] [--neo4j=5.26] [--only=stock,tar,graphkeep,remote,log,differential,store,large,server]`: graphkeep beside
 * the stock tools and beside tar with zstd, on one store, in one run, in turn; then the numbers to reach. All raw
 * figures go to `.bench/<date>.json`.
 */
import { rmSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, writeFile } from 'node:fs/promises';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { formatBytes } from '../src/cli/render.ts';
import { ensureDistribution, LINES, type Line } from '../test/real/harness/distribution.ts';
import { type Bar, barsOf, type Measured, OVER_LOOPBACK, OVER_TLS } from './bars.ts';
import { differentialTasks } from './differential.ts';
import { type Effect, effectOf, measureEffect, ratioText } from './effect.ts';
import { largeTasks } from './largestore.ts';
import { killRunning, measure, measuredBy, median, type Sample, settleDisk } from './measure.ts';
import { objectStoreTasks } from './objectstore.ts';
import { type BackupServer, startPlainServer, startTlsServer } from './remote.ts';
import type { LogScan } from './scanlogs.ts';
import { BENCH_FOLDER, type BenchStore, ensureStore, folderBytes } from './store.ts';
import {
  backupTasks,
  missingTarTools,
  prepareWorkplace,
  type Task,
  tasksOf,
  type Workplace,
} from './tasks.ts';

const GROUPS = [
  'stock',
  'tar',
  'graphkeep',
  'remote',
  'log',
  'differential',
  'store',
  'large',
  'server',
] as const;

interface Options {
  readonly line: Line;
  readonly scale: number;
  readonly runs: number;
  readonly groups: Set<string>;
}

function parseOptions(): Options {
  const { values } = parseArgs({
    options: {
      neo4j: { type: 'string', default: '5.26' },
      scale: { type: 'string', default: '1' },
      runs: { type: 'string', default: '3' },
      only: { type: 'string', default: GROUPS.join(',') },
    },
  });
  const line = LINES.find((candidate) => candidate === values.neo4j);
  const groups = new Set(values.only.split(','));
  const [scale, runs] = [Number(values.scale), Number(values.runs)];
  if (line === undefined) throw new Error(`--neo4j takes ${LINES.join(' or ')}`);
  if (!(scale > 0 && scale <= 100)) throw new Error('--scale takes a number above 0, at most 100');
  if (!(Number.isInteger(runs) && runs > 0)) throw new Error('--runs takes a whole number above 0');
  for (const group of groups) {
    if (!GROUPS.some((known) => known === group)) throw new Error(`--only takes ${GROUPS.join(', ')}`);
  }
  return { line, scale, runs, groups };
}

function say(text = ''): void {
  process.stdout.write(`${text}\n`);
}

/** Names to the left, figures to the right. */
function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => (row[column] ?? '').length)),
  );
  const lines = [header, widths.map((width) => '-'.repeat(width)), ...rows].map((row) =>
    widths
      .map((width, column) =>
        column === 0 ? (row[0] ?? '').padEnd(width) : (row[column] ?? '').padStart(width),
      )
      .join('  '),
  );
  return `${lines.join('\n')}\n`;
}

interface Raw {
  readonly task: Task;
  readonly samples: Sample[];
  readonly outputs: string[];
}

/** In turn, not one after the other: whatever slows the machine down for a while then hits all of them. */
async function measureInTurn(tasks: readonly Task[], runs: number): Promise<Raw[]> {
  const raws = tasks.map((task): Raw => ({ task, samples: [], outputs: [] }));
  for (let number = 1; number <= runs; number++) {
    const others = raws.filter(({ task }) => !task.isShort);
    for (const raw of others) await measureOnce(raw, number, runs);
    for (let count = 0; count < SHORT_RUNS; count++) {
      for (const raw of raws.filter(({ task }) => task.isShort)) await measureOnce(raw, number, runs);
    }
  }
  return raws;
}

const SHORT_RUNS = 5;

async function measureOnce({ task, samples, outputs }: Raw, number: number, runs: number): Promise<void> {
  await task.prepare();
  settleDisk();
  const { sample, stdout } = await measure(task.command);
  samples.push(sample);
  outputs.push(stdout);
  say(`  run ${number} of ${runs}: ${task.name.padEnd(36)} ${secondsOf(sample.wallMs).padStart(8)} s`);
}

async function summarize(raws: readonly Raw[]): Promise<Measured[]> {
  return await Promise.all(
    raws.map(async ({ task, samples }) => ({ name: task.name, samples, bytes: await task.bytes?.() })),
  );
}

function secondsOf(milliseconds: number): string {
  return (milliseconds / 1000).toFixed(2);
}

function printMeasured(measured: readonly Measured[]): void {
  const rows = measured.map(({ name, samples, bytes }) => {
    const walls = samples.map((sample) => sample.wallMs);
    const cpus = samples.flatMap((sample) => sample.cpuMs ?? []);
    const peaks = samples.flatMap((sample) => sample.peakBytes ?? []);
    return [
      name,
      secondsOf(median(walls)),
      `${secondsOf(Math.min(...walls))} - ${secondsOf(Math.max(...walls))}`,
      cpus.length === 0 ? '-' : secondsOf(median(cpus)),
      peaks.length === 0 ? '-' : formatBytes(Math.max(...peaks)),
      bytes === undefined ? '' : formatBytes(bytes),
    ];
  });
  say(table(['', 'SECONDS (median)', 'min - max', 'CPU SECONDS', 'PEAK MEMORY', 'SIZE'], rows));
}

function scanOf(raws: readonly Raw[]): LogScan | undefined {
  const scans = (raws.find((raw) => raw.task.group === 'log')?.outputs ?? []).map(
    (output) => JSON.parse(output) as LogScan,
  );
  return scans.toSorted((left, right) => left.durationMs - right.durationMs)[Math.floor(scans.length / 2)];
}

function printScan(scan: LogScan): void {
  const rate = formatBytes((scan.bytes * 1000) / scan.durationMs);
  say(
    `log scan: ${formatBytes(scan.bytes)} in ${scan.files} files, ${scan.transactions} transactions, ` +
      `${secondsOf(scan.durationMs)} s without the start of the program: ${rate}/s`,
  );
  say();
}

function printEffect(effects: readonly Effect[]): void {
  const rows = [...Map.groupBy(effects, ({ condition }) => condition)].map(([condition, runs]) => [
    condition,
    ratioText(effectOf(runs, condition)!),
    runs.map((run) => effectOf([run], condition)!.mean.toFixed(2)).join(', '),
    runs.map(({ busyWithout }) => `${Math.round(busyWithout * 100)} %`).join(', '),
    runs.map(({ backupsFinished }) => backupsFinished).join(', '),
  ]);
  say(table(['LOAD', 'THROUGHPUT WITH / WITHOUT', 'OF EACH RUN', 'BUSY WITHOUT', 'BACKUPS FINISHED'], rows));
}

function printBars(bars: readonly Bar[]): void {
  say(
    table(
      ['NUMBERS TO REACH', 'BAR', 'MEASURED', ''],
      bars.map(({ what, bar, value, verdict }) => [what, bar, value, verdict]),
    ),
  );
}

async function printConditions(options: Options, store: BenchStore, place: Workplace): Promise<object> {
  const { version } = await ensureDistribution(options.line);
  const storeBytes = await folderBytes(store.home.databaseFolder);
  const logBytes = await folderBytes(store.home.transactionsFolder);
  const sameBytes = await folderBytes(join(place.sameFiles.dir, 'data'));
  const copiedLog = await folderBytes(place.sameFiles.transactionsFolder);
  const logs = (await readdir(store.home.transactionsFolder)).length;
  const facts = {
    neo4j: version,
    node: process.version,
    processors: `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}`,
    memoryBytes: totalmem(),
    kernel: release(),
    nodes: store.nodes,
    relationships: store.relationships,
    storeBytes,
    logBytes,
    copiedBytes: sameBytes,
    copiedLogBytes: copiedLog,
    measuredBy,
  };
  say(
    `Neo4j Community ${version}, Node ${process.version}, ${facts.processors}, ${formatBytes(totalmem())} of memory`,
  );
  say(
    `store: ${store.nodes} nodes, ${store.relationships} relationships, ${formatBytes(storeBytes)}; ` +
      `transaction log ${formatBytes(logBytes)} in ${logs} files; server stopped`,
  );
  say(
    `graphkeep copies ${formatBytes(sameBytes)} of it, ${formatBytes(copiedLog)} of that log from the last checkpoint ` +
      'on; tar packs exactly the same bytes, from a restored copy. The stock dump also takes the older log.',
  );
  say(
    'Everything lies on the disk of the checkout, not on a memory file system; the page cache is warm for all.',
  );
  say(
    `Disks are synced before each run. graphkeep syncs what it writes; stock tools and plain tar | zstd do not.`,
  );
  say(`Measured by ${measuredBy}. Whole processes, their start included.`);
  say();
  return facts;
}

async function runBench(options: Options, folder: string): Promise<void> {
  const store = await ensureStore(options.line, options.scale, say);
  const place = await prepareWorkplace(store, folder);
  const facts = await printConditions(options, store, place);
  const missing = options.groups.has('tar') ? await missingTarTools() : undefined;
  if (missing !== undefined) {
    options.groups.delete('tar');
    say(`left out: tar | zstd: ${missing}`);
  }
  const tasks = await tasksOf(place, options.groups);
  if (options.groups.has('differential')) tasks.push(...(await differentialTasks(store, folder, say)));
  const servers = options.groups.has('remote') ? await startServers(place, folder) : {};
  const clients = Object.entries(servers).map(([name, { clientArgs }]) => [name, clientArgs] as const);
  tasks.push(...backupTasks('remote', place.artifacts, Object.fromEntries(clients)));
  const objectStore = options.groups.has('store')
    ? await objectStoreTasks(place, store, folder, say)
    : undefined;
  if (objectStore !== undefined && 'skip' in objectStore) say(`left out: object store: ${objectStore.skip}`);
  else tasks.push(...(objectStore?.tasks ?? []));
  const large = options.groups.has('large') ? await largeTasks(store, folder) : undefined;
  tasks.push(...(large?.tasks ?? []));
  const raws = await measureInTurn(tasks, options.runs);
  await large?.stop();
  if (objectStore !== undefined && 'stop' in objectStore) await objectStore.stop();
  for (const server of Object.values(servers)) await server.stop();
  const measured = await summarize(raws);
  say();
  printMeasured(measured);
  const scan = scanOf(raws);
  if (scan !== undefined) printScan(scan);
  const effects = options.groups.has('server')
    ? await measureEffect(place, folder, options.runs, (text) => say(`  ${text}`))
    : [];
  if (effects.length > 0) printEffect(effects);
  const bars = barsOf(measured, effects);
  printBars(bars);
  await writeResult({
    options: { ...options, groups: [...options.groups] },
    facts,
    measured,
    scan,
    effects,
    bars,
  });
}

async function startServers(place: Workplace, folder: string): Promise<Record<string, BackupServer>> {
  const source = [`--neo4j-home=${place.source.dir}`];
  return {
    [OVER_LOOPBACK]: await startPlainServer(source),
    [OVER_TLS]: await startTlsServer(source, join(folder, 'tls')),
  };
}

async function writeResult(result: object): Promise<void> {
  const date = new Date().toISOString().slice(0, 19).replaceAll(':', '-');
  const file = join(BENCH_FOLDER, `${date}.json`);
  await writeFile(file, `${JSON.stringify(result, undefined, 2)}\n`);
  say(`All runs: ${file}`);
}

async function main(): Promise<void> {
  const options = parseOptions();
  await mkdir(BENCH_FOLDER, { recursive: true });
  const folder = await mkdtemp(join(BENCH_FOLDER, 'work-'));
  const cleanUp = (): void => {
    killRunning();
    rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => process.exit(130));
  }
  process.on('exit', cleanUp);
  await runBench(options, folder);
}

await main();
