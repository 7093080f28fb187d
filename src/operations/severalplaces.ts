/**
 * One artifact on its way to several places: its bytes are made once and go to all of them, no faster than the slowest
 * takes them. Nobody sees it anywhere before all of it is at every place; then it gets its name, the same everywhere.
 */
import type { ArtifactSink } from '../artifact/writer.ts';
import { asGraphkeepError, GraphkeepError, throwIfAborted } from '../errors.ts';
import { existsAt, joinPath } from '../storage/places.ts';
import type { BackupPlaces } from './backupplaces.ts';
import { NamedPublication, type ProveFile } from './namedpublication.ts';

export interface SeveralPlacesOptions {
  /** Name of the artifact for a time, in epoch milliseconds. */
  readonly nameAt: (timeMs: number) => string;
  readonly partialName: string;
  readonly bytesExpected?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export class SeveralPlaces implements ArtifactSink {
  readonly #places: BackupPlaces;
  readonly #signal: AbortSignal | undefined;
  /** Those that were not left out. */
  #open: NamedPublication[] = [];
  /** Of those that were: a store that does not answer must not hold up the others. */
  readonly #endings: Promise<unknown>[] = [];
  #bytes = 0;

  private constructor(places: BackupPlaces, signal: AbortSignal | undefined) {
    this.#places = places;
    this.#signal = signal;
  }

  static async begin(places: BackupPlaces, options: SeveralPlacesOptions): Promise<SeveralPlaces> {
    const { partialName, bytesExpected, signal } = options;
    const name = await freeName(places, options);
    const several = new SeveralPlaces(places, signal);
    const expected = bytesExpected === undefined ? {} : { bytesExpected };
    try {
      for (const directory of places.directories) {
        const begun = await places.orFail(directory, () =>
          NamedPublication.begin({ directory, name, partialName, signal, ...expected }),
        );
        if (begun !== undefined) several.#open.push(begun);
      }
      return several;
    } catch (error) {
      await several.discard();
      throw error;
    }
  }

  get bytes(): number {
    return this.#bytes;
  }

  async append(bytes: Buffer): Promise<void> {
    this.#bytes += bytes.length;
    await this.#each((publication) => publication.append(bytes));
  }

  async patch(bytes: Buffer, positionBytes: number): Promise<void> {
    await this.#each((publication) => publication.patch(bytes, positionBytes));
  }

  async truncate(bytes: number): Promise<void> {
    this.#bytes = bytes;
    await this.#each((publication) => publication.truncate(bytes));
  }

  hold(): void {
    for (const publication of this.#open) publication.hold();
  }

  /** All at once, and none is still at work when it ends: what is written may be used again by then. */
  async #each(work: (publication: NamedPublication) => Promise<void>): Promise<void> {
    const open = this.#open;
    const outcomes = await Promise.allSettled(open.map(work));
    for (const [number, outcome] of outcomes.entries()) {
      if (outcome.status === 'rejected') this.#leaveOut(open[number]!, outcome.reason);
    }
  }

  #leaveOut(failed: NamedPublication, reason: unknown): void {
    this.#places.fail(failed.directory, reason);
    this.#open = this.#open.filter((publication) => publication !== failed);
    this.#endings.push(failed.discard().catch(() => undefined));
  }

  /**
   * @param prove is given what lies on a disk, before any of them gets its name
   * @returns the first of the paths under which it is there now
   * @throws what a place failed with; where others have it already, with their names
   */
  async publish(prove?: ProveFile): Promise<string> {
    throwIfAborted(this.#signal);
    await this.#each((publication) => publication.finish(prove));
    const published: NamedPublication[] = [];
    for (const publication of this.#open) {
      try {
        await publication.publish();
        published.push(publication);
        this.#places.published(publication.directory, publication.path, this.#bytes);
      } catch (error) {
        const isTooLate = published.length > 0;
        if (isTooLate && this.#endsAll(error)) throw partlyPublished(published, this.#open, error);
        this.#leaveOut(publication, error);
      }
    }
    await Promise.all(this.#endings);
    return published[0]!.path;
  }

  #endsAll(error: unknown): boolean {
    const isInterrupted = error instanceof GraphkeepError && error.code === 'GK_INTERRUPTED';
    return this.#places.mustHoldAll || isInterrupted;
  }

  /** Nothing stays but what was published. */
  async discard(keepAs?: string): Promise<string | undefined> {
    const kept = await Promise.allSettled(this.#open.map((publication) => publication.discard(keepAs)));
    await Promise.all(this.#endings);
    const paths = kept.flatMap((outcome) => (outcome.status === 'fulfilled' ? (outcome.value ?? []) : []));
    return paths.length === 0 ? undefined : paths.join(', ');
  }
}

/** A name that no place has yet; who takes it meanwhile is not overwritten. */
async function freeName(places: BackupPlaces, { nameAt, signal }: SeveralPlacesOptions): Promise<string> {
  for (let timeMs = Date.now(); ; timeMs += 1000) {
    throwIfAborted(signal);
    const name = nameAt(timeMs);
    let isTaken = false;
    for (const directory of places.directories) {
      const exists = await places.orFail(directory, () => existsAt(joinPath(directory, name)));
      isTaken ||= exists === true;
    }
    if (!isTaken) return name;
  }
}

function partlyPublished(
  published: readonly NamedPublication[],
  all: readonly NamedPublication[],
  reason: unknown,
): GraphkeepError {
  const error = asGraphkeepError(reason, 'publish the artifact');
  const there = published.map(({ path }) => path).join(' and ');
  const missing = all.filter((publication) => !published.includes(publication));
  const absent = missing.map(({ directory }) => directory).join(' and ');
  return new GraphkeepError(
    error.code,
    `${there} ${published.length === 1 ? 'is' : 'are'} there and whole, but the backup is not in ${absent}: ${error.message}`,
    { hint: 'bring it there with: graphkeep backup copy <artifact> <folder>', cause: error },
  );
}
