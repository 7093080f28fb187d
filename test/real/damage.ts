import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { parseRelationship } from '../../src/formats/records/graph.ts';
import { pageLayout, RECORD_STORES } from '../../src/formats/records/layout.ts';

/** The first page is the same in both formats. */
const { recordBytes, recordsPerPage } = pageLayout('aligned', RECORD_STORES.relationships.recordBytes);
const TYPE_OFFSET_BYTES = 10;

/**
 * Gives a relationship a type that does not exist. It is one that is in use: which ids a load has given out depends on
 * how its writers took turns, and a record of no relationship may hold anything without being damage.
 */
export async function damageRelationship(relationshipStore: string): Promise<void> {
  await using handle = await open(relationshipStore, 'r+');
  const page = Buffer.alloc(recordsPerPage * recordBytes);
  await handle.read(page, 0, page.length, 0);
  const ids = Array.from({ length: recordsPerPage }, (_, id) => id);
  const used = ids.filter((id) => parseRelationship(page, id * recordBytes).inUse);
  assert.ok(used.length > 0, `no relationship is in use at the beginning of ${relationshipStore}`);
  const id = used[Math.floor(used.length / 2)]!;
  await handle.write(Buffer.alloc(3, 0xff), 0, 3, id * recordBytes + TYPE_OFFSET_BYTES);
}
