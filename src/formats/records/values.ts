/**
 * Values of properties: from the words of a property record, or from the bytes of a dynamic chain. Source: formats.md §4.
 * Points and moments are given as they are stored: whoever compares or copies them needs no more.
 */
import { FormatError } from '../formaterror.ts';
import { bitsOf, PROPERTY_TYPE, type StoredValue } from './property.ts';
import { decodeShortString, packedItems } from './shortstring.ts';

/** A value that is not decoded. */
export interface OpaqueValue {
  readonly words: readonly bigint[];
}

export interface OpaqueArray {
  readonly bytes: Buffer;
}

/** Integers of up to 32 bits are numbers, others `bigint`; a character is a string. */
export type Scalar = boolean | number | bigint | string;
export type PropertyValue = Scalar | readonly Scalar[] | OpaqueValue | OpaqueArray;

/** Where the rest of a value lies. */
export interface DynamicReference {
  readonly store: 'strings' | 'arrays';
  readonly firstId: number;
}

/** Of a value that a dynamic store holds. */
export function dynamicReferenceOf({ type, words }: StoredValue): DynamicReference | undefined {
  if (type !== PROPERTY_TYPE.string && type !== PROPERTY_TYPE.array) return undefined;
  const store = type === PROPERTY_TYPE.string ? 'strings' : 'arrays';
  return { store, firstId: bitsOf(words[0]!, 28, 36) };
}

/** A value that lies in its property record whole. @throws FormatError */
export function decodeInlineValue({ type, words }: StoredValue): PropertyValue {
  const first = words[0]!;
  switch (type) {
    case PROPERTY_TYPE.int64:
      return bitsOf(first, 28, 1) === 1 ? first >> 29n : BigInt.asIntN(64, words[1]!);
    case PROPERTY_TYPE.float64:
      return numberOf(type, words[1]!);
    case PROPERTY_TYPE.shortString:
      return decodeShortString(words);
    case PROPERTY_TYPE.shortArray: {
      const elementType = bitsOf(first, 28, 4);
      const items = packedItems(words, 44, bitsOf(first, 38, 6) || 64, bitsOf(first, 32, 6));
      return items.map((item) => scalarOf(elementType, item));
    }
    case PROPERTY_TYPE.geometry:
    case PROPERTY_TYPE.temporal:
      return { words };
    default:
      return scalarOf(type, first >> 28n);
  }
}

/** @throws FormatError for a type that has no bits of its own */
function scalarOf(type: number, bits: bigint): Scalar {
  switch (type) {
    case PROPERTY_TYPE.boolean:
      return (bits & 1n) === 1n;
    case PROPERTY_TYPE.character:
      return String.fromCharCode(Number(BigInt.asUintN(16, bits)));
    case PROPERTY_TYPE.int64:
      return BigInt.asIntN(64, bits);
    default:
      return numberOf(type, bits);
  }
}

const INTEGER_BITS: Readonly<Record<number, number>> = {
  [PROPERTY_TYPE.int8]: 8,
  [PROPERTY_TYPE.int16]: 16,
  [PROPERTY_TYPE.int32]: 32,
};

function numberOf(type: number, bits: bigint): number {
  const width = INTEGER_BITS[type];
  if (width !== undefined) return Number(BigInt.asIntN(width, bits));
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt.asUintN(64, bits));
  if (type === PROPERTY_TYPE.float64) return bytes.readDoubleBE(0);
  if (type === PROPERTY_TYPE.float32) return bytes.readFloatBE(4);
  throw new FormatError(`a value of the unknown type ${type}`);
}

const NUMBER_ARRAY_HEADER_BYTES = 3;

/** The bytes of a chain in the store of arrays, or in that of labels. @throws FormatError */
export function decodeArray(bytes: Buffer): PropertyValue {
  const type = bytes[0];
  if (type === PROPERTY_TYPE.string) return decodeStrings(bytes);
  if (type === PROPERTY_TYPE.geometry || type === PROPERTY_TYPE.temporal) return { bytes };
  return decodeNumbers(bytes);
}

/** `u8 9, i32 count`, and for each `i32 length` and UTF-8. */
function decodeStrings(bytes: Buffer): readonly string[] {
  let offset = 1;
  const length = (): number => {
    if (offset + 4 > bytes.length) throw new FormatError('an array of strings is cut short');
    offset += 4;
    const value = bytes.readInt32BE(offset - 4);
    if (value < 0 || value > bytes.length)
      throw new FormatError(`an array of strings names a length of ${value}`);
    return value;
  };
  const count = length();
  const strings: string[] = [];
  for (let index = 0; index < count; index++) {
    const end = length() + offset;
    if (end > bytes.length) throw new FormatError('a string of an array is cut short');
    strings.push(bytes.toString('utf8', offset, end));
    offset = end;
  }
  return strings;
}

/** `u8 type, u8 bits used in the last byte, u8 bits per item`, then the items, lowest bits first. */
function decodeNumbers(bytes: Buffer): readonly Scalar[] {
  if (bytes.length < NUMBER_ARRAY_HEADER_BYTES) throw new FormatError('an array is shorter than its header');
  const [type, bitsInLastByte, itemBits] = [bytes[0]!, bytes[1]!, bytes[2]!];
  if (itemBits < 1 || itemBits > 64 || bitsInLastByte > 8)
    throw new FormatError(`an array of items of ${itemBits} bits`);
  const data = bytes.subarray(NUMBER_ARRAY_HEADER_BYTES);
  const dataBits = data.length === 0 ? 0 : (data.length - 1) * 8 + (bitsInLastByte || 8);
  const items: Scalar[] = [];
  for (let bit = 0; bit + itemBits <= dataBits; bit += itemBits)
    items.push(scalarOf(type, packedBits(data, bit, itemBits)));
  return items;
}

/** Up to 64 bits of bytes that carry their lowest bits first. */
function packedBits(data: Buffer, startBit: number, width: number): bigint {
  let value = 0n;
  const firstByte = startBit >> 3;
  const lastByte = (startBit + width - 1) >> 3;
  for (let index = lastByte; index >= firstByte; index--) value = (value << 8n) | BigInt(data[index]!);
  return BigInt.asUintN(width, value >> BigInt(startBit & 7));
}
