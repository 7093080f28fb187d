/**
 * Backup into a directory, as in 3.x and 4.x: a plain folder with store files and log, which Neo4j opens as it is. The
 * first one is a full one; later ones write the log of the server behind that of the directory. Whatever happens, kill or
 * power loss, under the name there is a whole backup of some moment, or nothing.
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { openArtifact } from '../artifact/reader.ts';
import { GraphkeepError, wrapSystemError } from '../errors.ts';
import { LogAfter, type Search } from '../hotcopy/logafter.ts';
import type { Tail } from '../hotcopy/tail.ts';
import { BACKUP_ATTEMPTS_MAX, DIRECTORY_LOG_BYTES_MAX } from '../limits.ts';
import { makeOwnedFolder, type Ownership, ownershipOf } from '../neo4j/swap.ts';
import { syncDirectory } from '../storage/local.ts';
import { requireDirectory } from './artifactfile.ts';
import { backupDatabase } from './backup.ts';
import { appendTail, type StepObserver } from './directoryappend.ts';
import {
  kindOf,
  makeStaging,
  refuseBadName,
  refuseOverlap,
  removeLeftovers,
  renameFolder,
  renameToErr,
  withDirectoryLocked,
} from './directoryfiles.ts';
import {
  type DirectoryEnd,
  isSameDatabase,
  type NotContinuable,
  readDirectoryEnd,
} from './directorystate.ts';
import type { ProcessorShare } from './processorshare.ts';
import { RateLimit } from './ratelimit.ts';
import type { DatabaseFolders, OperationContext } from './types.ts';
import { unpackChain } from './unpack.ts';

export type { NotContinuable, StepObserver };

/** What is about to be done; told before it is begun, or right after it for a rename. */
export type DirectoryBackupEvent =
  | { readonly kind: 'full' | 'incremental' }
  | { readonly kind: 'renamed'; readonly from: string; readonly to: string };

export interface DirectoryBackupOptions extends OperationContext {
  /** An existing directory; the backup is the folder `name` in it. */
  readonly backupDirectory: string;
  readonly name: string;
  /** Where what is there cannot be continued: move it to `<name>.err.<N>` and take a full one, instead of failing. */
  readonly fallbackToFull: boolean;
  /** Upper bound of the rate at which files are read; none when absent. */
  readonly rateBytesPerSecond?: number;
  readonly processorShare?: ProcessorShare;
  /** Size that a log file of the directory may grow to; the default rotation size of Neo4j when absent. */
  readonly logBytesMax?: number;
  readonly onEvent?: (event: DirectoryBackupEvent) => void;
}

export interface DirectoryBackupResult {
  readonly kind: 'full' | 'incremental';
  /** The directory. */
  readonly path: string;
  /** What was added; 0 and 0 when nothing had happened since. Of a full one from 1. */
  readonly lowestTransaction: bigint;
  readonly highestTransaction: bigint;
  /** Bytes of store and log that were copied. */
  readonly copiedBytes: number;
  /** Where the old backup is now. */
  readonly renamedTo?: string;
  /** Why there could be no incremental one. */
  readonly fullBecause?: NotContinuable;
  /** Indexes that Neo4j rebuilds at its first start. */
  readonly leftOut: readonly string[];
  readonly durationMs: number;
}

type Outcome = Omit<DirectoryBackupResult, 'path' | 'durationMs'>;

/**
 * @throws GK_NO_PARENT when there can be no incremental one and no fallback is wanted: the directory is as it was. GK_IO,
 * GK_NO_SPACE, GK_NO_PERMISSION and GK_INTERRUPTED never fall back, since a full one would fare no better.
 * @param onStep told of each step that changes something; tests kill the process there
 */
export async function backupToDirectory(
  source: DatabaseFolders,
  options: DirectoryBackupOptions,
  onStep: StepObserver = () => {},
): Promise<DirectoryBackupResult> {
  const startedMs = performance.now();
  refuseBadName(options.name);
  await requireDirectory(options.backupDirectory);
  const path = join(options.backupDirectory, options.name);
  await refuseOverlap(path, source);
  const outcome = await withDirectoryLocked(path, 'exclusive', async () => {
    await removeLeftovers(path);
    return new DirectoryBackup(path, source, options, onStep).run();
  });
  return { ...outcome, path, durationMs: Math.round(performance.now() - startedMs) };
}

class DirectoryBackup {
  readonly #path: string;
  readonly #source: DatabaseFolders;
  readonly #options: DirectoryBackupOptions;
  readonly #onStep: StepObserver;

  constructor(path: string, source: DatabaseFolders, options: DirectoryBackupOptions, onStep: StepObserver) {
    this.#path = path;
    this.#source = source;
    this.#options = options;
    this.#onStep = onStep;
  }

  async run(): Promise<Outcome> {
    if (await this.#isFree()) return this.#takeFull();
    this.#options.onEvent?.({ kind: 'incremental' });
    const taken = await this.#takeIncrementalWithRetries();
    if ('kind' in taken) return taken;
    if (!this.#options.fallbackToFull) {
      throw new GraphkeepError('GK_NO_PARENT', `no incremental backup is possible: ${taken.message}`, {
        hint: 'give another --name, or --fallback-to-full=true, which keeps the old backup as <name>.err.<N>',
      });
    }
    this.#options.listener?.notice(`a full backup is taken: ${taken.message}`);
    return this.#takeFull(taken);
  }

  /** Nothing has the name, or an empty folder, which a rename replaces. */
  async #isFree(): Promise<boolean> {
    const kind = await kindOf(this.#path);
    if (kind !== 'folder') return kind === 'nothing';
    const names = await readdir(this.#path).catch((error: unknown) => {
      throw wrapSystemError(error, `list ${this.#path}`);
    });
    return names.length === 0;
  }

  /** When the server prunes what was just found, it is looked for again: then it is known to be gone. */
  async #takeIncrementalWithRetries(): Promise<Outcome | NotContinuable> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#takeIncremental();
      } catch (error) {
        const moved = error instanceof GraphkeepError && error.code === 'GK_SOURCE_MOVED';
        if (!moved || attempt >= BACKUP_ATTEMPTS_MAX) throw error;
      }
    }
  }

  async #takeIncremental(): Promise<Outcome | NotContinuable> {
    const { signal } = this.#options;
    // The server is asked first: of a source that cannot be read, nothing follows for the backup.
    const log = await LogAfter.open(this.#source);
    try {
      const end = await this.#readEnd();
      if ('reason' in end) return end;
      if (!isSameDatabase(end.neostore, log.neostore)) return this.#otherStore();
      const search = await log.find(end.mark, undefined, signal);
      if (search.status !== 'found') return this.#notFollowed(end, search);
      const tail = await log.readFrom(end.mark, search.position, end.commitTimeMillis, signal);
      return await this.#append(end, tail);
    } finally {
      await log.close();
    }
  }

  async #readEnd(): Promise<DirectoryEnd | NotContinuable> {
    if ((await kindOf(this.#path)) === 'folder') return readDirectoryEnd(this.#path, this.#options.signal);
    return { reason: 'notABackup', message: `${this.#path} is not a folder` };
  }

  #otherStore(): NotContinuable {
    const message =
      `${this.#path} is a backup of another database than ${this.#source.name} is now: ` +
      'that was created anew, or is another one of that name';
    return { reason: 'otherStore', message };
  }

  #notFollowed({ mark }: DirectoryEnd, search: Exclude<Search, { status: 'found' }>): NotContinuable {
    const ends = `${this.#path} ends with transaction ${mark.appendIndex}`;
    if (search.status === 'diverged') {
      const message = `${ends}, which the log of the server does not hold: it was set back`;
      return { reason: 'diverged', message };
    }
    const message =
      `it's been too long since this backup was last updated: ${ends}, and the server has pruned its log up to ` +
      `${search.lowestAvailable - 1n}. Back up more often, or raise db.tx_log.rotation.retention_policy`;
    return { reason: 'pruned', message };
  }

  async #append(end: DirectoryEnd, tail: Tail): Promise<Outcome> {
    const { signal, listener, rateBytesPerSecond, processorShare, logBytesMax } = this.#options;
    const nothing = { kind: 'incremental', copiedBytes: 0, leftOut: [] } as const;
    if (tail.transactions === 0n) return { ...nothing, lowestTransaction: 0n, highestTransaction: 0n };
    const totalBytes = tail.files.reduce((sum, file) => sum + file.endBytes - file.startBytes, 0);
    let doneBytes = 0;
    await appendTail(this.#path, end, tail, {
      rate: new RateLimit(rateBytesPerSecond, signal, processorShare),
      signal,
      logBytesMax: logBytesMax ?? DIRECTORY_LOG_BYTES_MAX,
      onStep: this.#onStep,
      onBytes: (bytes) => {
        doneBytes += bytes;
        listener?.progress({ phase: 'appending the log', doneBytes, totalBytes });
      },
    });
    const { highestAppendIndex: highestTransaction } = tail;
    return {
      ...nothing,
      lowestTransaction: end.mark.appendIndex + 1n,
      highestTransaction,
      copiedBytes: totalBytes,
    };
  }

  /** The new one is whole before the old one is touched. */
  async #takeFull(fullBecause?: NotContinuable): Promise<Outcome> {
    this.#options.onEvent?.({ kind: 'full' });
    const staging = await makeStaging(this.#path);
    try {
      const staged = await this.#stageFull(staging);
      const renamedTo = fullBecause === undefined ? undefined : await this.#moveOldAway();
      this.#onStep('take the name');
      await renameFolder(staged.folder, this.#path);
      this.#onStep('sync folder');
      await syncDirectory(this.#options.backupDirectory);
      return {
        ...staged.outcome,
        ...(renamedTo === undefined ? {} : { renamedTo }),
        ...(fullBecause === undefined ? {} : { fullBecause }),
      };
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
  }

  async #moveOldAway(): Promise<string> {
    this.#onStep('rename old');
    const renamedTo = await renameToErr(this.#path);
    this.#options.onEvent?.({ kind: 'renamed', from: this.#path, to: renamedTo });
    return renamedTo;
  }

  /** An ordinary artifact, proven while it is unpacked beside it. */
  async #stageFull(staging: string): Promise<{ folder: string; outcome: Outcome }> {
    const ownership = await privateOwnership(this.#options.backupDirectory);
    const [artifacts, folder] = [join(staging, 'artifact'), join(staging, 'backup')];
    await makeOwnedFolder(artifacts, ownership);
    await makeOwnedFolder(folder, ownership);
    this.#onStep('take artifact');
    const { artifactPath, highestTransaction, leftOut } = await backupDatabase(this.#source, {
      ...this.#options,
      targetDirectory: artifacts,
      type: 'FULL',
      compress: true,
      compressionLevel: 1,
      keepFailed: false,
    });
    this.#onStep('unpack artifact');
    const memberBytes = await this.#unpack(artifactPath, folder, ownership);
    this.#onStep('unpacked artifact');
    return {
      folder,
      outcome: { kind: 'full', lowestTransaction: 1n, highestTransaction, copiedBytes: memberBytes, leftOut },
    };
  }

  async #unpack(artifactPath: string, folder: string, ownership: Ownership): Promise<number> {
    const artifact = await openArtifact(artifactPath);
    const folders = { name: this.#source.name, storeDirectory: folder, logDirectory: folder };
    try {
      const phase = 'unpacking';
      const { memberBytes } = await unpackChain(artifact, [], folders, {
        ...this.#options,
        ownership,
        phase,
      });
      return memberBytes;
    } finally {
      await artifact.file.close();
    }
  }
}

/** Owner of the folder of backups; for nobody else, since a backup holds all data and with `system` password hashes. */
async function privateOwnership(directory: string): Promise<Ownership> {
  return { ...(await ownershipOf(directory)), directoryMode: 0o700, fileMode: 0o600 };
}
