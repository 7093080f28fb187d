/**
 * How an artifact comes into its folder: written under a temporary name that its writer has locked, published under the
 * first free name, or taken away again. The same for every operation that makes one.
 */
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { withMetadataScript } from '../artifact/metadata.ts';
import { ArtifactWriter } from '../artifact/writer.ts';
import { GraphkeepError, throwIfAborted, wrapSystemError } from '../errors.ts';
import type { ArtifactDescriptor } from '../formats/artifact/descriptor.ts';
import { INDEX_PROPERTY } from '../formats/artifact/index.ts';
import { STALE_PARTIAL_AGE_MS } from '../limits.ts';
import { FAILED_SUFFIX, PARTIAL_SUFFIX, Publication, readFolder } from '../storage/local.ts';
import { type FileLock, tryLockIfPossible } from '../storage/locks.ts';
import { ObjectPublication } from '../storage/objects/publication.ts';
import type { UploadOptions } from '../storage/objects/store.ts';
import { artifactAttributes, isStoreUrl, joinPath, storeOf } from '../storage/places.ts';
import { VERSION } from '../version.ts';
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
  /** About how much will be written: a store takes a bounded number of parts. */
  readonly bytesExpected?: number;
  /** Told of every member byte that was read. */
  readonly onBytes?: (bytes: number) => void;
}

/** An artifact under way. */
export class ArtifactFile {
  readonly writer: ArtifactWriter;
  readonly #publication: Publication | ObjectPublication;
  readonly #options: ArtifactFileOptions;

  private constructor(publication: Publication | ObjectPublication, options: ArtifactFileOptions) {
    this.#publication = publication;
    this.#options = options;
    const level = options.compress ? options.compressionLevel : undefined;
    this.writer = new ArtifactWriter(publication, level, options.onBytes);
  }

  /** Runs `work`; unless it ends well, nothing stays that looks like an artifact. */
  static async create<Result>(
    options: ArtifactFileOptions,
    work: (file: ArtifactFile) => Promise<Result>,
  ): Promise<Result> {
    const { publication, lock } = isStoreUrl(options.targetDirectory)
      ? { publication: await beginArtifactObject(options), lock: undefined }
      : await beginFile(options.targetDirectory, `${options.database}.backup`);
    const file = new ArtifactFile(publication, options);
    try {
      return await work(file);
    } catch (error) {
      await file.#abandon();
      throw error;
    } finally {
      lock?.release();
    }
  }

  get bytes(): number {
    return this.#publication.bytes;
  }

  /** @returns the path under which it is there now */
  async publish(timeSeconds: bigint): Promise<string> {
    const { targetDirectory, database, signal } = this.#options;
    if (this.#publication instanceof ObjectPublication)
      return publishObject(this.#publication, targetDirectory, signal);
    const pathOf = (time: string): string => join(targetDirectory, `${database}-${time}.backup`);
    return publishUnderFreeName(this.#publication, pathOf, Number(timeSeconds) * 1000, signal);
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

/** A file under a temporary name that its writer has locked; what killed writers left of that name is gone. */
export async function beginFile(
  directory: string,
  partialName: string,
): Promise<{ publication: Publication; lock: FileLock | undefined }> {
  await removeStalePartials(directory, partialName);
  const publication = await Publication.create(directory, partialName);
  return { publication, lock: tryLockIfPossible(publication.partialPath, { create: false }) };
}

function beginArtifactObject({
  targetDirectory,
  database,
  signal,
  bytesExpected,
}: ArtifactFileOptions): Promise<ObjectPublication> {
  const size = bytesExpected === undefined ? {} : { bytesExpected };
  return beginObject(targetDirectory, (time) => `${database}-${time}.backup`, { signal, ...size });
}

/** The name of an object is its own from the first part on: it carries the time at which it was begun. */
export async function beginObject(
  targetDirectory: string,
  nameOf: (time: string) => string,
  options: Pick<UploadOptions, 'signal' | 'bytesExpected'>,
): Promise<ObjectPublication> {
  const store = await storeOf(targetDirectory);
  let timeMs = Date.now();
  const nameAt = (time: number): string => nameOf(formatTime(new Date(time)));
  while ((await store.stat(nameAt(timeMs), options.signal)) !== undefined) timeMs += 1000;
  return ObjectPublication.begin(store, nameAt(timeMs), { ...options, ...artifactAttributes() });
}

/** @returns its URL. @throws GK_TARGET_EXISTS when another writer was faster; nothing stays of this one then */
export async function publishObject(
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
export async function publishUnderFreeName(
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

/**
 * Removes what killed backups of this database left. A file that is being written is locked by its writer, on this
 * host or, over a shared file system, on another; only one that can be locked here, and that was not just created, is
 * nobody's.
 */
async function removeStalePartials(directory: string, partialName: string): Promise<void> {
  for (const entry of await readFolder(directory)) {
    const isPartial = entry.name.startsWith(`.${partialName}.`) && entry.name.endsWith(PARTIAL_SUFFIX);
    if (!isPartial || !entry.isFile()) continue;
    const path = join(directory, entry.name);
    const status = await stat(path).catch(() => undefined);
    if (status === undefined || Date.now() - status.mtimeMs < STALE_PARTIAL_AGE_MS) continue;
    const lock = tryLockIfPossible(path, { create: false });
    if (lock === undefined) continue;
    await rm(path, { force: true });
    lock.release();
  }
}

/** UTC, as the name of an artifact carries it: `2026-11-21T12-43-07`. */
export function formatTime(time: Date): string {
  return time.toISOString().slice(0, 19).replaceAll(':', '-');
}
