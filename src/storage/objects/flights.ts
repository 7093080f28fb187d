/** Parts that are on their way. An upload that is aborted must end them first: one that arrives late would stay for good. */
import { GraphkeepError } from '../../errors.ts';

export class Flights {
  readonly #ended = new AbortController();
  readonly #underWay = new Set<Promise<unknown>>();

  get hasEnded(): boolean {
    return this.#ended.signal.aborted;
  }

  /** @throws what `task` throws, GK_INTERRUPTED after the end */
  async fly(signal: AbortSignal | undefined, task: (signal: AbortSignal) => Promise<void>): Promise<void> {
    if (this.hasEnded) throw new GraphkeepError('GK_INTERRUPTED', 'the upload has ended');
    const flight = task(AbortSignal.any([this.#ended.signal, ...(signal === undefined ? [] : [signal])]));
    this.#underWay.add(flight);
    try {
      await flight;
    } finally {
      this.#underWay.delete(flight);
    }
  }

  /** Nothing is under way afterwards. @returns false when it had ended before */
  async end(): Promise<boolean> {
    if (this.hasEnded) return false;
    this.#ended.abort();
    await Promise.allSettled(this.#underWay);
    return true;
  }
}
