/**
 * Walks over storage commands of the record engine without building them. Source: formats.md §3.
 * Commands carry no length, so finding the end of one means knowing every payload: this is what makes the
 * scan of a log independent of the server that wrote it. Payloads are the same from kernel 5.0 to 2026.08.
 */
import { FormatError } from '../formaterror.ts';

/** More bytes are needed to find the end of the command. */
export const NEED_MORE = -1;

/** The entry cannot be read. `offset` is where in the given bytes the reader stood. */
export class LogEntryError extends FormatError {
  readonly offset: number;
  constructor(message: string, offset: number) {
    super(message);
    this.offset = offset;
  }
}

const IN_USE = 0x01;
const HAS_SECONDARY_UNIT = 0x08;

const RELATIONSHIP_IN_USE_BYTES = 61;
const RELATIONSHIP_UNUSED_BYTES = 4;
const NODE_IN_USE_BYTES = 25;
const GROUP_BYTES = 45;
const META_DATA_BYTES = 26;

type Bytes = Uint8Array;
type Skipper = (bytes: Bytes, offset: number, end: number) => number;

function int32(bytes: Bytes, offset: number): number {
  return bytes[offset]! | (bytes[offset + 1]! << 8) | (bytes[offset + 2]! << 16) | (bytes[offset + 3]! << 24);
}

function fixed(size: number): Skipper {
  return (_bytes, offset, end) => (offset + size > end ? NEED_MORE : offset + size);
}

/** `i32 count`, then that many dynamic records. */
function dynamicRecords(bytes: Bytes, start: number, end: number): number {
  if (start + 4 > end) return NEED_MORE;
  const count = int32(bytes, start);
  if (count < 0) throw new LogEntryError('negative count of dynamic records', start + 4);
  let offset = start + 4;
  for (let index = 0; index < count; index++) {
    if (offset + 13 > end) return NEED_MORE;
    const inUse = (bytes[offset + 12]! & IN_USE) !== 0;
    offset += 13;
    if (!inUse) continue;
    if (offset + 12 > end) return NEED_MORE;
    const length = int32(bytes, offset);
    if (length < 0) throw new LogEntryError('negative length of a dynamic record', offset + 4);
    offset += 12 + length;
    if (offset > end) return NEED_MORE;
  }
  return offset;
}

/** A record that starts with flags and whose size depends on whether it is in use. */
function record(inUseBytes: number, unusedBytes: number): Skipper {
  return (bytes, offset, end) => {
    if (offset + 1 > end) return NEED_MORE;
    const flags = bytes[offset]!;
    const next =
      offset +
      1 +
      ((flags & IN_USE) !== 0 ? inUseBytes : unusedBytes) +
      ((flags & HAS_SECONDARY_UNIT) !== 0 ? 8 : 0);
    return next > end ? NEED_MORE : next;
  };
}

const nodeFixedPart = record(NODE_IN_USE_BYTES, 0);
const relationship = record(RELATIONSHIP_IN_USE_BYTES, RELATIONSHIP_UNUSED_BYTES);
const group = record(GROUP_BYTES, GROUP_BYTES);
const schemaRecord = record(9, 0);

function node(bytes: Bytes, start: number, end: number): number {
  const offset = nodeFixedPart(bytes, start, end);
  return offset === NEED_MORE ? NEED_MORE : dynamicRecords(bytes, offset, end);
}

function property(bytes: Bytes, start: number, end: number): number {
  if (start + 26 > end) return NEED_MORE;
  const blockCount = bytes[start + 25]!;
  let offset = start + 26;
  for (let index = 0; index < blockCount; index++) {
    if (offset + 1 > end) return NEED_MORE;
    const sizeBytes = bytes[offset]!;
    if (sizeBytes % 8 !== 0)
      throw new LogEntryError('property block of a size that is no multiple of 8', offset + 1);
    offset += 1 + sizeBytes;
    if (offset > end) return NEED_MORE;
    offset = dynamicRecords(bytes, offset, end);
    if (offset === NEED_MORE) return NEED_MORE;
  }
  return dynamicRecords(bytes, offset, end);
}

/** A token record: flags and `fixedBytes` of ids, then the records of its name. */
function token(fixedBytes: number): Skipper {
  return (bytes, offset, end) =>
    offset + 1 + fixedBytes > end ? NEED_MORE : dynamicRecords(bytes, offset + 1 + fixedBytes, end);
}

/** Sizes of map values that have one; strings and arrays are walked. */
const VALUE_BYTES: Readonly<Record<number, number>> = {
  0: 0,
  1: 0,
  2: 1,
  3: 1,
  4: 2,
  5: 4,
  6: 8,
  7: 4,
  8: 8,
  10: 4,
};
const VALUE_STRING = 9;
const VALUE_ARRAY = 11;

function lengthPrefixed(bytes: Bytes, offset: number, end: number): number {
  if (offset + 4 > end) return NEED_MORE;
  const length = int32(bytes, offset);
  if (length < 0) throw new LogEntryError('negative length of a text', offset + 4);
  return offset + 4 + length > end ? NEED_MORE : offset + 4 + length;
}

function valueOfType(type: number, bytes: Bytes, offset: number, end: number): number {
  if (type === VALUE_STRING) return lengthPrefixed(bytes, offset, end);
  if (type === VALUE_ARRAY) return arrayValue(bytes, offset, end);
  const size = VALUE_BYTES[type];
  if (size === undefined) throw new LogEntryError(`unknown value type ${type} in a schema rule`, offset);
  return offset + size > end ? NEED_MORE : offset + size;
}

function arrayValue(bytes: Bytes, start: number, end: number): number {
  if (start + 5 > end) return NEED_MORE;
  const count = int32(bytes, start);
  if (count < 0) throw new LogEntryError('negative length of an array', start + 4);
  const elementType = bytes[start + 4]!;
  // Elements without bytes, or arrays in an array, are in no log; walking them would take damage for endless data.
  if (elementType < 2 || elementType === VALUE_ARRAY)
    throw new LogEntryError(`array of elements of type ${elementType}`, start + 5);
  let offset = start + 5;
  for (let index = 0; index < count; index++) {
    offset = valueOfType(elementType, bytes, offset, end);
    if (offset === NEED_MORE) return NEED_MORE;
  }
  return offset;
}

function schemaMap(bytes: Bytes, start: number, end: number): number {
  if (start + 4 > end) return NEED_MORE;
  const count = int32(bytes, start);
  if (count < 0) throw new LogEntryError('negative size of a schema rule', start + 4);
  let offset = start + 4;
  for (let index = 0; index < count; index++) {
    offset = lengthPrefixed(bytes, offset, end);
    if (offset === NEED_MORE || offset + 1 > end) return NEED_MORE;
    offset = valueOfType(bytes[offset]!, bytes, offset + 1, end);
    if (offset === NEED_MORE) return NEED_MORE;
  }
  return offset;
}

function schemaRule(bytes: Bytes, start: number, end: number): number {
  if (start + 9 > end) return NEED_MORE;
  const hasRule = bytes[start + 8] !== 0;
  const before = schemaRecord(bytes, start + 9, end);
  if (before === NEED_MORE) return NEED_MORE;
  const after = schemaRecord(bytes, before, end);
  if (after === NEED_MORE) return NEED_MORE;
  return hasRule ? schemaMap(bytes, after, end) : after;
}

/** An id of `idBytes`, then the record `images` times (once for created and deleted, twice for updates). */
function imagesOf(idBytes: number, image: Skipper, images: 1 | 2): Skipper {
  return (bytes, start, end) => {
    let offset = start + idBytes;
    if (offset > end) return NEED_MORE;
    for (let index = 0; index < images; index++) {
      offset = image(bytes, offset, end);
      if (offset === NEED_MORE) return NEED_MORE;
    }
    return offset;
  };
}

const SKIPPERS: readonly (Skipper | undefined)[] = (() => {
  const table: (Skipper | undefined)[] = new Array(32).fill(undefined);
  table[1] = imagesOf(8, node, 2);
  table[2] = imagesOf(8, property, 2);
  table[3] = imagesOf(8, relationship, 2);
  table[4] = imagesOf(4, token(4), 2);
  table[5] = imagesOf(4, token(8), 2);
  table[8] = imagesOf(4, token(4), 2);
  table[9] = imagesOf(8, group, 2);
  table[16] = fixed(20);
  table[17] = fixed(12);
  table[18] = schemaRule;
  table[19] = fixed(META_DATA_BYTES);
  table[20] = fixed(16);
  table[22] = imagesOf(8, node, 1);
  table[23] = imagesOf(8, node, 1);
  table[24] = imagesOf(8, property, 1);
  table[25] = imagesOf(8, property, 1);
  table[26] = imagesOf(8, relationship, 1);
  table[27] = imagesOf(8, relationship, 1);
  return table;
})();

/**
 * Offset just after the command whose code byte is at `offset`, or `NEED_MORE` when it goes on past `end`.
 * @throws LogEntryError for codes that only Enterprise features write and for impossible lengths.
 */
export function skipCommand(bytes: Bytes, offset: number, end: number): number {
  if (offset >= end) return NEED_MORE;
  const code = bytes[offset]!;
  const skipper = SKIPPERS[code];
  if (skipper === undefined) throw new LogEntryError(`storage command ${code} is not known`, offset + 1);
  return skipper(bytes, offset + 1, end);
}
