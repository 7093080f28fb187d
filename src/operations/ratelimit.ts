/**
 * Holds reading to a rate, so that a backup leaves the disks to the server. Bytes are paid for before they are read,
 * one frame at a time.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { MemberSource } from '../artifact/membersource.ts';
import { GraphkeepError } from '../errors.ts';

export class RateLimit {
  readonly #bytesPerSecond: number | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #startedMs = performance.now();
  #spentBytes = 0;

  constructor(bytesPerSecond: number | undefined, signal: AbortSignal | undefined) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#signal = signal;
  }

  /**
   * Counts bytes without waiting; whoever spends next waits for them. For files that must be read in one moment:
   * waiting in the middle of one would only make a checkpoint in between more likely.
   */
  owe(bytes: number): void {
    this.#spentBytes += bytes;
  }

  /** Resolves when `bytes` more may be read. */
  async spend(bytes: number): Promise<void> {
    if (this.#bytesPerSecond === undefined) return;
    const dueMs = this.#startedMs + (this.#spentBytes / this.#bytesPerSecond) * 1000;
    this.#spentBytes += bytes;
    const waitMs = dueMs - performance.now();
    if (waitMs <= 0) return;
    await sleep(waitMs, undefined, this.#signal === undefined ? {} : { signal: this.#signal }).catch(
      (error: unknown) => {
        throw new GraphkeepError('GK_INTERRUPTED', 'interrupted', { cause: error });
      },
    );
  }

  /** The same member, each piece paid for before it is read. */
  limited(member: MemberSource): MemberSource {
    return {
      ...member,
      read: async (target, position) => {
        await this.spend(target.length);
        await member.read(target, position);
      },
    };
  }
}
