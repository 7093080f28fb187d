/**
 * The names around a directory backup: the folder itself, its lock, and the folders in which a new one is staged. A lock
 * of the kernel says that somebody works on the name, so that what a killed run left is told from what is being written.
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, lstat, mkdir, realpath, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, sep } from 'node:path';
import { type ErrorCode, GraphkeepError, isErrno, wrapSystemError } from '../errors.ts';
import { DIRECTORY_NAME_CHARACTERS_MAX, ERR_FOLDERS_MAX } from '../limits.ts';
import { PARTIAL_SUFFIX, readFolder } from '../storage/local.ts';
import { type FileLock, tryLock } from '../storage/locks.ts';
import type { DatabaseFolders } from './types.ts';

const UNIQUE_BYTES = 8;
const LOCK_SUFFIX = '.lock';

/** A name is one step below the folder of backups, and no hidden one: those are graphkeep's own. @throws GK_USAGE */
export function refuseBadName(name: string): void {
  const isPlain = /^[^./\\\0][^/\\\0]*$/.test(name) && name.length <= DIRECTORY_NAME_CHARACTERS_MAX;
  if (isPlain) return;
  throw new GraphkeepError('GK_USAGE', `'${name}' cannot be the name of a directory backup`, {
    hint: 'give a plain name without slashes that does not begin with a dot; the folder goes to --backup-dir',
  });
}

/** Locks are per process: a second user within it has to be refused here. */
const lockedByThisProcess = new Set<string>();

/** Reading ones exclude writers, and need no right to write where nobody else could write either. */
export type DirectoryLockMode = 'exclusive' | 'shared';

/** @throws GK_IN_USE when somebody else works on the directory backup */
export async function withDirectoryLocked<Result>(
  path: string,
  mode: DirectoryLockMode,
  work: () => Promise<Result>,
): Promise<Result> {
  const lockPath = join(dirname(path), `.${basename(path)}${LOCK_SUFFIX}`);
  if (lockedByThisProcess.has(lockPath)) throw inUse(path);
  lockedByThisProcess.add(lockPath);
  let lock: FileLock | 'none' | undefined;
  try {
    lock = lockOrNothing(lockPath, mode);
    if (lock === undefined) throw inUse(path);
    return await work();
  } finally {
    if (lock !== undefined && lock !== 'none') lock.release();
    lockedByThisProcess.delete(lockPath);
  }
}

const NO_LOCK_CODES: readonly ErrorCode[] = ['GK_NO_PERMISSION', 'GK_NOT_FOUND'];

function lockOrNothing(lockPath: string, mode: DirectoryLockMode): FileLock | 'none' | undefined {
  try {
    return tryLock(lockPath, { create: true, shared: mode === 'shared' });
  } catch (error) {
    // Backups on a read-only mount can be restored: nobody writes there.
    const isReader = mode === 'shared' && error instanceof GraphkeepError;
    if (isReader && NO_LOCK_CODES.includes(error.code)) return 'none';
    throw error;
  }
}

function inUse(path: string): GraphkeepError {
  return new GraphkeepError('GK_IN_USE', `another graphkeep works on the directory backup ${path}`, {
    hint: 'wait until it has ended, then run the command again',
  });
}

/** A folder beside the directory backup in which the next one is built, on the same file system. */
export async function makeStaging(path: string): Promise<string> {
  const unique = randomBytes(UNIQUE_BYTES).toString('hex');
  const staging = join(dirname(path), `.${basename(path)}.${unique}${PARTIAL_SUFFIX}`);
  await mkdir(staging, { mode: 0o700 }).catch((error: unknown) => {
    throw wrapSystemError(error, `create ${staging}`);
  });
  return staging;
}

const UNIQUE_PARTIAL = new RegExp(`^\\.[0-9a-f]{${UNIQUE_BYTES * 2}}\\${PARTIAL_SUFFIX}$`);
const LOG_PARTIAL = /^\.neostore\.transaction\.db\.\d+(?=\.)/;

/** Removes what killed runs left beside and in the directory backup. Only under its exclusive lock. */
export async function removeLeftovers(path: string): Promise<void> {
  const staged = `.${basename(path)}`;
  await removePartials(dirname(path), (name) => (name.startsWith(staged) ? staged : undefined));
  if (await isFolder(path)) await removePartials(path, (name) => LOG_PARTIAL.exec(name)?.[0]);
}

/** @param startOf the part of a name that stands before the unique part, if it is one of ours */
async function removePartials(
  directory: string,
  startOf: (name: string) => string | undefined,
): Promise<void> {
  for (const { name } of await readFolder(directory)) {
    const start = startOf(name);
    if (start === undefined || !UNIQUE_PARTIAL.test(name.slice(start.length))) continue;
    await rm(join(directory, name), { recursive: true, force: true }).catch((error: unknown) => {
      throw wrapSystemError(error, `remove ${join(directory, name)}`);
    });
  }
}

async function isFolder(path: string): Promise<boolean> {
  return (await kindOf(path)) === 'folder';
}

/** @throws GK_UNSUPPORTED for a symbolic link, which could not be replaced without changing what it means */
export async function kindOf(path: string): Promise<'nothing' | 'folder' | 'other'> {
  const status = await lstat(path).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw wrapSystemError(error, `look at ${path}`);
  });
  if (status === undefined) return 'nothing';
  if (status.isSymbolicLink()) {
    throw new GraphkeepError('GK_UNSUPPORTED', `${path} is a symbolic link`, {
      hint: 'give the folder that it leads to: --backup-dir=<its parent> --name=<its name>',
    });
  }
  return status.isDirectory() ? 'folder' : 'other';
}

/** Gives a folder the first free name `<name>.err.<N>`. Only under the exclusive lock. @returns the new path */
export async function renameToErr(path: string): Promise<string> {
  for (let number = 1; number <= ERR_FOLDERS_MAX; number++) {
    const errPath = `${path}.err.${number}`;
    const isTaken = await lstat(errPath).then(
      () => true,
      (error: unknown) => {
        if (isErrno(error, 'ENOENT')) return false;
        throw wrapSystemError(error, `look at ${errPath}`);
      },
    );
    if (isTaken) continue;
    await renameFolder(path, errPath);
    return errPath;
  }
  throw new GraphkeepError('GK_TARGET_EXISTS', `${path}.err.1 to ${path}.err.${ERR_FOLDERS_MAX} exist`, {
    hint: 'remove the old ones that are not needed any more',
  });
}

export async function renameFolder(from: string, to: string): Promise<void> {
  await rename(from, to).catch((error: unknown) => {
    throw wrapSystemError(error, `rename ${from} to ${to}`);
  });
}

/** A backup into the database itself would end by moving the database away. @throws GK_USAGE */
export async function refuseOverlap(path: string, source: DatabaseFolders): Promise<void> {
  const backup = await realPathOf(path);
  for (const folder of [source.storeDirectory, source.logDirectory]) {
    const database = await realPathOf(folder);
    const overlaps = isWithin(backup, database) || isWithin(database, backup);
    if (!overlaps) continue;
    throw new GraphkeepError('GK_USAGE', `${path} is the database ${source.name} itself, or a part of it`, {
      hint: 'give a folder for backups that lies elsewhere, better on another disk',
    });
  }
}

const isWithin = (path: string, folder: string): boolean => path === folder || path.startsWith(folder + sep);

/** Of something that may not exist yet: its parent decides. */
async function realPathOf(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (isErrno(error, 'ENOENT') && dirname(path) !== path) {
      return join(await realPathOf(dirname(path)), basename(path));
    }
    throw wrapSystemError(error, `look at ${path}`);
  }
}

/** Closes whatever happened; an error of `work` is worth more than one of closing. */
export async function withHandle<Result>(
  handle: FileHandle,
  work: (handle: FileHandle) => Promise<Result>,
): Promise<Result> {
  try {
    return await work(handle);
  } finally {
    await handle.close();
  }
}
