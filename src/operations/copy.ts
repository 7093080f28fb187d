/**
 * A database at rest, copied under another name. An artifact is taken of it, which proves its log, and that one is
 * restored: so the copy appears in one step, or not at all. Nothing is rewritten, it is the same store once more.
 */
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { GraphkeepError } from '../errors.ts';
import { databaseExists } from '../neo4j/swap.ts';
import { type FileLock, isLocked, tryLock } from '../storage/locks.ts';
import { backupDatabase } from './backup.ts';
import { withDirectoryLocked } from './directoryfiles.ts';
import { restoreDatabase } from './restore.ts';
import { withScratch } from './scratch.ts';
import type { BackupResult, DatabaseFolders, OperationContext } from './types.ts';

const SCRATCH_PREFIX = '.graphkeep-copy-';
const SYSTEM_DATABASE = 'system';

export interface CopyOptions extends OperationContext {
  readonly source: DatabaseFolders;
  /** Where nothing lies yet. */
  readonly target: DatabaseFolders;
  /** An existing folder with room for an artifact; what is made in it is removed again. */
  readonly scratchDirectory: string;
}

export interface CopyResult {
  readonly target: DatabaseFolders;
  readonly highestTransaction: bigint;
  /** Files of indexes that Neo4j builds anew in the copy. */
  readonly leftOut: readonly string[];
  readonly durationMs: number;
}

/**
 * @throws GK_IN_USE when a Neo4j has the source open, or runs where the copy goes, GK_TARGET_EXISTS, GK_USAGE for
 * `system`, and all that a backup and a restore throw. Then there is no copy, and the source is as it was.
 */
export async function copyDatabase(options: CopyOptions): Promise<CopyResult> {
  const { source, target, scratchDirectory } = options;
  refuseSystem(source, target);
  const startedMs = performance.now();
  return withScratch(scratchDirectory, SCRATCH_PREFIX, async (scratch) => {
    const taken = await withSourceAtRest(source, async () => {
      await refuseTarget(target);
      return takeArtifact(options, scratch);
    });
    // A server that starts now, the source's locks being free, changes nothing of the artifact, and where it would meet
    // the copy the restore refuses.
    const { signal, listener } = options;
    const { highestTransaction } = await restoreDatabase({
      artifactPath: taken.artifactPath,
      target,
      overwriteDestination: false,
      ...(signal && { signal }),
      ...(listener && { listener }),
    });
    const durationMs = Math.round(performance.now() - startedMs);
    return { target, highestTransaction, leftOut: taken.leftOut, durationMs };
  });
}

/** It names the databases of its own server, and a server has one. */
function refuseSystem(...both: readonly DatabaseFolders[]): void {
  if (!both.some(({ name }) => name === SYSTEM_DATABASE)) return;
  throw new GraphkeepError('GK_USAGE', 'the database system cannot be copied, and nothing can become it', {
    hint: 'back it up and restore it under its own name instead',
  });
}

function takeArtifact(options: CopyOptions, scratch: string): Promise<BackupResult> {
  const { source, target, signal, listener } = options;
  // The name of a folder need not be that of a database, and that of an artifact is made of it.
  return backupDatabase(
    { ...source, name: target.name },
    {
      type: 'FULL',
      targetDirectory: scratch,
      compress: true,
      compressionLevel: 1,
      keepFailed: false,
      ...(signal && { signal }),
      ...(listener && { listener }),
    },
  );
}

/**
 * Keeps a Neo4j from opening the source meanwhile, and an incremental backup from writing to it where it is a directory
 * backup. The locks are shared ones: reading takes no right to write, and two copies may be made at once. No lock file
 * is made: where there is none, no server was ever started, and one that root had made would keep Neo4j from starting.
 */
async function withSourceAtRest<Result>(
  source: DatabaseFolders,
  work: () => Promise<Result>,
): Promise<Result> {
  const { storeDirectory } = source;
  const paths = [join(dirname(storeDirectory), 'store_lock'), join(storeDirectory, 'database_lock')];
  const locks: FileLock[] = [];
  try {
    for (const path of paths.filter((candidate) => existsSync(candidate))) {
      const lock = tryLock(path, { create: false, shared: true });
      if (lock === undefined) throw inUse(source, path);
      locks.push(lock);
    }
    const isDirectoryBackup = existsSync(join(dirname(storeDirectory), `.${basename(storeDirectory)}.lock`));
    return await (isDirectoryBackup ? withDirectoryLocked(storeDirectory, 'shared', work) : work());
  } finally {
    for (const lock of locks) lock.release();
  }
}

/** Asked again when it counts; here, so that nothing is copied in vain. */
async function refuseTarget(target: DatabaseFolders): Promise<void> {
  const serverLock = join(dirname(target.storeDirectory), 'store_lock');
  if (isLocked(serverLock)) throw inUse(target, serverLock);
  if (!(await databaseExists(target))) return;
  throw new GraphkeepError(
    'GK_TARGET_EXISTS',
    `database with name [${target.name}] already exists: ${target.storeDirectory}`,
    { hint: 'give another --to-database; a copy never replaces a database' },
  );
}

function inUse({ name }: DatabaseFolders, lockPath: string): GraphkeepError {
  return new GraphkeepError('GK_IN_USE', `database ${name} is in use: a running Neo4j holds ${lockPath}`);
}
