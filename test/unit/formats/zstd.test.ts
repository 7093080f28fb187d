import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import fc from 'fast-check';
import { contentBytesOf, writeRawFrame, writeSkippableHeader } from '../../../src/formats/zstd.ts';
import { noise } from '../../fixtures/random.ts';

const BLOCK_BYTES = 128 * 1024;
const SIZES = [
  0,
  1,
  2,
  255,
  256,
  65791,
  65792,
  BLOCK_BYTES - 1,
  BLOCK_BYTES,
  BLOCK_BYTES + 1,
  3 * BLOCK_BYTES,
];

const hasZstd = spawnSync('zstd', ['--version']).status === 0;

function decodeByProgram(bytes: Buffer): Buffer {
  const { status, stdout, stderr } = spawnSync('zstd', ['-dc'], {
    input: bytes,
    maxBuffer: 64 * 1024 * 1024,
  });
  assert.equal(status, 0, stderr.toString());
  return stdout;
}

describe('frame of raw blocks', () => {
  test('decodes to its content', () => {
    for (const size of SIZES) {
      const content = noise(size, size);
      assert.equal(zstdDecompressSync(writeRawFrame(content)).equals(content), true, `${size} bytes`);
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), (content) => {
        assert.deepEqual(zstdDecompressSync(writeRawFrame(Buffer.from(content))), Buffer.from(content));
      }),
    );
  });

  test('its length depends on the length of the content alone: the head of an artifact is written twice', () => {
    for (const size of SIZES) {
      const length = writeRawFrame(Buffer.alloc(size)).length;
      assert.equal(writeRawFrame(noise(size, 1)).length, length);
      const blocks = Math.max(1, Math.ceil(size / BLOCK_BYTES));
      assert.equal(length, 9 + 3 * blocks + size);
    }
  });

  test('decodes with the zstd program', hasZstd ? {} : { skip: 'there is no zstd program here' }, () => {
    for (const size of SIZES) {
      const content = noise(size, size);
      assert.equal(decodeByProgram(writeRawFrame(content)).equals(content), true, `${size} bytes`);
    }
  });
});

describe('skippable frame', () => {
  const skippable = Buffer.concat([writeSkippableHeader(1000), noise(1000, 5)]);
  const left = Buffer.from('left');
  const right = Buffer.from('right');
  const between = Buffer.concat([writeRawFrame(left), skippable, zstdCompressSync(right), skippable]);

  test('is passed over by the zstd program', hasZstd ? {} : { skip: 'there is no zstd program here' }, () => {
    assert.equal(decodeByProgram(between).toString(), 'leftright');
  });
});

describe('bytes that a frame says it holds', () => {
  const frameOf = (content: Buffer, checksum = 1): Buffer =>
    zstdCompressSync(content, {
      params: { [constants.ZSTD_c_compressionLevel]: 1, [constants.ZSTD_c_checksumFlag]: checksum },
      pledgedSrcSize: content.length,
    });

  test('of every size, whatever its header looks like', () => {
    for (const bytes of [1, 255, 256, 65_791, 65_792, 512 * 1024, 2 * 1024 * 1024]) {
      for (const content of [noise(bytes, 1), Buffer.alloc(bytes)]) {
        const expected = frameOf(content).length < 10 ? undefined : bytes;
        assert.equal(contentBytesOf(frameOf(content)), expected);
      }
    }
  });

  test('none of what is no such frame', () => {
    assert.equal(contentBytesOf(Buffer.alloc(0)), undefined);
    assert.equal(contentBytesOf(noise(100, 1)), undefined);
    assert.equal(contentBytesOf(frameOf(noise(1000, 1), 0)), undefined, 'no checksum');
    assert.equal(contentBytesOf(zstdCompressSync(noise(1000, 1))), undefined, 'no size');
  });
});
