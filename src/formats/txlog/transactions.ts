/**
 * Reads transactions out of log bytes, in the order they were appended, and proves each with its checksum.
 * Source: formats.md §2.3, §2.8. The parser is fed piece by piece and keeps no bytes: memory stays flat
 * whatever a transaction's size, except that one command must fit the caller's buffer.
 */
import { crc32c } from '@node-rs/crc32';
import { LogEntryError, NEED_MORE, skipCommand } from './commands.ts';
import {
  isKnownKernelVersion,
  KERNEL_VERSION_5_20,
  KERNEL_VERSION_2025_05,
  KERNEL_VERSION_2026_06,
} from './kernelversion.ts';

const ENTRY_START = 1;
const ENTRY_COMMAND = 3;
const ENTRY_COMMIT = 5;
export const COMMIT_ENTRY_BYTES = 22;
/** Readers of Neo4j refuse more, too. */
const ADDITIONAL_HEADER_BYTES_MAX = 8;

export interface LogTransaction {
  readonly transactionId: bigint;
  readonly appendIndex: bigint;
  readonly commitTimeMillis: bigint;
  readonly checksum: number;
  /** Checksum of the transaction before it; only logs of 5.20 to 2025.04 carry it. */
  readonly previousChecksum: number | undefined;
  readonly kernelVersion: number;
  /** Offsets in the log file: the start entry's first byte, and just after the commit entry. */
  readonly startBytes: number;
  readonly endBytes: number;
}

/**
 * `more`: all given bytes up to `consumedBytes` were read, feed the rest again with what follows.
 * `end`: a zero byte where a transaction would start: the tail of a preallocated file.
 * `torn`: what follows the last complete transaction cannot be read as one.
 */
export type ParseStatus = 'more' | 'end' | 'torn';

export interface ParseStep {
  readonly status: ParseStatus;
  readonly consumedBytes: number;
  /** For `torn`: why, and the file offset that the reader had reached. */
  readonly reason?: string;
  readonly reachedBytes?: number;
}

interface StartEntry {
  readonly appendIndex: bigint;
  readonly previousChecksum: number | undefined;
  readonly kernelVersion: number;
  readonly startBytes: number;
}

export class TransactionParser {
  readonly #onTransaction: (transaction: LogTransaction) => void;
  readonly #onCommand: ((command: Buffer) => void) | undefined;
  /** File offset of the next byte to be given. */
  #offsetBytes: number;
  #open: StartEntry | undefined;
  #checksum = 0;

  /** @param onCommand given each storage command, from its code on, before the transaction that it belongs to is proven */
  constructor(
    offsetBytes: number,
    onTransaction: (transaction: LogTransaction) => void,
    onCommand?: (command: Buffer) => void,
  ) {
    this.#offsetBytes = offsetBytes;
    this.#onTransaction = onTransaction;
    this.#onCommand = onCommand;
  }

  /** File offset up to which entries were read. */
  get offsetBytes(): number {
    return this.#offsetBytes;
  }

  /** True between a start entry and its commit: a log that ends here ends in a torn transaction. */
  get insideTransaction(): boolean {
    return this.#open !== undefined;
  }

  /** Reads as many entries as `bytes` holds completely. The first byte is the one at `offsetBytes` of the file. */
  parse(bytes: Buffer): ParseStep {
    let cursor = 0;
    let checksumFrom = 0;
    const leave = (step: ParseStep): ParseStep => {
      if (this.#open !== undefined)
        this.#checksum = crc32c(bytes.subarray(checksumFrom, cursor), this.#checksum);
      this.#offsetBytes += cursor;
      return step;
    };
    try {
      for (;;) {
        const kernelVersion = bytes[cursor];
        const entryType = bytes[cursor + 1];
        if (kernelVersion === 0) {
          return this.#open === undefined
            ? leave({ status: 'end', consumedBytes: cursor })
            : this.#torn(cursor, 'the data ends inside a transaction');
        }
        if (kernelVersion === undefined || entryType === undefined) {
          return leave({ status: 'more', consumedBytes: cursor });
        }
        this.#expectEntry(kernelVersion, entryType, cursor);
        const next = this.#entryEnd(bytes, cursor, kernelVersion, entryType);
        if (next === NEED_MORE) return leave({ status: 'more', consumedBytes: cursor });
        if (entryType === ENTRY_START) {
          this.#open = this.#readStart(bytes, cursor, kernelVersion);
          this.#checksum = 0;
          checksumFrom = cursor;
        } else if (entryType === ENTRY_COMMIT) {
          const computed = crc32c(bytes.subarray(checksumFrom, next - 4), this.#checksum);
          this.#commit(bytes, cursor, next, computed);
        } else {
          this.#onCommand?.(bytes.subarray(cursor + 2, next));
        }
        cursor = next;
      }
    } catch (error) {
      if (error instanceof LogEntryError) return this.#torn(error.offset, error.message);
      throw error;
    }
  }

  #torn(cursor: number, reason: string): ParseStep {
    return { status: 'torn', consumedBytes: 0, reason, reachedBytes: this.#offsetBytes + cursor };
  }

  #expectEntry(kernelVersion: number, entryType: number, cursor: number): void {
    if (!isKnownKernelVersion(kernelVersion)) {
      throw new LogEntryError(`unknown kernel version ${kernelVersion}`, cursor + 1);
    }
    const open = this.#open;
    const fits =
      open === undefined
        ? entryType === ENTRY_START
        : entryType === ENTRY_COMMAND || entryType === ENTRY_COMMIT;
    if (!fits) throw new LogEntryError(`log entry of type ${entryType} where none may be`, cursor + 2);
    if (open !== undefined && open.kernelVersion !== kernelVersion) {
      throw new LogEntryError('kernel version changes inside a transaction', cursor + 1);
    }
  }

  #entryEnd(bytes: Buffer, cursor: number, kernelVersion: number, entryType: number): number {
    if (entryType === ENTRY_COMMAND) return skipCommand(bytes, cursor + 2, bytes.length);
    const fixedBytes = entryType === ENTRY_COMMIT ? COMMIT_ENTRY_BYTES : startEntryBytes(kernelVersion);
    if (cursor + fixedBytes > bytes.length) return NEED_MORE;
    if (entryType === ENTRY_COMMIT) return cursor + fixedBytes;
    const additional = bytes.readInt32LE(cursor + fixedBytes - 4);
    if (additional < 0 || additional > ADDITIONAL_HEADER_BYTES_MAX) {
      throw new LogEntryError(`transaction header of ${additional} bytes`, cursor + fixedBytes);
    }
    return cursor + fixedBytes + additional > bytes.length ? NEED_MORE : cursor + fixedBytes + additional;
  }

  #readStart(bytes: Buffer, cursor: number, kernelVersion: number): StartEntry {
    const hasPreviousChecksum = kernelVersion < KERNEL_VERSION_2025_05;
    const appendIndexOffset = cursor + 18 + (hasPreviousChecksum ? 4 : 0);
    return {
      appendIndex:
        kernelVersion >= KERNEL_VERSION_5_20 ? bytes.readBigInt64LE(appendIndexOffset) : NO_APPEND_INDEX,
      previousChecksum: hasPreviousChecksum ? bytes.readUInt32LE(cursor + 18) : undefined,
      kernelVersion,
      startBytes: this.#offsetBytes + cursor,
    };
  }

  #commit(bytes: Buffer, cursor: number, next: number, computed: number): void {
    const commit = readCommit(bytes, cursor);
    if (commit.checksum !== computed) throw new LogEntryError('transaction fails its checksum', next);
    const open = this.#open!;
    this.#open = undefined;
    this.#onTransaction({
      ...commit,
      appendIndex: open.appendIndex === NO_APPEND_INDEX ? commit.transactionId : open.appendIndex,
      previousChecksum: open.previousChecksum,
      startBytes: open.startBytes,
      endBytes: this.#offsetBytes + next,
    });
  }
}

/** Before kernel 5.20 the append index is the transaction id, known at the commit entry only. */
const NO_APPEND_INDEX = -1n;

/** Bytes of a start entry up to and including the length of its additional header. */
function startEntryBytes(kernelVersion: number): number {
  if (kernelVersion >= KERNEL_VERSION_2026_06) return 2 + 8 * 4 + 4;
  if (kernelVersion >= KERNEL_VERSION_2025_05) return 2 + 8 * 3 + 4;
  if (kernelVersion >= KERNEL_VERSION_5_20) return 2 + 8 * 3 + 4 + 4;
  return 2 + 8 * 2 + 4 + 4;
}

export interface CommitEntry {
  readonly kernelVersion: number;
  readonly transactionId: bigint;
  readonly commitTimeMillis: bigint;
  readonly checksum: number;
}

/** The commit entry that the bytes are; undefined when they are something else. Its checksum is not proven by this. */
export function parseCommitEntry(bytes: Buffer): CommitEntry | undefined {
  if (bytes.length < COMMIT_ENTRY_BYTES || bytes[1] !== ENTRY_COMMIT) return undefined;
  return readCommit(bytes, 0);
}

function readCommit(bytes: Buffer, offset: number): CommitEntry {
  return {
    kernelVersion: bytes[offset]!,
    transactionId: bytes.readBigInt64LE(offset + 2),
    commitTimeMillis: bytes.readBigInt64LE(offset + 10),
    checksum: bytes.readUInt32LE(offset + COMMIT_ENTRY_BYTES - 4),
  };
}
