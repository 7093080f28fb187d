/**
 * The record stores of a database: their files, and where in a file a record lies. Source: formats.md §1, §4.
 *
 * Both formats store the same records. `aligned` begins every record file page at a multiple of 8192 and leaves the rest
 * of a page empty that no whole record fits into; `standard` makes the page smaller instead, so that records lie side by
 * side without a gap.
 */
import { FormatError } from '../formaterror.ts';

export const STORE_PAGE_BYTES = 8192;

export const RECORD_STORES = {
  nodes: { file: 'neostore.nodestore.db', recordBytes: 15 },
  nodeLabels: { file: 'neostore.nodestore.db.labels', recordBytes: 64 },
  relationships: { file: 'neostore.relationshipstore.db', recordBytes: 34 },
  groups: { file: 'neostore.relationshipgroupstore.db', recordBytes: 25 },
  properties: { file: 'neostore.propertystore.db', recordBytes: 41 },
  strings: { file: 'neostore.propertystore.db.strings', recordBytes: 128 },
  arrays: { file: 'neostore.propertystore.db.arrays', recordBytes: 128 },
  propertyKeys: { file: 'neostore.propertystore.db.index', recordBytes: 9 },
  propertyKeyNames: { file: 'neostore.propertystore.db.index.keys', recordBytes: 38 },
  labels: { file: 'neostore.labeltokenstore.db', recordBytes: 5 },
  labelNames: { file: 'neostore.labeltokenstore.db.names', recordBytes: 38 },
  relationshipTypes: { file: 'neostore.relationshiptypestore.db', recordBytes: 5 },
  relationshipTypeNames: { file: 'neostore.relationshiptypestore.db.names', recordBytes: 38 },
  schema: { file: 'neostore.schemastore.db', recordBytes: 8 },
} as const;

export type StoreName = keyof typeof RECORD_STORES;

/** Stores whose record 0 holds the size of their records, and one that holds the dense node threshold, or nothing. */
const STORES_WITH_HEADER: ReadonlySet<StoreName> = new Set([
  'nodeLabels',
  'strings',
  'arrays',
  'propertyKeyNames',
  'labelNames',
  'relationshipTypeNames',
  'groups',
  'schema',
] satisfies StoreName[]);

const DYNAMIC_RECORD_BYTES_MIN = 16;
const DYNAMIC_RECORD_BYTES_MAX = STORE_PAGE_BYTES;

/** First id of a store that a record may have. */
export function firstIdOf(store: StoreName): number {
  return STORES_WITH_HEADER.has(store) ? 1 : 0;
}

/** Size of the records of a dynamic store, which its first four bytes say; 0 in a page that was never written. */
export function parseDynamicHeader(bytes: Buffer): number | undefined {
  const recordBytes = bytes.readInt32BE(0);
  if (recordBytes === 0) return undefined;
  if (recordBytes < DYNAMIC_RECORD_BYTES_MIN || recordBytes > DYNAMIC_RECORD_BYTES_MAX)
    throw new FormatError(`dynamic records of ${recordBytes} bytes`);
  return recordBytes;
}

/** How records of one size are laid out. */
export interface PageLayout {
  readonly recordBytes: number;
  readonly recordsPerPage: number;
  readonly pageBytes: number;
}

/** @param family format of the store, as its id names it. @throws FormatError for another format than these two */
export function pageLayout(family: string, recordBytes: number): PageLayout {
  const recordsPerPage = Math.floor(STORE_PAGE_BYTES / recordBytes);
  if (family === 'aligned') return { recordBytes, recordsPerPage, pageBytes: STORE_PAGE_BYTES };
  if (family === 'standard') return { recordBytes, recordsPerPage, pageBytes: recordsPerPage * recordBytes };
  throw new FormatError(`records of the format ${family} are not known`);
}
