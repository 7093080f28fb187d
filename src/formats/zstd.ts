/**
 * The little of the zstd frame format (RFC 8878) that is not compression: a frame whose length is known before its
 * content, and skippable frames. The first is what lets the header of an artifact be written last, in place.
 */
const FRAME_MAGIC = 0xfd2fb528;
/** Single segment, four-byte content size, no checksum, no dictionary. */
const FRAME_DESCRIPTOR = 0xa0;
/** Bits of a descriptor. */
const SINGLE_SEGMENT_FLAG = 0x20;
const CHECKSUM_FLAG = 0x04;
const DICTIONARY_AND_RESERVED = 0x0b;
const CONTENT_SIZE_SHIFT = 6;
/** A content size of two bytes begins here. */
const SHORT_CONTENT_BYTES = 256;
/** With a window and a content size of four bytes; no frame of an artifact is shorter. */
const FRAME_HEADER_BYTES_MAX = 10;
const FRAME_HEADER_BYTES = 9;
const BLOCK_HEADER_BYTES = 3;
const BLOCK_BYTES_MAX = 128 * 1024;

const SKIPPABLE_MAGIC = 0x184d2a50;
export const SKIPPABLE_HEADER_BYTES = 8;

/** A frame that stores `content` in raw blocks: its length depends on the length of the content alone. */
export function writeRawFrame(content: Buffer): Buffer {
  const parts: Buffer[] = [Buffer.alloc(FRAME_HEADER_BYTES)];
  parts[0]!.writeUInt32LE(FRAME_MAGIC, 0);
  parts[0]!.writeUInt8(FRAME_DESCRIPTOR, 4);
  parts[0]!.writeUInt32LE(content.length, 5);
  for (let offset = 0; offset === 0 || offset < content.length; offset += BLOCK_BYTES_MAX) {
    const block = content.subarray(offset, offset + BLOCK_BYTES_MAX);
    const isLast = offset + BLOCK_BYTES_MAX >= content.length;
    const header = Buffer.alloc(BLOCK_HEADER_BYTES);
    header.writeUIntLE((block.length << 3) | (isLast ? 1 : 0), 0, BLOCK_HEADER_BYTES);
    parts.push(header, block);
  }
  return Buffer.concat(parts);
}

/**
 * Bytes that a frame says it holds, where it says so and has a checksum, as the frames of artifacts do; undefined for any
 * other. A decoder refuses a frame that holds another number of bytes.
 */
export function contentBytesOf(frame: Buffer): number | undefined {
  if (frame.length < FRAME_HEADER_BYTES_MAX || frame.readUInt32LE(0) !== FRAME_MAGIC) return undefined;
  const descriptor = frame.readUInt8(4);
  if ((descriptor & (CHECKSUM_FLAG | DICTIONARY_AND_RESERVED)) !== CHECKSUM_FLAG) return undefined;
  const isOneSegment = (descriptor & SINGLE_SEGMENT_FLAG) !== 0;
  // Otherwise a byte with the size of the window comes first.
  const position = isOneSegment ? 5 : 6;
  switch (descriptor >>> CONTENT_SIZE_SHIFT) {
    case 0:
      return isOneSegment ? frame.readUInt8(position) : undefined;
    case 1:
      return frame.readUInt16LE(position) + SHORT_CONTENT_BYTES;
    case 2:
      return frame.readUInt32LE(position);
    default:
      return undefined;
  }
}

/** Header of a skippable frame; decoders pass over the `contentBytes` that follow. */
export function writeSkippableHeader(contentBytes: number): Buffer {
  const header = Buffer.alloc(SKIPPABLE_HEADER_BYTES);
  header.writeUInt32LE(SKIPPABLE_MAGIC, 0);
  header.writeUInt32LE(contentBytes, 4);
  return header;
}
