/**
 * Reads artifacts of any container: the descriptor by a few small reads, the members in order, each byte proven
 * before it is handed on. Artifacts of graphkeep carry an index, so frames are fetched by range and decompressed on
 * all cores; artifacts of other tools are one stream, proven by zstd's own checksum and the tar headers only.
 */
import { createHash, type Hash } from 'node:crypto';
import { pipeline, Readable } from 'node:stream';
import { constants, crc32, createZstdDecompress, zstdDecompress } from 'node:zlib';
import { GraphkeepError } from '../errors.ts';
import {
  ARCHIVE_METADATA_BYTES,
  type Container,
  containerOf,
  descriptorStart,
  MAGIC_BYTES,
  ZSTD_WORD,
} from '../formats/artifact/container.ts';
import {
  type ArtifactDescriptor,
  DescriptorIncompleteError,
  parseDescriptor,
} from '../formats/artifact/descriptor.ts';
import {
  type ArtifactIndex,
  FOOTER_BYTES,
  INDEX_JSON_BYTES_MAX,
  INDEX_PROPERTY,
  type IndexMember,
  type MemberKind,
  parseFooter,
  parseIndex,
  storedIndexOf,
} from '../formats/artifact/index.ts';
import { FormatError } from '../formats/formaterror.ts';
import {
  parsePaxRecords,
  parseTarHeader,
  safeMemberPath,
  TAR_BLOCK_BYTES,
  TAR_PATH_BYTES_MAX,
  tarPadding,
} from '../formats/tar.ts';
import { DESCRIPTOR_REGION_BYTES_MAX, FRAMES_IN_FLIGHT_MAX, KIB, MIB } from '../limits.ts';
import { openForReading, type ReadableFile } from '../storage/local.ts';

const HEAD_READ_BYTES = 64 * KIB;
const STREAM_READ_BYTES = MIB;
const PAX_BYTES_MAX = MIB;

export interface Artifact {
  readonly file: ReadableFile;
  readonly container: Container;
  readonly descriptor: ArtifactDescriptor;
  /** File offset of the stream that holds the tar, compressed or not. */
  readonly streamStart: number;
  /** Bytes of that stream, after decompression, before the tar. */
  readonly tarStart: number;
  /** Only artifacts that graphkeep wrote have one. */
  readonly index: ArtifactIndex | undefined;
}

/** Where a member belongs: log and checkpoint files go to the transaction folder, all others to the store folder. */
export interface MemberInfo {
  readonly path: string;
  readonly kind: MemberKind;
  readonly bytes: number;
}

/** Receives members one after the other; `content` may keep the buffer, it is not reused. */
export interface MemberHandler {
  begin(member: MemberInfo): Promise<void>;
  content(bytes: Buffer, positionBytes: number): Promise<void>;
  end(): Promise<void>;
}

export interface ReadOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onBytes?: (bytes: number) => void;
}

/** Opens an artifact and reads its descriptor and index. @throws GK_NOT_FOUND, GK_ARTIFACT_CORRUPT, GK_UNSUPPORTED */
export async function openArtifact(path: string): Promise<Artifact> {
  const file = await openForReading(path);
  try {
    return await corruptOnFormatError(path, () => readHeadAndIndex(file));
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Runs `work`; a FormatError becomes GK_ARTIFACT_CORRUPT with the path of the artifact. */
export async function corruptOnFormatError<Result>(
  path: string,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof FormatError) {
      throw new GraphkeepError('GK_ARTIFACT_CORRUPT', `${path}: ${error.message}`, { cause: error });
    }
    throw error;
  }
}

async function readHeadAndIndex(file: ReadableFile): Promise<Artifact> {
  const head = await readRange(file, 0, Math.min(HEAD_READ_BYTES, file.bytes));
  const container = containerOf(head);
  if (container === undefined) {
    throw new GraphkeepError('GK_ARTIFACT_CORRUPT', `${file.path} is not a backup artifact`, {
      hint: 'artifacts begin with BTV1, BTV2, BZV1, BZV2 or BZV3; a dump is loaded with neo4j-admin database load',
    });
  }
  const { descriptor, streamStart, tarStart } = container.compressedDescriptor
    ? await readStreamedDescriptor(file, container)
    : await readPlainDescriptor(file, container, head);
  const index = await readIndex(file, descriptor);
  return { file, container, descriptor, streamStart, tarStart, index };
}

async function readRange(file: ReadableFile, position: number, bytes: number): Promise<Buffer> {
  const target = Buffer.allocUnsafe(bytes);
  const got = await file.read(target, position);
  if (got < bytes) throw new FormatError(`the file ends at byte ${position + got}, inside its content`);
  return target;
}

type LocatedDescriptor = Pick<Artifact, 'descriptor' | 'streamStart' | 'tarStart'>;

async function readPlainDescriptor(
  file: ReadableFile,
  container: Container,
  head: Buffer,
): Promise<LocatedDescriptor> {
  let bytes = head;
  for (;;) {
    try {
      const start = descriptorStart(container, bytes, MAGIC_BYTES);
      const { descriptor, end } = parseDescriptor(bytes, start, container.descriptorVersion);
      // A compressed tar behind a plain descriptor is a stream of its own, which begins with its word and metadata.
      const tarStart = container.compressedTar ? ZSTD_WORD.length + ARCHIVE_METADATA_BYTES : 0;
      return { descriptor, streamStart: end, tarStart };
    } catch (error) {
      const more = Math.min(bytes.length * 4, file.bytes, DESCRIPTOR_REGION_BYTES_MAX);
      if (!(error instanceof DescriptorIncompleteError) || more <= bytes.length) throw error;
      bytes = await readRange(file, 0, more);
    }
  }
}

async function readStreamedDescriptor(file: ReadableFile, container: Container): Promise<LocatedDescriptor> {
  const chunks: Buffer[] = [];
  let gotBytes = 0;
  let tryAtBytes = 1;
  for await (const chunk of decompressed(file, MAGIC_BYTES)) {
    chunks.push(chunk);
    gotBytes += chunk.length;
    // Parsing again only when the bytes have doubled: an endless descriptor must not take quadratic time.
    if (gotBytes < tryAtBytes) continue;
    tryAtBytes = gotBytes * 2;
    const located = tryStreamedDescriptor(Buffer.concat(chunks), container);
    if (located !== undefined) return located;
    if (gotBytes > DESCRIPTOR_REGION_BYTES_MAX) break;
  }
  const located =
    gotBytes > DESCRIPTOR_REGION_BYTES_MAX
      ? undefined
      : tryStreamedDescriptor(Buffer.concat(chunks), container);
  if (located === undefined) throw new FormatError('the artifact holds no complete descriptor');
  return located;
}

function tryStreamedDescriptor(bytes: Buffer, container: Container): LocatedDescriptor | undefined {
  if (bytes.length < ZSTD_WORD.length + 1) return undefined;
  if (!bytes.subarray(0, ZSTD_WORD.length).equals(ZSTD_WORD))
    throw new FormatError('the stream lacks its word "zstd"');
  try {
    const start = descriptorStart(container, bytes, ZSTD_WORD.length);
    const { descriptor, end } = parseDescriptor(bytes, start, container.descriptorVersion);
    return { descriptor, streamStart: MAGIC_BYTES, tarStart: end + ARCHIVE_METADATA_BYTES };
  } catch (error) {
    if (error instanceof DescriptorIncompleteError) return undefined;
    throw error;
  }
}

async function readIndex(
  file: ReadableFile,
  descriptor: ArtifactDescriptor,
): Promise<ArtifactIndex | undefined> {
  const footer =
    file.bytes < FOOTER_BYTES
      ? undefined
      : parseFooter(await readRange(file, file.bytes - FOOTER_BYTES, FOOTER_BYTES), file.bytes);
  if (footer === undefined) {
    // Without this, an artifact cut at its end would pass for one of another tool and be restored unproven.
    if (descriptor.properties.has(INDEX_PROPERTY))
      throw new FormatError('the member index is missing at its end');
    return undefined;
  }
  const block = await readRange(file, footer.indexOffset, file.bytes - footer.indexOffset);
  const json = await decompressFrame(storedIndexOf(block, footer), INDEX_JSON_BYTES_MAX);
  return parseIndex(json.toString('utf8'), footer.indexOffset);
}

function decompressFrame(stored: Buffer, rawBytesMax: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    zstdDecompress(stored, { maxOutputLength: rawBytesMax }, (error, raw) =>
      error === null
        ? resolve(raw)
        : reject(new FormatError(`a frame cannot be decompressed: ${error.message}`)),
    );
  });
}

/** Sends every member to `handler`, in the order of the artifact. @throws GK_ARTIFACT_CORRUPT, GK_INTERRUPTED */
export async function readMembers(
  artifact: Artifact,
  handler: MemberHandler,
  options: ReadOptions = {},
): Promise<void> {
  await corruptOnFormatError(artifact.file.path, () =>
    artifact.index === undefined
      ? readStreamedMembers(artifact, handler, options)
      : readIndexedMembers(artifact, artifact.index, handler, options),
  );
}

/** Sum of the members' bytes, where it is known before they are read. */
export function memberBytesOf(index: ArtifactIndex): number {
  return index.members.reduce((sum, member) => sum + member.bytes, 0);
}

// Indexed artifacts

async function readIndexedMembers(
  artifact: Artifact,
  index: ArtifactIndex,
  handler: MemberHandler,
  options: ReadOptions,
): Promise<void> {
  const frames = orderedFrames(artifact.file, index, options);
  await frames.next(); // the head: its checksum is all there is to prove
  for (const member of index.members) {
    await readIndexedMember(member, frames, handler);
  }
  const end = await frames.next();
  if (end.done === true || end.value.some((byte) => byte !== 0))
    throw new FormatError('the tar does not end in zeros');
}

async function readIndexedMember(
  member: IndexMember,
  frames: AsyncGenerator<Buffer, void>,
  handler: MemberHandler,
): Promise<void> {
  await handler.begin(member);
  const hash = createHash('sha256');
  let offset = 0;
  for (let count = 0; count < member.frameCount; count++) {
    const frame = await frames.next();
    if (frame.done === true) throw new FormatError(`${member.path} ends too early`);
    await passContent(member, frame.value, offset, hash, handler);
    offset += frame.value.length;
  }
  if (hash.digest('hex') !== member.sha256) throw new FormatError(`${member.path} fails its SHA-256`);
  await handler.end();
}

async function passContent(
  member: IndexMember,
  raw: Buffer,
  offset: number,
  hash: Hash,
  handler: MemberHandler,
): Promise<void> {
  if (offset === 0) {
    const header = parseTarHeader(raw);
    if (
      header === undefined ||
      safeMemberPath(header.path) !== member.path ||
      header.bytes !== member.bytes
    ) {
      throw new FormatError(`the tar header of ${member.path} says something else than the index`);
    }
  }
  const start = offset === 0 ? TAR_BLOCK_BYTES : 0;
  const position = offset + start - TAR_BLOCK_BYTES;
  const content = raw.subarray(start, start + Math.max(0, member.bytes - position));
  if (content.length === 0) return;
  hash.update(content);
  await handler.content(content, position);
}

/** All frames in order, several of them read and decompressed ahead. */
async function* orderedFrames(
  file: ReadableFile,
  index: ArtifactIndex,
  options: ReadOptions,
): AsyncGenerator<Buffer, void> {
  const inFlight: Promise<Buffer>[] = [];
  let next = 0;
  try {
    while (next < index.frames.length || inFlight.length > 0) {
      if (options.signal?.aborted) throw interrupted(options.signal);
      while (next < index.frames.length && inFlight.length < FRAMES_IN_FLIGHT_MAX) {
        const frame = readFrame(file, index, next++);
        frame.catch(() => undefined); // reported below, in order
        inFlight.push(frame);
      }
      const raw = await inFlight.shift()!;
      options.onBytes?.(raw.length);
      yield raw;
    }
  } finally {
    await Promise.allSettled(inFlight);
  }
}

async function readFrame(file: ReadableFile, index: ArtifactIndex, number: number): Promise<Buffer> {
  const [offset, storedBytes, rawBytes, expectedCrc32] = index.frames[number]!;
  const stored = await readRange(file, offset, storedBytes);
  if (crc32(stored) !== expectedCrc32)
    throw new FormatError(`bytes ${offset}–${offset + storedBytes} fail their checksum`);
  if (number === 0 || index.codec === 'none') return stored;
  const raw = await decompressFrame(stored, rawBytes);
  if (raw.length !== rawBytes)
    throw new FormatError(`bytes ${offset}–${offset + storedBytes} have another size`);
  return raw;
}

function interrupted(signal: AbortSignal): GraphkeepError {
  return new GraphkeepError('GK_INTERRUPTED', 'interrupted', { cause: signal.reason });
}

// Streamed artifacts

async function* fileChunks(file: ReadableFile, start: number): AsyncGenerator<Buffer, void> {
  for (let position = start; position < file.bytes; position += STREAM_READ_BYTES) {
    yield await readRange(file, position, Math.min(STREAM_READ_BYTES, file.bytes - position));
  }
}

async function* decompressed(file: ReadableFile, start: number): AsyncGenerator<Buffer, void> {
  const decoder = createZstdDecompress({ params: { [constants.ZSTD_d_windowLogMax]: 31 } });
  // The error reaches the loop below through the destroyed decoder.
  pipeline(Readable.from(fileChunks(file, start)), decoder, () => undefined);
  try {
    for await (const chunk of decoder) yield chunk as Buffer;
  } catch (error) {
    if (error instanceof GraphkeepError || error instanceof FormatError) throw error;
    throw new FormatError(
      `the zstd stream is damaged or cut short: ${error instanceof Error ? error.message : error}`,
    );
  }
}

async function readStreamedMembers(
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
    if (this.#options.signal?.aborted) throw interrupted(this.#options.signal);
    const next = await this.#chunks.next();
    if (next.done === true) throw new FormatError('the artifact ends inside its tar');
    this.#options.onBytes?.(next.value.length);
    this.#rest = next.value;
  }
}
