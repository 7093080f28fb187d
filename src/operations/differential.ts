/**
 * A differential artifact: the transactions after its parent's highest one. First it is decided which artifact of the
 * folder can be the parent (commands.md §2.3), and whether the server still has everything that comes after it.
 */
import { basename } from 'node:path';
import type { IndexFacts } from '../artifact/writer.ts';
import { type Catalogue, readCatalogue } from '../chain/catalogue.ts';
import { chainsTo, leavesOf } from '../chain/chains.ts';
import { type ArtifactSummary, newestFirst, storeKeyOf } from '../chain/summary.ts';
import type { ArtifactDescriptor } from '../formats/artifact/descriptor.ts';
import { writePosition } from '../formats/artifact/index.ts';
import { databaseIdOf, formatUuid, type Neostore } from '../formats/neostore.ts';
import type { LogPosition } from '../formats/txlog/checkpoint.ts';
import type { LogSource, Search } from '../hotcopy/logafter.ts';
import type { BackupSource } from '../hotcopy/source.ts';
import type { TailFacts } from '../hotcopy/tail.ts';
import { VERSION } from '../version.ts';
import { ArtifactFile, propertiesOf } from './artifactfile.ts';
import type { BackupPlaces } from './backupplaces.ts';
import { byteProgress } from './byteprogress.ts';
import { RateLimit } from './ratelimit.ts';
import type { ArtifactBackup, BackupOptions, FullBecause } from './types.ts';

/** An artifact that can be followed, and where its last transaction lies in the log of the server. */
export interface FollowableParent {
  readonly artifact: ArtifactSummary;
  readonly position: LogPosition;
}

/** Of a backup whose places were found. */
export interface PlacedOptions extends BackupOptions {
  readonly places: BackupPlaces;
}

/**
 * The parent of the next differential where it goes to several places: it must follow the same artifact in each of them, or
 * it would be worth nothing in some.
 */
export async function findCommonParent(
  log: LogSource,
  source: BackupSource,
  options: PlacedOptions,
): Promise<FollowableParent | FullBecause> {
  const parents: FollowableParent[] = [];
  let because: FullBecause | undefined;
  for (const targetDirectory of options.places.directories) {
    const catalogue = await options.places.orFail(targetDirectory, () => readPlace(targetDirectory, options));
    if (catalogue === undefined) continue;
    const answer = await findParent(log, source, catalogue, { ...options, targetDirectory });
    if ('artifact' in answer) parents.push(answer);
    else because ??= answer;
  }
  const [first] = parents;
  if (first === undefined) return because!;
  if (because !== undefined)
    return { reason: 'placesDiffer', message: `${because.message}; ${endOf(first)}` };
  const other = parents.find((parent) => !endsAlike(parent.artifact, first.artifact));
  if (other === undefined) return first;
  return { reason: 'placesDiffer', message: `${endOf(first)}, but ${endOf(other)}` };
}

async function readPlace(directory: string, { signal, listener }: PlacedOptions): Promise<Catalogue> {
  const catalogue = await readCatalogue(directory, signal, 'withSealed');
  for (const { path, message } of catalogue.unreadable)
    listener?.notice(`${path} is passed over: ${message}`);
  return catalogue;
}

function endsAlike(left: ArtifactSummary, right: ArtifactSummary): boolean {
  return (
    left.highestTransaction === right.highestTransaction && left.highestChecksum === right.highestChecksum
  );
}

function endOf({ artifact }: Pick<FollowableParent, 'artifact'>): string {
  return `${artifact.path} ends with transaction ${artifact.highestTransaction}`;
}

/**
 * The parent of the next differential, or why there is none. With `preferDifferential` the newest differential comes
 * first, which keeps every transaction in differentials although full ones are taken in between.
 * @param catalogue of the target folder
 */
export async function findParent(
  log: LogSource,
  source: BackupSource,
  { artifacts, unreadable }: Catalogue,
  options: Pick<BackupOptions, 'preferDifferentialAsParent' | 'targetDirectory' | 'signal'>,
): Promise<FollowableParent | FullBecause> {
  const named = artifacts.filter(({ database }) => database.toLowerCase() === source.name.toLowerCase());
  const group = named.filter((artifact) => isOfStore(artifact, log.neostore));
  // Not simply the newest by time: where the clock was set back, an artifact that others follow may be that.
  const usable = leavesOf(group).toSorted(newestFirst);
  const newest = usable[0];
  if (newest === undefined) {
    const locked = unreadable.find(({ path, code }) => code === 'GK_KEY_MISSING' && isNamed(path, source));
    return locked === undefined
      ? nothingToFollow(source, options.targetDirectory, named.length > 0)
      : { reason: 'encrypted', message: `${locked.message}: ${WITHOUT_KEY}` };
  }
  const preferred = options.preferDifferentialAsParent ? usable.find(({ full }) => !full) : undefined;
  let because: FullBecause | undefined;
  for (const candidate of new Set([preferred ?? newest, newest])) {
    const answer = await tryParent(log, candidate, group, options.signal);
    if ('artifact' in answer) return answer;
    because ??= answer;
  }
  return because!;
}

const WITHOUT_KEY =
  'what follows it is told by --identity=<file>, or by the artifact itself if it was written with --clear-header';

/** By its name: nothing else is known of an artifact that is encrypted. */
function isNamed(path: string, { name }: BackupSource): boolean {
  return basename(path).toLowerCase().startsWith(`${name.toLowerCase()}-`);
}

function isOfStore(artifact: ArtifactSummary, neostore: Neostore): boolean {
  return (
    artifact.storeKey === storeKeyOf(neostore.storeId) &&
    artifact.databaseId === formatUuid(databaseIdOf(neostore))
  );
}

function nothingToFollow(source: BackupSource, directory: string, othersAreThere: boolean): FullBecause {
  return othersAreThere
    ? {
        reason: 'otherStore',
        message:
          `the artifacts of ${source.name} in ${directory} are of another store: ` +
          'the database was created anew, or is another one of that name',
      }
    : { reason: 'noChain', message: `there is no artifact of ${source.name} in ${directory} yet` };
}

async function tryParent(
  log: LogSource,
  artifact: ArtifactSummary,
  group: readonly ArtifactSummary[],
  signal: AbortSignal | undefined,
): Promise<FollowableParent | FullBecause> {
  const { path, highestTransaction, highestChecksum } = artifact;
  if (highestChecksum === undefined) {
    return {
      reason: 'foreign',
      message: `${path} was written by another tool and does not say what follows it`,
    };
  }
  if (chainsTo(artifact, group).length === 0) {
    return { reason: 'chainBroken', message: `no full artifact leads to ${path}` };
  }
  const mark = { appendIndex: highestTransaction, checksum: highestChecksum };
  const search = await log.find(mark, artifact.end, signal);
  return search.status === 'found' ? { artifact, position: search.position } : unfollowable(artifact, search);
}

function unfollowable(artifact: ArtifactSummary, search: Exclude<Search, { status: 'found' }>): FullBecause {
  const ends = endOf({ artifact });
  if (search.status === 'pruned') {
    const message =
      `${ends}, and the server has pruned its log up to ${search.lowestAvailable - 1n}: back up more often, ` +
      'or raise db.tx_log.rotation.retention_policy';
    return { reason: 'pruned', message };
  }
  return {
    reason: 'diverged',
    message: `${ends}, which the log of the server does not hold: it was set back`,
  };
}

/** @throws GK_SOURCE_MOVED when the server pruned what is needed meanwhile, GK_STORE_DAMAGED, … */
export async function takeDifferential(
  log: LogSource,
  parent: FollowableParent,
  source: BackupSource,
  options: PlacedOptions,
): Promise<ArtifactBackup> {
  const rate = new RateLimit(options.rateBytesPerSecond, options.signal, options.processorShare);
  const { highestTransaction, highestChecksum, latestCommit } = parent.artifact;
  const mark = { appendIndex: highestTransaction, checksum: highestChecksum! };
  // Before the log is read: the time of an artifact says up to when it knows what happened.
  const timeSeconds = BigInt(Math.floor(Date.now() / 1000));
  const commitTimeMillis = BigInt(latestCommit?.getTime() ?? 0);
  const tail = await log.readFrom(mark, parent.position, commitTimeMillis, options.signal);
  const members = await log.members();
  const totalBytes = members.reduce((sum, member) => sum + member.bytes, 0);
  const onBytes = byteProgress(options.listener, 'copying the log', totalBytes);
  const descriptor = describe(log, source, tail, timeSeconds, options);
  return ArtifactFile.create(
    { ...options, database: source.name, bytesExpected: totalBytes, onBytes },
    async (file) => {
      await file.writer.begin(descriptor);
      for (const member of members) await file.writer.addMember(rate.limited(member), options.signal);
      await file.finish(descriptor, indexFacts(parent, tail));
      const artifactPath = await file.publish(timeSeconds);
      return {
        artifactPath,
        artifactBytes: file.bytes,
        members: file.writer.members,
        lowestTransaction: descriptor.lowestAppendIndex,
        highestTransaction: descriptor.highestAppendIndex,
        transactionsAfterFence: tail.transactions,
        leftOut: [],
      };
    },
  );
}

function describe(
  log: LogSource,
  source: BackupSource,
  tail: TailFacts,
  timeSeconds: bigint,
  options: BackupOptions,
): ArtifactDescriptor {
  const { neostore } = log;
  const isEmpty = tail.transactions === 0n;
  return {
    storeId: neostore.storeId,
    databaseUuid: databaseIdOf(neostore),
    databaseName: source.name,
    timeSeconds,
    lowestAppendIndex: isEmpty ? 0n : tail.appendIndexBefore + 1n,
    highestAppendIndex: isEmpty ? 0n : tail.highestAppendIndex,
    recovered: false,
    compressed: options.compress,
    full: false,
    properties: propertiesOf(options.metadataScript),
  };
}

function indexFacts(parent: FollowableParent, tail: TailFacts): IndexFacts {
  const { highestTransaction, highestChecksum } = parent.artifact;
  return {
    writer: `graphkeep ${VERSION}`,
    parent: { appendIndex: String(highestTransaction), checksum: highestChecksum! },
    end: writePosition(tail.end),
    highestChecksum: tail.highestChecksum,
    latestCommitMillis: String(tail.latestCommitMillis),
    leftOut: [],
  };
}
