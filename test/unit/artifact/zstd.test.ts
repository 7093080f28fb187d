/** Frames by the library and by Node's streams: each reads what the other makes, and refuses what is damaged. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { decompressFrame, nodeZstd, type Zstd } from '../../../src/artifact/zstd.ts';
import { loadZstdLibrary } from '../../../src/artifact/zstdlibrary.ts';
import { FormatError } from '../../../src/formats/formaterror.ts';
import { contentBytesOf } from '../../../src/formats/zstd.ts';
import { FRAME_RAW_BYTES, FRAMES_IN_FLIGHT_MAX } from '../../../src/limits.ts';
import { noise } from '../../fixtures/random.ts';

const library = loadZstdLibrary();
const ways: readonly [string, Zstd][] = [
  ['the library', library ?? nodeZstd],
  ['Node', nodeZstd],
];

/** Half of it can be compressed. */
function contentOf(bytes: number, seed = bytes): Buffer {
  return Buffer.concat([noise(bytes >> 1, seed), Buffer.alloc(bytes - (bytes >> 1), seed)]);
}

function compressed(way: Zstd, content: Buffer, level = 1): Promise<Buffer> {
  return way.compress(content, level, (stored) => Buffer.from(stored));
}

test('the library of this Node can be called', () => assert.notEqual(library, undefined));

describe('frames', () => {
  const sizes = [1, 255, 256, 70_000, FRAME_RAW_BYTES - 1, FRAME_RAW_BYTES, 2 * FRAME_RAW_BYTES + 77];

  for (const [maker, make] of ways) {
    test(`of ${maker} say what they hold, and both read them`, async () => {
      for (const bytes of sizes) {
        const content = contentOf(bytes);
        const stored = await compressed(make, content);
        assert.equal(contentBytesOf(stored), bytes, 'no content size, or no checksum');
        for (const [reader, read] of ways) {
          const back = await read.decompress(stored, bytes);
          assert.equal(back.equals(content), true, `${bytes} bytes of ${maker}, read by ${reader}`);
        }
      }
    });
  }

  for (const [reader, read] of ways) {
    test(`that are damaged, cut or too long are refused by ${reader}`, async () => {
      const content = contentOf(200_000);
      const stored = await compressed(nodeZstd, content);
      const flipped = Buffer.from(stored);
      flipped[1000]! ^= 1;
      const wrongChecksum = Buffer.from(stored);
      wrongChecksum[stored.length - 1]! ^= 1;
      const wrong: [Buffer, number][] = [
        [flipped, content.length],
        [wrongChecksum, content.length],
        [stored.subarray(0, stored.length - 1), content.length],
        [stored.subarray(1), content.length],
        [stored, content.length - 1],
      ];
      for (const [frame, bytesMax] of wrong) {
        await assert.rejects(read.decompress(frame, bytesMax), Error);
        await assert.rejects(decompressFrame(frame, bytesMax), FormatError);
      }
      // What failed leaves nothing behind that the next one would meet.
      assert.equal((await read.decompress(stored, content.length)).equals(content), true);
    });
  }
});

describe('many frames at once', () => {
  for (const [name, way] of ways) {
    test(`are made and read by ${name}, each of its own content and level`, async () => {
      const contents = Array.from({ length: 8 * FRAMES_IN_FLIGHT_MAX }, (_, number) =>
        contentOf(1000 + number * 40_000, number + 1),
      );
      await Promise.all(
        contents.map(async (content, number) => {
          for (const level of [1, 2 + (number % 5), 1]) {
            const stored = await compressed(way, content, level);
            const back = await way.decompress(stored, content.length);
            assert.equal(back.equals(content), true, `content ${number}`);
          }
        }),
      );
    });

    test(`an error while a frame of ${name} is used is the caller's, and the next frame is right`, async () => {
      const content = contentOf(100_000);
      for (let time = 0; time <= FRAMES_IN_FLIGHT_MAX; time++) {
        const failing = way.compress(content, 1, () => {
          throw new Error('not wanted');
        });
        await assert.rejects(failing, /not wanted/);
      }
      const stored = await compressed(way, content);
      assert.equal((await way.decompress(stored, content.length)).equals(content), true);
    });
  }

  test('the level is that of each frame, not of the one before', async () => {
    const content = Buffer.from(Array.from({ length: 60_000 }, (_, n) => `${n * 7919} `).join(''));
    const low = (await compressed(library ?? nodeZstd, content, 1)).length;
    const high = (await compressed(library ?? nodeZstd, content, 15)).length;
    assert.ok(high < low, `${high} bytes at level 15, ${low} at level 1`);
    assert.equal((await compressed(library ?? nodeZstd, content, 1)).length, low);
  });
});
