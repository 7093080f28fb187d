/** Encrypted files: the sink that writes them and the reader, against each other and against age's own library. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { Decrypter, Encrypter } from 'age-encryption';
import fc from 'fast-check';
import { readRange } from '../../../src/artifact/bytes.ts';
import { openContent, readClearHeader } from '../../../src/artifact/sealedfile.ts';
import { SealedSink } from '../../../src/artifact/sealedsink.ts';
import type { ArtifactSink } from '../../../src/artifact/writer.ts';
import { GraphkeepError } from '../../../src/errors.ts';
import { parseHeader } from '../../../src/formats/age/header.ts';
import { CHUNK_BYTES, SEALED_CHUNK_BYTES } from '../../../src/formats/age/payload.ts';
import { FormatError } from '../../../src/formats/formaterror.ts';
import { KIB } from '../../../src/limits.ts';
import { type KeyPair, makeKey, useKeys } from '../../fixtures/age.ts';
import { noise } from '../../fixtures/random.ts';
import { failure, temporaryFolder } from '../../fixtures/workspace.ts';

/** A file in memory: zeros keep a place, and nothing else is ever written over. */
class SpyingSink implements ArtifactSink {
  content = Buffer.alloc(0);
  lastPatch = -1;

  get bytes(): number {
    return this.content.length;
  }
  async append(bytes: Buffer): Promise<void> {
    this.content = Buffer.concat([this.content, bytes]);
  }
  async patch(bytes: Buffer, positionBytes: number): Promise<void> {
    const place = this.content.subarray(positionBytes, positionBytes + bytes.length);
    assert.ok(place.length === bytes.length && place.every((byte) => byte === 0), 'sealed twice');
    bytes.copy(place);
    this.lastPatch = positionBytes;
  }
  async truncate(): Promise<void> {
    assert.fail('sealed bytes are taken back');
  }
}

interface Sealed {
  readonly sink: SpyingSink;
  readonly plain: Buffer;
}

/** A head, what follows it in pieces, and the head once more with its final content. */
async function seal(
  sizes: { head: number; pieces: readonly number[] },
  clearHeader?: Buffer,
): Promise<Sealed> {
  const sink = new SpyingSink();
  const sealed = await SealedSink.begin(sink, clearHeader?.length);
  await sealed.append(noise(sizes.head + 4, 1).subarray(0, sizes.head));
  for (const [number, bytes] of sizes.pieces.entries())
    await sealed.append(noise(bytes + 4, number).subarray(4));
  const head = noise(sizes.head + 4, 2).subarray(0, sizes.head);
  await sealed.patch(head, 0);
  await sealed.append(Buffer.from('end'));
  await sealed.finish(clearHeader);
  const pieces = sizes.pieces.map((bytes, number) => noise(bytes + 4, number).subarray(4));
  return { sink, plain: Buffer.concat([head, ...pieces, Buffer.from('end')]) };
}

async function opened(path: string, content: Buffer): Promise<Buffer> {
  writeFileSync(path, content);
  const file = await openContent(path);
  try {
    return await readRange(file, 0, file.bytes);
  } finally {
    await file.close();
  }
}

const edge = fc
  .tuple(fc.integer({ min: 0, max: 3 }), fc.integer({ min: -4, max: 4 }))
  .map(([chunks, more]) => Math.max(0, chunks * CHUNK_BYTES + more));
const size = fc.oneof(edge, fc.nat(300_000));

describe('what is encrypted', () => {
  test('is read back whole and by ranges, and nothing is sealed twice', async (context) => {
    const key = await makeKey();
    const path = join(temporaryFolder(context), 'x');
    const shape = fc.record({
      head: size,
      pieces: fc.array(size, { maxLength: 4 }),
      places: fc.array(fc.nat()),
    });
    await fc.assert(
      fc.asyncProperty(shape, async ({ head, pieces, places }) => {
        useKeys(context, { to: [key], open: [key] });
        const { sink, plain } = await seal({ head, pieces });
        assert.equal((await opened(path, sink.content)).equals(plain), true);
        const file = await openContent(path);
        assert.equal(file.bytes, plain.length);
        for (const [number, place] of places.entries()) {
          const start = place % (plain.length + 10);
          const target = Buffer.alloc((number + 1) * 40_000);
          const got = await file.read(target, start);
          assert.equal(got, Math.max(0, Math.min(target.length, plain.length - start)));
          assert.equal(target.subarray(0, got).equals(plain.subarray(start, start + got)), true);
        }
        await file.close();
      }),
      { numRuns: 60 },
    );
  });

  test('is opened by the library of age, and the other way round', async (context) => {
    const keys = [await makeKey(), await makeKey('hybrid')];
    const path = join(temporaryFolder(context), 'x');
    for (const key of keys) {
      useKeys(context, { to: [key], open: [key] });
      const { sink, plain } = await seal({ head: 100, pieces: [200_000] }, Buffer.alloc(96, 'c'));
      const decrypter = new Decrypter();
      decrypter.addIdentity(key.identity);
      assert.equal(Buffer.from(await decrypter.decrypt(sink.content)).equals(plain), true);

      const encrypter = new Encrypter();
      encrypter.addRecipient(key.recipient);
      for (const bytes of [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 200_000]) {
        const given = noise(bytes + 4, 3).subarray(0, bytes);
        const theirs = Buffer.from(await encrypter.encrypt(given));
        assert.equal((await opened(path, theirs)).equals(given), true);
      }
    }
  });

  test('is opened by each of its keys, and by no other', async (context) => {
    const keys = await Promise.all([makeKey(), makeKey(), makeKey()]);
    const path = join(temporaryFolder(context), 'x');
    const { sink, plain } = await sealedByOthers(context, keys.slice(0, 2));
    for (const key of keys.slice(0, 2)) {
      useKeys(context, { open: [keys[2]!, key] });
      assert.equal((await opened(path, sink.content)).equals(plain), true);
    }
    useKeys(context, { open: [keys[2]!] });
    await assert.rejects(opened(path, sink.content), failure('GK_KEY_MISSING', /for other keys/));
    useKeys(context, {});
    await assert.rejects(opened(path, sink.content), failure('GK_KEY_MISSING', /is encrypted$/));
  });

  test('has no byte of its content in it, and none of the head that was replaced', async (context) => {
    useKeys(context, { to: [await makeKey()] });
    const { sink, plain } = await seal({ head: 300, pieces: [100_000] });
    for (const piece of [
      plain.subarray(0, 16),
      plain.subarray(150_000, 150_016),
      noise(304, 1).subarray(0, 16),
    ])
      assert.ok(piece.length === 0 || !sink.content.includes(piece));
  });
});

/** As another process would have written it: this one has not kept the key. */
async function sealedByOthers(context: TestContext, keys: readonly KeyPair[]): Promise<Sealed> {
  useKeys(context, { to: keys });
  const encrypter = new Encrypter();
  for (const { recipient } of keys) encrypter.addRecipient(recipient);
  const plain = noise(5 * CHUNK_BYTES, 9);
  const sink = new SpyingSink();
  sink.content = Buffer.from(await encrypter.encrypt(plain));
  return { sink, plain };
}

describe('the sink', () => {
  test('goes back to no byte, and changes none that is sealed', async (context) => {
    useKeys(context, { to: [await makeKey()] });
    const sealed = await SealedSink.begin(new SpyingSink());
    await sealed.append(Buffer.alloc(10));
    await sealed.append(Buffer.alloc(3 * CHUNK_BYTES, 1));
    await sealed.truncate(sealed.bytes);
    await assert.rejects(sealed.truncate(10), failure('GK_INTERNAL', /cannot go back/));
    await sealed.patch(Buffer.alloc(10, 7), 0);
    await assert.rejects(
      sealed.patch(Buffer.alloc(1), CHUNK_BYTES),
      failure('GK_INTERNAL', /encrypted already/),
    );
    await sealed.finish();
    await assert.rejects(sealed.patch(Buffer.alloc(1), 0), failure('GK_INTERNAL'));
    await assert.rejects(sealed.append(Buffer.alloc(1)), failure('GK_INTERNAL'));
    await assert.rejects(sealed.finish(), failure('GK_INTERNAL'));
  });

  test('writes the header last: what was cut off before is not taken for an age file', async (context) => {
    useKeys(context, { to: [await makeKey()] });
    const sink = new SpyingSink();
    const sealed = await SealedSink.begin(sink);
    await sealed.append(noise(200, 1));
    await sealed.append(noise(200_000, 1));
    assert.ok(sink.content.subarray(0, 100).every((byte) => byte === 0));
    await sealed.finish();
    assert.equal(sink.lastPatch, 0);
  });

  test('makes a new key for each file', async (context) => {
    useKeys(context, { to: [await makeKey()] });
    const [first, second] = [await seal({ head: 10, pieces: [] }), await seal({ head: 10, pieces: [] })];
    assert.equal(first.plain.equals(second.plain), true);
    const ends = [first, second].map(({ sink }) => sink.content.subarray(-29).toString('hex'));
    assert.notEqual(ends[0], ends[1]);
  });
});

describe('damage', () => {
  test('of each kind is found: flipped, cut, reordered, swapped, put in and left out', async (context) => {
    const key = await makeKey();
    const path = join(temporaryFolder(context), 'x');
    const { sink } = await sealedByOthers(context, [key]);
    const other = await sealedByOthers(context, [key]);
    useKeys(context, { open: [key] });
    const start = parseHeader(sink.content)!.bytes.length + 16;
    const otherStart = parseHeader(other.sink.content)!.bytes.length + 16;
    const chunk = (number: number, of = sink.content, from = start): Buffer =>
      of.subarray(from + number * SEALED_CHUNK_BYTES, from + (number + 1) * SEALED_CHUNK_BYTES);
    const file = (...chunks: Buffer[]): Buffer => Buffer.concat([sink.content.subarray(0, start), ...chunks]);
    const all = [0, 1, 2, 3, 4].map((number) => chunk(number));
    assert.equal((await opened(path, file(...all))).length, 5 * CHUNK_BYTES);
    const [a, b, c, d, e] = all as [Buffer, Buffer, Buffer, Buffer, Buffer];
    const damaged: Record<string, Buffer> = {
      'cut at a chunk': file(a, b, c, d),
      'cut to one chunk': file(a),
      'no chunk left': file(),
      'cut in a chunk': file(a, b, c, d, e.subarray(0, 1000)),
      'cut in a tag': file(a, b, c, d, e.subarray(0, 10)),
      'one too many': file(a, b, c, d, e, e),
      'empty chunk put in': file(a, b, c, d, e, Buffer.alloc(16)),
      reordered: file(b, a, c, d, e),
      'left out': file(a, c, d, e),
      twice: file(a, a, c, d, e),
      'of another file': file(a, chunk(1, other.sink.content, otherStart), c, d, e),
      'last of another file': file(a, b, c, d, chunk(4, other.sink.content, otherStart)),
      'last one in the middle': file(a, e, c, d, b),
      'nonce changed': flipped(sink.content, start - 1),
      'header of another file': Buffer.concat([
        other.sink.content.subarray(0, otherStart),
        sink.content.subarray(start),
      ]),
    };
    for (const [what, content] of Object.entries(damaged))
      await assert.rejects(opened(path, content), FormatError, what);
  });

  test('of a file that was written here is found as well', async (context) => {
    const key = await makeKey();
    const path = join(temporaryFolder(context), 'x');
    useKeys(context, { to: [key], open: [key] });
    const { sink, plain } = await seal({ head: 10, pieces: [4 * CHUNK_BYTES] });
    assert.equal((await opened(path, sink.content)).equals(plain), true);
    const start = parseHeader(sink.content)!.bytes.length + 16;
    const place = (number: number): number => start + number * SEALED_CHUNK_BYTES;
    await assert.rejects(opened(path, sink.content.subarray(0, place(4))), FormatError);
    const reordered = Buffer.from(sink.content);
    sink.content.copy(reordered, place(1), place(2), place(3));
    sink.content.copy(reordered, place(2), place(1), place(2));
    await assert.rejects(opened(path, reordered), FormatError);
  });

  test('any flipped bit behind the header is found', async (context) => {
    const key = await makeKey();
    const path = join(temporaryFolder(context), 'x');
    const { sink } = await sealedByOthers(context, [key]);
    useKeys(context, { open: [key] });
    const start = parseHeader(sink.content)!.bytes.length;
    const places = fc.tuple(
      fc.integer({ min: start, max: sink.content.length - 1 }),
      fc.integer({ min: 0, max: 7 }),
    );
    await fc.assert(
      fc.asyncProperty(places, async ([place, bit]) => {
        await assert.rejects(opened(path, flipped(sink.content, place, bit)), FormatError);
      }),
      { numRuns: 100 },
    );
  });

  test('any flipped bit of the header is found, or the key does not fit any more', async (context) => {
    const key = await makeKey();
    const path = join(temporaryFolder(context), 'x');
    const { sink } = await sealedByOthers(context, [key]);
    useKeys(context, { open: [key] });
    const start = parseHeader(sink.content)!.bytes.length;
    const version = Buffer.byteLength('age-encryption.org/v1\n');
    for (let place = version; place < start; place++) {
      await assert.rejects(opened(path, flipped(sink.content, place)), (error: unknown) => {
        if (error instanceof FormatError) return true;
        assert.ok(error instanceof GraphkeepError);
        return ['GK_ARTIFACT_CORRUPT', 'GK_KEY_MISSING'].includes(error.code);
      });
    }
  });

  test('a header without an end is refused before much of it is read', async (context) => {
    const path = join(temporaryFolder(context), 'x');
    const endless = Buffer.from(`age-encryption.org/v1\n-> x\n${'A'.repeat(600 * KIB)}`);
    await assert.rejects(opened(path, endless), FormatError);
    await assert.rejects(opened(path, endless.subarray(0, 100)), FormatError);
  });
});

test('what is said in the clear is read without a key, and covered by the key', async (context) => {
  const key = await makeKey();
  const path = join(temporaryFolder(context), 'x');
  useKeys(context, { to: [key] });
  const body = Buffer.alloc(96, 'clear');
  const { sink } = await seal({ head: 100, pieces: [10] }, body);
  const forged = Buffer.from(
    sink.content
      .toString('latin1')
      .replace(body.subarray(0, 48).toString('base64'), Buffer.alloc(48, 'FALSE').toString('base64')),
    'latin1',
  );
  assert.equal(forged.equals(sink.content), false);
  // Who wrote the file knows its key, and takes no other header for its own.
  await assert.rejects(opened(path, forged), failure('GK_KEY_MISSING'));
  writeFileSync(path, sink.content);
  useKeys(context, {});
  assert.deepEqual(await readClearHeader(path), { body, bytes: sink.content.length });
  useKeys(context, { open: [key] });
  await assert.rejects(opened(path, forged), failure('GK_ARTIFACT_CORRUPT', /header was changed/));
});

function flipped(content: Buffer, place: number, bit = 0): Buffer {
  const copy = Buffer.from(content);
  copy[place]! ^= 1 << bit;
  return copy;
}
