/**
 * What is known of an artifact without reading what it holds, and how artifacts are ordered. Pure: whoever thinks about
 * chains needs this and no file.
 */
import type { StoreId } from '../formats/storeid.ts';

/** A transaction by number and checksum: the number alone comes again on a server that was set back. */
export interface TransactionMark {
  readonly appendIndex: bigint;
  /** CRC-32C of the transaction's log entries. */
  readonly checksum: number;
}

/** One artifact: what its header says and, in artifacts of graphkeep, what its index adds. */
export interface ArtifactSummary {
  readonly path: string;
  readonly bytes: number;
  readonly database: string;
  readonly databaseId: string;
  /** UTC, whole seconds; undefined when the header holds a time that no calendar has. */
  readonly time: Date | undefined;
  readonly full: boolean;
  readonly compressed: boolean;
  readonly recovered: boolean;
  /** 0 and 0 in an empty differential. */
  readonly lowestTransaction: bigint;
  readonly highestTransaction: bigint;
  readonly storeIdHash: number;
  /** Equal for artifacts of one store, whatever version its format was upgraded to. */
  readonly storeKey: string;
  /** Container of the file: BTV1, BTV2, BZV1, BZV2, BZV3. */
  readonly container: string;
  /** `opened` with a key; or `sealed`: known only by what it says in the clear, which nobody has proven. */
  readonly encrypted?: 'opened' | 'sealed';
  /** Written by graphkeep, so that members, sizes and hashes are known. */
  readonly indexed: boolean;
  /** Carries a script of users and roles. */
  readonly hasMetadata?: boolean;
  readonly memberCount?: number;
  readonly memberBytes?: number;
  /** CRC-32C of the highest transaction; in an empty differential, of the parent's. */
  readonly highestChecksum?: number;
  /** Latest commit time up to the highest transaction; the moment that restoring all of the artifact leads to. */
  readonly latestCommit?: Date;
  /** The transaction that a differential follows. */
  readonly parent?: TransactionMark;
  /** Where the highest transaction ends in the log of the server. */
  readonly end?: { readonly logVersion: bigint; readonly offsetBytes: bigint };
}

/** Everything of a store id that an upgrade of the format leaves as it is. */
export function storeKeyOf(id: StoreId): string {
  return [id.creationTimeMillis, id.random, id.engine, id.family].join(':');
}

/** By database, then time, then reach; of two backups within one second, the later one has the later name. */
export function newestFirst(left: ArtifactSummary, right: ArtifactSummary): number {
  // Neo4j's names of databases are the same in any case.
  const [leftName, rightName] = [left.database.toLowerCase(), right.database.toLowerCase()];
  if (leftName !== rightName) return leftName < rightName ? -1 : 1;
  const age = (right.time?.getTime() ?? 0) - (left.time?.getTime() ?? 0);
  if (age !== 0) return age;
  if (left.highestTransaction !== right.highestTransaction) {
    return left.highestTransaction > right.highestTransaction ? -1 : 1;
  }
  return left.path < right.path ? 1 : -1;
}

/** A differential without a transaction: it says that up to its time nothing had happened. */
export function isEmptyDifferential(artifact: ArtifactSummary): boolean {
  return !artifact.full && artifact.lowestTransaction === 0n && artifact.highestTransaction === 0n;
}
