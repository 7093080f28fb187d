/**
 * A member of a remote snapshot as the frames that its artifact will hold, compressed by the server: fetched several at
 * once, ahead of who writes them. Each is unpacked here as well, since it is hashed by who writes the artifact.
 */

import { decompressFrame } from '../artifact/bytes.ts';
import {
  compressFrame,
  contentOfFrame,
  entryBytesOf,
  fillFrame,
  frameBytesAt,
  storedBytesMax,
} from '../artifact/frame.ts';
import type { PackedFrame } from '../artifact/membersource.ts';
import { GraphkeepError } from '../errors.ts';
import { FormatError } from '../formats/formaterror.ts';
import { FRAME_RAW_BYTES, PACKED_LEVEL_MAX, RANGES_IN_FLIGHT_MAX } from '../limits.ts';
import type { RemoteMember } from './protocol.ts';
import type { ReadRange } from './ranges.ts';

/** One try to fetch the frame at `offset`; undefined when the connection broke. */
export type FetchFrame = (
  offset: number,
  level: number,
  storedBytesMax: number,
  signal: AbortSignal,
) => Promise<Buffer | undefined>;

interface Frame {
  readonly offset: number;
  readonly level: number;
  readonly packed: Promise<PackedFrame>;
}

export class FramesAhead {
  readonly #member: RemoteMember;
  readonly #fetchFrame: FetchFrame;
  readonly #readRange: ReadRange;
  #frames: Frame[] = [];
  #nextOffset = 0;
  #fetching = new AbortController();

  /** @param readRange how a frame is read that cannot be fetched whole */
  constructor(member: RemoteMember, fetchFrame: FetchFrame, readRange: ReadRange) {
    this.#member = member;
    this.#fetchFrame = fetchFrame;
    this.#readRange = readRange;
  }

  abandon(): void {
    this.#fetching.abort();
  }

  /** In ascending order this is quick; undefined for a level that no server would spend its time on. */
  async read(offset: number, level: number): Promise<PackedFrame | undefined> {
    if (level > PACKED_LEVEL_MAX) return undefined;
    const first = this.#frames[0];
    if (first?.offset !== offset || first.level !== level) this.#jump(offset);
    const entryBytes = entryBytesOf(this.#member);
    while (this.#frames.length < RANGES_IN_FLIGHT_MAX && this.#nextOffset < entryBytes)
      this.#fetchNext(level);
    return this.#frames.shift()!.packed;
  }

  #jump(offset: number): void {
    this.#fetching.abort();
    this.#fetching = new AbortController();
    this.#frames = [];
    this.#nextOffset = offset;
  }

  #fetchNext(level: number): void {
    const offset = this.#nextOffset;
    const packed = this.#fetch(offset, level, this.#fetching.signal);
    // Awaited when its turn comes; a failure until then would count as unhandled first.
    packed.catch(() => undefined);
    this.#frames.push({ offset, level, packed });
    this.#nextOffset += FRAME_RAW_BYTES;
  }

  async #fetch(offset: number, level: number, signal: AbortSignal): Promise<PackedFrame> {
    const rawBytes = frameBytesAt(this.#member, offset);
    const stored = await this.#fetchFrame(offset, level, storedBytesMax(rawBytes), signal);
    return stored === undefined
      ? this.#pack(offset, level, signal)
      : { stored, raw: await this.#unpack(stored, offset) };
  }

  async #unpack(stored: Buffer, offset: number): Promise<Buffer> {
    try {
      const raw = await decompressFrame(stored, frameBytesAt(this.#member, offset));
      contentOfFrame(raw, offset, this.#member);
      return raw;
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      throw new GraphkeepError('GK_PROTOCOL', `the backup server sends something else: ${error.message}`, {
        cause: error,
      });
    }
  }

  /** Where connections break before a frame is over, ranges get through, since they become smaller. */
  async #pack(offset: number, level: number, signal: AbortSignal): Promise<PackedFrame> {
    const raw = Buffer.allocUnsafe(frameBytesAt(this.#member, offset));
    const read = (target: Buffer, position: number): Promise<void> =>
      this.#readRange(position, target, signal);
    await fillFrame(raw, offset, { ...this.#member, read });
    return { stored: await compressFrame(raw, level), raw };
  }
}
