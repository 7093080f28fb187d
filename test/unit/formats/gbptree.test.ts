import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FormatError } from '../../../src/formats/formaterror.ts';
import { currentTreeState, TREE_HEAD_BYTES, TREE_PAGE_BYTES } from '../../../src/formats/gbptree.ts';
import { fixture, LINES, TREE_FIXTURE, TREE_FIXTURE_PAGES } from '../../fixtures/lines.ts';

const STATE_BYTES = 57;

interface StateFields {
  stable: number;
  clean: boolean;
  lastId?: bigint;
}

function writeState(head: Buffer, page: 1 | 2, { stable, clean, lastId = 5n }: StateFields): void {
  const state = Buffer.alloc(STATE_BYTES);
  state.writeUInt32BE(stable, 0);
  state.writeUInt32BE(stable + 1, 4);
  state.writeBigInt64BE(3n, 8);
  state.writeBigInt64BE(lastId, 24);
  state.writeUInt8(clean ? 1 : 0, 56);
  state.copy(head, page * TREE_PAGE_BYTES);
  state.copy(head, page * TREE_PAGE_BYTES + STATE_BYTES);
}

function headWith(first?: StateFields, second?: StateFields): Buffer {
  const head = Buffer.alloc(TREE_HEAD_BYTES);
  if (first !== undefined) writeState(head, 1, first);
  if (second !== undefined) writeState(head, 2, second);
  return head;
}

for (const line of LINES) {
  describe(`tree state of ${line}`, () => {
    const head = fixture(line, TREE_FIXTURE);

    test('the real one names pages inside its file', () => {
      const state = currentTreeState(head);
      assert.equal(state.unstableGeneration, state.stableGeneration + 1);
      assert.ok(state.rootId >= 3n && state.rootId <= state.lastId);
      assert.ok(state.lastId < BigInt(TREE_FIXTURE_PAGES));
    });

    test('with its current state page destroyed, the older one counts', () => {
      const current = currentTreeState(head);
      const stableOf = (page: number): number => head.readUInt32BE(page * TREE_PAGE_BYTES);
      const newer = stableOf(1) > stableOf(2) ? 1 : 2;
      assert.equal(stableOf(newer), current.stableGeneration);
      for (let offset = 0; offset < 2 * STATE_BYTES; offset++) {
        const torn = Buffer.from(head);
        torn[newer * TREE_PAGE_BYTES + offset]! ^= 4;
        assert.equal(currentTreeState(torn).stableGeneration, stableOf(3 - newer), `byte ${offset}`);
      }
    });
  });
}

describe('choice of a state', () => {
  test('the larger stable generation, on whichever page', () => {
    const older = { stable: 7, clean: true };
    const newer = { stable: 8, clean: false };
    assert.equal(currentTreeState(headWith(older, newer)).stableGeneration, 8);
    assert.equal(currentTreeState(headWith(newer, older)).stableGeneration, 8);
  });

  test('equal generations: the clean one', () => {
    const clean = { stable: 7, clean: true, lastId: 10n };
    const dirty = { stable: 7, clean: false, lastId: 11n };
    assert.equal(currentTreeState(headWith(clean, dirty)).lastId, 10n);
    assert.equal(currentTreeState(headWith(dirty, clean)).lastId, 10n);
  });

  test('generations are unsigned', () => {
    const high = { stable: 0xfffffff0, clean: true };
    assert.equal(currentTreeState(headWith({ stable: 7, clean: true }, high)).stableGeneration, 0xfffffff0);
  });

  test('one empty page is a new tree; two are none', () => {
    assert.equal(currentTreeState(headWith({ stable: 3, clean: true })).stableGeneration, 3);
    assert.equal(currentTreeState(headWith(undefined, { stable: 3, clean: true })).stableGeneration, 3);
    assert.throws(() => currentTreeState(headWith()), FormatError);
  });

  test('two torn pages, or too few bytes, are refused', () => {
    const torn = headWith({ stable: 3, clean: true }, { stable: 4, clean: true });
    torn[TREE_PAGE_BYTES]! ^= 1;
    torn[2 * TREE_PAGE_BYTES + STATE_BYTES]! ^= 1;
    assert.throws(() => currentTreeState(torn), FormatError);
    assert.throws(() => currentTreeState(Buffer.alloc(TREE_HEAD_BYTES - 1)), FormatError);
  });
});
