/**
 * The judgement on what an artifact holds, without a server: what recovery will need, and a log without a gap.
 */
import { LogMemberReader } from '../artifact/logmember.ts';
import type { MemberHandler, MemberInfo } from '../artifact/memberhandler.ts';
import {
  ContinuityCheck,
  type KnownTransaction,
  namedBy,
  type TransactionRange,
} from '../chain/continuity.ts';
import type { ArtifactDescriptor } from '../formats/artifact/descriptor.ts';
import type { ArtifactIndex } from '../formats/artifact/index.ts';
import { FormatError } from '../formats/formaterror.ts';
import { parseNeostore } from '../formats/neostore.ts';
import { isSameStore, type StoreId } from '../formats/storeid.ts';
import { type Checkpoint, laterAtPosition } from '../formats/txlog/checkpoint.ts';
import { LOG_HEADER_BYTES } from '../formats/txlog/header.ts';
import type { LogTransaction } from '../formats/txlog/transactions.ts';
import { MANDATORY_FILES, METADATA_STORE } from '../hotcopy/storefiles.ts';
import { KIB } from '../limits.ts';

/** Takes the members of one artifact as they are read, and judges them at the end. */
export class ArtifactProof implements MemberHandler {
  memberCount = 0;
  memberBytes = 0;
  transactions = 0n;
  readonly #descriptor: ArtifactDescriptor;
  readonly #fence: Checkpoint | undefined;
  /** Checksums of the transactions that the caller asked for, as far as they are in the log. */
  readonly seen = new Map<bigint, number>();
  readonly #watched: ReadonlySet<bigint>;
  readonly #paths = new Set<string>();
  readonly #logs: LogProof[] = [];
  #log: LogProof | undefined;
  #neostore: Buffer | undefined;
  #storeId: StoreId | undefined;

  constructor(
    descriptor: ArtifactDescriptor,
    fence: Checkpoint | undefined,
    watched: ReadonlySet<bigint> = new Set(),
  ) {
    this.#descriptor = descriptor;
    this.#fence = fence;
    this.#watched = watched;
  }

  async begin(member: MemberInfo): Promise<void> {
    this.#paths.add(member.path);
    if (member.kind === 'log') this.#log = new LogProof(member, this.#fence, (log) => this.#note(log));
    if (member.path !== METADATA_STORE) return;
    if (member.bytes > NEOSTORE_BYTES_LIMIT) throw new FormatError(`${member.path} is impossibly long`);
    this.#neostore = Buffer.alloc(member.bytes);
  }

  async content(bytes: Buffer, positionBytes: number): Promise<void> {
    this.memberBytes += bytes.length;
    this.#log?.feed(bytes);
    if (this.#neostore !== undefined) bytes.copy(this.#neostore, positionBytes);
  }

  async end(): Promise<void> {
    this.memberCount++;
    if (this.#log !== undefined) {
      this.#log.finish();
      this.#logs.push(this.#log);
    }
    if (this.#neostore !== undefined) this.#storeId = parseNeostore(this.#neostore).storeId;
    this.#log = undefined;
    this.#neostore = undefined;
  }

  #note({ appendIndex, checksum }: LogTransaction): void {
    if (this.#watched.has(appendIndex)) this.seen.set(appendIndex, checksum);
  }

  /** Of a full artifact. @throws FormatError, GK_STORE_DAMAGED: what recovery would lack */
  concludeFull(index: ArtifactIndex | undefined): void {
    const missing = MANDATORY_FILES.filter((name) => !this.#paths.has(name));
    if (missing.length > 0)
      throw new FormatError(`it lacks ${missing.join(', ')}, without which Neo4j does not start`);
    const fence = this.#fence;
    if (fence === undefined)
      throw new FormatError('it holds no valid checkpoint: recovery would not know where to start');
    this.#requireOneStore([this.#storeId, fence.storeId]);
    const { appendIndex, checksum } = this.#proveLog(fence);
    this.#requireEnd(appendIndex);
    if (index === undefined) return;
    if (index.highestChecksum !== checksum || index.fence?.appendIndex !== String(fence.appendIndex)) {
      throw new FormatError('its index names another checkpoint or last transaction than its members');
    }
  }

  /** Of a differential one: its log must go from its parent's last transaction to its own without a gap. */
  concludeDifferential(index: ArtifactIndex): void {
    const { parent } = index;
    const other = [...this.#paths].find((path) => !this.#logs.some((log) => log.path === path));
    if (other !== undefined || parent === undefined) {
      throw new FormatError(
        `it is differential and ${parent === undefined ? 'names no parent' : `holds ${other}`}`,
      );
    }
    this.#requireOneStore([]);
    const mark = { appendIndex: BigInt(parent.appendIndex), checksum: parent.checksum, commitTimeMillis: 0n };
    const continuity = new ContinuityCheck(mark);
    this.#requireJoint(mark);
    for (const log of this.#logs) {
      if (log.hasZeroTail) throw new FormatError(`${log.path} has zeros behind its last transaction`);
      for (const range of log.ranges) continuity.acceptRange(range);
    }
    this.transactions = continuity.count;
    const isEmpty = continuity.count === 0n;
    this.#requireEnd(isEmpty ? 0n : continuity.appendIndex);
    const lowest = isEmpty ? 0n : mark.appendIndex + 1n;
    if (index.highestChecksum !== continuity.checksum || this.#descriptor.lowestAppendIndex !== lowest) {
      throw new FormatError('its index and header name other transactions than its members hold');
    }
  }

  #requireJoint(parent: { appendIndex: bigint }): void {
    const first = this.#logs.find((log) => log.ranges.length > 0);
    if (first === undefined) return;
    const { first: lowest } = first.ranges[0]!;
    if (lowest === parent.appendIndex + 1n) return;
    throw new FormatError(`its log begins with transaction ${lowest}, which does not follow its parent`);
  }

  #requireOneStore(others: readonly (StoreId | undefined)[]): void {
    const storeIds = [...others, ...this.#logs.map((log) => log.storeId)];
    if (storeIds.some((id) => id !== undefined && !isSameStore(id, this.#descriptor.storeId))) {
      throw new FormatError('store files, log and checkpoint do not belong to one store');
    }
  }

  #requireEnd(appendIndex: bigint): void {
    const { highestAppendIndex } = this.#descriptor;
    if (appendIndex === highestAppendIndex) return;
    throw new FormatError(
      `its log ends at transaction ${appendIndex}, its header says ${highestAppendIndex}`,
    );
  }

  #proveLog(fence: Checkpoint): ContinuityCheck {
    const { logVersion } = fence.position;
    const logs = this.#logs
      .filter((log) => log.version >= logVersion)
      .sort((left, right) => (left.version < right.version ? -1 : 1));
    const first = logs[0];
    if (first === undefined || first.version !== logVersion) {
      throw new FormatError(`it lacks log file ${logVersion}, where recovery starts`);
    }
    if (!first.reachesFence)
      throw new FormatError(`${first.path} has no transaction end where the checkpoint says`);
    const continuity = new ContinuityCheck(first.covered);
    for (const [number, log] of logs.entries()) {
      if (log.version !== logVersion + BigInt(number))
        throw new FormatError(`log file ${logVersion + BigInt(number)} is missing`);
      if (log.hasZeroTail && number < logs.length - 1) {
        throw new FormatError(
          `${log.path} has zeros behind its last transaction; Neo4j accepts them in the newest log only`,
        );
      }
      for (const range of log.ranges) continuity.acceptRange(range);
    }
    continuity.requireFence();
    if (continuity.count === 0n && !first.endsWithCovered) {
      throw new FormatError(
        `its log ends before transaction ${first.covered.appendIndex}, which the checkpoint names`,
      );
    }
    this.transactions = continuity.count;
    return continuity;
  }
}

/** `neostore` is one page. */
const NEOSTORE_BYTES_LIMIT = 64 * KIB;

/** One log member: its transactions are proven while it streams by; only where they begin and end is kept. */
class LogProof {
  readonly #fence: Checkpoint | undefined;
  /** Where recovery starts in this file: 0 in the files after the fence's. */
  readonly #startBytes: number;
  readonly #reader: LogMemberReader;
  readonly #onTransaction: (transaction: LogTransaction) => void;
  #before: LogTransaction | undefined;
  #ranges: TransactionRange[] = [];
  #previous: LogTransaction | undefined;

  constructor(
    member: MemberInfo,
    fence: Checkpoint | undefined,
    onTransaction: (transaction: LogTransaction) => void,
  ) {
    this.#fence = fence;
    this.#onTransaction = onTransaction;
    this.#reader = new LogMemberReader(member, (transaction) => this.#accept(transaction));
    this.#startBytes = fence?.position.logVersion === this.version ? Number(fence.position.offsetBytes) : 0;
  }

  get path(): string {
    return this.#reader.path;
  }

  get version(): bigint {
    return this.#reader.version;
  }

  get storeId(): StoreId | undefined {
    return this.#reader.header?.storeId;
  }

  /** Unbroken ranges of transactions from where recovery starts; more than one only when there is a gap. */
  get ranges(): readonly TransactionRange[] {
    return this.#ranges;
  }

  /** Zeros behind the last transaction, as in a preallocated file. */
  get hasZeroTail(): boolean {
    return this.#reader.hasZeroTail;
  }

  /** Whether recovery's start is the end of a transaction, or of the header. */
  get reachesFence(): boolean {
    return (this.#before?.endBytes ?? LOG_HEADER_BYTES) === Math.max(this.#startBytes, LOG_HEADER_BYTES);
  }

  /**
   * The last transaction that the checkpoint covers. That is the one that it names, unless its position lies behind a later
   * one, as the servers of other tools write it under load (namedtransaction.ts says when).
   */
  get covered(): KnownTransaction {
    const fence = this.#fence!;
    const before = this.#before;
    return before !== undefined && before.appendIndex === laterAtPosition(fence) ? before : namedBy(fence);
  }

  /** Whether that is the last transaction before recovery's start. */
  get endsWithCovered(): boolean {
    const { appendIndex, checksum } = this.covered;
    return this.#before === undefined
      ? this.#reader.header?.previousAppendIndex === appendIndex
      : this.#before.appendIndex === appendIndex && this.#before.checksum === checksum;
  }

  feed(bytes: Buffer): void {
    this.#reader.feed(bytes);
  }

  finish(): void {
    this.#reader.finish();
  }

  #accept(transaction: LogTransaction): void {
    const { appendIndex, checksum, previousChecksum, commitTimeMillis } = transaction;
    this.#onTransaction(transaction);
    this.#requireSameHistory(transaction);
    this.#previous = transaction;
    if (appendIndex === this.#fence?.appendIndex && checksum !== this.#fence.transactionChecksum) {
      throw new FormatError(
        `transaction ${appendIndex} in ${this.path} is another one than the checkpoint names`,
      );
    }
    if (transaction.startBytes < this.#startBytes) {
      this.#before = transaction;
      return;
    }
    const range = this.#ranges.at(-1);
    if (range?.last !== appendIndex - 1n) {
      this.#ranges.push({
        first: appendIndex,
        last: appendIndex,
        lastChecksum: checksum,
        previousChecksum,
        latestCommitMillis: commitTimeMillis,
      });
      return;
    }
    const isLater = commitTimeMillis > range.latestCommitMillis;
    const latestCommitMillis = isLater ? commitTimeMillis : range.latestCommitMillis;
    const joined = { ...range, last: appendIndex, lastChecksum: checksum, latestCommitMillis };
    this.#ranges[this.#ranges.length - 1] = joined;
  }

  /** Numbers alone do not tell a log of one history from one that was put together of two. */
  #requireSameHistory({ appendIndex, previousChecksum }: LogTransaction): void {
    const before = this.#previous;
    if (previousChecksum === undefined || before?.appendIndex !== appendIndex - 1n) return;
    if (previousChecksum === before.checksum) return;
    throw new FormatError(
      `transaction ${appendIndex} in ${this.path} was not written after the one before it in the log`,
    );
  }
}
