/** The script of users and roles of a whole chain: that of its newest artifact that carries one. */
import { metadataScriptOf } from '../artifact/metadata.ts';
import { openArtifact } from '../artifact/reader.ts';
import { artifactsOf, tipOf } from '../chain/chains.ts';
import { emptyBehind } from '../chain/plan.ts';
import { refuseReplaced } from '../chain/proof.ts';
import { type ArtifactSummary, isEmptyDifferential, newestFirst } from '../chain/summary.ts';
import type { ChosenChain } from './plan.ts';

/**
 * Users change without a transaction in the database beside them: then it is an empty differential that knows of it, which
 * no restore would need. Those of a later time than what is restored do not count: behind a cut, or behind a named file.
 * @param artifactPath what was asked for, a file or a folder
 * @throws GK_ARTIFACT_CORRUPT
 */
export async function newestMetadataScript(
  { chain, group, wasCut }: ChosenChain,
  artifactPath: string,
): Promise<Buffer | undefined> {
  const named = group.artifacts.find(({ path }) => path === artifactPath);
  // What is empty follows the end of the chain, so it is newer than all of it, even within the same second.
  const behind = wasCut ? [] : emptyBehind(tipOf(chain), group.artifacts).toSorted(newestFirst);
  const empty = behind.filter((artifact) => named === undefined || isUpTo(artifact, named));
  const newest = [...empty, ...artifactsOf(chain).toReversed()].find(({ hasMetadata }) => hasMetadata);
  if (newest === undefined) return undefined;
  const artifact = await openArtifact(newest.path);
  try {
    refuseReplaced(artifact, newest);
    return metadataScriptOf(artifact);
  } finally {
    await artifact.file.close();
  }
}

function isUpTo(empty: ArtifactSummary, named: ArtifactSummary): boolean {
  return isEmptyDifferential(named) && (empty === named || newestFirst(empty, named) > 0);
}
