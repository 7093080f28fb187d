/**
 * Writing and reading the artifact that holds the configuration of an installation: one tar, every byte of which is
 * compared with what its manifest demands before any of it is used.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { GraphkeepError, throwIfAborted, wrapSystemError } from '../errors.ts';
import {
  type ArchiveLayout,
  layoutOf,
  manifestBytesOf,
  type PlacedMember,
} from '../formats/configuration/archive.ts';
import {
  type ConfigurationManifest,
  type ConfigurationMember,
  parseManifest,
  writeManifest,
} from '../formats/configuration/manifest.ts';
import { FormatError } from '../formats/formaterror.ts';
import { TAR_BLOCK_BYTES, TAR_END_BYTES, tarPadding } from '../formats/tar.ts';
import { CONFIGURATION_COPY_BYTES, CONFIGURATION_MANIFEST_BYTES_MAX } from '../limits.ts';
import { type ReadableFile, writeFully } from '../storage/local.ts';
import { readRange } from './bytes.ts';
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

  /** @throws GK_ARTIFACT_CORRUPT, GK_KEY_MISSING, GK_NOT_FOUND */
  static async open(path: string): Promise<ConfigurationArtifact> {
    const file = await corruptOnFormatError(path, () => openContent(path));
    try {
      return await corruptOnFormatError(path, async () => {
        const manifestBytes = await readManifestBytes(file);
        const manifest = parseManifest(manifestBytes);
        const layout = layoutOf(manifestBytes, manifest);
        if (layout.totalBytes !== file.bytes)
          throw new FormatError(`it has ${file.bytes} bytes instead of ${layout.totalBytes}`);
        const head = await readRange(file, 0, layout.head.length);
        if (!head.equals(layout.head)) throw new FormatError('the manifest fails its SHA-256');
        return new ConfigurationArtifact(file, manifest, layout);
      });
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  get path(): string {
    return this.#file.path;
  }

  get bytes(): number {
    return this.#file.bytes;
  }

  /** Reads and proves every byte. @throws GK_ARTIFACT_CORRUPT */
  async verify(signal?: AbortSignal): Promise<void> {
    for (const placed of this.#layout.members) await this.#pass(placed, async () => {}, signal);
    await corruptOnFormatError(this.path, async () => {
      const end = await readRange(this.#file, this.bytes - TAR_END_BYTES, TAR_END_BYTES);
      requireZeros(end, 'the end');
    });
  }

  /** Copies a member to a new file, which only its owner can read until `prepare` was called. Synced, proven. */
  async copyTo(
    member: ConfigurationMember,
    path: string,
    prepare: (path: string) => Promise<void>,
    signal?: AbortSignal,
  ): Promise<void> {
    const placed = this.#layout.members.find((candidate) => candidate.member === member)!;
    const handle = await open(path, 'wx', 0o600).catch((error: unknown) => {
      throw wrapSystemError(error, `create ${path}`);
    });
    try {
      await this.#pass(placed, (bytes, position) => writeFully(handle, bytes, position, path), signal);
      await prepare(path);
      await syncFile(handle, path);
    } finally {
      await handle.close();
    }
  }

  async #pass(
    { member, header, contentOffset }: PlacedMember,
    take: (bytes: Buffer, positionBytes: number) => Promise<void>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    await corruptOnFormatError(this.path, async () => {
      const name = `${member.place}/${member.path}`;
      const stored = await readRange(this.#file, contentOffset - TAR_BLOCK_BYTES, TAR_BLOCK_BYTES);
      if (!stored.equals(header)) throw new FormatError(`the tar header of ${name} is another one`);
      const hash = createHash('sha256');
      for (let position = 0; position < member.bytes; position += CONFIGURATION_COPY_BYTES) {
        throwIfAborted(signal);
        const bytes = Math.min(CONFIGURATION_COPY_BYTES, member.bytes - position);
        const piece = await readRange(this.#file, contentOffset + position, bytes);
        hash.update(piece);
        await take(piece, position);
      }
      if (hash.digest('hex') !== member.sha256) throw new FormatError(`${name} fails its SHA-256`);
      const padding = await readRange(this.#file, contentOffset + member.bytes, tarPadding(member.bytes));
      requireZeros(padding, `what follows ${name}`);
    });
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

async function readManifestBytes(file: ReadableFile): Promise<Buffer> {
  const first = await readRange(file, 0, TAR_BLOCK_BYTES);
  const bytes = manifestBytesOf(first);
  if (bytes > CONFIGURATION_MANIFEST_BYTES_MAX) throw new FormatError(`a manifest of ${bytes} bytes`);
  return readRange(file, TAR_BLOCK_BYTES, bytes);
}

function requireZeros(bytes: Buffer, where: string): void {
  if (bytes.some((byte) => byte !== 0)) throw new FormatError(`${where} is not zero`);
}

async function syncFile(handle: FileHandle, path: string): Promise<void> {
  await handle.sync().catch((error: unknown) => {
    throw wrapSystemError(error, `write ${path} to disk`);
  });
}
