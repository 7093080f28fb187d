/**
 * The consistency check of a backup, by the Neo4j that is installed. It is done on a copy, which Neo4j recovers first:
 * the backup itself is never opened by a server, so that it stays what it was, and can be continued.
 */
import { constants, copyFile, mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { GraphkeepError, throwIfAborted, wrapSystemError } from '../errors.ts';
import { listLogFolder } from '../hotcopy/logfolder.ts';
import { openLocalSnapshot } from '../hotcopy/snapshot.ts';
import { foldersBelow } from '../neo4j/folders.ts';
import { type CheckOptions, checkDatabase, recoverDatabase, type StockNeo4j } from '../neo4j/stock.ts';
import { readFolder } from '../storage/local.ts';
import { withDirectoryLocked } from './directoryfiles.ts';
import { refuseRunning } from './directorystate.ts';
import { restoreDatabase } from './restore.ts';
import { withScratch } from './scratch.ts';
import type { ChainRequest, DatabaseFolders, OperationContext } from './types.ts';

const SCRATCH_PREFIX = '.graphkeep-check-';

/** A directory backup, or an artifact with its chain. */
export type CheckSubject = { readonly directory: string } | { readonly chain: ChainRequest };

export interface ConsistencyOptions
  extends OperationContext,
    Omit<CheckOptions, 'scratchDirectory' | 'signal'> {
  readonly stock: StockNeo4j;
  /** Name of the database; it matters for `system`, whose recovery is another one. */
  readonly database: string;
  /** An existing folder with room for the whole database and its log; what is made in it is removed again. */
  readonly scratchDirectory: string;
  /** Of the recovery, as in `server.memory.pagecache.size`. */
  readonly pagecache?: string | undefined;
}

export interface ConsistencyResult {
  readonly consistent: boolean;
  /** Names everything that was found. */
  readonly reportPath: string | undefined;
  /** The last transaction of what was checked. */
  readonly lastTransaction: bigint;
  readonly durationMs: number;
}

/**
 * @throws GK_STOCK_FAILED when recovery or check could not be run, GK_STORE_DAMAGED or GK_ARTIFACT_CORRUPT when the
 * backup is so damaged that nothing is there to be checked, GK_NO_SPACE, GK_INTERRUPTED, …
 */
export async function checkConsistency(
  subject: CheckSubject,
  options: ConsistencyOptions,
): Promise<ConsistencyResult> {
  const startedMs = performance.now();
  return withScratch(options.scratchDirectory, SCRATCH_PREFIX, async (scratch) => {
    const copy = foldersBelow(scratch, options.database);
    await makeCopy(subject, copy, options);
    const lastTransaction = await recoverWhole(copy, scratch, options);
    const { consistent, reportPath } = await checkDatabase(options.stock, copy, {
      ...options,
      scratchDirectory: scratch,
    });
    const durationMs = Math.round(performance.now() - startedMs);
    return { consistent, reportPath, lastTransaction, durationMs };
  });
}

async function makeCopy(
  subject: CheckSubject,
  copy: DatabaseFolders,
  options: ConsistencyOptions,
): Promise<void> {
  if ('chain' in subject) {
    const { signal, listener } = options;
    const context = { ...(signal && { signal }), ...(listener && { listener }) };
    await restoreDatabase({ ...subject.chain, ...context, target: copy, overwriteDestination: false });
    return;
  }
  await withDirectoryLocked(subject.directory, 'shared', async () => {
    refuseRunning(subject.directory);
    await copyDirectory(subject.directory, copy, options.signal);
  });
}

/** The log goes to a folder of its own, as a server of today has it. */
async function copyDirectory(
  directory: string,
  copy: DatabaseFolders,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { logs, checkpoints } = await listLogFolder(directory);
  const ofLog = new Set([...logs, ...checkpoints].map(({ name }) => name));
  await mkdir(copy.logDirectory, { recursive: true });
  const copyFolder = async (from: string, to: string): Promise<void> => {
    await mkdir(to, { recursive: true });
    for (const entry of await readFolder(from)) {
      throwIfAborted(signal);
      const isLog = from === directory && ofLog.has(entry.name);
      const target = join(isLog ? copy.logDirectory : to, entry.name);
      if (entry.isDirectory()) await copyFolder(join(from, entry.name), target);
      else if (entry.isFile()) await copyFile(join(from, entry.name), target, constants.COPYFILE_FICLONE);
    }
  };
  await copyFolder(directory, copy.storeDirectory).catch((error: unknown) => {
    throw wrapSystemError(error, `copy ${directory} to ${dirname(copy.storeDirectory)}`);
  });
}

/** Proves the log before, and that recovery reached its end: a log that ends too early is recovered without a word. */
async function recoverWhole(
  copy: DatabaseFolders,
  scratch: string,
  options: ConsistencyOptions,
): Promise<bigint> {
  const { stock, signal, pagecache } = options;
  const expected = await lastTransactionOf(copy, signal);
  const { lastTransaction } = await recoverDatabase(stock, copy, {
    scratchDirectory: scratch,
    signal,
    pagecache,
  });
  if (lastTransaction < expected) {
    throw new GraphkeepError(
      'GK_STORE_DAMAGED',
      `recovery ended with transaction ${lastTransaction}, and the backup holds ${expected}`,
    );
  }
  return expected;
}

async function lastTransactionOf(copy: DatabaseFolders, signal: AbortSignal | undefined): Promise<bigint> {
  const snapshot = await openLocalSnapshot(copy);
  try {
    return (await snapshot.takeTail(signal)).highestAppendIndex;
  } finally {
    await snapshot.close();
  }
}
