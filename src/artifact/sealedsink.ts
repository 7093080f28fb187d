/**
 * Encrypts an artifact on its way to a file or an object (docs/formats/encryption.md). No chunk is ever sealed twice: two
 * contents under one key and number would betray both to whoever saw them. So what is written last, the head of an artifact,
 * stays in memory until the end, its place in the file filled with zeros; and nothing that was sealed is taken back.
 */
import { randomBytes } from 'node:crypto';
import { GraphkeepError } from '../errors.ts';
import { headerBytesOf, writeHeader, writeStanza } from '../formats/age/header.ts';
import {
  CHUNK_BYTES,
  PAYLOAD_NONCE_BYTES,
  payloadKeyOf,
  SEALED_CHUNK_BYTES,
  sealChunk,
} from '../formats/age/payload.ts';
import { DESCRIPTOR_REGION_BYTES_MAX } from '../limits.ts';
import { makeFileKey, rememberFileKey } from './encryption.ts';
import type { ArtifactSink } from './writer.ts';

/** Our stanza in the header, which age and its libraries pass over. */
export const CLEAR_HEADER_TYPE = 'graphkeep.org/v1';

export class SealedSink implements ArtifactSink {
  readonly appendOnly = true;
  readonly #sink: ArtifactSink;
  readonly #fileKey: Buffer;
  readonly #stanzas: string;
  readonly #clearHeaderBytes: number | undefined;
  readonly #nonce = randomBytes(PAYLOAD_NONCE_BYTES);
  readonly #key: Buffer;
  readonly #payloadStart: number;
  /** What was appended first, the head, reaches into so many chunks. */
  #headChunks = 0;
  /** Whole chunks of the head, not sealed yet. */
  readonly #held: Buffer[] = [];
  /** The chunk that is being filled, and its number. */
  #chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  #filled = 0;
  #number = 0;
  #ended = false;

  private constructor(
    sink: ArtifactSink,
    { fileKey, stanzas }: { fileKey: Buffer; stanzas: string },
    clearHeaderBytes: number | undefined,
  ) {
    this.#sink = sink;
    this.#fileKey = fileKey;
    this.#stanzas = stanzas;
    this.#clearHeaderBytes = clearHeaderBytes;
    this.#key = payloadKeyOf(fileKey, this.#nonce);
    const placeholder = clearHeaderBytes === undefined ? undefined : Buffer.alloc(clearHeaderBytes);
    this.#payloadStart = headerBytesOf(this.#stanzasWith(placeholder)) + PAYLOAD_NONCE_BYTES;
  }

  /** @param clearHeaderBytes length of what `finish` will say in the clear; undefined when it says nothing */
  static async begin(sink: ArtifactSink, clearHeaderBytes?: number): Promise<SealedSink> {
    const sealed = new SealedSink(sink, await makeFileKey(), clearHeaderBytes);
    await sink.append(Buffer.alloc(sealed.#payloadStart));
    return sealed;
  }

  /** Of the artifact, not of the encrypted file. */
  get bytes(): number {
    return this.#number * CHUNK_BYTES + this.#filled;
  }

  async append(bytes: Buffer): Promise<void> {
    if (this.#ended) throw new GraphkeepError('GK_INTERNAL', 'an encrypted artifact has ended already');
    if (this.bytes === 0) this.#holdHead(bytes.length);
    const sealed: Buffer[] = [];
    for (let done = 0; done < bytes.length; ) {
      // Only now is it known that the full chunk is not the last one.
      if (this.#filled === CHUNK_BYTES) sealed.push(...this.#endChunk());
      const copied = bytes.copy(this.#chunk, this.#filled, done);
      this.#filled += copied;
      done += copied;
    }
    if (sealed.length > 0) await this.#sink.append(Buffer.concat(sealed));
  }

  #holdHead(headBytes: number): void {
    if (headBytes > DESCRIPTOR_REGION_BYTES_MAX)
      throw new GraphkeepError('GK_INTERNAL', `the head of the artifact has ${headBytes} bytes`);
    this.#headChunks = Math.ceil(headBytes / CHUNK_BYTES);
  }

  /** What is to be written of the chunk that is full: of one of the head, its place. */
  #endChunk(): Buffer[] {
    const number = this.#number++;
    this.#filled = 0;
    if (number >= this.#headChunks) return sealChunk(this.#key, number, false, this.#chunk);
    this.#held.push(this.#chunk);
    this.#chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    return [Buffer.alloc(SEALED_CHUNK_BYTES)];
  }

  /** Only bytes of the head. */
  async patch(bytes: Buffer, positionBytes: number): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const at = positionBytes + done;
      const number = Math.floor(at / CHUNK_BYTES);
      const chunk = number === this.#number ? this.#chunk : this.#held[number];
      if (chunk === undefined || this.#ended || positionBytes + bytes.length > this.bytes)
        throw new GraphkeepError('GK_INTERNAL', `byte ${at} of the artifact is encrypted already`);
      done += bytes.copy(chunk, at % CHUNK_BYTES, done);
    }
  }

  /** Nothing that was sealed comes back. */
  async truncate(bytes: number): Promise<void> {
    if (bytes === this.bytes) return;
    throw new GraphkeepError('GK_INTERNAL', `an encrypted artifact cannot go back to byte ${bytes}`);
  }

  /**
   * Seals the end, then the head, and writes the header last: until then nobody takes the file for an age file.
   * @param clearHeader of the length that `begin` was told
   */
  async finish(clearHeader?: Buffer): Promise<void> {
    if (this.#ended || clearHeader?.length !== this.#clearHeaderBytes)
      throw new GraphkeepError('GK_INTERNAL', 'an encrypted artifact ends in a way it did not begin');
    this.#ended = true;
    const last = this.#chunk.subarray(0, this.#filled);
    await this.#sink.append(Buffer.concat(sealChunk(this.#key, this.#number, true, last)));
    for (const [number, chunk] of this.#held.entries()) {
      const sealed = Buffer.concat(sealChunk(this.#key, number, false, chunk));
      await this.#sink.patch(sealed, this.#payloadStart + number * SEALED_CHUNK_BYTES);
    }
    const header = writeHeader(this.#stanzasWith(clearHeader), this.#fileKey);
    await this.#sink.patch(Buffer.concat([header, this.#nonce]), 0);
    rememberFileKey(header, this.#fileKey);
  }

  #stanzasWith(clearHeader: Buffer | undefined): string {
    return clearHeader === undefined
      ? this.#stanzas
      : this.#stanzas + writeStanza(CLEAR_HEADER_TYPE, clearHeader);
  }
}
