/**
 * Reads a log member of an artifact while it streams by: header, then transactions, each proven by its checksum, then at
 * most zeros. Keeps no more than one incomplete entry.
 */
import { FormatError } from '../formats/formaterror.ts';
import { LOG_HEADER_BYTES, type LogHeader, parseLogHeader } from '../formats/txlog/header.ts';
import { type LogTransaction, TransactionParser } from '../formats/txlog/transactions.ts';
import { LOG_COMMAND_BYTES_MAX } from '../limits.ts';
import type { MemberInfo } from './memberhandler.ts';

/** Number at the end of the name of a log or checkpoint file. */
export function fileVersionOf(path: string): bigint {
  return BigInt(/\d+$/.exec(path)?.[0] ?? '0');
}

export class LogMemberReader {
  readonly path: string;
  readonly version: bigint;
  readonly #parser: TransactionParser;
  /** Bytes of an entry that is not complete yet. */
  #pending: Buffer = Buffer.alloc(0);
  #header: LogHeader | undefined;
  #headerBytes: Buffer | undefined;
  #phase: 'header' | 'transactions' | 'zeros' = 'header';

  constructor(member: MemberInfo, onTransaction: (transaction: LogTransaction) => void) {
    this.path = member.path;
    this.version = fileVersionOf(member.path);
    this.#parser = new TransactionParser(LOG_HEADER_BYTES, onTransaction);
  }

  get header(): LogHeader | undefined {
    return this.#header;
  }

  /** The first bytes of the member as they are; undefined until they were fed. */
  get headerBytes(): Buffer | undefined {
    return this.#headerBytes;
  }

  /** Zeros behind the last transaction, as in a preallocated file. */
  get hasZeroTail(): boolean {
    return this.#phase === 'zeros';
  }

  /** @throws FormatError */
  feed(bytes: Buffer): void {
    this.#pending = this.#pending.length === 0 ? bytes : Buffer.concat([this.#pending, bytes]);
    if (this.#phase === 'header') this.#readHeader();
    if (this.#phase === 'transactions') this.#readTransactions();
    if (this.#phase === 'zeros') this.#requireZeros();
  }

  #readHeader(): void {
    if (this.#pending.length < LOG_HEADER_BYTES) return;
    this.#headerBytes = Buffer.from(this.#pending.subarray(0, LOG_HEADER_BYTES));
    this.#header = parseLogHeader(this.#headerBytes);
    if (this.#header?.logVersion !== this.version)
      throw new FormatError(`${this.path} does not begin with its header`);
    this.#pending = this.#pending.subarray(LOG_HEADER_BYTES);
    this.#phase = 'transactions';
  }

  #readTransactions(): void {
    const step = this.#parser.parse(this.#pending);
    this.#pending = this.#pending.subarray(step.consumedBytes);
    if (step.status === 'torn')
      throw new FormatError(`${this.path}: ${step.reason} at byte ${step.reachedBytes}`);
    if (step.status === 'end') this.#phase = 'zeros';
    else if (this.#pending.length > LOG_COMMAND_BYTES_MAX)
      throw new FormatError(`${this.path}: a command is too long`);
  }

  #requireZeros(): void {
    if (!this.#pending.equals(Buffer.alloc(this.#pending.length))) {
      throw new FormatError(`${this.path} goes on after the end of its transactions`);
    }
    this.#pending = Buffer.alloc(0);
  }

  /** The file ended: nothing of a transaction may be left over. @throws FormatError */
  finish(): void {
    if (this.#phase === 'header') throw new FormatError(`${this.path} is shorter than its header`);
    if (this.#pending.length > 0 || this.#parser.insideTransaction) {
      throw new FormatError(`${this.path} ends inside a transaction`);
    }
  }
}
