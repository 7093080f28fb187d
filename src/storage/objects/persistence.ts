/**
 * Trying again. The SDKs do it for seconds, which is right for a hiccup; a backup of hours has to outlive a network that is
 * away for a minute and a store that asks everybody to slow down. So around theirs there is one more loop, the same for
 * every store, which gives up when nothing at all came for the time that was agreed.
 */
import type { Readable } from 'node:stream';
import { addAbortSignal } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { GraphkeepError, throwIfAborted } from '../../errors.ts';
import { OBJECT_PATIENCE_MS, RETRY_DELAY_MS_MAX, RETRY_DELAY_MS_MIN } from '../../limits.ts';
import type { StoreSettings } from './settings.ts';
import type { OpenRange, ReadOptions } from './store.ts';

const MAY_PASS: ReadonlySet<string> = new Set([
  'GK_CONNECTION_LOST',
  'GK_UNREACHABLE',
  'GK_HOST_UNKNOWN',
  'GK_SERVER_BUSY',
]);

/** `heard` is called for everything that comes. */
export type Attempt<Result> = (heard: () => void) => Promise<Result>;
/** Makes the error to be told out of what an SDK threw. */
export type Tell = (error: unknown) => GraphkeepError;

export class Persistence {
  readonly #patienceMs: number;
  readonly #onRetry: (message: string) => void;
  /** Before the first answer, a wrong name or port is told at once. */
  #hasAnswered = false;

  constructor(settings: StoreSettings) {
    this.#patienceMs = settings.patienceMs ?? OBJECT_PATIENCE_MS;
    this.#onRetry = settings.onRetry ?? (() => undefined);
  }

  /** @throws what `tell` makes of the last failure; GK_INTERRUPTED */
  async run<Result>(attempt: Attempt<Result>, tell: Tell, signal?: AbortSignal): Promise<Result> {
    // From the first failure on, not from the start: a part that takes minutes to send is not a store that is silent.
    let failedMs: number | undefined;
    let delayMs = RETRY_DELAY_MS_MIN;
    const heard = (): void => {
      failedMs = undefined;
      delayMs = RETRY_DELAY_MS_MIN;
    };
    for (;;) {
      throwIfAborted(signal);
      try {
        const result = await attempt(heard);
        this.#hasAnswered = true;
        return result;
      } catch (error) {
        const told = this.#told(error, tell, signal);
        failedMs ??= performance.now();
        const silentMs = performance.now() - failedMs;
        if (!this.#mayPass(told) || silentMs + delayMs > this.#patienceMs) throw told;
        this.#onRetry(`${told.message}; trying again`);
      }
      // Between half and all of it, so that those who were turned away together do not come back together.
      await pause((delayMs * (1 + Math.random())) / 2, signal);
      delayMs = Math.min(delayMs * 2, RETRY_DELAY_MS_MAX);
    }
  }

  #told(error: unknown, tell: Tell, signal: AbortSignal | undefined): GraphkeepError {
    if (error instanceof GraphkeepError) return error;
    if (signal?.aborted) {
      return new GraphkeepError('GK_INTERRUPTED', 'interrupted', { cause: signal?.reason });
    }
    return tell(error);
  }

  #mayPass(error: GraphkeepError): boolean {
    if (!MAY_PASS.has(error.code)) return false;
    return this.#hasAnswered || (error.code !== 'GK_HOST_UNKNOWN' && error.code !== 'GK_UNREACHABLE');
  }

  /**
   * Fills `target`, continuing after a cut where it was. What comes after a cut must be of the same object, so the first
   * answer pins it when the caller did not.
   * @param open asks for bytes of the object; `tag` as `ReadOptions` has it
   */
  async fill(
    target: Buffer,
    startBytes: number,
    options: ReadOptions,
    open: (startBytes: number, lengthBytes: number, tag: string | undefined) => Promise<OpenRange>,
    tell: Tell,
  ): Promise<void> {
    if (target.length === 0) return;
    let doneBytes = 0;
    let tag = options.tag;
    const take = async (heard: () => void): Promise<void> => {
      const range = await open(startBytes + doneBytes, target.length - doneBytes, tag);
      tag ??= range.tag;
      await drain(range.body, options.signal, (chunk) => {
        if (chunk.copy(target, doneBytes) < chunk.length) throw tooMuch(startBytes + doneBytes);
        doneBytes += chunk.length;
        heard();
      });
      if (doneBytes < target.length) throw Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' });
    };
    await this.run(take, tell, options.signal);
  }
}

async function drain(
  body: Readable,
  signal: AbortSignal | undefined,
  take: (chunk: Buffer) => void,
): Promise<void> {
  if (signal !== undefined) addAbortSignal(signal, body);
  try {
    for await (const chunk of body) take(Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk));
  } finally {
    body.destroy();
  }
}

function tooMuch(positionBytes: number): GraphkeepError {
  return new GraphkeepError('GK_IO', `the store sent more than it was asked for, at byte ${positionBytes}`, {
    hint: 'what is between, or the store itself, does not know ranges; use another endpoint',
  });
}

async function pause(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
  await sleep(delayMs, undefined, signal === undefined ? {} : { signal }).catch(() => throwIfAborted(signal));
}
