/**
 * How an artifact comes into its folder: written under a temporary name that its writer has locked, published under the
 * first free name, or taken away again. The same for every operation that makes one.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { encryptsArtifacts, writesClearHeader } from '../artifact/encryption.ts';
import { withMetadataScript } from '../artifact/metadata.ts';
import { SealedSink } from '../artifact/sealedsink.ts';
import { ArtifactWriter, type IndexFacts } from '../artifact/writer.ts';
import { summarize } from '../chain/catalogue.ts';
import { writeClearHeader } from '../chain/clearheader.ts';
import { GraphkeepError, throwIfAborted, wrapSystemError } from '../errors.ts';
import type { ArtifactDescriptor } from '../formats/artifact/descriptor.ts';
import { INDEX_PROPERTY } from '../formats/artifact/index.ts';
import { CLEAR_HEADER_BYTES } from '../limits.ts';
import { FAILED_SUFFIX, type Publication } from '../storage/local.ts';
import type { FileLock } from '../storage/locks.ts';
import { ObjectPublication } from '../storage/objects/publication.ts';
import { artifactAttributes, isStoreUrl, joinPath, storeOf } from '../storage/places.ts';
import { VERSION } from '../version.ts';
import type { BackupPlaces } from './backupplaces.ts';
import type { ProveFile } from './namedpublication.ts';
import { beginFile } from './partialfile.ts';
import { SeveralPlaces } from './severalplaces.ts';
import type { ArtifactForm, OperationContext } from './types.ts';

/** What the descriptor of our artifacts says beyond its fixed fields. */
export function propertiesOf(metadataScript: string | undefined): ArtifactDescriptor['properties'] {
  const script = metadataScript === undefined ? undefined : Buffer.from(metadataScript, 'utf8');
  return withMetadataScript(new Map([[INDEX_PROPERTY, Buffer.from(VERSION, 'utf8')]]), script);
}

const PROBED_KEY = '.graphkeep.probe';

/** A store is asked as well: a wrong name or key is better known before the first byte is copied. */
export async function requireDirectory(path: string): Promise<void> {
  if (isStoreUrl(path)) {
    await (await storeOf(path)).stat(PROBED_KEY);
    return;
  }
  const status = await stat(path).catch((error: unknown) => {
    throw wrapSystemError(error, `find the target folder ${path}`);
  });
  if (!status.isDirectory()) throw new GraphkeepError('GK_NOT_FOUND', `the target ${path} is not a folder`);
}

export interface ArtifactFileOptions extends ArtifactForm, OperationContext {
  readonly targetDirectory: string;
  readonly database: string;
  /** Where `targetDirectory` is one of several. */
  readonly places?: BackupPlaces;
  /** About how much will be written: a store takes a bounded number of parts. */
  readonly bytesExpected?: number;
  /** Told of every member byte that was read. */
  readonly onBytes?: (bytes: number) => void;
}

/** An artifact under way. */
export class ArtifactFile {
  readonly writer: ArtifactWriter;
  readonly #publication: ArtifactPublication;
  readonly #sealed: SealedSink | undefined;
  readonly #options: ArtifactFileOptions;

  private constructor(
    publication: ArtifactPublication,
    sealed: SealedSink | undefined,
    options: ArtifactFileOptions,
  ) {
    this.#publication = publication;
    this.#sealed = sealed;
    this.#options = options;
    const level = options.compress ? options.compressionLevel : undefined;
    this.writer = new ArtifactWriter(sealed ?? publication, level, options.onBytes);
  }

  /** Runs `work`; unless it ends well, nothing stays that looks like an artifact. */
  static async create<Result>(
    options: ArtifactFileOptions,
    work: (file: ArtifactFile) => Promise<Result>,
  ): Promise<Result> {
    const { publication, lock } = await beginPublication(destinationOf(options));
    let file: ArtifactFile | undefined;
    try {
      file = new ArtifactFile(publication, await sealIfAsked(publication), options);
      return await work(file);
    } catch (error) {
      if (file === undefined) await publication.discard();
      else await file.#abandon();
      throw error;
    } finally {
      lock?.release();
    }
  }

  /** Writes what comes last. */
  async finish(descriptor: ArtifactDescriptor, facts: IndexFacts): Promise<void> {
    const index = await this.writer.finish(descriptor, facts);
    if (this.#sealed === undefined) return;
    const container = this.#options.compress ? 'BZV2' : 'BTV2';
    const summary = summarize({ path: '', bytes: 0, container }, { descriptor, index });
    await this.#sealed.finish(writesClearHeader() ? writeClearHeader(summary) : undefined);
  }

  get bytes(): number {
    return this.#publication.bytes;
  }

  /** @returns the path under which it is there now */
  publish(timeSeconds: bigint): Promise<string> {
    const startMs = Number(timeSeconds) * 1000;
    return publishAt(this.#publication, destinationOf(this.#options), { startMs });
  }

  /** With `keepFailed` the partial file stays, under a name that no command takes for an artifact. */
  async #abandon(): Promise<void> {
    await this.writer.abandon();
    const { database, keepFailed, listener } = this.#options;
    const keepAs = `${database}-${formatTime(new Date())}.backup${FAILED_SUFFIX}`;
    const kept = await this.#publication.discard(keepFailed ? keepAs : undefined);
    if (kept !== undefined) listener?.notice(`the failed backup was kept as ${kept}`);
  }
}

function destinationOf(options: ArtifactFileOptions): Destination {
  const { targetDirectory, places, database, bytesExpected, signal } = options;
  const nameFor = (time: string): string => `${database}-${time}.backup`;
  return { targetDirectory, places, nameFor, partialName: `${database}.backup`, bytesExpected, signal };
}

/** The sink that encrypts, when artifacts are to be encrypted. */
async function sealIfAsked(publication: ArtifactPublication): Promise<SealedSink | undefined> {
  if (!encryptsArtifacts()) return undefined;
  return SealedSink.begin(publication, writesClearHeader() ? CLEAR_HEADER_BYTES : undefined);
}

/** Where an artifact goes, of whatever kind, and what it will be called there. */
export interface Destination {
  readonly targetDirectory: string;
  /** Where `targetDirectory` is one of several. */
  readonly places: BackupPlaces | undefined;
  /** Its name for a time as names carry it: `2026-11-21T12-43-07`. */
  readonly nameFor: (time: string) => string;
  readonly partialName: string;
  readonly bytesExpected?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export type ArtifactPublication = Publication | ObjectPublication | SeveralPlaces;

/** Under a temporary name, or none: nobody takes it for an artifact before `publishAt`. */
export async function beginPublication(
  destination: Destination,
): Promise<{ publication: ArtifactPublication; lock: FileLock | undefined }> {
  const { targetDirectory, places, nameFor, partialName, bytesExpected, signal } = destination;
  if (places?.areSeveral === true) {
    const nameAt = (timeMs: number): string => nameFor(formatTime(new Date(timeMs)));
    const several = { nameAt, partialName, bytesExpected, signal };
    return { publication: await SeveralPlaces.begin(places, several), lock: undefined };
  }
  if (isStoreUrl(targetDirectory)) return { publication: await beginObject(destination), lock: undefined };
  return beginFile(targetDirectory, partialName);
}

/**
 * @param startMs what the name of a file says; that of an object was chosen when it was begun
 * @param prove is given each file that lies on a disk, before anything of the artifact gets its name
 * @returns the path under which it is there now; of several, the first
 */
export async function publishAt(
  publication: ArtifactPublication,
  { targetDirectory, nameFor, signal }: Destination,
  { startMs, prove }: { startMs: number; prove?: ProveFile },
): Promise<string> {
  if (publication instanceof SeveralPlaces) return publication.publish(prove);
  if (publication instanceof ObjectPublication) return publishObject(publication, targetDirectory, signal);
  await prove?.(publication.partialPath);
  const pathOf = (time: string): string => join(targetDirectory, nameFor(time));
  return publishUnderFreeName(publication, pathOf, startMs, signal);
}

/** The name of an object is its own from the first part on: it carries the time at which it was begun. */
async function beginObject({
  targetDirectory,
  nameFor,
  bytesExpected,
  signal,
}: Destination): Promise<ObjectPublication> {
  const store = await storeOf(targetDirectory);
  let timeMs = Date.now();
  const nameAt = (time: number): string => nameFor(formatTime(new Date(time)));
  while ((await store.stat(nameAt(timeMs), signal)) !== undefined) timeMs += 1000;
  const size = bytesExpected === undefined ? {} : { bytesExpected };
  return ObjectPublication.begin(store, nameAt(timeMs), { signal, ...size, ...artifactAttributes() });
}

/** @returns its URL. @throws GK_TARGET_EXISTS when another writer was faster; nothing stays of this one then */
async function publishObject(
  publication: ObjectPublication,
  targetDirectory: string,
  signal: AbortSignal | undefined,
): Promise<string> {
  throwIfAborted(signal);
  if (await publication.publish()) return joinPath(targetDirectory, publication.key);
  throw new GraphkeepError(
    'GK_TARGET_EXISTS',
    `${publication.partialPath} was written by somebody else meanwhile`,
    { hint: 'run the backup again; two backups of one database must not begin in the same second' },
  );
}

/** A name carries whole seconds: when it is taken, the next second is waited for. */
async function publishUnderFreeName(
  publication: Publication,
  pathOf: (time: string) => string,
  startMs: number,
  signal: AbortSignal | undefined,
): Promise<string> {
  for (let timeMs = startMs; ; timeMs += 1000) {
    throwIfAborted(signal);
    const path = pathOf(formatTime(new Date(timeMs)));
    if (await publication.publish(path)) return path;
    await sleep(Math.max(0, timeMs + 1000 - Date.now()));
  }
}

/** UTC, as the name of an artifact carries it: `2026-11-21T12-43-07`. */
export function formatTime(time: Date): string {
  return time.toISOString().slice(0, 19).replaceAll(':', '-');
}
