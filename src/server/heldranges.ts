/**
 * The ranges of one session that are in memory: a bounded number of buffers, each held from the read until the last byte
 * was sent. They are what a client costs the server, however slow it takes its bytes and however often it asks.
 */
import { storedBytesMax } from '../artifact/frame.ts';
import { movedInto } from '../artifact/framememory.ts';
import { GraphkeepError } from '../errors.ts';
import { FRAME_RAW_BYTES, RANGE_BYTES_MAX, SESSION_RANGES_MAX } from '../limits.ts';

export interface HeldRange {
  readonly content: Buffer;
  /** The bytes have left, or nobody takes them any more. May be called again. */
  readonly release: () => void;
  /** False once it was released, or cut off for another answer: then its memory holds something else, or soon will. */
  readonly isHeld: () => boolean;
  /** The same memory with other bytes in it, at most `HELD_BYTES_MAX`; with none when it is not held: nothing is sent. */
  readonly replace: (bytes: Buffer) => HeldRange;
}

/** Room for a range, or for a frame that could not be made smaller. */
const HELD_BYTES_MAX = Math.max(RANGE_BYTES_MAX, storedBytesMax(FRAME_RAW_BYTES));

interface Slot {
  isRead: boolean;
  /** Ends the answer that sends it. */
  readonly cut: () => void;
  readonly release: () => void;
}

export class HeldRanges {
  readonly #slots = new Set<Slot>();
  /** Used again: to allocate all that is read anew costs as much time as to read it. */
  readonly #free: Buffer[] = [];

  /**
   * Reads a range into a buffer of its own. When there are too many, the oldest answer that is still being sent makes
   * room: a client that lost its connections asks again over others, while the first answers wait for acknowledgements.
   * @throws GK_SERVER_BUSY when all of them are still being read
   */
  async read(
    bytes: number,
    read: (target: Buffer) => Promise<void>,
    cut: () => void = () => undefined,
  ): Promise<HeldRange> {
    this.#makeRoom();
    const buffer = this.#free.pop() ?? Buffer.allocUnsafe(HELD_BYTES_MAX);
    const slot: Slot = {
      isRead: false,
      cut,
      release: () => {
        if (this.#slots.delete(slot)) this.#free.push(buffer);
      },
    };
    this.#slots.add(slot);
    try {
      const content = buffer.subarray(0, bytes);
      await read(content);
      slot.isRead = true;
      return this.#held(slot, buffer, content);
    } catch (error) {
      slot.release();
      throw error;
    }
  }

  #held(slot: Slot, buffer: Buffer, content: Buffer): HeldRange {
    const isHeld = (): boolean => this.#slots.has(slot);
    return {
      content,
      release: slot.release,
      isHeld,
      replace: (bytes) =>
        this.#held(slot, buffer, isHeld() ? movedInto(buffer, bytes) : buffer.subarray(0, 0)),
    };
  }

  /** Nothing is sent any more. */
  close(): void {
    for (const slot of [...this.#slots].filter(({ isRead }) => isRead)) this.#cut(slot);
  }

  #makeRoom(): void {
    if (this.#slots.size < SESSION_RANGES_MAX) return;
    const oldest = [...this.#slots].find(({ isRead }) => isRead);
    if (oldest === undefined) {
      throw new GraphkeepError('GK_SERVER_BUSY', `${SESSION_RANGES_MAX} ranges are being read already`);
    }
    this.#cut(oldest);
  }

  #cut(slot: Slot): void {
    slot.cut();
    slot.release();
  }
}
