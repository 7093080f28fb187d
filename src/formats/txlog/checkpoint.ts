/**
 * Checkpoint entries (type 9), the only content of `checkpoint.<n>` files. Source: formats.md §2.4.
 * Entries follow each other from byte 128; the last readable one of the newest file is the one recovery uses.
 */
import { crc32c } from '@node-rs/crc32';
import { FormatError } from '../formaterror.ts';
import { parseStoreId, STORE_ID_FIXED_BYTES, type StoreId } from '../storeid.ts';
import { LOG_HEADER_BYTES } from './header.ts';
import {
  isKnownKernelVersion,
  KERNEL_VERSION_5_7,
  KERNEL_VERSION_5_20,
  KERNEL_VERSION_5_22,
  KERNEL_VERSION_2026_08,
  UnsupportedKernelVersionError,
} from './kernelversion.ts';
import type { CommitEntry } from './transactions.ts';

export const CHECKPOINT_ENTRY_TYPE = 9;

/** The first position of an entry, after kernel version and type. */
const POSITION_OFFSET = 2;
const POSITION_BYTES = 16;

export interface LogPosition {
  readonly logVersion: bigint;
  /** Byte offset in that log file. */
  readonly offsetBytes: bigint;
}

export interface Checkpoint {
  readonly kernelVersion: number;
  /** Recovery starts here: everything before it is in the store files. */
  readonly position: LogPosition;
  /** Start of the oldest transaction that was not complete; the same in Community. */
  readonly oldestPosition: LogPosition;
  readonly timeMillis: bigint;
  readonly storeId: StoreId;
  readonly transactionId: bigint;
  readonly transactionChecksum: number;
  readonly transactionCommitTimeMillis: bigint;
  /** Append index of the transaction that it names; equals the transaction id on record stores. */
  readonly appendIndex: bigint;
  /**
   * Append index of the transaction that ends at `position`; before 5.20 it is not there. Under concurrent commits it is
   * lower than the named one, and now and then higher (formats.md §2.4).
   */
  readonly positionAppendIndex: bigint | undefined;
  readonly reason: string;
  /** Where the entry begins and ends in its file. */
  readonly startBytes: number;
  readonly endBytes: number;
}

/** Sizes by kernel version: padding keeps every entry of one version equally long. */
export function checkpointEntryBytes(kernelVersion: number): number {
  return kernelVersion >= KERNEL_VERSION_2026_08 ? 486 : 232;
}

/**
 * Parses the entry at `offset`. @returns undefined where the data ends (a zero kernel version byte).
 * @throws FormatError when bytes are there that are not a whole, valid entry.
 */
export function parseCheckpoint(file: Buffer, offset: number): Checkpoint | undefined {
  const kernelVersion = file[offset];
  if (kernelVersion === undefined || kernelVersion === 0) return undefined;
  if (!isKnownKernelVersion(kernelVersion)) throw new UnsupportedKernelVersionError(kernelVersion);
  const end = offset + checkpointEntryBytes(kernelVersion);
  if (end > file.length) throw new FormatError('checkpoint entry is cut short');
  if (file[offset + 1] !== CHECKPOINT_ENTRY_TYPE) throw new FormatError('not a checkpoint entry');
  const checksum = file.readUInt32LE(end - 4);
  if (crc32c(file.subarray(offset, end - 4)) !== checksum)
    throw new FormatError('checkpoint entry fails its checksum');
  return readFields(file, offset, end, kernelVersion);
}

function readFields(file: Buffer, start: number, end: number, kernelVersion: number): Checkpoint {
  let cursor = start + 2;
  const int64 = (): bigint => {
    cursor += 8;
    return file.readBigInt64LE(cursor - 8);
  };
  const position = { logVersion: int64(), offsetBytes: int64() };
  const oldestPosition =
    positionsIn(kernelVersion) > 1 ? { logVersion: int64(), offsetBytes: int64() } : position;
  const timeMillis = int64();
  const { storeId } = parseStoreId(file.subarray(cursor, cursor + STORE_ID_FIXED_BYTES));
  cursor += STORE_ID_FIXED_BYTES;
  const transactionId = int64();
  let appendIndex = transactionId;
  if (kernelVersion >= KERNEL_VERSION_5_20) {
    appendIndex = int64();
    cursor += 1; // kernel version of that transaction
  }
  const transactionChecksum = file.readUInt32LE(cursor);
  cursor += 4;
  const transactionCommitTimeMillis = int64();
  if (kernelVersion >= KERNEL_VERSION_5_7) cursor += 8; // consensus index
  const positionAppendIndex = kernelVersion >= KERNEL_VERSION_5_20 ? int64() : undefined;
  const reasonBytes = file.readUInt16LE(cursor);
  cursor += 2;
  if (cursor + reasonBytes > end - 4) throw new FormatError('checkpoint reason overruns its entry');
  return {
    kernelVersion,
    position,
    oldestPosition,
    timeMillis,
    storeId,
    transactionId,
    transactionChecksum,
    transactionCommitTimeMillis,
    appendIndex,
    positionAppendIndex,
    reason: file.toString('utf8', cursor, cursor + reasonBytes),
    startBytes: start,
    endBytes: end,
  };
}

/**
 * The last valid checkpoint of a checkpoint file, given its whole content.
 * A torn entry at the end (a write that this reader overtook, or a crash) ends the search: the one before counts.
 */
export function lastCheckpoint(file: Buffer): Checkpoint | undefined {
  let last: Checkpoint | undefined;
  let offset = LOG_HEADER_BYTES;
  for (;;) {
    const next = tryParse(file, offset);
    if (next === undefined) return last;
    last = next;
    offset = next.endBytes;
  }
}

function tryParse(file: Buffer, offset: number): Checkpoint | undefined {
  try {
    return parseCheckpoint(file, offset);
  } catch (error) {
    // Falling back to an older checkpoint here would hide that the newest one cannot be read at all.
    if (error instanceof UnsupportedKernelVersionError) throw error;
    if (error instanceof FormatError) return undefined;
    throw error;
  }
}

/**
 * A checkpoint file whose only entry is `checkpoint`, with its position in the log moved. Moving the position is right
 * only if the log is moved with it.
 */
export function writeCheckpointFile(file: Buffer, checkpoint: Checkpoint, position: LogPosition): Buffer {
  const entry = Buffer.from(file.subarray(checkpoint.startBytes, checkpoint.endBytes));
  for (let number = 0; number < positionsIn(checkpoint.kernelVersion); number++) {
    entry.writeBigInt64LE(position.logVersion, POSITION_OFFSET + number * POSITION_BYTES);
    entry.writeBigInt64LE(position.offsetBytes, POSITION_OFFSET + number * POSITION_BYTES + 8);
  }
  sealEntry(entry);
  return Buffer.concat([file.subarray(0, LOG_HEADER_BYTES), entry]);
}

/** What a checkpoint says of the transaction that it names. */
export interface NamedTransaction extends CommitEntry {
  readonly appendIndex: bigint;
}

/** Append index of the transaction that ends at the position, where that is a later one than the named (formats.md §2.4). */
export function laterAtPosition({ appendIndex, positionAppendIndex }: Checkpoint): bigint | undefined {
  return positionAppendIndex !== undefined && positionAppendIndex > appendIndex
    ? positionAppendIndex
    : undefined;
}

/** A checkpoint file with another transaction named by the entry `checkpoint`, which must be of 5.20 or later. */
export function renameTransaction(file: Buffer, checkpoint: Checkpoint, named: NamedTransaction): Buffer {
  const renamed = Buffer.from(file);
  const entry = renamed.subarray(checkpoint.startBytes, checkpoint.endBytes);
  let cursor =
    POSITION_OFFSET + positionsIn(checkpoint.kernelVersion) * POSITION_BYTES + 8 + STORE_ID_FIXED_BYTES;
  cursor = entry.writeBigInt64LE(named.transactionId, cursor);
  cursor = entry.writeBigInt64LE(named.appendIndex, cursor);
  cursor = entry.writeUInt8(named.kernelVersion, cursor);
  cursor = entry.writeUInt32LE(named.checksum, cursor);
  entry.writeBigInt64LE(named.commitTimeMillis, cursor);
  sealEntry(entry);
  return renamed;
}

/** Checkpointed position, and since 5.22 the oldest not completed one, which is the same in Community. */
function positionsIn(kernelVersion: number): number {
  return kernelVersion >= KERNEL_VERSION_5_22 ? 2 : 1;
}

function sealEntry(entry: Buffer): void {
  entry.writeUInt32LE(crc32c(entry.subarray(0, entry.length - 4)), entry.length - 4);
}
