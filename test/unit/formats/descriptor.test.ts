import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  containerOf,
  descriptorStart,
  writeArchiveMetadata,
} from '../../../src/formats/artifact/container.ts';
import {
  type ArtifactDescriptor,
  DescriptorIncompleteError,
  PROPERTY_VALUE_BYTES_MAX,
  parseDescriptor,
  writeDescriptor,
} from '../../../src/formats/artifact/descriptor.ts';
import { FormatError } from '../../../src/formats/formaterror.ts';
import { storeIdOf } from '../../fixtures/lines.ts';

const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const bytes16 = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes));
const anyDescriptor: fc.Arbitrary<ArtifactDescriptor> = fc.record(
  {
    storeId: fc.constantFrom(storeIdOf('5.26'), storeIdOf('2026.08')),
    databaseUuid: bytes16,
    databaseName: fc.string({ maxLength: 63 }),
    timeSeconds: int64,
    lowestAppendIndex: int64,
    highestAppendIndex: int64,
    recovered: fc.boolean(),
    compressed: fc.boolean(),
    full: fc.boolean(),
    properties: fc
      .array(fc.tuple(fc.string({ maxLength: 30 }), fc.uint8Array({ maxLength: 300 })), { maxLength: 6 })
      .map((pairs) => new Map(pairs.map(([key, value]) => [key, Buffer.from(value)]))),
  },
  { noNullPrototype: true },
);

/** Offset of the `i32 count` of properties in a descriptor of version 2. */
function propertiesOffset(descriptor: ArtifactDescriptor): number {
  return writeDescriptor({ ...descriptor, properties: new Map() }).length - 4;
}

const plain: ArtifactDescriptor = {
  storeId: storeIdOf('5.26'),
  databaseUuid: Buffer.alloc(16, 7),
  databaseName: 'neo4j',
  timeSeconds: 1_700_000_000n,
  lowestAppendIndex: 1n,
  highestAppendIndex: 41n,
  recovered: false,
  compressed: true,
  full: true,
  properties: new Map([['graphkeep', Buffer.from('1')]]),
};

describe('descriptor', () => {
  test('version 2: what is written is read back, wherever it lies', () => {
    fc.assert(
      fc.property(anyDescriptor, fc.nat(50), (descriptor, before) => {
        const written = writeDescriptor(descriptor);
        const bytes = Buffer.concat([Buffer.alloc(before, 9), written, Buffer.alloc(30, 9)]);
        const { descriptor: read, end } = parseDescriptor(bytes, before, 2);
        assert.deepEqual(read, descriptor);
        assert.equal(end, before + written.length);
      }),
    );
  });

  test('version 1 ends before the properties', () => {
    fc.assert(
      fc.property(anyDescriptor, (descriptor) => {
        const written = writeDescriptor(descriptor);
        const { descriptor: read, end } = parseDescriptor(written, 0, 1);
        assert.deepEqual(read, { ...descriptor, properties: new Map() });
        assert.equal(end, propertiesOffset(descriptor));
      }),
    );
  });

  test('no flag bytes mean no flags; more of them are passed over', () => {
    const written = writeDescriptor({ ...plain, recovered: true });
    const flags = propertiesOffset(plain) - 2;
    const none = Buffer.concat([written.subarray(0, flags), Buffer.of(0), written.subarray(flags + 2)]);
    const { descriptor } = parseDescriptor(none, 0, 2);
    assert.deepEqual([descriptor.recovered, descriptor.compressed, descriptor.full], [false, false, false]);
    assert.deepEqual(descriptor.properties, plain.properties);
    const three = Buffer.concat([
      written.subarray(0, flags),
      Buffer.of(3, 7, 0xff, 0xff),
      written.subarray(flags + 2),
    ]);
    assert.deepEqual(parseDescriptor(three, 0, 2).descriptor, { ...plain, recovered: true });
  });

  test('cut anywhere it asks for more: the reader fetches it and tries again', () => {
    const written = writeDescriptor(plain);
    for (let length = 0; length < written.length; length++) {
      assert.throws(
        () => parseDescriptor(written.subarray(0, length), 0, 2),
        DescriptorIncompleteError,
        `cut at ${length}`,
      );
    }
  });

  test('the length depends on names and properties only', () => {
    const other = {
      ...plain,
      timeSeconds: 0n,
      highestAppendIndex: 2n ** 62n,
      recovered: true,
      compressed: false,
    };
    assert.equal(writeDescriptor(other).length, writeDescriptor(plain).length);
  });

  test('absurd numbers are refused before anything is allocated', () => {
    const at = propertiesOffset(plain);
    for (const [offset, value] of [
      [at, -1],
      [at, 1025],
      [at, 0x7fffffff],
      [at + 4, -1],
      [at + 4, PROPERTY_VALUE_BYTES_MAX + 1],
      [at + 4, 0x7fffffff],
    ] as const) {
      const other = writeDescriptor(plain);
      other.writeInt32BE(value, offset);
      assert.throws(
        () => parseDescriptor(other, 0, 2),
        (error) => error instanceof FormatError && !(error instanceof DescriptorIncompleteError),
        `${value} at ${offset}`,
      );
    }
    const uuid = writeDescriptor(plain);
    uuid[writeStoreIdBytes()] = 15;
    assert.throws(() => parseDescriptor(uuid, 0, 2), /database id of 15 bytes/);
  });

  test('a name that has no room is refused when it is written', () => {
    assert.throws(() => writeDescriptor({ ...plain, databaseName: 'n'.repeat(256) }), FormatError);
    assert.equal(
      parseDescriptor(writeDescriptor({ ...plain, databaseName: 'n'.repeat(255) }), 0, 2).end > 0,
      true,
    );
  });

  test('noise is read or refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (noise) => {
        try {
          parseDescriptor(Buffer.from(noise), 0, 2);
        } catch (error) {
          assert.ok(error instanceof FormatError, String(error));
        }
      }),
      { numRuns: 500 },
    );
  });
});

function writeStoreIdBytes(): number {
  return 17 + 1 + plain.storeId.engine.length + 1 + plain.storeId.family.length + 2;
}

describe('containers', () => {
  test('are told apart by their first four bytes', () => {
    for (const magic of ['BTV1', 'BTV2', 'BZV1', 'BZV2', 'BZV3']) {
      const container = containerOf(Buffer.from(`${magic}rest`))!;
      assert.equal(container.magic, magic);
      assert.equal(container.descriptorVersion, magic.endsWith('1') ? 1 : 2);
      assert.equal(container.compressedTar, magic[1] === 'Z');
      assert.equal(container.compressedDescriptor, magic[1] === 'Z' && magic !== 'BZV3');
    }
    for (const other of ['DZV1', 'BTV3', 'BZV4', 'btv1', '', 'BT']) {
      assert.equal(containerOf(Buffer.from(other)), undefined, other);
    }
  });

  test('a descriptor of version 2 has its version before it', () => {
    const [first, second] = ['BTV1', 'BTV2'].map((magic) => containerOf(Buffer.from(magic))!);
    assert.equal(descriptorStart(first!, Buffer.of(9), 0), 0);
    assert.equal(descriptorStart(second!, Buffer.of(0, 2), 1), 2);
    assert.throws(() => descriptorStart(second!, Buffer.of(3), 0), /unknown version 3/);
  });

  test('archive metadata: version, files, bytes', () => {
    const metadata = writeArchiveMetadata(3, 2 ** 40);
    assert.equal(metadata.toString('hex'), '0000000100000000000000030000010000000000');
  });
});
