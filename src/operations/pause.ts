/** Waiting that a signal ends. */
import { setTimeout as sleep } from 'node:timers/promises';
import { GraphkeepError } from '../errors.ts';

/** @throws GK_INTERRUPTED */
export async function pause(timeMs: number, signal: AbortSignal | undefined): Promise<void> {
  await sleep(timeMs, undefined, signal === undefined ? {} : { signal }).catch((error: unknown) => {
    throw new GraphkeepError('GK_INTERRUPTED', 'interrupted', { cause: error });
  });
}
