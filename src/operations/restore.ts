/**
 * `database restore`: unpacks a full artifact beside the target, writes the log of its differentials behind its own,
 * proves every byte on the way, and only then lets it take the target's place. Owns the refusals; the swap itself is
 * src/neo4j/swap.ts.
 */
import { stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Artifact, openArtifact } from '../artifact/reader.ts';
import { assembledBytes } from '../chain/assemble.ts';
import { refuseReplaced } from '../chain/proof.ts';
import { GraphkeepError, wrapSystemError } from '../errors.ts';
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
import { replaceFile } from '../storage/local.ts';
import type { FileLock } from '../storage/locks.ts';
import { tryLock } from '../storage/locks.ts';
import { newestMetadataScript } from './chainmetadata.ts';
import { type ChosenChain, chooseChain } from './plan.ts';
import type { DatabaseFolders, RestoreOptions, RestoreResult } from './types.ts';
import { fullBytesOf, unpackChain } from './unpack.ts';

/**
 * Restores a chain. @throws GK_IN_USE, GK_TARGET_EXISTS, GK_NO_SPACE, GK_ARTIFACT_CORRUPT, …
 * @param onStep told of each step of the swap; tests kill the process there
 */
export async function restoreDatabase(
  options: RestoreOptions,
  onStep?: StepObserver,
): Promise<RestoreResult> {
  const startedMs = performance.now();
  const result = await restoreChosen(await chooseChain(options), options, onStep);
  return { ...result, durationMs: Math.round(performance.now() - startedMs) };
}

/** The same for a chain that was chosen and proven already. */
export async function restoreChosen(
  chosen: ChosenChain,
  options: RestoreOptions,
  onStep?: StepObserver,
): Promise<Omit<RestoreResult, 'durationMs'>> {
  const artifact = await openArtifact(chosen.chain.full.path);
  try {
    refuseReplaced(artifact, chosen.chain.full);
    return await withTargetLocked(options.target, (ownership) =>
      restoreLocked(artifact, chosen, options, ownership, onStep),
    );
  } finally {
    await artifact.file.close();
  }
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

/** Of the folder, or of the nearest one above it that is there. */
export async function ownershipOfNearest(path: string): Promise<Ownership> {
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
  chosen: ChosenChain,
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
  await requireSpace(artifact, chosen, target);
  const script =
    options.withoutMetadataScript === true
      ? undefined
      : await newestMetadataScript(chosen, options.artifactPath);
  const staged = await StagedDatabase.create(target, ownership, onStep);
  const unpacked = await unpackInto(staged, artifact, chosen, options, ownership).catch(
    async (error: unknown) => {
      await staged.discard();
      throw error;
    },
  );
  await staged.commit();
  const metadataScriptPath =
    script === undefined ? undefined : await writeMetadataScript(script, options, ownership);
  return {
    database: target.name,
    artifactPath: artifact.file.path,
    differentialPaths: chosen.chain.differentials.map(({ path }) => path),
    target,
    memberBytes: unpacked.memberBytes,
    memberCount: unpacked.memberCount,
    highestTransaction: chosen.end.appendIndex,
    replacedExisting,
    verifiedByHash: artifact.index !== undefined,
    ...(metadataScriptPath === undefined ? {} : { metadataScriptPath }),
  };
}

/** The old database stays until the new one is complete, so the new one needs room beside it. */
async function requireSpace(
  artifact: Artifact,
  { pieces }: ChosenChain,
  target: DatabaseFolders,
): Promise<void> {
  const totalBytes = fullBytesOf(artifact) + assembledBytes(pieces);
  const logBytes = (artifact.index?.members ?? [])
    .filter((member) => member.kind !== 'store')
    .reduce((sum, member) => sum + member.bytes, assembledBytes(pieces));
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

async function unpackInto(
  staged: StagedDatabase,
  artifact: Artifact,
  { pieces }: ChosenChain,
  options: RestoreOptions,
  ownership: Ownership,
): Promise<{ memberBytes: number; memberCount: number }> {
  await staged.refuseIfNotReplaceable();
  return unpackChain(artifact, pieces, staged.folders, { ...options, ownership, phase: 'restoring' });
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
  await replaceFile(path, script, (partialPath) => own(partialPath, ownership, 0o600));
  return path;
}
