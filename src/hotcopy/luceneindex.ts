/**
 * Copying a Lucene index from one moment: the files of its newest commit are opened, then the folder is listed
 * again; if that commit is still the newest, the open handles hold all of it, whatever is merged or deleted later.
 */
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { GraphkeepError } from '../errors.ts';
import { FormatError } from '../formats/formaterror.ts';
import { parseSegments, segmentOfFile, segmentsGeneration } from '../formats/lucene.ts';
import { MIB } from '../limits.ts';
import { readFolder, readFully } from '../storage/local.ts';
import type { OpenGroup } from './group.ts';
import { pinFile } from './logfolder.ts';
import { memberFromHandle } from './member.ts';

const SEGMENTS_BYTES_MAX = 64 * MIB;

interface PinnedFile {
  readonly path: string;
  readonly handle: FileHandle;
  readonly bytes: number;
}

/** undefined when a file vanished or a newer commit appeared meanwhile: another attempt sees the newer one. */
export async function openLuceneIndex(directory: string, path: string): Promise<OpenGroup | undefined> {
  const pinned: PinnedFile[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(pinned.map((file) => file.handle.close()));
  };
  try {
    if (await pinIndex(directory, path, pinned)) {
      return {
        members: pinned.map((file) => memberFromHandle(file.handle, file.path, 'store', file.bytes)),
        confirm: async () => true,
        close,
      };
    }
  } catch (error) {
    await close();
    if (error instanceof FormatError) return undefined;
    if (error instanceof GraphkeepError && error.code === 'GK_NOT_FOUND') return undefined;
    throw error;
  }
  await close();
  return undefined;
}

async function pinIndex(directory: string, path: string, pinned: PinnedFile[]): Promise<boolean> {
  for (const entry of await readFolder(join(directory, path))) {
    const entryPath = `${path}/${entry.name}`;
    if (entry.isFile() && !(await pin(directory, entryPath, pinned))) return false;
    // Other folders, such as `7.tx`, are scratch of a running server.
    if (
      entry.isDirectory() &&
      /^\d+$/.test(entry.name) &&
      !(await pinPartition(directory, entryPath, pinned))
    )
      return false;
  }
  return pinned.length > 0;
}

async function pin(directory: string, path: string, pinned: PinnedFile[]): Promise<FileHandle | undefined> {
  const handle = await pinFile(join(directory, path));
  if (handle === undefined) return undefined;
  pinned.push({ path, handle, bytes: (await handle.stat()).size });
  return handle;
}

async function pinPartition(directory: string, path: string, pinned: PinnedFile[]): Promise<boolean> {
  const names = (await readFolder(join(directory, path))).map((entry) => entry.name);
  const newest = newestCommit(names);
  if (newest === undefined) return false;
  const handle = await pin(directory, `${path}/${newest}`, pinned);
  if (handle === undefined) return false;
  const segments = new Set(await readSegments(handle, newest));
  const wanted = names.filter((name) => segments.has(segmentOfFile(name) ?? ''));
  for (const name of wanted) {
    if ((await pin(directory, `${path}/${name}`, pinned)) === undefined) return false;
  }
  const described = new Set(wanted.filter((name) => name.endsWith('.si')).map((name) => name.slice(0, -3)));
  if ([...segments].some((segment) => !described.has(segment))) return false;
  const namesNow = (await readFolder(join(directory, path))).map((entry) => entry.name);
  return newestCommit(namesNow) === newest;
}

function newestCommit(names: readonly string[]): string | undefined {
  const commits = names.filter((name) => segmentsGeneration(name) !== undefined);
  return commits.sort((left, right) => segmentsGeneration(right)! - segmentsGeneration(left)!)[0];
}

async function readSegments(handle: FileHandle, name: string): Promise<string[]> {
  const { size } = await handle.stat();
  if (size > SEGMENTS_BYTES_MAX) throw new FormatError(`${name} is impossibly long`);
  const content = Buffer.alloc(size);
  await readFully(handle, content, 0, name);
  return parseSegments(content);
}
