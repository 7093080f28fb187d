/** Members of an artifact whose bytes come from a pinned handle or from memory. */
import type { FileHandle } from 'node:fs/promises';
import type { MemberSource } from '../artifact/writer.ts';
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

export function memberFromBytes(path: string, kind: MemberSource['kind'], bytes: Buffer): MemberSource {
  return {
    path,
    kind,
    bytes: bytes.length,
    read: async (target, position) => {
      bytes.copy(target, 0, position, position + target.length);
    },
  };
}

/** One member after another, under one name. */
export function concatenated(
  path: string,
  kind: MemberSource['kind'],
  parts: readonly [MemberSource, MemberSource],
): MemberSource {
  const [first, second] = parts;
  return {
    path,
    kind,
    bytes: first.bytes + second.bytes,
    read: async (target, position) => {
      const fromFirst = Math.min(target.length, Math.max(0, first.bytes - position));
      if (fromFirst > 0) await first.read(target.subarray(0, fromFirst), position);
      if (fromFirst === target.length) return;
      await second.read(target.subarray(fromFirst), position + fromFirst - first.bytes);
    },
  };
}
