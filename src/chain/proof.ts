/**
 * Proves a chain before anything relies on it, and finds what of each differential is to be written behind the log of the
 * full artifact. Reads every byte of the differentials: frames, hashes, and every transaction of the log.
 *
 * A target that lies before the end of the full artifact can not be reached by cutting: its pages hold changes up to that
 * end already (docs/design.md). The plan has refused such a target; the cut here never goes below that end.
 */
import { LogMemberReader } from '../artifact/logmember.ts';
import type { MemberHandler, MemberInfo } from '../artifact/memberhandler.ts';
import { readMembers } from '../artifact/members.ts';
import { type Artifact, openArtifact } from '../artifact/reader.ts';
import { GraphkeepError } from '../errors.ts';
import { FormatError } from '../formats/formaterror.ts';
import type { LogTransaction } from '../formats/txlog/transactions.ts';
import { storedBytesOf } from '../storage/local.ts';
import type { Chain } from './chains.ts';
import { ContinuityCheck } from './continuity.ts';
import { type ArtifactSummary, storeKeyOf, type TransactionMark } from './summary.ts';

/** The first thing that is not to be restored any more. */
export type Until = { readonly transaction: bigint } | { readonly time: Date };

export interface ProofOptions {
  readonly until?: Until | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onBytes?: (bytes: number) => void;
}

/** A run of transactions inside one log member of a differential. */
export interface LogPiece {
  readonly artifactPath: string;
  readonly memberPath: string;
  /** The member's own header. */
  readonly header: Buffer;
  /** Offsets in the member. */
  readonly startBytes: number;
  readonly endBytes: number;
  /** Append index of the transaction before the first one. */
  readonly previousAppendIndex: bigint;
}

export interface ProvenChain {
  readonly chain: Chain;
  /** In the order of the log; empty when the full artifact is all there is to it. */
  readonly pieces: readonly LogPiece[];
  /** The last transaction of all. */
  readonly end: TransactionMark;
  readonly latestCommitMillis: bigint;
  /** Of the last transaction in `pieces`: a Neo4j that knows it can recover them all. */
  readonly kernelVersion: number | undefined;
  /** Whether a transaction was seen that is not to be restored. */
  readonly wasCut: boolean;
}

/** @throws GK_CHAIN_BROKEN when a joint does not hold, GK_ARTIFACT_CORRUPT */
export async function proveChain(chain: Chain, options: ProofOptions = {}): Promise<ProvenChain> {
  const walk = new ChainWalk(chain.full, options.until);
  const pieces: LogPiece[] = [];
  for (const differential of chain.differentials) {
    if (walk.wasCut) break;
    pieces.push(...(await proveDifferential(differential, walk, options)));
  }
  // Behind a cut by time there may be differentials that turned out to add nothing.
  const used = new Set(pieces.map(({ artifactPath }) => artifactPath));
  const differentials = chain.differentials.filter(({ path }) => used.has(path));
  return { chain: { full: chain.full, differentials }, pieces, ...walk.result() };
}

async function proveDifferential(
  summary: ArtifactSummary,
  walk: ChainWalk,
  options: ProofOptions,
): Promise<LogPiece[]> {
  const artifact = await openArtifact(summary.path);
  try {
    refuseReplaced(artifact, summary);
    walk.join(summary);
    const collector = new PieceCollector(summary, walk);
    await readMembers(artifact, collector, options);
    walk.leave(summary);
    return collector.pieces;
  } catch (error) {
    // The rule of every log says what is wrong with it; here it means that this artifact does not continue the others.
    if (!(error instanceof GraphkeepError) || error.code !== 'GK_STORE_DAMAGED') throw error;
    throw broken(`${summary.path} does not continue the artifacts before it: ${error.message}`, error);
  } finally {
    await artifact.file.close();
  }
}

/** The summary was read a while ago; a file that has another content now is another artifact. */
export function refuseReplaced({ descriptor, index, file }: Artifact, summary: ArtifactSummary): void {
  const isSame =
    storedBytesOf(file) === summary.bytes &&
    descriptor.highestAppendIndex === summary.highestTransaction &&
    index?.highestChecksum === summary.highestChecksum;
  if (!isSame) throw broken(`${summary.path} was replaced by another artifact meanwhile`);
}

function broken(message: string, cause?: unknown): GraphkeepError {
  return new GraphkeepError('GK_CHAIN_BROKEN', message, cause === undefined ? {} : { cause });
}

/** Goes through the logs of all differentials as through one. */
class ChainWalk {
  readonly #full: ArtifactSummary;
  readonly #until: Until | undefined;
  readonly #continuity: ContinuityCheck;
  #isFirst = true;
  #end: TransactionMark;
  #latestCommitMillis: bigint;
  #kernelVersion: number | undefined;
  #wasCut = false;

  constructor(full: ArtifactSummary, until: Until | undefined) {
    this.#full = full;
    this.#until = until;
    // A full artifact of another tool has no checksum, but nothing can follow it either.
    this.#end = { appendIndex: full.highestTransaction, checksum: full.highestChecksum ?? 0 };
    this.#latestCommitMillis = BigInt(full.latestCommit?.getTime() ?? 0);
    this.#continuity = new ContinuityCheck({ ...this.#end, commitTimeMillis: this.#latestCommitMillis });
  }

  get wasCut(): boolean {
    return this.#wasCut;
  }

  /** Before a differential is read: by what its index says, it must follow. Only the first one may begin earlier. */
  join({ path, parent }: ArtifactSummary): void {
    const { appendIndex, checksum } = this.#continuity;
    const isExact = parent?.appendIndex === appendIndex && parent.checksum === checksum;
    const mayOverlap = this.#isFirst && parent !== undefined && parent.appendIndex < appendIndex;
    this.#isFirst = false;
    if (isExact || mayOverlap) return;
    throw broken(`${path} follows another transaction ${parent?.appendIndex} than the one before it is`);
  }

  /** @returns whether the transaction is to be restored from here: not in the full artifact, and before the target */
  accept(transaction: LogTransaction): boolean {
    this.#continuity.accept(transaction);
    if (transaction.appendIndex <= this.#full.highestTransaction || this.#wasCut) return false;
    if (isBeyond(transaction, this.#until)) {
      this.#wasCut = true;
      return false;
    }
    const { appendIndex, checksum, commitTimeMillis, kernelVersion } = transaction;
    this.#end = { appendIndex, checksum };
    this.#kernelVersion = kernelVersion;
    if (commitTimeMillis > this.#latestCommitMillis) this.#latestCommitMillis = commitTimeMillis;
    return true;
  }

  /** After a differential was read: it must have held all that its head says, the end of the full artifact included. */
  leave({ path, highestTransaction, highestChecksum }: ArtifactSummary): void {
    const { appendIndex, checksum } = this.#continuity;
    this.#continuity.requireFence();
    if (appendIndex === highestTransaction && checksum === highestChecksum) return;
    throw new GraphkeepError(
      'GK_ARTIFACT_CORRUPT',
      `${path}: its log ends with transaction ${appendIndex}, its header says ${highestTransaction}`,
    );
  }

  result(): Omit<ProvenChain, 'chain' | 'pieces'> {
    return {
      end: this.#end,
      latestCommitMillis: this.#latestCommitMillis,
      kernelVersion: this.#kernelVersion,
      wasCut: this.#wasCut,
    };
  }
}

function isBeyond(transaction: LogTransaction, until: Until | undefined): boolean {
  if (until === undefined) return false;
  return 'time' in until
    ? transaction.commitTimeMillis >= BigInt(until.time.getTime())
    : transaction.appendIndex >= until.transaction;
}

interface OpenPiece {
  readonly startBytes: number;
  readonly previousAppendIndex: bigint;
  endBytes: number;
}

/** Notes where in each log member the transactions lie that are to be restored: they are always a run without a hole. */
class PieceCollector implements MemberHandler {
  readonly pieces: LogPiece[] = [];
  readonly #artifact: ArtifactSummary;
  readonly #walk: ChainWalk;
  #reader: LogMemberReader | undefined;
  #piece: OpenPiece | undefined;

  constructor(artifact: ArtifactSummary, walk: ChainWalk) {
    this.#artifact = artifact;
    this.#walk = walk;
  }

  async begin(member: MemberInfo): Promise<void> {
    if (member.kind !== 'log') {
      throw new FormatError(`it is differential and holds ${member.path}, which is no log`);
    }
    this.#piece = undefined;
    this.#reader = new LogMemberReader(member, (transaction) => this.#accept(transaction));
  }

  #accept(transaction: LogTransaction): void {
    if (!this.#walk.accept(transaction)) return;
    const { startBytes, endBytes, appendIndex } = transaction;
    if (this.#piece === undefined) {
      this.#piece = { startBytes, endBytes, previousAppendIndex: appendIndex - 1n };
    } else this.#piece.endBytes = endBytes;
  }

  async content(bytes: Buffer): Promise<void> {
    this.#reader!.feed(bytes);
  }

  async end(): Promise<void> {
    const reader = this.#reader!;
    reader.finish();
    if (reader.hasZeroTail) throw new FormatError(`${reader.path} has zeros behind its last transaction`);
    const storeId = reader.header?.storeId;
    if (storeId !== undefined && storeKeyOf(storeId) !== this.#artifact.storeKey) {
      throw new FormatError(`${reader.path} belongs to another store`);
    }
    if (this.#piece === undefined) return;
    this.pieces.push({
      artifactPath: this.#artifact.path,
      memberPath: reader.path,
      header: reader.headerBytes!,
      ...this.#piece,
    });
  }
}
