/** Names of the files in a transaction folder, and opening one that may be gone. Source: formats.md §1. */
import { type FileHandle, open } from 'node:fs/promises';
import { isErrno, wrapSystemError } from '../errors.ts';
import { readFolder } from '../storage/local.ts';

export const LOG_NAME = /^neostore\.transaction\.db\.(\d+)$/;
const CHECKPOINT_NAME = /^checkpoint\.(\d+)$/;

export function logFileName(version: bigint): string {
  return `neostore.transaction.db.${version}`;
}

export interface NumberedFile {
  readonly name: string;
  readonly version: bigint;
}

export interface LogFolderListing {
  /** Ascending by version. */
  readonly logs: readonly NumberedFile[];
  readonly checkpoints: readonly NumberedFile[];
}

export async function listLogFolder(directory: string): Promise<LogFolderListing> {
  const names = (await readFolder(directory)).map((entry) => entry.name);
  return { logs: numbered(names, LOG_NAME), checkpoints: numbered(names, CHECKPOINT_NAME) };
}

function numbered(names: readonly string[], pattern: RegExp): NumberedFile[] {
  return names
    .flatMap((name) => {
      const match = pattern.exec(name);
      return match === null ? [] : [{ name, version: BigInt(match[1]!) }];
    })
    .sort((left, right) => (left.version < right.version ? -1 : 1));
}

/** Opens a file for pinning; undefined when it is gone already. */
export async function pinFile(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw wrapSystemError(error, `open ${path}`);
  }
}
