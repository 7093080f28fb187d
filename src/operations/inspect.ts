/**
 * `backup inspect`: what the headers of artifacts say. Reads a few kilobytes of each file, whatever its size.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { memberBytesOf } from '../artifact/members.ts';
import { type Artifact, openArtifact } from '../artifact/reader.ts';
import { GraphkeepError, throwIfAborted, wrapSystemError } from '../errors.ts';
import { formatUuid } from '../formats/neostore.ts';
import { storeIdHash } from '../formats/storeid.ts';
import { readFolder } from '../hotcopy/storefiles.ts';
import type { ArtifactSummary, InspectResult, OperationContext } from './types.ts';

const ARTIFACT_SUFFIX = '.backup';

/**
 * Summaries of one artifact, or of every `.backup` file of a folder; newest first within each database.
 * A named file that is no artifact is an error; in a folder it is reported and the others are shown.
 */
export async function inspectArtifacts(path: string, context: OperationContext = {}): Promise<InspectResult> {
  const status = await stat(path).catch((error: unknown) => {
    throw wrapSystemError(error, `find ${path}`);
  });
  if (status.isFile()) return { artifacts: [await summaryOf(path)], unreadable: [] };
  const artifacts: ArtifactSummary[] = [];
  const unreadable: { path: string; code: GraphkeepError['code']; message: string }[] = [];
  for (const file of await listArtifactFiles(path)) {
    throwIfAborted(context.signal);
    try {
      artifacts.push(await summaryOf(file));
    } catch (error) {
      if (!(error instanceof GraphkeepError)) throw error;
      unreadable.push({ path: file, code: error.code, message: error.message });
    }
  }
  return { artifacts: artifacts.sort(newestFirst), unreadable };
}

/** Files of a folder that carry the suffix of an artifact; hidden ones are still being written. */
export async function listArtifactFiles(directory: string): Promise<string[]> {
  return (await readFolder(directory))
    .filter((entry) => entry.isFile() && entry.name.endsWith(ARTIFACT_SUFFIX) && !entry.name.startsWith('.'))
    .map((entry) => join(directory, entry.name));
}

function newestFirst(left: ArtifactSummary, right: ArtifactSummary): number {
  if (left.database !== right.database) return left.database < right.database ? -1 : 1;
  const age = (right.time?.getTime() ?? 0) - (left.time?.getTime() ?? 0);
  if (age !== 0) return age;
  const reach = Number(right.highestTransaction - left.highestTransaction);
  // Of two backups within one second, the later one has the later name.
  return reach !== 0 ? reach : left.path < right.path ? 1 : -1;
}

async function summaryOf(path: string): Promise<ArtifactSummary> {
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
    time: timeOf(descriptor.timeSeconds),
    full: descriptor.full,
    compressed: descriptor.compressed,
    recovered: descriptor.recovered,
    lowestTransaction: descriptor.lowestAppendIndex,
    highestTransaction: descriptor.highestAppendIndex,
    storeIdHash: storeIdHash(descriptor.storeId),
    container: container.magic,
    indexed: index !== undefined,
    ...(index === undefined ? {} : { memberCount: index.members.length, memberBytes: memberBytesOf(index) }),
  };
}

function timeOf(epochSeconds: bigint): Date | undefined {
  const time = new Date(Number(epochSeconds) * 1000);
  return Number.isNaN(time.getTime()) ? undefined : time;
}
