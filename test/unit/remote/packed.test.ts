/** Frames that the server has compressed: what comes wrong is refused, what does not come is read by ranges. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { fillFrame, frameBytesAt } from '../../../src/artifact/frame.ts';
import { FrameMemory } from '../../../src/artifact/framememory.ts';
import { type MemberSource, memberFromBytes, type PackedFrame } from '../../../src/artifact/membersource.ts';
import { FRAME_RAW_BYTES, PACKED_LEVEL_MAX, RANGES_IN_FLIGHT_MAX } from '../../../src/limits.ts';
import { type FetchFrame, FramesAhead, type PackedReaders } from '../../../src/remote/packed.ts';
import { compressed } from '../../fixtures/frames.ts';
import { noise } from '../../fixtures/random.ts';
import { failure } from '../../fixtures/workspace.ts';

const BYTES = 6 * FRAME_RAW_BYTES + 1000;
const member: MemberSource = memberFromBytes('neostore.nodestore.db', 'store', noise(BYTES, 3));
const remote = { number: 1, path: member.path, kind: member.kind, bytes: BYTES };

async function frameOf(source: MemberSource, offset: number): Promise<Buffer> {
  const raw = Buffer.alloc(frameBytesAt(source, offset));
  await fillFrame(raw, offset, source);
  return raw;
}

const served: FetchFrame = async (offset, { level }) => compressed(await frameOf(member, offset), level);
const noRange = () => Promise.reject(new Error('read by ranges'));

function framesBy(fetchFrame: FetchFrame, others: Partial<PackedReaders> = {}): FramesAhead {
  return new FramesAhead(remote, { fetchFrame, readRange: noRange, ...others }, new FrameMemory());
}

async function readAll(frames: FramesAhead): Promise<boolean[]> {
  const isUnpacked: boolean[] = [];
  for (let offset = 0; offset < BYTES; offset += FRAME_RAW_BYTES) {
    isUnpacked.push((await frames.read(offset, 1, true))?.raw !== undefined);
  }
  return isUnpacked;
}

/** All but the one at `missingOffset`, whose connection breaks. */
function missing(missingOffset: number): FetchFrame {
  return async (offset, form, target, signal) =>
    offset === missingOffset ? undefined : served(offset, form, target, signal);
}

describe('frames of a remote member', () => {
  test('they come in order, a bounded number ahead, and are what the writer would have made', async () => {
    let underWay = 0;
    let most = 0;
    const frames = framesBy(async (...request) => {
      most = Math.max(most, ++underWay);
      const stored = await served(...request);
      underWay -= 1;
      return stored;
    });
    for (let offset = 0; offset < BYTES; offset += FRAME_RAW_BYTES) {
      const packed = await frames.read(offset, 1, false);
      const expected = await frameOf(member, offset);
      assert.equal(packed!.raw!.equals(expected), true);
      assert.equal(packed!.stored.equals(await compressed(expected, 1)), true);
    }
    assert.ok(most > 1 && most <= RANGES_IN_FLIGHT_MAX, `${most} at once`);
  });

  test('what was begun before it is read is asked for once, and what comes next is told of in time', async () => {
    const asked: number[] = [];
    const told: number[] = [];
    const fetchFrame: FetchFrame = (offset, ...rest) => {
      asked.push(offset / FRAME_RAW_BYTES);
      return served(offset, ...rest);
    };
    const frames = new FramesAhead(
      remote,
      { fetchFrame, readRange: noRange, fetchHash: async () => 'known' },
      new FrameMemory(),
      () => told.push(asked.length),
    );
    frames.begin({ level: 1, isHashed: true });
    frames.begin({ level: 1, isHashed: true });
    assert.deepEqual(asked, [0, 1, 2, 3]);
    await readAll(frames);
    assert.deepEqual(asked, [0, 1, 2, 3, 4, 5, 6]);
    assert.equal(told[0], 7);
    assert.equal(await frames.sha256(), 'known');
  });

  test('what was begun in another form is fetched anew, and then the server does not know its hash', async () => {
    for (const begun of [
      { level: 2, isHashed: true },
      { level: 1, isHashed: false },
    ]) {
      const frames = framesBy(served, { fetchHash: async () => 'not of these' });
      frames.begin(begun);
      const packed = await frames.read(0, 1, true);
      assert.equal(packed!.stored.equals(await compressed(await frameOf(member, 0), 1)), true);
      assert.equal(await frames.sha256(), undefined);
    }
  });

  test('one that does not come is read by ranges and compressed here', async () => {
    const read: number[] = [];
    const readRange: PackedReaders['readRange'] = async (startBytes, target) => {
      read.push(startBytes);
      await member.read(target, startBytes);
    };
    const frames = framesBy(missing(FRAME_RAW_BYTES), { readRange });
    await frames.read(0, 1, false);
    const packed = await frames.read(FRAME_RAW_BYTES, 1, false);
    assert.equal(packed!.raw!.equals(await frameOf(member, FRAME_RAW_BYTES)), true);
    assert.deepEqual(read, [FRAME_RAW_BYTES - 512]);
    frames.abandon();
  });

  test('what is not of this member is refused', async () => {
    const other = { ...member, path: 'neostore.propertystore.db' };
    const wrong: FetchFrame[] = [
      async (offset, { level }) => compressed(await frameOf(other, offset), level),
      async (offset, { level }) => compressed((await frameOf(member, offset)).subarray(512), level),
      async () => Buffer.from('no frame at all'),
    ];
    for (const fetch of wrong) {
      await assert.rejects(framesBy(fetch).read(0, 1, true), failure('GK_PROTOCOL'));
    }
  });

  test('a level that the host of a database would suffer from is not asked for', async () => {
    const never: FetchFrame = () => Promise.reject(new Error('asked'));
    assert.equal(await framesBy(never).read(0, PACKED_LEVEL_MAX + 1, false), undefined);
  });

  test('abandoned, it asks for nothing more and ends what is under way', async () => {
    const signals: AbortSignal[] = [];
    const frames = framesBy((offset, form, target, signal) => {
      signals.push(signal);
      return served(offset, form, target, signal);
    });
    await frames.read(0, 1, false);
    frames.abandon();
    assert.ok(signals.length > 1 && signals.every((signal) => signal.aborted));
  });
});

describe('the memory of frames', () => {
  const targets = new Set<Buffer>();
  const intoTarget: FetchFrame = async (offset, form, target, signal) => {
    targets.add(target);
    const stored = await served(offset, form, target, signal);
    return stored === undefined ? undefined : target.subarray(0, stored.copy(target));
  };

  test('it holds a frame until that is released, and then another one', async () => {
    const memory = new FrameMemory();
    const readers = { fetchFrame: intoTarget, readRange: noRange, fetchHash: async () => 'known' };
    const kept: PackedFrame[] = [];
    const first = new FramesAhead(remote, readers, memory);
    for (let offset = 0; offset < BYTES; offset += FRAME_RAW_BYTES)
      kept.push((await first.read(offset, 1, true))!);
    for (const [number, { stored }] of kept.entries()) {
      const expected = await compressed(await frameOf(member, number * FRAME_RAW_BYTES), 1);
      assert.equal(stored.equals(expected), true, `frame ${number} was overwritten`);
    }
    for (const { release } of kept) release!();
    const known = new Set(targets);
    const second = new FramesAhead(remote, readers, memory);
    for (let offset = 0; offset + FRAME_RAW_BYTES < BYTES; offset += FRAME_RAW_BYTES)
      (await second.read(offset, 1, true))!.release!();
    const lastFrames = 1;
    assert.ok(targets.size <= known.size + lastFrames, 'memory that is free is not used');
  });
});

describe('frames that stay packed', () => {
  const fetchHash = async () => 'of the server';

  test('those with content alone do, when the server knows the hash', async () => {
    const frames = framesBy(served, { fetchHash });
    assert.deepEqual(await readAll(frames), [true, false, false, false, false, false, true]);
    assert.equal(await frames.sha256(), 'of the server');
    assert.deepEqual(await readAll(framesBy(served)), Array(7).fill(true), 'nobody knows the hash');
  });

  test('the server is to hash them, and none that are unpacked here', async () => {
    const asked: boolean[] = [];
    const noting: FetchFrame = (offset, form, ...more) => {
      asked.push(form.isHashed);
      return served(offset, form, ...more);
    };
    await readAll(framesBy(noting, { fetchHash }));
    assert.deepEqual(
      asked,
      Array(7).fill(true),
      'the first and the last as well: they are part of the member',
    );
    asked.length = 0;
    await readAll(framesBy(noting));
    const frames = framesBy(noting, { fetchHash });
    await frames.read(0, 1, false);
    assert.deepEqual(new Set(asked), new Set([false]));
  });

  test('one that says to hold another number of bytes is unpacked, and refused', async () => {
    const short: FetchFrame = async (offset, { level }) =>
      compressed((await frameOf(member, offset)).subarray(offset === 0 ? 0 : 512), level);
    await assert.rejects(readAll(framesBy(short, { fetchHash })), failure('GK_PROTOCOL'));
  });

  test('the hash of the server counts no more when it may have hashed something else', async () => {
    const readRange: PackedReaders['readRange'] = (startBytes, target) => member.read(target, startBytes);
    const broken = framesBy(missing(2 * FRAME_RAW_BYTES), { readRange, fetchHash });
    await readAll(broken);
    assert.equal(await broken.sha256(), undefined, 'a frame was read by ranges');
    const twice = framesBy(served, { fetchHash });
    await readAll(twice);
    await readAll(twice);
    assert.equal(await twice.sha256(), undefined, 'the frames were read again');
  });
});
