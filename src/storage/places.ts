/**
 * Folders of artifacts wherever they are: on this machine, or in an object store by its URL. Who lists, opens or removes
 * artifacts goes through here and does not know the difference; paths are texts in both cases, and the last step of one is
 * its name.
 */
import { lstat, stat, unlink } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { GraphkeepError, isErrno, wrapSystemError } from '../errors.ts';
import { openForReading, type ReadableFile, readFolder, syncDirectory } from './local.ts';
import { isStoreUrl, parseStoreUrl } from './objects/address.ts';
import { openObjectStore } from './objects/open.ts';
import type { StoreSettings } from './objects/settings.ts';
import type { ObjectAttributes, ObjectFacts, ObjectStore } from './objects/store.ts';

export { isStoreUrl };

let settings: StoreSettings = {};
let attributes: ObjectAttributes = {};
const stores = new Map<string, Promise<ObjectStore>>();

/** How stores are reached from now on; what was open stays as it is. Said once, by the program. */
export function useStoreSettings(given: StoreSettings, ofArtifacts: ObjectAttributes = {}): void {
  settings = given;
  attributes = ofArtifacts;
}

/** How artifacts are to be kept that are written from now on. */
export function artifactAttributes(): ObjectAttributes {
  return attributes;
}

/** The store of a folder; one for all who use that folder. */
export function storeOf(folder: string): Promise<ObjectStore> {
  const url = folder.replace(/\/*$/, '/');
  let store = stores.get(url);
  if (store === undefined) {
    store = openObjectStore(url, settings);
    stores.set(url, store);
  }
  return store;
}

/** Connections of stores that are kept alive would keep the process alive as well. */
export async function closeStores(): Promise<void> {
  if (stores.size === 0) return;
  const { leasesEnded } = await import('./objects/lease.ts');
  await leasesEnded();
  const open = [...stores.values()];
  stores.clear();
  for (const store of await Promise.allSettled(open)) if (store.status === 'fulfilled') store.value.close();
}

export function joinPath(folder: string, name: string): string {
  return isStoreUrl(folder) ? `${folder.replace(/\/*$/, '')}/${name}` : path.join(folder, name);
}

/** As `backup inspect` prints a path. */
export function urlOf(given: string): string {
  return isStoreUrl(given) ? given : pathToFileURL(given).href;
}

/** As `path.resolve`; a URL is absolute already. */
export function resolvePath(given: string): string {
  return isStoreUrl(given) ? given.replace(/\/+$/, '') : path.resolve(given);
}

/** What a store says of an object in its listing; on this machine there is nothing like it. */
export type ListedFacts = Pick<ObjectFacts, 'bytes' | 'tag'>;

/** A file of a folder. */
export interface ListedFile {
  readonly path: string;
  readonly facts?: ListedFacts;
}

/** @param facts of a listing: they spare a request for each file of a folder that is opened */
export async function openPath(file: string, facts?: ListedFacts): Promise<ReadableFile> {
  return isStoreUrl(file) ? openObject(file, facts) : openForReading(file);
}

/** The store of its folder, and its key there. */
async function objectAt(url: string): Promise<{ store: ObjectStore; key: string }> {
  return { store: await storeOf(path.posix.dirname(url)), key: path.posix.basename(url) };
}

async function openObject(url: string, listed: ListedFacts | undefined): Promise<ReadableFile> {
  const { store, key } = await objectAt(url);
  const facts = listed ?? (await store.stat(key));
  if (facts === undefined) throw new GraphkeepError('GK_NOT_FOUND', `there is no ${url}`);
  const { bytes, tag } = facts;
  return {
    path: url,
    bytes,
    read: async (target, position) => {
      const wanted = target.subarray(0, Math.max(0, Math.min(target.length, bytes - position)));
      if (wanted.length > 0) await store.read(key, position, wanted, { tag });
      return wanted.length;
    },
    close: async () => undefined,
  };
}

/** The files in a folder, not those in folders below it. @throws GK_NOT_FOUND, GK_NO_PERMISSION, … */
export async function filesIn(folder: string): Promise<ListedFile[]> {
  if (!isStoreUrl(folder)) {
    const entries = await readFolder(folder);
    return entries.filter((entry) => entry.isFile()).map(({ name }) => ({ path: joinPath(folder, name) }));
  }
  const files: ListedFile[] = [];
  for await (const { key, bytes, tag } of (await storeOf(folder)).list('')) {
    if (!key.includes('/')) files.push({ path: joinPath(folder, key), facts: { bytes, tag } });
  }
  return files;
}

/** Whether anything has this name. */
export async function existsAt(file: string): Promise<boolean> {
  if (isStoreUrl(file)) {
    const { store, key } = await objectAt(file);
    return (await store.stat(key)) !== undefined;
  }
  try {
    await lstat(file);
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false;
    throw wrapSystemError(error, `find ${file}`);
  }
}

/** In an object store a path is a file when there is such an object; any other is a folder, empty perhaps. */
export async function isFileAt(given: string): Promise<boolean> {
  if (isStoreUrl(given)) return parseStoreUrl(given).prefix !== '' && (await isObject(given));
  const status = await stat(given).catch((error: unknown) => {
    throw wrapSystemError(error, `find ${given}`);
  });
  return status.isFile();
}

/** Who may look below a folder only is refused a look at the folder itself: then it is no artifact. */
async function isObject(url: string): Promise<boolean> {
  try {
    const { store, key } = await objectAt(url);
    return (await store.stat(key)) !== undefined;
  } catch (error) {
    if (error instanceof GraphkeepError && error.code === 'GK_NO_PERMISSION') return false;
    throw error;
  }
}

/**
 * Removes a good artifact that is not wanted any more. What is gone already is no error.
 * @throws GK_NO_PERMISSION for what is locked, and nothing happens to it, even where the store would hide it
 */
export async function removeArtifact(file: string): Promise<void> {
  if (isStoreUrl(file)) {
    const { store, key } = await objectAt(file);
    const lock = await store.lockOf?.(key);
    if (lock !== undefined) {
      throw new GraphkeepError('GK_NO_PERMISSION', `${file} is not removed: it is locked ${lock}`, {
        hint: 'keep artifacts for at least as long as they are locked, or wait',
      });
    }
  }
  await removePath(file);
}

/** What turned out wrong goes, or at least out of sight, locked or not. What is gone already is no error. */
export async function removePath(file: string): Promise<void> {
  if (isStoreUrl(file)) {
    const { store, key } = await objectAt(file);
    await store.remove(key);
    return;
  }
  await unlink(file).catch((error: unknown) => {
    if (!isErrno(error, 'ENOENT')) throw error;
  });
}

/** Removals and new names are durable; in an object store they are by themselves. */
export async function syncFolder(folder: string): Promise<void> {
  if (!isStoreUrl(folder)) await syncDirectory(folder);
}
