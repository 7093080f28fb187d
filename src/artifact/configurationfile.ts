/**
 * Writing and reading the artifact that holds the configuration of an installation: one tar, every byte of which is
 * compared with what its manifest demands before any of it is used.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { GraphkeepError, throwIfAborted, wrapSystemError } from '../errors.ts';
import { type ArchiveLayout, layoutOf } from '../formats/configuration/archive.ts';
import {
  type ConfigurationManifest,
  type ConfigurationMember,
  parseManifest,
  writeManifest,
} from '../formats/configuration/manifest.ts';
import { FormatError } from '../formats/formaterror.ts';
import { TAR_BLOCK_BYTES, TAR_END_BYTES, tarPadding } from '../formats/tar.ts';
import { CONFIGURATION_COPY_BYTES } from '../limits.ts';
import { type ReadableFile, writeFully } from '../storage/local.ts';
import { readRange, withEndsInMemory } from './bytes.ts';
import { boundedManifestBytes, manifestFails, proveConfiguration } from './configurationproof.ts';
import { corruptOnFormatError } from './reader.ts';
import { openContent } from './sealedfile.ts';

/** A member and its content; `read` must fill the whole target. */
export interface ConfigurationSource {
  readonly member: ConfigurationMember;
  read(target: Buffer, positionBytes: number): Promise<void>;
}

/** What there is to be taken of one installation. */
export interface ConfigurationContent {
  readonly manifest: ConfigurationManifest;
  /** In the order of the manifest. */
  readonly sources: readonly ConfigurationSource[];
}

/**
 * The artifact in pieces of a bounded size, in order: for a file, or for a socket.
 * @throws GK_SOURCE_MOVED when a file has changed since the manifest was made
 */
export async function* configurationBytes(
  { manifest, sources }: ConfigurationContent,
  signal?: AbortSignal,
): AsyncGenerator<Buffer, void> {
  const layout = layoutOf(writeManifest(manifest), manifest);
  yield layout.head;
  for (const [number, { header }] of layout.members.entries()) {
    yield header;
    yield* contentOf(sources[number]!, signal);
  }
  yield Buffer.alloc(TAR_END_BYTES);
}

async function* contentOf(
  { member, read }: ConfigurationSource,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer, void> {
  const hash = createHash('sha256');
  for (let position = 0; position < member.bytes; position += CONFIGURATION_COPY_BYTES) {
    throwIfAborted(signal);
    const piece = Buffer.alloc(Math.min(CONFIGURATION_COPY_BYTES, member.bytes - position));
    await read(piece, position);
    hash.update(piece);
    yield piece;
  }
  if (hash.digest('hex') !== member.sha256)
    throw new GraphkeepError('GK_SOURCE_MOVED', `${member.place}/${member.path} changed while it was read`);
  yield Buffer.alloc(tarPadding(member.bytes));
}

/** An artifact whose manifest was read and proven; its members are proven by `verify` or as they are copied. */
export class ConfigurationArtifact {
  readonly manifest: ConfigurationManifest;
  readonly #file: ReadableFile;
  readonly #layout: ArchiveLayout;

  private constructor(file: ReadableFile, manifest: ConfigurationManifest, layout: ArchiveLayout) {
    this.#file = file;
    this.manifest = manifest;
    this.#layout = layout;
  }

  /** @param path a file, or an object of a store. @throws GK_ARTIFACT_CORRUPT, GK_KEY_MISSING, GK_NOT_FOUND */
  static async open(path: string): Promise<ConfigurationArtifact> {
    const file = await corruptOnFormatError(path, () => openContent(path));
    try {
      return await ConfigurationArtifact.in(file);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** The same of a file that is open already. @throws GK_ARTIFACT_CORRUPT */
  static in(opened: ReadableFile): Promise<ConfigurationArtifact> {
    return corruptOnFormatError(opened.path, async () => {
      const file = await withEndsInMemory(opened);
      const firstBlock = await readRange(file, 0, TAR_BLOCK_BYTES);
      const manifestBytes = await readRange(file, TAR_BLOCK_BYTES, boundedManifestBytes(firstBlock));
      const manifest = parseManifest(manifestBytes);
      const layout = layoutOf(manifestBytes, manifest);
      if (layout.totalBytes !== file.bytes)
        throw new FormatError(`it has ${file.bytes} bytes instead of ${layout.totalBytes}`);
      const head = await readRange(file, 0, layout.head.length);
      if (!head.equals(layout.head)) throw manifestFails();
      return new ConfigurationArtifact(file, manifest, layout);
    });
  }

  get path(): string {
    return this.#file.path;
  }

  get bytes(): number {
    return this.#file.bytes;
  }

  /**
   * Reads and proves every byte.
   * @param take is given the whole file in order, in pieces; what it did with them counts only when this ends well
   * @throws GK_ARTIFACT_CORRUPT
   */
  async verify(signal?: AbortSignal, take?: (bytes: Buffer) => Promise<void>): Promise<void> {
    const pieces = this.#pieces(0, this.bytes, signal);
    const passing = take === undefined ? pieces : passedOn(pieces, take);
    await corruptOnFormatError(this.path, () => proveConfiguration(passing));
  }

  /** Copies a member to a new file, which only its owner can read until `prepare` was called. Synced, proven. */
  async copyTo(
    member: ConfigurationMember,
    path: string,
    prepare: (path: string) => Promise<void>,
    signal?: AbortSignal,
  ): Promise<void> {
    const { contentOffset } = this.#layout.members.find((candidate) => candidate.member === member)!;
    const handle = await open(path, 'wx', 0o600).catch((error: unknown) => {
      throw wrapSystemError(error, `create ${path}`);
    });
    try {
      const hash = createHash('sha256');
      let position = 0;
      for await (const piece of this.#pieces(contentOffset, contentOffset + member.bytes, signal)) {
        hash.update(piece);
        await writeFully(handle, piece, position, path);
        position += piece.length;
      }
      if (hash.digest('hex') !== member.sha256) throw this.#fails(member);
      await prepare(path);
      await syncFile(handle, path);
    } finally {
      await handle.close();
    }
  }

  async *#pieces(start: number, end: number, signal: AbortSignal | undefined): AsyncGenerator<Buffer, void> {
    for (let position = start; position < end; position += CONFIGURATION_COPY_BYTES) {
      throwIfAborted(signal);
      const bytes = Math.min(CONFIGURATION_COPY_BYTES, end - position);
      yield await corruptOnFormatError(this.path, () => readRange(this.#file, position, bytes));
    }
  }

  #fails({ place, path }: ConfigurationMember): GraphkeepError {
    return new GraphkeepError('GK_ARTIFACT_CORRUPT', `${this.path}: ${place}/${path} fails its SHA-256`);
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

async function* passedOn(
  pieces: AsyncIterable<Buffer>,
  take: (bytes: Buffer) => Promise<void>,
): AsyncGenerator<Buffer, void> {
  for await (const piece of pieces) {
    await take(piece);
    yield piece;
  }
}

async function syncFile(handle: FileHandle, path: string): Promise<void> {
  await handle.sync().catch((error: unknown) => {
    throw wrapSystemError(error, `write ${path} to disk`);
  });
}
