/**
 * The one rule of every log that graphkeep writes or reads: each transaction follows the one before it, by number and,
 * where it is known, by checksum. A log with a gap is not noticed by Neo4j and is silent corruption.
 */
import { GraphkeepError } from '../errors.ts';
import type { Checkpoint } from '../formats/txlog/checkpoint.ts';
import type { LogTransaction } from '../formats/txlog/transactions.ts';

/** Transactions of consecutive append indexes, proven one by one. */
export interface TransactionRange {
  readonly first: bigint;
  readonly last: bigint;
  readonly lastChecksum: number;
  /** Checksum of the transaction before the first one, where the log carries it. */
  readonly previousChecksum: number | undefined;
  readonly latestCommitMillis: bigint;
}

/** The transaction that a log must pass or follow, by all that is known of it. */
export interface KnownTransaction {
  readonly appendIndex: bigint;
  readonly transactionId: bigint;
  readonly checksum: number;
  readonly commitTimeMillis: bigint;
}

/** The transaction that a checkpoint names. */
export function namedBy(checkpoint: Checkpoint): KnownTransaction {
  const { appendIndex, transactionId, transactionChecksum, transactionCommitTimeMillis } = checkpoint;
  return {
    appendIndex,
    transactionId,
    checksum: transactionChecksum,
    commitTimeMillis: transactionCommitTimeMillis,
  };
}

/**
 * Checks that each transaction follows the one before it. One instance walks all files of a log in order.
 *
 * The position of a checkpoint may lie some transactions before the last one that the checkpoint names, when several
 * were being committed at that moment. So the first transaction may repeat what the checkpoint covers, but must not
 * leave a gap behind it, and the walk must pass the very transaction that the checkpoint names.
 */
export class ContinuityCheck {
  readonly #fence: Omit<KnownTransaction, 'transactionId'>;
  #last: { readonly appendIndex: bigint; readonly checksum: number } | undefined;
  #latestCommitMillis: bigint;
  #count = 0n;

  constructor(fence: Omit<KnownTransaction, 'transactionId'>) {
    this.#fence = fence;
    this.#latestCommitMillis = fence.commitTimeMillis;
  }

  /** Append index of the last transaction; that of the fence as long as there was none. */
  get appendIndex(): bigint {
    return this.#last?.appendIndex ?? this.#fence.appendIndex;
  }
  get checksum(): number {
    return this.#last?.checksum ?? this.#fence.checksum;
  }
  get count(): bigint {
    return this.#count;
  }
  /** Commit times need not ascend: transactions take theirs before they reach the log. */
  get latestCommitMillis(): bigint {
    return this.#latestCommitMillis;
  }

  accept(transaction: LogTransaction): void {
    const { appendIndex, checksum, previousChecksum, commitTimeMillis } = transaction;
    this.acceptRange({
      first: appendIndex,
      last: appendIndex,
      lastChecksum: checksum,
      previousChecksum,
      latestCommitMillis: commitTimeMillis,
    });
  }

  /** For a reader that has proven the transactions inside the range already. */
  acceptRange(range: TransactionRange): void {
    const { first, last, lastChecksum, previousChecksum } = range;
    this.#requireNext(first);
    // Before the first transaction only the one that the checkpoint names is known.
    const before = this.#last ?? this.#fence;
    const isKnown = before.appendIndex === first - 1n;
    if (isKnown && previousChecksum !== undefined && previousChecksum !== before.checksum) {
      throw damagedLog(
        `transaction ${first} was not written after the transaction ${before.appendIndex} in the log`,
      );
    }
    if (last === this.#fence.appendIndex && lastChecksum !== this.#fence.checksum) {
      throw damagedLog(`transaction ${last} in the log is another one than the checkpoint names`);
    }
    this.#advance(range);
  }

  #requireNext(appendIndex: bigint): void {
    const before = this.#last;
    if (
      before === undefined
        ? appendIndex <= this.#fence.appendIndex + 1n
        : appendIndex === before.appendIndex + 1n
    ) {
      return;
    }
    throw damagedLog(`the log goes from transaction ${this.appendIndex} to ${appendIndex}: there is a gap`);
  }

  #advance({ first, last, lastChecksum, latestCommitMillis }: TransactionRange): void {
    this.#last = { appendIndex: last, checksum: lastChecksum };
    if (latestCommitMillis > this.#latestCommitMillis) this.#latestCommitMillis = latestCommitMillis;
    this.#count += last - first + 1n;
  }

  /** @throws GK_STORE_DAMAGED when the log ends before the last transaction that the checkpoint covers */
  requireFence(): void {
    if (this.#last === undefined || this.#last.appendIndex >= this.#fence.appendIndex) return;
    throw damagedLog(
      `the log ends at transaction ${this.#last.appendIndex}, before ${this.#fence.appendIndex}, which the checkpoint names`,
    );
  }
}

export function damagedLog(message: string): GraphkeepError {
  return new GraphkeepError('GK_STORE_DAMAGED', message);
}
