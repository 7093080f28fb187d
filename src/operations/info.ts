/**
 * `database info`: what the files of one database say, whether a server runs on them or not.
 */
import { join } from 'node:path';
import { GraphkeepError } from '../errors.ts';
import { storeFormatName } from '../formats/storeid.ts';
import { openLocalSnapshot, type Snapshot } from '../hotcopy/snapshot.ts';
import { isLocked } from '../storage/locks.ts';
import type { DatabaseFolders, DatabaseInfo, OperationContext } from './types.ts';

/** Neo4j releases that introduced the supported formats. */
const INTRODUCED: Readonly<Record<string, string>> = {
  'record-aligned-1.1': '5.0.0',
  'record-standard-1.1': '5.0.0',
};

/** @throws GK_NOT_FOUND, GK_UNSUPPORTED, GK_STORE_DAMAGED */
export async function readDatabaseInfo(
  folders: DatabaseFolders,
  context: OperationContext = {},
): Promise<DatabaseInfo> {
  const inUse = isLocked(join(folders.storeDirectory, 'database_lock'));
  const snapshot = await openLocalSnapshot(folders);
  try {
    const format = storeFormatName(snapshot.neostore.storeId);
    const tail = await readTailIfReadable(snapshot, context.signal);
    return {
      databaseName: folders.name,
      inUse,
      storeFormat: format,
      storeFormatIntroduced: INTRODUCED[format],
      lastCommittedTransaction: tail?.highestAppendIndex,
      recoveryRequired: tail === undefined || tail.transactions > 0n,
    };
  } finally {
    await snapshot.close();
  }
}

/** A damaged log is a fact about the database, not a reason to say nothing about it. */
async function readTailIfReadable(
  snapshot: Snapshot,
  signal: AbortSignal | undefined,
): Promise<{ highestAppendIndex: bigint; transactions: bigint } | undefined> {
  try {
    return await snapshot.takeTail(signal);
  } catch (error) {
    if (error instanceof GraphkeepError && error.code === 'GK_STORE_DAMAGED') return undefined;
    throw error;
  }
}
