/**
 * The lease of a folder of artifacts: who adds artifacts that build on others holds it shared, who removes artifacts
 * holds it alone. So nothing is removed that a backup has just chosen as its parent. It is a POSIX record lock of the
 * file `.graphkeep.lease`: the kernel drops it when its holder dies, so that nothing ever has to guess whether a lease is
 * stale. The file stays where it is, for good: whoever removed it would let two processes lock two files of one name.
 *
 * The lock belongs to the process. Therefore the leases of one process are counted here: all shared ones stand on one
 * lock, and what another process would be refused is refused within the process as well.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorCode, GraphkeepError, isErrno, throwIfAborted, wrapSystemError } from '../errors.ts';
import { LEASE_POLL_INTERVAL_MS, LEASE_WAIT_MS } from '../limits.ts';
import { type FileLock, lockHolder, tryLock } from './locks.ts';
import { acquireObjectLease } from './objects/lease.ts';
import { isStoreUrl, storeOf } from './places.ts';

/** It does not end like an artifact, so that no command takes it for one. */
export const LEASE_FILE = '.graphkeep.lease';

export type LeaseMode = 'shared' | 'exclusive';

export interface LeaseOptions {
  readonly signal?: AbortSignal;
  /** How long to wait for the others; 0 asks once. */
  readonly waitMs?: number;
}

export interface Lease {
  /** false: the folder or its file system allows no lock, and nobody is kept from anything. Shared leases only. */
  readonly held: boolean;
  /** Why it is not held. */
  readonly reason?: string;
  /** Gives the lease back; the second call does nothing. */
  release(): void;
}

interface HeldLease {
  readonly mode: LeaseMode;
  readonly lock: FileLock;
  holders: number;
}

/** By device and inode of the folder, since one folder may be reached by several paths. */
const heldByThisProcess = new Map<string, HeldLease>();

/**
 * Takes the lease, waiting for those who hold it the other way.
 *
 * Where there can be no lock (a folder that cannot be written to, a file system without locks), a shared lease is
 * granted in name only, since a backup that is taken is worth more than one that is refused. An exclusive one is an
 * error: what is removed beside a running backup may be what that backup builds on.
 * @throws GK_IN_USE when others still hold it after `waitMs`; GK_NOT_FOUND; GK_INTERRUPTED; for an exclusive lease also
 * GK_NO_PERMISSION, GK_UNSUPPORTED and GK_NO_SPACE
 */
export async function acquireLease(
  directory: string,
  mode: LeaseMode,
  options: LeaseOptions = {},
): Promise<Lease> {
  if (isStoreUrl(directory)) return acquireObjectLease(await storeOf(directory), mode, options);
  const path = join(directory, LEASE_FILE);
  const folder = identityOf(directory);
  const deadlineMs = performance.now() + (options.waitMs ?? LEASE_WAIT_MS);
  for (;;) {
    throwIfAborted(options.signal);
    try {
      const lease = tryLease(folder, path, mode);
      if (lease !== undefined) return lease;
    } catch (error) {
      return unheldLease(directory, mode, wrapSystemError(error, `take the lease of ${directory}`));
    }
    const leftMs = deadlineMs - performance.now();
    if (leftMs <= 0) throw inUse(directory, path, folder, mode);
    await pause(Math.min(leftMs, LEASE_POLL_INTERVAL_MS), directory, options.signal);
  }
}

/** Nothing is awaited in here, so that two callers of one process cannot come in between. */
function tryLease(folder: string, path: string, mode: LeaseMode): Lease | undefined {
  const shared = mode === 'shared';
  let held = heldByThisProcess.get(folder);
  if (held === undefined) {
    const lock = tryLock(path, { create: true, shared });
    if (lock === undefined) return undefined;
    held = { mode, lock, holders: 0 };
    heldByThisProcess.set(folder, held);
  } else if (!shared || held.mode === 'exclusive') return undefined;
  return countedLease(folder, held);
}

function countedLease(folder: string, held: HeldLease): Lease {
  held.holders += 1;
  let released = false;
  return {
    held: true,
    release() {
      if (released) return;
      released = true;
      held.holders -= 1;
      if (held.holders > 0) return;
      heldByThisProcess.delete(folder);
      held.lock.release();
    },
  };
}

/** What only means that there can be no lock here. Anything else is a failure for both kinds of lease. */
const NO_LOCK_CODES: readonly ErrorCode[] = ['GK_NO_PERMISSION', 'GK_UNSUPPORTED', 'GK_NO_SPACE'];

function unheldLease(directory: string, mode: LeaseMode, error: GraphkeepError): Lease {
  const noLocks = isErrno(error.cause, 'ENOLCK', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'EINVAL');
  if (!noLocks && !NO_LOCK_CODES.includes(error.code)) throw error;
  if (mode === 'shared') return { held: false, reason: error.message, release: () => {} };
  if (!noLocks) throw error;
  throw new GraphkeepError(
    'GK_UNSUPPORTED',
    `the file system of ${directory} has no locks: ${error.message}`,
    {
      hint: 'mount it with locks; without them, nothing shows whether a backup is running',
      cause: error,
    },
  );
}

function inUse(directory: string, path: string, folder: string, mode: LeaseMode): GraphkeepError {
  const doing =
    mode === 'exclusive'
      ? 'a backup, or another removal, is running there'
      : 'artifacts are being removed there';
  return new GraphkeepError(
    'GK_IN_USE',
    `the folder ${directory} is in use by ${holderName(path, folder, mode)}: ${doing}`,
    { hint: 'wait until it has ended, then run the command again' },
  );
}

function holderName(path: string, folder: string, mode: LeaseMode): string {
  if (heldByThisProcess.has(folder)) return 'this process itself';
  const holder = lockHolder(path, { shared: mode === 'shared' });
  if (holder === undefined) return 'a process that has just ended';
  return holder.processId === 0
    ? 'a process in another container or on another host'
    : `process ${holder.processId}`;
}

function identityOf(directory: string): string {
  try {
    const { dev, ino } = statSync(directory);
    return `${dev}:${ino}`;
  } catch (error) {
    throw wrapSystemError(error, `find the folder ${directory}`);
  }
}

async function pause(ms: number, directory: string, signal: AbortSignal | undefined): Promise<void> {
  await sleep(ms, undefined, signal === undefined ? {} : { signal }).catch((error: unknown) => {
    throw wrapSystemError(error, `wait for the lease of ${directory}`);
  });
}
