/**
 * Which artifacts build on which. Source: commands.md §2.3.
 *
 * A differential names the transaction it follows by number and checksum, so it joins exactly the artifacts that end
 * with that transaction. Besides, the first differential of a chain may begin at or before the end of its full one: such
 * a joint is known by numbers only, as long as nobody has read the log of the differential (src/chain/proof.ts does).
 */
import { type ArtifactSummary, isEmptyDifferential, newestFirst } from './summary.ts';

/** A full artifact and the differentials that lead on from it, oldest first. */
export interface Chain {
  readonly full: ArtifactSummary;
  /** Without empty ones. */
  readonly differentials: readonly ArtifactSummary[];
}

/** Artifacts of one store of one database: only these can belong together. */
export interface ArtifactGroup {
  readonly database: string;
  readonly databaseId: string;
  readonly storeKey: string;
  /** Newest first. */
  readonly artifacts: readonly ArtifactSummary[];
}

/** Groups in the order of their newest artifacts. */
export function groupArtifacts(artifacts: readonly ArtifactSummary[]): ArtifactGroup[] {
  const groups = Map.groupBy(artifacts.toSorted(newestFirst), (artifact) =>
    [artifact.database.toLowerCase(), artifact.databaseId, artifact.storeKey].join('|'),
  );
  return [...groups.values()].map((members) => {
    const { database, databaseId, storeKey } = members[0]!;
    return { database, databaseId, storeKey, artifacts: members };
  });
}

/** Last artifact of a chain: where it can be restored to. */
export function tipOf(chain: Chain): ArtifactSummary {
  return chain.differentials.at(-1) ?? chain.full;
}

/** Everything that must stay for the tip of the chain to be restorable. */
export function artifactsOf(chain: Chain): ArtifactSummary[] {
  return [chain.full, ...chain.differentials];
}

/** Every joint is known by checksum: the first differential does not begin before the end of the full artifact. */
export function isExact({ full, differentials: [first] }: Chain): boolean {
  return first === undefined || follows(first, full);
}

/** The differential begins with the very transaction after the last one of the artifact. */
export function follows(differential: ArtifactSummary, artifact: ArtifactSummary): boolean {
  const { parent } = differential;
  return (
    parent !== undefined &&
    !isEmptyDifferential(artifact) &&
    parent.appendIndex === artifact.highestTransaction &&
    parent.checksum === artifact.highestChecksum
  );
}

/**
 * The differential holds the end of the full artifact inside its range, as far as the numbers tell. With
 * `--prefer-diff-as-parent` that is how differentials go on past a full one that was taken between them.
 */
export function overlaps(differential: ArtifactSummary, full: ArtifactSummary): boolean {
  const { parent } = differential;
  return (
    parent !== undefined &&
    full.full &&
    full.highestChecksum !== undefined &&
    !isEmptyDifferential(differential) &&
    parent.appendIndex < full.highestTransaction &&
    full.highestTransaction <= differential.highestTransaction
  );
}

/**
 * Every chain that ends at `tip`, the one with the least to replay first. Chains with an overlap are there as well; whether
 * their joint holds is to be proven before they are used.
 * @param group artifacts of the tip's group, in any order
 */
export function chainsTo(tip: ArtifactSummary, group: readonly ArtifactSummary[]): Chain[] {
  if (tip.full) return [{ full: tip, differentials: [] }];
  const fulls = group.filter((artifact) => artifact.full);
  const byEnd = Map.groupBy(differentialsOf(group), endOf);
  const chains: Chain[] = [];
  // From the tip backwards, each transaction once: copies of one artifact make several ways to the same place.
  const successor = new Map<ArtifactSummary, ArtifactSummary | undefined>([[tip, undefined]]);
  const seen = new Set<string>();
  for (const differential of successor.keys()) {
    const bases = fulls.filter((full) => isBase(full, differential, differential === tip));
    for (const full of bases) chains.push({ full, differentials: pathFrom(differential, successor) });
    const start = markText(differential.parent);
    if (seen.has(start)) continue;
    seen.add(start);
    for (const parent of byEnd.get(start) ?? [])
      if (!successor.has(parent)) successor.set(parent, differential);
  }
  return chains.toSorted(leastToReplayFirst);
}

/** In the middle of a chain, a differential that ends where the full artifact ends adds nothing to it. */
function isBase(full: ArtifactSummary, differential: ArtifactSummary, isTip: boolean): boolean {
  if (follows(differential, full)) return true;
  if (!overlaps(differential, full)) return false;
  return isTip || full.highestTransaction < differential.highestTransaction;
}

function leastToReplayFirst(left: Chain, right: Chain): number {
  const [from, to] = [left.full.highestTransaction, right.full.highestTransaction];
  if (from !== to) return from > to ? -1 : 1;
  return left.differentials.length - right.differentials.length || newestFirst(left.full, right.full);
}

/**
 * Artifacts that no differential follows: where histories end. The newest of these is the newest state, even where the
 * clock of the server was set back and an earlier artifact carries a later time.
 */
export function leavesOf(group: readonly ArtifactSummary[]): ArtifactSummary[] {
  const followed = new Set(differentialsOf(group).map(({ parent }) => markText(parent)));
  return group.filter((artifact) => !isEmptyDifferential(artifact) && !followed.has(endOf(artifact)));
}

function differentialsOf(group: readonly ArtifactSummary[]): ArtifactSummary[] {
  return group.filter((artifact) => !artifact.full && !isEmptyDifferential(artifact));
}

/** A transaction as the key of a map. */
export function markText(mark: { appendIndex: bigint; checksum: number | undefined } | undefined): string {
  return `${mark?.appendIndex}:${mark?.checksum}`;
}

/** The key of the transaction that an artifact ends with. */
export function endOf(artifact: ArtifactSummary): string {
  return markText({ appendIndex: artifact.highestTransaction, checksum: artifact.highestChecksum });
}

/** Follows the links of a walk from `start` to where they end. */
export function pathFrom(
  start: ArtifactSummary,
  next: ReadonlyMap<ArtifactSummary, ArtifactSummary | undefined>,
): ArtifactSummary[] {
  const path: ArtifactSummary[] = [];
  for (let at: ArtifactSummary | undefined = start; at !== undefined; at = next.get(at)) path.push(at);
  return path;
}

/**
 * The chain that begins at a full artifact, as far as it leads. Where two differentials lead on (a copy, or a server that
 * was set back and went another way), the one that reaches the newest artifact is taken.
 */
export function chainFrom(full: ArtifactSummary, group: readonly ArtifactSummary[]): Chain {
  return longestChain(full, reachedFrom(full, differentialsByStart(group)));
}

type ByStart = ReadonlyMap<string, readonly ArtifactSummary[]>;

function differentialsByStart(group: readonly ArtifactSummary[]): ByStart {
  return Map.groupBy(differentialsOf(group), (artifact) => markText(artifact.parent));
}

/** Differentials that a full artifact leads to, each with the one before it. */
function reachedFrom(
  full: ArtifactSummary,
  byStart: ByStart,
): Map<ArtifactSummary, ArtifactSummary | undefined> {
  const predecessor = new Map<ArtifactSummary, ArtifactSummary | undefined>();
  for (const candidates of byStart.values()) {
    for (const candidate of candidates) {
      if (follows(candidate, full) || overlaps(candidate, full)) predecessor.set(candidate, undefined);
    }
  }
  for (const differential of predecessor.keys()) {
    for (const next of byStart.get(endOf(differential)) ?? []) {
      if (!predecessor.has(next)) predecessor.set(next, differential);
    }
  }
  return predecessor;
}

function longestChain(
  full: ArtifactSummary,
  predecessor: ReadonlyMap<ArtifactSummary, ArtifactSummary | undefined>,
): Chain {
  const tip = [...predecessor.keys()].toSorted(newestFirst)[0];
  return { full, differentials: tip === undefined ? [] : pathFrom(tip, predecessor).toReversed() };
}

export interface ChainSurvey {
  /** One per full artifact, newest first. */
  readonly chains: readonly Chain[];
  /** Differentials that no full artifact leads to: nothing can be restored from them. */
  readonly orphans: readonly ArtifactSummary[];
}

/** All chains of a group. An artifact may belong to several: two full ones may lead to the same differential. */
export function surveyChains(group: readonly ArtifactSummary[]): ChainSurvey {
  const byStart = differentialsByStart(group);
  const walks = group
    .filter((artifact) => artifact.full)
    .map((full) => ({ full, reached: reachedFrom(full, byStart) }));
  const covered = new Set(walks.flatMap(({ reached }) => [...reached.keys()]));
  return {
    chains: walks.map(({ full, reached }) => longestChain(full, reached)),
    orphans: differentialsOf(group).filter((artifact) => !covered.has(artifact)),
  };
}
