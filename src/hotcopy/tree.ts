/**
 * Copying a GBPTree from one moment: the two state pages are read before and after; if they are the same, no
 * checkpoint of the tree finished in between, and every page of its stable generation is as it was.
 * Source: formats.md §6 "Crash safety and copying".
 */
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { FormatError } from '../formats/formaterror.ts';
import { currentTreeState, TREE_HEAD_BYTES, TREE_PAGE_BYTES } from '../formats/gbptree.ts';
import { readFully } from '../storage/local.ts';
import type { OpenGroup } from './group.ts';
import { pinFile } from './logfolder.ts';
import { memberFromHandle } from './member.ts';

/** undefined when the tree is gone (its index was dropped) or has no valid state at this moment. */
export async function openTree(directory: string, path: string): Promise<OpenGroup | undefined> {
  const handle = await pinFile(join(directory, path));
  if (handle === undefined) return undefined;
  try {
    const group = await openGroup(handle, path);
    if (group === undefined) await handle.close();
    return group;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function openGroup(handle: FileHandle, path: string): Promise<OpenGroup | undefined> {
  const head = Buffer.alloc(TREE_HEAD_BYTES);
  const got = await readFully(handle, head, 0, path);
  const { size } = await handle.stat();
  const bytes = size - (size % TREE_PAGE_BYTES);
  if (got < TREE_HEAD_BYTES || !isUsable(head, bytes)) return undefined;
  return {
    members: [memberFromHandle(handle, path, 'store', bytes)],
    confirm: async () => {
      const now = Buffer.alloc(TREE_HEAD_BYTES);
      await readFully(handle, now, 0, path);
      return now.equals(head);
    },
    close: () => handle.close(),
  };
}

/** A tree that is being created may have no state yet, or a state that names pages behind its end. */
function isUsable(head: Buffer, bytes: number): boolean {
  try {
    return (Number(currentTreeState(head).lastId) + 1) * TREE_PAGE_BYTES <= bytes;
  } catch (error) {
    if (error instanceof FormatError) return false;
    throw error;
  }
}
