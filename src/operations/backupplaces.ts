/**
 * The places of one backup and what becomes of each: whether all of them must get the artifact, or one that fails is left
 * out while the others go on, is decided here and nowhere else.
 */
import { stat } from 'node:fs/promises';
import { asGraphkeepError, GraphkeepError, wrapSystemError } from '../errors.ts';
import { acquireLease, type Lease } from '../storage/lease.ts';
import { isStoreUrl } from '../storage/places.ts';
import { requireDirectory } from './artifactfile.ts';
import type { PlaceResult, ProgressListener, TargetOptions } from './types.ts';

export class BackupPlaces {
  /** More than one was asked for, whatever became of them. */
  readonly areSeveral: boolean;
  readonly #mustHoldAll: boolean;
  readonly #listener: ProgressListener | undefined;
  readonly #results: Map<string, PlaceResult>;
  readonly #leases: Lease[] = [];

  private constructor(directories: readonly string[], { require, listener }: TargetOptions) {
    this.areSeveral = directories.length > 1;
    this.#mustHoldAll = require !== 'any';
    this.#listener = listener;
    this.#results = new Map(directories.map((directory) => [directory, { directory }]));
  }

  /** Finds every place and takes its lease. @throws GK_USAGE when two of them are one, and what a place fails with */
  static async open(options: TargetOptions): Promise<BackupPlaces> {
    const directories = [options.targetDirectory, ...(options.alsoTo ?? [])];
    const places = new BackupPlaces(directories, options);
    const known = new Map<string, string>();
    try {
      for (const directory of directories) {
        const identity = await places.orFail(directory, () => places.#enter(directory, options.signal));
        const other = identity === undefined ? undefined : known.get(identity);
        if (other !== undefined)
          throw new GraphkeepError('GK_USAGE', `${other} and ${directory} are one place`);
        if (identity !== undefined) known.set(identity, directory);
      }
      return places;
    } catch (error) {
      places.release();
      throw error;
    }
  }

  /** @returns what tells whether another path leads to the same place */
  async #enter(directory: string, signal: AbortSignal | undefined): Promise<string> {
    await requireDirectory(directory);
    const lease = await acquireLease(directory, 'shared', signal === undefined ? {} : { signal });
    this.#leases.push(lease);
    if (!lease.held) this.#listener?.notice(`expire must not run beside this backup: ${lease.reason ?? ''}`);
    return identityOf(directory);
  }

  /** Those that can still get the artifact. */
  get directories(): string[] {
    return [...this.#results.values()]
      .filter(({ error }) => error === undefined)
      .map(({ directory }) => directory);
  }

  get results(): readonly PlaceResult[] {
    return [...this.#results.values()];
  }

  get mustHoldAll(): boolean {
    return this.#mustHoldAll;
  }

  /** Runs what concerns one place; undefined when that failed and the others go on. @throws as `fail` */
  async orFail<Result>(directory: string, work: () => Promise<Result>): Promise<Result | undefined> {
    try {
      return await work();
    } catch (error) {
      this.fail(directory, error);
      return undefined;
    }
  }

  /** Leaves out a place. @throws the error itself where all are needed, for the last place, and when interrupted */
  fail(directory: string, reason: unknown): void {
    const error = asGraphkeepError(reason, `write to ${directory}`);
    const isLast = this.directories.every((other) => other === directory);
    if (this.#mustHoldAll || isLast || error.code === 'GK_INTERRUPTED') throw error;
    const { code, message } = error;
    this.#results.set(directory, { directory, error: { code, message } });
    this.#listener?.notice(`${directory} does not get this backup: ${message}`);
  }

  /** The artifact is there. */
  published(directory: string, artifactPath: string, artifactBytes: number): void {
    this.#results.set(directory, { directory, artifactPath, artifactBytes });
  }

  release(): void {
    for (const lease of this.#leases) lease.release();
  }
}

async function identityOf(directory: string): Promise<string> {
  if (isStoreUrl(directory)) return directory.replace(/\/*$/, '');
  const { dev, ino } = await stat(directory).catch((error: unknown) => {
    throw wrapSystemError(error, `find the target folder ${directory}`);
  });
  return `${dev}:${ino}`;
}
