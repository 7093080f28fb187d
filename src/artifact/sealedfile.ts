/**
 * Files of artifacts as they are to be read: an encrypted one is decrypted by ranges, and whoever reads it does not know the
 * difference. What age calls a file is told by its first bytes, never by its name.
 */
import { type AgeHeader, isAge, parseHeader, stanzaBody } from '../formats/age/header.ts';
import {
  CHUNK_BYTES,
  chunkCountOf,
  openChunk,
  PAYLOAD_NONCE_BYTES,
  payloadKeyOf,
  plainBytesOf,
  SEALED_CHUNK_BYTES,
} from '../formats/age/payload.ts';
import { FormatError } from '../formats/formaterror.ts';
import { AGE_HEADER_BYTES_MAX, SEALED_RUN_CHUNKS_MAX } from '../limits.ts';
import type { ReadableFile } from '../storage/local.ts';
import { type ListedFacts, openPath } from '../storage/places.ts';
import { HEAD_BYTES, readRange } from './bytes.ts';
import { fileKeyOf } from './encryption.ts';
import { CLEAR_HEADER_TYPE } from './sealedsink.ts';

/** The end of a file that is read when it is opened: whoever lists artifacts wants their index next. */
const TAIL_CHUNKS = 2;

/** Opens the file of an artifact, which may have been listed. @throws FormatError, GK_KEY_MISSING, GK_NOT_FOUND, … */
export async function openContent(path: string, facts?: ListedFacts): Promise<ReadableFile> {
  const raw = await openPath(path, facts);
  try {
    const file = await withStartInMemory(raw);
    const header = await readHeader(file);
    return header === undefined ? file : await openSealed(file, header);
  } catch (error) {
    await raw.close();
    throw error;
  }
}

/** What an encrypted artifact says in the clear; nobody has proven it. undefined when it says nothing, or is not one. */
export async function readClearHeader(
  path: string,
  facts?: ListedFacts,
): Promise<{ body: Buffer; bytes: number } | undefined> {
  const raw = await openPath(path, facts);
  try {
    const header = await readHeader(await withStartInMemory(raw));
    const body = header === undefined ? undefined : stanzaBody(header.stanzas, CLEAR_HEADER_TYPE);
    return body === undefined ? undefined : { body, bytes: raw.bytes };
  } finally {
    await raw.close();
  }
}

async function withStartInMemory(file: ReadableFile): Promise<ReadableFile> {
  const start = await readRange(file, 0, Math.min(HEAD_BYTES, file.bytes));
  return {
    ...file,
    read: async (target, position) =>
      position + target.length <= start.length
        ? start.copy(target, 0, position, position + target.length)
        : file.read(target, position),
  };
}

/** undefined when the file is not encrypted. */
async function readHeader(file: ReadableFile): Promise<AgeHeader | undefined> {
  for (let bytes = Math.min(HEAD_BYTES, file.bytes); ; bytes = Math.min(bytes * 2, file.bytes)) {
    const start = await readRange(file, 0, Math.min(bytes, AGE_HEADER_BYTES_MAX));
    if (!isAge(start)) return undefined;
    const header = parseHeader(start);
    if (header !== undefined) return header;
    if (start.length === file.bytes) throw new FormatError('it is encrypted and cut short');
  }
}

/** The end is read at once: only the last chunk tells that nothing is missing behind it. */
async function openSealed(file: ReadableFile, header: AgeHeader): Promise<ReadableFile> {
  const fileKey = await fileKeyOf(header, file.path);
  const nonce = await readRange(file, header.bytes.length, PAYLOAD_NONCE_BYTES);
  const chunks = new SealedChunks(
    file,
    payloadKeyOf(fileKey, nonce),
    header.bytes.length + PAYLOAD_NONCE_BYTES,
  );
  await chunks.openTail();
  return {
    path: file.path,
    bytes: chunks.bytes,
    sealedBytes: file.bytes,
    read: (target, position) => chunks.read(target, position),
    close: file.close,
  };
}

class SealedChunks {
  /** Of the content. */
  readonly bytes: number;
  readonly #file: ReadableFile;
  readonly #key: Buffer;
  readonly #start: number;
  readonly #count: number;
  /** The first of the chunks whose content is kept. */
  readonly #tailFirst: number;
  #tail = Buffer.alloc(0);

  /** @throws FormatError */
  constructor(file: ReadableFile, key: Buffer, start: number) {
    this.#file = file;
    this.#key = key;
    this.#start = start;
    this.#count = chunkCountOf(file.bytes - start);
    this.#tailFirst = Math.max(0, this.#count - TAIL_CHUNKS);
    this.bytes = plainBytesOf(file.bytes - start);
  }

  async openTail(): Promise<void> {
    this.#tail = Buffer.concat(await this.#open(this.#tailFirst, this.#count - this.#tailFirst));
  }

  /** The content of so many chunks, chunk by chunk. */
  async #open(first: number, count: number): Promise<Buffer[]> {
    const start = this.#start + first * SEALED_CHUNK_BYTES;
    const end = Math.min(start + count * SEALED_CHUNK_BYTES, this.#file.bytes);
    const run = await readRange(this.#file, start, end - start);
    return Array.from({ length: count }, (_, index) => {
      const sealed = run.subarray(index * SEALED_CHUNK_BYTES, (index + 1) * SEALED_CHUNK_BYTES);
      return openChunk(this.#key, first + index, first + index === this.#count - 1, sealed);
    });
  }

  async read(target: Buffer, position: number): Promise<number> {
    const wanted = Math.max(0, Math.min(target.length, this.bytes - position));
    const last = Math.min(Math.floor((position + wanted - 1) / CHUNK_BYTES), this.#tailFirst - 1);
    const tailStart = this.#tailFirst * CHUNK_BYTES;
    for (let done = 0; done < wanted; ) {
      const at = position + done;
      if (at >= tailStart) return done + this.#tail.copy(target, done, at - tailStart);
      const first = Math.floor(at / CHUNK_BYTES);
      let skip = at - first * CHUNK_BYTES;
      for (const plain of await this.#open(first, Math.min(last - first + 1, SEALED_RUN_CHUNKS_MAX))) {
        done += plain.copy(target, done, skip);
        skip = 0;
      }
    }
    return wanted;
  }
}
