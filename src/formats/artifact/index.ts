/**
 * What graphkeep adds to an artifact, after its tar and invisible to stock tools: the member index.
 * It names every frame (place, sizes, CRC-32 of the stored bytes) and every member (path, size, SHA-256), so that
 * inspect, validate and restore find members by range and see every flipped bit. Layout: docs/formats/artifact.md.
 *
 * At the end of the file: a zstd skippable frame that holds the zstd-compressed JSON of the index and a footer of
 * fixed size, which is found from the end of the file.
 */
import { createHash } from 'node:crypto';
import { FormatError } from '../formaterror.ts';
import { safeMemberPath, TAR_BLOCK_BYTES, tarPadding } from '../tar.ts';
import { SKIPPABLE_HEADER_BYTES, writeSkippableHeader } from '../zstd.ts';

export const INDEX_FORMAT_VERSION = 1;
/** Property of the descriptor that says "this artifact has an index": without it, a lost footer would pass unseen. */
export const INDEX_PROPERTY = 'graphkeep';
const FOOTER_MAGIC = Buffer.from('graphkeep-index\0', 'latin1');
const SHA256_BYTES = 32;
export const FOOTER_BYTES = FOOTER_MAGIC.length + 8 + 8 + SHA256_BYTES;
export const INDEX_STORED_BYTES_MAX = 256 * 1024 * 1024;
export const INDEX_JSON_BYTES_MAX = 1024 * 1024 * 1024;
export const FRAME_RAW_BYTES_MAX = 16 * 1024 * 1024;
const FRAME_STORED_BYTES_MAX = 2 * FRAME_RAW_BYTES_MAX;

/** [offset in the file, stored bytes, bytes after decompression, CRC-32 of the stored bytes] */
export type IndexFrame = readonly [offset: number, storedBytes: number, rawBytes: number, crc32: number];

export type MemberKind = 'store' | 'log' | 'checkpoint';

export interface IndexMember {
  readonly path: string;
  readonly kind: MemberKind;
  readonly bytes: number;
  /** Hex. */
  readonly sha256: string;
  /** The frames that hold header, content and padding of this member, and nothing else. */
  readonly firstFrame: number;
  readonly frameCount: number;
}

/** A place in the log of the server. */
export interface IndexPosition {
  readonly logVersion: string;
  readonly offsetBytes: string;
}

/**
 * The checkpoint that recovery starts from: its position in the log of the server (in the artifact the log begins
 * there), and the transaction that it names.
 */
export interface IndexFence extends IndexPosition {
  readonly appendIndex: string;
  readonly checkpointFile: string;
}

/** A transaction is named by number and checksum: the number alone comes again on a server that was set back. */
export interface IndexParent {
  readonly appendIndex: string;
  /** CRC-32C of that transaction. */
  readonly checksum: number;
}

/** As JSON can carry it: numbers there end at 2^53. */
export function writePosition(position: { logVersion: bigint; offsetBytes: bigint }): IndexPosition {
  return { logVersion: String(position.logVersion), offsetBytes: String(position.offsetBytes) };
}

export interface ArtifactIndex {
  readonly formatVersion: number;
  /** Program and version that wrote the artifact. */
  readonly writer: string;
  readonly codec: 'zstd' | 'none';
  /** Full artifacts only. */
  readonly fence?: IndexFence;
  /** Differential artifacts only: the transaction that the first one in it follows. */
  readonly parent?: IndexParent;
  /** Where the highest transaction ends in the log of the server: a later differential looks for its parent there. */
  readonly end: IndexPosition;
  /** CRC-32C of the highest transaction (of the parent's in an empty differential): what follows must follow this one. */
  readonly highestChecksum: number;
  /** Latest commit time of all transactions up to the highest one that the log shows, as epoch milliseconds. */
  readonly latestCommitMillis: string;
  readonly leftOut: readonly string[];
  /** They tile the file from byte 0 to the index without a gap. The first one is the head, the last the end of the tar. */
  readonly frames: readonly IndexFrame[];
  readonly members: readonly IndexMember[];
}

export interface Footer {
  /** File offset of the skippable frame. */
  readonly indexOffset: number;
  readonly storedIndexBytes: number;
  readonly sha256: Buffer;
}

/** The whole end of an artifact: skippable header, compressed index, footer. */
export function writeIndexBlock(indexOffset: number, storedIndex: Buffer): Buffer {
  const header = writeSkippableHeader(storedIndex.length + FOOTER_BYTES);
  const fields = Buffer.alloc(FOOTER_MAGIC.length + 16);
  FOOTER_MAGIC.copy(fields);
  fields.writeBigUInt64BE(BigInt(indexOffset), FOOTER_MAGIC.length);
  fields.writeBigUInt64BE(BigInt(storedIndex.length), FOOTER_MAGIC.length + 8);
  return Buffer.concat([header, storedIndex, fields, digest(header, storedIndex, fields)]);
}

function digest(...parts: Buffer[]): Buffer {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** @returns undefined when the bytes are no footer of ours. @throws FormatError when its numbers are impossible. */
export function parseFooter(bytes: Buffer, fileBytes: number): Footer | undefined {
  if (bytes.length < FOOTER_BYTES || !bytes.subarray(0, FOOTER_MAGIC.length).equals(FOOTER_MAGIC))
    return undefined;
  const indexOffset = bytes.readBigUInt64BE(FOOTER_MAGIC.length);
  const storedIndexBytes = bytes.readBigUInt64BE(FOOTER_MAGIC.length + 8);
  const expected = indexOffset + BigInt(SKIPPABLE_HEADER_BYTES + FOOTER_BYTES) + storedIndexBytes;
  if (expected !== BigInt(fileBytes) || storedIndexBytes > BigInt(INDEX_STORED_BYTES_MAX)) {
    throw new FormatError('the footer of the artifact does not fit its length');
  }
  return {
    indexOffset: Number(indexOffset),
    storedIndexBytes: Number(storedIndexBytes),
    sha256: Buffer.from(bytes.subarray(FOOTER_BYTES - SHA256_BYTES, FOOTER_BYTES)),
  };
}

/** The compressed index out of the whole block, proven by the footer's hash. @throws FormatError */
export function storedIndexOf(block: Buffer, footer: Footer): Buffer {
  const header = block.subarray(0, SKIPPABLE_HEADER_BYTES);
  const storedIndex = block.subarray(
    SKIPPABLE_HEADER_BYTES,
    SKIPPABLE_HEADER_BYTES + footer.storedIndexBytes,
  );
  const fields = block.subarray(block.length - FOOTER_BYTES, block.length - SHA256_BYTES);
  if (!digest(header, storedIndex, fields).equals(footer.sha256)) {
    throw new FormatError('the member index of the artifact fails its hash');
  }
  return storedIndex;
}

/**
 * Parses and checks the JSON of an index: every number in its range, every path inside its root, the frames
 * without a gap up to `indexOffset`, and every member exactly as long as its frames.
 * @throws FormatError
 */
export function parseIndex(json: string, indexOffset: number): ArtifactIndex {
  const index = parseJson(json) as ArtifactIndex;
  require(index !== null && typeof index === 'object', 'is no object');
  if (index.formatVersion !== INDEX_FORMAT_VERSION) {
    throw new FormatError(
      `member index of version ${JSON.stringify(index.formatVersion)}; this graphkeep reads 1`,
    );
  }
  require(index.codec === 'zstd' || index.codec === 'none', 'names an unknown codec');
  require(Array.isArray(index.frames) && Array.isArray(index.members), 'lists no frames or members');
  checkFacts(index);
  checkFrames(index.frames, indexOffset);
  const sizesFit = index.codec === 'zstd' || index.frames.every(([, stored, raw]) => stored === raw);
  require(sizesFit, 'gives an uncompressed frame two sizes');
  checkMembers(index);
  return index;
}

function parseJson(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    throw new FormatError('the member index of the artifact is not JSON');
  }
}

function require(condition: boolean, what: string): asserts condition {
  if (!condition) throw new FormatError(`the member index of the artifact ${what}`);
}

function isCount(value: unknown, max: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= max;
}

function checkFacts({ fence, parent, end, highestChecksum, latestCommitMillis }: ArtifactIndex): void {
  require((fence === undefined) !== (parent === undefined), 'names not one of fence and parent');
  if (fence !== undefined) {
    require(isObject(fence), 'names no fence');
    require(isDecimal(fence.logVersion) &&
      isDecimal(fence.offsetBytes) &&
      isDecimal(fence.appendIndex), 'names no fence');
  }
  if (parent !== undefined) {
    require(isObject(parent), 'names no parent');
    require(isDecimal(parent.appendIndex) && isCount(parent.checksum, CRC_MAX), 'names no parent');
  }
  require(isDecimal(end?.logVersion) && isDecimal(end?.offsetBytes), 'names no end of the log');
  require(isCount(highestChecksum, CRC_MAX), 'gives the highest transaction no checksum');
  require(isDecimal(latestCommitMillis), 'gives no commit time');
}

const CRC_MAX = 0xffffffff;

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null;
}

function isDecimal(value: unknown): value is string {
  return typeof value === 'string' && /^\d{1,19}$/.test(value);
}

function checkFrames(frames: readonly IndexFrame[], indexOffset: number): void {
  let expected = 0;
  for (const frame of frames) {
    require(Array.isArray(frame) && frame.length === 4, 'lists a frame that is none');
    const [offset, storedBytes, rawBytes, crc32] = frame;
    require(offset === expected, 'has a gap between two frames');
    require(isCount(storedBytes, FRAME_STORED_BYTES_MAX), 'lists a frame of impossible size');
    require(isCount(rawBytes, FRAME_RAW_BYTES_MAX), 'lists a frame of impossible size');
    require(isCount(crc32, CRC_MAX), 'lists a frame without a checksum');
    expected += storedBytes;
  }
  require(expected === indexOffset, 'does not cover the whole artifact');
}

function checkMembers(index: ArtifactIndex): void {
  let nextFrame = 1;
  const paths = new Set<string>();
  for (const member of index.members) {
    require(typeof member === 'object' &&
      member !== null &&
      typeof member.path === 'string', 'lists no path');
    require(safeMemberPath(member.path) === member.path &&
      !paths.has(member.path), `lists ${member.path} wrongly`);
    paths.add(member.path);
    require(['store', 'log', 'checkpoint'].includes(member.kind), `gives ${member.path} no kind`);
    require(/^[0-9a-f]{64}$/.test(member.sha256), `gives ${member.path} no hash`);
    require(isCount(member.bytes, Number.MAX_SAFE_INTEGER), `gives ${member.path} no size`);
    require(member.firstFrame === nextFrame &&
      isCount(member.frameCount, index.frames.length), 'orders members wrongly');
    nextFrame += member.frameCount;
    let rawBytes = 0;
    for (let frame = member.firstFrame; frame < nextFrame; frame++) rawBytes += index.frames[frame]?.[2] ?? 0;
    const expected = TAR_BLOCK_BYTES + member.bytes + tarPadding(member.bytes);
    require(rawBytes === expected, `gives ${member.path} frames of another size`);
  }
  require(nextFrame === index.frames.length - 1, 'lists frames that belong to no member');
}
