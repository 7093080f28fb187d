/**
 * The little of the zstd frame format (RFC 8878) that is not compression: a frame whose length is known before its
 * content, and skippable frames. The first is what lets the header of an artifact be written last, in place.
 */
const FRAME_MAGIC = 0xfd2fb528;
/** Single segment, four-byte content size, no checksum, no dictionary. */
const FRAME_DESCRIPTOR = 0xa0;
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

/** Header of a skippable frame; decoders pass over the `contentBytes` that follow. */
export function writeSkippableHeader(contentBytes: number): Buffer {
  const header = Buffer.alloc(SKIPPABLE_HEADER_BYTES);
  header.writeUInt32LE(SKIPPABLE_MAGIC, 0);
  header.writeUInt32LE(contentBytes, 4);
  return header;
}
