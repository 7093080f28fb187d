/**
 * `backup validate`: proves that an artifact can be restored, without a server. Every byte is read: container,
 * frames, tar, sizes and hashes of the members; then what recovery will need: the fence, and a log that goes from
 * it to the highest transaction without a gap.
 */
import {
  type Artifact,
  corruptOnFormatError,
  type MemberHandler,
  type MemberInfo,
  openArtifact,
  readMembers,
} from '../artifact/reader.ts';
import { GraphkeepError } from '../errors.ts';
import { FormatError } from '../formats/formaterror.ts';
import { parseNeostore } from '../formats/neostore.ts';
import { isSameStore, type StoreId } from '../formats/storeid.ts';
import { type Checkpoint, lastCheckpoint } from '../formats/txlog/checkpoint.ts';
import { LOG_HEADER_BYTES, type LogHeader, parseLogHeader } from '../formats/txlog/header.ts';
import { type LogTransaction, TransactionParser } from '../formats/txlog/transactions.ts';
import { MANDATORY_FILES, METADATA_STORE } from '../hotcopy/storefiles.ts';
import { CHECKPOINT_FILE_BYTES_MAX, LOG_COMMAND_BYTES_MAX } from '../limits.ts';
import type { OperationContext, ValidateResult } from './types.ts';

/** Validates one artifact. Damage is a result, not an error; errors are what kept the file from being read. */
export async function validateArtifact(
  path: string,
  context: OperationContext = {},
): Promise<ValidateResult> {
  let artifact: Artifact | undefined;
  const proof = new ArtifactProof();
  try {
    artifact = await openArtifact(path);
    let doneBytes = 0;
    const total = artifact.file.bytes;
    await readMembers(artifact, proof, {
      signal: context.signal,
      onBytes: (bytes) => {
        doneBytes += bytes;
        context.listener?.progress({
          phase: 'validating',
          doneBytes,
          totalBytes: Math.max(total, doneBytes),
        });
      },
    });
    const { descriptor } = artifact;
    await corruptOnFormatError(path, async () => proof.conclude(descriptor));
    return resultOf(path, artifact, proof, []);
  } catch (error) {
    if (!(error instanceof GraphkeepError) || error.code !== 'GK_ARTIFACT_CORRUPT') throw error;
    return resultOf(path, artifact, proof, [error.message]);
  } finally {
    await artifact?.file.close();
  }
}

function resultOf(
  path: string,
  artifact: Artifact | undefined,
  proof: ArtifactProof,
  problems: readonly string[],
): ValidateResult {
  const foreign = artifact !== undefined && artifact.index === undefined;
  return {
    path,
    database: artifact?.descriptor.databaseName,
    valid: problems.length === 0,
    problems,
    warnings: foreign ? ['written by another tool: its members carry no hashes that could be compared'] : [],
    memberCount: proof.memberCount,
    memberBytes: proof.memberBytes,
    transactionsChecked: proof.transactions,
    lowestTransaction: artifact?.descriptor.lowestAppendIndex,
    highestTransaction: artifact?.descriptor.highestAppendIndex,
  };
}

class ArtifactProof implements MemberHandler {
  memberCount = 0;
  memberBytes = 0;
  transactions = 0n;
  readonly #paths = new Set<string>();
  readonly #logs: LogProof[] = [];
  #buffered: { member: MemberInfo; bytes: Buffer } | undefined;
  #log: LogProof | undefined;
  #checkpoint: { checkpoint: Checkpoint | undefined; version: bigint } | undefined;
  #storeId: StoreId | undefined;

  async begin(member: MemberInfo): Promise<void> {
    this.#paths.add(member.path);
    if (member.kind === 'log') this.#log = new LogProof(member);
    else if (member.kind === 'checkpoint' || member.path === METADATA_STORE) {
      if (member.bytes > CHECKPOINT_FILE_BYTES_MAX)
        throw new FormatError(`${member.path} is impossibly long`);
      this.#buffered = { member, bytes: Buffer.alloc(member.bytes) };
    }
  }

  async content(bytes: Buffer, positionBytes: number): Promise<void> {
    this.memberBytes += bytes.length;
    this.#log?.feed(bytes);
    if (this.#buffered !== undefined) bytes.copy(this.#buffered.bytes, positionBytes);
  }

  async end(): Promise<void> {
    this.memberCount++;
    if (this.#log !== undefined) {
      this.#log.finish();
      this.#logs.push(this.#log);
    }
    if (this.#buffered !== undefined) this.#takeBuffered(this.#buffered.member, this.#buffered.bytes);
    this.#log = undefined;
    this.#buffered = undefined;
  }

  #takeBuffered(member: MemberInfo, bytes: Buffer): void {
    if (member.path === METADATA_STORE) {
      this.#storeId = parseNeostore(bytes).storeId;
      return;
    }
    const version = BigInt(/\d+$/.exec(member.path)?.[0] ?? '0');
    if (this.#checkpoint !== undefined && this.#checkpoint.version > version) return;
    parseLogHeader(bytes);
    this.#checkpoint = { checkpoint: lastCheckpoint(bytes), version };
  }

  /** @throws FormatError that says what recovery would lack */
  conclude(descriptor: Artifact['descriptor']): void {
    if (!descriptor.full) return;
    this.#requireFiles();
    const fence = this.#checkpoint?.checkpoint;
    if (fence === undefined)
      throw new FormatError('it holds no valid checkpoint: recovery would not know where to start');
    const storeIds = [this.#storeId, fence.storeId, ...this.#logs.map((log) => log.storeId)];
    const foreign = storeIds.some(
      (storeId) => storeId !== undefined && !isSameStore(storeId, descriptor.storeId),
    );
    if (foreign) throw new FormatError('store files, log and checkpoint do not belong to one store');
    const highest = this.#proveLog(fence);
    if (highest !== descriptor.highestAppendIndex) {
      throw new FormatError(
        `its log ends at transaction ${highest}, its header says ${descriptor.highestAppendIndex}`,
      );
    }
  }

  #requireFiles(): void {
    const missing = MANDATORY_FILES.filter((name) => !this.#paths.has(name));
    if (missing.length > 0)
      throw new FormatError(`it lacks ${missing.join(', ')}, without which Neo4j does not start`);
  }

  /** @returns the highest transaction that recovery will reach */
  #proveLog(fence: Checkpoint): bigint {
    const logs = this.#logs.sort((left, right) => (left.version < right.version ? -1 : 1));
    const first = logs.findIndex((log) => log.version === fence.position.logVersion);
    if (first < 0)
      throw new FormatError(`it lacks log file ${fence.position.logVersion}, where recovery starts`);
    let previous = logs[first]!.rangeFrom(fence);
    this.transactions = previous - fence.appendIndex;
    for (const log of logs.slice(first + 1)) {
      const highest = log.rangeAfter(previous, logs[first]!.version + BigInt(logs.indexOf(log) - first));
      this.transactions += highest - previous;
      previous = highest;
    }
    return previous;
  }
}

/** One log member: its transactions are proven while it streams by; only where they begin and end is kept. */
class LogProof {
  readonly version: bigint;
  readonly #path: string;
  readonly #parser: TransactionParser;
  /** Bytes of an entry that is not complete yet. */
  #pending: Buffer = Buffer.alloc(0);
  #header: LogHeader | undefined;
  #phase: 'header' | 'transactions' | 'zeros' = 'header';
  #firstAppendIndex: bigint | undefined;
  #lastAppendIndex: bigint | undefined;

  constructor(member: MemberInfo) {
    this.#path = member.path;
    this.version = BigInt(/\d+$/.exec(member.path)?.[0] ?? '0');
    this.#parser = new TransactionParser(LOG_HEADER_BYTES, (transaction) => this.#accept(transaction));
  }

  get storeId(): StoreId | undefined {
    return this.#header?.storeId;
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
      throw new FormatError(`${this.#path} does not begin with its header`);
    this.#pending = this.#pending.subarray(LOG_HEADER_BYTES);
    this.#phase = 'transactions';
  }

  #readTransactions(): void {
    const step = this.#parser.parse(this.#pending);
    this.#pending = this.#pending.subarray(step.consumedBytes);
    if (step.status === 'torn')
      throw new FormatError(`${this.#path}: ${step.reason} at byte ${step.reachedBytes}`);
    if (step.status === 'end') this.#phase = 'zeros';
    else if (this.#pending.length > LOG_COMMAND_BYTES_MAX)
      throw new FormatError(`${this.#path}: a command is too long`);
  }

  #requireZeros(): void {
    if (this.#pending.some((byte) => byte !== 0)) {
      throw new FormatError(`${this.#path} goes on after the end of its transactions`);
    }
    this.#pending = Buffer.alloc(0);
  }

  #accept(transaction: LogTransaction): void {
    const expected = this.#lastAppendIndex === undefined ? undefined : this.#lastAppendIndex + 1n;
    if (expected !== undefined && transaction.appendIndex !== expected) {
      throw new FormatError(
        `${this.#path} goes from transaction ${expected - 1n} to ${transaction.appendIndex}`,
      );
    }
    this.#firstAppendIndex ??= transaction.appendIndex;
    this.#lastAppendIndex = transaction.appendIndex;
  }

  /** The file ended: nothing of a transaction may be left over. */
  finish(): void {
    if (this.#phase === 'header') throw new FormatError(`${this.#path} is shorter than its header`);
    if (this.#pending.length > 0 || this.#parser.insideTransaction) {
      throw new FormatError(`${this.#path} ends inside a transaction`);
    }
  }

  /** Last transaction of the file where recovery starts, which must hold the fence's position. */
  rangeFrom(fence: Checkpoint): bigint {
    const last = this.#lastAppendIndex ?? fence.appendIndex;
    const covers =
      fence.position.offsetBytes <= BigInt(this.#parser.offsetBytes) &&
      (this.#firstAppendIndex ?? last) <= fence.appendIndex + 1n &&
      last >= fence.appendIndex;
    if (covers) return last;
    throw new FormatError(`${this.#path} does not hold the log from transaction ${fence.appendIndex} on`);
  }

  /** Last transaction of a following file, which must begin where the one before it ended. */
  rangeAfter(previous: bigint, expectedVersion: bigint): bigint {
    if (this.version !== expectedVersion) throw new FormatError(`log file ${expectedVersion} is missing`);
    if (this.#firstAppendIndex !== undefined && this.#firstAppendIndex !== previous + 1n) {
      throw new FormatError(`there is a gap in the log after transaction ${previous}`);
    }
    return this.#lastAppendIndex ?? previous;
  }
}
