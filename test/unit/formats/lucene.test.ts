import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { FormatError } from '../../../src/formats/formaterror.ts';
import { parseSegments, segmentOfFile, segmentsGeneration } from '../../../src/formats/lucene.ts';
import { SEGMENTS } from '../../fixtures/database.ts';
import { LINES, segmentsFixture } from '../../fixtures/lines.ts';

for (const line of LINES) {
  describe(`Lucene commit of ${line}`, () => {
    const { name, bytes } = segmentsFixture(line);

    test('names its segments', () => {
      assert.deepEqual(parseSegments(bytes), SEGMENTS[line]);
      assert.equal(segmentsGeneration(name), Number(name.slice(-1)));
    });

    test('cut anywhere, or longer, it is refused', () => {
      for (let length = 0; length < bytes.length; length++) {
        assert.throws(() => parseSegments(bytes.subarray(0, length)), FormatError, `cut at ${length}`);
      }
      assert.throws(() => parseSegments(Buffer.concat([bytes, Buffer.of(0)])), FormatError);
    });

    test('a flipped bit is refused or leaves the names as they are, but never throws anything else', () => {
      for (let bit = 0; bit < bytes.length * 8; bit++) {
        const other = Buffer.from(bytes);
        other[bit >> 3]! ^= 1 << (bit & 7);
        try {
          parseSegments(other);
        } catch (error) {
          assert.ok(error instanceof FormatError, `bit ${bit}: ${String(error)}`);
        }
      }
    });
  });
}

test('noise is refused', () => {
  const magic = Buffer.from('3fd76c17', 'hex');
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (noise, withMagic) => {
      const bytes = withMagic
        ? Buffer.concat([magic, Buffer.from('\u0008segments', 'latin1'), noise])
        : Buffer.from(noise);
      assert.throws(() => parseSegments(bytes), FormatError);
    }),
  );
});

describe('names in a Lucene folder', () => {
  test('segment of a file', () => {
    assert.equal(segmentOfFile('_1a.cfs'), '_1a');
    assert.equal(segmentOfFile('_1a_Lucene90_0.dvd'), '_1a');
    assert.equal(segmentOfFile('_2_1.liv'), '_2');
    for (const other of ['segments_4', 'write.lock', '_', 'pending_segments_5', 'x_1.si']) {
      assert.equal(segmentOfFile(other), undefined, other);
    }
  });

  test('generation of a commit is base 36, so `_z` comes before `_10`', () => {
    assert.equal(segmentsGeneration('segments_z'), 35);
    assert.equal(segmentsGeneration('segments_10'), 36);
    for (const other of ['pending_segments_2', 'segments', 'segments_', '_2.si']) {
      assert.equal(segmentsGeneration(other), undefined, other);
    }
  });
});
