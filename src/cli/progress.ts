/**
 * Progress on stderr: one line that redraws itself in a terminal, a plain line now and then elsewhere (cron mail, a
 * log file), nothing at all when a program reads the output. It owns the current line of the terminal: notes go
 * through it, because a text printed beside it would be torn by the next redraw.
 */
import type { ProgressListener } from '../operations/types.ts';
import { type OutputStream, writeLine } from './context.ts';
import { formatBytes } from './render.ts';

const REDRAW_INTERVAL_MS = 100;
const PLAIN_INTERVAL_MS = 30_000;
const PLAIN_STEP_PERCENT = 10;
/** Work that is over at once should not fill a mail; this also holds for its first line. */
const PLAIN_QUIET_MS = 2000;
/** The rate is that of the last seconds, since a total average hides that a disk got slow. */
const RATE_WINDOW_MS = 5000;
const BAR_CELLS = 24;
const COLUMNS_DEFAULT = 80;
const CLEAR_LINE = '\r\u001b[K';

export interface ProgressOptions {
  readonly stream: OutputStream;
  /** false: neither progress nor notes are printed; notes are only collected. */
  readonly enabled: boolean;
  readonly label: string;
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number;
}

export interface Progress extends ProgressListener {
  readonly notices: readonly string[];
  /** Removes the bar; to be called before anything else is printed. */
  finish(): void;
}

interface ProgressEvent {
  phase: string;
  doneBytes: number;
  totalBytes: number;
}

export function createProgress(options: ProgressOptions): Progress {
  const now = options.now ?? (() => performance.now());
  const notices: string[] = [];
  const terminal = options.stream.isTTY === true;
  const draw = !options.enabled
    ? undefined
    : terminal
      ? terminalDrawer(options)
      : plainDrawer(options, now());
  let phase: string | undefined;
  let rate = createRate();
  return {
    notices,
    progress(event) {
      if (draw === undefined) return;
      if (event.phase !== phase) {
        phase = event.phase;
        rate = createRate();
      }
      const time = now();
      draw.event(event, rate.add(time, event.doneBytes), time);
    },
    notice(text) {
      notices.push(text);
      if (!options.enabled) return;
      draw?.clear();
      writeLine(options.stream, `note: ${text}`);
    },
    finish() {
      draw?.clear();
    },
  };
}

interface Drawer {
  event(event: ProgressEvent, bytesPerSecond: number | undefined, timeMs: number): void;
  clear(): void;
}

function terminalDrawer(options: ProgressOptions): Drawer {
  let drawnAtMs = Number.NEGATIVE_INFINITY;
  let visible = false;
  return {
    event(event, bytesPerSecond, timeMs) {
      const complete = event.doneBytes >= event.totalBytes;
      if (timeMs - drawnAtMs < REDRAW_INTERVAL_MS && !complete) return;
      drawnAtMs = timeMs;
      visible = true;
      const columns = options.stream.columns ?? COLUMNS_DEFAULT;
      // A line that wraps is not removed by the next redraw, so it is cut one short of the width.
      options.stream.write(CLEAR_LINE + barLine(options.label, event, bytesPerSecond).slice(0, columns - 1));
    },
    clear() {
      if (visible) options.stream.write(CLEAR_LINE);
      visible = false;
    },
  };
}

function plainDrawer(options: ProgressOptions, startedAtMs: number): Drawer {
  let phase: string | undefined;
  let printedPercent = 0;
  let printedAtMs = startedAtMs;
  return {
    event(event, bytesPerSecond, timeMs) {
      if (event.phase !== phase) {
        phase = event.phase;
        printedPercent = 0;
      }
      const percent = percentOf(event);
      const step =
        percent - printedPercent >= PLAIN_STEP_PERCENT || (percent === 100 && printedPercent < 100);
      if (timeMs - printedAtMs < (step ? PLAIN_QUIET_MS : PLAIN_INTERVAL_MS)) return;
      printedPercent = percent;
      printedAtMs = timeMs;
      const rate = bytesPerSecond === undefined ? '' : `, ${formatBytes(bytesPerSecond)}/s`;
      writeLine(options.stream, `${options.label}: ${event.phase} ${percent}% (${amount(event)}${rate})`);
    },
    clear() {},
  };
}

/** `neo4j copy [#####-------] 42%  203 MiB of 484 MiB  312 MiB/s  0:01 left` */
function barLine(label: string, event: ProgressEvent, bytesPerSecond: number | undefined): string {
  const percent = percentOf(event);
  const filled = Math.floor((percent * BAR_CELLS) / 100);
  const bar = '#'.repeat(filled) + '-'.repeat(BAR_CELLS - filled);
  const parts = [`${label} ${event.phase} [${bar}] ${percent}%`, amount(event)];
  if (bytesPerSecond !== undefined && bytesPerSecond > 0) {
    parts.push(`${formatBytes(bytesPerSecond)}/s`);
    const leftSeconds = Math.ceil(Math.max(0, event.totalBytes - event.doneBytes) / bytesPerSecond);
    if (leftSeconds > 0) parts.push(`${formatClock(leftSeconds)} left`);
  }
  return parts.join('  ');
}

function percentOf(event: ProgressEvent): number {
  if (event.totalBytes <= 0) return event.doneBytes > 0 ? 100 : 0;
  return Math.min(100, Math.floor((event.doneBytes * 100) / event.totalBytes));
}

function amount(event: ProgressEvent): string {
  return `${formatBytes(event.doneBytes)} of ${formatBytes(event.totalBytes)}`;
}

function formatClock(seconds: number): string {
  const minutes = Math.floor(seconds / 60);
  const rest = String(seconds % 60).padStart(2, '0');
  if (minutes < 60) return `${minutes}:${rest}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, '0')}:${rest}`;
}

interface RateMeter {
  /** Bytes per second of the last window; undefined until there is something to divide by. */
  add(timeMs: number, doneBytes: number): number | undefined;
}

/** Two marks half a window apart are enough for a moving rate and cost nothing per event. */
function createRate(): RateMeter {
  let older: { timeMs: number; doneBytes: number } | undefined;
  let newer: { timeMs: number; doneBytes: number } | undefined;
  return {
    add(timeMs, doneBytes) {
      // An attempt that began anew counts from zero again.
      if (older === undefined || newer === undefined || doneBytes < newer.doneBytes) {
        older = { timeMs, doneBytes };
        newer = older;
        return undefined;
      }
      if (timeMs - newer.timeMs >= RATE_WINDOW_MS / 2) {
        older = newer;
        newer = { timeMs, doneBytes };
      }
      const elapsedMs = timeMs - older.timeMs;
      return elapsedMs <= 0 ? undefined : ((doneBytes - older.doneBytes) * 1000) / elapsedMs;
    },
  };
}
