/** What the processors of this machine have been used for, as Linux counts it: proc_stat(5), getrusage(2). */
import { readFileSync } from 'node:fs';
import { pause } from './pause.ts';

/** Linux counts in these for programs, whatever the machine. */
const TICKS_PER_SECOND = 100;
const PROC_STAT = '/proc/stat';

export interface MachineTimes {
  readonly processors: number;
  /** Of programs at an ordinary priority, and of the system for everybody, in milliseconds since boot. */
  readonly ordinaryMs: number;
  readonly idleMs: number;
  /** Both, and programs of a low priority. */
  readonly allMs: number;
}

export interface OwnTimes {
  readonly userMs: number;
  readonly systemMs: number;
}

export interface ProcessorMeter {
  nowMs(): number;
  /** @throws GK_INTERRUPTED */
  pause(timeMs: number, signal: AbortSignal | undefined): Promise<void>;
  own(): OwnTimes;
  machine(): MachineTimes;
}

/** Undefined where the system does not tell. */
export function processorMeter(): ProcessorMeter | undefined {
  try {
    readMachineTimes();
  } catch {
    return undefined;
  }
  return {
    nowMs: () => performance.now(),
    pause,
    own: readOwnTimes,
    machine: readMachineTimes,
  };
}

function readOwnTimes(): OwnTimes {
  const { user, system } = process.cpuUsage();
  return { userMs: user / 1000, systemMs: system / 1000 };
}

function readMachineTimes(): MachineTimes {
  return parseProcStat(readFileSync(PROC_STAT, 'latin1'));
}

/** @throws Error when there is no line of all processors */
export function parseProcStat(text: string): MachineTimes {
  const fields = /^cpu +(\d+(?: \d+){6})/.exec(text)?.[1]?.split(' ').map(Number);
  if (fields === undefined) throw new Error(`${PROC_STAT} has no line of all processors`);
  const [user, nice, system, idle, waiting, interrupt, softInterrupt] = fields as Ticks;
  const ordinary = user + system + interrupt + softInterrupt;
  const toMs = (ticks: number): number => (ticks * 1000) / TICKS_PER_SECOND;
  return {
    processors: text.match(/^cpu\d/gm)?.length ?? 1,
    ordinaryMs: toMs(ordinary),
    idleMs: toMs(idle + waiting),
    allMs: toMs(ordinary + nice + idle + waiting),
  };
}

/** In the order of the line; stolen time, which follows, is nobody's here. */
type Ticks = [number, number, number, number, number, number, number];
