/**
 * Which artifacts of a database a policy keeps, and in which order the others can go. Pure: it sees summaries, opens no
 * file and knows no clock but the one it is given. What each rule means to a user: docs/retention.md.
 *
 * A restore point is an artifact that holds transactions and that a complete chain leads to. The policy chooses points;
 * what they are built on stays as well. A joint that is known by numbers only (an overlap) may turn out to be none: so a
 * point that only such a joint leads to never takes the place of one that is sure.
 */
import { basename } from 'node:path';
import { GraphkeepError } from '../errors.ts';
import { RETENTION_COUNT_MAX } from '../limits.ts';
import { endOf, follows, groupArtifacts, markText, overlaps, pathFrom } from './chains.ts';
import { type ArtifactSummary, isEmptyDifferential, newestFirst } from './summary.ts';

/** How many points, or how many of the latest periods that have points; 0 is the same as absent. */
export interface RetentionPolicy {
  readonly last?: number;
  readonly hourly?: number;
  readonly daily?: number;
  /** ISO weeks, which begin on Monday. */
  readonly weekly?: number;
  readonly monthly?: number;
  readonly yearly?: number;
  /** Everything that is at most so much older than the newest point. */
  readonly within?: Age;
}

export interface Age {
  readonly years: number;
  readonly months: number;
  readonly days: number;
  readonly hours: number;
}

export interface RetentionOptions {
  /** Remove the differentials that no chain leads to; they are kept and reported otherwise. */
  readonly removeOrphans?: boolean;
  /** Somebody read the log and found that the differential goes on from the full artifact it overlaps. */
  readonly isProven?: (differential: ArtifactSummary, full: ArtifactSummary) => boolean;
}

export interface KeptArtifact {
  readonly artifact: ArtifactSummary;
  /** Never empty. */
  readonly reasons: readonly string[];
}

export interface RetentionPlan {
  /** Newest first. */
  readonly kept: readonly KeptArtifact[];
  /** Dependents before what they depend on: whatever has been deleted, each point that is left can be restored. */
  readonly removed: readonly ArtifactSummary[];
  /** Artifacts that no chain leads to; they are in one of the two lists as well. */
  readonly orphans: readonly ArtifactSummary[];
}

const AGE_UNITS = { y: 'years', m: 'months', w: 'weeks', d: 'days', h: 'hours' } as const;

/** `30d`, `12h`, `2w`, `6m` (months), `1y`, or several in a row: `1y5m7d2h`. @throws GK_USAGE */
export function parseAge(text: string): Age {
  const age = { years: 0, months: 0, weeks: 0, days: 0, hours: 0 };
  const parts = [...text.matchAll(/(\d{1,7})([ymwdh])/g)];
  const units = new Set(parts.map(([, , unit]) => unit));
  const isWhole = parts.map(([part]) => part).join('') === text && units.size === parts.length;
  for (const [, figure, unit] of parts) age[AGE_UNITS[unit as keyof typeof AGE_UNITS]] = Number(figure);
  const figures = Object.values(age);
  const fits =
    figures.some((figure) => figure > 0) && figures.every((figure) => figure <= RETENTION_COUNT_MAX);
  if (!isWhole || !fits) {
    throw new GraphkeepError('GK_USAGE', `not an age: '${text}'`, {
      hint: 'write for example 30d, 12h, 2w, 6m (months), 1y, or 1y5m7d2h',
    });
  }
  const { weeks, ...rest } = age;
  return { ...rest, days: rest.days + 7 * weeks };
}

/** @throws GK_USAGE for a policy that would keep nothing, and for counts that are none */
export function checkPolicy(policy: RetentionPolicy): void {
  for (const { rule } of PERIODS) {
    const count = policy[rule] ?? 0;
    if (!Number.isInteger(count) || count < 0 || count > RETENTION_COUNT_MAX) {
      throw new GraphkeepError(
        'GK_USAGE',
        `keep-${rule} is a number from 0 to ${RETENTION_COUNT_MAX}, not ${count}`,
      );
    }
  }
  if (policy.within !== undefined || PERIODS.some(({ rule }) => (policy[rule] ?? 0) > 0)) return;
  throw new GraphkeepError('GK_USAGE', 'the policy is empty: it would keep nothing', {
    hint: 'say what to keep, for example --keep-daily=7 --keep-weekly=4',
  });
}

/**
 * @param artifacts all artifacts of one database, of whatever stores: a database that was replaced has one calendar
 * @param now artifacts of a later time are kept and not counted: a clock was wrong, and nobody knows which
 * @throws GK_USAGE as `checkPolicy`
 */
export function planRetention(
  artifacts: readonly ArtifactSummary[],
  policy: RetentionPolicy,
  now: Date,
  options: RetentionOptions = {},
): RetentionPlan {
  checkPolicy(policy);
  const links = new ChainLinks(artifacts, options.isProven ?? (() => false));
  const keeping = new Keeping(links);
  for (const artifact of artifacts) keeping.setAside(artifact, now);
  keeping.choose(policy, now);
  keeping.keepChains();
  keeping.keepEmpty();
  const orphans = keeping.orphans(artifacts);
  if (options.removeOrphans !== true) for (const orphan of orphans) keeping.add(orphan, ORPHAN);
  const { reasons } = keeping;
  const sorted = artifacts.toSorted(byTime);
  return {
    kept: sorted.flatMap((artifact) => {
      const why = reasons.get(artifact);
      return why === undefined ? [] : [{ artifact, reasons: why }];
    }),
    removed: links.dependentsFirst(sorted.filter((artifact) => !reasons.has(artifact))),
    orphans,
  };
}

const FOREIGN = 'written by another tool';
const TIME_UNKNOWN = 'its time is not known';
const TIME_IN_FUTURE = 'its time lies in the future';
const LAST_GOOD = 'newest complete chain';
const ORPHAN = 'no chain leads to it';

/** A database has one order of time, whatever the letters of its name. */
function byTime(left: ArtifactSummary, right: ArtifactSummary): number {
  return (right.time?.getTime() ?? 0) - (left.time?.getTime() ?? 0) || newestFirst(left, right);
}

/** What stays, and why. The steps are called in the order in which they stand here. */
class Keeping {
  readonly reasons = new Map<ArtifactSummary, string[]>();
  readonly #links: ChainLinks;
  /** Kept for what they hold, not only for what builds on them. */
  readonly #chosen = new Set<ArtifactSummary>();

  constructor(links: ChainLinks) {
    this.#links = links;
  }

  add(artifact: ArtifactSummary, reason: string): void {
    const reasons = this.reasons.get(artifact);
    if (reasons === undefined) this.reasons.set(artifact, [reason]);
    else if (!reasons.includes(reason)) reasons.push(reason);
  }

  #choose(artifact: ArtifactSummary, reason: string): void {
    this.#chosen.add(artifact);
    this.add(artifact, reason);
  }

  /** What no policy judges stays. An empty differential goes the way of what it follows, whatever its time. */
  setAside(artifact: ArtifactSummary, now: Date): void {
    if (!artifact.indexed) this.#choose(artifact, FOREIGN);
    else if (isEmptyDifferential(artifact)) return;
    else if (artifact.time === undefined) this.#choose(artifact, TIME_UNKNOWN);
    else if (artifact.time.getTime() > now.getTime()) this.#choose(artifact, TIME_IN_FUTURE);
  }

  choose(policy: RetentionPolicy, now: Date): void {
    const points = [...this.#links.reachable].filter((point) => !this.#chosen.has(point)).toSorted(byTime);
    const sure = points.filter((point) => this.#links.exact.has(point));
    const last = sure[0] ?? points[0];
    for (const calendar of sure.length === points.length ? [points] : [sure, points]) {
      for (const { point, reason } of choosePoints(calendar, policy, now)) this.#choose(point, reason);
    }
    if (last !== undefined) this.#choose(last, LAST_GOOD);
  }

  /** Oldest first, so that each point finds what it shares with older ones settled already. */
  keepChains(): void {
    const settled = new Set<ArtifactSummary>();
    for (const point of [...this.#chosen].toSorted(byTime).toReversed()) {
      const path = this.#links.cheapestPath(point, this.reasons, settled);
      for (const artifact of path) {
        settled.add(artifact);
        if (artifact !== point) this.add(artifact, `needed by ${basename(point.path)}`);
      }
    }
  }

  /** The newest says what all of them say: until then, nothing had happened. An idle server makes one every few minutes. */
  keepEmpty(): void {
    for (const empties of this.#links.emptyByTarget()) {
      const newest = empties.toSorted(byTime)[0]!;
      const target = this.#links.parentsOf(newest).find((parent) => this.reasons.has(parent));
      if (target !== undefined) this.add(newest, `follows ${basename(target.path)}`);
    }
  }

  /** An empty differential is one when it follows nothing, or nothing but orphans. */
  orphans(artifacts: readonly ArtifactSummary[]): ArtifactSummary[] {
    const { reachable } = this.#links;
    return artifacts.filter((artifact) => {
      if (this.reasons.has(artifact) || reachable.has(artifact)) return false;
      return !this.#links.parentsOf(artifact).some((target) => reachable.has(target));
    });
  }
}

interface Period {
  readonly rule: Exclude<keyof RetentionPolicy, 'within'>;
  /** Equal for two times of one period. */
  nameOf(time: Date, position: number): string;
}

const PERIODS: readonly Period[] = [
  { rule: 'last', nameOf: (_time, position) => String(position + 1) },
  { rule: 'hourly', nameOf: (time) => `${dayOf(time)}T${twoDigits(time.getUTCHours())}` },
  { rule: 'daily', nameOf: dayOf },
  { rule: 'weekly', nameOf: isoWeekOf },
  { rule: 'monthly', nameOf: monthOf },
  { rule: 'yearly', nameOf: (time) => String(time.getUTCFullYear()) },
];

/** @param points newest first, all with a time */
function choosePoints(
  points: readonly ArtifactSummary[],
  policy: RetentionPolicy,
  now: Date,
): { point: ArtifactSummary; reason: string }[] {
  const chosen: { point: ArtifactSummary; reason: string }[] = [];
  for (const { rule, nameOf } of PERIODS) {
    const periods = new Set<string>();
    for (const [position, point] of points.entries()) {
      if (periods.size >= (policy[rule] ?? 0)) break;
      const period = nameOf(point.time!, position);
      if (periods.has(period)) continue;
      periods.add(period);
      chosen.push({ point, reason: `${rule} ${period}` });
    }
  }
  const { within } = policy;
  if (within === undefined || points.length === 0) return chosen;
  // From the newest point, not from now: when backups have stopped, time alone must not remove the last ones.
  const newestTime = points[0]!.time!;
  const earliestMillis = before(newestTime < now ? newestTime : now, within);
  const recent = points.filter((point) => point.time!.getTime() >= earliestMillis);
  return [...chosen, ...recent.map((point) => ({ point, reason: `within ${formatAge(within)}` }))];
}

/** Epoch milliseconds. From the 31st, a month back is the last day of a shorter month, never a later one. */
function before(time: Date, age: Age): number {
  const month = time.getUTCMonth() - age.months;
  const year = time.getUTCFullYear() - age.years;
  const daysInMonth = new Date(Date.UTC(year, month + 1, 0)).getUTCDate();
  const moved = new Date(time);
  moved.setUTCFullYear(year, month, Math.min(time.getUTCDate(), daysInMonth));
  const millis = moved.getTime() - (age.days * 24 + age.hours) * MILLIS_PER_HOUR;
  return Number.isNaN(millis) ? Number.NEGATIVE_INFINITY : millis;
}

const MILLIS_PER_HOUR = 3_600_000;

function formatAge(age: Age): string {
  const parts = [`${age.years}y`, `${age.months}m`, `${age.days}d`, `${age.hours}h`];
  return parts.filter((part) => !part.startsWith('0')).join('');
}

function twoDigits(value: number): string {
  return String(value).padStart(2, '0');
}

function monthOf(time: Date): string {
  return `${time.getUTCFullYear()}-${twoDigits(time.getUTCMonth() + 1)}`;
}

function dayOf(time: Date): string {
  return `${monthOf(time)}-${twoDigits(time.getUTCDate())}`;
}

/** A week belongs to the year of its Thursday. */
function isoWeekOf(time: Date): string {
  const millisPerDay = 24 * MILLIS_PER_HOUR;
  const thursday = new Date(time.getTime() + (4 - (time.getUTCDay() || 7)) * millisPerDay);
  const yearStart = new Date(0).setUTCFullYear(thursday.getUTCFullYear(), 0, 1);
  const week = Math.floor((thursday.getTime() - yearStart) / millisPerDay / 7) + 1;
  return `${thursday.getUTCFullYear()}-W${twoDigits(week)}`;
}

/** Built by the differential directly, as far as anyone can tell: it is to be deleted before `base`. */
export function buildsOn(differential: ArtifactSummary, base: ArtifactSummary): boolean {
  return follows(differential, base) || overlaps(differential, base);
}

/**
 * The joints between the artifacts of a database, found once: a folder holds tens of thousands of differentials, and
 * walking from each of them back to its full one would take the square of that.
 */
class ChainLinks {
  /** What an exact chain leads to, full artifacts included. */
  readonly exact: ReadonlySet<ArtifactSummary>;
  /** The same with chains that hold an overlap. Without empty differentials. */
  readonly reachable: ReadonlySet<ArtifactSummary>;
  readonly #parents = new Map<ArtifactSummary, readonly ArtifactSummary[]>();
  readonly #overlapped = new Map<ArtifactSummary, readonly ArtifactSummary[]>();
  readonly #emptyByTarget: ArtifactSummary[][] = [];

  constructor(
    artifacts: readonly ArtifactSummary[],
    isProven: (differential: ArtifactSummary, full: ArtifactSummary) => boolean,
  ) {
    for (const group of groupArtifacts(artifacts)) this.#findJoints(group.artifacts, isProven);
    const fulls = artifacts.filter((artifact) => artifact.full);
    const overlapping = [...this.#overlapped.keys()];
    const children = this.#childrenOf();
    this.exact = spread(fulls, children);
    this.reachable = spread([...this.exact, ...overlapping], children);
  }

  #findJoints(
    group: readonly ArtifactSummary[],
    isProven: (differential: ArtifactSummary, full: ArtifactSummary) => boolean,
  ): void {
    const byEnd = Map.groupBy(
      group.filter((artifact) => !isEmptyDifferential(artifact)),
      endOf,
    );
    const fulls = group.filter((artifact) => artifact.full).toSorted(byEndOfRange);
    const empties = new Map<string, ArtifactSummary[]>();
    for (const artifact of group) {
      if (artifact.full || artifact.parent === undefined) continue;
      const mark = markText(artifact.parent);
      const parents = (byEnd.get(mark) ?? []).filter(
        (parent) => parent !== artifact && follows(artifact, parent),
      );
      const overlapped = fullsInside(artifact, fulls);
      const proven = overlapped.filter((full) => isProven(artifact, full));
      this.#parents.set(artifact, [...parents, ...proven]);
      if (overlapped.length > 0) this.#overlapped.set(artifact, overlapped);
      if (isEmptyDifferential(artifact)) addTo(empties, mark, artifact);
    }
    this.#emptyByTarget.push(...empties.values());
  }

  /** Exact joints only; of an empty differential what it follows. */
  parentsOf(artifact: ArtifactSummary): readonly ArtifactSummary[] {
    return this.#parents.get(artifact) ?? [];
  }

  /** Empty differentials that follow the same transaction. */
  emptyByTarget(): readonly (readonly ArtifactSummary[])[] {
    return this.#emptyByTarget;
  }

  #childrenOf(): Map<ArtifactSummary, ArtifactSummary[]> {
    const children = new Map<ArtifactSummary, ArtifactSummary[]>();
    for (const [child, parents] of this.#parents) {
      if (isEmptyDifferential(child)) continue;
      for (const parent of parents) addTo(children, parent, child);
    }
    return children;
  }

  /**
   * The chain from `tip` back to a full artifact or to one that is settled, with the fewest artifacts that are not
   * kept yet. An exact chain wherever there is one. Empty when no chain leads to it.
   */
  cheapestPath(
    tip: ArtifactSummary,
    kept: ReadonlyMap<ArtifactSummary, unknown>,
    settled: ReadonlySet<ArtifactSummary>,
  ): ArtifactSummary[] {
    const isExact = this.exact.has(tip);
    const allowed = isExact ? this.exact : this.reachable;
    const successor = new Map<ArtifactSummary, ArtifactSummary | undefined>([[tip, undefined]]);
    // Each level costs one artifact more than the one before it; what is kept anyway costs nothing.
    for (let level = allowed.has(tip) ? [tip] : []; level.length > 0; ) {
      const next: ArtifactSummary[] = [];
      for (const at of level) {
        if (at.full || settled.has(at)) return pathFrom(at, successor);
        const bases = isExact ? [] : (this.#overlapped.get(at) ?? []);
        for (const parent of [...this.parentsOf(at), ...bases]) {
          if (!allowed.has(parent) || successor.has(parent)) continue;
          successor.set(parent, at);
          (kept.has(parent) ? level : next).push(parent);
        }
      }
      level = next;
    }
    return [];
  }

  /**
   * By the length of what builds on them: first what nothing builds on, then what only these built on, and so on.
   * @param removed newest first
   */
  dependentsFirst(removed: readonly ArtifactSummary[]): ArtifactSummary[] {
    const left = new Set(removed);
    const dependents = new Map<ArtifactSummary, number>();
    const basesOf = (artifact: ArtifactSummary): Set<ArtifactSummary> =>
      new Set([...this.parentsOf(artifact), ...(this.#overlapped.get(artifact) ?? [])]);
    for (const artifact of removed) {
      for (const base of basesOf(artifact)) dependents.set(base, (dependents.get(base) ?? 0) + 1);
    }
    const order = removed.filter((artifact) => !dependents.has(artifact));
    for (const artifact of order) {
      left.delete(artifact);
      for (const base of basesOf(artifact)) {
        const count = dependents.get(base)! - 1;
        dependents.set(base, count);
        if (count === 0 && left.has(base)) order.push(base);
      }
    }
    // A circle, which only damaged numbers can make: no chain leads through it.
    return [...order, ...left];
  }
}

function byEndOfRange(left: ArtifactSummary, right: ArtifactSummary): number {
  return left.highestTransaction < right.highestTransaction ? -1 : 1;
}

/** @param fulls by the end of their range */
function fullsInside(differential: ArtifactSummary, fulls: readonly ArtifactSummary[]): ArtifactSummary[] {
  let low = 0;
  for (let high = fulls.length; low < high; ) {
    const middle = (low + high) >> 1;
    if (fulls[middle]!.highestTransaction <= differential.parent!.appendIndex) low = middle + 1;
    else high = middle;
  }
  const found: ArtifactSummary[] = [];
  for (; (fulls[low]?.highestTransaction ?? Infinity) <= differential.highestTransaction; low += 1) {
    if (overlaps(differential, fulls[low]!)) found.push(fulls[low]!);
  }
  return found.toReversed();
}

function addTo<Key, Value>(lists: Map<Key, Value[]>, key: Key, value: Value): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [value]);
  else list.push(value);
}

/** Everything that the links lead to, with what they begin at. */
function spread(
  from: readonly ArtifactSummary[],
  links: ReadonlyMap<ArtifactSummary, readonly ArtifactSummary[]>,
): Set<ArtifactSummary> {
  const reached = new Set(from);
  for (const artifact of reached) for (const next of links.get(artifact) ?? []) reached.add(next);
  return reached;
}
