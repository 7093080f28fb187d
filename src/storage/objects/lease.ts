/**
 * The lease of a folder in an object store, which has no locks. Each holder keeps an object there and writes it again and
 * again; one that was not written for a while is of a holder that died. Who comes puts down his own first and looks at the
 * others then: so of two who come at once at least one sees the other. Ages are told by the clock of the store alone.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { GraphkeepError, throwIfAborted } from '../../errors.ts';
import {
  LEASE_POLL_INTERVAL_MS,
  LEASE_WAIT_MS,
  OBJECT_LEASE_LIFE_MS,
  OBJECT_LEASE_RENEWALS,
  SESSION_CLOSE_MS_MAX,
} from '../../limits.ts';
import type { Lease, LeaseMode, LeaseOptions } from '../lease.ts';
import type { ObjectFacts, ObjectStore } from './store.ts';

const PREFIX = '.graphkeep.lease-';

/** @throws GK_IN_USE when others still hold it after `waitMs`, GK_INTERRUPTED, and what the store fails with */
export async function acquireObjectLease(
  store: ObjectStore,
  mode: LeaseMode,
  { signal, waitMs = LEASE_WAIT_MS }: LeaseOptions,
): Promise<Lease> {
  const holding = await Holding.begin(store, mode, signal);
  try {
    for (const startedMs = performance.now(); ; ) {
      throwIfAborted(signal);
      const other = await holding.rival(signal);
      if (other === undefined) return holding.lease();
      if (performance.now() - startedMs >= waitMs) {
        throw new GraphkeepError(
          'GK_IN_USE',
          `${store.url} is in use: ${other.key} is held by another process`,
          {
            hint: 'wait until it has ended; a lease of a process that died ends by itself within minutes',
          },
        );
      }
      await sleep(LEASE_POLL_INTERVAL_MS, undefined, signal === undefined ? {} : { signal }).catch(
        () => undefined,
      );
    }
  } catch (error) {
    await holding.end();
    throw error;
  }
}

const endings = new Set<Promise<void>>();

/** A process that ends earlier would leave its leases to others for minutes. */
export async function leasesEnded(): Promise<void> {
  await Promise.all(endings);
}

class Holding {
  readonly #store: ObjectStore;
  readonly #mode: LeaseMode;
  readonly #key: string;
  readonly #renewal: NodeJS.Timeout;
  #writing: Promise<unknown>;

  private constructor(store: ObjectStore, mode: LeaseMode, key: string) {
    this.#store = store;
    this.#mode = mode;
    this.#key = key;
    this.#writing = Promise.resolve();
    this.#renewal = setInterval(() => this.#renew(), OBJECT_LEASE_LIFE_MS / OBJECT_LEASE_RENEWALS).unref();
  }

  static async begin(store: ObjectStore, mode: LeaseMode, signal: AbortSignal | undefined): Promise<Holding> {
    const key = `${PREFIX}${mode}-${randomBytes(8).toString('hex')}`;
    await store.put(key, Buffer.from(mode), { ifAbsent: true, signal });
    return new Holding(store, mode, key);
  }

  /** Somebody with whom this one cannot be there at once. */
  async rival(signal: AbortSignal | undefined): Promise<ObjectFacts | undefined> {
    const all: ObjectFacts[] = [];
    for await (const facts of this.#store.list(PREFIX, signal)) all.push(facts);
    const newest = Math.max(...all.map(({ modified }) => modified.getTime()));
    return all.find(({ key, modified }) => {
      const isAlive = newest - modified.getTime() < OBJECT_LEASE_LIFE_MS;
      const isShared = this.#mode === 'shared' && key.startsWith(`${PREFIX}shared-`);
      return key !== this.#key && isAlive && !isShared;
    });
  }

  lease(): Lease {
    return { held: true, release: () => this.#release() };
  }

  /** What cannot be taken away ends by itself. */
  #release(): void {
    const ending = this.end()
      .catch(() => undefined)
      .finally(() => endings.delete(ending));
    endings.add(ending);
  }

  async end(): Promise<void> {
    clearInterval(this.#renewal);
    await this.#writing;
    await this.#store.remove(this.#key, AbortSignal.timeout(SESSION_CLOSE_MS_MAX));
  }

  /** When it cannot be written, it ends for the others by itself; the next request of this one fails as well. */
  #renew(): void {
    this.#writing = this.#store
      .put(this.#key, Buffer.from(this.#mode), { ifAbsent: false })
      .catch(() => undefined);
  }
}
