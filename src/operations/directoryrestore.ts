/**
 * Restore from a directory backup: the folder is a database at rest, so an artifact is taken of it, which proves its log,
 * and that one is restored. So the target is replaced in one step, with all the refusals of every other restore.
 */
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { GraphkeepError, wrapSystemError } from '../errors.ts';
import { databaseExists } from '../neo4j/swap.ts';
import { isLocked } from '../storage/locks.ts';
import { backupDatabase } from './backup.ts';
import { refuseOverlap, withDirectoryLocked } from './directoryfiles.ts';
import { readDirectoryEnd } from './directorystate.ts';
import { restoreDatabase } from './restore.ts';
import { withScratch } from './scratch.ts';
import type { RestoreOptions, RestoreResult } from './types.ts';

const SCRATCH_PREFIX = '.graphkeep-restore-';

export interface DirectoryRestoreOptions
  extends Pick<
    RestoreOptions,
    'target' | 'overwriteDestination' | 'scriptsDirectory' | 'signal' | 'listener'
  > {
  /** The directory backup. */
  readonly directory: string;
  /** An existing folder with room for an artifact; what is made in it is removed again. */
  readonly scratchDirectory: string;
  /** Remove the directory backup after it was restored. */
  readonly move: boolean;
}

/** @throws GK_NOT_FOUND when the folder is no backup; the target is then as it was. Otherwise as `restoreDatabase`. */
export async function restoreFromDirectory(options: DirectoryRestoreOptions): Promise<RestoreResult> {
  const { directory, target, move } = options;
  await refuseOverlap(directory, target);
  await refuseTarget(options);
  return withDirectoryLocked(directory, move ? 'exclusive' : 'shared', async () => {
    const end = await readDirectoryEnd(directory, options.signal);
    if ('reason' in end) {
      const code = end.reason === 'notABackup' ? 'GK_NOT_FOUND' : 'GK_STORE_DAMAGED';
      throw new GraphkeepError(code, `nothing was restored: ${end.message}`);
    }
    const result = await restoreByArtifact(options);
    if (move) await removeFolder(directory);
    return { ...result, database: target.name, artifactPath: directory };
  });
}

/** Asked again when it counts; here, so that nothing is copied in vain. */
async function refuseTarget({ target, overwriteDestination }: DirectoryRestoreOptions): Promise<void> {
  const serverLock = join(dirname(target.storeDirectory), 'store_lock');
  if (isLocked(serverLock)) {
    throw new GraphkeepError(
      'GK_IN_USE',
      `database ${target.name} is in use: a running Neo4j holds ${serverLock}`,
    );
  }
  if (overwriteDestination || !(await databaseExists(target))) return;
  throw new GraphkeepError(
    'GK_TARGET_EXISTS',
    `database with name [${target.name}] already exists: ${target.storeDirectory}`,
    { hint: 'give --force to replace it, or another --database' },
  );
}

async function restoreByArtifact(options: DirectoryRestoreOptions): Promise<RestoreResult> {
  const { directory, target, scratchDirectory } = options;
  const source = { name: target.name, storeDirectory: directory, logDirectory: directory };
  const form = { compress: true, compressionLevel: 1, keepFailed: false };
  const context = {
    ...(options.signal && { signal: options.signal }),
    ...(options.listener && { listener: options.listener }),
  };
  return withScratch(scratchDirectory, SCRATCH_PREFIX, async (scratch) => {
    const taken = { ...form, ...context, type: 'FULL', targetDirectory: scratch } as const;
    const { artifactPath } = await backupDatabase(source, taken);
    return restoreDatabase({ ...options, artifactPath });
  });
}

async function removeFolder(directory: string): Promise<void> {
  await rm(directory, { recursive: true }).catch((error: unknown) => {
    throw wrapSystemError(error, `remove ${directory}, which was restored`);
  });
}
