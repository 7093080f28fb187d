/**
 * Runs one process and says what it cost: wall time, CPU time of it and its children, and the peak resident memory.
 * The figures come from GNU time where it is installed; without it only the wall time and the peak of the process
 * itself are known.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const GNU_TIME = '/usr/bin/time';
const SAMPLE_INTERVAL_MS = 10;

export interface Sample {
  readonly wallMs: number;
  readonly cpuMs: number | undefined;
  /** Of the largest process, when there are several. */
  readonly peakBytes: number | undefined;
}

export interface Command {
  readonly file: string;
  readonly args: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

export interface Finished {
  readonly sample: Sample;
  readonly stdout: string;
}

export const measuredBy = existsSync(GNU_TIME)
  ? 'GNU time (wall clock, user + system time, maximum resident set size)'
  : 'wall clock and VmHWM of /proc (GNU time is not installed: apt-get install time)';

const running = new Set<ChildProcess>();

/** Each command has a process group of its own, so that its children end with it. */
export function killRunning(): void {
  for (const child of running) {
    if (child.pid === undefined) continue;
    try {
      process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It has ended meanwhile.
    }
  }
}

/** @throws when the process does not end with status 0 */
export async function measure(command: Command): Promise<Finished> {
  if (!existsSync(GNU_TIME)) return measureBySampling(command);
  const folder = await mkdtemp(join(tmpdir(), 'graphkeep-time-'));
  try {
    const report = join(folder, 'report');
    const args = ['-f', '%U %S %M', '-o', report, command.file, ...command.args];
    const { wallMs, stdout } = await run({ ...command, file: GNU_TIME, args });
    const [user = 0, system = 0, peakKib = 0] = (await readFile(report, 'utf8'))
      .trim()
      .split(' ')
      .map(Number);
    return { sample: { wallMs, cpuMs: (user + system) * 1000, peakBytes: peakKib * 1024 }, stdout };
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function measureBySampling(command: Command): Promise<Finished> {
  let peakBytes: number | undefined;
  let timer: NodeJS.Timeout | undefined;
  const { wallMs, stdout } = await run(command, (pid) => {
    timer = setInterval(() => {
      peakBytes = peakOf(pid) ?? peakBytes;
    }, SAMPLE_INTERVAL_MS);
  }).finally(() => clearInterval(timer));
  return { sample: { wallMs, cpuMs: undefined, peakBytes }, stdout };
}

function peakOf(pid: number): number | undefined {
  try {
    const kib = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return kib === undefined ? undefined : Number(kib) * 1024;
  } catch {
    return undefined;
  }
}

export function run(
  command: Command,
  onStart: (pid: number) => void = () => {},
): Promise<{ wallMs: number; stdout: string }> {
  const startedMs = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(command.file, command.args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...command.environment },
      detached: true,
      ...(command.cwd === undefined ? {} : { cwd: command.cwd }),
    });
    running.add(child);
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.once('spawn', () => onStart(child.pid ?? 0));
    child.once('error', reject);
    child.once('close', (code, signal) => {
      running.delete(child);
      if (code === 0) resolve({ wallMs: performance.now() - startedMs, stdout });
      else
        reject(
          new Error(`${[command.file, ...command.args].join(' ')}: ${code ?? signal}\n${stdout}${stderr}`),
        );
    });
  });
}

/** So that what one process has left to be written does not slow the next one down. */
export function settleDisk(): void {
  execFileSync('sync');
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((left, right) => left - right);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 1 ? sorted[Math.floor(middle)]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
