/**
 * StoreId: what makes two sets of files "the same store". Source: formats.md §2.2, §5.
 * Big-endian wherever it appears; in log headers, checkpoint entries and `neostore` it is padded to 64 bytes.
 */
import { FormatError } from './formaterror.ts';

export const STORE_ID_FIXED_BYTES = 64;
const STORE_ID_VERSION = 1;
const NAME_BYTES_MAX = 40;

export interface StoreId {
  readonly creationTimeMillis: bigint;
  readonly random: bigint;
  /** `record` for every store graphkeep supports. */
  readonly engine: string;
  /** `aligned` or `standard`; `block` and `high_limit` exist in Enterprise. */
  readonly family: string;
  readonly major: number;
  readonly minor: number;
}

/** Parses a store id at `offset`. @throws FormatError on an unknown version or names that overrun. */
export function parseStoreId(bytes: Buffer, offset = 0): { storeId: StoreId; end: number } {
  if (bytes.length - offset < 21) throw new FormatError('store id is cut short');
  const version = bytes.readUInt8(offset);
  if (version !== STORE_ID_VERSION) throw new FormatError(`unknown store id version ${version}`);
  const creationTimeMillis = bytes.readBigInt64BE(offset + 1);
  const random = bytes.readBigInt64BE(offset + 9);
  const engine = readName(bytes, offset + 17);
  const family = readName(bytes, engine.end);
  if (family.end + 2 > bytes.length) throw new FormatError('store id is cut short');
  const major = bytes.readInt8(family.end);
  const minor = bytes.readInt8(family.end + 1);
  return {
    storeId: { creationTimeMillis, random, engine: engine.text, family: family.text, major, minor },
    end: family.end + 2,
  };
}

function readName(bytes: Buffer, offset: number): { text: string; end: number } {
  const length = bytes[offset];
  if (length === undefined || length > NAME_BYTES_MAX || offset + 1 + length > bytes.length) {
    throw new FormatError('store id holds a name of impossible length');
  }
  return { text: bytes.toString('utf8', offset + 1, offset + 1 + length), end: offset + 1 + length };
}

/** The form without padding, as artifact headers hold it. */
export function writeStoreId(id: StoreId): Buffer {
  const engine = Buffer.from(id.engine, 'utf8');
  const family = Buffer.from(id.family, 'utf8');
  const head = Buffer.alloc(17);
  head.writeUInt8(STORE_ID_VERSION, 0);
  head.writeBigInt64BE(id.creationTimeMillis, 1);
  head.writeBigInt64BE(id.random, 9);
  const version = Buffer.alloc(2);
  version.writeInt8(id.major, 0);
  version.writeInt8(id.minor, 1);
  return Buffer.concat([head, Buffer.of(engine.length), engine, Buffer.of(family.length), family, version]);
}

/** The engine's own test: everything equal but the version, which an upgrade may raise. */
export function isSameStore(left: StoreId, right: StoreId): boolean {
  return (
    left.creationTimeMillis === right.creationTimeMillis &&
    left.random === right.random &&
    left.engine === right.engine &&
    left.family === right.family
  );
}

/** Store format as `database info` and `SHOW DATABASES` print it, e.g. `record-aligned-1.1`. */
export function storeFormatName(id: StoreId): string {
  return `${id.engine}-${id.family}-${id.major}.${id.minor}`;
}

/** The number that the vendor's `inspect` shows as STORE ID HASH (the 32-bit hash of the six fields in order). */
export function storeIdHash(id: StoreId): number {
  const fields = [
    hashLong(id.creationTimeMillis),
    hashLong(id.random),
    hashString(id.engine),
    hashString(id.family),
    id.major,
    id.minor,
  ];
  return fields.reduce((hash, field) => (Math.imul(31, hash) + field) | 0, 1);
}

function hashLong(value: bigint): number {
  const unsigned = BigInt.asUintN(64, value);
  return Number(BigInt.asIntN(32, unsigned ^ (unsigned >> 32n)));
}

function hashString(text: string): number {
  let hash = 0;
  for (let index = 0; index < text.length; index++) hash = (Math.imul(31, hash) + text.charCodeAt(index)) | 0;
  return hash;
}
