/**
 * Which chain leads to where somebody wants to go: to the end, to a transaction or to a moment. Works on summaries only;
 * whether the chosen chain holds is proof.ts's question.
 */
import { GraphkeepError } from '../errors.ts';
import {
  type ArtifactGroup,
  artifactsOf,
  type Chain,
  chainFrom,
  chainsTo,
  leavesOf,
  tipOf,
} from './chains.ts';
import type { Until } from './proof.ts';
import { type ArtifactSummary, isEmptyDifferential, newestFirst } from './summary.ts';

/** From where to where a chain can be restored. `from` is the end of its full artifact: nothing before it can be had. */
export interface RestorableWindow {
  readonly from: bigint;
  readonly to: bigint;
  /** Latest commit up to `from`: a target time must be after it. */
  readonly fromTime: Date | undefined;
  /** Time of the newest artifact of the chain, empty ones included: what happened after it is not known. */
  readonly toTime: Date | undefined;
}

/** @param group all artifacts of the chain's group: an empty differential says that nothing happened up to its time */
export function windowOf(chain: Chain, group: readonly ArtifactSummary[]): RestorableWindow {
  const tip = tipOf(chain);
  const times = [tip, ...emptyBehind(tip, group)].map(({ time }) => time?.getTime() ?? 0);
  const newest = times.reduce((left, right) => Math.max(left, right));
  return {
    from: chain.full.highestTransaction,
    to: tip.highestTransaction,
    fromTime: latestCommitUpTo(chain.full, group),
    toTime: newest === 0 ? undefined : new Date(newest),
  };
}

/**
 * A full artifact sees the log from its fence on only. Commit times need not ascend, so another artifact may know of a later
 * commit before its end: then a moment before that one is not to be reached from here.
 */
function latestCommitUpTo(full: ArtifactSummary, group: readonly ArtifactSummary[]): Date | undefined {
  const earlier = group.filter(
    (artifact) => !isEmptyDifferential(artifact) && artifact.highestTransaction <= full.highestTransaction,
  );
  const times = [full, ...earlier].flatMap(({ latestCommit }) => latestCommit?.getTime() ?? []);
  return full.latestCommit === undefined
    ? undefined
    : new Date(times.reduce((left, right) => Math.max(left, right)));
}

/** Differentials without a transaction that were taken when the database was as `tip` has it. */
export function emptyBehind(tip: ArtifactSummary, group: readonly ArtifactSummary[]): ArtifactSummary[] {
  return group.filter((artifact) => isEmptyDifferential(artifact) && isBehind(artifact, tip));
}

function isBehind(empty: ArtifactSummary, tip: ArtifactSummary): boolean {
  return (
    empty.parent?.appendIndex === tip.highestTransaction && empty.parent.checksum === tip.highestChecksum
  );
}

/**
 * Chains of a group that lead to the target, the best one first: the newest history, and in it the least to replay.
 * @param tip only chains that end with this artifact
 * @throws GK_CHAIN_BROKEN when nothing leads to the tip, GK_OUT_OF_WINDOW when no chain reaches the target
 */
export function chainsForRestore(
  group: ArtifactGroup,
  until: Until | undefined,
  tip?: ArtifactSummary,
): Chain[] {
  const { artifacts } = group;
  if (until === undefined) return chainsToNewest(group, tip === undefined ? leavesOf(artifacts) : [tip]);
  const tips = tip === undefined ? artifacts.filter((artifact) => !isEmptyDifferential(artifact)) : [tip];
  const all = chainsToAll(tips, artifacts);
  const reaching = all.filter((chain) => reaches(windowOf(chain, artifacts), until));
  if (reaching.length > 0) return withoutRepeats(reaching.map((chain) => trimmed(chain, until)));
  throw outOfWindow(group, all, until, tip);
}

/** What lies on a chain to a newer artifact is reached by cutting that one: thousands need no look of their own. */
function chainsToAll(tips: readonly ArtifactSummary[], artifacts: readonly ArtifactSummary[]): Chain[] {
  const seen = new Set<ArtifactSummary>();
  const chains: Chain[] = [];
  const longestFirst = new Set([...leavesOf(tips).toSorted(newestFirst), ...tips.toSorted(newestFirst)]);
  for (const tip of longestFirst) {
    if (seen.has(tip)) continue;
    for (const chain of chainsTo(tip, artifacts)) {
      chains.push(chain);
      for (const artifact of artifactsOf(chain)) seen.add(artifact);
    }
  }
  return chains;
}

/** Chains to different artifacts may be the same once they are cut at the target. */
function withoutRepeats(chains: readonly Chain[]): Chain[] {
  const byArtifacts = new Map<string, Chain>();
  for (const chain of chains) {
    const key = `${chain.full.path}\n${chain.differentials.length}\n${tipOf(chain).path}`;
    if (!byArtifacts.has(key)) byArtifacts.set(key, chain);
  }
  return [...byArtifacts.values()];
}

function chainsToNewest(group: ArtifactGroup, tips: readonly ArtifactSummary[]): Chain[] {
  const newest = tips.toSorted(newestFirst)[0];
  const chains = newest === undefined ? [] : chainsTo(newest, group.artifacts);
  if (newest === undefined || chains.length === 0) throw noChain(group, newest);
  return chains;
}

/** Taking what is older in silence would lose what the newest artifact holds. */
function noChain(group: ArtifactGroup, newest: ArtifactSummary | undefined): GraphkeepError {
  if (newest === undefined) {
    return new GraphkeepError('GK_NOT_FOUND', `there is nothing to restore of database ${group.database}`);
  }
  if (!newest.indexed) {
    return new GraphkeepError(
      'GK_UNSUPPORTED',
      `${newest.path} is a differential artifact of another tool, whose inner form is not public`,
      { hint: 'aggregate its chain with the tool that wrote it, and restore the full artifact' },
    );
  }
  const missing = newest.parent === undefined ? 'its parent' : `transaction ${newest.parent.appendIndex}`;
  const other = group.artifacts.find((artifact) => artifact.full);
  return new GraphkeepError(
    'GK_CHAIN_BROKEN',
    `no full artifact leads to ${newest.path}: what ends with ${missing} is missing or another one`,
    other === undefined
      ? {}
      : {
          hint: `to restore what there is, give the path of ${tipOf(chainFrom(other, group.artifacts)).path}`,
        },
  );
}

function reaches(window: RestorableWindow, until: Until): boolean {
  if ('transaction' in until) return window.from < until.transaction && until.transaction <= window.to + 1n;
  const { fromTime, toTime } = window;
  return fromTime !== undefined && toTime !== undefined && fromTime < until.time && until.time <= toTime;
}

/** Without the differentials that lie wholly behind the target. */
function trimmed(chain: Chain, until: Until): Chain {
  if (!('transaction' in until)) return chain;
  const last = chain.differentials.findIndex(
    ({ highestTransaction }) => highestTransaction >= until.transaction - 1n,
  );
  const isInFull = chain.full.highestTransaction >= until.transaction - 1n;
  const differentials = isInFull ? [] : chain.differentials.slice(0, last + 1);
  return { full: chain.full, differentials };
}

function outOfWindow(
  group: ArtifactGroup,
  chains: readonly Chain[],
  until: Until,
  tip: ArtifactSummary | undefined,
): GraphkeepError {
  const target = 'time' in until ? `the moment ${textOf(until.time)}` : `transaction ${until.transaction}`;
  const windows = chains.map((chain) => windowOf(chain, group.artifacts));
  if (windows.length === 0) return noChain(group, tip ?? group.artifacts[0]);
  const whose = tip === undefined ? `the artifacts of database ${group.database}` : tip.path;
  return new GraphkeepError(
    'GK_OUT_OF_WINDOW',
    `${whose} cannot be restored to before ${target}; what can be given is ${rangesOf(windows, until)}`,
    {
      hint:
        'a full artifact can only be restored to its own end or later: name a later target, or a folder that ' +
        'holds older artifacts; to restore all there is, leave out --restore-until',
    },
  );
}

const RANGES_SHOWN_MAX = 5;

/** The earliest windows first; what lies inside another one says nothing new. */
function rangesOf(windows: readonly RestorableWindow[], until: Until): string {
  const ranges =
    'time' in until
      ? windows.flatMap(({ fromTime, toTime }) =>
          fromTime === undefined || toTime === undefined
            ? []
            : [[BigInt(fromTime.getTime()), BigInt(toTime.getTime())]],
        )
      : windows.map(({ from, to }) => [from + 1n, to + 1n]);
  const shown = mergedRanges(ranges as [bigint, bigint][]).slice(0, RANGES_SHOWN_MAX);
  if (shown.length === 0) return 'no moment, since no artifact says when its transactions were committed';
  const text = ([from, to]: [bigint, bigint]): string =>
    'time' in until
      ? `from just after ${textOf(new Date(Number(from)))} to ${textOf(new Date(Number(to)))}`
      : `from ${from} to ${to}`;
  return shown.map(text).join(', or ');
}

function mergedRanges(ranges: readonly [bigint, bigint][]): [bigint, bigint][] {
  const merged: [bigint, bigint][] = [];
  for (const [from, to] of ranges.toSorted(([left], [right]) => (left < right ? -1 : 1))) {
    const last = merged.at(-1);
    if (last === undefined || from > last[1] + 1n) merged.push([from, to]);
    else if (to > last[1]) last[1] = to;
  }
  return merged;
}

function textOf(time: Date): string {
  return `${time.toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}
