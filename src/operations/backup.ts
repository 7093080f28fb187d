/**
 * `database backup`: one artifact of one database, full or differential, taken while a server runs or from files at
 * rest. Decides which of the two it is, and begins anew when the server was faster.
 */
import { encryptsArtifacts } from '../artifact/encryption.ts';
import type { ArtifactSummary } from '../chain/summary.ts';
import { GraphkeepError } from '../errors.ts';
import { type BackupSource, localSource } from '../hotcopy/source.ts';
import { BACKUP_ATTEMPTS_MAX } from '../limits.ts';
import { BackupPlaces } from './backupplaces.ts';
import { findCommonParent, type PlacedOptions, takeDifferential } from './differential.ts';
import { takeFullBackup } from './fullbackup.ts';
import type { ArtifactBackup, BackupOptions, BackupResult, DatabaseFolders, FullBecause } from './types.ts';

/** Backs up one database of this host. @throws GraphkeepError */
export function backupDatabase(folders: DatabaseFolders, options: BackupOptions): Promise<BackupResult> {
  return backupFrom(localSource(folders), options);
}

/** Backs up one database. Retries from the start when the server overtook the copy. @throws GraphkeepError */
export async function backupFrom(source: BackupSource, options: BackupOptions): Promise<BackupResult> {
  const startedMs = performance.now();
  const places = await BackupPlaces.open(options);
  try {
    const { taken, attempts } = await takeBackupWithRetries(source, { ...options, places });
    const result = resultOf(source, taken, attempts, Math.round(performance.now() - startedMs));
    return places.areSeveral ? { ...result, places: places.results } : result;
  } finally {
    places.release();
  }
}

async function takeBackupWithRetries(
  source: BackupSource,
  options: PlacedOptions,
): Promise<{ taken: TakenBackup; attempts: number }> {
  for (let attempts = 1; ; attempts++) {
    try {
      return { taken: await takeBackup(source, options), attempts };
    } catch (error) {
      if (!mayStartAnew(error) || attempts >= BACKUP_ATTEMPTS_MAX) throw error;
      options.listener?.notice(`${error.message}; the copy starts anew`);
    }
  }
}

/** The server overtook the copy, or the backup server was started anew and does not know this backup any more. */
function mayStartAnew(error: unknown): error is GraphkeepError {
  return (
    error instanceof GraphkeepError && (error.code === 'GK_SOURCE_MOVED' || error.code === 'GK_SESSION_LOST')
  );
}

interface TakenBackup {
  readonly artifact: ArtifactBackup;
  readonly parentPath?: string;
  readonly fullBecause?: FullBecause;
}

async function takeBackup(source: BackupSource, options: PlacedOptions): Promise<TakenBackup> {
  if (options.type === 'FULL') return { artifact: await takeFullBackup(source, options) };
  const log = await source.openLog(options.signal);
  try {
    const parent = await findCommonParent(log, source, options);
    if ('artifact' in parent) {
      noticeUnencrypted(parent.artifact, options);
      return {
        artifact: await takeDifferential(log, parent, source, options),
        parentPath: parent.artifact.path,
      };
    }
    refuseUnlessFullMayBeTaken(parent, options);
    await log.close();
    if (parent.reason !== 'noChain') options.listener?.notice(`a full backup is taken: ${parent.message}`);
    return { artifact: await takeFullBackup(source, options), fullBecause: parent };
  } finally {
    await log.close();
  }
}

/** Somebody who encrypted yesterday does most likely not mean to stop it today. */
function noticeUnencrypted({ path, encrypted }: ArtifactSummary, { listener }: BackupOptions): void {
  if (encrypted === undefined || encryptsArtifacts()) return;
  listener?.notice(`${path} is encrypted, and what follows it will not be: give --encrypt-to as before`);
}

/** Asked for a differential, a full one instead may take hours and the space of a night: only if that is wanted. */
function refuseUnlessFullMayBeTaken(because: FullBecause, options: BackupOptions): void {
  if (options.type !== 'DIFF' || options.fallbackToFull) return;
  throw new GraphkeepError('GK_NO_PARENT', `no differential backup is possible: ${because.message}`);
}

function resultOf(
  source: BackupSource,
  { artifact, parentPath, fullBecause }: TakenBackup,
  attempts: number,
  durationMs: number,
): BackupResult {
  const { members, ...facts } = artifact;
  const bytesOf = (kinds: readonly string[]): number =>
    members.filter((member) => kinds.includes(member.kind)).reduce((sum, member) => sum + member.bytes, 0);
  return {
    database: source.name,
    kind: parentPath === undefined ? 'full' : 'differential',
    ...facts,
    memberBytes: bytesOf(['store', 'log', 'checkpoint']),
    memberCount: members.length,
    storeBytes: bytesOf(['store']),
    logBytes: bytesOf(['log', 'checkpoint']),
    ...(parentPath === undefined ? {} : { parentPath }),
    ...(fullBecause === undefined ? {} : { fullBecause }),
    attempts,
    durationMs,
  };
}
