/**
 * What backups cost a running server: the throughput of a write load while backups run back to back, and while they are
 * stopped for a moment (SIGSTOP), in short windows in turns. Windows that follow each other are compared, since the load
 * slows down by itself as its data grows, and checkpoints and collections come and go: many short pairs tell what two long
 * windows do not. Two loads: one whose writers never rest, which takes all that the processors have, so that whatever a
 * backup uses is taken from it; and one of writers that think, as on a server that is not overloaded.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Load, prepareSchema, startLoad } from '../test/real/harness/load.ts';
import { createHome, type Home, killOnExit, type Server, startServer } from '../test/real/harness/server.ts';
import { run } from './measure.ts';
import { startPlainServer } from './remote.ts';
import { graphkeep, type Workplace } from './tasks.ts';

const WARM_UP_MS = 15_000;
const WINDOW_MS = 4_000;
/** Each is a window with backups and one without: with, without, without, with, so that no drift favours either. */
const PAIRS_PER_RUN = 8;
/** Until a backup has begun to read. */
const BACKUP_START_MS = 4_000;
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

/** Transactions in a second. */
interface Pair {
  readonly withBackups: number;
  readonly without: number;
}

export interface Effect {
  readonly condition: string;
  readonly pairs: readonly Pair[];
  /** Of the processors' time, while backups are stopped. */
  readonly busyWithout: number;
  readonly backupsFinished: number;
}

export async function measureEffect(
  place: Workplace,
  folder: string,
  runs: number,
  say: (text: string) => void,
): Promise<Effect[]> {
  const { line } = place.source;
  const home = await createHome({
    line,
    dir: join(folder, 'loaded'),
    extraConf: { 'server.memory.pagecache.size': '512m' },
  });
  await run(graphkeep('database', 'restore', `--neo4j-home=${home.dir}`, `--from-path=${place.artifacts}`));
  await using server = await startServer(home);
  await prepareSchema(server, { lucene: false });
  return await measureConditions(home, server, folder, runs, say);
}

async function measureConditions(
  home: Home,
  server: Server,
  folder: string,
  runs: number,
  say: (text: string) => void,
): Promise<Effect[]> {
  const backupServer = await startPlainServer([`--neo4j-home=${home.dir}`]);
  const effects: Effect[] = [];
  let firstWriter = 1;
  for (const [asked, conditions] of Map.groupBy(CONDITIONS, (condition) => condition.load)) {
    const load = startLoad(server, { ...asked, firstWriter });
    firstWriter += asked.writers;
    await sleep(WARM_UP_MS);
    for (let number = 0; number < runs * conditions.length; number++) {
      const condition = conditions[number % conditions.length]!;
      const source = condition.remote ? backupServer.clientArgs : [`--neo4j-home=${home.dir}`];
      const backups = startBackups(source, join(folder, 'under-load'), condition);
      const effect = await measurePairs(load, condition, [
        backups,
        ...(condition.remote ? [backupServer] : []),
      ]);
      effects.push({ ...effect, backupsFinished: await backups.stop() });
      say(`${condition.name}: ${ratioText(effectOf(effects.slice(-1), condition.name)!)}`);
    }
    await load.stop();
    if (load.errors.length > 0) throw new Error(`the load failed: ${load.errors.map(String).join('; ')}`);
  }
  await backupServer.stop();
  return effects;
}

interface Pausable {
  pause(): void;
  resume(): void;
}

async function measurePairs(
  load: Load,
  { name }: Condition,
  programs: readonly Pausable[],
): Promise<Omit<Effect, 'backupsFinished'>> {
  await sleep(BACKUP_START_MS);
  const pairs: Pair[] = [];
  const busyWithout: number[] = [];
  const running = async (): Promise<number> => (await throughputOf(load)).perSecond;
  const stopped = async (): Promise<number> => {
    for (const program of programs) program.pause();
    const { perSecond, busy } = await throughputOf(load);
    for (const program of programs) program.resume();
    busyWithout.push(busy);
    return perSecond;
  };
  for (let number = 0; number < PAIRS_PER_RUN; number++) {
    const before = number % 2 === 0 ? await running() : undefined;
    const without = await stopped();
    pairs.push({ withBackups: before ?? (await running()), without });
  }
  return { condition: name, pairs, busyWithout: sum(busyWithout) / busyWithout.length };
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
): Pausable & { stop(): Promise<number> } {
  const interrupt = new AbortController();
  let running: ChildProcess | undefined;
  let isPaused = false;
  const pause = (paused: boolean): void => {
    isPaused = paused;
    running?.kill(paused ? 'SIGSTOP' : 'SIGCONT');
  };
  const finished = (async () => {
    for (let backups = 0; ; backups++) {
      await rm(folder, { recursive: true, force: true });
      await mkdir(folder);
      if (interrupt.signal.aborted) return backups;
      running = spawnBackup(source, folder, condition);
      if (isPaused) running.kill('SIGSTOP');
      if (!(await endOf(running, interrupt.signal))) return backups;
    }
  })();
  finished.catch(() => undefined); // reported by `stop`
  return {
    pause: () => pause(true),
    resume: () => pause(false),
    stop: () => {
      interrupt.abort();
      return finished;
    },
  };
}

function spawnBackup(source: readonly string[], folder: string, condition: Condition): ChildProcess {
  const base = ['database', 'backup', '--type=full', ...source, `--to-path=${folder}`];
  const { file, args } = graphkeep(...base, ...condition.args, 'neo4j');
  // Both exec what they start, so that signals reach the program itself.
  const child = spawn(file, args, { stdio: 'ignore' });
  killOnExit(child);
  return child;
}

/** @returns false when it was interrupted */
function endOf(child: ChildProcess, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve, reject) => {
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

export interface Ratio {
  /** Of the throughput without backups. */
  readonly mean: number;
  /** Of the mean, by the scatter of the pairs. */
  readonly standardError: number;
}

/** Over all runs; undefined when it was not measured. */
export function effectOf(effects: readonly Effect[], condition: string): Ratio | undefined {
  const pairs = effects.filter((effect) => effect.condition === condition).flatMap((effect) => effect.pairs);
  if (pairs.length === 0) return undefined;
  const mean = sum(pairs.map((pair) => pair.withBackups)) / sum(pairs.map((pair) => pair.without));
  const squares = pairs.map(({ withBackups, without }) => (withBackups / without - mean) ** 2);
  return { mean, standardError: Math.sqrt(sum(squares) / (pairs.length - 1) / pairs.length) };
}

export function ratioText({ mean, standardError }: Ratio): string {
  return `${mean.toFixed(3)} ± ${standardError.toFixed(3)}`;
}
