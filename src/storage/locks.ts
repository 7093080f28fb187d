/**
 * POSIX record locks of whole files. A running Neo4j holds such a lock (Java's `FileChannel.tryLock` on `store_lock`
 * and `database_lock`), and so does the lease of a folder of artifacts. They are asked from the kernel itself, so that
 * a holder in another container of this host is seen, which `/proc/locks` and pid files do not show.
 *
 * Two properties of POSIX locks shape this file. They belong to the process: a lock that this process holds is never
 * "held" when it asks. And closing *any* descriptor of the file in this process drops the lock: therefore nothing
 * may open a lock file except through here, and `isLocked` does not open a file that is in the registry.
 * Only the main thread may use it, since the registry is per thread and the lock per process.
 */
import { closeSync, constants, fstatSync, openSync, statSync } from 'node:fs';
import { isErrno, wrapSystemError } from '../errors.ts';
import { errnoError, errnoName, type FlockStructure, libraryCalls } from './libc.ts';

const F_GETLK = 5;
const F_SETLK = 6;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;

export interface FileLock {
  readonly path: string;
  /** Gives the lock back; the second call does nothing. */
  release(): void;
}

export interface LockOptions {
  /** Make the file when it is missing. */
  readonly create: boolean;
  /** Others may hold the lock in the same way, and nobody may hold it alone; such a lock needs no right to write. */
  readonly shared?: boolean;
}

/** Locks of this process by device and inode, since one file may be reached by several paths. */
const heldByThisProcess = new Set<string>();

/**
 * Takes the lock; undefined when another process holds it.
 * @throws GraphkeepError when the file cannot be opened, when the file system has no locks, or when this process
 * holds the lock already: taking it twice would drop it at the first release.
 */
export function tryLock(path: string, options: LockOptions): FileLock | undefined {
  const calls = libraryCalls();
  refuseOwn(path);
  const descriptor = openLockFile(path, options);
  let keep = false;
  try {
    const errno = calls.fcntl(descriptor, F_SETLK, wholeFile(lockType(options)));
    // POSIX allows either of the two for "someone else has it".
    if (['EAGAIN', 'EACCES'].includes(errno === 0 ? '' : errnoName(errno))) return undefined;
    if (errno !== 0) throw wrapSystemError(errnoError(errno, 'fcntl', path), `lock ${path}`);
    keep = true;
    return heldLock(path, descriptor);
  } finally {
    if (!keep) closeSync(descriptor);
  }
}

/**
 * The same where it only tells what a killed run left from what is being written: some file systems have no locks, and
 * then nothing is ever taken for stale.
 */
export function tryLockIfPossible(path: string, options: LockOptions): FileLock | undefined {
  try {
    return tryLock(path, options);
  } catch {
    return undefined;
  }
}

/** Whether another process holds the lock. Takes nothing; a file that is not there is not locked. */
export function isLocked(path: string): boolean {
  return lockHolder(path) !== undefined;
}

/**
 * The process that keeps others from the lock, or from a shared one; its id is 0 when it lives in another pid namespace
 * (a container) or on another host.
 */
export function lockHolder(
  path: string,
  question: { shared?: boolean } = {},
): { processId: number } | undefined {
  const calls = libraryCalls();
  const identity = identityOf(path);
  if (identity === undefined || heldByThisProcess.has(identity)) return undefined;
  const descriptor = openForQuestion(path);
  if (descriptor === undefined) return undefined;
  try {
    const lock = wholeFile(lockType(question));
    const errno = calls.fcntl(descriptor, F_GETLK, lock);
    if (errno !== 0) throw wrapSystemError(errnoError(errno, 'fcntl', path), `ask for the lock of ${path}`);
    return lock.l_type === F_UNLCK ? undefined : { processId: Math.max(lock.l_pid, 0) };
  } finally {
    closeSync(descriptor);
  }
}

function heldLock(path: string, descriptor: number): FileLock {
  const identity = identityOfStatus(fstatSync(descriptor));
  heldByThisProcess.add(identity);
  let released = false;
  return {
    path,
    release() {
      if (released) return;
      released = true;
      heldByThisProcess.delete(identity);
      closeSync(descriptor);
    },
  };
}

function refuseOwn(path: string): void {
  const identity = identityOf(path);
  if (identity !== undefined && heldByThisProcess.has(identity)) {
    throw new Error(`this process holds the lock of ${path} already`);
  }
}

/** A write lock needs a descriptor that is open for writing; a shared one may do with one for reading. */
function openLockFile(path: string, options: LockOptions): number {
  const flags = constants.O_RDWR | (options.create ? constants.O_CREAT : 0);
  try {
    return openSync(path, flags, 0o644);
  } catch (error) {
    const readable = options.shared === true && isErrno(error, 'EACCES', 'EPERM', 'EROFS');
    const descriptor = readable ? openForQuestion(path) : undefined;
    if (descriptor !== undefined) return descriptor;
    throw wrapSystemError(error, `open the lock file ${path}`);
  }
}

/** Asking needs no right to write, so that a user who may only read gets an answer as well. */
function openForQuestion(path: string): number | undefined {
  try {
    return openSync(path, constants.O_RDONLY);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw wrapSystemError(error, `open the lock file ${path}`);
  }
}

function identityOf(path: string): string | undefined {
  const status = statSync(path, { throwIfNoEntry: false });
  return status === undefined ? undefined : identityOfStatus(status);
}

function identityOfStatus(status: { dev: number; ino: number }): string {
  return `${status.dev}:${status.ino}`;
}

function lockType(options: { shared?: boolean }): number {
  return options.shared === true ? F_RDLCK : F_WRLCK;
}

/** Start 0 and length 0 mean the whole file, however long it becomes; Java asks for 0 to 2^63-1, which overlaps. */
function wholeFile(type: number): FlockStructure {
  return { l_type: type, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
}
