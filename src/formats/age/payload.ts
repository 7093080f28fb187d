/**
 * The payload of an age file: chunks of 64 KiB, each sealed by ChaCha20-Poly1305 under its number and the word whether it is
 * the last one. So none can be changed, exchanged, left out or added. Two contents under one key and number would betray
 * both: who seals (sealedsink.ts) sees to it that this never happens.
 */
import { createCipheriv, createDecipheriv, hkdfSync } from 'node:crypto';
import { FormatError } from '../formaterror.ts';

export const PAYLOAD_NONCE_BYTES = 16;
export const CHUNK_BYTES = 64 * 1024;
export const TAG_BYTES = 16;
export const SEALED_CHUNK_BYTES = CHUNK_BYTES + TAG_BYTES;
const KEY_BYTES = 32;
const CIPHER = 'chacha20-poly1305';
/** Eleven bytes of number, big-endian; a file has fewer than 2^48 chunks, so the first five stay zero. */
const NONCE_BYTES = 12;
const NUMBER_OFFSET = 5;
const NUMBER_BYTES = 6;

/** @param nonce the random bytes between header and first chunk */
export function payloadKeyOf(fileKey: Buffer, nonce: Buffer): Buffer {
  return Buffer.from(hkdfSync('sha256', fileKey, nonce, 'payload', KEY_BYTES));
}

/** How many chunks these sealed bytes are. @throws FormatError when they cannot be a payload */
export function chunkCountOf(sealedBytes: number): number {
  const count = Math.ceil(sealedBytes / SEALED_CHUNK_BYTES);
  const lastBytes = sealedBytes - (count - 1) * SEALED_CHUNK_BYTES;
  // Only an empty file has a chunk with nothing in it.
  if (count < 1 || lastBytes < (count === 1 ? TAG_BYTES : TAG_BYTES + 1))
    throw new FormatError('it is encrypted and cut short');
  return count;
}

/** @throws FormatError */
export function plainBytesOf(sealedBytes: number): number {
  return sealedBytes - chunkCountOf(sealedBytes) * TAG_BYTES;
}

/** In two pieces: to put each chunk together on its own would copy all of it once more. */
export function sealChunk(key: Buffer, number: number, isLast: boolean, plain: Buffer): [Buffer, Buffer] {
  const cipher = createCipheriv(CIPHER, key, nonceOf(number, isLast), { authTagLength: TAG_BYTES });
  const sealed = cipher.update(plain);
  cipher.final();
  return [sealed, cipher.getAuthTag()];
}

/** @throws FormatError when it is not the chunk of that number as it was sealed */
export function openChunk(key: Buffer, number: number, isLast: boolean, sealed: Buffer): Buffer {
  const tagStart = sealed.length - TAG_BYTES;
  const decipher = createDecipheriv(CIPHER, key, nonceOf(number, isLast), { authTagLength: TAG_BYTES });
  decipher.setAuthTag(sealed.subarray(tagStart));
  const plain = decipher.update(sealed.subarray(0, tagStart));
  try {
    decipher.final();
  } catch {
    const what = isLast ? 'its end is missing or changed' : 'was changed, or is not in its place';
    throw new FormatError(`chunk ${number} of what is encrypted: ${what}`);
  }
  return plain;
}

function nonceOf(number: number, isLast: boolean): Buffer {
  const nonce = Buffer.alloc(NONCE_BYTES);
  nonce.writeUIntBE(number, NUMBER_OFFSET, NUMBER_BYTES);
  nonce[NONCE_BYTES - 1] = isLast ? 1 : 0;
  return nonce;
}
