/** Writer and reader against each other, and the writer against the tar and zstd programs. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { crc32, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import type { MemberHandler, MemberInfo } from '../../../src/artifact/memberhandler.ts';
import { readMembers } from '../../../src/artifact/members.ts';
import type { MemberSource } from '../../../src/artifact/membersource.ts';
import { type Artifact, openArtifact } from '../../../src/artifact/reader.ts';
import { memberKindOf } from '../../../src/artifact/tarstream.ts';
import { ArtifactWriter, type IndexFacts } from '../../../src/artifact/writer.ts';
import { writeArchiveMetadata } from '../../../src/formats/artifact/container.ts';
import { type ArtifactDescriptor, writeDescriptor } from '../../../src/formats/artifact/descriptor.ts';
import { writeIndexBlock } from '../../../src/formats/artifact/index.ts';
import { TAR_END_BYTES, tarPadding, writeTarHeader } from '../../../src/formats/tar.ts';
import { FRAME_RAW_BYTES } from '../../../src/limits.ts';
import { Publication } from '../../../src/storage/local.ts';
import { storeIdOf } from '../../fixtures/lines.ts';
import { noise } from '../../fixtures/random.ts';
import {
  assertSameFiles,
  failure,
  filesBelow,
  makeFolder,
  temporaryFolder,
} from '../../fixtures/workspace.ts';

const descriptor: ArtifactDescriptor = {
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

const facts: IndexFacts = {
  writer: 'graphkeep test',
  fence: { logVersion: '0', offsetBytes: '128', appendIndex: '1', checkpointFile: 'checkpoint.0' },
  end: { logVersion: '0', offsetBytes: '500' },
  highestChecksum: 7,
  latestCommitMillis: '1700000000000',
  leftOut: ['schema/index/text-2.0/9'],
};

/** Content that compresses in parts: noise, then the same byte over and over. */
function contentOf(bytes: number, seed: number): Buffer {
  const content = Buffer.alloc(bytes, seed);
  noise(Math.min(bytes, 100_000) >> 1, seed).copy(content);
  return content;
}

function sourceOf(path: string, content: Buffer): MemberSource {
  return {
    path,
    kind: memberKindOf(path),
    bytes: content.length,
    read: async (target, position) => {
      assert.ok(position + target.length <= content.length, 'the writer reads behind the end');
      content.copy(target, 0, position);
    },
  };
}

interface Member {
  readonly path: string;
  readonly content: Buffer;
  /** Members that are written before this one and taken back again. */
  readonly abandoned: readonly Buffer[];
}

async function writeArtifact(
  folder: string,
  members: readonly Member[],
  level: number | undefined,
  properties = descriptor.properties,
): Promise<string> {
  const publication = await Publication.create(folder, 'test');
  const writer = new ArtifactWriter(publication, level);
  await writer.begin({ ...descriptor, properties, highestAppendIndex: 0n });
  for (const member of members) {
    const mark = await writer.mark();
    for (const [number, content] of member.abandoned.entries()) {
      await writer.addMember(sourceOf(`abandoned/${number}`, content));
    }
    if (member.abandoned.length > 0) await writer.rewind(mark);
    await writer.addMember(sourceOf(member.path, member.content));
  }
  await writer.finish({ ...descriptor, properties, compressed: level !== undefined }, facts);
  const path = join(folder, 'neo4j.backup');
  assert.equal(await publication.publish(path), true);
  return path;
}

/** Collects what the reader hands on; positions must follow each other. */
class Collector implements MemberHandler {
  readonly members: MemberInfo[] = [];
  readonly contents = new Map<string, Buffer>();
  #parts: Buffer[] = [];
  #position = 0;

  async begin(member: MemberInfo): Promise<void> {
    this.members.push(member);
    this.#parts = [];
    this.#position = 0;
  }
  async content(bytes: Buffer, positionBytes: number): Promise<void> {
    assert.equal(positionBytes, this.#position);
    this.#position += bytes.length;
    this.#parts.push(Buffer.from(bytes));
  }
  async end(): Promise<void> {
    const member = this.members.at(-1)!;
    assert.equal(this.#position, member.bytes);
    this.contents.set(member.path, Buffer.concat(this.#parts));
  }
}

async function readAll(path: string): Promise<{ artifact: Artifact; read: Collector }> {
  const artifact = await openArtifact(path);
  const read = new Collector();
  try {
    await readMembers(artifact, read);
  } finally {
    await artifact.file.close();
  }
  return { artifact, read };
}

function assertMembers(read: Collector, members: readonly Member[]): void {
  assert.deepEqual(
    read.members.map((member) => [member.path, member.bytes, member.kind]),
    members.map((member) => [member.path, member.content.length, memberKindOf(member.path)]),
  );
  for (const member of members) {
    assert.equal(read.contents.get(member.path)!.equals(member.content), true, member.path);
  }
}

/** Sizes where header, content and padding just fill frames, and some that are far from it. */
const frameEdges = [1, 2].flatMap((frames) =>
  [-513, -512, -511, -1, 0, 1, 511, 512, 513].map((more) => frames * FRAME_RAW_BYTES - 512 + more),
);
const size = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(0, 1, 511, 512, 513) },
  { weight: 3, arbitrary: fc.nat(20_000) },
  { weight: 1, arbitrary: fc.constantFrom(...frameEdges) },
);
const NAMES = [
  'neostore',
  'neostore.nodestore.db',
  'schema/index/range-1.0/3/index-3',
  'neostore.transaction.db.12',
  'checkpoint.3',
];
const members: fc.Arbitrary<Member[]> = fc
  .array(fc.record({ bytes: size, seed: fc.nat(255), abandoned: fc.array(size, { maxLength: 3 }) }), {
    maxLength: 5,
  })
  .map((shapes) =>
    shapes.map(({ bytes, seed, abandoned }, number) => ({
      path: NAMES[number]!,
      content: contentOf(bytes, seed),
      abandoned: abandoned.map((length) => contentOf(length, 99)),
    })),
  );

describe('an artifact that is written', () => {
  for (const level of [undefined, 1, 9]) {
    const name = level === undefined ? 'uncompressed' : `at level ${level}`;
    test(`${name} is read back, whatever its members and rewinds`, async (context) => {
      const root = temporaryFolder(context);
      let run = 0;
      await fc.assert(
        fc.asyncProperty(members, async (shape) => {
          const path = await writeArtifact(makeFolder(root, String(run++)), shape, level);
          const { artifact, read } = await readAll(path);
          assertMembers(read, shape);
          assert.deepEqual(artifact.descriptor, { ...descriptor, compressed: level !== undefined });
          const { index } = artifact;
          assert.deepEqual(index!.leftOut, facts.leftOut);
          assert.deepEqual(index!.fence, facts.fence);
          for (const member of index!.members) {
            const content = read.contents.get(member.path)!;
            assert.equal(member.sha256, createHash('sha256').update(content).digest('hex'));
          }
        }),
        { numRuns: level === 9 ? 8 : 30 },
      );
    });
  }

  test('at every size around the end of a frame', async (context) => {
    const folder = temporaryFolder(context);
    const shape = frameEdges.map((bytes, number) => ({
      path: `member-${number}`,
      content: contentOf(bytes, number),
      abandoned: [],
    }));
    for (const level of [undefined, 1]) {
      const { artifact, read } = await readAll(
        await writeArtifact(makeFolder(folder, String(level)), shape, level),
      );
      assertMembers(read, shape);
      const { index } = artifact;
      assert.deepEqual(
        index!.members.map((member) => member.frameCount),
        frameEdges.map((bytes) => Math.ceil((512 + bytes + tarPadding(bytes)) / FRAME_RAW_BYTES)),
      );
    }
  });

  test('nothing of a member that was taken back is left in the file', async (context) => {
    const folder = temporaryFolder(context);
    const secret = noise(50_000, 4242);
    const shape = [{ path: 'neostore', content: contentOf(10, 1), abandoned: [secret] }];
    const path = await writeArtifact(folder, shape, undefined);
    assert.equal(readFileSync(path).includes(secret.subarray(0, 64)), false);
  });

  test('what lies between two members is zeros, not what was in memory', async (context) => {
    const folder = temporaryFolder(context);
    const publication = await Publication.create(folder, 'test');
    const writer = new ArtifactWriter(publication, undefined);
    await writer.begin(descriptor);
    const content = noise(100, 1);
    const source = sourceOf('neostore', content);
    const read = async (target: Buffer, position: number): Promise<void> => {
      // The memory behind the content, as an earlier use may have left it.
      Buffer.from(target.buffer, target.byteOffset, 512).fill(0xee);
      await source.read(target, position);
    };
    const member = await writer.addMember({ ...source, read });
    await writer.finish({ ...descriptor, compressed: false }, facts);
    const path = join(folder, 'x.backup');
    await publication.publish(path);
    const artifact = await openArtifact(path);
    await artifact.file.close();
    const [offset] = artifact.index!.frames[member.firstFrame]!;
    const block = readFileSync(path).subarray(offset + 512, offset + 1024);
    assert.equal(block.equals(Buffer.concat([content, Buffer.alloc(412)])), true);
  });

  test('a failure while a member is read reaches the caller', async (context) => {
    const publication = await Publication.create(temporaryFolder(context), 'test');
    const writer = new ArtifactWriter(publication, 1);
    await writer.begin(descriptor);
    const source = {
      ...sourceOf('neostore', Buffer.alloc(10)),
      read: () => Promise.reject(new Error('gone')),
    };
    await assert.rejects(writer.addMember(source), /gone/);
    await writer.abandon();
    await publication.discard();
  });

  test('a descriptor that grew is refused: it would overwrite the first member', async (context) => {
    const publication = await Publication.create(temporaryFolder(context), 'test');
    const writer = new ArtifactWriter(publication, undefined);
    await writer.begin(descriptor);
    await assert.rejects(
      writer.finish({ ...descriptor, databaseName: 'longer name' }, facts),
      failure('GK_INTERNAL'),
    );
    await publication.discard();
  });

  test('the reader stops when it is told to', async (context) => {
    const shape = [{ path: 'neostore', content: contentOf(5 * FRAME_RAW_BYTES, 1), abandoned: [] }];
    const artifact = await openArtifact(await writeArtifact(temporaryFolder(context), shape, undefined));
    const stop = new AbortController();
    const reading = readMembers(artifact, new Collector(), {
      signal: stop.signal,
      onBytes: () => stop.abort(),
    });
    await assert.rejects(reading, failure('GK_INTERRUPTED'));
    await artifact.file.close();
  });
});

const sample: Member[] = [
  { path: 'neostore', content: contentOf(8192, 1), abandoned: [contentOf(100_000, 5)] },
  { path: 'neostore.nodestore.db', content: contentOf(FRAME_RAW_BYTES + 77, 2), abandoned: [] },
  { path: 'schema/index/range-1.0/3/index-3', content: contentOf(3 * 8192, 3), abandoned: [] },
  { path: 'neostore.transaction.db.0', content: contentOf(1000, 4), abandoned: [] },
  { path: 'checkpoint.0', content: Buffer.alloc(0), abandoned: [] },
];

function assertUnpacks(folder: string, tar: Buffer): void {
  const out = makeFolder(folder, 'out');
  writeFileSync(join(folder, 'archive.tar'), tar);
  execFileSync('tar', ['-xf', join(folder, 'archive.tar'), '-C', out], { stdio: 'pipe' });
  const unpacked = new Map([...filesBelow(out)].filter(([name]) => !name.endsWith('/')));
  assertSameFiles(unpacked, new Map(sample.map((member) => [member.path, member.content])));
}

const programs = ['tar', 'zstd'].filter((name) => spawnSync(name, ['--version']).status !== 0);
const needsPrograms = programs.length === 0 ? {} : { skip: `not here: ${programs.join(', ')}` };

describe('stock programs', needsPrograms, () => {
  test('zstd decodes a compressed artifact, tar unpacks what follows its head', async (context) => {
    const folder = temporaryFolder(context);
    const file = readFileSync(await writeArtifact(folder, sample, 3));
    const { status, stdout } = spawnSync('zstd', ['-dc'], { input: file.subarray(4), maxBuffer: 2 ** 28 });
    assert.equal(status, 0);
    const body = writeDescriptor({ ...descriptor, compressed: true });
    const total = sample.reduce((sum, member) => sum + member.content.length, 0);
    const head = Buffer.concat([Buffer.from('zstd\u0002'), body, writeArchiveMetadata(sample.length, total)]);
    assert.equal(stdout.subarray(0, head.length).equals(head), true, 'the head is as stock load expects it');
    assertUnpacks(folder, stdout.subarray(head.length));
  });

  test('tar unpacks an uncompressed artifact behind its head and before the index', async (context) => {
    const folder = temporaryFolder(context);
    const path = await writeArtifact(folder, sample, undefined);
    const artifact = await openArtifact(path);
    await artifact.file.close();
    assertUnpacks(folder, readFileSync(path).subarray(artifact.streamStart));
  });
});

/** What another tool would write: the same containers, without an index. */
function foreignArtifact(magic: string, entries: readonly Member[], tar = tarOf(entries)): Buffer {
  const version = Number(magic[3]) === 1 ? 1 : 2;
  const written = writeDescriptor({ ...descriptor, properties: new Map() });
  const body =
    version === 1 ? written.subarray(0, written.length - 4) : Buffer.concat([Buffer.of(2), written]);
  const metadata = writeArchiveMetadata(entries.length, 0);
  const word = Buffer.from('zstd');
  const start = Buffer.from(magic);
  if (magic.startsWith('BT')) return Buffer.concat([start, body, tar]);
  if (magic === 'BZV3')
    return Buffer.concat([start, body, zstdCompressSync(Buffer.concat([word, metadata, tar]))]);
  return Buffer.concat([start, zstdCompressSync(Buffer.concat([word, body, metadata, tar]))]);
}

function tarOf(entries: readonly Member[], endBytes = TAR_END_BYTES): Buffer {
  const parts = entries.flatMap(({ path, content }) => [
    writeTarHeader(path, content.length),
    content,
    Buffer.alloc(tarPadding(content.length)),
  ]);
  return Buffer.concat([...parts, Buffer.alloc(endBytes)]);
}

const MAGICS = ['BTV1', 'BTV2', 'BZV1', 'BZV2', 'BZV3'];

describe('an artifact of another tool', () => {
  for (const magic of MAGICS) {
    test(`${magic} is read as a stream`, async (context) => {
      const path = join(temporaryFolder(context), 'x.backup');
      writeFileSync(path, foreignArtifact(magic, sample));
      const { artifact, read } = await readAll(path);
      assert.equal(artifact.index, undefined);
      assert.equal(artifact.container.magic, magic);
      assert.deepEqual(artifact.descriptor, { ...descriptor, properties: new Map() });
      assertMembers(read, sample);
    });

    test(`${magic} cut at any place is refused`, async (context) => {
      const folder = temporaryFolder(context);
      const small = [{ path: 'neostore', content: noise(3000, 1), abandoned: [] }];
      const whole = foreignArtifact(magic, small);
      for (let length = 0; length < whole.length - TAR_END_BYTES; length += 97) {
        const path = join(folder, 'x.backup');
        writeFileSync(path, whole.subarray(0, length));
        await assert.rejects(readAll(path), failure('GK_ARTIFACT_CORRUPT'), `cut at ${length}`);
      }
    });
  }

  test('entries that escape, or are no files, are refused', async (context) => {
    const folder = temporaryFolder(context);
    const entry = (path: string): Member => ({ path, content: Buffer.from('x'), abandoned: [] });
    const link = tarOf([entry('link')]);
    link[156] = '2'.charCodeAt(0);
    link.fill(0x20, 148, 156);
    const sum = link.subarray(0, 512).reduce((total, byte) => total + byte, 0);
    link.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    const tars = [tarOf([entry('../x')]), tarOf([entry('/etc/x')]), tarOf([entry('a/../../x')]), link];
    for (const [number, tar] of tars.entries()) {
      for (const magic of MAGICS) {
        const path = join(folder, `${number}-${magic}.backup`);
        writeFileSync(path, foreignArtifact(magic, [], tar));
        await assert.rejects(readAll(path), failure('GK_ARTIFACT_CORRUPT'), `${number} in ${magic}`);
      }
    }
  });

  test('a file that is no artifact is refused with a hint to what is', async (context) => {
    const folder = temporaryFolder(context);
    for (const [number, bytes] of [
      '',
      'BT',
      'DZV1 and so on',
      'x'.repeat(1000),
      'BTV2',
      'BZV2',
      'BZV3',
    ].entries()) {
      const path = join(folder, `${number}.backup`);
      writeFileSync(path, bytes);
      await assert.rejects(openArtifact(path), failure('GK_ARTIFACT_CORRUPT'), bytes.slice(0, 10));
    }
    await assert.rejects(openArtifact(join(folder, 'missing.backup')), failure('GK_NOT_FOUND'));
    await assert.rejects(openArtifact(folder), failure('GK_NOT_FOUND', /not a file/));
  });

  /** Properties of a mebibyte of zeros each, which compress to nothing. */
  function withProperties(claimed: number, present: number): Buffer {
    const head = writeDescriptor({ ...descriptor, properties: new Map() });
    head.writeInt32BE(claimed, head.length - 4);
    const parts = Array.from({ length: present }, (_, number) => {
      const property = Buffer.alloc(12 + 1024 * 1024);
      property.writeInt32BE(4, 0);
      property.writeInt32BE(number, 4);
      property.writeInt32BE(1024 * 1024, 8);
      return property;
    });
    return Buffer.concat([Buffer.from('zstd\u0002'), head, ...parts]);
  }

  test('a long descriptor is read', { timeout: 20_000 }, async (context) => {
    const path = join(temporaryFolder(context), 'x.backup');
    const content = [withProperties(8, 8), writeArchiveMetadata(0, 0), Buffer.alloc(TAR_END_BYTES)];
    writeFileSync(path, Buffer.concat([Buffer.from('BZV2'), zstdCompressSync(Buffer.concat(content))]));
    const { artifact } = await readAll(path);
    assert.equal(artifact.descriptor.properties.size, 8);
  });

  test('a descriptor that never ends is refused', { timeout: 20_000 }, async (context) => {
    const path = join(temporaryFolder(context), 'x.backup');
    const endless = zstdCompressSync(withProperties(1024, 64));
    writeFileSync(path, Buffer.concat([Buffer.from('BZV2'), endless]));
    await assert.rejects(readAll(path), failure('GK_ARTIFACT_CORRUPT', /no complete descriptor/));
  });
});

/** The artifact with another index, and its own hashes right: what a program that lies could write. */
async function withIndex(
  path: string,
  change: (index: ChangeableIndex, content: Buffer) => void,
): Promise<void> {
  const { file, index } = await openArtifact(path);
  await file.close();
  const [offset, storedBytes] = index!.frames.at(-1)!;
  const content = readFileSync(path).subarray(0, offset + storedBytes);
  const changed = JSON.parse(JSON.stringify(index)) as ChangeableIndex;
  change(changed, content);
  const stored = zstdCompressSync(JSON.stringify(changed));
  writeFileSync(path, Buffer.concat([content, writeIndexBlock(content.length, stored)]));
}

interface ChangeableIndex {
  frames: [number, number, number, number][];
  members: { path: string; bytes: number; sha256: string; firstFrame: number; kind: string }[];
}

/** The member of two frames. */
const BIG = 1;

describe('an index that does not fit its artifact', () => {
  const lies: [string, (index: ChangeableIndex, content: Buffer) => void, RegExp][] = [
    [
      'another hash',
      (index) => {
        index.members[BIG]!.sha256 = 'ab'.repeat(32);
      },
      /fails its SHA-256/,
    ],
    [
      'another size that needs as many blocks',
      (index) => {
        index.members[BIG]!.bytes -= 1;
      },
      /tar header/,
    ],
    [
      'another path',
      (index) => {
        index.members[0]!.path = 'neostore.other';
      },
      /tar header/,
    ],
    [
      'another checksum of a frame',
      (index) => {
        index.frames[2]![3] ^= 1;
        index.frames[2]![3] >>>= 0;
      },
      /checksum/,
    ],
    [
      'frames of other sizes, whose sum is right',
      (index) => {
        const { firstFrame } = index.members[BIG]!;
        index.frames[firstFrame]![2] -= 512;
        index.frames[firstFrame + 1]![2] += 512;
      },
      /./,
    ],
    [
      'an end of the tar that is none',
      (index, content) => {
        const end = index.frames.at(-1)!;
        content[end[0]] = 1;
        end[3] = crc32(content.subarray(end[0], end[0] + end[1]));
      },
      /./,
    ],
  ];
  for (const [what, lie, message] of lies) {
    test(`${what} is found`, async (context) => {
      for (const level of [undefined, 1]) {
        const path = await writeArtifact(makeFolder(temporaryFolder(context), 'x'), sample, level);
        await withIndex(path, () => {});
        await readAll(path);
        await withIndex(path, lie);
        await assert.rejects(readAll(path), failure('GK_ARTIFACT_CORRUPT', message), String(level));
      }
    });
  }

  test('a tar extension of absurd size is refused', async (context) => {
    const path = join(temporaryFolder(context), 'x.backup');
    const extension = writeTarHeader('pax', 2 * 1024 * 1024);
    extension[156] = 'x'.charCodeAt(0);
    extension.fill(0x20, 148, 156);
    const sum = extension.reduce((total, byte) => total + byte, 0);
    extension.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    const tar = Buffer.concat([extension, Buffer.alloc(2 * 1024 * 1024), tarOf(sample)]);
    writeFileSync(path, foreignArtifact('BTV2', [], tar));
    await assert.rejects(readAll(path), failure('GK_ARTIFACT_CORRUPT', /extension/));
  });
});

describe('an artifact of graphkeep without its index', () => {
  for (const level of [undefined, 1]) {
    const name = level === undefined ? 'uncompressed' : 'many zstd frames';
    test(`${name}: is read as a stream, as other tools read it`, async (context) => {
      const folder = temporaryFolder(context);
      const path = await writeArtifact(folder, sample, level, new Map());
      const { index, file } = await openArtifact(path);
      await file.close();
      const lastFrame = index!.frames.at(-1)!;
      assert.ok(index!.frames.length > sample.length + 2);
      writeFileSync(path, readFileSync(path).subarray(0, lastFrame[0] + lastFrame[1]));
      const { artifact, read } = await readAll(path);
      assert.equal(artifact.index, undefined);
      assertMembers(read, sample);
    });
  }
});

describe('an artifact of graphkeep whose end is lost', () => {
  test('is not taken for one of another tool', async (context) => {
    const folder = temporaryFolder(context);
    for (const level of [undefined, 1]) {
      const whole = readFileSync(await writeArtifact(makeFolder(folder, String(level)), sample, level));
      const path = join(folder, 'cut.backup');
      for (const lost of [1, 50, 200, 600, 5000]) {
        writeFileSync(path, whole.subarray(0, whole.length - lost));
        await assert.rejects(
          openArtifact(path),
          failure('GK_ARTIFACT_CORRUPT', /index/),
          `${lost} bytes lost`,
        );
      }
      writeFileSync(path, Buffer.concat([whole, Buffer.of(0)]));
      await assert.rejects(openArtifact(path), failure('GK_ARTIFACT_CORRUPT'), 'one byte more');
    }
  });
});
