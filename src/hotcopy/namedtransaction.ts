/** The transaction that a checkpoint names, and the one that really ends where recovery from it begins. */
import { laterAtPosition, parseCheckpoint, renameTransaction } from '../formats/txlog/checkpoint.ts';
import { LOG_HEADER_BYTES } from '../formats/txlog/header.ts';
import { COMMIT_ENTRY_BYTES, type CommitEntry, parseCommitEntry } from '../formats/txlog/transactions.ts';
import { readFully } from '../storage/local.ts';
import type { Fence } from './fence.ts';
import type { PinnedLog } from './logpins.ts';

/** The commit entry that ends at an offset of a log file; undefined when something else is there. */
export async function readCommitBefore(
  { handle, name }: PinnedLog,
  offsetBytes: number,
): Promise<CommitEntry | undefined> {
  const start = offsetBytes - COMMIT_ENTRY_BYTES;
  if (start < LOG_HEADER_BYTES) return undefined;
  const bytes = Buffer.alloc(COMMIT_ENTRY_BYTES);
  const got = await readFully(handle, bytes, start, name);
  return got < COMMIT_ENTRY_BYTES ? undefined : parseCommitEntry(bytes);
}

/**
 * The fence, naming a transaction that does not lie before its position.
 *
 * When transactions close between the two readings of which Neo4j makes a checkpoint, its position lies behind later
 * ones than the one it names: under load, in one of a thousand checkpoints. The store holds them, so such a
 * checkpoint is as good as any; but a Neo4j that starts with nothing behind the position takes the named one for its
 * last, and gives the number of the one after it a second time. A restored database must not, so the entry that the
 * copy gets names the transaction that ends at the position.
 *
 * @param pin the log file of the position
 */
export async function namingItsEnd(fence: Fence, pin: PinnedLog): Promise<Fence> {
  const { checkpoint, fileBytes } = fence;
  const later = laterAtPosition(checkpoint);
  if (later === undefined) return fence;
  const { appendIndex, transactionId, position } = checkpoint;
  const commit = await readCommitBefore(pin, Number(position.offsetBytes));
  // Something else there is for the walk of the log to judge, by the name that the checkpoint gives.
  if (commit?.transactionId !== transactionId + (later - appendIndex)) return fence;
  const renamed = renameTransaction(fileBytes, checkpoint, { ...commit, appendIndex: later });
  return { ...fence, fileBytes: renamed, checkpoint: parseCheckpoint(renamed, checkpoint.startBytes)! };
}
