/**
 * What the demo shows while it works: one line per step, and a live line that redraws itself in a terminal. Elsewhere
 * (a pipe, a CI log) there are no colours and no redrawing, and the live line appears only now and then.
 */
const CLEAR_LINE = '\r\u001b[K';
const PLAIN_LIVE_INTERVAL_MS = 5_000;
const COLUMNS_DEFAULT = 80;

const terminal = process.stdout.isTTY === true;
const coloured = terminal && process.env.NO_COLOR === undefined;

export type Colour = 'green' | 'red' | 'bold' | 'dim';

const CODES: Readonly<Record<Colour, number>> = { green: 32, red: 31, bold: 1, dim: 2 };

export function paint(colour: Colour, text: string): string {
  return coloured ? `\u001b[${CODES[colour]}m${text}\u001b[0m` : text;
}

let liveShown = false;
let plainLiveAtMs = Number.NEGATIVE_INFINITY;

/** Replaces the live line. */
export function live(text: string): void {
  if (terminal) {
    // A line that wraps is not removed by the next redraw.
    process.stdout.write(`${CLEAR_LINE}  ${text}`.slice(0, (process.stdout.columns ?? COLUMNS_DEFAULT) + 2));
    liveShown = true;
    return;
  }
  const now = performance.now();
  if (now - plainLiveAtMs < PLAIN_LIVE_INTERVAL_MS) return;
  plainLiveAtMs = now;
  process.stdout.write(`  ${text}\n`);
}

export function say(text = ''): void {
  if (liveShown) process.stdout.write(CLEAR_LINE);
  liveShown = false;
  process.stdout.write(`${text}\n`);
}

/** Announces a step, and says how long it took when it is done. */
export async function step<Result>(text: string, work: () => Promise<Result>): Promise<Result> {
  const startedMs = performance.now();
  if (terminal) live(`${text} …`);
  const result = await work();
  say(`${paint('dim', '·')} ${text} ${paint('dim', `(${seconds(performance.now() - startedMs)})`)}`);
  return result;
}

export function seconds(durationMs: number): string {
  return `${(durationMs / 1000).toFixed(1)} s`;
}

/** `1,234,567`, whatever the locale of the machine is. */
export function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}
