/**
 * Bytes of an artifact's file: by range, or as one decompressed stream. Everything that reads an artifact stands on these;
 * they know nothing of members.
 */
import { pipeline, Readable } from 'node:stream';
import { constants, createZstdDecompress } from 'node:zlib';
import { GraphkeepError } from '../errors.ts';
import { FormatError } from '../formats/formaterror.ts';
import { KIB, MIB } from '../limits.ts';
import type { ReadableFile } from '../storage/local.ts';

const STREAM_READ_BYTES = MIB;
/** Small artifacts, such as differentials of a quiet database, are read at once. */
export const HEAD_BYTES = 32 * KIB;
const TAIL_BYTES = 64 * KIB;

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

/** The file from `start` on. */
export async function* fileChunks(file: ReadableFile, start: number): AsyncGenerator<Buffer, void> {
  for (let position = start; position < file.bytes; position += STREAM_READ_BYTES) {
    yield await readRange(file, position, Math.min(STREAM_READ_BYTES, file.bytes - position));
  }
}

/**
 * What the zstd frames hold that begin at `start`, to the end of the file. The decoder of Node 24 ends behind the first one
 * and says nothing of those that follow; that of Node 26 reads them all.
 * @throws FormatError when they are damaged or cut short
 */
export async function* decompressed(file: ReadableFile, start: number): AsyncGenerator<Buffer, void> {
  for (let position = start; position < file.bytes; ) {
    const taken = yield* decompressedByOne(file, position);
    if (taken === 0) throw new FormatError('the zstd stream does not go on');
    position += taken;
  }
}

/** By one decoder. @returns how many bytes it took */
async function* decompressedByOne(file: ReadableFile, start: number): AsyncGenerator<Buffer, number> {
  const decoder = createZstdDecompress({ params: { [constants.ZSTD_d_windowLogMax]: 31 } });
  const source = Readable.from(fileChunks(file, start));
  // The error reaches the loop below through the destroyed decoder.
  pipeline(source, decoder, () => undefined);
  try {
    for await (const chunk of decoder) yield chunk as Buffer;
    return decoder.bytesWritten;
  } catch (error) {
    if (error instanceof GraphkeepError || error instanceof FormatError) throw error;
    throw new FormatError(
      `the zstd stream is damaged or cut short: ${error instanceof Error ? error.message : error}`,
    );
  } finally {
    source.destroy();
  }
}
