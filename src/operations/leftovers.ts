/** What killed backups left in an object store: uploads that were never completed. Nothing lists them, and they cost. */
import { GraphkeepError, throwIfAborted } from '../errors.ts';
import { LEFTOVER_AGE_MS_MIN } from '../limits.ts';
import type { UploadFacts } from '../storage/objects/store.ts';
import { isStoreUrl, storeOf } from '../storage/places.ts';

export interface LeftoverOptions {
  readonly directory: string;
  /** An upload that is under way looks the same: only those that are older than any backup takes are leftovers. */
  readonly olderThanMs: number;
  /** Otherwise they are only listed. */
  readonly confirm: boolean;
  readonly signal?: AbortSignal;
}

/** @returns what was found, and removed with `confirm`. @throws GK_USAGE, and what the store fails with */
export async function cleanUpLeftovers(options: LeftoverOptions): Promise<UploadFacts[]> {
  const { directory, olderThanMs, confirm, signal } = options;
  if (!isStoreUrl(directory)) {
    throw new GraphkeepError('GK_USAGE', `${directory} is no object store`, {
      hint: 'leave out --cleanup: in a folder the next backup removes what a killed one left',
    });
  }
  if (olderThanMs < LEFTOVER_AGE_MS_MIN) {
    throw new GraphkeepError('GK_USAGE', 'what is younger than an hour may be a backup that is under way', {
      hint: 'give an age that no backup takes, e.g. --cleanup=7d',
    });
  }
  const store = await storeOf(directory);
  const found: UploadFacts[] = [];
  for await (const upload of store.listUploads('', signal)) {
    if (Date.now() - upload.started.getTime() >= olderThanMs) found.push(upload);
  }
  for (const { key, id } of confirm ? found : []) {
    throwIfAborted(signal);
    await store.abortUpload(key, id, signal);
  }
  return found;
}
