/**
 * The 128-byte header of transaction log and checkpoint files, big-endian. Source: formats.md §2.1.
 * Only the two formats without envelopes (8 and 9) are read; 10 and 11 are recognised and refused by name.
 */
import { FormatError } from '../formaterror.ts';
import { parseStoreId, type StoreId } from '../storeid.ts';

export const LOG_HEADER_BYTES = 128;
const FORMATS_SUPPORTED = [8, 9];

export interface LogHeader {
  /** 8 (Neo4j 5.0–5.19) or 9 (5.20 and later). */
  readonly formatByte: number;
  /** Equals the number at the end of the file's name. */
  readonly logVersion: bigint;
  /** Append index of the last transaction before this file; 1 in the first file of a database. */
  readonly previousAppendIndex: bigint;
  readonly storeId: StoreId | undefined;
}

/** A format that exists and that graphkeep does not read: the caller says "unsupported", not "damaged". */
export class UnsupportedLogFormatError extends FormatError {
  readonly formatByte: number;
  constructor(formatByte: number) {
    super(`transaction log format ${formatByte} is not supported`);
    this.formatByte = formatByte;
  }
}

/**
 * @returns undefined for a header of zeros: a preallocated file that was never written.
 * @throws UnsupportedLogFormatError, FormatError
 */
export function parseLogHeader(bytes: Buffer): LogHeader | undefined {
  if (bytes.length < LOG_HEADER_BYTES) throw new FormatError('log file is shorter than its header');
  const first = bytes.readBigUInt64BE(0);
  if (first === 0n) return undefined;
  const formatByte = Number(first >> 56n);
  if (!FORMATS_SUPPORTED.includes(formatByte)) throw new UnsupportedLogFormatError(formatByte);
  const storeIdOffset = formatByte === 8 ? 16 : 24;
  const hasStoreId = bytes.readUInt8(storeIdOffset) !== 0;
  return {
    formatByte,
    logVersion: first & 0x00ff_ffff_ffff_ffffn,
    previousAppendIndex: bytes.readBigInt64BE(formatByte === 8 ? 8 : 16),
    storeId: hasStoreId ? parseStoreId(bytes, storeIdOffset).storeId : undefined,
  };
}

/**
 * The header of a log file as if the file began after another transaction: what a rotation at that moment would have
 * written. Everything else of the header, the store id above all, stays as it is.
 * @param logVersion number of the file; its own when absent
 */
export function writeLogHeaderAfter(
  header: Buffer,
  previousAppendIndex: bigint,
  logVersion?: bigint,
): Buffer {
  const written = Buffer.from(header.subarray(0, LOG_HEADER_BYTES));
  const formatByte = written.readUInt8(0);
  if (logVersion !== undefined) written.writeBigUInt64BE((BigInt(formatByte) << 56n) | logVersion, 0);
  written.writeBigInt64BE(previousAppendIndex, 8);
  if (formatByte !== 8) written.writeBigInt64BE(previousAppendIndex, 16);
  return written;
}
