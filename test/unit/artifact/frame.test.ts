/** Frames that were made elsewhere: the artifact is the same, and what does not belong to the member is refused. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import {
  contentOfFrame,
  entryBytesOf,
  fillFrame,
  frameBytesAt,
  storedBytesMax,
} from '../../../src/artifact/frame.ts';
import { movedInto } from '../../../src/artifact/framememory.ts';
import { type MemberSource, memberFromBytes } from '../../../src/artifact/membersource.ts';
import { ArtifactWriter } from '../../../src/artifact/writer.ts';
import { FormatError } from '../../../src/formats/formaterror.ts';
import { FRAME_RAW_BYTES } from '../../../src/limits.ts';
import { Publication } from '../../../src/storage/local.ts';
import { compressed } from '../../fixtures/frames.ts';
import { storeIdOf } from '../../fixtures/lines.ts';
import { noise } from '../../fixtures/random.ts';
import { failure, temporaryFolder } from '../../fixtures/workspace.ts';

const SIZES = [0, 1, 511, 512, 513, FRAME_RAW_BYTES - 512, FRAME_RAW_BYTES - 511, 2 * FRAME_RAW_BYTES + 77];

function memberOf(bytes: number): MemberSource {
  const content = Buffer.concat([noise(bytes >> 1, bytes + 1), Buffer.alloc(bytes - (bytes >> 1), 3)]);
  return memberFromBytes('neostore.nodestore.db', 'store', content);
}

/** As a backup server makes them. */
async function frameOf(source: MemberSource, offset: number): Promise<Buffer> {
  const raw = Buffer.alloc(frameBytesAt(source, offset), 0xee);
  await fillFrame(raw, offset, source);
  return raw;
}

async function artifactOf(
  folder: string,
  sources: readonly MemberSource[],
  level: number | undefined,
): Promise<Buffer> {
  const publication = await Publication.create(folder, 'x.backup');
  const writer = new ArtifactWriter(publication, level);
  const descriptor = {
    storeId: storeIdOf('5.26'),
    databaseUuid: Buffer.alloc(16, 7),
    databaseName: 'neo4j',
    timeSeconds: 1n,
    lowestAppendIndex: 1n,
    highestAppendIndex: 2n,
    recovered: false,
    compressed: level !== undefined,
    full: true,
    properties: new Map<string, Buffer>(),
  };
  await writer.begin(descriptor);
  for (const source of sources) await writer.addMember(source);
  const position = { logVersion: '0', offsetBytes: '128' };
  await writer.finish(descriptor, {
    writer: 'graphkeep test',
    parent: { appendIndex: '1', checksum: 1 },
    end: position,
    highestChecksum: 1,
    latestCommitMillis: '1',
    leftOut: [],
  });
  const path = join(folder, `${Math.random()}.backup`);
  assert.ok(await publication.publish(path));
  return readFileSync(path);
}

describe('frames made elsewhere', () => {
  test('the artifact is the same, byte for byte', async (context) => {
    const folder = temporaryFolder(context);
    const sources = SIZES.map(memberOf);
    let packedFrames = 0;
    const packed = sources.map((source): MemberSource => {
      const unread = { ...source, read: () => Promise.reject(new Error('read although it came packed')) };
      return {
        ...unread,
        readPacked: async (offset, level) => {
          packedFrames += 1;
          const raw = await frameOf(source, offset);
          return { stored: await compressed(raw, level), raw };
        },
      };
    });
    const [expected, actual] = [await artifactOf(folder, sources, 1), await artifactOf(folder, packed, 1)];
    assert.equal(actual.equals(expected), true);
    assert.equal(
      packedFrames,
      sources.reduce((sum, one) => sum + Math.ceil(entryBytesOf(one) / FRAME_RAW_BYTES), 0),
    );
  });

  test('frames that stay packed: the hash is that of who packed them, or is read back', async (context) => {
    const folder = temporaryFolder(context);
    const source = memberOf(3 * FRAME_RAW_BYTES);
    const expected = await artifactOf(folder, [source], 1);
    const packed: MemberSource = {
      ...source,
      read: () => Promise.reject(new Error('read although it came packed')),
      readPacked: async (offset, level, mayStayPacked) => {
        const raw = await frameOf(source, offset);
        const stored = await compressed(raw, level);
        return mayStayPacked && offset === FRAME_RAW_BYTES ? { stored } : { stored, raw };
      },
    };
    const content = Buffer.alloc(source.bytes);
    await source.read(content, 0);
    const sha256 = createHash('sha256').update(content).digest('hex');
    for (const known of [sha256, undefined]) {
      const told = { ...packed, packedSha256: async () => known };
      assert.equal((await artifactOf(folder, [told], 1)).equals(expected), true);
    }
    assert.equal((await artifactOf(folder, [packed], 1)).equals(expected), true);
    const wrong = { ...packed, packedSha256: async () => 'f'.repeat(64) };
    assert.equal(
      (await artifactOf(folder, [wrong], 1)).equals(expected),
      false,
      'what is told is what is kept',
    );
  });

  test('an uncompressed artifact, or a source that cannot pack, is read', async (context) => {
    const folder = temporaryFolder(context);
    const source = memberOf(1000);
    const never = { ...source, readPacked: () => Promise.reject(new Error('asked for a packed frame')) };
    assert.equal(
      (await artifactOf(folder, [never], undefined)).equals(await artifactOf(folder, [source], undefined)),
      true,
    );
    const cannot = { ...source, readPacked: async () => undefined };
    assert.equal((await artifactOf(folder, [cannot], 1)).equals(await artifactOf(folder, [source], 1)), true);
  });

  test('what is not what the member is made of is refused', async () => {
    const source = memberOf(FRAME_RAW_BYTES + 100);
    const [first, last] = [await frameOf(source, 0), await frameOf(source, FRAME_RAW_BYTES)];
    assert.equal(contentOfFrame(first, 0, source).length, FRAME_RAW_BYTES - 512);
    assert.equal(contentOfFrame(last, FRAME_RAW_BYTES, source).length, 612);
    const otherName = await frameOf({ ...source, path: 'neostore.propstore.db' }, 0);
    const dirtyPadding = Buffer.from(last);
    dirtyPadding[dirtyPadding.length - 1] = 1;
    const wrong: [Buffer, number][] = [
      [otherName, 0],
      [dirtyPadding, FRAME_RAW_BYTES],
      [first.subarray(1), 0],
      [last.subarray(0, 512), FRAME_RAW_BYTES],
      [Buffer.alloc(0), 0],
    ];
    for (const [raw, offset] of wrong) {
      assert.throws(() => contentOfFrame(raw, offset, source), FormatError);
    }
  });

  test('a frame that cannot be compressed has room', async () => {
    for (const bytes of [1, 512, FRAME_RAW_BYTES]) {
      assert.ok((await compressed(noise(bytes, 5), 1)).length <= storedBytesMax(bytes));
    }
  });

  test('one that has no room in its memory is refused, never cut off', () => {
    const memory = Buffer.alloc(3);
    assert.throws(() => movedInto(memory, Buffer.from('four')), failure('GK_INTERNAL', /no room/));
    assert.equal(memory.equals(Buffer.alloc(3)), true);
    assert.equal(movedInto(memory, Buffer.from('ab')).toString(), 'ab');
  });
});
