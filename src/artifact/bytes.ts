/**
 * Bytes of an artifact's file: by range, one frame at a time, or as one decompressed stream. Everything that reads an
 * artifact stands on these; they know nothing of members.
 */
import { pipeline, Readable } from 'node:stream';
import { promisify } from 'node:util';
import { constants, createZstdDecompress, zstdDecompress, zstdDecompressSync } from 'node:zlib';
import { GraphkeepError } from '../errors.ts';
import { FormatError } from '../formats/formaterror.ts';
import { FRAME_RAW_BYTES, KIB, MIB } from '../limits.ts';
import type { ReadableFile } from '../storage/local.ts';

const STREAM_READ_BYTES = MIB;
/** Small artifacts, such as differentials of a quiet database, are read at once. */
export const HEAD_BYTES = 32 * KIB;
const TAIL_BYTES = 64 * KIB;
/** Of text such as an index; a wrong guess costs another piece. */
const LIKELY_RATIO = 8;
/** Node's lower limit. */
const CHUNK_BYTES_MIN = 64;
/** To hand so little to another thread takes longer than to decompress it: a twentieth of `backup inspect`. */
const AT_ONCE_BYTES_MAX = 32 * KIB;

const decompressAside = promisify(zstdDecompress);

/** Exactly these bytes. @throws FormatError when the file ends before */
export async function readRange(file: ReadableFile, position: number, bytes: number): Promise<Buffer> {
  const target = Buffer.allocUnsafe(bytes);
  const got = await file.read(target, position);
  if (got < bytes) throw new FormatError(`the file ends at byte ${position + got}, inside its content`);
  return target;
}

/**
 * The same file, whose beginning and end are in memory: head, index and footer of most artifacts lie there, so that a
 * folder of thousands is listed with one or two reads each.
 */
export async function withEndsInMemory(file: ReadableFile): Promise<ReadableFile> {
  const head = await readRange(file, 0, Math.min(HEAD_BYTES, file.bytes));
  const tailStart = Math.max(head.length, file.bytes - TAIL_BYTES);
  const tail =
    tailStart === file.bytes ? head.subarray(0, 0) : await readRange(file, tailStart, file.bytes - tailStart);
  return {
    ...file,
    read: async (target, position) => {
      if (position + target.length <= head.length)
        return head.copy(target, 0, position, position + target.length);
      if (position >= tailStart) return tail.copy(target, 0, position - tailStart);
      return file.read(target, position);
    },
  };
}

/** One whole frame, whose content is at most `rawBytesMax` long. @throws FormatError */
export async function decompressFrame(stored: Buffer, rawBytesMax: number): Promise<Buffer> {
  // In one piece, where its size is known: Node's default of 16 KiB pieces doubles the processor time of a frame. Where only
  // a bound is known, as for an index, a buffer of that size would cost more than all the rest.
  const likelyBytes = rawBytesMax <= FRAME_RAW_BYTES ? rawBytesMax : stored.length * LIKELY_RATIO;
  const chunkSize = Math.max(CHUNK_BYTES_MIN, Math.min(likelyBytes, FRAME_RAW_BYTES));
  const options = { maxOutputLength: rawBytesMax, chunkSize };
  try {
    if (stored.length <= AT_ONCE_BYTES_MAX) return zstdDecompressSync(stored, options);
    return await decompressAside(stored, options);
  } catch (error) {
    throw new FormatError(`a frame cannot be decompressed: ${(error as Error).message}`);
  }
}

/** The file from `start` on. */
export async function* fileChunks(file: ReadableFile, start: number): AsyncGenerator<Buffer, void> {
  for (let position = start; position < file.bytes; position += STREAM_READ_BYTES) {
    yield await readRange(file, position, Math.min(STREAM_READ_BYTES, file.bytes - position));
  }
}

/** What the zstd stream that begins at `start` holds. @throws FormatError when it is damaged or cut short */
export async function* decompressed(file: ReadableFile, start: number): AsyncGenerator<Buffer, void> {
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
