/**
 * Values → text: sizes, durations, tables, JSON, errors. Pure functions; nothing here writes to a stream.
 */
import type { GraphkeepError } from '../errors.ts';
import type { PlaceResult } from '../operations/types.ts';

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/** `1.5 GiB`: three digits at most, because more are noise to a reader. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1023.5 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1;
  return `${value.toFixed(digits)} ${BYTE_UNITS[unit]}`;
}

/** `850 ms`, `12.3 s`, `4 min 05 s`, `2 h 10 min`. */
export function formatDuration(durationMs: number): string {
  if (durationMs < 1000) return `${Math.round(durationMs)} ms`;
  if (durationMs < 60_000) return `${(durationMs / 1000).toFixed(1)} s`;
  const seconds = Math.round(durationMs / 1000);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${String(seconds % 60).padStart(2, '0')} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

/** Whole seconds without zone, as `neo4j-admin` prints them; the column says that it is UTC. */
export function formatTime(time: Date | undefined): string {
  if (time === undefined) return 'unknown';
  return time.toISOString().slice(0, 'yyyy-MM-ddTHH:mm:ss'.length);
}

export function countOf(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** Where an artifact is; of several places, those that were left out as well. */
export function placeLines(result: {
  readonly artifactPath: string;
  readonly places?: readonly PlaceResult[];
}): string[] {
  const others = (result.places ?? []).filter(({ artifactPath }) => artifactPath !== result.artifactPath);
  return [
    `  file          ${result.artifactPath}`,
    ...others.map(({ directory, artifactPath, error }) =>
      artifactPath === undefined
        ? `  NOT IN        ${directory}: ${error?.message}`
        : `  and           ${artifactPath}`,
    ),
  ];
}

/** Pipe table with right-aligned cells and no rule below the header, as `neo4j-admin backup inspect` prints it. */
export function renderTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [header, ...rows];
  const widths = header.map((_title, column) =>
    Math.max(...lines.map((cells) => [...(cells[column] ?? '')].length)),
  );
  return lines
    .map((cells) => {
      const padded = widths.map((width, column) => alignRight(cells[column] ?? '', width));
      return `| ${padded.join(' | ')} |\n`;
    })
    .join('');
}

function alignRight(text: string, width: number): string {
  return ' '.repeat(Math.max(0, width - [...text].length)) + text;
}

/** JSON with transaction ids as numbers while they are exact, as strings beyond 2^53. */
export function renderJson(value: unknown): string {
  return `${JSON.stringify(value, replaceBigint, 2)}\n`;
}

function replaceBigint(_key: string, value: unknown): unknown {
  if (typeof value !== 'bigint') return value;
  const exact = value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER);
  return exact ? Number(value) : value.toString();
}

export interface ErrorFields {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
  readonly exitStatus: number;
}

export function errorFields(error: GraphkeepError): ErrorFields {
  return { code: error.code, message: error.message, hint: error.hint, exitStatus: error.exitStatus };
}

/** `subject` names the database when the command works on several. */
export function renderError(error: GraphkeepError, options: { verbose: boolean; subject?: string }): string {
  const subject = options.subject === undefined ? '' : `${options.subject}: `;
  const text = `error: ${subject}${error.message}\nhint: ${error.hint}\n`;
  return options.verbose ? `${text}${renderStack(error)}` : text;
}

/** A chain of causes can be a circle; nobody reads more than this of it. */
const CAUSES_MAX = 10;

function renderStack(error: Error): string {
  let text = '';
  let current: unknown = error;
  for (let depth = 0; depth < CAUSES_MAX && current instanceof Error; depth += 1) {
    text += `${depth === 0 ? '' : 'caused by: '}${current.stack ?? current.message}\n`;
    current = current.cause;
  }
  return text;
}
