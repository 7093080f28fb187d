/**
 * Which files of a store folder are copied, and how each heals. Source: formats.md §1, §9.2.
 *
 * - `replayable`: record stores. Copied in any state; the log repairs every page.
 * - `tree`: a GBPTree. Must be copied from one moment; Neo4j rebuilds it when it is absent.
 * - `lucene`: an index folder of Lucene. The files of one commit; rebuilt when absent.
 * - `constant`: does not change while a database runs.
 */
import { join } from 'node:path';
import { GraphkeepError } from '../errors.ts';
import { TREE_PAGE_BYTES } from '../formats/gbptree.ts';
import { RECORD_STORES } from '../formats/records/layout.ts';
import { readFolder } from '../storage/local.ts';

export type StoreFileKind = 'replayable' | 'tree' | 'constant';

export interface StoreFile {
  /** Relative to the store folder, with `/`. */
  readonly path: string;
  readonly kind: StoreFileKind;
}

export interface StoreListing {
  readonly files: readonly StoreFile[];
  /** Folders that hold Lucene index partitions, e.g. `schema/index/text-2.0/7`. */
  readonly luceneIndexes: readonly string[];
  /** Paths of a kind that graphkeep does not know and that can be left out, since only indexes are like that. */
  readonly unknownIndexes: readonly string[];
}

export const METADATA_STORE = 'neostore';

/** Never part of a backup: locks, scratch files, marks of the running server, work folders of other tools. */
const EXCLUDED = [
  /^database_lock$/,
  /^store_lock$/,
  /^id-buffer\.tmp\./,
  /^quarantine_marker$/,
  /^tools$/,
  /^profiles$/,
  // Where the log lies in the same folder, as in a directory backup, it is the tail that says what of it is taken.
  /^neostore\.transaction\.db\.\d+$/,
  /^checkpoint\.\d+$/,
  /^\..*\.partial$/,
];
const INDEX_FOLDER = 'schema/index';
const TREE_INDEX_PROVIDERS = /^(token-lookup|range|point)-/;
const LUCENE_INDEX_PROVIDERS = /^(text|fulltext|vector)-/;

/** Size of one record, for stores of the `standard` format, whose pages end with a whole record. */
const RECORD_BYTES: Readonly<Record<string, number>> = Object.fromEntries(
  Object.values(RECORD_STORES).map(({ file, recordBytes }) => [file, recordBytes]),
);

/** Without one of these the server refuses to start: "store files missing and recovery is not possible". */
export const MANDATORY_FILES: readonly string[] = [METADATA_STORE, ...Object.keys(RECORD_BYTES)];

/**
 * Whole pages of a record store that is growing: a page that is being added has its changes in the log behind
 * the fence, and a torn last page would make the file a length that no store has.
 */
export function wholePagesBytes(path: string, family: string, bytes: number): number {
  const recordBytes = RECORD_BYTES[path.replace(/\.\d+$/, '')];
  const pageBytes =
    family === 'standard' && recordBytes !== undefined
      ? TREE_PAGE_BYTES - (TREE_PAGE_BYTES % recordBytes)
      : TREE_PAGE_BYTES;
  return bytes - (bytes % pageBytes);
}

/** Lists a store folder. @throws GK_NOT_FOUND, GK_NO_PERMISSION, GK_UNSUPPORTED for a store of another engine */
export async function listStore(directory: string): Promise<StoreListing> {
  const files: StoreFile[] = [];
  for (const entry of await readFolder(directory)) {
    if (EXCLUDED.some((pattern) => pattern.test(entry.name))) continue;
    if (entry.isFile()) files.push({ path: entry.name, kind: kindOf(entry.name) });
  }
  refuseOtherEngines(directory, files);
  const indexes = await listIndexes(directory);
  return { ...indexes, files: [...files, ...indexes.files] };
}

function kindOf(name: string): StoreFileKind {
  if (name === METADATA_STORE) return 'constant';
  const isTree =
    /\.id$/.test(name) || /^neostore\.(counts|indexstats|relationshipgroupstore\.degrees)\.db$/.test(name);
  return isTree ? 'tree' : 'replayable';
}

function refuseOtherEngines(directory: string, files: readonly StoreFile[]): void {
  if (files.some((file) => file.path === METADATA_STORE)) return;
  const isBlock = files.some((file) => /^block\./.test(file.path));
  if (isBlock) {
    throw new GraphkeepError('GK_UNSUPPORTED', `${directory} holds a store of the block format`, {
      hint: 'block is an Enterprise format; graphkeep backs up the record formats aligned and standard',
    });
  }
  throw new GraphkeepError(
    'GK_NOT_FOUND',
    `${directory} holds no database: it has no file "${METADATA_STORE}"`,
  );
}

async function listIndexes(directory: string): Promise<StoreListing> {
  const files: StoreFile[] = [];
  const luceneIndexes: string[] = [];
  const unknownIndexes: string[] = [];
  for (const provider of await foldersIn(join(directory, INDEX_FOLDER))) {
    for (const index of await foldersIn(join(directory, INDEX_FOLDER, provider))) {
      const path = `${INDEX_FOLDER}/${provider}/${index}`;
      if (LUCENE_INDEX_PROVIDERS.test(provider)) luceneIndexes.push(path);
      else if (TREE_INDEX_PROVIDERS.test(provider))
        files.push({ path: `${path}/index-${index}`, kind: 'tree' });
      else unknownIndexes.push(path);
    }
  }
  return { files, luceneIndexes, unknownIndexes };
}

async function foldersIn(directory: string): Promise<string[]> {
  try {
    const entries = await readFolder(directory);
    return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  } catch (error) {
    // No index folder at all, or an index that is being dropped: there is nothing to copy.
    if (error instanceof GraphkeepError && error.code === 'GK_NOT_FOUND') return [];
    throw error;
  }
}
