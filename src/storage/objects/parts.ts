/** Parts of an upload: how large they are, and whether those that were sent make an object. */
import { GraphkeepError } from '../../errors.ts';
import {
  MIB,
  OBJECT_PART_BYTES_DEFAULT,
  OBJECT_PARTS_IN_FLIGHT_MAX,
  OBJECT_PARTS_KEPT_MAX,
  OBJECT_PARTS_MEMORY_BYTES,
} from '../../limits.ts';
import { Receipts } from './receipts.ts';

/**
 * A guess of the size may be wrong by this much before the parts run out. It is the size before compression, so that what
 * grows meanwhile has far more room; but parts are memory, and the larger they are, the fewer go at once.
 */
const HEADROOM = 1.25;

/** How many parts of this size may be under way. */
export function partsAtOnce(partBytes: number): number {
  const affordable = Math.floor(OBJECT_PARTS_MEMORY_BYTES / partBytes) - OBJECT_PARTS_KEPT_MAX;
  return Math.min(Math.max(affordable, 1), OBJECT_PARTS_IN_FLIGHT_MAX);
}

/** What a store takes of one upload. */
export interface PartLimits {
  readonly partsMax: number;
  /** Without it `OBJECT_PART_BYTES_DEFAULT`. */
  readonly partBytesMin?: number;
  readonly partBytesMax: number;
}

/** @throws GK_UNSUPPORTED */
export function choosePartBytes(bytesExpected: number | undefined, limits: PartLimits): number {
  const partBytes = partBytesFor(bytesExpected, limits);
  if (partBytes > limits.partBytesMax) throw tooLarge(bytesExpected);
  return partBytes;
}

function partBytesFor(
  bytesExpected = 0,
  { partsMax, partBytesMin = OBJECT_PART_BYTES_DEFAULT }: PartLimits,
): number {
  return Math.max(partBytesMin, Math.ceil((bytesExpected * HEADROOM) / partsMax / MIB) * MIB);
}

/** Of a store that takes few parts of one upload, and puts objects together. */
export interface SectionLimits extends PartLimits {
  /** Of the uploads that are put together. */
  readonly sectionPartBytes: number;
  readonly sectionBytesMin: number;
  readonly sectionBytesMax: number;
}

export interface UploadPlan {
  readonly partBytes: number;
  /** So many make one of the objects that are put together; nothing where one upload takes all parts. */
  readonly sectionParts?: number;
}

/** @throws GK_UNSUPPORTED */
export function planSections(bytesExpected: number | undefined, limits: SectionLimits): UploadPlan {
  const partBytes = partBytesFor(bytesExpected, limits);
  if (partBytes <= limits.partBytesMax) return { partBytes };
  const { partsMax, sectionPartBytes, sectionBytesMin, sectionBytesMax } = limits;
  const neededBytes = Math.max(sectionBytesMin, ((bytesExpected ?? 0) * HEADROOM) / partsMax);
  const sectionParts = Math.ceil(neededBytes / sectionPartBytes);
  if (sectionParts * sectionPartBytes > sectionBytesMax) throw tooLarge(bytesExpected);
  return { partBytes: sectionPartBytes, sectionParts };
}

function tooLarge(bytesExpected: number | undefined): GraphkeepError {
  return new GraphkeepError('GK_UNSUPPORTED', `${bytesExpected} bytes are too many for one object`, {
    hint: 'compress the artifact, or write it to a disk',
  });
}

/** What was sent last under each number, and the text by which the store knows it. */
export class PartTable {
  readonly partBytes: number;
  readonly #partsMax: number;
  readonly #receipts = new Receipts();
  /** Of those that are not whole: the last one, and what a writer went back from. */
  readonly #shortBytes = new Map<number, number>();

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

  sent(number: number, bytes: number, receipt: string): void {
    this.#receipts.set(number, receipt);
    if (bytes === this.partBytes) this.#shortBytes.delete(number);
    else this.#shortBytes.set(number, bytes);
  }

  /** Bytes of the first `partCount` parts. @throws GK_INTERNAL when one is missing or too short */
  bytesOf(partCount: number): number {
    for (let number = 1; number <= partCount; number++) {
      if (this.#receipts.get(number) === undefined)
        throw new GraphkeepError('GK_INTERNAL', `part ${number} was never sent`);
      const shortBytes = this.#shortBytes.get(number);
      // Some stores refuse parts of different sizes, others would take a gap for content.
      if (number < partCount && shortBytes !== undefined) {
        throw new GraphkeepError('GK_INTERNAL', `part ${number} has only ${shortBytes} bytes`);
      }
    }
    const missingBytes = this.partBytes - (this.#shortBytes.get(partCount) ?? this.partBytes);
    return partCount * this.partBytes - missingBytes;
  }

  /** Of parts that follow each other; not of all at once where there may be half a million. */
  receipts(firstNumber: number, endNumber: number): string[] {
    const found: string[] = [];
    for (let number = firstNumber; number < endNumber; number++) {
      const receipt = this.#receipts.get(number);
      if (receipt === undefined) throw new GraphkeepError('GK_INTERNAL', `part ${number} was never sent`);
      found.push(receipt);
    }
    return found;
  }
}
