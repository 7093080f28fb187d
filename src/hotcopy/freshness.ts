/** How a database stands for backups, in two small reads: how old its checkpoint is, how far back its log reaches. */
import type { DatabaseFolders } from '../neo4j/folders.ts';
import { readFence } from './fence.ts';
import { LogPins } from './logpins.ts';
import { readIdentity } from './snapshot.ts';
import { readHeader } from './tail.ts';

export interface Freshness {
  /** Everything after it is replayed when a full backup of this moment is restored. */
  readonly checkpointTime: Date;
  /** A differential is possible after this transaction or a later one; undefined where no log has a header. */
  readonly followableTransaction: bigint | undefined;
  /** Last transaction of the checkpoint. */
  readonly checkpointTransaction: bigint;
}

/** @throws GK_NOT_FOUND, GK_UNSUPPORTED, GK_STORE_DAMAGED */
export async function readFreshness(folders: DatabaseFolders): Promise<Freshness> {
  const { storeId } = await readIdentity(folders.storeDirectory);
  const { checkpoint } = await readFence(folders.logDirectory);
  const pins = new LogPins(folders.logDirectory, 0n);
  try {
    await pins.refresh();
    const oldest = pins.pinned()[0];
    const header = oldest === undefined ? undefined : await readHeader(oldest, storeId);
    return {
      checkpointTime: new Date(Number(checkpoint.timeMillis)),
      followableTransaction: header?.previousAppendIndex,
      checkpointTransaction: checkpoint.appendIndex,
    };
  } finally {
    await pins.close();
  }
}
