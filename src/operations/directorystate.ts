/**
 * What a directory backup holds: whose it is, and where its log ends. Read from the files themselves, since a kill or a
 * server that was started on it would make a note beside them wrong.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { damagedLog, namedBy } from '../chain/continuity.ts';
import type { TransactionMark } from '../chain/summary.ts';
import { type ErrorCode, GraphkeepError, wrapSystemError } from '../errors.ts';
import { databaseIdOf, type Neostore } from '../formats/neostore.ts';
import { isSameStore } from '../formats/storeid.ts';
import { LOG_HEADER_BYTES, type LogHeader } from '../formats/txlog/header.ts';
import type { LogTransaction } from '../formats/txlog/transactions.ts';
import { readFence } from '../hotcopy/fence.ts';
import { listLogFolder } from '../hotcopy/logfolder.ts';
import type { PinnedLog } from '../hotcopy/logpins.ts';
import { readIdentity } from '../hotcopy/snapshot.ts';
import { readHeader, scanTransactions } from '../hotcopy/tail.ts';
import { isLocked } from '../storage/locks.ts';
import { withHandle } from './directoryfiles.ts';

/** Why a directory cannot be continued. `reason` is stable, `message` is for people. */
export interface NotContinuable {
  readonly reason: 'notABackup' | 'damaged' | 'otherStore' | 'pruned' | 'diverged';
  readonly message: string;
}

/** The newest log file, which the next transactions are written behind. */
export interface NewestLog {
  readonly path: string;
  readonly version: bigint;
  readonly formatByte: number;
  /** End of its last complete transaction; what lies behind is a torn tail, or the zeros of a server. */
  readonly endBytes: number;
  readonly sizeBytes: number;
  /** Of its last transaction; undefined when it has none. */
  readonly kernelVersion: number | undefined;
}

export interface DirectoryEnd {
  readonly neostore: Neostore;
  readonly newest: NewestLog;
  /** The last complete transaction. */
  readonly mark: TransactionMark;
  readonly commitTimeMillis: bigint;
}

/** What a directory that is no continuable backup runs into, as opposed to a disk that fails. */
const STATE_CODES: readonly ErrorCode[] = ['GK_NOT_FOUND', 'GK_UNSUPPORTED', 'GK_STORE_DAMAGED'];

/** @throws GK_IN_USE when a server runs on the directory, GK_IO, GK_NO_PERMISSION, GK_INTERRUPTED */
export async function readDirectoryEnd(
  directory: string,
  signal: AbortSignal | undefined,
): Promise<DirectoryEnd | NotContinuable> {
  refuseRunning(directory);
  try {
    const neostore = await readIdentity(directory);
    try {
      return await readEnd(directory, neostore, signal);
    } catch (error) {
      return notContinuable(error, 'damaged', `${directory} cannot be continued`);
    }
  } catch (error) {
    return notContinuable(error, 'notABackup', `${directory} doesn't contain a database`);
  }
}

function notContinuable(error: unknown, reason: NotContinuable['reason'], what: string): NotContinuable {
  if (!(error instanceof GraphkeepError) || !STATE_CODES.includes(error.code)) throw error;
  return { reason, message: `${what}: ${error.message}` };
}

export function refuseRunning(directory: string): void {
  if (!isLocked(join(directory, 'database_lock'))) return;
  throw new GraphkeepError('GK_IN_USE', `a running Neo4j uses ${directory}`, {
    hint: 'stop it, or restore the backup to a folder of its own and start Neo4j there',
  });
}

export function isSameDatabase(left: Neostore, right: Neostore): boolean {
  return isSameStore(left.storeId, right.storeId) && databaseIdOf(left).equals(databaseIdOf(right));
}

async function readEnd(
  directory: string,
  neostore: Neostore,
  signal: AbortSignal | undefined,
): Promise<DirectoryEnd> {
  const { checkpoint } = await readFence(directory);
  const { logs } = await listLogFolder(directory);
  const needed = logs.filter(({ version }) => version >= checkpoint.position.logVersion);
  for (const [number, { version }] of needed.entries()) {
    const expected = checkpoint.position.logVersion + BigInt(number);
    if (version !== expected) throw damagedLog(`log file ${expected} is missing`);
  }
  let newest: NewestLog | undefined;
  let before: bigint | undefined;
  for (const { name, version } of needed.toReversed()) {
    const path = join(directory, name);
    const { header, file, last } = await readLogFile({ name, version, path }, neostore, signal);
    newest ??= file;
    // The log itself may not hold the transaction any more that the checkpoint names.
    const found =
      last ?? (header.previousAppendIndex === checkpoint.appendIndex ? namedBy(checkpoint) : undefined);
    // A file without transactions ends where the one before it does, or at the checkpoint.
    before ??= last?.appendIndex ?? header.previousAppendIndex;
    if (found === undefined) continue;
    const { appendIndex, checksum, commitTimeMillis } = found;
    if (appendIndex !== before) throw damagedLog(`the log ends at ${appendIndex} instead of ${before}`);
    return { neostore, newest, mark: { appendIndex, checksum }, commitTimeMillis };
  }
  throw damagedLog('it has no transaction log that the checkpoint leads to');
}

interface ReadLog {
  readonly header: LogHeader;
  readonly file: NewestLog;
  readonly last: LogTransaction | undefined;
}

async function readLogFile(
  file: { readonly name: string; readonly version: bigint; readonly path: string },
  neostore: Neostore,
  signal: AbortSignal | undefined,
): Promise<ReadLog> {
  const { path, version } = file;
  return withHandle(await openLog(path), async (handle) => {
    const { size } = await handle.stat();
    const pin: PinnedLog = { ...file, handle };
    const header = await readHeader(pin, neostore.storeId);
    if (header?.logVersion !== version) throw damagedLog(`${file.name} does not begin with its header`);
    const last = await lastTransaction(handle, header, file.name, signal);
    const newest: NewestLog = {
      path,
      version,
      formatByte: header.formatByte,
      endBytes: last?.endBytes ?? LOG_HEADER_BYTES,
      sizeBytes: size,
      kernelVersion: last?.kernelVersion,
    };
    return { header, file: newest, last };
  });
}

/** Each proven by its checksum, and each the next of the one before it. */
async function lastTransaction(
  handle: FileHandle,
  header: LogHeader,
  name: string,
  signal: AbortSignal | undefined,
): Promise<LogTransaction | undefined> {
  let last: LogTransaction | undefined;
  const accept = (transaction: LogTransaction): void => {
    const expected = (last?.appendIndex ?? header.previousAppendIndex) + 1n;
    if (transaction.appendIndex !== expected) {
      throw damagedLog(`${name} goes on with transaction ${transaction.appendIndex} instead of ${expected}`);
    }
    last = transaction;
  };
  await scanTransactions(handle, LOG_HEADER_BYTES, accept, signal);
  return last;
}

async function openLog(path: string): Promise<FileHandle> {
  return open(path, 'r').catch((error: unknown) => {
    throw wrapSystemError(error, `open ${path}`);
  });
}
