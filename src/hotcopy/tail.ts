/**
 * The tail: the log from the fence to the last complete transaction, read after the last store byte.
 * Source: formats.md §2.8, §9.2.
 *
 * A log that ends too early is not noticed by Neo4j and is silent corruption; so every transaction is proven by its
 * checksum and must follow the one before it, across files, and anything that is not explained fails the backup.
 */
import type { FileHandle } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { ContinuityCheck, damagedLog, type KnownTransaction, namedBy } from '../chain/continuity.ts';
import { GraphkeepError, throwIfAborted } from '../errors.ts';
import { isSameStore, type StoreId } from '../formats/storeid.ts';
import type { LogPosition } from '../formats/txlog/checkpoint.ts';
import { LOG_HEADER_BYTES, type LogHeader, parseLogHeader } from '../formats/txlog/header.ts';
import { type LogTransaction, type ParseStep, TransactionParser } from '../formats/txlog/transactions.ts';
import {
  LOG_COMMAND_BYTES_MAX,
  LOG_WINDOW_BYTES,
  TAIL_REREAD_DELAY_MS,
  TAIL_REREADS_MAX,
  ZERO_TAIL_SAMPLE_BYTES,
  ZERO_TAIL_STRIDE_BYTES,
  ZERO_TAIL_WHOLE_BYTES,
} from '../limits.ts';
import { readFully } from '../storage/local.ts';
import { type Fence, namingLogFile } from './fence.ts';
import type { PinnedLog } from './logpins.ts';
import { readCommitBefore } from './namedtransaction.ts';

export interface TailFile extends PinnedLog {
  /** Where its transactions begin that recovery needs: the fence in the first file, the end of the header in others. */
  readonly startBytes: number;
  /** End of its last complete transaction: nothing behind it is copied. */
  readonly endBytes: number;
}

/** What is known of a tail wherever it was read. */
export interface TailFacts {
  /** Append index of the last transaction before the fence's position. */
  readonly appendIndexBefore: bigint;
  /** Last transaction of the log; that of the fence when none came after it. */
  readonly highestAppendIndex: bigint;
  readonly highestChecksum: number;
  /** Latest commit time up to the highest transaction, as far as the log from the fence on shows it. */
  readonly latestCommitMillis: bigint;
  readonly transactions: bigint;
  /** Where the last transaction ends in the log of the server: the place where a later differential looks for it. */
  readonly end: LogPosition;
}

export interface Tail extends TailFacts {
  readonly files: readonly TailFile[];
}

/** Where a tail begins: a position, and the transaction that lies before it or that the walk from there must pass. */
export interface TailStart {
  readonly position: LogPosition;
  readonly named: KnownTransaction;
}

export function tailStartOf({ checkpoint }: Fence): TailStart {
  return { position: checkpoint.position, named: namedBy(checkpoint) };
}

/**
 * Scans the pinned files from a position on; of a full backup, call it only after the last store byte was read.
 * @throws GK_SOURCE_MOVED when a file in between is not there, GK_STORE_DAMAGED, GK_UNSUPPORTED
 */
export async function readTail(
  pins: readonly PinnedLog[],
  start: TailStart,
  storeId: StoreId,
  signal?: AbortSignal,
): Promise<Tail> {
  const { position, named } = start;
  const continuity = new ContinuityCheck(named);
  const files: TailFile[] = [];
  let expectedVersion = position.logVersion;
  for (const [number, pin] of pins.entries()) {
    const isNewest = number === pins.length - 1;
    let header = await readHeader(pin, storeId);
    if (header === undefined && isNewest && files.length > 0) {
      // A file that rotation has made and not yet begun: the log ends with the file before it.
      if (await isZeroFrom(pin.handle, 0)) break;
      // Begun between the two looks: a header comes before everything else.
      header = await readHeader(pin, storeId);
    }
    checkVersion(pin, header, expectedVersion, continuity, files.length > 0);
    expectedVersion += 1n;
    const startBytes = files.length === 0 ? Number(position.offsetBytes) : LOG_HEADER_BYTES;
    const end = await scanToEnd(pin, startBytes, isNewest, continuity, signal);
    files.push({ ...pin, startBytes, endBytes: end });
  }
  if (files.length === 0) {
    throw new GraphkeepError(
      'GK_SOURCE_MOVED',
      `log file ${position.logVersion}, which the checkpoint needs, is gone`,
    );
  }
  continuity.requireFence();
  await requireNamedBefore(files[0]!, start, continuity.count === 0n);
  return {
    files,
    appendIndexBefore: continuity.appendIndex - continuity.count,
    highestAppendIndex: continuity.appendIndex,
    highestChecksum: continuity.checksum,
    latestCommitMillis: continuity.latestCommitMillis,
    transactions: continuity.count,
    end: endOf(files),
  };
}

function endOf(files: readonly TailFile[]): LogPosition {
  const last = files.findLast((file) => file.endBytes > LOG_HEADER_BYTES) ?? files[0]!;
  return { logVersion: last.version, offsetBytes: BigInt(last.endBytes) };
}

/**
 * What ends at the fence's position. When nothing comes after it, it must be the transaction that the checkpoint names:
 * otherwise the log has lost its end, and the empty tail would pass for an idle server. When something comes after it, it
 * may be an earlier transaction, but not another one of the same number.
 */
async function requireNamedBefore(file: TailFile, start: TailStart, isLast: boolean): Promise<void> {
  const { position, named } = start;
  const { transactionId, checksum, appendIndex } = named;
  const offset = Number(position.offsetBytes);
  if (offset === LOG_HEADER_BYTES) {
    const header = await readFileHeader(file);
    if (!isLast || header?.previousAppendIndex === appendIndex) return;
  } else {
    const commit = await readCommitBefore(file, offset);
    const isNamed = commit?.transactionId === transactionId;
    if (isNamed ? commit.checksum === checksum : !isLast) return;
  }
  throw damagedLog(
    `${file.name} does not hold transaction ${appendIndex}, which the checkpoint names, before byte ${offset}`,
  );
}

async function readFileHeader(pin: PinnedLog): Promise<LogHeader | undefined> {
  const bytes = Buffer.alloc(LOG_HEADER_BYTES);
  const got = await readFully(pin.handle, bytes, 0, pin.name);
  return got < LOG_HEADER_BYTES ? undefined : namingLogFile(pin.name, () => parseLogHeader(bytes));
}

export async function readHeader(pin: PinnedLog, storeId: StoreId): Promise<LogHeader | undefined> {
  const header = await readFileHeader(pin);
  if (header?.storeId !== undefined && !isSameStore(header.storeId, storeId)) {
    throw new GraphkeepError(
      'GK_STORE_DAMAGED',
      `${pin.name} belongs to another store than the store files`,
      {
        hint: 'the two folders of the database do not fit together; Neo4j would refuse them, too',
      },
    );
  }
  return header;
}

function checkVersion(
  pin: PinnedLog,
  header: LogHeader | undefined,
  expectedVersion: bigint,
  continuity: ContinuityCheck,
  followsFile: boolean,
): void {
  if (pin.version !== expectedVersion) {
    throw new GraphkeepError(
      'GK_SOURCE_MOVED',
      `log file ${expectedVersion} was pruned before it could be read`,
    );
  }
  if (header === undefined || header.logVersion !== pin.version) {
    throw new GraphkeepError(
      'GK_STORE_DAMAGED',
      `${pin.name} does not begin with the header of log ${pin.version}`,
    );
  }
  // Before the first transaction was seen, the file may begin earlier than the one the checkpoint names.
  const fits =
    continuity.count === 0n
      ? header.previousAppendIndex <= continuity.appendIndex
      : header.previousAppendIndex === continuity.appendIndex;
  if (followsFile && !fits) {
    throw damagedLog(
      `${pin.name} follows transaction ${header.previousAppendIndex}, but the log before it ends at ${continuity.appendIndex}`,
    );
  }
}

/** Offset just after the last complete transaction of a file. */
async function scanToEnd(
  pin: PinnedLog,
  startBytes: number,
  isNewest: boolean,
  continuity: ContinuityCheck,
  signal: AbortSignal | undefined,
): Promise<number> {
  let endBytes = startBytes;
  for (let reread = 0; ; reread++) {
    const scan = await scanTransactions(
      pin.handle,
      endBytes,
      (transaction) => {
        continuity.accept(transaction);
        endBytes = transaction.endBytes;
      },
      signal,
    );
    // Only the newest file may end inside a transaction: one that was being written, or that a crash cut short.
    const endsHere = isNewest || scan.reachedBytes === endBytes;
    if (endsHere && (await isZeroFrom(pin.handle, scan.reachedBytes))) return endBytes;
    // On a live server the last transaction may be half written at this moment; damage stays as it is.
    if (reread >= TAIL_REREADS_MAX) throw damaged(pin, endBytes, scan.reason);
    await sleep(TAIL_REREAD_DELAY_MS);
  }
}

function damaged(pin: PinnedLog, offset: number, reason: string | undefined): GraphkeepError {
  return new GraphkeepError(
    'GK_STORE_DAMAGED',
    `${pin.name} cannot be read from byte ${offset} on: ${reason ?? 'it ends inside a transaction'}`,
  );
}

interface Scan {
  readonly status: ParseStep['status'] | 'endOfFile';
  readonly reason: string | undefined;
  /** How far the reader came; for `endOfFile` the size of the file. */
  readonly reachedBytes: number;
}

/** Feeds a file to the parser in windows, which grow only for a command that is larger than one. */
export async function scanTransactions(
  handle: FileHandle,
  startBytes: number,
  onTransaction: (transaction: LogTransaction) => void,
  signal?: AbortSignal,
): Promise<Scan> {
  const parser = new TransactionParser(startBytes, onTransaction);
  let window = Buffer.allocUnsafe(LOG_WINDOW_BYTES);
  for (;;) {
    throwIfAborted(signal);
    const got = await readFully(handle, window, parser.offsetBytes, 'a log file');
    const step = parser.parse(window.subarray(0, got));
    if (step.status !== 'more') {
      const reachedBytes = step.reachedBytes ?? parser.offsetBytes;
      return { status: step.status, reason: step.reason, reachedBytes };
    }
    if (got < window.length) {
      return {
        status: 'endOfFile',
        reason: undefined,
        reachedBytes: parser.offsetBytes - step.consumedBytes + got,
      };
    }
    if (step.consumedBytes === 0) {
      if (window.length >= LOG_COMMAND_BYTES_MAX) {
        return {
          status: 'torn',
          reason: 'a log command is impossibly long',
          reachedBytes: parser.offsetBytes,
        };
      }
      window = Buffer.allocUnsafe(window.length * 2);
    }
  }
}

const ZEROS = Buffer.alloc(LOG_WINDOW_BYTES);
/** One after the other, a thousand samples of a log at rest take a tenth of a second, most of it spent waiting. */
const SAMPLES_AT_ONCE = 32;

/**
 * Whether only zeros follow: the tail of a preallocated file, or a last transaction that was never finished. The next
 * 16 MiB are read whole, the rest in samples: reading all of a tail of 256 MiB would take longer than the backup of a
 * small database and push that much out of the page cache, while a log that goes on behind such a gap goes on for long.
 */
async function isZeroFrom(handle: FileHandle, startBytes: number): Promise<boolean> {
  const window = Buffer.allocUnsafe(LOG_WINDOW_BYTES);
  const isZero = async (position: number, piece: Buffer): Promise<boolean | 'end'> => {
    const got = await readFully(handle, piece, position, 'a log file');
    if (!piece.subarray(0, got).equals(ZEROS.subarray(0, got))) return false;
    return got < piece.length ? 'end' : true;
  };
  const wholeUntil = startBytes + ZERO_TAIL_WHOLE_BYTES;
  let position = startBytes;
  for (; position < wholeUntil; position += LOG_WINDOW_BYTES) {
    const zero = await isZero(position, window);
    if (zero !== true) return zero === 'end';
  }
  for (; ; position += SAMPLES_AT_ONCE * ZERO_TAIL_STRIDE_BYTES) {
    const samples = Array.from({ length: SAMPLES_AT_ONCE }, (_, number) => {
      const start = number * ZERO_TAIL_SAMPLE_BYTES;
      const piece = window.subarray(start, start + ZERO_TAIL_SAMPLE_BYTES);
      return isZero(position + number * ZERO_TAIL_STRIDE_BYTES, piece);
    });
    const zeros = await Promise.all(samples);
    if (zeros.includes(false)) return false;
    if (zeros.includes('end')) return true;
  }
}
