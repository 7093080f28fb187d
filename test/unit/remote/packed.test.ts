/** Frames that the server has compressed: what comes wrong is refused, what does not come is read by ranges. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { compressFrame, fillFrame, frameBytesAt } from '../../../src/artifact/frame.ts';
import { type MemberSource, memberFromBytes } from '../../../src/artifact/membersource.ts';
import { FRAME_RAW_BYTES, PACKED_LEVEL_MAX, RANGES_IN_FLIGHT_MAX } from '../../../src/limits.ts';
import { type FetchFrame, FramesAhead } from '../../../src/remote/packed.ts';
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

const served: FetchFrame = async (offset, level) => compressFrame(await frameOf(member, offset), level);
const noRange = () => Promise.reject(new Error('read by ranges'));

describe('frames of a remote member', () => {
  test('they come in order, a bounded number ahead, and are what the writer would have made', async () => {
    let underWay = 0;
    let most = 0;
    const frames = new FramesAhead(
      remote,
      async (...request) => {
        most = Math.max(most, ++underWay);
        const stored = await served(...request);
        underWay -= 1;
        return stored;
      },
      noRange,
    );
    for (let offset = 0; offset < BYTES; offset += FRAME_RAW_BYTES) {
      const packed = await frames.read(offset, 1);
      const expected = await frameOf(member, offset);
      assert.equal(packed!.raw.equals(expected), true);
      assert.equal(packed!.stored.equals(await compressFrame(expected, 1)), true);
    }
    assert.ok(most > 1 && most <= RANGES_IN_FLIGHT_MAX, `${most} at once`);
  });

  test('one that does not come is read by ranges and compressed here', async () => {
    const read: number[] = [];
    const frames = new FramesAhead(
      remote,
      async (offset, level, bytesMax, signal) =>
        offset === FRAME_RAW_BYTES ? undefined : served(offset, level, bytesMax, signal),
      async (startBytes, target) => {
        read.push(startBytes);
        await member.read(target, startBytes);
      },
    );
    await frames.read(0, 1);
    const packed = await frames.read(FRAME_RAW_BYTES, 1);
    assert.equal(packed!.raw.equals(await frameOf(member, FRAME_RAW_BYTES)), true);
    assert.deepEqual(read, [FRAME_RAW_BYTES - 512]);
    frames.abandon();
  });

  test('what is not of this member is refused', async () => {
    const other = { ...member, path: 'neostore.propertystore.db' };
    const wrong: FetchFrame[] = [
      async (offset, level) => compressFrame(await frameOf(other, offset), level),
      async (offset, level) => compressFrame((await frameOf(member, offset)).subarray(512), level),
      async () => Buffer.from('no frame at all'),
    ];
    for (const fetch of wrong) {
      await assert.rejects(new FramesAhead(remote, fetch, noRange).read(0, 1), failure('GK_PROTOCOL'));
    }
  });

  test('a level that the host of a database would suffer from is not asked for', async () => {
    const never: FetchFrame = () => Promise.reject(new Error('asked'));
    assert.equal(await new FramesAhead(remote, never, noRange).read(0, PACKED_LEVEL_MAX + 1), undefined);
  });

  test('abandoned, it asks for nothing more and ends what is under way', async () => {
    const signals: AbortSignal[] = [];
    const frames = new FramesAhead(
      remote,
      (offset, level, bytesMax, signal) => {
        signals.push(signal);
        return served(offset, level, bytesMax, signal);
      },
      noRange,
    );
    await frames.read(0, 1);
    frames.abandon();
    assert.ok(signals.length > 1 && signals.every((signal) => signal.aborted));
  });
});
