/**
 * Names and pins of the files in a transaction folder. A pinned file is an open handle: pruning removes its name,
 * never its content, until the handle is closed. Source: formats.md §1, §2.6.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { GraphkeepError, isErrno, wrapSystemError } from '../errors.ts';
import { PIN_INTERVAL_MS, PINNED_LOG_FILES_MAX } from '../limits.ts';
import { readFolder } from '../storage/local.ts';

const LOG_NAME = /^neostore\.transaction\.db\.(\d+)$/;
const CHECKPOINT_NAME = /^checkpoint\.(\d+)$/;

export function logFileName(version: bigint): string {
  return `neostore.transaction.db.${version}`;
}

export interface NumberedFile {
  readonly name: string;
  readonly version: bigint;
}

export interface LogFolderListing {
  /** Ascending by version. */
  readonly logs: readonly NumberedFile[];
  readonly checkpoints: readonly NumberedFile[];
}

export async function listLogFolder(directory: string): Promise<LogFolderListing> {
  const names = (await readFolder(directory)).map((entry) => entry.name);
  return { logs: numbered(names, LOG_NAME), checkpoints: numbered(names, CHECKPOINT_NAME) };
}

function numbered(names: readonly string[], pattern: RegExp): NumberedFile[] {
  return names
    .flatMap((name) => {
      const match = pattern.exec(name);
      return match === null ? [] : [{ name, version: BigInt(match[1]!) }];
    })
    .sort((left, right) => (left.version < right.version ? -1 : 1));
}

/** Opens a file for pinning; undefined when it is gone already. */
export async function pinFile(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw wrapSystemError(error, `open ${path}`);
  }
}

export interface PinnedLog extends NumberedFile {
  readonly handle: FileHandle;
}

/**
 * Holds every log file from one version on, and those that appear later. A rotation followed by a checkpoint may
 * remove a file within moments of its creation, so the folder is looked at many times a second.
 */
export class LogPins {
  readonly #directory: string;
  readonly #firstVersion: bigint;
  readonly #pins = new Map<bigint, PinnedLog>();
  readonly #stop = new AbortController();
  #watching: Promise<void> = Promise.resolve();
  #refreshing: Promise<void> = Promise.resolve();
  #failure: unknown;

  constructor(directory: string, firstVersion: bigint) {
    this.#directory = directory;
    this.#firstVersion = firstVersion;
  }

  /** Pins everything that is there at the moment of the call. One at a time: two would open a file twice. */
  refresh(): Promise<void> {
    const refreshed = this.#refreshing.then(() => this.#refreshNow());
    this.#refreshing = refreshed.catch(() => undefined);
    return refreshed;
  }

  async #refreshNow(): Promise<void> {
    const { logs } = await listLogFolder(this.#directory);
    for (const file of logs) {
      if (file.version < this.#firstVersion || this.#pins.has(file.version)) continue;
      if (this.#pins.size >= PINNED_LOG_FILES_MAX) {
        throw new GraphkeepError(
          'GK_UNSUPPORTED',
          `more than ${PINNED_LOG_FILES_MAX} log files in ${this.#directory}`,
          {
            hint: 'raise db.tx_log.rotation.size; so many small files slow the server down as well',
          },
        );
      }
      const handle = await pinFile(join(this.#directory, file.name));
      if (handle !== undefined) this.#pins.set(file.version, { ...file, handle });
    }
  }

  /** Keeps refreshing in the background until `close`. */
  watch(): void {
    this.#watching = this.#watchLoop();
  }

  async #watchLoop(): Promise<void> {
    while (!this.#stop.signal.aborted && this.#failure === undefined) {
      await sleep(PIN_INTERVAL_MS, undefined, { signal: this.#stop.signal }).catch(() => undefined);
      if (this.#stop.signal.aborted) return;
      await this.refresh().catch((error: unknown) => {
        this.#failure = error;
      });
    }
  }

  /** Everything held, ascending by version. @throws what the watch ran into */
  pinned(): PinnedLog[] {
    if (this.#failure !== undefined) throw this.#failure;
    return [...this.#pins.values()].sort((left, right) => (left.version < right.version ? -1 : 1));
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#watching;
    await Promise.all([...this.#pins.values()].map((pin) => pin.handle.close()));
    this.#pins.clear();
  }
}
