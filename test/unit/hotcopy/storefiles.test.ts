import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { listStore, MANDATORY_FILES, wholePagesBytes } from '../../../src/hotcopy/storefiles.ts';
import { makeDatabase, put } from '../../fixtures/database.ts';
import { failure, makeFolder, temporaryFolder } from '../../fixtures/workspace.ts';

describe('listing of a store', () => {
  test('every file with how it heals', async (context) => {
    const { storeDirectory } = makeDatabase(temporaryFolder(context), '5.26');
    put(join(storeDirectory, 'neostore.indexstats.db'), Buffer.alloc(8192));
    put(join(storeDirectory, 'neostore.relationshipgroupstore.degrees.db'), Buffer.alloc(8192));
    put(join(storeDirectory, 'neostore.propertystore.db.1'), Buffer.alloc(8192));
    const listing = await listStore(storeDirectory);
    const kinds = new Map(listing.files.map((file) => [file.path, file.kind]));
    assert.equal(kinds.get('neostore'), 'constant');
    for (const name of MANDATORY_FILES) {
      if (name !== 'neostore') assert.equal(kinds.get(name), 'replayable', name);
    }
    for (const tree of [
      'neostore.counts.db',
      'neostore.indexstats.db',
      'neostore.relationshipgroupstore.degrees.db',
      'neostore.nodestore.db.id',
      'schema/index/range-1.0/3/index-3',
    ]) {
      assert.equal(kinds.get(tree), 'tree', tree);
    }
    assert.equal(kinds.get('neostore.propertystore.db.1'), 'replayable', 'a further segment of a store');
    assert.deepEqual(listing.luceneIndexes, ['schema/index/text-2.0/5']);
    assert.deepEqual(listing.unknownIndexes, []);
  });

  test('the mandatory files are the fifteen that Neo4j does not start without', () => {
    assert.equal(MANDATORY_FILES.length, 15);
    for (const rebuilt of ['counts', 'degrees', 'indexstats', '.id']) {
      assert.equal(
        MANDATORY_FILES.some((name) => name.includes(rebuilt)),
        false,
        rebuilt,
      );
    }
  });

  test('locks, scratch files and work folders are not in it', async (context) => {
    const { storeDirectory } = makeDatabase(temporaryFolder(context), '5.26');
    const before = await listStore(storeDirectory);
    for (const name of ['store_lock', 'database_lock', 'id-buffer.tmp.7', 'quarantine_marker', 'profiles']) {
      put(join(storeDirectory, name), Buffer.alloc(1));
    }
    put(join(storeDirectory, 'tools/report.txt'), Buffer.alloc(1));
    assert.deepEqual(await listStore(storeDirectory), before);
  });

  test('indexes of an unknown provider are named, not copied', async (context) => {
    const { storeDirectory } = makeDatabase(temporaryFolder(context), '5.26');
    put(join(storeDirectory, 'schema/index/future-9.0/4/data'), Buffer.alloc(1));
    const listing = await listStore(storeDirectory);
    assert.deepEqual(listing.unknownIndexes, ['schema/index/future-9.0/4']);
    assert.equal(
      listing.files.some((file) => file.path.includes('future')),
      false,
    );
  });

  test('no folder, no database, another engine', async (context) => {
    const folder = temporaryFolder(context);
    await assert.rejects(listStore(join(folder, 'no')), failure('GK_NOT_FOUND', /no folder/));
    await assert.rejects(listStore(folder), failure('GK_NOT_FOUND', /no database/));
    writeFileSync(join(folder, 'block.big_values.db'), '');
    await assert.rejects(listStore(folder), failure('GK_UNSUPPORTED', /block/));
    const file = join(folder, 'file');
    writeFileSync(file, '');
    await assert.rejects(listStore(file), failure('GK_NOT_FOUND'));
  });

  test('a store without a schema folder has no indexes', async (context) => {
    const folder = makeFolder(temporaryFolder(context), 'store');
    for (const name of MANDATORY_FILES) writeFileSync(join(folder, name), '');
    const listing = await listStore(folder);
    assert.deepEqual([listing.files.length, listing.luceneIndexes.length], [15, 0]);
  });
});

describe('whole pages of a growing store', () => {
  test('aligned: multiples of 8192', () => {
    for (const [bytes, whole] of [
      [0, 0],
      [8191, 0],
      [8192, 8192],
      [8193, 8192],
      [20_000, 16_384],
    ] as const) {
      assert.equal(wholePagesBytes('neostore.nodestore.db', 'aligned', bytes), whole);
    }
  });

  test('standard: multiples of the page of each store', () => {
    for (const [name, page] of [
      ['neostore.nodestore.db', 8190],
      ['neostore.relationshipstore.db', 8160],
      ['neostore.propertystore.db', 8159],
      ['neostore.relationshipgroupstore.db', 8175],
      ['neostore.labeltokenstore.db', 8190],
      ['neostore.propertystore.db.index', 8190],
      ['neostore.schemastore.db', 8192],
      ['neostore.propertystore.db.strings', 8192],
      ['neostore.labeltokenstore.db.names', 8170],
      ['neostore.nodestore.db.1', 8190],
    ] as const) {
      assert.equal(wholePagesBytes(name, 'standard', page), page, name);
      assert.equal(wholePagesBytes(name, 'standard', 3 * page - 1), 2 * page, name);
    }
  });
});
