/**
 * What is in a folder of artifacts: one summary per file, read from its head and its index by a few kilobytes each.
 * Everything that thinks about chains works on these summaries and opens no file.
 */
import { basename } from 'node:path';
import { memberBytesOf } from '../artifact/members.ts';
import { hasMetadataScript } from '../artifact/metadata.ts';
import { type Artifact, openArtifact } from '../artifact/reader.ts';
import { type ErrorCode, GraphkeepError, throwIfAborted } from '../errors.ts';
import { formatUuid } from '../formats/neostore.ts';
import { storeIdHash } from '../formats/storeid.ts';
import { ARTIFACTS_OPENING_MAX } from '../limits.ts';
import { filesIn, type ListedFacts, type ListedFile } from '../storage/places.ts';
import { type ArtifactSummary, newestFirst, storeKeyOf } from './summary.ts';

const ARTIFACT_SUFFIX = '.backup';

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

/** The same for files that were named. */
export async function catalogueOf(files: readonly ListedFile[], signal?: AbortSignal): Promise<Catalogue> {
  const artifacts: ArtifactSummary[] = [];
  const unreadable: UnreadableArtifact[] = [];
  const readAll = async (queue: Iterator<ListedFile>): Promise<void> => {
    for (let next = queue.next(); next.done !== true; next = queue.next()) {
      throwIfAborted(signal);
      const { path, facts } = next.value;
      try {
        artifacts.push(await summaryOf(path, facts));
      } catch (error) {
        if (!(error instanceof GraphkeepError)) throw error;
        unreadable.push({ path, code: error.code, message: error.message });
      }
    }
  };
  const queue = files[Symbol.iterator]();
  await Promise.all(Array.from({ length: ARTIFACTS_OPENING_MAX }, () => readAll(queue)));
  return {
    artifacts: artifacts.toSorted(newestFirst),
    unreadable: unreadable.toSorted((left, right) => (left.path < right.path ? -1 : 1)),
  };
}

/** Files of a folder that carry the suffix of an artifact; hidden ones are still being written. */
export async function listArtifactFiles(directory: string): Promise<ListedFile[]> {
  return (await filesIn(directory)).filter(({ path }) => {
    const name = basename(path);
    return name.endsWith(ARTIFACT_SUFFIX) && !name.startsWith('.');
  });
}

/** @throws GK_ARTIFACT_CORRUPT, GK_NOT_FOUND, GK_UNSUPPORTED */
export async function summaryOf(path: string, facts?: ListedFacts): Promise<ArtifactSummary> {
  const artifact = await openArtifact(path, facts);
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
    ...(hasMetadataScript(descriptor) ? { hasMetadata: true } : {}),
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
