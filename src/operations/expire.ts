/**
 * `backup expire`: removes the artifacts of a folder that a retention policy does not keep. What is kept is decided by
 * src/chain/retention.ts; this file owns when it may be acted upon: under the lease of the folder, on a catalogue that was
 * read under it, not while something looks wrong, and in an order that a kill at any moment leaves harmless.
 */
import { basename } from 'node:path';
import { type Catalogue, readCatalogue, type UnreadableArtifact } from '../chain/catalogue.ts';
import {
  buildsOn,
  checkPolicy,
  type KeptArtifact,
  planRetention,
  type RetentionPlan,
  type RetentionPolicy,
} from '../chain/retention.ts';
import type { ArtifactSummary } from '../chain/summary.ts';
import { GraphkeepError, throwIfAborted, wrapSystemError } from '../errors.ts';
import { EXPIRE_ATTEMPTS_MAX } from '../limits.ts';
import { databaseMatcher } from '../neo4j/glob.ts';
import { acquireLease } from '../storage/lease.ts';
import { removeArtifact, syncFolder } from '../storage/places.ts';
import { listConfigurationArtifacts } from './configurationnames.ts';
import {
  type ConfigurationExpiry,
  type ConfigurationPlan,
  planConfigurations,
  removeConfigurations,
} from './expireconfigurations.ts';
import { type Overlap, OverlapProofs } from './overlapproofs.ts';
import { refuseUnopened } from './plan.ts';
import type { OperationContext } from './types.ts';
import { validateArtifact } from './validate.ts';

export const SIZE_DROP_PERCENT_DEFAULT = 50;

export interface ExpireOptions extends OperationContext {
  /** The folder of the artifacts. */
  readonly directory: string;
  /** Name or pattern; all databases of the folder when absent. */
  readonly database?: string;
  readonly policy: RetentionPolicy;
  /** false: only the plan is made. */
  readonly confirm: boolean;
  /** 1 to 100: a newest full artifact that lost more than this against the one before it is suspicious. */
  readonly sizeDropPercent?: number;
  /** Act although the newest full artifact is suspiciously small. */
  readonly allowSmaller?: boolean;
  readonly removeOrphans?: boolean;
  /** Read every byte of the newest full artifact that is kept before anything is removed. */
  readonly verify?: boolean;
  /** The moment the policy is applied at; the clock's when absent. */
  readonly now?: Date;
  readonly leaseWaitMs?: number;
}

export interface ExpireDatabaseResult {
  readonly database: string;
  /** Newest first. */
  readonly kept: readonly KeptArtifact[];
  /** What the policy does not keep, in the order of deletion. */
  readonly planned: readonly ArtifactSummary[];
  /** The part of `planned` that is gone; empty without `confirm`. */
  readonly removed: readonly ArtifactSummary[];
  readonly orphans: readonly ArtifactSummary[];
  readonly warnings: readonly string[];
  /** Why not all of `planned` was removed. */
  readonly error?: GraphkeepError;
}

export interface ExpireResult {
  readonly confirmed: boolean;
  /** By name. */
  readonly databases: readonly ExpireDatabaseResult[];
  readonly configurations: ConfigurationExpiry;
  /** Never touched; nobody knows whose they are. */
  readonly unreadable: readonly UnreadableArtifact[];
}

interface DatabasePlan extends RetentionPlan {
  readonly database: string;
  /** Why the newest full artifact is suspicious. */
  readonly suspicion: string | undefined;
  readonly warnings: readonly string[];
  /** Overlaps that nobody has read and that would change what is removed. */
  readonly unread: readonly Overlap[];
}

/** What lies in the folder. */
interface Folder extends Catalogue {
  /** Paths, the newest first. */
  readonly configurations: readonly string[];
}

interface FolderPlan {
  readonly databases: readonly DatabasePlan[];
  readonly configurations: ConfigurationPlan;
  readonly unreadable: readonly UnreadableArtifact[];
}

/** What was found by reading artifacts holds for the whole run. */
interface ExpireRun {
  readonly options: ExpireOptions;
  /** By path: why a full artifact is not valid. */
  readonly verdicts: Map<string, GraphkeepError | undefined>;
  readonly overlaps: OverlapProofs;
}

/**
 * Applies a policy to every database of a folder, each on its own: what keeps one from being done is its `error`.
 * @throws GK_USAGE; GK_NOT_FOUND when the folder has no artifact of the database; GK_IN_USE while a backup runs;
 * GK_NO_PERMISSION or GK_UNSUPPORTED where there can be no lease; GK_INTERRUPTED before anything was removed
 */
export async function expireArtifacts(options: ExpireOptions): Promise<ExpireResult> {
  checkOptions(options);
  const run: ExpireRun = { options, verdicts: new Map(), overlaps: new OverlapProofs() };
  for (let attempt = 1; attempt <= EXPIRE_ATTEMPTS_MAX; attempt++) {
    const plan = await makeProvenPlan(run);
    if (!options.confirm || isNothingToRemove(plan)) {
      return resultOf(plan, options, new Map());
    }
    // Before the lease is taken, since it takes as long as reading a backup does, and backups would have to wait.
    await verifyNewest(plan, run);
    const result = await removeUnderLease(run, attempt === EXPIRE_ATTEMPTS_MAX);
    if (result !== undefined) return result;
  }
  throw new GraphkeepError(
    'GK_IN_USE',
    `${options.directory} got a new full artifact each time the newest one had been verified`,
    { hint: 'run the command again' },
  );
}

function isNothingToRemove({ databases, configurations }: FolderPlan): boolean {
  return configurations.planned.length === 0 && databases.every(({ removed }) => removed.length === 0);
}

async function readFolder({ directory, signal }: ExpireOptions): Promise<Folder> {
  const configurations = await listConfigurationArtifacts(directory);
  return { ...(await readCatalogue(directory, signal)), configurations };
}

function checkOptions(options: ExpireOptions): void {
  checkPolicy(options.policy);
  const percent = options.sizeDropPercent ?? SIZE_DROP_PERCENT_DEFAULT;
  if (!(percent >= 1 && percent <= 100)) {
    throw new GraphkeepError('GK_USAGE', `the size drop is a percentage from 1 to 100, not ${percent}`);
  }
}

/**
 * undefined when there are artifacts now that have to be read first: nothing long is read under the lease. An overlap may
 * stay unread in the end, since what is not proven is only kept for longer.
 */
async function removeUnderLease(run: ExpireRun, isLast: boolean): Promise<ExpireResult | undefined> {
  const { options, verdicts } = run;
  const lease = await acquireLease(options.directory, 'exclusive', {
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    ...(options.leaseWaitMs === undefined ? {} : { waitMs: options.leaseWaitMs }),
  });
  try {
    // A backup may have ended since the first look, and its parent must stay.
    const plan = planFolder(await readFolder(options), run);
    if (!isLast && unreadOf(plan).length > 0) return undefined;
    if (options.verify === true && !toBeVerified(plan).every(({ path }) => verdicts.has(path))) {
      return undefined;
    }
    const outcomes = new Map<string, RemovalOutcome>();
    for (const database of plan.databases) {
      const refusal = refusalOf(database, run);
      const outcome =
        refusal === undefined ? await removeInOrder(database, options) : { removed: [], error: refusal };
      outcomes.set(database.database, outcome);
    }
    const failed = [...outcomes.values()].some(({ error }) => error !== undefined);
    // A backup that was to go and stays is one that a configuration may lie next to.
    const configurations = failed
      ? undefined
      : await removeConfigurations(plan.configurations, options.directory, options);
    return resultOf(plan, options, outcomes, configurations);
  } finally {
    lease.release();
  }
}

async function makeProvenPlan(run: ExpireRun): Promise<FolderPlan> {
  const { options, overlaps } = run;
  const folder = await readFolder(options);
  const plan = planFolder(folder, run);
  const unread = unreadOf(plan);
  if (unread.length === 0) return plan;
  await overlaps.read(unread, options);
  return planFolder(folder, run);
}

function unreadOf({ databases }: FolderPlan): Overlap[] {
  return databases.flatMap(({ unread }) => unread);
}

function planFolder(folder: Folder, run: ExpireRun): FolderPlan {
  const { options } = run;
  // Nobody knows what they build on, and without it they are lost.
  refuseUnopened(folder, `nothing is removed from ${options.directory}`);
  const { unreadable } = folder;
  const byName = Map.groupBy(folder.artifacts, ({ database }) => database.toLowerCase());
  const matches = options.database === undefined ? () => true : databaseMatcher(options.database);
  const names = [...byName.keys()].filter((name) => matches(name)).toSorted();
  if (names.length === 0) throw nothingFound(options, folder);
  const now = options.now ?? new Date();
  const databases = names.map((name) => planDatabase(name, byName.get(name)!, unreadable, now, run));
  const isAllKnown = options.database === undefined && unreadable.length === 0;
  const kept = databases.flatMap((database) => database.kept.map(({ artifact }) => artifact));
  const configurations = planConfigurations(folder.configurations, isAllKnown ? kept : undefined);
  return { databases, configurations, unreadable };
}

function nothingFound(options: ExpireOptions, { unreadable }: Catalogue): GraphkeepError {
  const whose = options.database === undefined ? '' : ` of database '${options.database}'`;
  const files = unreadable.length === 0 ? '' : `, and ${unreadable.length} that cannot be read`;
  return new GraphkeepError('GK_NOT_FOUND', `no artifact${whose} in ${options.directory}${files}`);
}

function planDatabase(
  database: string,
  artifacts: readonly ArtifactSummary[],
  unreadable: readonly UnreadableArtifact[],
  now: Date,
  { options, overlaps }: ExpireRun,
): DatabasePlan {
  // A file that cannot be read may be the very one that leads to what looks like an orphan.
  const removeOrphans = options.removeOrphans === true && unreadable.length === 0;
  const planWith = (holds: (overlap: Overlap) => boolean): RetentionPlan =>
    planRetention(artifacts, options.policy, now, {
      removeOrphans,
      isProven: (differential, full) => holds({ differential, full }),
    });
  const { plan, unread } = planAsFarAsKnown(planWith, overlaps);
  const percent = options.sizeDropPercent ?? SIZE_DROP_PERCENT_DEFAULT;
  const suspicion = plan.removed.length === 0 ? undefined : sizeDrop(artifacts, percent, now);
  const warnings = suspicion === undefined ? [] : [suspicion];
  if (options.removeOrphans === true && !removeOrphans && plan.orphans.length > 0) {
    warnings.push('orphans stay, because a file of the folder cannot be read: it may be what leads to them');
  }
  warnings.push(...artifacts.flatMap((artifact) => overlaps.problemOf(artifact) ?? []));
  return { ...plan, database, suspicion, warnings, unread };
}

/**
 * As long as an overlap is not known to hold or not to hold, only what neither would need is removed. Those that were never
 * read are to be read only if that would make a difference: most runs find nothing to remove, or only whole old chains,
 * and need not read a differential for each full artifact.
 */
function planAsFarAsKnown(
  planWith: (holds: (overlap: Overlap) => boolean) => RetentionPlan,
  overlaps: OverlapProofs,
): { plan: RetentionPlan; unread: readonly Overlap[] } {
  const unknown: Overlap[] = [];
  const plan = planWith((overlap) => {
    const verdict = overlaps.verdictOn(overlap);
    if (verdict === undefined) unknown.push(overlap);
    return verdict === true;
  });
  if (unknown.length === 0) return { plan, unread: [] };
  const other = planWith((overlap) => overlaps.verdictOn(overlap) !== false);
  const cautious = keepingBoth(plan, other);
  const isSame = [plan, other].every(({ removed }) => removed.length === cautious.removed.length);
  const unread = unknown.filter(({ differential }) => overlaps.problemOf(differential) === undefined);
  return { plan: cautious, unread: isSame ? [] : unread };
}

/** What either of two plans for the same artifacts keeps; each keeps whole chains, so both together do. */
function keepingBoth(plan: RetentionPlan, other: RetentionPlan): RetentionPlan {
  const alsoRemoved = new Set(other.removed);
  const removed = new Set(plan.removed);
  const also = other.kept.filter(({ artifact }) => removed.has(artifact));
  const ageOf = ({ artifact }: KeptArtifact): number => artifact.time?.getTime() ?? 0;
  return {
    kept: [...plan.kept, ...also].sort((left, right) => ageOf(right) - ageOf(left)),
    removed: plan.removed.filter((artifact) => alsoRemoved.has(artifact)),
    orphans: plan.orphans,
  };
}

/** Files as they are restored, since whether they were compressed says nothing about the database. */
function sizeDrop(artifacts: readonly ArtifactSummary[], percent: number, now: Date): string | undefined {
  const [newest, before] = artifacts
    .filter(({ full, indexed, time }) => full && indexed && time !== undefined && time <= now)
    .toSorted((left, right) => right.time!.getTime() - left.time!.getTime());
  if (newest === undefined || before === undefined) return undefined;
  const newestBytes = newest.memberBytes ?? newest.bytes;
  const beforeBytes = before.memberBytes ?? before.bytes;
  if (newestBytes * 100 >= beforeBytes * (100 - percent)) return undefined;
  return (
    `the newest full artifact ${basename(newest.path)} holds ${newestBytes} bytes, ` +
    `the one before it, ${basename(before.path)}, ${beforeBytes}: more than ${percent} % is gone`
  );
}

/** The newest full artifact of each database from which something goes. */
function toBeVerified(plan: FolderPlan): ArtifactSummary[] {
  return plan.databases.flatMap(({ kept, removed }) => {
    const newest = kept.find(({ artifact }) => artifact.full && artifact.indexed)?.artifact;
    return newest === undefined || removed.length === 0 ? [] : [newest];
  });
}

async function verifyNewest(plan: FolderPlan, { options, verdicts }: ExpireRun): Promise<void> {
  if (options.verify !== true) return;
  for (const { path } of toBeVerified(plan)) {
    if (verdicts.has(path)) continue;
    const { valid, problems } = await validateArtifact(path, options);
    verdicts.set(path, valid ? undefined : notValid(path, problems));
  }
}

function notValid(path: string, problems: readonly string[]): GraphkeepError {
  return new GraphkeepError(
    'GK_ARTIFACT_CORRUPT',
    `nothing was removed: the newest full artifact ${path} is not valid: ${problems[0]}`,
    { hint: 'take a new full backup first' },
  );
}

function refusalOf(plan: DatabasePlan, { options, verdicts }: ExpireRun): GraphkeepError | undefined {
  if (plan.removed.length === 0) return undefined;
  if (plan.suspicion !== undefined && options.allowSmaller !== true) {
    return new GraphkeepError('GK_SUSPICIOUS', `nothing was removed: ${plan.suspicion}`, {
      hint: 'look at the newest backup first; --allow-smaller acts all the same',
    });
  }
  const failed = plan.kept.find(({ artifact }) => verdicts.get(artifact.path) !== undefined);
  return failed === undefined ? undefined : verdicts.get(failed.artifact.path);
}

interface RemovalOutcome {
  readonly removed: readonly ArtifactSummary[];
  readonly error?: GraphkeepError;
}

/**
 * Deletes what is planned, dependents first. The folder is synced before an artifact goes on which something deleted
 * since the last sync was built: otherwise a power failure could bring back the differential and not what it needs.
 * That is one sync for each link of the longest chain, not one for each file.
 */
async function removeInOrder(plan: DatabasePlan, options: ExpireOptions): Promise<RemovalOutcome> {
  const removed: ArtifactSummary[] = [];
  let unsynced: ArtifactSummary[] = [];
  try {
    for (const artifact of plan.removed) {
      throwIfAborted(options.signal);
      if (unsynced.some((gone) => buildsOn(gone, artifact))) {
        await syncRemovals(options.directory);
        unsynced = [];
      }
      await removeArtifact(artifact.path).catch((error: unknown) => {
        throw wrapSystemError(error, `remove ${artifact.path}`);
      });
      removed.push(artifact);
      unsynced.push(artifact);
    }
    await syncRemovals(options.directory);
    return { removed };
  } catch (error) {
    // What depends on the file that could not be removed is gone already, so to stop here leaves only whole chains.
    return { removed, error: removalError(error, removed.length, plan) };
  }
}

function removalError(error: unknown, removedCount: number, plan: DatabasePlan): GraphkeepError {
  const cause = wrapSystemError(error, `remove artifacts of ${plan.database}`);
  const message = `${cause.message}; ${removedCount} of ${plan.removed.length} artifacts were removed`;
  const hint =
    cause.code === 'GK_INTERRUPTED'
      ? 'all that is left can be restored; run the command again to remove the rest'
      : cause.hint;
  return new GraphkeepError(cause.code, message, { hint, cause });
}

async function syncRemovals(directory: string): Promise<void> {
  await syncFolder(directory).catch((error: unknown) => {
    throw wrapSystemError(error, `write the folder ${directory} to disk`);
  });
}

function resultOf(
  plan: FolderPlan,
  options: ExpireOptions,
  outcomes: ReadonlyMap<string, RemovalOutcome>,
  configurations: ConfigurationExpiry = { ...plan.configurations, removed: [] },
): ExpireResult {
  const databases = plan.databases.map(({ database, kept, removed: planned, orphans, warnings }) => {
    const outcome = outcomes.get(database) ?? { removed: [] };
    return { database, kept, planned, orphans, warnings, ...outcome };
  });
  return { confirmed: options.confirm, databases, configurations, unreadable: plan.unreadable };
}
