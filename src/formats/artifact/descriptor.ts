/**
 * The descriptor of a `.backup` artifact: what `inspect` shows. Source: formats.md §8 (DESC v1 and v2).
 * Pure bytes; where the descriptor lies in each container is decided in container.ts.
 */
import { FormatError } from '../formaterror.ts';
import { parseStoreId, type StoreId, writeStoreId } from '../storeid.ts';

const FLAG_RECOVERED = 1;
const FLAG_COMPRESSED = 2;
const FLAG_FULL = 4;
const UUID_BYTES = 16;
const NAME_BYTES_MAX = 255;
const PROPERTIES_MAX = 1024;
export const PROPERTY_VALUE_BYTES_MAX = 16 * 1024 * 1024;

export interface ArtifactDescriptor {
  readonly storeId: StoreId;
  /** 16 bytes. */
  readonly databaseUuid: Buffer;
  readonly databaseName: string;
  /** Epoch seconds, UTC. */
  readonly timeSeconds: bigint;
  /** Append indexes; 0 and 0 in an empty differential. */
  readonly lowestAppendIndex: bigint;
  readonly highestAppendIndex: bigint;
  readonly recovered: boolean;
  readonly compressed: boolean;
  readonly full: boolean;
  /** Version 2 only; keys as the vendor names them, and `graphkeep` in our own artifacts. */
  readonly properties: ReadonlyMap<string, Buffer>;
}

/** Version 2. The length depends on names and properties only, never on times, ranges or flags. */
export function writeDescriptor(descriptor: ArtifactDescriptor): Buffer {
  const name = Buffer.from(descriptor.databaseName, 'utf8');
  if (name.length > NAME_BYTES_MAX) throw new FormatError('database name is too long for an artifact');
  const numbers = Buffer.alloc(26);
  numbers.writeBigInt64BE(descriptor.timeSeconds, 0);
  numbers.writeBigInt64BE(descriptor.lowestAppendIndex, 8);
  numbers.writeBigInt64BE(descriptor.highestAppendIndex, 16);
  numbers.writeUInt8(1, 24);
  numbers.writeUInt8(flagsOf(descriptor), 25);
  const parts = [
    writeStoreId(descriptor.storeId),
    Buffer.of(UUID_BYTES),
    descriptor.databaseUuid,
    Buffer.of(name.length),
    name,
    numbers,
    int32(descriptor.properties.size),
  ];
  for (const [key, value] of descriptor.properties) {
    const keyBytes = Buffer.from(key, 'utf8');
    parts.push(int32(keyBytes.length), keyBytes, int32(value.length), value);
  }
  return Buffer.concat(parts);
}

function flagsOf(descriptor: ArtifactDescriptor): number {
  return (
    (descriptor.recovered ? FLAG_RECOVERED : 0) |
    (descriptor.compressed ? FLAG_COMPRESSED : 0) |
    (descriptor.full ? FLAG_FULL : 0)
  );
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value, 0);
  return bytes;
}

/** Thrown when the given bytes end inside the descriptor: the caller may have more of them. */
export class DescriptorIncompleteError extends FormatError {
  constructor() {
    super('artifact descriptor is cut short');
  }
}

/** @throws DescriptorIncompleteError, FormatError */
export function parseDescriptor(
  bytes: Buffer,
  start: number,
  version: 1 | 2,
): { descriptor: ArtifactDescriptor; end: number } {
  let offset = start;
  const need = (count: number): number => {
    if (offset + count > bytes.length) throw new DescriptorIncompleteError();
    offset += count;
    return offset - count;
  };
  const int64 = (): bigint => bytes.readBigInt64BE(need(8));
  const count8 = (): number => bytes.readUInt8(need(1));
  const blob = (count: number): Buffer => Buffer.from(bytes.subarray(need(count), offset));
  if (bytes.length - start < STORE_ID_BYTES_MAX && !fitsStoreId(bytes, start))
    throw new DescriptorIncompleteError();
  const { storeId, end } = parseStoreId(bytes, start);
  offset = end;
  const uuidBytes = count8();
  if (uuidBytes !== UUID_BYTES) throw new FormatError(`database id of ${uuidBytes} bytes`);
  const databaseUuid = blob(UUID_BYTES);
  const databaseName = blob(count8()).toString('utf8');
  const [timeSeconds, lowestAppendIndex, highestAppendIndex] = [int64(), int64(), int64()];
  const flagBytes = blob(count8());
  const flags = flagBytes[0] ?? 0;
  const properties = version === 2 ? readProperties(bytes, need) : new Map<string, Buffer>();
  return {
    descriptor: {
      storeId,
      databaseUuid,
      databaseName,
      timeSeconds,
      lowestAppendIndex,
      highestAppendIndex,
      recovered: (flags & FLAG_RECOVERED) !== 0,
      compressed: (flags & FLAG_COMPRESSED) !== 0,
      full: (flags & FLAG_FULL) !== 0,
      properties,
    },
    end: offset,
  };
}

const STORE_ID_BYTES_MAX = 128;

/** Whether the whole store id is there; only asked near the end of the given bytes. */
function fitsStoreId(bytes: Buffer, start: number): boolean {
  const engineBytes = bytes[start + 17];
  if (engineBytes === undefined) return false;
  const familyBytes = bytes[start + 18 + engineBytes];
  return familyBytes !== undefined && start + 19 + engineBytes + familyBytes + 2 <= bytes.length;
}

function readProperties(bytes: Buffer, need: (count: number) => number): Map<string, Buffer> {
  const properties = new Map<string, Buffer>();
  const readBlob = (): Buffer => {
    const length = bytes.readInt32BE(need(4));
    if (length < 0 || length > PROPERTY_VALUE_BYTES_MAX)
      throw new FormatError(`artifact property of ${length} bytes`);
    const at = need(length);
    return Buffer.from(bytes.subarray(at, at + length));
  };
  const count = bytes.readInt32BE(need(4));
  if (count < 0 || count > PROPERTIES_MAX) throw new FormatError(`artifact with ${count} properties`);
  for (let index = 0; index < count; index++) {
    const key = readBlob().toString('utf8');
    properties.set(key, readBlob());
  }
  return properties;
}
