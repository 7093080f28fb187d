/**
 * A member of a remote snapshot as the frames that its artifact will hold, compressed by the server: fetched several at
 * once, ahead of who writes them. The first and the last are always unpacked here, since they have the name and the padding;
 * those between are content alone. Where the server tells the hash, to unpack them would cost a third of the backup.
 */

import { contentOfFrame, entryBytesOf, fillFrame, frameBytesAt } from '../artifact/frame.ts';
import { type FrameMemory, movedInto } from '../artifact/framememory.ts';
import type { PackedFrame } from '../artifact/membersource.ts';
import { compressFrame, decompressFrame } from '../artifact/zstd.ts';
import { GraphkeepError } from '../errors.ts';
import { FormatError } from '../formats/formaterror.ts';
import { TAR_BLOCK_BYTES } from '../formats/tar.ts';
import { contentBytesOf } from '../formats/zstd.ts';
import { FRAME_RAW_BYTES, PACKED_LEVEL_MAX, RANGES_IN_FLIGHT_MAX } from '../limits.ts';
import type { RemoteMember } from './protocol.ts';
import type { ReadRange } from './ranges.ts';

/** How the server is to make a frame: whether it adds it to the hash of the member, which is asked for in the end. */
export interface FrameForm {
  readonly level: number;
  readonly isHashed: boolean;
}

/**
 * One try to fetch the frame at `offset` into `target`, which has room for it.
 * @returns the part that was filled; undefined when the connection broke
 */
export type FetchFrame = (
  offset: number,
  form: FrameForm,
  target: Buffer,
  signal: AbortSignal,
) => Promise<Buffer | undefined>;

interface Frame {
  readonly offset: number;
  readonly form: FrameForm;
  readonly packed: Promise<PackedFrame>;
}

/** Asks for the hash of what the frames held; undefined when the server does not know it. */
export type FetchHash = (signal: AbortSignal) => Promise<string | undefined>;

export interface PackedReaders {
  readonly fetchFrame: FetchFrame;
  /** How a frame is read that cannot be fetched whole. */
  readonly readRange: ReadRange;
  /** Missing where frames come from several servers. */
  readonly fetchHash?: FetchHash | undefined;
}

export class FramesAhead {
  readonly #member: RemoteMember;
  readonly #readers: PackedReaders;
  readonly #memory: FrameMemory;
  readonly #onAllAsked: (form: FrameForm) => void;
  /** Whether each frame was fetched once, in one go: then the server knows what arrived. */
  #isServersOwn = true;
  #frames: Frame[] = [];
  #nextOffset = 0;
  #fetching = new AbortController();

  /** @param onAllAsked called when nothing more is to be asked for: what comes next can be begun */
  constructor(
    member: RemoteMember,
    readers: PackedReaders,
    memory: FrameMemory,
    onAllAsked: (form: FrameForm) => void = () => undefined,
  ) {
    this.#member = member;
    this.#readers = readers;
    this.#memory = memory;
    this.#onAllAsked = onAllAsked;
  }

  abandon(): void {
    this.#fetching.abort();
  }

  /** In ascending order this is quick; undefined for a level that no server would spend its time on. */
  async read(offset: number, level: number, mayStayPacked: boolean): Promise<PackedFrame | undefined> {
    if (level > PACKED_LEVEL_MAX) return undefined;
    const form = { level, isHashed: mayStayPacked && this.#readers.fetchHash !== undefined };
    const first = this.#frames[0];
    if (first?.offset !== offset || !isSameForm(first.form, form)) this.#jump(offset);
    this.#fetchAhead(form);
    const { packed } = this.#frames.shift()!;
    if (this.#nextOffset >= entryBytesOf(this.#member)) this.#onAllAsked(form);
    return packed;
  }

  /** Fetches the first frames before anybody reads them. */
  begin(form: FrameForm): void {
    if (this.#nextOffset === 0) this.#fetchAhead(form);
  }

  /** The hash of the frames, once all were read. */
  async sha256(): Promise<string | undefined> {
    return this.#isServersOwn ? this.#readers.fetchHash?.(this.#fetching.signal) : undefined;
  }

  #jump(offset: number): void {
    if (this.#nextOffset > 0) this.#isServersOwn = false;
    this.#fetching.abort();
    this.#fetching = new AbortController();
    this.#frames = [];
    this.#nextOffset = offset;
  }

  #fetchAhead(form: FrameForm): void {
    const entryBytes = entryBytesOf(this.#member);
    while (this.#frames.length < RANGES_IN_FLIGHT_MAX && this.#nextOffset < entryBytes) this.#fetchNext(form);
  }

  #fetchNext(form: FrameForm): void {
    const offset = this.#nextOffset;
    const packed = this.#fetch(offset, form, this.#fetching.signal);
    // Awaited when its turn comes; a failure until then would count as unhandled first.
    packed.catch(() => undefined);
    this.#frames.push({ offset, form, packed });
    this.#nextOffset += FRAME_RAW_BYTES;
  }

  /** What is hashed there stays packed here, if it is content alone. */
  async #fetch(offset: number, form: FrameForm, signal: AbortSignal): Promise<PackedFrame> {
    const rawBytes = frameBytesAt(this.#member, offset);
    const memory = this.#memory.take(rawBytes);
    const release = (): void => this.#memory.give(memory);
    const stored = await this.#readers.fetchFrame(offset, form, memory, signal);
    if (stored === undefined) {
      // What the server hashed may not be what comes instead.
      this.#isServersOwn = false;
      return { ...(await this.#pack(offset, form.level, memory, signal)), release };
    }
    const isInside = offset > 0 && offset + FRAME_RAW_BYTES <= TAR_BLOCK_BYTES + this.#member.bytes;
    const staysPacked = form.isHashed && isInside && contentBytesOf(stored) === rawBytes;
    return staysPacked ? { stored, release } : { stored, raw: await this.#unpack(stored, offset), release };
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
  async #pack(offset: number, level: number, memory: Buffer, signal: AbortSignal): Promise<PackedFrame> {
    const raw = Buffer.allocUnsafe(frameBytesAt(this.#member, offset));
    const read = (target: Buffer, position: number): Promise<void> =>
      this.#readers.readRange(position, target, signal);
    await fillFrame(raw, offset, { ...this.#member, read });
    return { stored: await compressFrame(raw, level, (frame) => movedInto(memory, frame)), raw };
  }
}

function isSameForm(one: FrameForm, other: FrameForm): boolean {
  return one.level === other.level && one.isHashed === other.isHashed;
}
