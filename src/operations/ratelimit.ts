/**
 * Holds reading to a rate, so that a backup leaves the disks to the server, and to a share of busy processors. Bytes are
 * paid for before they are read, one frame at a time.
 */
import { frameBytesAt } from '../artifact/frame.ts';
import type { MemberSource } from '../artifact/membersource.ts';
import { RATE_CREDIT_MS_MAX } from '../limits.ts';
import type { ReadableFile } from '../storage/local.ts';
import { pause } from './pause.ts';
import type { ProcessorShare } from './processorshare.ts';

export class RateLimit {
  readonly #bytesPerSecond: number | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #share: ProcessorShare | undefined;
  #paidUntilMs = performance.now();

  constructor(bytesPerSecond: number | undefined, signal: AbortSignal | undefined, share?: ProcessorShare) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#signal = signal;
    this.#share = share?.isUnlimited ? undefined : share;
  }

  get isUnlimited(): boolean {
    return this.#bytesPerSecond === undefined && this.#share === undefined;
  }

  /**
   * Counts bytes without waiting; whoever spends next waits for them. For files that must be read in one moment:
   * waiting in the middle of one would only make a checkpoint in between more likely.
   */
  owe(bytes: number): void {
    this.#charge(bytes);
  }

  /** Resolves when `bytes` more may be read. */
  async spend(bytes: number): Promise<void> {
    await this.#share?.wait(this.#signal);
    const waitMs = this.#paidUntilMs - performance.now();
    this.#charge(bytes);
    if (waitMs <= 0) return;
    await pause(waitMs, this.#signal);
  }

  /** What was not used is not saved up for long: after an idle hour, an hour's worth would be read at full speed. */
  #charge(bytes: number): void {
    if (this.#bytesPerSecond === undefined) return;
    const earliestMs = performance.now() - RATE_CREDIT_MS_MAX;
    this.#paidUntilMs = Math.max(this.#paidUntilMs, earliestMs) + (bytes / this.#bytesPerSecond) * 1000;
  }

  /** The same file, each piece paid for before it is read. */
  limitedFile(file: ReadableFile): ReadableFile {
    if (this.isUnlimited) return file;
    return {
      ...file,
      read: async (target, positionBytes) => {
        await this.spend(target.length);
        return file.read(target, positionBytes);
      },
    };
  }

  /** The same member, each piece paid for before it is read. */
  limited(member: MemberSource): MemberSource {
    const { readPacked } = member;
    return {
      ...member,
      ...(readPacked === undefined
        ? {}
        : {
            readPacked: async (offset, level, mayStayPacked) => {
              await this.spend(frameBytesAt(member, offset));
              return readPacked(offset, level, mayStayPacked);
            },
          }),
      read: async (target, position) => {
        await this.spend(target.length);
        await member.read(target, position);
      },
    };
  }
}
