import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';

/** Size of a relationship's record, and of the first page of such records in both formats (`formats.md` §4). */
const RECORD_BYTES = 34;
const RECORDS_OF_FIRST_PAGE = 240;
const IN_USE = 0x01;
const TYPE_OFFSET_BYTES = 10;

/**
 * Gives a relationship a type that does not exist. It is one that is in use: which ids a load has given out depends on
 * how its writers took turns, and a record of no relationship may hold anything without being damage.
 */
export async function damageRelationship(relationshipStore: string): Promise<void> {
  await using handle = await open(relationshipStore, 'r+');
  const page = Buffer.alloc(RECORDS_OF_FIRST_PAGE * RECORD_BYTES);
  const { bytesRead } = await handle.read(page, 0, page.length, 0);
  const ids = Array.from({ length: Math.floor(bytesRead / RECORD_BYTES) }, (_, id) => id);
  const used = ids.filter((id) => (page[id * RECORD_BYTES]! & IN_USE) !== 0);
  assert.ok(used.length > 0, `no relationship is in use at the beginning of ${relationshipStore}`);
  const id = used[Math.floor(used.length / 2)]!;
  await handle.write(Buffer.alloc(3, 0xff), 0, 3, id * RECORD_BYTES + TYPE_OFFSET_BYTES);
}
