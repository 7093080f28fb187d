/** A policy applied over years: what is left can always be restored, what was promised is there, and nothing else is. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Chain, chainsTo, follows, groupArtifacts } from '../../../src/chain/chains.ts';
import { parseAge, planRetention, type RetentionPolicy } from '../../../src/chain/retention.ts';
import { type ArtifactSummary, isEmptyDifferential } from '../../../src/chain/summary.ts';
import { randomNumbers } from '../../fixtures/random.ts';
import { summaryOfText } from '../../fixtures/summaries.ts';

/** Where histories part: a transaction has the salt of the last part that begins at or before it. */
type History = readonly { readonly from: bigint; readonly salt: number }[];

/** What was in the log of the server when an artifact was made. */
const histories = new WeakMap<ArtifactSummary, History>();

function checksumIn(history: History, transaction: bigint): number {
  const part = history.findLast(({ from }) => from <= transaction)!;
  return Number((transaction * 1_000_003n + BigInt(part.salt) * 7_919n) % 4_294_967_291n);
}

/** Whether it is known which differentials go on from the full artifacts inside them. */
type Proof = (differential: ArtifactSummary, full: ArtifactSummary) => boolean;
const UNKNOWN: Proof = () => false;
/** As reading the log of the differential would tell. */
const KNOWN: Proof = (differential, { highestTransaction, highestChecksum }) =>
  checksumIn(histories.get(differential)!, highestTransaction) === highestChecksum;

/** A server and its backups over two years: what is made, what is deleted, and what was ever there. */
class Simulation {
  readonly remaining = new Set<ArtifactSummary>();
  /** Every restore point that was ever made. */
  readonly ledger = new Ledger();
  made = 0;
  readonly #random: (below: number) => number;
  readonly #seed: number;
  #clockMillis = Date.parse('2024-01-01T00:00:00Z');
  #lastMillis = 0;
  #stores = 1;
  #highest = 5n;
  #history: History = [{ from: 0n, salt: 1 }];
  #salts = 1;
  #preferDifferential = false;

  constructor(seed: number) {
    this.#seed = seed;
    this.#random = randomNumbers(seed);
  }

  get now(): Date {
    return new Date(this.#clockMillis);
  }

  /** One day of work and backups. Schedules differ by seed; every so often something goes wrong. */
  day(number: number): void {
    const isGap = this.#random(40) === 0;
    if (this.#random(90) === 0) this.#setBack();
    if (this.#random(200) === 0) this.#replaceStore();
    if (this.#random(15) === 0) this.#preferDifferential = !this.#preferDifferential;
    const daysBetweenFulls = [1, 7, 3, 14][this.#seed % 4]!;
    const backups = isGap ? 0 : 1 + this.#random(4);
    for (let index = 0; index < backups; index += 1) {
      const isFull = index === 0 && number % daysBetweenFulls === 0;
      if (this.#random(4) > 0) this.#highest += BigInt(1 + this.#random(50));
      this.#backUp(isFull || this.#random(40) === 0);
    }
    this.#clockMillis += 86_400_000;
  }

  #checksum(transaction: bigint): number {
    return checksumIn(this.#history, transaction);
  }

  /** The server was restored from something older and went another way from there. */
  #setBack(): void {
    const back = BigInt(this.#random(Number(this.#highest / 2n) + 1));
    this.#highest -= back;
    this.#salts += 1;
    const from = this.#highest + 1n;
    this.#history = [...this.#history.filter((part) => part.from < from), { from, salt: this.#salts }];
  }

  #replaceStore(): void {
    this.#stores += 1;
    this.#salts += 1;
    this.#highest = BigInt(1 + this.#random(20));
    this.#history = [{ from: 0n, salt: this.#salts }];
  }

  #isParent(candidate: ArtifactSummary): boolean {
    const { highestTransaction: end } = candidate;
    const isOurs = candidate.storeKey === `store ${this.#stores}` && end > 0n;
    return isOurs && end <= this.#highest && candidate.highestChecksum === this.#checksum(end);
  }

  #backUp(full: boolean): void {
    const latest = (artifacts: ArtifactSummary[]): ArtifactSummary | undefined =>
      artifacts.reduce<ArtifactSummary | undefined>(
        (best, next) => (best === undefined || next.time! > best.time! ? next : best),
        undefined,
      );
    const parents = [...this.remaining].filter((candidate) => this.#isParent(candidate));
    const preferred = this.#preferDifferential
      ? latest(parents.filter((candidate) => !candidate.full))
      : undefined;
    const parent = full ? undefined : (preferred ?? latest(parents));
    const isEmpty = parent?.highestTransaction === this.#highest;
    const mark = parent?.highestTransaction ?? 0n;
    // Never two in one second, and never after the end of the day.
    this.#lastMillis = Math.max(this.#lastMillis + 1000, this.#clockMillis + this.#random(14) * 3_600_000);
    const made = summaryOfText('F1', 0, {
      path: `/backups/${new Date(this.#lastMillis).toISOString()}.backup`,
      time: new Date(this.#lastMillis),
      full: parent === undefined,
      storeKey: `store ${this.#stores}`,
      lowestTransaction: isEmpty ? 0n : mark + 1n,
      highestTransaction: isEmpty ? 0n : this.#highest,
      highestChecksum: this.#checksum(this.#highest),
      ...(parent === undefined ? {} : { parent: { appendIndex: mark, checksum: this.#checksum(mark) } }),
    });
    histories.set(made, this.#history);
    this.remaining.add(made);
    if (isEmpty) return;
    this.made += 1;
    this.ledger.add(made);
  }
}

/** Asked millions of times. */
const endTexts = new WeakMap<ArtifactSummary, string>();
const parentTexts = new WeakMap<ArtifactSummary, string>();
function remembered(
  texts: WeakMap<ArtifactSummary, string>,
  artifact: ArtifactSummary,
  make: () => string,
): string {
  const known = texts.get(artifact) ?? make();
  texts.set(artifact, known);
  return known;
}
const markText = (artifact: ArtifactSummary): string =>
  remembered(endTexts, artifact, () => {
    return `${artifact.storeKey}/${artifact.highestTransaction}/${artifact.highestChecksum}`;
  });
const parentText = (artifact: ArtifactSummary): string =>
  remembered(parentTexts, artifact, () => {
    return `${artifact.storeKey}/${artifact.parent!.appendIndex}/${artifact.parent!.checksum}`;
  });

/** The differential holds the last transaction of the full artifact. */
function goesOnFrom(differential: ArtifactSummary, full: ArtifactSummary, isProven: Proof): boolean {
  const end = full.highestTransaction;
  const isInside = differential.parent!.appendIndex < end && end <= differential.highestTransaction;
  return isInside && full.storeKey === differential.storeKey && isProven(differential, full);
}

/** What a sure chain leads to, found the slow way: again and again until nothing new comes. */
function restorable(artifacts: Iterable<ArtifactSummary>, isProven: Proof): Set<ArtifactSummary> {
  const waiting = [...artifacts];
  const fulls = waiting.filter(({ full }) => full);
  const found = new Set<ArtifactSummary>();
  const ends = new Set<string>();
  for (let before = -1; before !== found.size; ) {
    before = found.size;
    for (const artifact of waiting) {
      if (found.has(artifact)) continue;
      const isReached =
        artifact.full ||
        ends.has(parentText(artifact)) ||
        fulls.some((full) => goesOnFrom(artifact, full, isProven));
      if (!isReached) continue;
      found.add(artifact);
      if (artifact.highestTransaction > 0n) ends.add(markText(artifact));
    }
  }
  return found;
}

/** The rules once more, from the calendar's side: which period does a moment lie in? */
const PERIOD_OF: Record<Exclude<keyof RetentionPolicy, 'within'>, (time: Date) => string | number> = {
  last: (time) => time.getTime(),
  hourly: (time) => Math.floor(time.getTime() / 3_600_000),
  daily: (time) => time.toISOString().slice(0, 10),
  weekly: (time) => Math.floor((time.getTime() / 86_400_000 + 3) / 7), // day 0 was a Thursday
  monthly: (time) => time.toISOString().slice(0, 7),
  yearly: (time) => time.toISOString().slice(0, 4),
};

/** What must be there: of all points ever made, the newest of each of the last n periods that had any. */
class Ledger {
  readonly #points: ArtifactSummary[] = [];
  readonly #newest = new Map(
    Object.keys(PERIOD_OF).map((rule) => [rule, new Map<string | number, ArtifactSummary>()]),
  );

  /** Points come in the order of their times. */
  add(point: ArtifactSummary): void {
    this.#points.push(point);
    for (const [rule, periodOf] of Object.entries(PERIOD_OF)) {
      this.#newest.get(rule)!.set(periodOf(point.time!), point);
    }
  }

  promised(policy: RetentionPolicy): Set<ArtifactSummary> {
    const points = new Set([this.#points.at(-1)!]);
    for (const [rule, newest] of this.#newest) {
      const count = policy[rule as keyof typeof PERIOD_OF] ?? 0;
      for (const point of [...newest.values()].slice(count === 0 ? newest.size : -count)) points.add(point);
    }
    const { within } = policy;
    if (within === undefined) return points;
    const ageMillis = (within.days * 24 + within.hours) * 3_600_000;
    const earliestMillis = this.#points.at(-1)!.time!.getTime() - ageMillis;
    for (const point of this.#points) if (point.time!.getTime() >= earliestMillis) points.add(point);
    return points;
  }
}

/** Whatever is there beyond the promise is there because something promised builds on it. */
function assertNothingIdle(
  remaining: ReadonlySet<ArtifactSummary>,
  points: ReadonlySet<ArtifactSummary>,
  isProven: Proof,
): void {
  const used = new Set(points);
  for (const at of used) {
    if (at.full) continue;
    for (const base of remaining) {
      if (base.highestTransaction === 0n) continue;
      if (markText(base) === parentText(at) || (base.full && goesOnFrom(at, base, isProven))) used.add(base);
    }
  }
  const ends = new Set([...used].map(markText));
  for (const artifact of remaining) {
    const isEmpty = artifact.highestTransaction === 0n;
    const isUsed = isEmpty ? ends.has(parentText(artifact)) : used.has(artifact);
    assert.ok(isUsed, `${artifact.path} is kept for nothing`);
    if (isEmpty || points.has(artifact) || !artifact.full) continue;
    const left = restorable(
      [...remaining].filter((other) => other !== artifact),
      isProven,
    );
    assert.ok(
      ![...points].every((point) => left.has(point)),
      `${artifact.path} is not needed for anything promised`,
    );
  }
}

/** Behind each artifact that stays, the newest empty differential stays, and no other. */
function assertNewestEmpties(
  remaining: ReadonlySet<ArtifactSummary>,
  removed: readonly ArtifactSummary[],
): void {
  const isEmpty = (artifact: ArtifactSummary): boolean => artifact.highestTransaction === 0n;
  const stays = new Map([...remaining].filter(isEmpty).map((empty) => [parentText(empty), empty]));
  assert.equal(stays.size, [...remaining].filter(isEmpty).length, 'one of each');
  const ends = new Set([...remaining].filter((artifact) => !isEmpty(artifact)).map(markText));
  for (const gone of removed.filter(isEmpty)) {
    if (!ends.has(parentText(gone))) continue;
    const newer = stays.get(parentText(gone));
    assert.ok(newer !== undefined && newer.time! > gone.time!, `${gone.path} was the newest`);
  }
}

function applyPolicy(simulation: Simulation, policy: RetentionPolicy, isProven: Proof): void {
  const { remaining, now, ledger } = simulation;
  const before = [...remaining];
  const { kept, removed, orphans } = planRetention(before, policy, now, { isProven });
  assert.deepEqual(orphans, [], 'nothing that a deletion could have made an orphan');
  assert.equal(restorable(before, isProven).size, before.length);
  for (const [done, artifact] of removed.entries()) {
    assert.ok(remaining.delete(artifact));
    const whole = restorable(remaining, isProven).size === remaining.size;
    assert.ok(whole, `after ${done + 1} deletions, something that is left cannot be restored`);
  }
  assert.equal(kept.length, remaining.size);
  assert.ok(kept.every(({ artifact }) => remaining.has(artifact)));
  assertNewestEmpties(remaining, removed);
  const points = ledger.promised(policy);
  for (const point of points) assert.ok(remaining.has(point), `${point.path} was promised`);
}

/** Nothing is kept for nothing, applying the policy again changes nothing, and a restore finds its chains. */
function assertSettled(simulation: Simulation, policy: RetentionPolicy, isProven: Proof): void {
  const { remaining, now, ledger } = simulation;
  assertNothingIdle(remaining, ledger.promised(policy), isProven);
  const again = planRetention([...remaining], policy, now, { isProven });
  assert.deepEqual(again.removed, [], 'the second time changes nothing');
  assertRestoreFindsChains(remaining, isProven);
}

/** The same asked of the functions that a restore uses. */
function assertRestoreFindsChains(remaining: ReadonlySet<ArtifactSummary>, isProven: Proof): void {
  const isSure = ({ full, differentials: [first, ...others] }: Chain): boolean => {
    if (first === undefined) return true;
    const isJoined = follows(first, full) || goesOnFrom(first, full, isProven);
    return isJoined && others.every((next, index) => follows(next, others[index - 1] ?? first));
  };
  for (const group of groupArtifacts([...remaining])) {
    for (const tip of group.artifacts) {
      if (isEmptyDifferential(tip)) continue;
      assert.ok(chainsTo(tip, group.artifacts).some(isSure), tip.path);
    }
  }
}

describe('two years of backups', () => {
  const POLICIES: RetentionPolicy[] = [
    { daily: 7, weekly: 4, monthly: 6 },
    { last: 1 },
    { last: 5, yearly: 2 },
    { hourly: 30, weekly: 3 },
    { within: parseAge('20d') },
    { within: parseAge('36h'), daily: 10, monthly: 3 },
    { monthly: 12, yearly: 5 },
    { weekly: 8, last: 3, hourly: 5 },
  ];
  const DAYS = 731;
  /** Each schedule of the simulation once with overlaps that nobody has read and once with proven ones. */
  for (const [seed, policy] of POLICIES.entries()) {
    const isProven = seed < 4 ? UNKNOWN : KNOWN;
    // Every day one at a time, or three days in one go, where the order of deletion matters more.
    const every = 1 + (seed % 3);
    test(`seed ${seed}: ${JSON.stringify(policy)}`, () => {
      const simulation = new Simulation(seed);
      let most = 0;
      for (let day = 0; day < DAYS; day += 1) {
        simulation.day(day);
        if (simulation.made === 0 || day % every > 0) continue;
        applyPolicy(simulation, policy, isProven);
        most = Math.max(most, simulation.remaining.size);
        // Slower than all the rest, and what is wrong here on one day is wrong on the next.
        if (day % 24 === 0) assertSettled(simulation, policy, isProven);
      }
      assert.ok(simulation.made > 1000, `only ${simulation.made} points`);
      assert.ok(most < simulation.made / 4, `${most} of ${simulation.made} were there at once`);
    });
  }
});
