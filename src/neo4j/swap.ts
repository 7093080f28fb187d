/**
 * Puts a complete new database in the place of an old one, so that at every moment, killed or not, Neo4j finds
 * either the old one or the new one, never a mixture and never nothing.
 *
 * A database is two folders (store and log), and no system call replaces two folders at once. So both are made to
 * lead through one symbolic link, `current`, and that link is replaced by one rename:
 *
 *     databases/neo4j ─► .graphkeep/neo4j/current/neo4j        current ─► old | new
 *     transactions/neo4j ─► …/databases/.graphkeep/neo4j/current/txn/neo4j
 *
 * Each folder changes into a link, and back into a folder, by an atomic exchange of two names. Neo4j follows such
 * links (tried on both lines); they exist only for the moment of the swap, or after a kill until the next restore
 * settles them. The caller holds the database's locks throughout.
 */
import type { Stats } from 'node:fs';
import {
  chmod,
  chown,
  lstat,
  mkdir,
  readdir,
  realpath,
  rename,
  rm,
  rmdir,
  stat,
  symlink,
} from 'node:fs/promises';
import { basename, dirname, join, relative, sep } from 'node:path';
import { GraphkeepError, isErrno, wrapSystemError } from '../errors.ts';
import { syncDirectory } from '../storage/local.ts';
import type { DatabaseFolders } from './folders.ts';
import { exchangePaths } from './renames.ts';

/** Work folder inside the databases and the transactions folder: the same file system, whatever is mounted where. */
const WORK_FOLDER = '.graphkeep';
const CURRENT = 'current';
const OLD = 'old';
const NEW = 'new';
const LOG_LINK = 'txn';

/** Names the step that is about to be taken; tests kill the process here. */
export type StepObserver = (step: string) => void;

interface WorkFolders {
  /** Beside the store folder; holds `current`. */
  readonly store: string;
  /** Beside the log folder. */
  readonly log: string;
}

function workFolders(target: DatabaseFolders): WorkFolders {
  return {
    store: join(dirname(target.storeDirectory), WORK_FOLDER, target.name),
    log: join(dirname(target.logDirectory), WORK_FOLDER, target.name),
  };
}

/** Whether a database is there: a folder that holds anything but the lock file of a server. */
export async function databaseExists(target: DatabaseFolders): Promise<boolean> {
  for (const directory of [target.storeDirectory, target.logDirectory]) {
    const names = await readdir(directory).catch((error: unknown) => {
      if (isErrno(error, 'ENOENT')) return [];
      throw wrapSystemError(error, `list ${directory}`);
    });
    if (names.some((name) => name !== 'database_lock')) return true;
  }
  return false;
}

/** Owner and mode of everything that is created; those of the folder that Neo4j itself writes to. */
export interface Ownership {
  readonly uid: number;
  readonly gid: number;
  readonly directoryMode: number;
  readonly fileMode: number;
  /** Only root may give files away. */
  readonly mayChangeOwner: boolean;
}

export async function ownershipOf(directory: string): Promise<Ownership> {
  const status = await stat(directory);
  return {
    uid: status.uid,
    gid: status.gid,
    directoryMode: status.mode & 0o777,
    fileMode: status.mode & 0o666,
    mayChangeOwner: process.getuid?.() === 0,
  };
}

/** Gives `path` the owner and mode of its new home; the umask of this process must not decide. */
export async function own(path: string, ownership: Ownership, mode: number): Promise<void> {
  await chmod(path, mode);
  if (ownership.mayChangeOwner) await chown(path, ownership.uid, ownership.gid);
}

/** Creates a folder and its missing parents with the given owner. */
export async function makeOwnedFolder(path: string, ownership: Ownership): Promise<void> {
  const first = await mkdir(path, { recursive: true }).catch((error: unknown) => {
    throw wrapSystemError(error, `create ${path}`);
  });
  if (first === undefined) return;
  for (let folder = path; folder.length >= first.length; folder = dirname(folder)) {
    await own(folder, ownership, ownership.directoryMode);
  }
}

/** Where a new database is unpacked before it takes the place of the old one. */
export class StagedDatabase {
  /** The same name as the target, with folders inside the work folder. */
  readonly folders: DatabaseFolders;
  readonly #target: DatabaseFolders;
  readonly #work: WorkFolders;
  readonly #ownership: Ownership;
  readonly #onStep: StepObserver;

  private constructor(target: DatabaseFolders, ownership: Ownership, onStep: StepObserver) {
    this.#target = target;
    this.#work = workFolders(target);
    this.#ownership = ownership;
    this.#onStep = onStep;
    this.folders = {
      name: target.name,
      storeDirectory: join(this.#work.store, NEW, target.name),
      logDirectory: join(this.#work.log, NEW, target.name),
    };
  }

  /** Makes the staging folders; the leftovers of a killed restore must have been settled. */
  static async create(
    target: DatabaseFolders,
    ownership: Ownership,
    onStep: StepObserver = () => {},
  ): Promise<StagedDatabase> {
    const staged = new StagedDatabase(target, ownership, onStep);
    await makeOwnedFolder(staged.folders.storeDirectory, ownership);
    await makeOwnedFolder(staged.folders.logDirectory, ownership);
    return staged;
  }

  /** @throws GK_UNSUPPORTED when an existing database could not be replaced in one step on this file system */
  async refuseIfNotReplaceable(): Promise<void> {
    for (const directory of [this.#target.storeDirectory, this.#target.logDirectory]) {
      if (!(await isMountPoint(directory))) continue;
      throw new GraphkeepError('GK_UNSUPPORTED', `${directory} is a mount point and cannot be replaced`, {
        hint: 'mount the folder above it instead, or restore to other folders with --to-path-data and --to-path-txn',
      });
    }
    if (await this.#canExchange()) return;
    if (!(await databaseExists(this.#target))) return;
    exchangeRefused(this.#target.storeDirectory);
  }

  async #canExchange(): Promise<boolean> {
    for (const work of [this.#work.store, this.#work.log]) {
      const [left, right] = [join(work, 'probe.a'), join(work, 'probe.b')];
      await mkdir(left);
      await mkdir(right);
      try {
        exchangePaths(left, right);
      } catch (error) {
        if (error instanceof GraphkeepError && error.code === 'GK_UNSUPPORTED') return false;
        throw error;
      } finally {
        await rm(left, { recursive: true, force: true });
        await rm(right, { recursive: true, force: true });
      }
    }
    return true;
  }

  /**
   * Takes the place of the target; the old database is removed after that. When a step fails, what was done so far is
   * settled: the target is the old or the new database, and no links are left.
   */
  async commit(): Promise<void> {
    try {
      if (await this.#canExchange()) await this.#commitByExchange();
      else await this.#commitByRename();
    } catch (error) {
      await settleDatabase(this.#target);
      throw error;
    }
  }

  async #commitByExchange(): Promise<void> {
    await this.#prepareLinks();
    this.#step('exchange log folder');
    exchangePaths(this.#target.logDirectory, join(this.#work.log, OLD, this.#target.name));
    await syncDirectory(dirname(this.#target.logDirectory));
    this.#step('exchange store folder');
    exchangePaths(this.#target.storeDirectory, join(this.#work.store, OLD, this.#target.name));
    await syncDirectory(dirname(this.#target.storeDirectory));
    this.#step('switch current');
    const next = join(this.#work.store, 'current.next');
    await symlink(NEW, next);
    await rename(next, join(this.#work.store, CURRENT));
    await syncDirectory(this.#work.store);
    await settleDatabase(this.#target, this.#onStep);
  }

  #step(name: string): void {
    this.#onStep(name);
  }

  async #prepareLinks(): Promise<void> {
    const { name, storeDirectory, logDirectory } = this.#target;
    const { store, log } = this.#work;
    this.#step('prepare links');
    // A database that is not there is an old one with empty folders: Neo4j sees nothing, as before.
    await makeOwnedFolder(storeDirectory, this.#ownership);
    await makeOwnedFolder(logDirectory, this.#ownership);
    await makeOwnedFolder(join(store, OLD), this.#ownership);
    await makeOwnedFolder(join(log, OLD), this.#ownership);
    for (const generation of [OLD, NEW]) {
      const folder = join(store, generation);
      await symlink(relative(folder, join(log, generation)), join(folder, LOG_LINK));
    }
    await symlink(OLD, join(store, CURRENT));
    await symlink(relative(dirname(storeDirectory), join(store, CURRENT, name)), join(store, OLD, name));
    await symlink(
      relative(dirname(logDirectory), join(store, CURRENT, LOG_LINK, name)),
      join(log, OLD, name),
    );
    for (const folder of [store, log]) {
      for (const generation of [OLD, NEW]) await syncDirectory(join(folder, generation));
      // Upwards to the root: the links in it must never lead to something that a power loss took away.
      await syncDirectory(folder);
      await syncDirectory(dirname(folder));
      await syncDirectory(dirname(dirname(folder)));
    }
  }

  /**
   * Where names cannot be exchanged and nothing is there: the log goes first, because Neo4j refuses a log without
   * a store, while it would take a store without a log for damaged.
   */
  async #commitByRename(): Promise<void> {
    if (await databaseExists(this.#target)) exchangeRefused(this.#target.storeDirectory);
    for (const [from, to] of [
      [this.folders.logDirectory, this.#target.logDirectory],
      [this.folders.storeDirectory, this.#target.storeDirectory],
    ] as const) {
      this.#step(`rename to ${basename(dirname(to))}`);
      await rm(to, { recursive: true, force: true });
      await rename(from, to);
      await syncDirectory(dirname(to));
    }
    await this.discard();
  }

  /** Removes the staging folders; the target is as it was. */
  async discard(): Promise<void> {
    await removeWorkFolders(this.#target);
  }
}

function exchangeRefused(path: string): never {
  throw new GraphkeepError(
    'GK_UNSUPPORTED',
    `the file system of ${path} cannot replace a database in one step`,
    {
      hint: 'move the old database away by hand and restore without --overwrite-destination',
    },
  );
}

/**
 * Ends what a killed restore left: folders that are links of a swap become folders again, of whichever generation is
 * current, and the other generation is removed. Does nothing where there is nothing to settle.
 */
export async function settleDatabase(
  target: DatabaseFolders,
  onStep: StepObserver = () => {},
): Promise<void> {
  await finishRename(target);
  for (const directory of [target.logDirectory, target.storeDirectory]) {
    const status = await lstatOrNothing(directory);
    if (status?.isSymbolicLink() !== true) continue;
    const real = await realpath(directory);
    if (!real.includes(`${sep}${WORK_FOLDER}${sep}`)) {
      throw new GraphkeepError('GK_UNSUPPORTED', `${directory} is a symbolic link to ${real}`, {
        hint: 'graphkeep does not replace a folder behind a link; restore to the folder it leads to',
      });
    }
    onStep(`settle ${basename(dirname(directory))}`);
    exchangePaths(directory, real);
    await syncDirectory(dirname(directory));
    await syncDirectory(dirname(real));
  }
  onStep('remove work folders');
  await removeWorkFolders(target);
}

/**
 * Where names cannot be exchanged, a kill between the two renames leaves a log without its store, which Neo4j refuses
 * to start. The new store is still complete in the work folder, so the second rename is made up for.
 */
async function finishRename(target: DatabaseFolders): Promise<void> {
  const work = workFolders(target);
  const stagedStore = join(work.store, NEW, target.name);
  const logWasMoved = (await lstatOrNothing(join(work.log, NEW, target.name))) === undefined;
  const storeIsMissing = (await lstatOrNothing(target.storeDirectory)) === undefined;
  if (!logWasMoved || !storeIsMissing || (await lstatOrNothing(join(stagedStore, 'neostore'))) === undefined)
    return;
  await rename(stagedStore, target.storeDirectory);
  await syncDirectory(dirname(target.storeDirectory));
}

/** A folder that lies on another file system than the one it is in. */
async function isMountPoint(directory: string): Promise<boolean> {
  const [own, parent] = [await lstatOrNothing(directory), await lstatOrNothing(dirname(directory))];
  return own !== undefined && parent !== undefined && own.dev !== parent.dev;
}

async function removeWorkFolders(target: DatabaseFolders): Promise<void> {
  for (const folder of Object.values(workFolders(target))) {
    await rm(folder, { recursive: true, force: true });
    // Another database may be restored beside this one: the common folder goes with its last user.
    await rmdir(dirname(folder)).catch(() => undefined);
  }
}

async function lstatOrNothing(path: string): Promise<Stats | undefined> {
  return lstat(path).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw wrapSystemError(error, `look at ${path}`);
  });
}
