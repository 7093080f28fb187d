/** Whatever is read in whatever steps, and however many at once: the copy is the file, each byte once and in order. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ForwardingFile } from '../../../src/artifact/forward.ts';
import { GraphkeepError } from '../../../src/errors.ts';
import type { ReadableFile } from '../../../src/storage/local.ts';
import { noise } from '../../fixtures/random.ts';
import { failure } from '../../fixtures/workspace.ts';

const CONTENT = noise(5000, 1);

/** Answers come in another order than they were asked for. */
function fileOf(bytes: Buffer, length = bytes.length): ReadableFile {
  let asked = 0;
  return {
    path: 'file',
    bytes: length,
    read: async (target, position) => {
      asked += 1;
      if (asked % 2 === 1) await new Promise((resolve) => setImmediate(resolve));
      return bytes.copy(target, 0, position);
    },
    close: async () => undefined,
  };
}

describe('a file that is copied while it is read', () => {
  test('is copied whole, whatever is read of it', async () => {
    const reads = fc.array(fc.tuple(fc.nat(CONTENT.length), fc.nat(900)), { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(reads, async (ranges) => {
        const copied: Buffer[] = [];
        const file = new ForwardingFile(fileOf(CONTENT), async (bytes) => {
          await new Promise((resolve) => setImmediate(resolve));
          copied.push(Buffer.from(bytes));
        });
        await Promise.all(
          ranges.map(async ([position, bytes]) => {
            const target = Buffer.alloc(bytes);
            const got = await file.read(target, position);
            assert.ok(target.subarray(0, got).equals(CONTENT.subarray(position, position + bytes)));
          }),
        );
        await file.forwardRest(undefined);
        assert.ok(Buffer.concat(copied).equals(CONTENT));
      }),
    );
  });

  test('a read ends when its bytes were taken', async () => {
    let take = (): void => {};
    const taken = new Promise<void>((resolve) => {
      take = resolve;
    });
    const file = new ForwardingFile(fileOf(CONTENT), () => taken);
    let isEnded = false;
    const reading = file.read(Buffer.alloc(100), 0).then(() => {
      isEnded = true;
    });
    for (let turns = 0; turns < 10; turns++) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(isEnded, false);
    take();
    await reading;
  });

  test('what the other side fails with ends every read', async () => {
    const file = new ForwardingFile(fileOf(CONTENT), async () => {
      throw new GraphkeepError('GK_NO_SPACE', 'full');
    });
    const both = [file.read(Buffer.alloc(10), 0), file.read(Buffer.alloc(10), 10)];
    for (const { status } of await Promise.allSettled(both)) assert.equal(status, 'rejected');
    await assert.rejects(file.forwardRest(undefined), failure('GK_NO_SPACE'));
  });

  test('a file that is shorter than it said is no copy', async () => {
    const file = new ForwardingFile(fileOf(CONTENT.subarray(0, 4000), 5000), async () => {});
    await assert.rejects(file.read(Buffer.alloc(1000), 3500), /ends at byte 4000/);
  });
});
