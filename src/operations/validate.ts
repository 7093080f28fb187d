/**
 * `backup validate`: proves that an artifact can be restored, without a server. Every byte is read: container,
 * frames, tar, sizes and hashes of the members; then what recovery will need: the fence, and a log that goes from
 * it to the highest transaction without a gap.
 */
import type { MemberHandler, MemberInfo } from '../artifact/memberhandler.ts';
import { memberBytesOf, readCheckpointMembers, readMembers } from '../artifact/members.ts';
import { type Artifact, corruptOnFormatError, openArtifact } from '../artifact/reader.ts';
import { type ErrorCode, GraphkeepError } from '../errors.ts';
import type { ArtifactDescriptor } from '../formats/artifact/descriptor.ts';
import type { ArtifactIndex } from '../formats/artifact/index.ts';
import { FormatError } from '../formats/formaterror.ts';
import { parseNeostore } from '../formats/neostore.ts';
import { isSameStore, type StoreId } from '../formats/storeid.ts';
import { type Checkpoint, lastCheckpoint } from '../formats/txlog/checkpoint.ts';
import { LOG_HEADER_BYTES, type LogHeader, parseLogHeader } from '../formats/txlog/header.ts';
import { type LogTransaction, TransactionParser } from '../formats/txlog/transactions.ts';
import { MANDATORY_FILES, METADATA_STORE } from '../hotcopy/storefiles.ts';
import { ContinuityCheck, type TransactionRange } from '../hotcopy/tail.ts';
import { KIB, LOG_COMMAND_BYTES_MAX } from '../limits.ts';
import type { OperationContext, ValidateResult } from './types.ts';

/** Validates one artifact. Damage is a result, not an error; errors are what kept the file from being read. */
export async function validateArtifact(
  path: string,
  context: OperationContext = {},
): Promise<ValidateResult> {
  let artifact: Artifact | undefined;
  let proof: ArtifactProof | undefined;
  try {
    artifact = await openArtifact(path);
    proof = await proveArtifact(artifact, context);
    return resultOf(path, artifact, proof, []);
  } catch (error) {
    if (!(error instanceof GraphkeepError) || !DAMAGE_CODES.includes(error.code)) throw error;
    return resultOf(path, artifact, proof, [error.message]);
  } finally {
    await artifact?.file.close();
  }
}

/** What the walk of a log throws for a live database is damage of the artifact here. */
const DAMAGE_CODES: readonly ErrorCode[] = ['GK_ARTIFACT_CORRUPT', 'GK_STORE_DAMAGED'];

async function proveArtifact(artifact: Artifact, context: OperationContext): Promise<ArtifactProof> {
  const { path } = artifact.file;
  const checkpoints = await readCheckpointMembers(artifact, { signal: context.signal });
  const fence = await corruptOnFormatError(path, async () => newestCheckpoint(checkpoints));
  const proof = new ArtifactProof(artifact.descriptor, fence);
  let doneBytes = 0;
  const expectedBytes = artifact.index === undefined ? artifact.file.bytes : memberBytesOf(artifact.index);
  await readMembers(artifact, proof, {
    signal: context.signal,
    onBytes: (bytes) => {
      doneBytes += bytes;
      const totalBytes = Math.max(expectedBytes, doneBytes);
      context.listener?.progress({ phase: 'validating', doneBytes, totalBytes });
    },
  });
  if (artifact.descriptor.full) await corruptOnFormatError(path, async () => proof.conclude(artifact.index));
  return proof;
}

/** The checkpoint that recovery would choose: the last of the file with the highest number that has one. */
function newestCheckpoint(files: ReadonlyMap<string, Buffer>): Checkpoint | undefined {
  const byVersion = [...files].sort(([left], [right]) => (versionOf(left) < versionOf(right) ? 1 : -1));
  for (const [, content] of byVersion) {
    const checkpoint = parseLogHeader(content) === undefined ? undefined : lastCheckpoint(content);
    if (checkpoint !== undefined) return checkpoint;
  }
  return undefined;
}

function versionOf(path: string): bigint {
  return BigInt(/\d+$/.exec(path)?.[0] ?? '0');
}

function resultOf(
  path: string,
  artifact: Artifact | undefined,
  proof: ArtifactProof | undefined,
  problems: readonly string[],
): ValidateResult {
  return {
    path,
    database: artifact?.descriptor.databaseName,
    valid: problems.length === 0,
    problems,
    warnings: artifact === undefined ? [] : warningsOf(artifact),
    memberCount: proof?.memberCount ?? 0,
    memberBytes: proof?.memberBytes ?? 0,
    transactionsChecked: proof?.transactions ?? 0n,
    lowestTransaction: artifact?.descriptor.lowestAppendIndex,
    highestTransaction: artifact?.descriptor.highestAppendIndex,
  };
}

function warningsOf(artifact: Artifact): string[] {
  const warnings: string[] = [];
  if (artifact.index === undefined) {
    warnings.push('written by another tool: its members carry no hashes that could be compared');
  }
  if (!artifact.descriptor.full)
    warnings.push('a differential artifact: its log was not judged, only its bytes');
  return warnings;
}

class ArtifactProof implements MemberHandler {
  memberCount = 0;
  memberBytes = 0;
  transactions = 0n;
  readonly #descriptor: ArtifactDescriptor;
  readonly #fence: Checkpoint | undefined;
  readonly #paths = new Set<string>();
  readonly #logs: LogProof[] = [];
  #log: LogProof | undefined;
  #neostore: Buffer | undefined;
  #storeId: StoreId | undefined;

  constructor(descriptor: ArtifactDescriptor, fence: Checkpoint | undefined) {
    this.#descriptor = descriptor;
    this.#fence = fence;
  }

  async begin(member: MemberInfo): Promise<void> {
    this.#paths.add(member.path);
    if (member.kind === 'log') this.#log = new LogProof(member, this.#fence);
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

  /** @throws FormatError, GK_STORE_DAMAGED: what recovery would lack */
  conclude(index: ArtifactIndex | undefined): void {
    const missing = MANDATORY_FILES.filter((name) => !this.#paths.has(name));
    if (missing.length > 0)
      throw new FormatError(`it lacks ${missing.join(', ')}, without which Neo4j does not start`);
    const fence = this.#fence;
    if (fence === undefined)
      throw new FormatError('it holds no valid checkpoint: recovery would not know where to start');
    const storeIds = [this.#storeId, fence.storeId, ...this.#logs.map((log) => log.storeId)];
    if (storeIds.some((id) => id !== undefined && !isSameStore(id, this.#descriptor.storeId))) {
      throw new FormatError('store files, log and checkpoint do not belong to one store');
    }
    const { appendIndex, checksum } = this.#proveLog(fence);
    if (appendIndex !== this.#descriptor.highestAppendIndex) {
      throw new FormatError(
        `its log ends at transaction ${appendIndex}, its header says ${this.#descriptor.highestAppendIndex}`,
      );
    }
    if (index === undefined) return;
    if (index.highestChecksum !== checksum || index.fence.appendIndex !== String(fence.appendIndex)) {
      throw new FormatError('its index names another checkpoint or last transaction than its members');
    }
  }

  #proveLog(fence: Checkpoint): ContinuityCheck {
    const continuity = new ContinuityCheck({
      appendIndex: fence.appendIndex,
      checksum: fence.transactionChecksum,
    });
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
    if (continuity.count === 0n && !first.endsWithFence) {
      throw new FormatError(
        `its log ends before transaction ${fence.appendIndex}, which the checkpoint names`,
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
  readonly path: string;
  readonly version: bigint;
  readonly #fence: Checkpoint | undefined;
  /** Where recovery starts in this file: 0 in the files after the fence's. */
  readonly #startBytes: number;
  readonly #parser: TransactionParser;
  /** Bytes of an entry that is not complete yet. */
  #pending: Buffer = Buffer.alloc(0);
  #header: LogHeader | undefined;
  #phase: 'header' | 'transactions' | 'zeros' = 'header';
  #before: LogTransaction | undefined;
  #ranges: TransactionRange[] = [];

  constructor(member: MemberInfo, fence: Checkpoint | undefined) {
    this.path = member.path;
    this.version = versionOf(member.path);
    this.#fence = fence;
    this.#startBytes = fence?.position.logVersion === this.version ? Number(fence.position.offsetBytes) : 0;
    this.#parser = new TransactionParser(LOG_HEADER_BYTES, (transaction) => this.#accept(transaction));
  }

  get storeId(): StoreId | undefined {
    return this.#header?.storeId;
  }

  /** Unbroken ranges of transactions from where recovery starts; more than one only when there is a gap. */
  get ranges(): readonly TransactionRange[] {
    return this.#ranges;
  }

  /** Zeros behind the last transaction, as in a preallocated file. */
  get hasZeroTail(): boolean {
    return this.#phase === 'zeros';
  }

  /** Whether recovery's start is the end of a transaction, or of the header. */
  get reachesFence(): boolean {
    return (this.#before?.endBytes ?? LOG_HEADER_BYTES) === Math.max(this.#startBytes, LOG_HEADER_BYTES);
  }

  /** Whether the last transaction before recovery's start is the one that the checkpoint names. */
  get endsWithFence(): boolean {
    const { appendIndex, transactionChecksum } = this.#fence!;
    return this.#before === undefined
      ? this.#header?.previousAppendIndex === appendIndex
      : this.#before.appendIndex === appendIndex && this.#before.checksum === transactionChecksum;
  }

  feed(bytes: Buffer): void {
    this.#pending = this.#pending.length === 0 ? bytes : Buffer.concat([this.#pending, bytes]);
    if (this.#phase === 'header') this.#readHeader();
    if (this.#phase === 'transactions') this.#readTransactions();
    if (this.#phase === 'zeros') this.#requireZeros();
  }

  #readHeader(): void {
    if (this.#pending.length < LOG_HEADER_BYTES) return;
    this.#header = parseLogHeader(this.#pending);
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

  #accept(transaction: LogTransaction): void {
    const { appendIndex, checksum } = transaction;
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
    if (range?.last === appendIndex - 1n)
      this.#ranges[this.#ranges.length - 1] = { ...range, last: appendIndex, lastChecksum: checksum };
    else this.#ranges.push({ first: appendIndex, last: appendIndex, lastChecksum: checksum });
  }

  /** The file ended: nothing of a transaction may be left over. */
  finish(): void {
    if (this.#phase === 'header') throw new FormatError(`${this.path} is shorter than its header`);
    if (this.#pending.length > 0 || this.#parser.insideTransaction) {
      throw new FormatError(`${this.path} ends inside a transaction`);
    }
  }
}
