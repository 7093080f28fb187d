/**
 * Which chain leads to where somebody wants to go: to the end, to a transaction or to a moment. Works on summaries only;
 * whether the chosen chain holds is proof.ts's question.
 */
import { GraphkeepError } from '../errors.ts';
import { type ArtifactSummary, isEmptyDifferential, newestFirst } from './catalogue.ts';
import { type ArtifactGroup, type Chain, chainFrom, chainsTo, tipOf } from './chains.ts';
import type { Until } from './proof.ts';

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
  const times = [
    tip,
    ...group.filter((artifact) => isEmptyDifferential(artifact) && isBehind(artifact, tip)),
  ].map(({ time }) => time?.getTime() ?? 0);
  const newest = Math.max(...times);
  return {
    from: chain.full.highestTransaction,
    to: tip.highestTransaction,
    fromTime: chain.full.latestCommit,
    toTime: newest === 0 ? undefined : new Date(newest),
  };
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
  const artifacts = group.artifacts;
  const tips = tip === undefined ? artifacts.filter((artifact) => !isEmptyDifferential(artifact)) : [tip];
  if (until === undefined) return chainsToNewest(group, tips);
  const all = tips.flatMap((candidate) => chainsTo(candidate, artifacts));
  const reaching = all.filter((chain) => reaches(windowOf(chain, artifacts), until));
  if (reaching.length > 0) return reaching.map((chain) => trimmed(chain, until));
  throw outOfWindow(group, all, until, tip);
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
  const earliest = windows.reduce((best, window) => (window.from < best.from ? window : best));
  const latest = windows.reduce((best, window) => (window.to > best.to ? window : best));
  const range =
    'time' in until
      ? `from just after ${textOf(earliest.fromTime)} to ${textOf(latest.toTime)}`
      : `from ${earliest.from + 1n} to ${latest.to + 1n}`;
  return new GraphkeepError(
    'GK_OUT_OF_WINDOW',
    `${whose} cannot be restored to before ${target}; what can be given is ${range}`,
    {
      hint:
        'a full artifact can only be restored to its own end or later: name a later target, or a folder that holds ' +
        'older artifacts; to restore all there is, leave out --restore-until',
    },
  );
}

function textOf(time: Date | undefined): string {
  return time === undefined ? 'an unknown time' : `${time.toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}
