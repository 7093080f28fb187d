/** The CRC-32 of a whole out of those of its pieces, without reading a byte again: for what was put together elsewhere. */

/** Bits are mirrored, as zlib and everybody else has them: the highest is x⁰. */
const POLYNOMIAL = 0xedb88320;
const ONE = 0x80000000;

/** Product of two polynomials, modulo that of the CRC. */
function times(left: number, right: number): number {
  let product = 0;
  let power = right;
  for (let bit = ONE; bit !== 0; bit >>>= 1) {
    if ((left & bit) !== 0) product ^= power;
    power = (power & 1) === 0 ? power >>> 1 : (power >>> 1) ^ POLYNOMIAL;
  }
  return product >>> 0;
}

/** x to the number of bits in so many bytes. */
function shiftOf(bytes: number): number {
  let shift = ONE;
  let square = 0x00800000; // x⁸: one byte
  for (let left = bytes; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) shift = times(square, shift);
    square = times(square, square);
  }
  return shift;
}

/** @param bytes of the second piece */
export function combineCrc32(first: number, second: number, bytes: number): number {
  return (times(shiftOf(bytes), first) ^ second) >>> 0;
}
