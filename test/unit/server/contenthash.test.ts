/** The hash of what was sent: right, or not known. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { SESSION_RANGES_MAX } from '../../../src/limits.ts';
import { ContentHash, EarlyRoom } from '../../../src/server/contenthash.ts';
import { noise } from '../../fixtures/random.ts';

const PIECE_BYTES = 10;
const COUNT = 20;
const CONTENT = noise(PIECE_BYTES * COUNT - 3, 7);
const EXPECTED = createHash('sha256').update(CONTENT).digest('hex');

function newHash(bytes = CONTENT.length, room = new EarlyRoom()): ContentHash {
  return new ContentHash(bytes, room);
}

function add(hash: ContentHash, piece: number, content = CONTENT): void {
  const start = piece * PIECE_BYTES;
  // The memory of a frame is used for the next one as soon as it was sent.
  const memory = Buffer.from(content.subarray(start, start + PIECE_BYTES));
  hash.add(start, memory);
  memory.fill(0);
}

describe('the hash of what was sent', () => {
  test('pieces that overtake each other', () => {
    const picks = fc.array(fc.nat(SESSION_RANGES_MAX - 1), { minLength: COUNT, maxLength: COUNT });
    fc.assert(
      fc.property(picks, (chosen) => {
        const hash = newHash();
        const unsent = Array.from({ length: COUNT }, (_, piece) => piece);
        for (const pick of chosen) {
          assert.equal(hash.get(), undefined);
          // Nobody asks for more ahead of the first one that is missing.
          const asked = unsent.filter((piece) => piece < unsent[0]! + SESSION_RANGES_MAX);
          const [piece] = unsent.splice(pick % asked.length, 1);
          add(hash, piece!);
        }
        assert.equal(hash.get(), EXPECTED);
        assert.equal(hash.get(), EXPECTED, 'asked again');
      }),
    );
  });

  test('a piece that was sent twice may have had another content: not known', () => {
    for (const again of [0, COUNT - 1]) {
      const hash = newHash();
      for (let piece = 0; piece < COUNT; piece++) add(hash, piece);
      add(hash, again, noise(CONTENT.length, 8));
      assert.equal(hash.get(), undefined);
    }
  });

  test('one that came early twice, one that is missing, too many that are early: not known', () => {
    const early = newHash();
    for (const piece of [1, 1, 0]) add(early, piece);
    for (let piece = 2; piece < COUNT; piece++) add(early, piece);
    assert.equal(early.get(), undefined);
    const missing = newHash();
    for (let piece = 0; piece < COUNT; piece++) if (piece !== 15) add(missing, piece);
    assert.equal(missing.get(), undefined);
    const far = newHash();
    for (let piece = 1; piece < COUNT; piece++) add(far, piece);
    add(far, 0);
    assert.equal(far.get(), undefined);
  });

  test('those that wait have room in a session together, and give it back', () => {
    const room = new EarlyRoom();
    const [first, second, third] = [1, 2, 3].map(() => newHash(CONTENT.length, room));
    for (let piece = 1; piece <= SESSION_RANGES_MAX - 1; piece++) add(first!, piece);
    for (const piece of [1, 2, 0]) add(second!, piece);
    for (let piece = 3; piece < COUNT; piece++) add(second!, piece);
    assert.equal(second!.get(), undefined, 'there was room for one of two');
    first!.giveUp();
    for (const one of [third!, newHash(CONTENT.length, room)]) {
      for (let piece = 1; piece <= SESSION_RANGES_MAX; piece++) add(one, piece);
      add(one, 0);
      for (let piece = SESSION_RANGES_MAX + 1; piece < COUNT; piece++) add(one, piece);
      assert.equal(one.get(), EXPECTED);
    }
  });

  test('a member without content', () => {
    assert.equal(newHash(0).get(), createHash('sha256').digest('hex'));
  });
});
