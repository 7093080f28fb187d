/**
 * What backups cost a running server: the throughput of a write load in short windows, without a backup, with backups
 * back to back, and with one that is held to a rate. Each window with backups is compared with the windows without
 * before and after it, since the load slows down by itself as its data grows.
 */
import { spawn } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Load, prepareSchema, startLoad } from '../test/real/harness/load.ts';
import { createHome, type Home, killOnExit, type Server, startServer } from '../test/real/harness/server.ts';
import { median, run } from './measure.ts';
import { startPlainServer } from './remote.ts';
import { graphkeep, type Workplace } from './tasks.ts';

const WARM_UP_MS = 15_000;
const WINDOW_MS = 10_000;
/** As in the demo: more or larger batches would make the writers wait for each other's locks. */
const LOAD = { writers: 16, batchWriters: 2, batchSize: 10, vector: false };

export interface Condition {
  readonly name: string;
  /** Through a backup server, which is what then reads beside the database. */
  readonly remote?: boolean;
  readonly args: readonly string[];
}

export const CONDITIONS: readonly Condition[] = [
  { name: 'backups back to back', args: [] },
  { name: 'over the backup server', args: [], remote: true },
  { name: 'with --limit-rate=20M', args: ['--limit-rate=20M'] },
];

export interface EffectWindow {
  readonly condition: string;
  readonly transactionsPerSecond: number;
  readonly beforePerSecond: number;
  readonly afterPerSecond: number;
  readonly ratio: number;
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
  const backupServer = await startPlainServer(home);
  const load = startLoad(server, LOAD);
  await sleep(WARM_UP_MS);
  const windows: EffectWindow[] = [];
  let before = await throughputOf(load);
  for (let number = 0; number < runs * CONDITIONS.length; number++) {
    const condition = CONDITIONS[number % CONDITIONS.length]!;
    const backups = startBackups(
      condition.remote ? backupServer.clientArgs : [`--neo4j-home=${home.dir}`],
      join(folder, 'under-load'),
      condition,
    );
    const during = await throughputOf(load);
    const backupsFinished = await backups.stop();
    const after = await throughputOf(load);
    const window = {
      condition: condition.name,
      transactionsPerSecond: during,
      beforePerSecond: before,
      afterPerSecond: after,
      ratio: (2 * during) / (before + after),
      backupsFinished,
    };
    say(`${condition.name}: ${during.toFixed(0)} tx/s, without ${before.toFixed(0)} and ${after.toFixed(0)}`);
    windows.push(window);
    before = after;
  }
  await load.stop();
  await backupServer.stop();
  if (load.errors.length > 0) throw new Error(`the load failed: ${load.errors.map(String).join('; ')}`);
  return windows;
}

async function throughputOf(load: Load): Promise<number> {
  load.throughput();
  await sleep(WINDOW_MS);
  return load.throughput().transactionsPerSecond;
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
