/**
 * Reading a file that protects something: a key, a certificate, a list of who may do what. It is bounded, it is a file
 * and not a pipe that never ends, and who may read or write it is looked at on the very handle that is read, so that
 * nobody exchanges the file in between.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { GraphkeepError, isErrno, wrapSystemError } from '../errors.ts';
import { readFully } from './local.ts';

/** Of the mode bits: what nobody but the owner (and his group) shall have. */
export const READABLE_BY_OTHERS = 0o004;
export const WRITABLE_BY_OTHERS = 0o002;
export const WRITABLE_BY_GROUP = 0o020;
export const ANY_ACCESS_OF_OTHERS = 0o007;

const MODE_BITS = 0o777;

export interface GuardedReading {
  /** What the file is, for messages: "the private key". */
  readonly what: string;
  readonly bytesMax: number;
  /** Mode bits of which none may be set. */
  readonly forbiddenMode: number;
}

/** @throws GraphkeepError GK_NOT_FOUND, GK_NO_PERMISSION, or GK_CONFIG when it is too large, no file, or too open. */
export async function readGuardedFile(file: string, reading: GuardedReading): Promise<Buffer> {
  const handle = await openGuarded(file, reading.what);
  try {
    return await readGuarded(handle, file, reading);
  } finally {
    await handle.close();
  }
}

async function openGuarded(file: string, what: string): Promise<FileHandle> {
  try {
    // Without O_NONBLOCK, opening a named pipe would wait for a writer for ever.
    return await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) {
      throw new GraphkeepError('GK_NOT_FOUND', `${what} does not exist: ${file}`, { cause: error });
    }
    throw wrapSystemError(error, `read ${what} ${file}`);
  }
}

async function readGuarded(handle: FileHandle, file: string, reading: GuardedReading): Promise<Buffer> {
  const { what, bytesMax, forbiddenMode } = reading;
  const status = await handle.stat();
  if (!status.isFile()) throw new GraphkeepError('GK_CONFIG', `${what} is not a file: ${file}`);
  refuseOpenMode(status.mode, forbiddenMode, `${what} ${file}`, file);
  if (status.size > bytesMax) {
    throw new GraphkeepError('GK_CONFIG', `${what} ${file} is larger than ${bytesMax} bytes`);
  }
  const content = Buffer.alloc(status.size);
  return content.subarray(0, await readFully(handle, content, 0, file));
}

/** Like ssh: a secret that others can read is none, and a list that others can write protects nothing. */
export function refuseOpenMode(mode: number, forbiddenMode: number, what: string, path: string): void {
  if ((mode & forbiddenMode) === 0) return;
  const bits = (mode & MODE_BITS).toString(8).padStart(4, '0');
  const who = (mode & forbiddenMode & ANY_ACCESS_OF_OTHERS) === 0 ? 'its group' : 'others';
  const verb = (mode & forbiddenMode & READABLE_BY_OTHERS) === 0 ? 'written' : 'read';
  const right = (mode & MODE_BITS & ~forbiddenMode).toString(8).padStart(4, '0');
  throw new GraphkeepError('GK_CONFIG', `${what} can be ${verb} by ${who} (mode ${bits})`, {
    hint: `run: chmod ${right} ${path} (in Kubernetes: the defaultMode of the volume)`,
  });
}
