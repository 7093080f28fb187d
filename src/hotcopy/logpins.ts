/**
 * Pins: log files held open. Pruning removes a file's name, never its content, until the last handle is closed.
 * Source: formats.md §2.6.
 */
import { closeSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { MessagePort } from 'node:worker_threads';
import { GraphkeepError, wrapSystemError } from '../errors.ts';
import { FOLDER_ENTRIES_MAX, PINNED_LOG_FILES_MAX } from '../limits.ts';
import { LOG_NAME, type NumberedFile } from './logfolder.ts';
import { THREAD_ENDED, type WatchAnswer, watchFolder } from './pinthread.ts';

export interface PinnedLog extends NumberedFile {
  readonly handle: FileHandle;
}

type Opened = WatchAnswer & { readonly type: 'opened' };

/** Holds every log file from one version on, and those that appear later, until it is closed. */
export class LogPins {
  readonly #directory: string;
  readonly #port: MessagePort;
  readonly #pins = new Map<bigint, PinnedLog>();
  /** Answers that are awaited, in the order of the questions. */
  readonly #asked: PromiseWithResolvers<void>[] = [];
  /** Resolves when everything that was told is held here. */
  #held: Promise<void> = Promise.resolve();
  #failure: GraphkeepError | undefined;
  #hasEnded = false;

  constructor(directory: string, firstVersion: bigint) {
    this.#directory = directory;
    const bounds = { filesMax: PINNED_LOG_FILES_MAX, entriesMax: FOLDER_ENTRIES_MAX };
    this.#port = watchFolder({ directory, pattern: LOG_NAME, firstVersion, ...bounds });
    this.#port.on('message', (answer: WatchAnswer) => this.#receive(answer));
    this.#port.once('close', () => this.#end());
    this.#port.unref();
  }

  /** Resolves when everything is held that was there at the moment of the call. @throws GK_NOT_FOUND, GK_IO, … */
  async refresh(): Promise<void> {
    await this.#ask(true);
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Everything held, ascending by version. @throws what the watch ran into */
  pinned(): PinnedLog[] {
    if (this.#failure !== undefined) throw this.#failure;
    return [...this.#pins.values()].sort((left, right) => (left.version < right.version ? -1 : 1));
  }

  async close(): Promise<void> {
    await this.#ask(false);
    this.#hasEnded = true;
    this.#port.close();
    await Promise.all([...this.#pins.values()].map((pin) => pin.handle.close()));
    this.#pins.clear();
  }

  async #ask(isWanted: boolean): Promise<void> {
    if (!this.#hasEnded) {
      const answer = Promise.withResolvers<void>();
      this.#asked.push(answer);
      this.#port.ref();
      this.#port.postMessage(isWanted);
      await answer.promise;
    }
    await this.#held;
  }

  #receive(answer: WatchAnswer): void {
    if (answer.type === 'opened') {
      const holding = this.#hold(answer);
      this.#held = this.#held.then(() => holding);
    } else if (answer.type === 'done') this.#answer();
    else this.#fail(this.#failureOf(answer));
  }

  /** What the other thread opened is opened once more, its name gone or not: to get a handle there is no other way. */
  async #hold({ name, version, descriptor }: Opened): Promise<void> {
    try {
      const handle = await open(`/proc/self/fd/${descriptor}`, 'r');
      this.#pins.set(version, { name, version, handle });
    } catch (error) {
      this.#fail(wrapSystemError(error, `hold ${join(this.#directory, name)}`));
    } finally {
      closeSync(descriptor);
    }
  }

  #failureOf(answer: WatchAnswer & { readonly type: 'tooMany' | 'failed' }): GraphkeepError {
    if (answer.type === 'tooMany' && answer.what === 'entries') {
      const text = `${this.#directory} holds more than ${FOLDER_ENTRIES_MAX} files`;
      return new GraphkeepError('GK_UNSUPPORTED', text);
    }
    if (answer.type === 'tooMany') {
      return new GraphkeepError(
        'GK_UNSUPPORTED',
        `more than ${PINNED_LOG_FILES_MAX} log files in ${this.#directory}`,
        { hint: 'raise db.tx_log.rotation.size; so many small files slow the server down as well' },
      );
    }
    const { code, message } = answer;
    return wrapSystemError(Object.assign(new Error(message), { code }), `hold the log in ${this.#directory}`);
  }

  /** The first one says what happened. */
  #fail(failure: GraphkeepError): void {
    this.#failure ??= failure;
  }

  #answer(): void {
    this.#asked.shift()?.resolve();
    if (this.#asked.length === 0) this.#port.unref();
  }

  /** The port is closed: by this side at the end, or because there is no thread any more. */
  #end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#fail(new GraphkeepError('GK_INTERNAL', THREAD_ENDED));
    while (this.#asked.length > 0) this.#answer();
  }
}
