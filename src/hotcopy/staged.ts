/**
 * A group copied aside first. Over a slow network an index may change faster than it can be sent; on the host itself the
 * copy takes a moment, and what is sent afterwards can take any time.
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { throwIfAborted, wrapSystemError } from '../errors.ts';
import { STAGING_BUFFER_BYTES } from '../limits.ts';
import { writeFully } from '../storage/local.ts';
import type { OpenGroup } from './group.ts';
import { memberFromHandle } from './member.ts';

/**
 * Copies an open group into a file without a name, so that nothing is left of it whatever happens, and closes it.
 * @returns undefined when it was not from one moment
 * @throws GK_NO_SPACE, GK_NO_PERMISSION, GK_SOURCE_MOVED
 */
export async function stageGroup(
  group: OpenGroup,
  directory: string,
  signal?: AbortSignal,
): Promise<OpenGroup | undefined> {
  try {
    return await copyAside(group, directory, signal);
  } finally {
    await group.close();
  }
}

async function copyAside(
  group: OpenGroup,
  directory: string,
  signal: AbortSignal | undefined,
): Promise<OpenGroup | undefined> {
  const handle = await openNameless(directory);
  let isWhole = false;
  try {
    const starts = await copyMembers(group, handle, directory, signal);
    isWhole = await group.confirm();
    if (!isWhole) return undefined;
    const members = group.members.map(({ path, kind, bytes }, number) =>
      memberFromHandle(handle, path, kind, bytes, starts[number]),
    );
    return { members, confirm: async () => true, close: () => handle.close() };
  } finally {
    if (!isWhole) await handle.close();
  }
}

async function openNameless(directory: string): Promise<FileHandle> {
  const path = join(directory, `.graphkeep-${randomBytes(8).toString('hex')}.partial`);
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, 'wx+', 0o600);
    await rm(path);
    return handle;
  } catch (error) {
    await handle?.close();
    throw wrapSystemError(error, `stage a copy in ${directory}`);
  }
}

/** Where each member begins in the file. */
async function copyMembers(
  group: OpenGroup,
  handle: FileHandle,
  directory: string,
  signal: AbortSignal | undefined,
): Promise<number[]> {
  const buffer = Buffer.allocUnsafe(STAGING_BUFFER_BYTES);
  const starts: number[] = [];
  let end = 0;
  for (const member of group.members) {
    starts.push(end);
    for (let position = 0; position < member.bytes; position += buffer.length) {
      throwIfAborted(signal);
      const piece = buffer.subarray(0, Math.min(buffer.length, member.bytes - position));
      await member.read(piece, position);
      await writeFully(handle, piece, end + position, `a staged copy in ${directory}`);
    }
    end += member.bytes;
  }
  return starts;
}
