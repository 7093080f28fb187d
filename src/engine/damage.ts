/** How damage in the files of a store is told: always with the file and the record. */
import { GraphkeepError } from '../errors.ts';
import { FormatError } from '../formats/formaterror.ts';

export function damagedStore(where: string, what: string, cause?: unknown): GraphkeepError {
  return new GraphkeepError('GK_STORE_DAMAGED', `${where}: ${what}`, cause === undefined ? {} : { cause });
}

/** Runs a parser; what it finds wrong becomes damage of `where`. */
export function namingStore<Result>(where: () => string, parse: () => Result): Result {
  try {
    return parse();
  } catch (error) {
    // Buffer refuses to read behind its end by a RangeError: the same, said by another.
    if (error instanceof FormatError || error instanceof RangeError)
      throw damagedStore(where(), error.message, error);
    throw error;
  }
}

/**
 * Sees that a chain of records comes to an end. Brent's way: one remembered id, moved on at every power of two, is met
 * again after at most a few turns of a circle, however long the chain is.
 */
export class ChainWatch {
  readonly #where: string;
  #remembered: number | undefined;
  #steps = 0;
  #stepsMax = 1;

  /** @param where names the chain in the error */
  constructor(where: string) {
    this.#where = where;
  }

  /** @throws GK_STORE_DAMAGED when the chain runs in a circle */
  visit(id: number): void {
    if (id === this.#remembered)
      throw damagedStore(this.#where, `its chain runs in a circle through record ${id}`);
    this.#steps++;
    if (this.#steps < this.#stepsMax) return;
    this.#remembered = id;
    this.#stepsMax *= 2;
    this.#steps = 0;
  }
}
