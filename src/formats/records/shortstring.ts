/** Short strings, packed into the words of a property record. Source: formats.md §4, the tables of codecs. */
import { FormatError } from '../formaterror.ts';
import { bitsOf, shortStringBits } from './property.ts';

const CODEC_UTF8 = 0;
const CODEC_LATIN1 = 10;
const FIRST_CHARACTER_BIT = 39;
const WORD_BITS = 64;

const UPPER = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';
const LOWER = UPPER.toLowerCase();

/** The characters of a code from `start` on, in a table of 2^n. */
type Run = readonly [start: number, characters: string];

function table(...runs: readonly Run[]): readonly (string | undefined)[] {
  const characters: (string | undefined)[] = [];
  for (const [start, text] of runs)
    for (const [index, character] of [...text].entries()) characters[start + index] = character;
  return characters;
}

/** À to ÿ; the multiplication and the division sign give their places to the full stop and the hyphen. */
const LATIN_LETTERS = Array.from({ length: 64 }, (_, index) => String.fromCharCode(0xc0 + index))
  .join('')
  .replace('\u00d7', '.')
  .replace('\u00f7', '-');

const TABLES: Readonly<Record<number, readonly (string | undefined)[]>> = {
  1: table([0, "0123456789 .-+,'"]),
  2: table([0, '0123456789 -:/+,']),
  3: table([0, ` ${UPPER}_.-:/`]),
  4: table([0, ` ${LOWER}_.-:/`]),
  5: table([0, `,${LOWER}_.-+@`]),
  6: table([0, ` ${LOWER}`], [0x20, '0123456789_.-:/+'], [0x30, ",'@|;*?&%#()$<>="]),
  7: table([0, ` ${UPPER}01234_${LOWER}56789`]),
  8: table([0, ` ${UPPER}_.-:/;${LOWER}+,'@|`]),
  9: table([0, LATIN_LETTERS], [0x40, ` ${UPPER}01234_${LOWER}56789`]),
  11: table([0, '0123456789abcdef']),
  12: table([0, '0123456789ABCDEF']),
};

/** @param words of the value, the first one with its header. @throws FormatError */
export function decodeShortString(words: readonly bigint[]): string {
  const first = words[0]!;
  const codec = bitsOf(first, 28, 5);
  const length = bitsOf(first, 33, 6);
  const codes = packedItems(words, FIRST_CHARACTER_BIT, shortStringBits(codec), length).map(Number);
  if (codec === CODEC_UTF8) return Buffer.from(codes).toString('utf8');
  if (codec === CODEC_LATIN1) return Buffer.from(codes).toString('latin1');
  const characters = TABLES[codec]!;
  return codes
    .map((code) => {
      const character = characters[code];
      if (character === undefined) throw new FormatError(`code ${code} is no character of codec ${codec}`);
      return character;
    })
    .join('');
}

/** Items of `width` bits side by side, lowest bits first, running from one word into the next. @throws FormatError */
export function packedItems(
  words: readonly bigint[],
  startBit: number,
  width: number,
  count: number,
): bigint[] {
  if (startBit + width * count > words.length * WORD_BITS)
    throw new FormatError('packed items overrun their words');
  const items: bigint[] = [];
  for (let bit = startBit; items.length < count; bit += width) {
    const index = Math.floor(bit / WORD_BITS);
    const both = words[index]! | ((words[index + 1] ?? 0n) << 64n);
    items.push(BigInt.asUintN(width, both >> BigInt(bit % WORD_BITS)));
  }
  return items;
}
