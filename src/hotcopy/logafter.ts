/**
 * The log of a database after a known transaction: all that a differential backup reads. The store files are not
 * touched, so its cost is that of the new log. Source: formats.md §2.1, §2.3, §2.6.
 *
 * The transaction is looked for by number *and* checksum. A server that was set back to an earlier moment writes the same
 * numbers again for other transactions; a differential of those behind the old parent would restore to a mixture.
 */
import type { MemberSource } from '../artifact/membersource.ts';
import { damagedLog } from '../chain/continuity.ts';
import type { TransactionMark } from '../chain/summary.ts';
import type { Neostore } from '../formats/neostore.ts';
import type { LogPosition } from '../formats/txlog/checkpoint.ts';
import { LOG_HEADER_BYTES, type LogHeader } from '../formats/txlog/header.ts';
import type { LogTransaction } from '../formats/txlog/transactions.ts';
import type { DatabaseFolders } from '../neo4j/folders.ts';
import { membersOfTail, withoutEmptyFiles } from './logmembers.ts';
import { LogPins, type PinnedLog } from './logpins.ts';
import { readCommitBefore } from './namedtransaction.ts';
import { readIdentity, requireTail } from './snapshot.ts';
import { readHeader, readTail, scanTransactions, type Tail, type TailFacts } from './tail.ts';

/** Where a transaction was found, or why what comes after it cannot be had. */
export type Search =
  | { readonly status: 'found'; readonly position: LogPosition }
  | { readonly status: 'pruned'; readonly lowestAvailable: bigint }
  | { readonly status: 'diverged' };

/** What a differential reads; of a server on this host or of a backup server. */
export interface LogSource {
  readonly neostore: Neostore;
  find(mark: TransactionMark, hint: LogPosition | undefined, signal?: AbortSignal): Promise<Search>;
  /** From a found transaction to the last complete one, every checksum proven. */
  readFrom(
    mark: TransactionMark,
    position: LogPosition,
    commitTimeMillis: bigint,
    signal?: AbortSignal,
  ): Promise<TailFacts>;
  /** What the artifact holds of what was read; nothing when nothing happened. */
  members(): Promise<MemberSource[]>;
  close(): Promise<void>;
}

interface HeadedLog {
  readonly pin: PinnedLog;
  readonly header: LogHeader;
}

/** Every log file of one database, held open. */
export class LogAfter implements LogSource {
  readonly neostore: Neostore;
  readonly #pins: LogPins;
  #tail: Tail | undefined;

  private constructor(neostore: Neostore, pins: LogPins) {
    this.neostore = neostore;
    this.#pins = pins;
  }

  /** @throws GK_NOT_FOUND, GK_UNSUPPORTED */
  static async open(folders: DatabaseFolders): Promise<LogAfter> {
    const neostore = await readIdentity(folders.storeDirectory);
    const pins = new LogPins(folders.logDirectory, 0n);
    try {
      await pins.refresh();
      return new LogAfter(neostore, pins);
    } catch (error) {
      await pins.close();
      throw error;
    }
  }

  /**
   * Looks for a transaction where it was when it was backed up, which is one small read; then, since a restored server has
   * its log elsewhere, in the file that must hold it.
   */
  async find(mark: TransactionMark, hint: LogPosition | undefined, signal?: AbortSignal): Promise<Search> {
    if (hint !== undefined && (await this.#endsAt(mark, hint))) return { status: 'found', position: hint };
    const files = await this.#headedFiles();
    const first = files[0];
    if (first === undefined) throw damagedLog('the database has no transaction log');
    const holder = files.findLast(({ header }) => header.previousAppendIndex < mark.appendIndex);
    if (holder === undefined) return this.#followsUnseen(mark, first, signal);
    const found = await findInFile(holder.pin, mark.appendIndex, signal);
    if (found === undefined) {
      if (holder !== files.at(-1))
        throw damagedLog(`${holder.pin.name} does not hold transaction ${mark.appendIndex}`);
      return { status: 'diverged' };
    }
    if (found.checksum !== mark.checksum) return { status: 'diverged' };
    const position = { logVersion: holder.pin.version, offsetBytes: BigInt(found.endBytes) };
    return { status: 'found', position };
  }

  async #endsAt(mark: TransactionMark, { logVersion, offsetBytes }: LogPosition): Promise<boolean> {
    const pin = this.#pins.pinned().find(({ version }) => version === logVersion);
    const commit = pin === undefined ? undefined : await readCommitBefore(pin, Number(offsetBytes));
    // On record stores the append index is the transaction id (formats.md §2.3).
    return commit?.transactionId === mark.appendIndex && commit.checksum === mark.checksum;
  }

  /** Files that rotation has made and not yet begun have no header; only the newest can be like that. */
  async #headedFiles(): Promise<HeadedLog[]> {
    const files: HeadedLog[] = [];
    for (const pin of this.#pins.pinned()) {
      const header = await readHeader(pin, this.neostore.storeId);
      if (header !== undefined) files.push({ pin, header });
    }
    return files;
  }

  /**
   * The transaction itself is gone. What follows is all there only if the oldest file begins right behind it; that it is
   * the same transaction is known only where the next one carries its checksum, as logs of 5.20 to 2025.04 do.
   */
  async #followsUnseen(mark: TransactionMark, first: HeadedLog, signal?: AbortSignal): Promise<Search> {
    const pruned: Search = { status: 'pruned', lowestAvailable: first.header.previousAppendIndex + 1n };
    if (first.header.previousAppendIndex !== mark.appendIndex) return pruned;
    const next = await findInFile(first.pin, mark.appendIndex + 1n, signal);
    if (next?.previousChecksum === undefined) return pruned;
    if (next.previousChecksum !== mark.checksum) return { status: 'diverged' };
    const position = { logVersion: first.pin.version, offsetBytes: BigInt(LOG_HEADER_BYTES) };
    return { status: 'found', position };
  }

  /** @throws GK_STORE_DAMAGED, GK_SOURCE_MOVED, … */
  async readFrom(
    mark: TransactionMark,
    position: LogPosition,
    commitTimeMillis: bigint,
    signal?: AbortSignal,
  ): Promise<Tail> {
    await this.#pins.refresh();
    const pins = this.#pins.pinned().filter(({ version }) => version >= position.logVersion);
    const named = { ...mark, transactionId: mark.appendIndex, commitTimeMillis };
    const tail = await readTail(pins, { position, named }, this.neostore.storeId, signal);
    if (tail.appendIndexBefore !== mark.appendIndex) {
      throw damagedLog(
        `the log goes on with transaction ${tail.appendIndexBefore + 1n} after ${mark.appendIndex}`,
      );
    }
    this.#tail = tail;
    return tail;
  }

  async members(): Promise<MemberSource[]> {
    const tail = requireTail(this.#tail);
    return tail.transactions === 0n ? [] : membersOfTail(withoutEmptyFiles(tail));
  }

  close(): Promise<void> {
    return this.#pins.close();
  }
}

/** Reads a log file to the end of what can be read, and gives the transaction if it was there. */
async function findInFile(
  pin: PinnedLog,
  appendIndex: bigint,
  signal: AbortSignal | undefined,
): Promise<LogTransaction | undefined> {
  let found: LogTransaction | undefined;
  const onTransaction = (transaction: LogTransaction): void => {
    if (transaction.appendIndex === appendIndex) found = transaction;
  };
  await scanTransactions(pin.handle, LOG_HEADER_BYTES, onTransaction, signal);
  return found;
}
