import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FormatError } from '../../../src/formats/formaterror.ts';
import { formatUuid, NEOSTORE_BYTES_MIN, parseNeostore } from '../../../src/formats/neostore.ts';
import { fixture, LINES, NEOSTORE_FIXTURE } from '../../fixtures/lines.ts';
import { fixtureCheckpoint } from '../../fixtures/logs.ts';

const EXTERNAL_UUID = 'b391c252-c059-41fd-9f71-0f2c1cdffe26';

for (const line of LINES) {
  describe(`metadata store of ${line}`, () => {
    const bytes = fixture(line, NEOSTORE_FIXTURE);

    test('names the store that its own checkpoints name', () => {
      const { storeId, databaseUuid } = parseNeostore(bytes);
      assert.deepEqual(storeId, fixtureCheckpoint(line).storeId);
      assert.equal(storeId.engine, 'record');
      assert.equal(storeId.family, 'aligned');
      assert.equal(databaseUuid, undefined);
    });

    test('the shortest length that is enough, and one byte less', () => {
      assert.deepEqual(parseNeostore(bytes.subarray(0, NEOSTORE_BYTES_MIN)), parseNeostore(bytes));
      assert.throws(() => parseNeostore(bytes.subarray(0, NEOSTORE_BYTES_MIN - 1)), FormatError);
    });

    test('without the mark of 5.0 it is refused: a 4.x store has another layout', () => {
      for (let offset = 4 * 9 + 1; offset < 5 * 9; offset++) {
        const other = Buffer.from(bytes);
        other[offset]! ^= 1;
        assert.throws(() => parseNeostore(other), /mark/, `byte ${offset}`);
      }
    });

    test('a database id counts only when both of its slots are in use', () => {
      const other = Buffer.from(bytes);
      other.write('0102030405060708', 2 * 9 + 1, 'hex');
      other.write('090a0b0c0d0e0f10', 3 * 9 + 1, 'hex');
      for (const [first, second] of [
        [0, 0],
        [1, 0],
        [0, 1],
      ] as const) {
        other[2 * 9] = first;
        other[3 * 9] = second;
        assert.equal(parseNeostore(other).databaseUuid, undefined);
      }
      other[2 * 9] = 1;
      assert.equal(formatUuid(parseNeostore(other).databaseUuid!), '01020304-0506-0708-090a-0b0c0d0e0f10');
    });
  });
}

test('the external id is the one in the file', () => {
  const { externalStoreUuid } = parseNeostore(fixture('5.26', NEOSTORE_FIXTURE));
  assert.equal(formatUuid(externalStoreUuid), EXTERNAL_UUID);
});
