/** What a store promises and does not keep: found out by trying. */
import { randomBytes } from 'node:crypto';
import type { ObjectStore } from './store.ts';

const UNIQUE_BYTES = 8;

/**
 * Whether the store refuses to overwrite when it is asked to: some take the condition and overwrite all the same. Writes
 * a small object of its own and removes it.
 */
export async function probeIfAbsent(store: ObjectStore, signal?: AbortSignal): Promise<boolean> {
  const key = `.graphkeep-probe-${randomBytes(UNIQUE_BYTES).toString('hex')}`;
  const options = { ifAbsent: true, signal };
  try {
    await store.put(key, Buffer.from('1'), options);
    return !(await store.put(key, Buffer.from('2'), options));
  } finally {
    await store.remove(key);
  }
}
