/** What the requests of every driver have in common. */
import { GraphkeepError } from '../../errors.ts';
import { OBJECT_PUT_BYTES_MAX } from '../../limits.ts';
import type { Doing } from './failures.ts';
import type { ObjectFacts, ObjectStore } from './store.ts';

export function abortable(signal: AbortSignal | undefined): { abortSignal?: AbortSignal } {
  return signal === undefined ? {} : { abortSignal: signal };
}

/** What is done while `target` is filled, for the message. */
export function reading(url: string, key: string, startBytes: number, target: Buffer): Doing {
  return { what: `read ${target.length} bytes at ${startBytes} of ${url}${key}`, key };
}

/** Whether an answer begins where it was asked to; one without a range is the whole object. */
export function beginsAt(startBytes: number, contentRange: string | undefined): boolean {
  if (contentRange === undefined) return startBytes === 0;
  return Number(/^bytes (\d+)-/.exec(contentRange)?.[1] ?? Number.NaN) === startBytes;
}

export function checkPut(bytes: Buffer): void {
  if (bytes.length <= OBJECT_PUT_BYTES_MAX) return;
  throw new GraphkeepError('GK_INTERNAL', `${bytes.length} bytes are too many for one request`);
}

/** The last look at an upload: what the store has must be what was sent. @throws GK_IO */
export async function checkWhole(
  store: ObjectStore,
  key: string,
  bytes: number,
  signal: AbortSignal | undefined,
): Promise<ObjectFacts> {
  const facts = await store.stat(key, signal);
  if (facts?.bytes === bytes) return facts;
  const found = facts === undefined ? 'is not there' : `has ${facts.bytes} bytes`;
  throw new GraphkeepError('GK_IO', `${store.url}${key} ${found}, ${bytes} were sent`, {
    hint: 'do not use this object; check the store, and run the command again',
  });
}
