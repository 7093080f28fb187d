/** Paths that a user typed: the two questions asked of them, with an answer that names the mistake. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { GraphkeepError, isErrno, wrapSystemError } from '../errors.ts';
import { isFileAt, isStoreUrl } from '../storage/places.ts';

/** @throws GraphkeepError GK_NOT_FOUND when it is missing or no folder; `what` is e.g. "the target folder". */
export async function requireFolder(given: string, what: string, hint: string): Promise<string> {
  if (isStoreUrl(given)) return given;
  const folder = path.resolve(given);
  if (!(await isFolder(folder, what))) {
    throw new GraphkeepError('GK_NOT_FOUND', `${what} is not a folder: ${folder}`, { hint });
  }
  return folder;
}

/** Whether an existing path is a folder. */
export async function isFolder(absolutePath: string, what: string): Promise<boolean> {
  if (isStoreUrl(absolutePath)) return !(await isFileAt(absolutePath));
  try {
    return (await stat(absolutePath)).isDirectory();
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) {
      throw new GraphkeepError('GK_NOT_FOUND', `${what} does not exist: ${absolutePath}`, { cause: error });
    }
    throw wrapSystemError(error, `look at ${absolutePath}`);
  }
}
