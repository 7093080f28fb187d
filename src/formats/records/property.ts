/**
 * A property record: up to four words of 64 bits, in which one or more values begin. Source: formats.md §4.
 * The first word of a value says of which key and type it is, and so how many words it has.
 */
import { FormatError } from '../formaterror.ts';
import { NO_ID } from './graph.ts';

export const WORDS_PER_RECORD = 4;
const UNIT = 2 ** 32;
const NULL_LOW = 0xffffffff;

export const PROPERTY_TYPE = {
  boolean: 1,
  int8: 2,
  int16: 3,
  character: 4,
  int32: 5,
  int64: 6,
  float32: 7,
  float64: 8,
  string: 9,
  array: 10,
  shortString: 11,
  shortArray: 12,
  geometry: 13,
  temporal: 14,
} as const;
const TYPE_MAX = PROPERTY_TYPE.temporal;

export interface PropertyRecord {
  readonly inUse: boolean;
  readonly previous: number;
  readonly next: number;
  readonly values: readonly StoredValue[];
}

/** A value as it is stored; values.ts decodes it. */
export interface StoredValue {
  readonly keyId: number;
  /** One of `PROPERTY_TYPE`. */
  readonly type: number;
  /** The first one carries key and type as well. */
  readonly words: readonly bigint[];
}

/** Bits of a word, from the lowest one on. */
export function bitsOf(word: bigint, shift: number, width: number): number {
  return Number(BigInt.asUintN(width, word >> BigInt(shift)));
}

export function parseProperty(bytes: Buffer, offset: number): PropertyRecord {
  const header = bytes.readUInt8(offset);
  const words: bigint[] = [];
  for (let index = 0; index < WORDS_PER_RECORD; index++)
    words.push(bytes.readBigUInt64BE(offset + 9 + index * 8));
  const reference = (low: number, high: number): number =>
    low === NULL_LOW && high === 0 ? NO_ID : high * UNIT + low;
  // There is no flag: a record is in use when a value begins in it.
  const inUse = typeOf(words[0]!) !== 0;
  return {
    inUse,
    previous: reference(bytes.readUInt32BE(offset + 1), header >> 4),
    next: reference(bytes.readUInt32BE(offset + 5), header & 0b1111),
    values: inUse ? splitWords(words) : [],
  };
}

/** The values that a record holds. A word without a type ends them. @throws FormatError when one overruns the record */
export function splitWords(words: readonly bigint[]): StoredValue[] {
  const values: StoredValue[] = [];
  for (let index = 0; index < words.length; ) {
    const first = words[index]!;
    const type = typeOf(first);
    if (type === 0) break;
    const count = wordCount(first, type);
    if (index + count > words.length)
      throw new FormatError(`a value of type ${type} with ${count} words overruns its record`);
    values.push({ keyId: bitsOf(first, 0, 24), type, words: words.slice(index, index + count) });
    index += count;
  }
  return values;
}

function typeOf(word: bigint): number {
  const type = bitsOf(word, 24, 4);
  return type > TYPE_MAX ? 0 : type;
}

/** Words of a value, 1 to 4, by its first one. */
function wordCount(first: bigint, type: number): number {
  switch (type) {
    case PROPERTY_TYPE.int64:
      return bitsOf(first, 28, 1) === 1 ? 1 : 2;
    case PROPERTY_TYPE.float64:
      return 2;
    case PROPERTY_TYPE.shortString:
      return Math.ceil((39 + shortStringBits(bitsOf(first, 28, 5)) * bitsOf(first, 33, 6)) / 64);
    case PROPERTY_TYPE.shortArray:
      return Math.ceil((44 + (bitsOf(first, 38, 6) || 64) * bitsOf(first, 32, 6)) / 64);
    case PROPERTY_TYPE.geometry:
      return 1 + bitsOf(first, 32, 4);
    case PROPERTY_TYPE.temporal:
      return temporalWords(first);
    default:
      return 1;
  }
}

/** Bits of one character, by codec. @throws FormatError for a codec that does not exist */
export function shortStringBits(codec: number): number {
  const bits = SHORT_STRING_BITS[codec];
  if (bits === undefined) throw new FormatError(`short string of the unknown codec ${codec}`);
  return bits;
}

const SHORT_STRING_BITS = [8, 4, 4, 5, 5, 5, 6, 6, 6, 7, 8, 4, 4];

const TEMPORAL_WORDS: Readonly<Record<number, number>> = { 3: 2, 4: 2, 5: 3, 6: 4 };

function temporalWords(first: bigint): number {
  const kind = bitsOf(first, 28, 4);
  if (kind === 1 || kind === 2) return bitsOf(first, 32, 1) === 1 ? 1 : 2;
  const words = TEMPORAL_WORDS[kind];
  if (words === undefined) throw new FormatError(`temporal value of the unknown kind ${kind}`);
  return words;
}
