/**
 * Writes a proven chain into the two folders of a database, which may be one and the same: every byte proven on the way,
 * everything on disk at the end. Where these folders lie, and what becomes of them, is the caller's.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileVersionOf } from '../artifact/logmember.ts';
import type { MemberHandler, MemberInfo } from '../artifact/memberhandler.ts';
import { memberBytesOf, readMembers } from '../artifact/members.ts';
import type { MemberSource } from '../artifact/membersource.ts';
import type { Artifact } from '../artifact/reader.ts';
import { assembledBytes, assembledLog } from '../chain/assemble.ts';
import type { LogPiece } from '../chain/proof.ts';
import { GraphkeepError, throwIfAborted, wrapSystemError } from '../errors.ts';
import { FRAME_RAW_BYTES, RESTORED_FILES_SYNCING_MAX } from '../limits.ts';
import { makeOwnedFolder, type Ownership, own } from '../neo4j/swap.ts';
import { BackgroundSync, syncDirectory, writeFully } from '../storage/local.ts';
import { byteProgress } from './byteprogress.ts';
import type { DatabaseFolders, OperationContext } from './types.ts';

export interface UnpackOptions extends OperationContext {
  /** Of every file and folder that is made. */
  readonly ownership: Ownership;
  /** Name of the work for the listener. */
  readonly phase: string;
}

/**
 * Unpacks a full artifact and writes the log of its differentials behind its own. The folders exist and are empty; when
 * it fails, what was written so far stays in them.
 * @throws GK_ARTIFACT_CORRUPT, GK_NO_SPACE, GK_INTERRUPTED, …
 */
export async function unpackChain(
  artifact: Artifact,
  pieces: readonly LogPiece[],
  folders: DatabaseFolders,
  options: UnpackOptions,
): Promise<{ memberBytes: number; memberCount: number }> {
  const files = new FileUnpacker(folders, options.ownership);
  const expectedBytes = fullBytesOf(artifact) + assembledBytes(pieces);
  const onBytes = byteProgress(options.listener, options.phase, expectedBytes);
  try {
    await readMembers(artifact, files, { signal: options.signal, onBytes });
    for await (const logFile of assembledLog(pieces, files.newestLogVersion)) {
      await copyMember(logFile, files, options.signal, onBytes);
    }
    await files.finish(artifact);
  } catch (error) {
    await files.abandon();
    throw error;
  }
  return { memberBytes: files.memberBytes, memberCount: files.memberCount };
}

/** Bytes of the members; of an artifact without an index, of the file. */
export function fullBytesOf({ index, file }: Artifact): number {
  return index === undefined ? file.bytes : memberBytesOf(index);
}

async function copyMember(
  member: MemberSource,
  files: FileUnpacker,
  signal: AbortSignal | undefined,
  onBytes: (bytes: number) => void,
): Promise<void> {
  await files.begin(member);
  for (let position = 0; position < member.bytes; position += FRAME_RAW_BYTES) {
    throwIfAborted(signal);
    const bytes = Buffer.allocUnsafe(Math.min(FRAME_RAW_BYTES, member.bytes - position));
    await member.read(bytes, position);
    await files.content(bytes, position);
    onBytes(bytes.length);
  }
  await files.end();
}

interface OpenFile {
  readonly path: string;
  readonly handle: FileHandle;
  readonly sync: BackgroundSync;
}

/** Writes members into the staging folders; syncing runs a few files behind the writing. */
class FileUnpacker implements MemberHandler {
  readonly #folders: DatabaseFolders;
  readonly #ownership: Ownership;
  readonly #directories = new Set<string>();
  readonly #closing: Promise<void>[] = [];
  readonly #kinds = new Set<string>();
  #open: OpenFile | undefined;
  #failure: unknown;
  memberBytes = 0;
  memberCount = 0;
  newestLogVersion = 0n;

  constructor(folders: DatabaseFolders, ownership: Ownership) {
    this.#folders = folders;
    this.#ownership = ownership;
    this.#directories.add(folders.storeDirectory).add(folders.logDirectory);
  }

  async begin(member: MemberInfo): Promise<void> {
    const path =
      member.kind === 'store'
        ? join(this.#folders.storeDirectory, member.path)
        : join(this.#folders.logDirectory, basename(member.path));
    this.#kinds.add(member.path === 'neostore' ? 'neostore' : member.kind);
    await this.#makeDirectory(dirname(path));
    // `wx`: an artifact that names one path twice is not written over itself.
    const handle = await open(path, 'wx', this.#ownership.fileMode).catch((error: unknown) => {
      throw wrapSystemError(error, `create ${path}`);
    });
    this.#open = { path, handle, sync: new BackgroundSync(handle) };
    await own(path, this.#ownership, this.#ownership.fileMode);
    this.memberBytes += member.bytes;
    this.memberCount++;
    const version = member.kind === 'log' ? fileVersionOf(member.path) : 0n;
    if (version > this.newestLogVersion) this.newestLogVersion = version;
  }

  async #makeDirectory(directory: string): Promise<void> {
    if (this.#directories.has(directory)) return;
    await makeOwnedFolder(directory, this.#ownership);
    for (let folder = directory; !this.#directories.has(folder); folder = dirname(folder))
      this.#directories.add(folder);
  }

  async content(bytes: Buffer, positionBytes: number): Promise<void> {
    const file = this.#open!;
    await writeFully(file.handle, bytes, positionBytes, file.path);
    file.sync.wrote(bytes.length);
  }

  async end(): Promise<void> {
    const file = this.#open!;
    this.#open = undefined;
    const closing = closeDurably(file).catch((error: unknown) => {
      this.#failure ??= error;
    });
    this.#closing.push(closing);
    if (this.#closing.length > RESTORED_FILES_SYNCING_MAX) await this.#closing.shift();
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** After the last member: everything on disk, and everything there that a database consists of. */
  async finish(artifact: Artifact): Promise<void> {
    await Promise.all(this.#closing);
    if (this.#failure !== undefined) throw this.#failure;
    const missing = ['neostore', 'log', 'checkpoint'].filter((kind) => !this.#kinds.has(kind));
    if (missing.length > 0) {
      throw new GraphkeepError(
        'GK_ARTIFACT_CORRUPT',
        `${artifact.file.path} holds no ${missing.join(' and no ')}`,
      );
    }
    for (const directory of this.#directories) await syncDirectory(directory);
  }

  async abandon(): Promise<void> {
    await Promise.all(this.#closing);
    await this.#open?.handle.close();
  }
}

async function closeDurably(file: OpenFile): Promise<void> {
  try {
    await file.sync.finish();
  } catch (error) {
    throw wrapSystemError(error, `write ${file.path} to disk`);
  } finally {
    await file.handle.close();
  }
}
