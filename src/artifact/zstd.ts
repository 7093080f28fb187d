/**
 * Frames of zstd, each compressed and decompressed as a whole in another thread: by the library that Node carries where it
 * can be called, otherwise by Node's streams around it.
 */
import { promisify } from 'node:util';
import { constants, zstdCompress, zstdDecompress, zstdDecompressSync } from 'node:zlib';
import { FormatError } from '../formats/formaterror.ts';
import { FRAME_RAW_BYTES, KIB } from '../limits.ts';
import { loadZstdLibrary } from './zstdlibrary.ts';

/** A way to work with frames. */
export interface Zstd {
  /**
   * Makes one frame with content size and checksum.
   * @param use gets it, in memory that holds something else afterwards: called once, and what it returns is returned
   */
  compress<Result>(content: Buffer, level: number, use: (stored: Buffer) => Result): Promise<Result>;
  /** @throws an Error that says what is wrong with it, also when it holds more than `rawBytesMax` */
  decompress(stored: Buffer, rawBytesMax: number): Promise<Buffer>;
}

/** To hand so little to another thread takes longer than to decompress it: a twentieth of `backup inspect`. */
const AT_ONCE_BYTES_MAX = 32 * KIB;

let way: Zstd | undefined;

function zstd(): Zstd {
  way ??= loadZstdLibrary() ?? nodeZstd;
  return way;
}

/**
 * One frame with content size and checksum.
 * @param use gets it, in memory that holds something else afterwards: called once, and what it returns is returned
 */
export function compressFrame<Result>(
  raw: Buffer,
  level: number,
  use: (stored: Buffer) => Result,
): Promise<Result> {
  return zstd().compress(raw, level, use);
}

/** One whole frame, whose content is at most `rawBytesMax` long. @throws FormatError */
export async function decompressFrame(stored: Buffer, rawBytesMax: number): Promise<Buffer> {
  try {
    if (stored.length <= AT_ONCE_BYTES_MAX)
      return zstdDecompressSync(stored, decompression(stored, rawBytesMax));
    // Where only a bound is known, as for an index, memory of that size would cost more than all the rest.
    return await (rawBytesMax <= FRAME_RAW_BYTES ? zstd() : nodeZstd).decompress(stored, rawBytesMax);
  } catch (error) {
    throw new FormatError(`a frame cannot be decompressed: ${(error as Error).message}`);
  }
}

/** Node's default pieces of 16 KiB cost a fifth more, and twice as much when frames are decompressed. */
const COMPRESSED_PIECE_BYTES_MIN = 16 * KIB;
/** Node's lower limit. */
const PIECE_BYTES_MIN = 64;
/** Of text such as an index; a wrong guess costs another piece. */
const LIKELY_RATIO = 8;

const compressAside = promisify(zstdCompress);
const decompressAside = promisify(zstdDecompress);

export const nodeZstd: Zstd = {
  compress: async (content, level, use) => {
    const stored = await compressAside(content, {
      // Never several workers: Node's stream loses data there.
      params: { [constants.ZSTD_c_compressionLevel]: level, [constants.ZSTD_c_checksumFlag]: 1 },
      pledgedSrcSize: content.length,
      // Most frames shrink to a third. In a piece for whatever may come, memory is allocated for nothing.
      chunkSize: Math.max(COMPRESSED_PIECE_BYTES_MIN, Math.ceil(content.length / 3)),
    });
    return use(stored);
  },
  decompress: (stored, rawBytesMax) => decompressAside(stored, decompression(stored, rawBytesMax)),
};

/** In one piece, where the size is known. */
function decompression(
  stored: Buffer,
  rawBytesMax: number,
): { readonly maxOutputLength: number; readonly chunkSize: number } {
  const likelyBytes = rawBytesMax <= FRAME_RAW_BYTES ? rawBytesMax : stored.length * LIKELY_RATIO;
  const chunkSize = Math.max(PIECE_BYTES_MIN, Math.min(likelyBytes, FRAME_RAW_BYTES));
  return { maxOutputLength: rawBytesMax, chunkSize };
}
