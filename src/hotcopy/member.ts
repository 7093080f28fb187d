/** Members of an artifact whose bytes come from a pinned handle. */
import type { FileHandle } from 'node:fs/promises';
import type { MemberSource } from '../artifact/membersource.ts';
import { GraphkeepError } from '../errors.ts';
import { readFully } from '../storage/local.ts';

/** Fills the whole target. @throws GK_SOURCE_MOVED when the file is shorter than it was when it was opened */
export async function readExactly(
  file: { path: string; read(target: Buffer, position: number): Promise<number> },
  target: Buffer,
  position: number,
): Promise<void> {
  const got = await file.read(target, position);
  if (got < target.length)
    throw new GraphkeepError('GK_SOURCE_MOVED', `${file.path} became shorter while it was read`);
}

/** A member that is read from a pinned handle, from `startBytes` of the file on. */
export function memberFromHandle(
  handle: FileHandle,
  path: string,
  kind: MemberSource['kind'],
  bytes: number,
  startBytes = 0,
): MemberSource {
  const file = {
    path,
    read: (target: Buffer, position: number): Promise<number> =>
      readFully(handle, target, startBytes + position, path),
  };
  return { path, kind, bytes, read: (target, position) => readExactly(file, target, position) };
}
