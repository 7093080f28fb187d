/**
 * Holds a backup to a small share of the processors while other work wants them. A low priority alone does not: on two
 * busy cores a backup at niceness 10 took a fifth of the server's throughput (docs/benchmark.md). Where half of the
 * processors' time is free, nothing is held back.
 */
import {
  CPU_SHARE_ALL,
  PROCESSOR_CREDIT_MS,
  PROCESSOR_DEBT_MS_MAX,
  PROCESSOR_SAMPLE_MS,
  PROCESSOR_WAIT_MS_MAX,
} from '../limits.ts';
import { type MachineTimes, type OwnTimes, type ProcessorMeter, processorMeter } from './processormeter.ts';

/** Others that use less than this leave enough for both. */
const BUSY_SHARE = 0.5;
/** How much a new sample counts beside those before it: a single one is a few ticks. */
const SMOOTHING = 1 / 4;
/** Of the time that nobody else uses: what is taken of it makes the others wait for their turn (docs/benchmark.md). */
const TAKEN_OF_FREE = 1 / 5;

/** Of all processors, 0 to 1. */
interface Shares {
  /** Used by others of an ordinary priority. */
  readonly others: number;
  /** Used by this process or by nobody. */
  readonly free: number;
}

interface Sample {
  readonly atMs: number;
  readonly own: OwnTimes;
  readonly machine: MachineTimes;
}

/** One for each process: what it counts is all that the process does. */
export class ProcessorShare {
  readonly #least: number;
  readonly #meter: ProcessorMeter | undefined;
  #onBusy: (() => void) | undefined;
  #sample: Sample | undefined;
  /** Smoothed, once there is anything to be smoothed. */
  #shares: Shares | undefined;
  /** Processors that may be used at a time; undefined: any number. */
  #allowed: number | undefined;
  /** Processor time that was allowed and not used, or used and not allowed; as of `#countedAtMs` and `#usedMs`. */
  #creditMs = 0;
  #countedAtMs = 0;
  #usedMs = 0;

  /**
   * For a process at a low priority, since its own work must not look like that of others.
   * @param percent of all processors, taken at any rate; 100 holds nothing back
   * @param options.onBusy called once, when others want the processors for the first time
   */
  constructor(percent: number, options: { meter?: ProcessorMeter; onBusy?: () => void } = {}) {
    this.#least = percent / 100;
    this.#meter = percent >= CPU_SHARE_ALL ? undefined : (options.meter ?? processorMeter());
    this.#onBusy = options.onBusy;
    this.#sample = this.#meter === undefined ? undefined : takeSample(this.#meter);
  }

  /** Whether anything may ever be held back. */
  get isUnlimited(): boolean {
    return this.#meter === undefined;
  }

  /** Resolves when this process may go on. @throws GK_INTERRUPTED */
  async wait(signal: AbortSignal | undefined): Promise<void> {
    if (this.#meter === undefined) return;
    this.#look(this.#meter);
    const waitMs = this.#owedMs(this.#meter);
    if (waitMs > 0) await this.#meter.pause(waitMs, signal);
  }

  #look(meter: ProcessorMeter): void {
    const last = this.#sample!;
    if (meter.nowMs() - last.atMs < PROCESSOR_SAMPLE_MS) return;
    const sample = takeSample(meter);
    this.#sample = sample;
    const { others, free } = smooth(this.#shares, sharesBetween(last, sample));
    this.#shares = { others, free };
    const isBusy = others >= BUSY_SHARE;
    if (isBusy && this.#allowed === undefined) this.#begin(sample);
    const share = Math.max(this.#least, free * TAKEN_OF_FREE);
    this.#allowed = isBusy ? share * sample.machine.processors : undefined;
  }

  #begin({ atMs, own }: Sample): void {
    this.#creditMs = 0;
    this.#countedAtMs = atMs;
    this.#usedMs = usedMs(own);
    this.#onBusy?.();
    this.#onBusy = undefined;
  }

  #owedMs(meter: ProcessorMeter): number {
    if (this.#allowed === undefined) return 0;
    const [nowMs, used] = [meter.nowMs(), usedMs(meter.own())];
    const credit = this.#creditMs + (nowMs - this.#countedAtMs) * this.#allowed - (used - this.#usedMs);
    // Neither an idle minute is caught up at full speed, nor a long piece of work that nothing could hold back paid off.
    this.#creditMs = Math.min(PROCESSOR_CREDIT_MS, Math.max(-PROCESSOR_DEBT_MS_MAX, credit));
    this.#countedAtMs = nowMs;
    this.#usedMs = used;
    return Math.min(PROCESSOR_WAIT_MS_MAX, -this.#creditMs / this.#allowed);
  }
}

function takeSample(meter: ProcessorMeter): Sample {
  return { atMs: meter.nowMs(), own: meter.own(), machine: meter.machine() };
}

function sharesBetween(before: Sample, after: Sample): Shares {
  const allMs = after.machine.allMs - before.machine.allMs;
  if (allMs <= 0) return { others: 0, free: 1 };
  const ordinaryMs = after.machine.ordinaryMs - before.machine.ordinaryMs;
  const idleMs = after.machine.idleMs - before.machine.idleMs;
  const ownSystemMs = after.own.systemMs - before.own.systemMs;
  const ownMs = usedMs(after.own) - usedMs(before.own);
  return { others: share(ordinaryMs - ownSystemMs, allMs), free: share(idleMs + ownMs, allMs) };
}

/** The first sample counts at once: a backup of a small database is over soon. */
function smooth(before: Shares | undefined, now: Shares): Shares {
  if (before === undefined) return now;
  const mixed = (old: number, young: number): number => old + (young - old) * SMOOTHING;
  return { others: mixed(before.others, now.others), free: mixed(before.free, now.free) };
}

function share(partMs: number, allMs: number): number {
  return Math.min(1, Math.max(0, partMs / allMs));
}

function usedMs({ userMs, systemMs }: OwnTimes): number {
  return userMs + systemMs;
}
