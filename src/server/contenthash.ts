/**
 * The SHA-256 of a member as it was sent, frame by frame: so that a client can put the frames into its artifact without
 * unpacking them. Known only when each frame was asked for once, since a file that is in use may give another content the
 * second time, and nobody knows which of the two arrived.
 */
import { createHash } from 'node:crypto';
import { SESSION_RANGES_MAX } from '../limits.ts';

/** How many frames of a session may wait for those that they have overtaken, whatever members they belong to. */
export class EarlyRoom {
  #free = SESSION_RANGES_MAX;

  /** @returns whether there was room */
  take(): boolean {
    if (this.#free === 0) return false;
    this.#free -= 1;
    return true;
  }

  give(count: number): void {
    this.#free += count;
  }
}

export class ContentHash {
  readonly #hash = createHash('sha256');
  readonly #bytes: number;
  readonly #room: EarlyRoom;
  #doneBytes = 0;
  /** Requests overtake each other on their way. */
  readonly #early = new Map<number, Buffer>();
  #isKnown = true;

  constructor(bytes: number, room: EarlyRoom) {
    this.#bytes = bytes;
    this.#room = room;
  }

  /** Whether a piece that begins here would be taken without a copy. */
  isNext(startBytes: number): boolean {
    return startBytes === this.#doneBytes || !this.#isKnown;
  }

  /** @param content is not kept, unless it comes early: then as a copy */
  add(startBytes: number, content: Buffer): void {
    if (startBytes < this.#doneBytes || this.#early.has(startBytes)) this.giveUp();
    if (!this.#isKnown) return;
    if (startBytes > this.#doneBytes) {
      if (this.#room.take()) this.#early.set(startBytes, Buffer.from(content));
      else this.giveUp();
      return;
    }
    this.#append(content);
    for (let next = this.#takeNext(); next !== undefined; next = this.#takeNext()) this.#append(next);
  }

  /** In hexadecimal; undefined when it is not known. */
  get(): string | undefined {
    return this.#isKnown && this.#doneBytes === this.#bytes ? this.#hash.copy().digest('hex') : undefined;
  }

  /** Not known from now on; what waits is forgotten. */
  giveUp(): void {
    this.#isKnown = false;
    this.#room.give(this.#early.size);
    this.#early.clear();
  }

  #append(content: Buffer): void {
    this.#hash.update(content);
    this.#doneBytes += content.length;
  }

  #takeNext(): Buffer | undefined {
    const next = this.#early.get(this.#doneBytes);
    if (this.#early.delete(this.#doneBytes)) this.#room.give(1);
    return next;
  }
}
