/**
 * Writes a full artifact: members become tar entries in frames that are compressed on all cores, hashed on the way,
 * and the index goes behind the tar. Owns the layout of the file (docs/formats/artifact.md); publishes nothing.
 *
 * The head (descriptor) has a fixed length and is written last, because the highest transaction is known only when
 * the log was read, after every store byte.
 */
import { createHash, type Hash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { GraphkeepError, throwIfAborted } from '../errors.ts';
import { MAGIC_BYTES, writeArchiveMetadata, ZSTD_WORD } from '../formats/artifact/container.ts';
import { type ArtifactDescriptor, writeDescriptor } from '../formats/artifact/descriptor.ts';
import {
  type ArtifactIndex,
  type IndexFrame,
  type IndexMember,
  writeIndexBlock,
} from '../formats/artifact/index.ts';
import { TAR_END_BYTES } from '../formats/tar.ts';
import { writeRawFrame } from '../formats/zstd.ts';
import { FRAME_RAW_BYTES, FRAMES_IN_FLIGHT_MAX } from '../limits.ts';
import { contentOfFrame, entryBytesOf, fillFrame, frameBytesAt } from './frame.ts';
import { FrameMemory, movedInto } from './framememory.ts';
import type { MemberSource } from './membersource.ts';
import { compressFrame, decompressFrame } from './zstd.ts';

export type IndexFacts = Omit<ArtifactIndex, 'formatVersion' | 'codec' | 'frames' | 'members'>;

interface StoredFrame {
  readonly stored: Buffer;
  readonly rawBytes: number;
  /** Called once it is written. */
  readonly release?: (() => void) | undefined;
}

/** Where the bytes go: a file, or an object of a store. */
export interface ArtifactSink {
  /** Bytes so far; the next append begins here. */
  readonly bytes: number;
  append(bytes: Buffer): Promise<void>;
  /** Overwrites bytes at the beginning. */
  patch(bytes: Buffer, positionBytes: number): Promise<void>;
  /** Takes back everything after `bytes`, which is where `hold` was called last. */
  truncate(bytes: number): Promise<void>;
  hold?(): void;
  /** Reads back what was written, where that can be done. */
  readBack?(target: Buffer, positionBytes: number): Promise<void>;
  /** Nothing can be taken back, and of what was written only what was appended first can be patched. */
  readonly appendOnly?: boolean;
}

/** A point that `rewind` can go back to: everything after it is taken out of the artifact again. */
export interface WriterMark {
  readonly frames: number;
  readonly members: number;
}

export class ArtifactWriter {
  readonly #publication: ArtifactSink;
  readonly #compressionLevel: number | undefined;
  readonly #frames: IndexFrame[] = [];
  readonly #members: IndexMember[] = [];
  readonly #inFlight: Promise<StoredFrame>[] = [];
  readonly #memory = new FrameMemory();
  readonly #onBytes: (bytes: number) => void;

  /**
   * @param compressionLevel zstd level; undefined writes the uncompressed container
   * @param onBytes told of every member byte that was read
   */
  constructor(
    publication: ArtifactSink,
    compressionLevel: number | undefined,
    onBytes: (bytes: number) => void = () => {},
  ) {
    this.#publication = publication;
    this.#compressionLevel = compressionLevel;
    this.#onBytes = onBytes;
  }

  /** Otherwise only what cannot change any more may be added. */
  get canRewind(): boolean {
    return this.#publication.appendOnly !== true;
  }

  get members(): readonly IndexMember[] {
    return this.#members;
  }

  /** Reserves the head. `descriptor` must have the names and properties of the final one. */
  async begin(descriptor: ArtifactDescriptor): Promise<void> {
    const head = this.#head(descriptor);
    await this.#publication.append(head);
    this.#frames.push([0, head.length, head.length, 0]);
  }

  #head(descriptor: ArtifactDescriptor): Buffer {
    const body = Buffer.concat([Buffer.of(2), writeDescriptor(descriptor)]);
    if (this.#compressionLevel === undefined) return Buffer.concat([Buffer.from('BTV2', 'latin1'), body]);
    const totalBytes = this.#members.reduce((sum, member) => sum + member.bytes, 0);
    const metadata = writeArchiveMetadata(this.#members.length, totalBytes);
    return Buffer.concat([
      Buffer.from('BZV2', 'latin1').subarray(0, MAGIC_BYTES),
      writeRawFrame(Buffer.concat([ZSTD_WORD, body, metadata])),
    ]);
  }

  /** What can be taken back from now on. Only where the sink has to know it, what is under way is waited for. */
  async mark(): Promise<WriterMark> {
    if (this.#publication.hold !== undefined) {
      await this.#drain(0);
      this.#publication.hold();
    }
    return { frames: this.#frames.length + this.#inFlight.length, members: this.#members.length };
  }

  async rewind(mark: WriterMark): Promise<void> {
    await this.#drain(0);
    const [offset] = this.#frames[mark.frames] ?? [this.#publication.bytes];
    await this.#publication.truncate(offset);
    this.#frames.length = mark.frames;
    this.#members.length = mark.members;
  }

  /** Appends one member. @throws what `source.read` throws; the artifact is then not to be published */
  async addMember(source: MemberSource, signal?: AbortSignal): Promise<IndexMember> {
    const hash = createHash('sha256');
    const firstFrame = this.#frames.length + this.#inFlight.length;
    const entryBytes = entryBytesOf(source);
    let isHashed = true;
    for (let offset = 0; offset < entryBytes; offset += FRAME_RAW_BYTES) {
      throwIfAborted(signal);
      isHashed = (await this.#addFrame(source, offset, hash)) && isHashed;
      this.#onBytes(frameBytesAt(source, offset));
    }
    const member: IndexMember = {
      path: source.path,
      kind: source.kind,
      bytes: source.bytes,
      sha256: isHashed ? hash.digest('hex') : await this.#hashOfPacked(source, firstFrame, signal),
      firstFrame,
      frameCount: this.#frames.length + this.#inFlight.length - firstFrame,
    };
    this.#members.push(member);
    return member;
  }

  /**
   * Adds the frame at `offset` of the member's entry: compressed already, where the source can give it so.
   * @returns whether its content was added to the hash: it is not known when it stayed packed
   */
  async #addFrame(source: MemberSource, offset: number, hash: Hash): Promise<boolean> {
    const level = this.#compressionLevel;
    const mayStayPacked = this.#publication.readBack !== undefined;
    const packed = level === undefined ? undefined : await source.readPacked?.(offset, level, mayStayPacked);
    const rawBytes = frameBytesAt(source, offset);
    if (packed !== undefined) {
      if (packed.raw !== undefined) hash.update(contentOfFrame(packed.raw, offset, source));
      const { stored, release } = packed;
      await this.#enqueue(Promise.resolve({ stored, rawBytes, release }));
      return packed.raw !== undefined;
    }
    const memory = this.#memory.take(rawBytes);
    const { content } = await fillFrame(memory.subarray(0, rawBytes), offset, source);
    // Before it is compressed: the frame takes its place in the memory.
    hash.update(content);
    await this.#enqueue(this.#compress(memory, rawBytes));
    return true;
  }

  /** From who packed the frames; where nobody knows any more what was in them, from the frames as they were written. */
  async #hashOfPacked(
    source: MemberSource,
    firstFrame: number,
    signal: AbortSignal | undefined,
  ): Promise<string> {
    const known = await source.packedSha256?.();
    if (known !== undefined) return known;
    await this.#drain(0);
    const hash = createHash('sha256');
    let offset = 0;
    for (const [position, storedBytes, rawBytes] of this.#frames.slice(firstFrame)) {
      throwIfAborted(signal);
      const stored = Buffer.allocUnsafe(storedBytes);
      await this.#publication.readBack?.(stored, position);
      hash.update(contentOfFrame(await decompressFrame(stored, rawBytes), offset, source));
      offset += rawBytes;
    }
    return hash.digest('hex');
  }

  /**
   * Appends one member of another artifact of the same codec, frame by frame as it is stored: no byte is decompressed.
   * Each frame is proven by its checksum; the member's hash is taken over, and proven by whoever validates the result.
   */
  async addStoredMember(
    member: IndexMember,
    frameAt: (number: number) => Promise<{ stored: Buffer; rawBytes: number }>,
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#drain(0);
    const firstFrame = this.#frames.length;
    for (let count = 0; count < member.frameCount; count++) {
      throwIfAborted(signal);
      const { stored, rawBytes } = await frameAt(member.firstFrame + count);
      this.#frames.push([this.#publication.bytes, stored.length, rawBytes, crc32(stored)]);
      await this.#publication.append(stored);
      this.#onBytes(rawBytes);
    }
    this.#members.push({ ...member, firstFrame });
  }

  async #enqueue(frame: Promise<StoredFrame>): Promise<void> {
    // A failure is reported where the frame is awaited, in order; without this it would count as unhandled first.
    frame.catch(() => undefined);
    this.#inFlight.push(frame);
    await this.#drain(FRAMES_IN_FLIGHT_MAX - 1);
  }

  /** What is at the beginning of the memory, which takes the frame as well. */
  async #compress(memory: Buffer, rawBytes: number): Promise<StoredFrame> {
    const level = this.#compressionLevel;
    const release = (): void => this.#memory.give(memory);
    const raw = memory.subarray(0, rawBytes);
    if (level === undefined) return { stored: raw, rawBytes, release };
    const stored = await compressFrame(raw, level, (frame) => movedInto(memory, frame));
    return { stored, rawBytes, release };
  }

  /** Writes finished frames in order until at most `leave` are under way. */
  async #drain(leave: number): Promise<void> {
    while (this.#inFlight.length > leave) {
      const frame = await this.#inFlight[0]!;
      const offset = this.#publication.bytes;
      await this.#publication.append(frame.stored);
      void this.#inFlight.shift();
      this.#frames.push([offset, frame.stored.length, frame.rawBytes, crc32(frame.stored)]);
      frame.release?.();
    }
  }

  /** Ends the tar, writes the index, then the head with its final content. */
  async finish(descriptor: ArtifactDescriptor, facts: IndexFacts): Promise<ArtifactIndex> {
    const end = this.#memory.take(TAR_END_BYTES).fill(0);
    await this.#enqueue(this.#compress(end, TAR_END_BYTES));
    await this.#drain(0);
    const head = this.#head(descriptor);
    if (head.length !== this.#frames[0]![1])
      throw new GraphkeepError('GK_INTERNAL', 'the head of the artifact grew');
    await this.#publication.patch(head, 0);
    this.#frames[0] = [0, head.length, head.length, crc32(head)];
    const index: ArtifactIndex = {
      formatVersion: 1,
      codec: this.#compressionLevel === undefined ? 'none' : 'zstd',
      ...facts,
      frames: this.#frames,
      members: this.#members,
    };
    const json = Buffer.from(JSON.stringify(index), 'utf8');
    const stored = await compressFrame(json, INDEX_COMPRESSION_LEVEL, (frame) => Buffer.from(frame));
    await this.#publication.append(writeIndexBlock(this.#publication.bytes, stored));
    return index;
  }

  /** Waits for work under way, so that a discarded file is not written to any more. */
  async abandon(): Promise<void> {
    await Promise.allSettled(this.#inFlight);
  }
}

const INDEX_COMPRESSION_LEVEL = 3;
