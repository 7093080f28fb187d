/** Where the content of a member comes from: memory, a piece of another artifact, or several of these in a row. */
import { crc32 } from 'node:zlib';
import type { ArtifactIndex, IndexMember, MemberKind } from '../formats/artifact/index.ts';
import { FormatError } from '../formats/formaterror.ts';
import { TAR_BLOCK_BYTES } from '../formats/tar.ts';
import type { ReadableFile } from '../storage/local.ts';
import { readRange } from './bytes.ts';
import { type Artifact, corruptOnFormatError } from './reader.ts';
import { decompressFrame } from './zstd.ts';

/** Content of a member; `read` must fill the whole target. */
export interface MemberSource {
  readonly path: string;
  readonly kind: MemberKind;
  readonly bytes: number;
  read(target: Buffer, positionBytes: number): Promise<void>;
  /**
   * The frame at `offset` of the member's entry, compressed elsewhere at this level; undefined where it is to be read and
   * compressed here.
   * @param mayStayPacked whether what it was made from is not needed
   */
  readPacked?(offset: number, level: number, mayStayPacked: boolean): Promise<PackedFrame | undefined>;
  /** SHA-256 of the whole content as the frames hold it, where that is known without unpacking them. */
  packedSha256?(): Promise<string | undefined>;
}

export interface PackedFrame {
  readonly stored: Buffer;
  /** Header, content and padding that it was made from; undefined when it was left packed. */
  readonly raw?: Buffer;
  /** To be called when it is written: what it lies in is used again. */
  readonly release?: () => void;
}

export function memberFromBytes(path: string, kind: MemberSource['kind'], bytes: Buffer): MemberSource {
  return {
    path,
    kind,
    bytes: bytes.length,
    read: async (target, position) => {
      bytes.copy(target, 0, position, position + target.length);
    },
  };
}

/** One member after another, under one name. */
export function concatenated(
  path: string,
  kind: MemberSource['kind'],
  parts: readonly [MemberSource, MemberSource],
): MemberSource {
  const [first, second] = parts;
  return {
    path,
    kind,
    bytes: first.bytes + second.bytes,
    read: async (target, position) => {
      const fromFirst = Math.min(target.length, Math.max(0, first.bytes - position));
      if (fromFirst > 0) await first.read(target.subarray(0, fromFirst), position);
      if (fromFirst === target.length) return;
      await second.read(target.subarray(fromFirst), position + fromFirst - first.bytes);
    },
  };
}

/**
 * Bytes of a member of an indexed artifact, from `startBytes` on. The frames are proven by their checksums as they are
 * read; the hash of the whole member is not, so the caller has read the member once before.
 */
export function pieceOfMember(
  artifact: Artifact,
  index: ArtifactIndex,
  member: IndexMember,
  startBytes: number,
  bytes: number,
): MemberSource {
  const frames = new FrameCache(artifact.file, index, member);
  return {
    path: member.path,
    kind: member.kind,
    bytes,
    read: (target, position) =>
      corruptOnFormatError(artifact.file.path, () =>
        frames.read(target, TAR_BLOCK_BYTES + startBytes + position),
      ),
  };
}

/** The frames of one member as one run of bytes; the last one read is kept, since reads go forward in small steps. */
class FrameCache {
  readonly #file: ReadableFile;
  readonly #index: ArtifactIndex;
  readonly #member: IndexMember;
  #number = -1;
  #raw: Buffer = Buffer.alloc(0);

  constructor(file: ReadableFile, index: ArtifactIndex, member: IndexMember) {
    this.#file = file;
    this.#index = index;
    this.#member = member;
  }

  async read(target: Buffer, position: number): Promise<void> {
    const { firstFrame, frameCount } = this.#member;
    let frameStart = 0;
    let done = 0;
    for (let number = firstFrame; number < firstFrame + frameCount && done < target.length; number++) {
      const rawBytes = this.#index.frames[number]![2];
      const from = position + done - frameStart;
      if (from < rawBytes) {
        const raw = await this.#frame(number);
        done += raw.copy(target, done, from);
      }
      frameStart += rawBytes;
    }
    if (done < target.length) throw new FormatError(`${this.#member.path} ends too early`);
  }

  async #frame(number: number): Promise<Buffer> {
    if (number !== this.#number) {
      this.#raw = await readFrame(this.#file, this.#index, number);
      this.#number = number;
    }
    return this.#raw;
  }
}

/** One frame, proven and decompressed. Frame 0 is the head, which is never compressed. @throws FormatError */
export async function readFrame(file: ReadableFile, index: ArtifactIndex, number: number): Promise<Buffer> {
  const stored = await readStoredFrame(file, index, number);
  if (number === 0 || index.codec === 'none') return stored;
  const [offset, storedBytes, rawBytes] = index.frames[number]!;
  const raw = await decompressFrame(stored, rawBytes);
  if (raw.length !== rawBytes)
    throw new FormatError(`bytes ${offset}–${offset + storedBytes} have another size`);
  return raw;
}

/** One frame as it is stored, proven by its checksum. @throws FormatError */
export async function readStoredFrame(
  file: ReadableFile,
  index: ArtifactIndex,
  number: number,
): Promise<Buffer> {
  const [offset, storedBytes, , expectedCrc32] = index.frames[number]!;
  const stored = await readRange(file, offset, storedBytes);
  if (crc32(stored) !== expectedCrc32)
    throw new FormatError(`bytes ${offset}–${offset + storedBytes} fail their checksum`);
  return stored;
}
