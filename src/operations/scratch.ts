/** Folders in which a database is unpacked for a while: to be checked, recovered, or restored from. */
import { lstat, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { wrapSystemError } from '../errors.ts';
import { STALE_PARTIAL_AGE_MS } from '../limits.ts';
import { readFolder } from '../storage/local.ts';
import { tryLockIfPossible } from '../storage/locks.ts';

/** In a scratch folder: locked by whoever works in it. */
const SCRATCH_LOCK = '.lock';

/**
 * A folder of its own for a while, and those that killed runs left are removed. The lock in it tells the two apart.
 * @param prefix of its name; it begins with a dot and ends with a dash
 */
export async function withScratch<Result>(
  parent: string,
  prefix: string,
  work: (scratch: string) => Promise<Result>,
): Promise<Result> {
  await removeStaleScratch(parent, prefix);
  const scratch = await mkdtemp(join(parent, prefix)).catch((error: unknown) => {
    throw wrapSystemError(error, `create a folder in ${parent}`);
  });
  const lock = tryLockIfPossible(join(scratch, SCRATCH_LOCK), { create: true });
  try {
    return await work(scratch);
  } finally {
    await rm(scratch, { recursive: true, force: true });
    lock?.release();
  }
}

async function removeStaleScratch(parent: string, prefix: string): Promise<void> {
  for (const entry of await readFolder(parent)) {
    if (!entry.isDirectory() || !entry.name.startsWith(prefix)) continue;
    const folder = join(parent, entry.name);
    // One that was just made is not locked yet.
    const status = await lstat(folder).catch(() => undefined);
    if (status === undefined || Date.now() - status.mtimeMs < STALE_PARTIAL_AGE_MS) continue;
    const lock = tryLockIfPossible(join(folder, SCRATCH_LOCK), { create: false });
    if (lock === undefined) continue;
    await rm(folder, { recursive: true, force: true });
    lock.release();
  }
}
