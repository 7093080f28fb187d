/**
 * A file on its way to a name that is known beforehand, in a folder or in a store. It gets that name when all of it is
 * there, and only if nobody has it; in between it is no file that any command takes for an artifact.
 */
import type { ArtifactSink } from '../artifact/writer.ts';
import { GraphkeepError, throwIfAborted } from '../errors.ts';
import { Publication } from '../storage/local.ts';
import type { FileLock } from '../storage/locks.ts';
import { ObjectPublication } from '../storage/objects/publication.ts';
import { artifactAttributes, isStoreUrl, joinPath, storeOf } from '../storage/places.ts';
import { beginFile } from './partialfile.ts';

/** Reads back a file that has no name yet. @throws unless it is what was written; it gets no name then */
export type ProveFile = (partialPath: string) => Promise<void>;

export interface NamedPublicationOptions {
  readonly directory: string;
  readonly name: string;
  /** Names the temporary file of a folder; what killed writers left of that name goes. */
  readonly partialName: string;
  /** About how much will be written: a store takes a bounded number of parts. */
  readonly bytesExpected?: number;
  readonly signal?: AbortSignal | undefined;
}

export class NamedPublication implements ArtifactSink {
  readonly directory: string;
  /** What it is going to be called. */
  readonly path: string;
  readonly #publication: Publication | ObjectPublication;
  readonly #lock: FileLock | undefined;
  readonly #signal: AbortSignal | undefined;
  #isPublished = false;

  private constructor(
    options: NamedPublicationOptions,
    publication: Publication | ObjectPublication,
    lock?: FileLock,
  ) {
    this.directory = options.directory;
    this.path = joinPath(options.directory, options.name);
    this.#publication = publication;
    this.#lock = lock;
    this.#signal = options.signal;
  }

  static async begin(options: NamedPublicationOptions): Promise<NamedPublication> {
    const { directory, name, partialName, bytesExpected, signal } = options;
    if (!isStoreUrl(directory)) {
      const { publication, lock } = await beginFile(directory, partialName);
      return new NamedPublication(options, publication, lock);
    }
    const expected = bytesExpected === undefined ? {} : { bytesExpected };
    const upload = { signal, ...artifactAttributes(), ...expected };
    return new NamedPublication(
      options,
      await ObjectPublication.begin(await storeOf(directory), name, upload),
    );
  }

  get bytes(): number {
    return this.#publication.bytes;
  }

  append(bytes: Buffer): Promise<void> {
    return this.#publication.append(bytes);
  }

  patch(bytes: Buffer, positionBytes: number): Promise<void> {
    return this.#publication.patch(bytes, positionBytes);
  }

  truncate(bytes: number): Promise<void> {
    return this.#publication.truncate(bytes);
  }

  hold(): void {
    if (this.#publication instanceof ObjectPublication) this.#publication.hold();
  }

  /**
   * Everything is there and durable, and nobody sees it yet: what can fail for a lack of space has not.
   * @param prove is given the path of what lies on a disk; of what is in a store nothing can be read before it has its name
   */
  async finish(prove?: ProveFile): Promise<void> {
    const publication = this.#publication;
    await publication.finish();
    if (publication instanceof Publication) await prove?.(publication.partialPath);
  }

  /** @throws GK_TARGET_EXISTS when the name was taken meanwhile */
  async publish(): Promise<string> {
    throwIfAborted(this.#signal);
    if (!(await this.#takeName())) {
      throw new GraphkeepError(
        'GK_TARGET_EXISTS',
        `${this.path} was written by somebody else meanwhile; it was not touched`,
        { hint: 'run the command again' },
      );
    }
    this.#isPublished = true;
    this.#lock?.release();
    return this.path;
  }

  #takeName(): Promise<boolean> {
    const publication = this.#publication;
    return publication instanceof ObjectPublication ? publication.publish() : publication.publish(this.path);
  }

  /** Nothing stays, unless it was published. */
  async discard(keepAs?: string): Promise<string | undefined> {
    if (this.#isPublished) return undefined;
    try {
      return await this.#publication.discard(keepAs);
    } finally {
      this.#lock?.release();
    }
  }
}
