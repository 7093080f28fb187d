/**
 * `database restore`: unpacks a full artifact beside the target, proves every byte on the way, and only then lets it
 * take the target's place. Owns the refusals; the swap itself is src/neo4j/swap.ts.
 */
import { type FileHandle, open, stat, statfs, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { MemberHandler, MemberInfo } from '../artifact/memberhandler.ts';
import { memberBytesOf, readMembers } from '../artifact/members.ts';
import { type Artifact, openArtifact } from '../artifact/reader.ts';
import { GraphkeepError, wrapSystemError } from '../errors.ts';
import { METADATA_SCRIPT_BYTES_MAX, RESTORED_FILES_SYNCING_MAX } from '../limits.ts';
import type { FileLock } from '../neo4j/locks.ts';
import { tryLock } from '../neo4j/locks.ts';
import {
  databaseExists,
  makeOwnedFolder,
  type Ownership,
  own,
  ownershipOf,
  StagedDatabase,
  type StepObserver,
  settleDatabase,
} from '../neo4j/swap.ts';
import { BackgroundSync, syncDirectory, writeFully } from '../storage/local.ts';
import type { DatabaseFolders, RestoreOptions, RestoreResult } from './types.ts';

/**
 * Restores one artifact. @throws GK_IN_USE, GK_TARGET_EXISTS, GK_NO_SPACE, GK_ARTIFACT_CORRUPT, …
 * @param onStep told of each step of the swap; tests kill the process there
 */
export async function restoreDatabase(
  options: RestoreOptions,
  onStep?: StepObserver,
): Promise<RestoreResult> {
  const startedMs = performance.now();
  const artifact = await openArtifact(options.artifactPath);
  try {
    refuseDifferential(artifact);
    const result = await withTargetLocked(options.target, (ownership) =>
      restoreLocked(artifact, options, ownership, onStep),
    );
    return { ...result, durationMs: Math.round(performance.now() - startedMs) };
  } finally {
    await artifact.file.close();
  }
}

function refuseDifferential(artifact: Artifact): void {
  if (artifact.descriptor.full) return;
  throw new GraphkeepError('GK_UNSUPPORTED', `${artifact.file.path} is a differential artifact`, {
    hint: 'name the full artifact of its chain',
  });
}

/**
 * Holds the locks that a running Neo4j would hold: of the whole data folder, and of the database. A server cannot
 * start while they are held, and none can be running when they were got.
 */
async function withTargetLocked<Result>(
  target: DatabaseFolders,
  work: (ownership: Ownership) => Promise<Result>,
): Promise<Result> {
  const databasesRoot = dirname(target.storeDirectory);
  const ownership = await ownershipOfNearest(databasesRoot);
  await makeOwnedFolder(databasesRoot, ownership);
  await makeOwnedFolder(dirname(target.logDirectory), ownership);
  const locks: FileLock[] = [];
  try {
    locks.push(await lockOrRefuse(join(databasesRoot, 'store_lock'), target, ownership));
    await settleDatabase(target);
    const databaseLock = join(target.storeDirectory, 'database_lock');
    if (await databaseExists(target)) {
      await makeOwnedFolder(target.storeDirectory, ownership);
      locks.push(await lockOrRefuse(databaseLock, target, ownership));
    }
    return await work(ownership);
  } finally {
    for (const lock of locks) lock.release();
  }
}

async function ownershipOfNearest(path: string): Promise<Ownership> {
  for (let folder = path; ; folder = dirname(folder)) {
    try {
      return await ownershipOf(folder);
    } catch (error) {
      if (folder === dirname(folder)) throw wrapSystemError(error, `look at ${path}`);
    }
  }
}

async function lockOrRefuse(path: string, target: DatabaseFolders, ownership: Ownership): Promise<FileLock> {
  const lock = tryLock(path, { create: true });
  if (lock === undefined) {
    throw new GraphkeepError('GK_IN_USE', `database ${target.name} is in use: a running Neo4j holds ${path}`);
  }
  await own(path, ownership, ownership.fileMode);
  return lock;
}

async function restoreLocked(
  artifact: Artifact,
  options: RestoreOptions,
  ownership: Ownership,
  onStep: StepObserver | undefined,
): Promise<Omit<RestoreResult, 'durationMs'>> {
  const { target } = options;
  const replacedExisting = await databaseExists(target);
  if (replacedExisting && !options.overwriteDestination) {
    throw new GraphkeepError(
      'GK_TARGET_EXISTS',
      `database ${target.name} exists in ${target.storeDirectory}`,
      {
        hint: 'give --overwrite-destination to replace it, or restore under another name',
      },
    );
  }
  await requireSpace(artifact, target);
  const script = metadataScriptOf(artifact);
  const staged = await StagedDatabase.create(target, ownership, onStep);
  const unpacked = await unpack(artifact, staged, options, ownership).catch(async (error: unknown) => {
    await staged.discard();
    throw error;
  });
  await staged.commit();
  const metadataScriptPath =
    script === undefined ? undefined : await writeMetadataScript(script, options, ownership);
  return {
    database: target.name,
    artifactPath: options.artifactPath,
    target,
    memberBytes: unpacked.memberBytes,
    memberCount: unpacked.memberCount,
    highestTransaction: artifact.descriptor.highestAppendIndex,
    replacedExisting,
    verifiedByHash: artifact.index !== undefined,
    ...(metadataScriptPath === undefined ? {} : { metadataScriptPath }),
  };
}

/** The old database stays until the new one is complete, so the new one needs room beside it. */
async function requireSpace(artifact: Artifact, target: DatabaseFolders): Promise<void> {
  const totalBytes = artifact.index === undefined ? artifact.file.bytes : memberBytesOf(artifact.index);
  const logBytes = (artifact.index?.members ?? [])
    .filter((member) => member.kind !== 'store')
    .reduce((sum, member) => sum + member.bytes, 0);
  const [storeRoot, logRoot] = [dirname(target.storeDirectory), dirname(target.logDirectory)];
  if ((await stat(storeRoot)).dev === (await stat(logRoot)).dev) return requireFree(storeRoot, totalBytes);
  await requireFree(storeRoot, totalBytes - logBytes);
  await requireFree(logRoot, logBytes);
}

async function requireFree(directory: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  const freeBytes = bavail * bsize;
  if (freeBytes >= bytes) return;
  throw new GraphkeepError(
    'GK_NO_SPACE',
    `${directory} has ${freeBytes} bytes free, the restore needs ${bytes}`,
  );
}

async function unpack(
  artifact: Artifact,
  staged: StagedDatabase,
  options: RestoreOptions,
  ownership: Ownership,
): Promise<{ memberBytes: number; memberCount: number }> {
  await staged.refuseIfNotReplaceable();
  const files = new FileUnpacker(staged.folders, ownership);
  const totalBytes = artifact.index === undefined ? artifact.file.bytes : memberBytesOf(artifact.index);
  let doneBytes = 0;
  try {
    await readMembers(artifact, files, {
      signal: options.signal,
      onBytes: (bytes) => {
        doneBytes += bytes;
        options.listener?.progress({
          phase: 'restoring',
          doneBytes,
          totalBytes: Math.max(totalBytes, doneBytes),
        });
      },
    });
    await files.finish(artifact);
  } catch (error) {
    await files.abandon();
    throw error;
  }
  return { memberBytes: files.memberBytes, memberCount: files.memberCount };
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

/** The script of users and roles that artifacts of Neo4j Enterprise carry. */
function metadataScriptOf(artifact: Artifact): Buffer | undefined {
  const { properties } = artifact.descriptor;
  const packed = properties.get('compressedMetadataScript');
  if (packed === undefined) return properties.get('metadataScript');
  try {
    return gunzipSync(packed, { maxOutputLength: METADATA_SCRIPT_BYTES_MAX });
  } catch (error) {
    throw new GraphkeepError(
      'GK_ARTIFACT_CORRUPT',
      `${artifact.file.path}: its metadata script cannot be decompressed`,
      {
        cause: error,
      },
    );
  }
}

/** graphkeep writes the script; the user runs it, since it needs a running server and a password. */
async function writeMetadataScript(
  script: Buffer,
  options: RestoreOptions,
  ownership: Ownership,
): Promise<string> {
  const { target } = options;
  const scriptsDirectory =
    options.scriptsDirectory ?? join(dirname(dirname(target.storeDirectory)), 'scripts');
  const directory = join(scriptsDirectory, target.name);
  const path = join(directory, 'restore_metadata.cypher');
  await makeOwnedFolder(directory, ownership);
  // Password hashes are in it: nobody else may read it, not for a moment.
  await writeFile(path, script, { mode: 0o600 });
  await own(path, ownership, 0o600);
  return path;
}
