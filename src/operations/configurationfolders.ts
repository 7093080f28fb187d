/** Looking through the folders of an installation: bounded, and without leaving them through a link. */
import type { Dirent } from 'node:fs';
import { readdir, realpath, stat } from 'node:fs/promises';
import { GraphkeepError, isErrno, wrapSystemError } from '../errors.ts';
import { archivePathOf, type ConfigurationMember, checkedPath } from '../formats/configuration/manifest.ts';
import { FormatError } from '../formats/formaterror.ts';
import { writeTarHeader } from '../formats/tar.ts';
import { CONFIGURATION_FILES_MAX } from '../limits.ts';
import { isBelow } from '../neo4j/places.ts';

/** @throws GK_UNSUPPORTED for a name that an artifact cannot hold */
export function requireName(member: ConfigurationMember): void {
  try {
    checkedPath(member.path);
    writeTarHeader(archivePathOf(member), member.bytes);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new GraphkeepError('GK_UNSUPPORTED', error.message, {
      hint: 'give the file another name',
      cause: error,
    });
  }
}

/** Of a link, whether it stays in its folder: what leads out of it may be any file of this machine. */
export async function leadsToFileBelow(link: string, root: string): Promise<boolean> {
  try {
    const target = await realpath(link);
    return isBelow(target, root) && (await stat(target)).isFile();
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ELOOP', 'ENOTDIR')) return false;
    throw wrapSystemError(error, `follow ${link}`);
  }
}

export async function listFolder(folder: string): Promise<Dirent[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return [];
    throw wrapSystemError(error, `list ${folder}`);
  });
  if (entries.length > CONFIGURATION_FILES_MAX)
    throw beyond(`${folder} holds more than ${CONFIGURATION_FILES_MAX} files`);
  return entries.sort((left, right) => (left.name < right.name ? -1 : 1));
}

export function beyond(what: string): GraphkeepError {
  return new GraphkeepError('GK_UNSUPPORTED', `this is no configuration of a Neo4j: ${what}`, {
    hint: 'move what does not belong to the configuration out of these folders',
  });
}
