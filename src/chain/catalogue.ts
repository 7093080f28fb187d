/**
 * What is in a folder of artifacts: one summary per file, read from its head and its index by a few kilobytes each.
 * Everything that thinks about chains works on these summaries and opens no file.
 */
import { basename } from 'node:path';
import { memberBytesOf } from '../artifact/members.ts';
import { hasMetadataScript } from '../artifact/metadata.ts';
import { type Artifact, corruptOnFormatError, openArtifact } from '../artifact/reader.ts';
import { readClearHeader } from '../artifact/sealedfile.ts';
import { type ErrorCode, GraphkeepError, throwIfAborted } from '../errors.ts';
import { formatUuid } from '../formats/neostore.ts';
import { storeIdHash } from '../formats/storeid.ts';
import { ARTIFACTS_OPENING_MAX } from '../limits.ts';
import { storedBytesOf } from '../storage/local.ts';
import { inParallel } from '../storage/parallel.ts';
import { filesIn, type ListedFacts, type ListedFile } from '../storage/places.ts';
import { parseClearHeader } from './clearheader.ts';
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

/**
 * Whether artifacts count that no key opens, by what they say in the clear. Only for those who do no harm with what is not
 * true: nothing is removed or restored on the word of a file.
 */
export type SealedOnes = 'withSealed' | 'opened';

/** Summaries of the artifacts of a folder. A file that is none is reported beside them, not thrown. */
export async function readCatalogue(
  directory: string,
  signal?: AbortSignal,
  sealed: SealedOnes = 'opened',
): Promise<Catalogue> {
  return catalogueOf(await listArtifactFiles(directory), signal, sealed);
}

/** The same for files that were named. */
export async function catalogueOf(
  files: readonly ListedFile[],
  signal?: AbortSignal,
  sealed: SealedOnes = 'opened',
): Promise<Catalogue> {
  const artifacts: ArtifactSummary[] = [];
  const unreadable: UnreadableArtifact[] = [];
  await inParallel(files, ARTIFACTS_OPENING_MAX, async ({ path, facts }) => {
    throwIfAborted(signal);
    try {
      artifacts.push(await summaryOf(path, sealed, facts));
    } catch (error) {
      if (!(error instanceof GraphkeepError)) throw error;
      unreadable.push({ path, code: error.code, message: error.message });
    }
  });
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

/** @throws GK_ARTIFACT_CORRUPT, GK_NOT_FOUND, GK_KEY_MISSING, GK_UNSUPPORTED */
export async function summaryOf(
  path: string,
  sealed: SealedOnes = 'opened',
  facts?: ListedFacts,
): Promise<ArtifactSummary> {
  try {
    const artifact = await openArtifact(path, facts);
    await artifact.file.close();
    return describeArtifact(artifact);
  } catch (error) {
    const isSealed = error instanceof GraphkeepError && error.code === 'GK_KEY_MISSING';
    const summary = isSealed && sealed === 'withSealed' ? await summaryOfSealed(path, facts) : undefined;
    if (summary === undefined) throw error;
    return summary;
  }
}

function summaryOfSealed(path: string, facts?: ListedFacts): Promise<ArtifactSummary | undefined> {
  return corruptOnFormatError(path, async () => {
    const clear = await readClearHeader(path, facts);
    return clear && parseClearHeader(clear.body, { path, bytes: clear.bytes });
  });
}

export function describeArtifact(artifact: Artifact): ArtifactSummary {
  const { file, container } = artifact;
  return {
    ...summarize({ path: file.path, bytes: storedBytesOf(file), container: container.magic }, artifact),
    ...(file.sealedBytes === undefined ? {} : { encrypted: 'opened' }),
  };
}

/** The same of what is just being written. */
export function summarize(
  place: Pick<ArtifactSummary, 'path' | 'bytes' | 'container'>,
  { descriptor, index }: Pick<Artifact, 'descriptor' | 'index'>,
): ArtifactSummary {
  return {
    ...place,
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
