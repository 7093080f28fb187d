/**
 * A database of this host, copied hot and read: record stores and log only, into a scratch folder that is gone afterwards.
 * The same steps as a full backup, so the copy is right while a server writes; indexes and trees are not needed to read.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { MemberSource } from '../artifact/membersource.ts';
import { type Graph, openGraph } from '../engine/graph.ts';
import type { LogRange } from '../engine/overlay.ts';
import { GraphkeepError, throwIfAborted, wrapSystemError } from '../errors.ts';
import { LOG_HEADER_BYTES } from '../formats/txlog/header.ts';
import { openLocalSnapshot } from '../hotcopy/snapshot.ts';
import { BACKUP_ATTEMPTS_MAX, FRAME_RAW_BYTES } from '../limits.ts';
import { writeFully } from '../storage/local.ts';
import { withScratch } from './scratch.ts';
import type { DatabaseFolders } from './types.ts';

const SCRATCH_PREFIX = '.graphkeep-graph-';

export interface GraphCopyOptions {
  /** An existing folder with room for the record stores. What is written into it is for its owner only. */
  readonly temporaryDirectory: string;
  readonly signal?: AbortSignal;
}

/** @throws GK_NOT_FOUND, GK_UNSUPPORTED, GK_STORE_DAMAGED, GK_SOURCE_MOVED, GK_NO_SPACE, … */
export async function withGraphOf<Result>(
  source: DatabaseFolders,
  options: GraphCopyOptions,
  work: (graph: Graph) => Promise<Result>,
): Promise<Result> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await withScratch(options.temporaryDirectory, SCRATCH_PREFIX, async (scratch) => {
        const graph = await copyAndOpen(source, scratch, options.signal);
        return await work(graph).finally(() => graph.close());
      });
    } catch (error) {
      const moved = error instanceof GraphkeepError && error.code === 'GK_SOURCE_MOVED';
      if (!moved || attempt >= BACKUP_ATTEMPTS_MAX) throw error;
    }
  }
}

async function copyAndOpen(source: DatabaseFolders, scratch: string, signal?: AbortSignal): Promise<Graph> {
  const snapshot = await openLocalSnapshot(source);
  try {
    for (const group of snapshot.groups) {
      if (group.rebuildable) continue;
      const opened = await group.open();
      if (opened === undefined) throw new GraphkeepError('GK_SOURCE_MOVED', `${group.path} is gone`);
      try {
        for (const member of opened.members) await copyMember(member, scratch, signal);
      } finally {
        await opened.close();
      }
    }
    await snapshot.takeTail(signal);
    const log: LogRange[] = [];
    for (const member of await snapshot.finalMembers()) {
      if (member.kind !== 'log') continue;
      await copyMember(member, scratch, signal);
      log.push({ path: join(scratch, member.path), startBytes: LOG_HEADER_BYTES });
    }
    const { family } = snapshot.neostore.storeId;
    return await openGraph({ storeDirectory: scratch, family, log }, signal);
  } finally {
    await snapshot.close();
  }
}

async function copyMember(member: MemberSource, folder: string, signal?: AbortSignal): Promise<void> {
  const path = join(folder, member.path);
  const handle = await open(path, 'wx', 0o600).catch((error: unknown) => {
    throw wrapSystemError(error, `create ${path}`);
  });
  try {
    for (let position = 0; position < member.bytes; position += FRAME_RAW_BYTES) {
      throwIfAborted(signal);
      const bytes = Buffer.allocUnsafe(Math.min(FRAME_RAW_BYTES, member.bytes - position));
      await member.read(bytes, position);
      await writeFully(handle, bytes, position, path);
    }
  } finally {
    await handle.close();
  }
}
