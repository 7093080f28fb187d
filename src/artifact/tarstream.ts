/**
 * Members out of an artifact without an index, which another tool wrote: one stream, proven by zstd's own checksum and
 * the tar headers only.
 */

import { throwIfAborted } from '../errors.ts';
import type { MemberKind } from '../formats/artifact/index.ts';
import { FormatError } from '../formats/formaterror.ts';
import {
  parsePaxRecords,
  parseTarHeader,
  safeMemberPath,
  TAR_BLOCK_BYTES,
  TAR_PATH_BYTES_MAX,
  tarPadding,
} from '../formats/tar.ts';
import { MIB } from '../limits.ts';
import { decompressed, fileChunks } from './bytes.ts';
import type { MemberHandler, MemberInfo, ReadOptions } from './memberhandler.ts';
import type { Artifact } from './reader.ts';

const PAX_BYTES_MAX = MIB;

/** Sends every file of the tar to `handler`. @throws FormatError */
export async function readStreamedMembers(
  artifact: Artifact,
  handler: MemberHandler,
  options: ReadOptions,
): Promise<void> {
  const { container, file, streamStart, tarStart } = artifact;
  const chunks = container.compressedTar ? decompressed(file, streamStart) : fileChunks(file, streamStart);
  const bytes = new ByteStream(chunks, options);
  await bytes.skip(tarStart);
  for (;;) {
    const header = await nextFile(bytes);
    if (header === undefined) return;
    await readStreamedMember(header, bytes, handler);
  }
}

async function nextFile(bytes: ByteStream): Promise<MemberInfo | undefined> {
  let longPath: string | undefined;
  let paxBytes: number | undefined;
  for (;;) {
    const header = parseTarHeader(await bytes.take(TAR_BLOCK_BYTES));
    if (header === undefined) return undefined;
    if (header.type === 'paxHeader' || header.type === 'gnuLongName') {
      if (header.bytes > PAX_BYTES_MAX) throw new FormatError(`tar extension of ${header.bytes} bytes`);
      const content = await bytes.take(header.bytes);
      await bytes.skip(tarPadding(header.bytes));
      const pax = header.type === 'paxHeader' ? parsePaxRecords(content) : { path: cString(content) };
      longPath = pax.path ?? longPath;
      paxBytes = 'bytes' in pax ? pax.bytes : paxBytes;
      continue;
    }
    if (header.type === 'file') {
      const path = safeMemberPath(longPath ?? header.path);
      return { path, kind: memberKindOf(path), bytes: paxBytes ?? header.bytes };
    }
    if (header.type === 'other') throw new FormatError(`tar entry ${header.path} is neither file nor folder`);
    [longPath, paxBytes] = [undefined, undefined];
    await bytes.skip(header.bytes + tarPadding(header.bytes));
  }
}

function cString(content: Buffer): string {
  return content.subarray(0, TAR_PATH_BYTES_MAX).toString('utf8').replace(/\0.*$/s, '');
}

/** As stock `load` sorts them: by the last part of the name. */
export function memberKindOf(path: string): MemberKind {
  const name = path.slice(path.lastIndexOf('/') + 1);
  if (/^neostore\.transaction\.db\./.test(name)) return 'log';
  return /^checkpoint\./.test(name) ? 'checkpoint' : 'store';
}

async function readStreamedMember(
  member: MemberInfo,
  bytes: ByteStream,
  handler: MemberHandler,
): Promise<void> {
  await handler.begin(member);
  for (let position = 0; position < member.bytes; ) {
    const content = await bytes.takeUpTo(member.bytes - position);
    await handler.content(content, position);
    position += content.length;
  }
  await bytes.skip(tarPadding(member.bytes));
  await handler.end();
}

/** Takes exact counts of bytes out of a stream of chunks. */
class ByteStream {
  readonly #chunks: AsyncGenerator<Buffer, void>;
  readonly #options: ReadOptions;
  #rest: Buffer = Buffer.alloc(0);

  constructor(chunks: AsyncGenerator<Buffer, void>, options: ReadOptions) {
    this.#chunks = chunks;
    this.#options = options;
  }

  /** At least one byte, at most `count`. */
  async takeUpTo(count: number): Promise<Buffer> {
    if (this.#rest.length === 0) await this.#refill();
    const taken = this.#rest.subarray(0, count);
    this.#rest = this.#rest.subarray(taken.length);
    return taken;
  }

  async take(count: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let missing = count; missing > 0; ) {
      const part = await this.takeUpTo(missing);
      parts.push(part);
      missing -= part.length;
    }
    return Buffer.concat(parts);
  }

  async skip(count: number): Promise<void> {
    for (let missing = count; missing > 0; ) missing -= (await this.takeUpTo(missing)).length;
  }

  async #refill(): Promise<void> {
    throwIfAborted(this.#options.signal);
    const next = await this.#chunks.next();
    if (next.done === true) throw new FormatError('the artifact ends inside its tar');
    this.#options.onBytes?.(next.value.length);
    this.#rest = next.value;
  }
}
