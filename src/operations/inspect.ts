/**
 * `backup inspect`: what the headers of artifacts say, and how the artifacts of a folder build on each other. Reads a few
 * kilobytes of each file, whatever its size.
 */
import { dirname } from 'node:path';
import { readCatalogue, type SealedOnes, summaryOf } from '../chain/catalogue.ts';
import { artifactsOf, groupArtifacts, leavesOf, surveyChains } from '../chain/chains.ts';
import { chainsForRestore, windowOf } from '../chain/plan.ts';
import { type ArtifactSummary, newestFirst } from '../chain/summary.ts';
import { GraphkeepError } from '../errors.ts';
import { isFileAt } from '../storage/places.ts';
import type { ChainOverview, InspectResult, OperationContext } from './types.ts';

export interface InspectContext extends OperationContext {
  /** Whether the path is one artifact, where that is known: a store charges for each question. */
  readonly isFile?: boolean;
  readonly sealed?: SealedOnes;
}

/**
 * Summaries of one artifact, or of every `.backup` file of a folder; newest first within each database.
 * A named file that is no artifact is an error; in a folder it is reported and the others are shown.
 */
export async function inspectArtifacts(
  path: string,
  { signal, isFile, sealed = 'opened' }: InspectContext = {},
): Promise<InspectResult> {
  if (isFile ?? (await isFileAt(path)))
    return { artifacts: [await summaryOf(path, sealed)], unreadable: [], chains: [] };
  const { artifacts, unreadable } = await readCatalogue(path, signal, sealed);
  return { artifacts, unreadable, chains: overviewOf(artifacts) };
}

/** The chains of all databases, as their headers tell; whether an overlap holds is known when the log was read. */
export function overviewOf(artifacts: readonly ArtifactSummary[]): ChainOverview[] {
  return groupArtifacts(artifacts).flatMap((group) =>
    surveyChains(group.artifacts).chains.map((chain) => ({
      database: group.database,
      databaseId: group.databaseId,
      artifacts: artifactsOf(chain).map(({ path }) => path),
      restorable: windowOf(chain, group.artifacts),
    })),
  );
}

/**
 * The chain that ends at a given artifact, or at the newest one of a database in a folder; the last artifact first.
 * @throws GK_CHAIN_BROKEN when something in between is missing
 */
export async function inspectLatestChain(
  path: string,
  database: string | undefined,
  context: InspectContext = {},
): Promise<ArtifactSummary[]> {
  const isFile = context.isFile ?? (await isFileAt(path));
  const given = isFile ? await summaryOf(path, 'withSealed') : undefined;
  const folder = given === undefined ? path : dirname(path);
  const { artifacts } = await readCatalogue(folder, context.signal, 'withSealed');
  const wanted = given?.database ?? database;
  if (wanted === undefined) {
    throw new GraphkeepError('GK_USAGE', '--latest-chain in a folder needs --database', {
      hint: 'give --database=<database>, or the path of a file',
    });
  }
  const ofDatabase = artifacts.filter((artifact) => artifact.database.toLowerCase() === wanted.toLowerCase());
  return latestChainOf(ofDatabase, given).toReversed();
}

/**
 * The chain that ends at a given artifact, or at the newest one of those of a database; the full artifact first.
 * @throws GK_CHAIN_BROKEN
 */
export function latestChainOf(
  ofDatabase: readonly ArtifactSummary[],
  given: ArtifactSummary | undefined,
): ArtifactSummary[] {
  const newest = given ?? leavesOf(ofDatabase).toSorted(newestFirst)[0];
  const group = groupArtifacts(ofDatabase).find((candidate) =>
    candidate.artifacts.some((artifact) => artifact.path === newest?.path),
  );
  if (group === undefined) return [];
  const tip = group.artifacts.find((artifact) => artifact.path === given?.path);
  return artifactsOf(chainsForRestore(group, undefined, tip)[0]!);
}
