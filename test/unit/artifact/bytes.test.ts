/** Zstd frames behind one another are one stream: with the decoder of Node 26, and with that of Node 24, which reads one. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { decompressed } from '../../../src/artifact/bytes.ts';
import { FormatError } from '../../../src/formats/formaterror.ts';
import { writeRawFrame, writeSkippableHeader } from '../../../src/formats/zstd.ts';
import { openForReading } from '../../../src/storage/local.ts';
import { noise } from '../../fixtures/random.ts';
import { temporaryFolder } from '../../fixtures/workspace.ts';

const START = 5;

async function decode(context: TestContext, frames: Buffer): Promise<Buffer> {
  const path = join(temporaryFolder(context), 'frames');
  writeFileSync(path, Buffer.concat([Buffer.alloc(START, 'x'), frames]));
  const file = await openForReading(path);
  try {
    const chunks: Buffer[] = [];
    for await (const chunk of decompressed(file, START)) chunks.push(chunk);
    return Buffer.concat(chunks);
  } finally {
    await file.close();
  }
}

describe('zstd frames as one stream', () => {
  const contents = [noise(3_000_000, 1), Buffer.from('left'), Buffer.alloc(0), Buffer.alloc(2_000_000, 7)];
  const skippable = Buffer.concat([writeSkippableHeader(1000), noise(1000, 5)]);
  const frames = contents.flatMap((content) => [
    zstdCompressSync(content),
    skippable,
    writeRawFrame(content),
  ]);

  test('all are read, those that are to be skipped are not', async (context) => {
    const expected = Buffer.concat(contents.flatMap((content) => [content, content]));
    assert.equal((await decode(context, Buffer.concat(frames))).equals(expected), true);
  });

  test('nothing is nothing', async (context) => {
    assert.equal((await decode(context, Buffer.alloc(0))).length, 0);
  });

  test('one that is damaged or cut short is told, be it the first or the last', async (context) => {
    const whole = Buffer.concat(frames);
    const last = frames.at(-1)!.length;
    for (const spoiled of [
      whole.subarray(0, 1000),
      whole.subarray(0, whole.length - last + 7),
      whole.subarray(0, whole.length - 1),
    ])
      await assert.rejects(decode(context, spoiled), FormatError);
  });
});
