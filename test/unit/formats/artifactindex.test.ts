import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  type ArtifactIndex,
  FOOTER_BYTES,
  FRAME_RAW_BYTES_MAX,
  INDEX_STORED_BYTES_MAX,
  parseFooter,
  parseIndex,
  storedIndexOf,
  writeIndexBlock,
} from '../../../src/formats/artifact/index.ts';
import { FormatError } from '../../../src/formats/formaterror.ts';
import { noise } from '../../fixtures/random.ts';

const SHA256 = 'ab'.repeat(32);
const INDEX_OFFSET = 100 + 300 + 400 + 20;

/** A head, two members (the second in two frames), the end of the tar. */
function goodIndex(): ArtifactIndex {
  return {
    formatVersion: 1,
    writer: 'graphkeep 0.0.0',
    codec: 'zstd',
    fence: { logVersion: '0', offsetBytes: '128', appendIndex: '1', checkpointFile: 'checkpoint.0' },
    end: { logVersion: '0', offsetBytes: '500' },
    highestChecksum: 7,
    latestCommitMillis: '1700000000000',
    leftOut: [],
    frames: [
      [0, 100, 100, 1],
      [100, 300, 512 + 1024, 2],
      [400, 200, 512 + 512, 3],
      [600, 200, 512, 4],
      [800, 20, 1024, 5],
    ],
    members: [
      { path: 'neostore', kind: 'store', bytes: 1024, sha256: SHA256, firstFrame: 1, frameCount: 1 },
      { path: 'schema/index/a', kind: 'store', bytes: 1000, sha256: SHA256, firstFrame: 2, frameCount: 2 },
    ],
  };
}

type Change = (index: { frames: unknown[]; members: unknown[]; [key: string]: unknown }) => void;

function parseChanged(change: Change, indexOffset = INDEX_OFFSET): ArtifactIndex {
  const index = JSON.parse(JSON.stringify(goodIndex()));
  change(index);
  return parseIndex(JSON.stringify(index), indexOffset);
}

const frame = (number: number, values: readonly unknown[]): Change => {
  return (index) => {
    index.frames[number] = values;
  };
};

const member = (number: number, fields: Record<string, unknown>): Change => {
  return (index) => {
    index.members[number] = { ...(index.members[number] as object), ...fields };
  };
};

const field = (name: string, value: unknown): Change => {
  return (index) => {
    index[name] = value;
  };
};

const nothing = (list: 'frames' | 'members', number: number): Change => {
  return (index) => {
    index[list][number] = null;
  };
};

const duplicate: Change = (index) => {
  index.members[1] = { ...(index.members[1] as object), path: 'neostore' };
};

describe('member index', () => {
  test('a good one is read as it is', () => {
    assert.deepEqual(
      parseChanged(() => {}),
      goodIndex(),
    );
  });

  const refused: [string, Change, RegExp?][] = [
    ['another version', field('formatVersion', 2), /version 2/],
    ['no version', field('formatVersion', undefined), /version/],
    [
      'a version that is no text',
      field('formatVersion', { toString: false }),
      /version \{"toString":false\}/,
    ],
    ['another codec', field('codec', 'gzip'), /codec/],
    ['no frames', field('frames', undefined)],
    ['frames that are no list', field('frames', { length: 0 })],
    ['no members', field('members', null)],
    ['no fence', field('fence', undefined), /fence/],
    ['a fence that is null', field('fence', null), /fence/],
    ['a frame that is none', frame(1, [100, 300, 1536]), /none/],
    ['a frame that is null', nothing('frames', 1), /none/],
    ['a gap between frames', frame(2, [401, 200, 1024, 3]), /gap/],
    ['frames that overlap', frame(2, [399, 200, 1024, 3]), /gap/],
    ['a first frame that does not start the file', frame(0, [1, 99, 100, 1]), /gap/],
    ['frames that end before the index', frame(4, [800, 19, 1024, 5]), /cover/],
    ['a negative size', frame(4, [800, -20, 1024, 5]), /impossible size/],
    ['a stored size beyond every frame', frame(4, [800, 2 * FRAME_RAW_BYTES_MAX + 1, 1024, 5]), /impossible/],
    ['a raw size beyond every frame', frame(4, [800, 20, FRAME_RAW_BYTES_MAX + 1, 5]), /impossible/],
    ['a raw size that is text', frame(4, [800, 20, '1024', 5]), /impossible/],
    ['a raw size that is a fraction', frame(4, [800, 20, 1024.5, 5]), /impossible/],
    ['a checksum of 33 bits', frame(4, [800, 20, 1024, 2 ** 32]), /checksum/],
    ['no checksum', frame(4, [800, 20, 1024, null]), /checksum/],
    ['a member that is null', nothing('members', 0), /path/],
    ['a member without a path', member(0, { path: undefined }), /path/],
    ['a path that escapes', member(0, { path: '../neostore' })],
    ['an absolute path', member(0, { path: '/etc/passwd' })],
    ['a path that is not in its simplest form', member(0, { path: './neostore' })],
    ['one path twice', duplicate],
    ['an unknown kind', member(0, { kind: 'script' }), /kind/],
    ['no hash', member(0, { sha256: 'ab' }), /hash/],
    ['a hash that is no hex', member(0, { sha256: 'zz'.repeat(32) }), /hash/],
    ['a wrong size of a member', member(0, { bytes: 1025 }), /another size/],
    ['a size that pads to the same blocks but one more', member(0, { bytes: 511 }), /another size/],
    ['a negative size of a member', member(0, { bytes: -1 }), /size/],
    ['an absurd size of a member', member(0, { bytes: 1e300 }), /size/],
    ['a member in the head', member(0, { firstFrame: 0 }), /orders/],
    ['a member in the frames of another', member(1, { firstFrame: 1 }), /orders/],
    ['a member in no frame', member(1, { frameCount: 0 }), /another size/],
    ['a member of absurdly many frames', member(1, { frameCount: 1e9 }), /orders/],
    ['frames of no member', (index) => void index.members.pop(), /no member/],
  ];
  for (const [what, change, message = /./] of refused) {
    test(`with ${what} it is refused`, () => {
      assert.throws(
        () => parseChanged(change),
        (error) => error instanceof FormatError && message.test(error.message),
      );
    });
  }

  test('for another place in the file it is refused', () => {
    for (const offset of [0, INDEX_OFFSET - 1, INDEX_OFFSET + 1]) {
      assert.throws(() => parseChanged(() => {}, offset), FormatError);
    }
  });

  test('what is not JSON, or no object, is refused', () => {
    for (const json of ['', '{', 'null', '1', '[]', '"x"', 'undefined', '{}']) {
      assert.throws(() => parseIndex(json, 0), FormatError, json);
    }
  });

  test('without frames there is no artifact', () => {
    assert.throws(
      () => parseIndex(JSON.stringify({ ...goodIndex(), frames: [], members: [] }), 0),
      FormatError,
    );
  });

  /** Replaces any one value of the JSON by any other: refused, or read, but no other error. */
  test('with any value in any place it is read or refused', () => {
    const values = fc.oneof(fc.jsonValue(), fc.constantFrom(null, [], {}, -1, 1e308, 'x', [null]));
    const places: ((index: Record<string, unknown>, value: unknown) => void)[] = [
      ...Object.keys(goodIndex()).map((key) => (index: Record<string, unknown>, value: unknown) => {
        index[key] = value;
      }),
      ...Object.keys(goodIndex().members[0]!).map(
        (key) => (index: Record<string, unknown>, value: unknown) => {
          (index.members as Record<string, unknown>[])[0]![key] = value;
        },
      ),
      (index, value) => {
        (index.frames as unknown[])[2] = value;
      },
      (index, value) => {
        (index.frames as unknown[][])[2]![2] = value;
      },
      (index, value) => {
        (index.members as unknown[])[1] = value;
      },
    ];
    fc.assert(
      fc.property(fc.constantFrom(...places), values, (put, value) => {
        const index = JSON.parse(JSON.stringify(goodIndex())) as Record<string, unknown>;
        put(index, value);
        try {
          parseIndex(JSON.stringify(index), INDEX_OFFSET);
        } catch (error) {
          assert.ok(error instanceof FormatError, String(error));
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe('footer', () => {
  const stored = noise(500, 3);
  const block = writeIndexBlock(INDEX_OFFSET, stored);
  const fileBytes = INDEX_OFFSET + block.length;
  const footerOf = (bytes: Buffer): Buffer => bytes.subarray(bytes.length - FOOTER_BYTES);

  test('leads to the index', () => {
    const footer = parseFooter(footerOf(block), fileBytes)!;
    assert.equal(footer.indexOffset, INDEX_OFFSET);
    assert.equal(storedIndexOf(block, footer).equals(stored), true);
  });

  test('the block is one skippable frame to the end of the file', () => {
    assert.equal(block.readUInt32LE(0), 0x184d2a50);
    assert.equal(block.readUInt32LE(4), block.length - 8);
  });

  test('every flipped bit of the block is found', () => {
    for (let bit = 0; bit < block.length * 8; bit++) {
      const other = Buffer.from(block);
      other[bit >> 3]! ^= 1 << (bit & 7);
      let found: boolean;
      try {
        const footer = parseFooter(footerOf(other), fileBytes);
        if (footer === undefined) found = true;
        else {
          storedIndexOf(other, footer);
          found = false;
        }
      } catch (error) {
        assert.ok(error instanceof FormatError, String(error));
        found = true;
      }
      assert.equal(found, true, `bit ${bit}`);
    }
  });

  test('in a file of another length it is refused', () => {
    for (const length of [fileBytes - 1, fileBytes + 1, 0]) {
      assert.throws(() => parseFooter(footerOf(block), length), FormatError);
    }
  });

  test('an index of absurd size is refused before it is read', () => {
    const footer = Buffer.from(footerOf(block));
    const storedBytes = INDEX_STORED_BYTES_MAX + 1;
    footer.writeBigUInt64BE(BigInt(storedBytes), 24);
    assert.throws(() => parseFooter(footer, INDEX_OFFSET + 8 + storedBytes + FOOTER_BYTES), FormatError);
    footer.writeBigUInt64BE(2n ** 64n - 1n, 16);
    assert.throws(() => parseFooter(footer, fileBytes), FormatError);
  });

  test('other bytes are no footer', () => {
    assert.equal(parseFooter(noise(FOOTER_BYTES, 1), 1000), undefined);
    assert.equal(parseFooter(footerOf(block).subarray(1), fileBytes), undefined);
  });
});
