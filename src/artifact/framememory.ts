/**
 * Room for frames, used again when they are written: fresh memory for each keeps the garbage collector as busy as the
 * compression is.
 */
import { GraphkeepError } from '../errors.ts';
import { FRAME_RAW_BYTES } from '../limits.ts';
import { storedBytesMax } from './frame.ts';

const WHOLE_FRAME_BYTES = storedBytesMax(FRAME_RAW_BYTES);

export class FrameMemory {
  readonly #free: Buffer[] = [];

  /** Room for a frame of so many bytes, before it is compressed and after, should that make it longer. */
  take(rawBytes: number): Buffer {
    if (rawBytes < FRAME_RAW_BYTES) return Buffer.allocUnsafe(storedBytesMax(rawBytes));
    return this.#free.pop() ?? Buffer.allocUnsafe(WHOLE_FRAME_BYTES);
  }

  /** It holds something else from now on. */
  give(memory: Buffer): void {
    if (memory.length === WHOLE_FRAME_BYTES) this.#free.push(memory);
  }
}

/** @returns the frame in `memory`. @throws GK_INTERNAL instead of cutting it off */
export function movedInto(memory: Buffer, frame: Buffer): Buffer {
  if (frame.length > memory.length)
    throw new GraphkeepError(
      'GK_INTERNAL',
      `a frame of ${frame.length} bytes has no room in ${memory.length}`,
    );
  frame.copy(memory);
  return memory.subarray(0, frame.length);
}
