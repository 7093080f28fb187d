/**
 * A file that is copied while it is read: whoever reads it to prove what is in it sends every byte on its way to the copy,
 * in order and once. So the bytes that were proven are the ones that are written, and the source is read one time.
 */
import { throwIfAborted } from '../errors.ts';
import { FormatError } from '../formats/formaterror.ts';
import type { ReadableFile } from '../storage/local.ts';
import { fileChunks, readRange } from './bytes.ts';

export class ForwardingFile implements ReadableFile {
  readonly path: string;
  readonly bytes: number;
  readonly #source: ReadableFile;
  readonly #forward: (bytes: Buffer) => Promise<void>;
  /** Everything before is forwarded, or about to be. */
  #claimedBytes = 0;
  #forwarded: Promise<void> = Promise.resolve();

  constructor(source: ReadableFile, forward: (bytes: Buffer) => Promise<void>) {
    this.path = source.path;
    this.bytes = source.bytes;
    this.#source = source;
    this.#forward = forward;
  }

  /**
   * What was not read before is forwarded, and so is what lies between it and the end of the last read. The read ends when
   * its bytes were taken: who reads ahead is held back by who writes.
   */
  async read(target: Buffer, positionBytes: number): Promise<number> {
    const startBytes = this.#claimedBytes;
    const endBytes = Math.min(positionBytes + target.length, this.bytes);
    const reading = this.#source.read(target, positionBytes);
    if (endBytes <= startBytes) return reading;
    this.#claimedBytes = endBytes;
    reading.catch(() => undefined); // reported below, in order
    const forwarded = this.#forwarded.then(async () => {
      if (startBytes < positionBytes) await this.#forwardRange(startBytes, positionBytes);
      const got = await reading;
      if (positionBytes + got < endBytes)
        throw new FormatError(`the file ends at byte ${positionBytes + got}`);
      await this.#forward(target.subarray(Math.max(0, startBytes - positionBytes), got));
    });
    this.#forwarded = forwarded;
    await forwarded;
    return reading;
  }

  async #forwardRange(startBytes: number, endBytes: number): Promise<void> {
    await this.#forward(await readRange(this.#source, startBytes, endBytes - startBytes));
  }

  /** Whatever lies behind the last read. @throws GK_INTERRUPTED */
  async forwardRest(signal: AbortSignal | undefined): Promise<void> {
    await this.#forwarded;
    const startBytes = this.#claimedBytes;
    this.#claimedBytes = this.bytes;
    for await (const chunk of fileChunks(this.#source, startBytes)) {
      throwIfAborted(signal);
      await this.#forward(chunk);
    }
  }

  close(): Promise<void> {
    return this.#source.close();
  }
}
