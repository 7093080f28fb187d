/**
 * What a stock server says about itself in its logs: `neo4j.log`, and `debug.log`, which is text up to 5.26 and one JSON
 * document per line in 2026. Words are looked for, not lines parsed, since both hold the same words.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { isErrno, wrapSystemError } from '../errors.ts';
import { STOCK_LINE_CHARACTERS_SHOWN_MAX, STOCK_LINES_SHOWN_MAX, STOCK_LOG_BYTES_MAX } from '../limits.ts';
import { readFully } from '../storage/local.ts';

/** The text of a log, of a very long one its end; empty when it is not there yet. */
export async function readLog(path: string): Promise<string> {
  let handle: FileHandle;
  try {
    handle = await open(path, 'r');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return '';
    throw wrapSystemError(error, `open ${path}`);
  }
  try {
    const { size } = await handle.stat();
    const content = Buffer.alloc(Math.min(size, STOCK_LOG_BYTES_MAX));
    const got = await readFully(handle, content, size - content.length, path);
    return content.toString('utf8', 0, got);
  } finally {
    await handle.close();
  }
}

/** The server is up, whatever became of its databases. */
export function hasStarted(serverLog: string): boolean {
  return /\bStarted\.\s*$/m.test(serverLog);
}

/** What the server wrote about a database that it could not start, with the causes; undefined when there is none. */
export function startFailureOf(debugLog: string, database: string): string | undefined {
  const begin = new RegExp(`Failed to start DatabaseId\\{[^[}]*\\[${escaped(database)}\\]\\}`);
  const start = begin.exec(debugLog)?.index;
  if (start === undefined) return undefined;
  const rest = debugLog.slice(start);
  // The next entry begins with its time: `2026-11-21 …` or `{"time": …`.
  const end = /\n(?=\d{4}-\d\d-\d\d |\{")/.exec(rest)?.index ?? rest.length;
  return rest.slice(0, end).replaceAll('\\n', '\n').replaceAll('\\t', '\t').replaceAll('\\"', '"');
}

export interface Checkpoints {
  /** Last transaction when recovery was done. */
  readonly recovered: bigint | undefined;
  /** Last transaction when the database was shut down. */
  readonly shutdown: bigint | undefined;
}

export function checkpointsOf(debugLog: string, database: string): Checkpoints {
  return {
    recovered: completedCheckpoint(debugLog, database, 'Recovery completed\\.'),
    shutdown: completedCheckpoint(debugLog, database, 'Database shutdown'),
  };
}

function completedCheckpoint(log: string, database: string, reason: string): bigint | undefined {
  const pattern = new RegExp(
    `\\[${escaped(database)}/[0-9a-f]+\\] Checkpoint triggered by \\\\?"${reason}\\\\?" @ txId: (\\d+), ` +
      'append index: (\\d+) checkpoint completed',
  );
  const appendIndex = pattern.exec(log)?.[2];
  return appendIndex === undefined ? undefined : BigInt(appendIndex);
}

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\-]/g, '\\$&');

/** Places in the code, progress, and rules: nothing that tells a reader what happened. */
const NOISE = /^\s*(at |\.\.\. \d+ more)|^[.\s]*(\d+%)?$|^WARNING: |^-+$/;

/** A few lines for an error message, the end of a log or, of a failure with its causes, the beginning. */
export function lastLines(text: string, which: 'first' | 'last' = 'last'): string {
  const lines = text.split('\n').filter((line) => !NOISE.test(line));
  const shown =
    which === 'first' ? lines.slice(0, STOCK_LINES_SHOWN_MAX) : lines.slice(-STOCK_LINES_SHOWN_MAX);
  return shown.map((line) => `  ${line.slice(0, STOCK_LINE_CHARACTERS_SHOWN_MAX)}`).join('\n');
}
