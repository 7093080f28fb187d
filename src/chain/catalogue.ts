/**
 * What is in a folder of artifacts: one summary per file, read from its head and its index by a few kilobytes each.
 * Everything that thinks about chains works on these summaries and opens no file.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { memberBytesOf } from '../artifact/members.ts';
import { type Artifact, openArtifact } from '../artifact/reader.ts';
import { type ErrorCode, GraphkeepError, throwIfAborted, wrapSystemError } from '../errors.ts';
import { formatUuid } from '../formats/neostore.ts';
import { type StoreId, storeIdHash } from '../formats/storeid.ts';
import { ARTIFACTS_OPENING_MAX } from '../limits.ts';
import { readFolder } from '../storage/local.ts';

const ARTIFACT_SUFFIX = '.backup';

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
  /** Written by graphkeep, so that members, sizes and hashes are known. */
  readonly indexed: boolean;
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

export interface UnreadableArtifact {
  readonly path: string;
  readonly code: ErrorCode;
  readonly message: string;
}

export interface Catalogue {
  /** Newest first within each database. */
  readonly artifacts: readonly ArtifactSummary[];
  /** Files named `.backup` that are none. */
  readonly unreadable: readonly UnreadableArtifact[];
}

/** Summaries of the artifacts of a folder. A file that is none is reported beside them, not thrown. */
export async function readCatalogue(directory: string, signal?: AbortSignal): Promise<Catalogue> {
  return catalogueOf(await listArtifactFiles(directory), signal);
}

/** The same for files by their paths. */
export async function catalogueOf(paths: readonly string[], signal?: AbortSignal): Promise<Catalogue> {
  const artifacts: ArtifactSummary[] = [];
  const unreadable: UnreadableArtifact[] = [];
  const readAll = async (queue: Iterator<string>): Promise<void> => {
    for (let next = queue.next(); next.done !== true; next = queue.next()) {
      throwIfAborted(signal);
      try {
        artifacts.push(await summaryOf(next.value));
      } catch (error) {
        if (!(error instanceof GraphkeepError)) throw error;
        unreadable.push({ path: next.value, code: error.code, message: error.message });
      }
    }
  };
  const queue = paths[Symbol.iterator]();
  await Promise.all(Array.from({ length: ARTIFACTS_OPENING_MAX }, () => readAll(queue)));
  return {
    artifacts: artifacts.toSorted(newestFirst),
    unreadable: unreadable.toSorted((left, right) => (left.path < right.path ? -1 : 1)),
  };
}

/** Files of a folder that carry the suffix of an artifact; hidden ones are still being written. */
export async function listArtifactFiles(directory: string): Promise<string[]> {
  return (await readFolder(directory))
    .filter((entry) => entry.isFile() && entry.name.endsWith(ARTIFACT_SUFFIX) && !entry.name.startsWith('.'))
    .map((entry) => join(directory, entry.name));
}

export async function isFile(path: string): Promise<boolean> {
  const status = await stat(path).catch((error: unknown) => {
    throw wrapSystemError(error, `find ${path}`);
  });
  return status.isFile();
}

/** @throws GK_ARTIFACT_CORRUPT, GK_NOT_FOUND, GK_UNSUPPORTED */
export async function summaryOf(path: string): Promise<ArtifactSummary> {
  const artifact = await openArtifact(path);
  await artifact.file.close();
  return describeArtifact(artifact);
}

export function describeArtifact(artifact: Artifact): ArtifactSummary {
  const { descriptor, index, file, container } = artifact;
  return {
    path: file.path,
    bytes: file.bytes,
    database: descriptor.databaseName,
    databaseId: formatUuid(descriptor.databaseUuid),
    time: timeOf(descriptor.timeSeconds * 1000n),
    full: descriptor.full,
    compressed: descriptor.compressed,
    recovered: descriptor.recovered,
    lowestTransaction: descriptor.lowestAppendIndex,
    highestTransaction: descriptor.highestAppendIndex,
    storeIdHash: storeIdHash(descriptor.storeId),
    storeKey: storeKeyOf(descriptor.storeId),
    container: container.magic,
    indexed: index !== undefined,
    ...(index === undefined ? {} : indexFacts(index)),
  };
}

function indexFacts(index: NonNullable<Artifact['index']>): Partial<ArtifactSummary> {
  const { parent, end } = index;
  const latestCommit = timeOf(BigInt(index.latestCommitMillis));
  return {
    memberCount: index.members.length,
    memberBytes: memberBytesOf(index),
    highestChecksum: index.highestChecksum,
    ...(latestCommit === undefined ? {} : { latestCommit }),
    ...(parent === undefined
      ? {}
      : { parent: { appendIndex: BigInt(parent.appendIndex), checksum: parent.checksum } }),
    end: { logVersion: BigInt(end.logVersion), offsetBytes: BigInt(end.offsetBytes) },
  };
}

function timeOf(epochMillis: bigint): Date | undefined {
  const time = new Date(Number(epochMillis));
  return Number.isNaN(time.getTime()) ? undefined : time;
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
