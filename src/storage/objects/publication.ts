/**
 * An artifact on its way into an object store: parts go up while it is written, without a file in between, and the object
 * appears when the last one is there. Its first part is kept until the end, since the head of an artifact is written last.
 */
import { GraphkeepError } from '../../errors.ts';
import { partsAtOnce } from './parts.ts';
import type { ObjectStore, Upload, UploadOptions } from './store.ts';

/** What a rewind goes back to. */
interface Held {
  readonly bytes: number;
  readonly partNumber: number;
  readonly partFilled: number;
  /** What its part held before it, once that part was sent. */
  prefix?: Buffer;
}

export class ObjectPublication {
  readonly partialPath: string;
  readonly #options: UploadOptions;
  readonly #key: string;
  readonly #inFlight = new Map<number, Promise<void>>();
  #upload: Upload | undefined;
  #failure: unknown;
  /** Kept until the end. */
  #first: Buffer | undefined;
  /** The part that is being filled. */
  #part: Buffer;
  /** Of parts that were sent. New ones would be memory as well until the collector comes by, far more than is needed. */
  readonly #spare: Buffer[] = [];
  #partNumber = 1;
  #partFilled = 0;
  #bytes = 0;
  /** Known when all of them are in the store. */
  #partCount: number | undefined;
  #held: Held | undefined;

  private constructor(store: ObjectStore, key: string, upload: Upload, options: UploadOptions) {
    this.#key = key;
    this.#upload = upload;
    this.#options = options;
    this.partialPath = `${store.url}${key}`;
    this.#part = Buffer.allocUnsafe(upload.partBytes);
  }

  static async begin(store: ObjectStore, key: string, options: UploadOptions): Promise<ObjectPublication> {
    return new ObjectPublication(store, key, await store.beginUpload(key, options), options);
  }

  get bytes(): number {
    return this.#bytes;
  }

  async append(bytes: Buffer): Promise<void> {
    this.#throwIfFailed();
    for (let done = 0; done < bytes.length; ) {
      const copied = bytes.copy(this.#part, this.#partFilled, done);
      this.#partFilled += copied;
      this.#bytes += copied;
      done += copied;
      if (this.#partFilled === this.#part.length) await this.#endPart();
    }
  }

  /** From now on `truncate` can come back to here. What was held before is held no more. */
  hold(): void {
    this.#held = { bytes: this.#bytes, partNumber: this.#partNumber, partFilled: this.#partFilled };
  }

  /** Only bytes of the first part: the head of an artifact. */
  async patch(bytes: Buffer, positionBytes: number): Promise<void> {
    const target = this.#first ?? this.#part.subarray(0, this.#partFilled);
    if (positionBytes + bytes.length > target.length)
      throw new GraphkeepError('GK_INTERNAL', `${this.partialPath} cannot be changed behind its first part`);
    bytes.copy(target, positionBytes);
  }

  /** Takes back everything after the place that is held. */
  async truncate(bytes: number): Promise<void> {
    const held = this.#held;
    if (bytes === this.#bytes) return;
    if (held?.bytes !== bytes)
      throw new GraphkeepError('GK_INTERNAL', `${this.partialPath} cannot go back to ${bytes}`);
    // A part that is sent again must not meet its former self under way.
    await this.#settle(0);
    if (held.partNumber === 1 && this.#first !== undefined) {
      // It may have been filled beyond the place that is held.
      this.#spare.push(this.#part);
      this.#part = this.#first;
      this.#first = undefined;
    }
    held.prefix?.copy(this.#part);
    this.#partNumber = held.partNumber;
    this.#partFilled = held.partFilled;
    this.#bytes = bytes;
  }

  /** Sends what is left: afterwards all parts are in the store, and nobody sees an object yet. */
  async finish(): Promise<void> {
    if (this.#partCount !== undefined) return;
    if (this.#first === undefined) this.#first = Buffer.from(this.#part.subarray(0, this.#partFilled));
    else if (this.#partFilled > 0) this.#send(this.#partNumber, this.#part.subarray(0, this.#partFilled));
    const partCount =
      this.#partFilled > 0 || this.#partNumber === 1 ? this.#partNumber : this.#partNumber - 1;
    this.#send(1, this.#first);
    await this.#settle(0);
    this.#partCount = partCount;
  }

  /** @returns false when the name was taken meanwhile; then nothing stays, and there is no other try */
  async publish(): Promise<boolean> {
    const upload = this.#requireUpload();
    await this.finish();
    const partCount = this.#partCount!;
    const { signal } = this.#options;
    const isNew = await upload.complete(partCount, {
      ifAbsent: true,
      ...(signal === undefined ? {} : { signal }),
    });
    this.#upload = undefined;
    return isNew;
  }

  /** Nothing stays. */
  async discard(): Promise<undefined> {
    await Promise.allSettled(this.#inFlight.values());
    await this.#upload?.abort();
    this.#upload = undefined;
  }

  /** Its own name, for messages. */
  get key(): string {
    return this.#key;
  }

  async #endPart(): Promise<void> {
    const { length } = this.#part;
    if (this.#partNumber === 1) this.#first = this.#part;
    else {
      this.#keepPrefix();
      this.#send(this.#partNumber, this.#part);
    }
    await this.#settle(partsAtOnce(length) - 1);
    this.#part = this.#spare.pop() ?? Buffer.allocUnsafe(length);
    this.#partNumber += 1;
    this.#partFilled = 0;
  }

  /** The buffer of a part that was sent is used again. Few parts end behind what is held: most trees are small. */
  #keepPrefix(): void {
    const held = this.#held;
    if (held?.partNumber === this.#partNumber)
      held.prefix = Buffer.from(this.#part.subarray(0, held.partFilled));
  }

  #send(number: number, bytes: Buffer): void {
    const { signal } = this.#options;
    const sent = this.#requireUpload()
      .putPart(number, bytes, signal)
      .then(
        () => {
          if (bytes.length === this.#part.length) this.#spare.push(bytes);
        },
        (error: unknown) => {
          this.#failure ??= error;
        },
      )
      .finally(() => this.#inFlight.delete(number));
    this.#inFlight.set(number, sent);
  }

  async #settle(leave: number): Promise<void> {
    while (this.#inFlight.size > leave) await Promise.race(this.#inFlight.values());
    this.#throwIfFailed();
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  #requireUpload(): Upload {
    if (this.#upload === undefined) throw new GraphkeepError('GK_INTERNAL', `${this.partialPath} has ended`);
    return this.#upload;
  }
}
