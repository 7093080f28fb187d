/** Where the backups of one database come from: its files on this host, or a backup server beside it. */
import type { DatabaseFolders } from '../neo4j/folders.ts';
import { LogAfter, type LogSource } from './logafter.ts';
import { openLocalSnapshot, type Snapshot } from './snapshot.ts';

export interface BackupSource {
  readonly name: string;
  /** Identifies, pins and fences. @throws GK_NOT_FOUND, GK_UNSUPPORTED, GK_STORE_DAMAGED, GK_SOURCE_MOVED */
  openSnapshot(signal?: AbortSignal): Promise<Snapshot>;
  /** Every log file, held open. @throws GK_NOT_FOUND, GK_UNSUPPORTED */
  openLog(signal?: AbortSignal): Promise<LogSource>;
}

export function localSource(folders: DatabaseFolders): BackupSource {
  return {
    name: folders.name,
    openSnapshot: () => openLocalSnapshot(folders),
    openLog: () => LogAfter.open(folders),
  };
}
