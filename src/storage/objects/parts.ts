/** Parts of an upload: how large they are, and whether those that were sent make an object. */
import { GraphkeepError } from '../../errors.ts';
import {
  MIB,
  OBJECT_PART_BYTES_DEFAULT,
  OBJECT_PART_BYTES_MAX,
  OBJECT_PARTS_IN_FLIGHT_MAX,
  OBJECT_PARTS_MEMORY_BYTES,
} from '../../limits.ts';

/**
 * A guess of the size may be wrong by this much before the parts run out. It is the size before compression, so that what
 * grows meanwhile has far more room; but parts are memory, and the larger they are, the fewer go at once.
 */
const HEADROOM = 1.25;

/** Beside those under way: the first one, the one that is filled, and what a rewind goes back to. */
const PARTS_KEPT_MAX = 3;

/** How many parts of this size may be under way. */
export function partsAtOnce(partBytes: number): number {
  const affordable = Math.floor(OBJECT_PARTS_MEMORY_BYTES / partBytes) - PARTS_KEPT_MAX;
  return Math.min(Math.max(affordable, 1), OBJECT_PARTS_IN_FLIGHT_MAX);
}

/** @param partsMax what the store takes */
export function choosePartBytes(bytesExpected: number | undefined, partsMax: number): number {
  if (bytesExpected === undefined) return OBJECT_PART_BYTES_DEFAULT;
  const neededBytes = Math.ceil((bytesExpected * HEADROOM) / partsMax / MIB) * MIB;
  if (neededBytes > OBJECT_PART_BYTES_MAX) {
    throw new GraphkeepError('GK_UNSUPPORTED', `${bytesExpected} bytes are too many for one object`, {
      hint: 'compress the artifact, or write it to a disk',
    });
  }
  return Math.max(OBJECT_PART_BYTES_DEFAULT, neededBytes);
}

/** What was sent last under each number, and what is needed to name it when the parts are put together. */
export class PartTable<Receipt> {
  readonly partBytes: number;
  readonly #partsMax: number;
  readonly #parts = new Map<number, { readonly bytes: number; readonly receipt: Receipt }>();

  constructor(partBytes: number, partsMax: number) {
    this.partBytes = partBytes;
    this.#partsMax = partsMax;
  }

  /** @throws GK_UNSUPPORTED, GK_INTERNAL before anything is sent */
  check(number: number, bytes: number): void {
    if (number > this.#partsMax) {
      throw new GraphkeepError(
        'GK_UNSUPPORTED',
        `the object needs more than ${this.#partsMax} parts of ${this.partBytes} bytes`,
        { hint: 'the backup is much larger than was expected; say so in advance, or write it to a disk' },
      );
    }
    if (!Number.isInteger(number) || number < 1 || bytes > this.partBytes) {
      throw new GraphkeepError('GK_INTERNAL', `part ${number} of ${bytes} bytes cannot be sent`);
    }
  }

  sent(number: number, bytes: number, receipt: Receipt): void {
    this.#parts.set(number, { bytes, receipt });
  }

  /** The first `partCount` parts in order. @throws GK_INTERNAL when one is missing or too short */
  inOrder(partCount: number): { receipts: Receipt[]; bytes: number } {
    const receipts: Receipt[] = [];
    let bytes = 0;
    for (let number = 1; number <= partCount; number++) {
      const part = this.#parts.get(number);
      if (part === undefined) throw new GraphkeepError('GK_INTERNAL', `part ${number} was never sent`);
      // Some stores refuse parts of different sizes, others would take a gap for content.
      if (number < partCount && part.bytes !== this.partBytes) {
        throw new GraphkeepError('GK_INTERNAL', `part ${number} has only ${part.bytes} bytes`);
      }
      receipts.push(part.receipt);
      bytes += part.bytes;
    }
    return { receipts, bytes };
  }
}
