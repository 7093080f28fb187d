/** Files under a temporary name: begun with a lock that says that somebody is writing, and cleared away when nobody is. */
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { STALE_PARTIAL_AGE_MS } from '../limits.ts';
import { PARTIAL_SUFFIX, Publication, readFolder } from '../storage/local.ts';
import { type FileLock, tryLockIfPossible } from '../storage/locks.ts';

/** A file under a temporary name that its writer has locked; what killed writers left of that name is gone. */
export async function beginFile(
  directory: string,
  partialName: string,
): Promise<{ publication: Publication; lock: FileLock | undefined }> {
  await removeStalePartials(directory, partialName);
  const publication = await Publication.create(directory, partialName);
  return { publication, lock: tryLockIfPossible(publication.partialPath, { create: false }) };
}

/**
 * Removes what killed writers of such a file left. A file that is being written is locked by its writer, on this
 * host or, over a shared file system, on another; only one that can be locked here, and that was not just created, is
 * nobody's.
 */
export async function removeStalePartials(directory: string, partialName: string): Promise<void> {
  for (const entry of await readFolder(directory)) {
    const isPartial = entry.name.startsWith(`.${partialName}.`) && entry.name.endsWith(PARTIAL_SUFFIX);
    if (!isPartial || !entry.isFile()) continue;
    const path = join(directory, entry.name);
    const status = await stat(path).catch(() => undefined);
    if (status === undefined || Date.now() - status.mtimeMs < STALE_PARTIAL_AGE_MS) continue;
    const lock = tryLockIfPossible(path, { create: false });
    if (lock === undefined) continue;
    await rm(path, { force: true });
    lock.release();
  }
}
