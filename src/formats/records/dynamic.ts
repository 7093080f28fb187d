/** Records of the dynamic stores, which hold a value in pieces; and of tokens and schema rules. Source: formats.md §4. */
import { FormatError } from '../formaterror.ts';
import { NO_ID } from './graph.ts';

const HEADER_BYTES = 8;
const CONTINUATION = 0x80;
const IN_USE = 0x10;
const UNIT = 2 ** 32;
const NULL_LOW = 0xffffffff;

/** A piece of a value. */
export interface DynamicRecord {
  readonly inUse: boolean;
  /** The first piece of its value. */
  readonly isStart: boolean;
  readonly next: number;
  readonly data: Buffer;
}

/** @param recordBytes size of a whole record of the store */
export function parseDynamic(bytes: Buffer, offset: number, recordBytes: number): DynamicRecord {
  const header = bytes.readUInt8(offset);
  const inUse = (header & IN_USE) !== 0;
  const isStart = (header & CONTINUATION) === 0;
  if (!inUse) return { inUse, isStart, next: NO_ID, data: Buffer.alloc(0) };
  const length = bytes.readUIntBE(offset + 1, 3);
  if (length > recordBytes - HEADER_BYTES)
    throw new FormatError(`${length} bytes in a record that has room for ${recordBytes - HEADER_BYTES}`);
  const low = bytes.readUInt32BE(offset + 4);
  const high = header & 0b1111;
  const next = low === NULL_LOW && high === 0 ? NO_ID : high * UNIT + low;
  if (next !== NO_ID && length < recordBytes - HEADER_BYTES)
    throw new FormatError('a record that is not full has another one behind it');
  const start = offset + HEADER_BYTES;
  return { inUse, isStart, next, data: Buffer.from(bytes.subarray(start, start + length)) };
}

/** A label, relationship type or property key. */
export interface TokenRecord {
  readonly inUse: boolean;
  /** A property key that only the server itself uses. */
  readonly internal: boolean;
  /** Where the name begins in the store of names. */
  readonly nameId: number;
}

const TOKEN_INTERNAL = 2;

/** Of a label or a relationship type, 5 bytes. */
export function parseToken(bytes: Buffer, offset: number): TokenRecord {
  return token(bytes.readUInt8(offset), bytes.readInt32BE(offset + 1));
}

/** Of a property key, 9 bytes: a count that is always 0 lies before the name. */
export function parsePropertyKey(bytes: Buffer, offset: number): TokenRecord {
  return token(bytes.readUInt8(offset), bytes.readInt32BE(offset + 5));
}

function token(header: number, nameId: number): TokenRecord {
  return { inUse: (header & 1) !== 0, internal: (header & TOKEN_INTERNAL) !== 0, nameId };
}

/** An index or a constraint: what it is, stands in a property chain. */
export interface SchemaRecord {
  readonly inUse: boolean;
  readonly firstProperty: number;
}

const SCHEMA_IN_USE = 1;
const SCHEMA_HAS_PROPERTIES = 2;

export function parseSchema(bytes: Buffer, offset: number): SchemaRecord {
  const header = bytes.readUInt8(offset);
  const hasProperties = (header & SCHEMA_HAS_PROPERTIES) !== 0;
  const first = BigInt.asUintN(56, bytes.readBigUInt64BE(offset));
  if (hasProperties && first > BigInt(Number.MAX_SAFE_INTEGER))
    throw new FormatError(`a schema rule begins at property ${first}`);
  return { inUse: (header & SCHEMA_IN_USE) !== 0, firstProperty: hasProperties ? Number(first) : NO_ID };
}
