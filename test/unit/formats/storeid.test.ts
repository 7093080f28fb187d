import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { FormatError } from '../../../src/formats/formaterror.ts';
import {
  isSameStore,
  parseStoreId,
  type StoreId,
  storeFormatName,
  storeIdHash,
  writeStoreId,
} from '../../../src/formats/storeid.ts';

const known: StoreId = {
  creationTimeMillis: 1234567890123n,
  random: -987654321098765n,
  engine: 'record',
  family: 'aligned',
  major: 1,
  minor: 1,
};

const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const int8 = fc.integer({ min: -128, max: 127 });
const name = fc.string({ maxLength: 40 }).filter((text) => Buffer.byteLength(text) <= 40);
const anyStoreId: fc.Arbitrary<StoreId> = fc.record(
  { creationTimeMillis: int64, random: int64, engine: name, family: name, major: int8, minor: int8 },
  { noNullPrototype: true },
);

describe('store id', () => {
  test('what is written is read back, wherever it lies', () => {
    fc.assert(
      fc.property(anyStoreId, fc.nat(200), fc.nat(200), (storeId, before, after) => {
        const written = writeStoreId(storeId);
        const bytes = Buffer.concat([Buffer.alloc(before, 0xaa), written, Buffer.alloc(after, 0xbb)]);
        const { storeId: read, end } = parseStoreId(bytes, before);
        assert.deepEqual(read, storeId);
        assert.equal(end, before + written.length);
      }),
    );
  });

  test('cut anywhere it is refused', () => {
    fc.assert(
      fc.property(anyStoreId, (storeId) => {
        const written = writeStoreId(storeId);
        for (let length = 0; length < written.length; length++) {
          assert.throws(() => parseStoreId(written.subarray(0, length)), FormatError);
        }
      }),
      { numRuns: 20 },
    );
  });

  test('another version and names that overrun are refused', () => {
    const written = writeStoreId(known);
    for (const version of [0, 2, 255]) {
      const other = Buffer.from(written);
      other[0] = version;
      assert.throws(() => parseStoreId(other), /version/);
    }
    const long = Buffer.concat([written, Buffer.alloc(300)]);
    long[17] = 41;
    assert.throws(() => parseStoreId(long), /impossible length/);
  });

  test('the hash is the one that the vendor shows', () => {
    assert.equal(storeIdHash(known), 756415432);
  });

  test('the hash depends on every field', () => {
    const changes: Partial<StoreId>[] = [
      { creationTimeMillis: known.creationTimeMillis + 1n },
      { random: known.random + 1n },
      { engine: 'block' },
      { family: 'standard' },
      { major: 2 },
      { minor: 2 },
    ];
    for (const change of changes) {
      assert.notEqual(
        storeIdHash({ ...known, ...change }),
        storeIdHash(known),
        JSON.stringify(Object.keys(change)),
      );
    }
  });

  test('same store: everything but the version counts', () => {
    assert.equal(isSameStore(known, { ...known, major: 2, minor: 7 }), true);
    for (const change of [
      { creationTimeMillis: 1n },
      { random: 1n },
      { engine: 'block' },
      { family: 'standard' },
    ] satisfies Partial<StoreId>[]) {
      assert.equal(isSameStore(known, { ...known, ...change }), false, JSON.stringify(Object.keys(change)));
    }
  });

  test('the format is named as the server names it', () => {
    assert.equal(storeFormatName(known), 'record-aligned-1.1');
  });
});
