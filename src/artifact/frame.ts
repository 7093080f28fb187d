/**
 * Frames of a member: header, content and padding of its tar entry in pieces that are compressed each on its own. A backup
 * server makes them as well, so that what crosses the network is compressed and is not compressed again behind it.
 */
import { FormatError } from '../formats/formaterror.ts';
import { TAR_BLOCK_BYTES, tarPadding, writeTarHeader } from '../formats/tar.ts';
import { FRAME_RAW_BYTES, KIB } from '../limits.ts';
import type { MemberSource } from './membersource.ts';

/** Length of the tar entry of a member: where its last frame ends. */
export function entryBytesOf({ bytes }: Pick<MemberSource, 'bytes'>): number {
  return TAR_BLOCK_BYTES + bytes + tarPadding(bytes);
}

/** Bytes of the frame that begins at `offset` of the entry, before compression. */
export function frameBytesAt(member: Pick<MemberSource, 'bytes'>, offset: number): number {
  return Math.min(FRAME_RAW_BYTES, entryBytesOf(member) - offset);
}

/** Part of a member: what one frame holds of it, and where that begins. */
export interface FrameContent {
  readonly start: number;
  readonly content: Buffer;
}

/** Fills one frame; returns the part that is content. */
export async function fillFrame(raw: Buffer, offset: number, source: MemberSource): Promise<FrameContent> {
  if (offset === 0) writeTarHeader(source.path, source.bytes).copy(raw);
  const part = contentOf(raw, offset, source);
  const { start, content } = part;
  if (content.length > 0) await source.read(content, start);
  raw.fill(0, content.byteOffset - raw.byteOffset + content.length);
  return part;
}

/**
 * The content in a frame that was made elsewhere. Header and padding must be those that this side would have written: a
 * name in them would otherwise get into the artifact unseen.
 * @throws FormatError
 */
export function contentOfFrame(
  raw: Buffer,
  offset: number,
  member: Pick<MemberSource, 'path' | 'bytes'>,
): Buffer {
  const { content } = contentOf(raw, offset, member);
  const isHeaded =
    offset > 0 || raw.subarray(0, TAR_BLOCK_BYTES).equals(writeTarHeader(member.path, member.bytes));
  const padding = raw.subarray(content.byteOffset - raw.byteOffset + content.length);
  const isPadded = padding.every((byte) => byte === 0);
  const isWhole = raw.length === frameBytesAt(member, offset);
  if (isHeaded && isPadded && isWhole) return content;
  throw new FormatError(`a frame of ${member.path} is not what its member is made of`);
}

/** Where the content of a frame lies in it, and where in the member it begins. */
function contentOf(raw: Buffer, offset: number, { bytes }: Pick<MemberSource, 'bytes'>): FrameContent {
  const headerBytes = offset === 0 ? TAR_BLOCK_BYTES : 0;
  const start = offset + headerBytes - TAR_BLOCK_BYTES;
  const contentBytes = Math.max(0, Math.min(raw.length - headerBytes, bytes - start));
  return { start, content: raw.subarray(headerBytes, headerBytes + contentBytes) };
}

/** What a frame of this size may come to when nothing in it can be compressed. */
export function storedBytesMax(rawBytes: number): number {
  return rawBytes + (rawBytes >>> 8) + KIB;
}
