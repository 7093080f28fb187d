/**
 * What backups cost a running server: the throughput of a write load in short windows, without a backup and with backups
 * back to back. Each window with backups is compared with the windows without before and after it, since the load slows
 * down by itself as its data grows. Two loads: one whose writers never rest, which takes all that the processors have, so
 * that whatever a backup uses is taken from it; and one of writers that think, as on a server that is not overloaded.
 */
import { spawn } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Load, prepareSchema, startLoad } from '../test/real/harness/load.ts';
import { createHome, type Home, killOnExit, type Server, startServer } from '../test/real/harness/server.ts';
import { median, run } from './measure.ts';
import { startPlainServer } from './remote.ts';
import { graphkeep, type Workplace } from './tasks.ts';

const WARM_UP_MS = 15_000;
const WINDOW_MS = 15_000;
/** As in the demo: more or larger batches would make the writers wait for each other's locks. */
const RESTLESS = { writers: 16, batchWriters: 2, batchSize: 10, vector: false };
const THINKING = { ...RESTLESS, pauseMs: 50 };

export interface Condition {
  readonly name: string;
  readonly load: typeof RESTLESS & { readonly pauseMs?: number };
  /** Through a backup server, which is what then reads beside the database. */
  readonly remote?: boolean;
  readonly args: readonly string[];
}

export const CONDITIONS: readonly Condition[] = [
  { name: 'backups back to back', load: THINKING, args: [] },
  { name: 'over the backup server', load: THINKING, args: [], remote: true },
  { name: 'restless, backups back to back', load: RESTLESS, args: [] },
  { name: 'restless, over the backup server', load: RESTLESS, args: [], remote: true },
  { name: 'restless, with --limit-rate=20M', load: RESTLESS, args: ['--limit-rate=20M'] },
];

export interface EffectWindow {
  readonly condition: string;
  readonly transactionsPerSecond: number;
  readonly beforePerSecond: number;
  readonly afterPerSecond: number;
  readonly ratio: number;
  /** Of the processors' time, before the backups. */
  readonly busyBefore: number;
  readonly backupsFinished: number;
}

export async function measureEffect(
  place: Workplace,
  folder: string,
  runs: number,
  say: (text: string) => void,
): Promise<EffectWindow[]> {
  const { line } = place.source;
  const home = await createHome({
    line,
    dir: join(folder, 'loaded'),
    extraConf: { 'server.memory.pagecache.size': '512m' },
  });
  await run(graphkeep('database', 'restore', `--neo4j-home=${home.dir}`, `--from-path=${place.artifacts}`));
  await using server = await startServer(home);
  await prepareSchema(server, { lucene: false });
  return await measureWindows(home, server, folder, runs, say);
}

async function measureWindows(
  home: Home,
  server: Server,
  folder: string,
  runs: number,
  say: (text: string) => void,
): Promise<EffectWindow[]> {
  const backupServer = await startPlainServer([`--neo4j-home=${home.dir}`]);
  const windows: EffectWindow[] = [];
  let firstWriter = 1;
  for (const [asked, conditions] of Map.groupBy(CONDITIONS, (condition) => condition.load)) {
    const load = startLoad(server, { ...asked, firstWriter });
    firstWriter += asked.writers;
    await sleep(WARM_UP_MS);
    let before = await throughputOf(load);
    for (let number = 0; number < runs * conditions.length; number++) {
      const condition = conditions[number % conditions.length]!;
      const source = condition.remote ? backupServer.clientArgs : [`--neo4j-home=${home.dir}`];
      const backups = startBackups(source, join(folder, 'under-load'), condition);
      const during = await throughputOf(load);
      const backupsFinished = await backups.stop();
      const after = await throughputOf(load);
      const window = {
        condition: condition.name,
        transactionsPerSecond: during.perSecond,
        beforePerSecond: before.perSecond,
        afterPerSecond: after.perSecond,
        ratio: (2 * during.perSecond) / (before.perSecond + after.perSecond),
        busyBefore: before.busy,
        backupsFinished,
      };
      say(describe(window));
      windows.push(window);
      before = after;
    }
    await load.stop();
    if (load.errors.length > 0) throw new Error(`the load failed: ${load.errors.map(String).join('; ')}`);
  }
  await backupServer.stop();
  return windows;
}

function describe(window: EffectWindow): string {
  const { transactionsPerSecond, beforePerSecond, afterPerSecond } = window;
  const [during, before, after] = [transactionsPerSecond, beforePerSecond, afterPerSecond].map(Math.round);
  return `  ${window.condition}: ${during} tx/s, without ${before} and ${after}`;
}

interface Throughput {
  readonly perSecond: number;
  /** 0 to 1, of all processors. */
  readonly busy: number;
}

async function throughputOf(load: Load): Promise<Throughput> {
  load.throughput();
  const begun = processorTimes();
  await sleep(WINDOW_MS);
  const ended = processorTimes();
  return {
    perSecond: load.throughput().transactionsPerSecond,
    busy: 1 - (ended.idleMs - begun.idleMs) / (ended.allMs - begun.allMs),
  };
}

function processorTimes(): { idleMs: number; allMs: number } {
  const times = cpus().map((processor) => processor.times);
  return {
    idleMs: sum(times.map(({ idle }) => idle)),
    allMs: sum(times.flatMap((one) => Object.values(one))),
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** One backup after the other until told to stop; the last one is interrupted as by Ctrl-C. */
function startBackups(
  source: readonly string[],
  folder: string,
  condition: Condition,
): { stop(): Promise<number> } {
  const interrupt = new AbortController();
  const finished = (async () => {
    for (let backups = 0; ; backups++) {
      await rm(folder, { recursive: true, force: true });
      await mkdir(folder);
      if (!(await runBackup(source, folder, condition, interrupt.signal))) return backups;
    }
  })();
  finished.catch(() => undefined); // reported by `stop`
  return {
    stop: () => {
      interrupt.abort();
      return finished;
    },
  };
}

/** @returns false when it was interrupted */
function runBackup(
  source: readonly string[],
  folder: string,
  condition: Condition,
  signal: AbortSignal,
): Promise<boolean> {
  if (signal.aborted) return Promise.resolve(false);
  const base = ['database', 'backup', '--type=full', ...source, `--to-path=${folder}`];
  const { file, args } = graphkeep(...base, ...condition.args, 'neo4j');
  return new Promise((resolve, reject) => {
    // Both exec what they start, so that the signal below reaches the program itself.
    const child = spawn(file, args, { stdio: 'ignore' });
    killOnExit(child);
    const interrupt = (): boolean => child.kill('SIGINT');
    signal.addEventListener('abort', interrupt);
    child.once('error', reject);
    child.once('exit', (code) => {
      signal.removeEventListener('abort', interrupt);
      if (code === 0) resolve(true);
      else if (signal.aborted) resolve(false);
      else reject(new Error(`a backup under load ended with status ${code}`));
    });
  });
}

export function medianRatio(windows: readonly EffectWindow[], condition: string): number | undefined {
  const ratios = windows.filter((window) => window.condition === condition).map((window) => window.ratio);
  return ratios.length === 0 ? undefined : median(ratios);
}
