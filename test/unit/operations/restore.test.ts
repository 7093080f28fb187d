import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { memberKindOf } from '../../../src/artifact/tarstream.ts';
import { ArtifactWriter, type IndexFacts } from '../../../src/artifact/writer.ts';
import { GraphkeepError } from '../../../src/errors.ts';
import { writeArchiveMetadata } from '../../../src/formats/artifact/container.ts';
import { type ArtifactDescriptor, writeDescriptor } from '../../../src/formats/artifact/descriptor.ts';
import { TAR_END_BYTES, tarPadding, writeTarHeader } from '../../../src/formats/tar.ts';
import { MANDATORY_FILES } from '../../../src/hotcopy/storefiles.ts';
import { KIB, MIB } from '../../../src/limits.ts';
import type { DatabaseFolders } from '../../../src/neo4j/folders.ts';
import { backupDatabase } from '../../../src/operations/backup.ts';
import { restoreDatabase } from '../../../src/operations/restore.ts';
import type { RestoreOptions } from '../../../src/operations/types.ts';
import { validateArtifact } from '../../../src/operations/validate.ts';
import { Publication } from '../../../src/storage/local.ts';
import { tryLock } from '../../../src/storage/locks.ts';
import { foldersIn, makeDatabase, put } from '../../fixtures/database.ts';
import {
  CHECKPOINT_FIXTURE,
  fixture,
  LINES,
  type Line,
  LOG_FIXTURE,
  storeIdOf,
  transactionsOf,
} from '../../fixtures/lines.ts';
import {
  checkpointAfter,
  type LogFile,
  logFromFence,
  sealed,
  splitLog,
  writePosition,
} from '../../fixtures/logs.ts';
import { noise } from '../../fixtures/random.ts';
import {
  assertSameFiles,
  failure,
  filesBelow,
  isRoot,
  makeFolder,
  openFilesBelow,
  smallFileSystem,
  temporaryFolder,
} from '../../fixtures/workspace.ts';

interface Setting {
  readonly root: string;
  readonly source: DatabaseFolders;
  readonly artifact: string;
  readonly target: DatabaseFolders;
  readonly targetRoot: string;
}

async function makeSetting(
  context: TestContext,
  options: { line?: Line; compress?: boolean; storeBytes?: number } = {},
): Promise<Setting> {
  const root = temporaryFolder(context);
  const line = options.line ?? '5.26';
  const source = makeDatabase(join(root, 'source'), line, {
    propertyStoreBytes: options.storeBytes ?? 10 * 8192,
  });
  const { artifactPath } = await backupDatabase(source, {
    targetDirectory: makeFolder(root, 'backups'),
    compress: options.compress ?? true,
    compressionLevel: 1,
    keepFailed: false,
    type: 'FULL',
  });
  const targetRoot = makeFolder(root, 'target');
  return { root, source, artifact: artifactPath, target: foldersIn(targetRoot), targetRoot };
}

function optionsFor(setting: Setting, more: Partial<RestoreOptions> = {}): RestoreOptions {
  return { artifactPath: setting.artifact, target: setting.target, overwriteDestination: false, ...more };
}

/** What a restored database must consist of: the source without what no backup takes, and the log from the fence on. */
function expectedFiles(
  source: DatabaseFolders,
  line: Line,
): { store: Map<string, Buffer>; log: Map<string, Buffer> } {
  const leftOut = /^(database_lock|id-buffer\.tmp\.0|schema\/index\/text-2\.0\/5\/1\/write\.lock)$/;
  const store = [...filesBelow(source.storeDirectory)].filter(([name]) => !leftOut.test(name));
  const fromFence = logFromFence(line);
  const log = new Map([
    [LOG_FIXTURE, fromFence.log],
    [CHECKPOINT_FIXTURE, fromFence.checkpointFile],
  ]);
  return { store: new Map(store), log };
}

/** Nothing of the new database anywhere, and no scratch folders. Locks and empty parents may stay. */
function assertAbsent(setting: Setting): void {
  const names = [...filesBelow(setting.targetRoot).keys()];
  const allowed = ['databases/', 'transactions/', 'databases/store_lock'];
  assert.deepEqual(
    names.filter((name) => !allowed.includes(name)),
    [],
  );
  assert.deepEqual(openFilesBelow(setting.root), []);
}

for (const line of LINES) {
  for (const compress of [true, false]) {
    test(`restore of ${line}, ${compress ? '' : 'un'}compressed: the same bytes in the two folders`, async (context) => {
      const setting = await makeSetting(context, { line, compress, storeBytes: 5 * MIB });
      const result = await restoreDatabase(optionsFor(setting));
      const expected = expectedFiles(setting.source, line);
      assertSameFiles(filesBelow(setting.target.storeDirectory), expected.store);
      assertSameFiles(filesBelow(setting.target.logDirectory), expected.log);
      assert.deepEqual(readdirSync(join(setting.targetRoot, 'databases')).sort(), ['neo4j', 'store_lock']);
      assert.deepEqual(readdirSync(join(setting.targetRoot, 'transactions')), ['neo4j']);
      assert.deepEqual(
        [result.replacedExisting, result.verifiedByHash, result.highestTransaction],
        [false, true, 41n],
      );
      assert.deepEqual(openFilesBelow(setting.root), []);
    });
  }
}

test('what was restored can be backed up and restored again', async (context) => {
  const setting = await makeSetting(context);
  await restoreDatabase(optionsFor(setting));
  const again = await backupDatabase(setting.target, {
    targetDirectory: makeFolder(setting.root, 'again'),
    compress: true,
    compressionLevel: 1,
    keepFailed: false,
    type: 'FULL',
  });
  const second = foldersIn(makeFolder(setting.root, 'second'));
  await restoreDatabase({ artifactPath: again.artifactPath, target: second, overwriteDestination: false });
  assertSameFiles(filesBelow(second.storeDirectory), filesBelow(setting.target.storeDirectory));
  assertSameFiles(filesBelow(second.logDirectory), filesBelow(setting.target.logDirectory));
});

test('under another name it goes to the folders of that name', async (context) => {
  const setting = await makeSetting(context);
  const target = foldersIn(setting.targetRoot, 'other');
  await restoreDatabase(optionsFor(setting, { target }));
  assert.equal(existsSync(join(setting.targetRoot, 'databases/other/neostore')), true);
  assert.equal(existsSync(join(setting.targetRoot, 'databases/neo4j')), false);
});

describe('an existing database', () => {
  async function makeExisting(context: TestContext): Promise<Setting & { before: Map<string, Buffer> }> {
    const setting = await makeSetting(context);
    makeDatabase(setting.targetRoot, '2026.08', { seed: 50 });
    put(join(setting.targetRoot, 'databases/store_lock'), Buffer.alloc(0));
    return { ...setting, before: filesBelow(setting.targetRoot) };
  }

  test('is refused, and stays as it is', async (context) => {
    const setting = await makeExisting(context);
    await assert.rejects(restoreDatabase(optionsFor(setting)), failure('GK_TARGET_EXISTS', /neo4j exists/));
    assertSameFiles(filesBelow(setting.targetRoot), setting.before);
  });

  test('so is one of which only the log is there', async (context) => {
    const setting = await makeExisting(context);
    rmSync(setting.target.storeDirectory, { recursive: true });
    await assert.rejects(restoreDatabase(optionsFor(setting)), failure('GK_TARGET_EXISTS'));
    assert.equal(existsSync(join(setting.target.logDirectory, LOG_FIXTURE)), true);
  });

  test('is replaced on request, with nothing left of it', async (context) => {
    const setting = await makeExisting(context);
    const result = await restoreDatabase(optionsFor(setting, { overwriteDestination: true }));
    assert.equal(result.replacedExisting, true);
    const expected = expectedFiles(setting.source, '5.26');
    assertSameFiles(filesBelow(setting.target.storeDirectory), expected.store);
    assertSameFiles(filesBelow(setting.target.logDirectory), expected.log);
    assert.deepEqual(readdirSync(join(setting.targetRoot, 'databases')).sort(), ['neo4j', 'store_lock']);
    assert.deepEqual(readdirSync(join(setting.targetRoot, 'transactions')), ['neo4j']);
  });

  test('survives a corrupt artifact', async (context) => {
    const setting = await makeExisting(context);
    const bytes = readFileSync(setting.artifact);
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(setting.artifact, bytes);
    const run = restoreDatabase(optionsFor(setting, { overwriteDestination: true }));
    await assert.rejects(run, failure('GK_ARTIFACT_CORRUPT'));
    assertSameFiles(filesBelow(setting.targetRoot), setting.before);
    assert.deepEqual(openFilesBelow(setting.root), []);
  });

  test('survives an interruption at any report of progress', async (context) => {
    const setting = await makeExisting(context);
    for (const stopAt of [1, 4, 20]) {
      const stop = new AbortController();
      let reports = 0;
      const listener = {
        progress: () => {
          reports++;
          if (reports === stopAt) stop.abort();
        },
        notice: () => {},
      };
      const run = restoreDatabase(
        optionsFor(setting, { overwriteDestination: true, signal: stop.signal, listener }),
      );
      await assert.rejects(run, failure('GK_INTERRUPTED'));
      assertSameFiles(filesBelow(setting.targetRoot), setting.before);
      assert.deepEqual(openFilesBelow(setting.root), []);
    }
  });

  test('survives a full disk', async (context) => {
    const small = smallFileSystem(context, 1536 * KIB);
    if ('skip' in small) return context.skip(small.skip);
    const setting = { ...(await makeSetting(context, { storeBytes: MIB })), targetRoot: small.folder };
    const target = makeDatabase(small.folder, '2026.08', { seed: 50 });
    put(join(small.folder, 'databases/store_lock'), Buffer.alloc(0));
    const before = filesBelow(small.folder);
    const run = restoreDatabase(optionsFor({ ...setting, target }, { overwriteDestination: true }));
    await assert.rejects(run, failure('GK_NO_SPACE'));
    assertSameFiles(filesBelow(small.folder), before);
  });

  test('is refused while another process holds its lock: this process may not take it twice', async (context) => {
    const setting = await makeExisting(context);
    const lock = tryLock(join(setting.target.storeDirectory, 'database_lock'), { create: true })!;
    await assert.rejects(restoreDatabase(optionsFor(setting, { overwriteDestination: true })));
    lock.release();
    assertSameFiles(filesBelow(setting.targetRoot), setting.before);
  });
});

describe('a restore that fails leaves no database', () => {
  test('too little space, known before a byte is written', async (context) => {
    const small = smallFileSystem(context, 512 * KIB);
    if ('skip' in small) return context.skip(small.skip);
    const setting = { ...(await makeSetting(context, { storeBytes: MIB })), targetRoot: small.folder };
    const run = restoreDatabase(optionsFor({ ...setting, target: foldersIn(small.folder) }));
    await assert.rejects(run, failure('GK_NO_SPACE', /needs \d+/));
    assertAbsent(setting);
  });

  test('too little space, found while it is written: an artifact of another tool names no sizes', async (context) => {
    const small = smallFileSystem(context, 512 * KIB);
    if ('skip' in small) return context.skip(small.skip);
    const root = temporaryFolder(context);
    const artifact = join(root, 'x.backup');
    writeFileSync(artifact, foreignArtifact([...completeMembers(), ['big', Buffer.alloc(4 * MIB)]]));
    const setting = { root, artifact, target: foldersIn(small.folder), targetRoot: small.folder };
    const run = restoreDatabase({
      artifactPath: artifact,
      target: setting.target,
      overwriteDestination: false,
    });
    await assert.rejects(run, failure('GK_NO_SPACE'));
    assertAbsent({ ...setting, source: setting.target });
  });

  test('interrupted before it began', async (context) => {
    const setting = await makeSetting(context);
    const run = restoreDatabase(optionsFor(setting, { signal: AbortSignal.abort() }));
    await assert.rejects(run, failure('GK_INTERRUPTED'));
    assertAbsent(setting);
  });

  test('the artifact is missing', async (context) => {
    const setting = await makeSetting(context);
    rmSync(setting.artifact);
    await assert.rejects(restoreDatabase(optionsFor(setting)), failure('GK_NOT_FOUND'));
    assertAbsent(setting);
  });

  test('the target cannot be written', async (context) => {
    const setting = await makeSetting(context);
    const file = join(setting.root, 'file');
    writeFileSync(file, 'x');
    const run = restoreDatabase(optionsFor(setting, { target: foldersIn(join(file, 'data')) }));
    await assert.rejects(run, (error) => error instanceof GraphkeepError && error.code === 'GK_NOT_FOUND');
    assert.equal(readFileSync(file, 'utf8'), 'x');
  });

  for (const compress of [true, false]) {
    test(`an artifact cut at many lengths, ${compress ? '' : 'un'}compressed`, async (context) => {
      const setting = await makeSetting(context, { compress });
      const whole = readFileSync(setting.artifact);
      const lengths = new Set<number>();
      for (let length = 0; length < 400; length += 7) lengths.add(length);
      for (let back = 1; back < 3000; back += 131) lengths.add(whole.length - back);
      for (let part = 1; part < 40; part++) lengths.add(Math.floor((whole.length * part) / 40));
      for (const length of lengths) {
        writeFileSync(setting.artifact, whole.subarray(0, length));
        await assert.rejects(
          restoreDatabase(optionsFor(setting)),
          failure('GK_ARTIFACT_CORRUPT'),
          `${length} bytes`,
        );
        const { valid } = await validateArtifact(setting.artifact);
        assert.equal(valid, false, `validate of ${length} bytes`);
      }
      assertAbsent(setting);
    });
  }
});

test('owner and mode are those of the data folder, when root restores', async (context) => {
  if (!isRoot) return context.skip('only root can give files away');
  const setting = await makeSetting(context);
  for (const folder of ['databases', 'transactions']) {
    const path = makeFolder(setting.targetRoot, folder);
    chownSync(path, 7474, 7475);
    chmodSync(path, 0o750);
  }
  const umask = process.umask(0o077);
  try {
    await restoreDatabase(optionsFor(setting));
  } finally {
    process.umask(umask);
  }
  for (const name of filesBelow(setting.targetRoot).keys()) {
    const { uid, gid, mode } = statSync(join(setting.targetRoot, name));
    assert.deepEqual([uid, gid], [7474, 7475], name);
    assert.equal(mode & 0o777, name.endsWith('/') ? 0o750 : 0o640, name);
  }
});

// Artifacts that no backup writes

type NamedBytes = [path: string, content: Buffer];

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
  properties: new Map(),
};

function completeMembers(logs: readonly LogFile[] = splitLog('5.26', [])): NamedBytes[] {
  const stores = MANDATORY_FILES.filter((name) => name !== 'neostore');
  return [
    ...stores.map((name): NamedBytes => [name, noise(100, 1)]),
    ...logs.map((log): NamedBytes => [log.name, log.bytes]),
    ['neostore', fixture('5.26', 'neostore')],
    ['checkpoint.0', checkpointAfter('5.26', 32n, logs)],
  ];
}

function tarOf(members: readonly NamedBytes[]): Buffer {
  const parts = members.flatMap(([path, content]) => [
    writeTarHeader(path, content.length),
    content,
    Buffer.alloc(tarPadding(content.length)),
  ]);
  return Buffer.concat([...parts, Buffer.alloc(TAR_END_BYTES)]);
}

/** As another tool would write it: without an index. */
function foreignArtifact(members: readonly NamedBytes[], changes: Partial<ArtifactDescriptor> = {}): Buffer {
  const body = Buffer.concat([Buffer.of(2), writeDescriptor({ ...descriptor, ...changes })]);
  const stream = Buffer.concat([
    Buffer.from('zstd'),
    body,
    writeArchiveMetadata(members.length, 0),
    tarOf(members),
  ]);
  return Buffer.concat([Buffer.from('BZV2'), zstdCompressSync(stream)]);
}

/** As graphkeep writes it, with members that no snapshot would give. */
async function indexedArtifact(
  folder: string,
  members: readonly NamedBytes[],
  changes: Partial<IndexFacts> = {},
): Promise<string> {
  const publication = await Publication.create(folder, 'x');
  const writer = new ArtifactWriter(publication, 1);
  const properties = new Map([['graphkeep', Buffer.from('1')]]);
  const facts: IndexFacts = {
    writer: 'graphkeep test',
    fence: { logVersion: '0', offsetBytes: '128', appendIndex: '32', checkpointFile: 'checkpoint.0' },
    end: { logVersion: '0', offsetBytes: '500' },
    highestChecksum: transactionsOf(fixture('5.26', LOG_FIXTURE)).at(-1)!.checksum,
    latestCommitMillis: '1700000000000',
    leftOut: [],
  };
  await writer.begin({ ...descriptor, properties });
  for (const [path, content] of members) {
    await writer.addMember({
      path,
      kind: memberKindOf(path),
      bytes: content.length,
      read: async (target, position) => void content.copy(target, 0, position),
    });
  }
  await writer.finish({ ...descriptor, properties }, { ...facts, ...changes });
  const path = join(folder, 'x.backup');
  await publication.publish(path);
  return path;
}

describe('artifacts that no backup writes', () => {
  async function restoreForeign(context: TestContext, bytes: Buffer): Promise<Setting> {
    const root = temporaryFolder(context);
    const artifact = join(root, 'x.backup');
    writeFileSync(artifact, bytes);
    const targetRoot = makeFolder(root, 'deep/down/target');
    const target = foldersIn(targetRoot);
    return { root, source: target, artifact, target, targetRoot };
  }

  test('a complete one of another tool is restored, and not called verified', async (context) => {
    const setting = await restoreForeign(context, foreignArtifact(completeMembers()));
    assert.equal((await validateArtifact(setting.artifact)).valid, true);
    const result = await restoreDatabase(optionsFor(setting));
    assert.equal(result.verifiedByHash, false);
    assert.equal(existsSync(join(setting.target.storeDirectory, 'neostore')), true);
    assert.equal(existsSync(join(setting.target.logDirectory, LOG_FIXTURE)), true);
  });

  const escaping = ['../../../../escaped', '/tmp/escaped-graphkeep', 'schema/../../escaped', '..'];
  for (const path of escaping) {
    test(`an entry named ${path} is refused`, async (context) => {
      const setting = await restoreForeign(
        context,
        foreignArtifact([...completeMembers(), [path, Buffer.from('x')]]),
      );
      const before = [...filesBelow(setting.root).keys()];
      await assert.rejects(
        restoreDatabase(optionsFor(setting)),
        failure('GK_ARTIFACT_CORRUPT', /leaves its folder/),
      );
      assert.equal((await validateArtifact(setting.artifact)).valid, false);
      const after = [...filesBelow(setting.root).keys()].filter((name) => !before.includes(name));
      assert.deepEqual(
        after.filter((name) => !/target\/(databases|transactions)\/(store_lock)?$/.test(name)),
        [],
      );
      assertAbsent(setting);
    });
  }

  test('a differential one is refused', async (context) => {
    const setting = await restoreForeign(context, foreignArtifact(completeMembers(), { full: false }));
    await assert.rejects(restoreDatabase(optionsFor(setting)), failure('GK_UNSUPPORTED', /differential/));
    assertAbsent(setting);
  });

  test('one path twice, or a file where a folder is, is refused', async (context) => {
    for (const extra of [
      [['neostore', Buffer.from('x')]],
      [['neostore/x', Buffer.from('x')]],
      [['neostore.transaction.db.0', Buffer.from('x')]],
      [['sub/neostore.transaction.db.0', Buffer.from('x')]],
    ] as NamedBytes[][]) {
      const setting = await restoreForeign(context, foreignArtifact([...completeMembers(), ...extra]));
      await assert.rejects(restoreDatabase(optionsFor(setting)), (error) => error instanceof GraphkeepError);
      assertAbsent(setting);
    }
  });

  for (const missing of ['neostore', LOG_FIXTURE, CHECKPOINT_FIXTURE]) {
    test(`without ${missing} it is refused`, async (context) => {
      const members = completeMembers().filter(([name]) => name !== missing);
      const setting = await restoreForeign(context, foreignArtifact(members));
      await assert.rejects(restoreDatabase(optionsFor(setting)), failure('GK_ARTIFACT_CORRUPT', /holds no/));
      assert.equal((await validateArtifact(setting.artifact)).valid, false);
      assertAbsent(setting);
    });
  }

  test('an absurd size in a tar header ends in an error, not in a full disk', async (context) => {
    const header = writeTarHeader('huge', 2 ** 50);
    const stream = Buffer.concat([
      Buffer.from('zstd'),
      Buffer.of(2),
      writeDescriptor(descriptor),
      writeArchiveMetadata(1, 0),
      header,
      Buffer.alloc(10_000),
    ]);
    const bytes = Buffer.concat([Buffer.from('BZV2'), zstdCompressSync(stream)]);
    const setting = await restoreForeign(context, bytes);
    await assert.rejects(restoreDatabase(optionsFor(setting)), failure('GK_ARTIFACT_CORRUPT', /ends inside/));
    assertAbsent(setting);
  });

  test('a metadata script is written beside the data, readable for its owner only', async (context) => {
    const properties = new Map([['metadataScript', Buffer.from('CREATE ROLE x')]]);
    const setting = await restoreForeign(context, foreignArtifact(completeMembers(), { properties }));
    const { metadataScriptPath } = await restoreDatabase(optionsFor(setting));
    assert.equal(readFileSync(metadataScriptPath!, 'utf8'), 'CREATE ROLE x');
    assert.equal(statSync(metadataScriptPath!).mode & 0o777, 0o600);
  });

  test('a metadata script that cannot be decompressed is refused, and nothing is left', async (context) => {
    const properties = new Map([['compressedMetadataScript', Buffer.from('no gzip')]]);
    const setting = await restoreForeign(context, foreignArtifact(completeMembers(), { properties }));
    await assert.rejects(
      restoreDatabase(optionsFor(setting)),
      failure('GK_ARTIFACT_CORRUPT', /metadata script/),
    );
    assertAbsent(setting);
  });
});

describe('validate finds', () => {
  const split = (): LogFile[] => splitLog('5.26', [35n, 38n]);
  const without = (name: string): NamedBytes[] => completeMembers(split()).filter(([path]) => path !== name);
  const replaced = (name: string, content: Buffer): NamedBytes[] => [
    ...without(name).filter(([path]) => path !== 'checkpoint.0'),
    [name, content],
    ['checkpoint.0', checkpointAfter('5.26', 32n, split())],
  ];
  const withCheckpoint = (index: bigint, change: (entry: Buffer) => void): NamedBytes[] => {
    const checkpoint = checkpointAfter('5.26', index, split());
    change(checkpoint.subarray(128));
    sealed(checkpoint.subarray(128));
    return [...without('checkpoint.0'), ['checkpoint.0', checkpoint]];
  };
  const log = (number: number): Buffer => split()[number]!.bytes;

  const cases: [string, () => NamedBytes[], RegExp][] = [
    ['a store file that is missing', () => without('neostore.nodestore.db'), /lacks neostore\.nodestore\.db/],
    ['no checkpoint', () => without('checkpoint.0'), /checkpoint/],
    ['the log of the fence missing', () => without('neostore.transaction.db.0'), /recovery starts/],
    ['a log file missing in the middle', () => without('neostore.transaction.db.1'), /missing/],
    ['a log that ends too early', () => without('neostore.transaction.db.2'), /ends at transaction 38/],
    [
      'a log cut inside a transaction',
      () => replaced('neostore.transaction.db.2', log(2).subarray(0, -9)),
      /inside/,
    ],
    [
      'garbage behind a log',
      () => replaced('neostore.transaction.db.2', Buffer.concat([log(2), Buffer.alloc(9), Buffer.of(1)])),
      /goes on after/,
    ],
    [
      'a flipped bit in a log whose hash was made from it',
      () => {
        const bytes = Buffer.from(log(1));
        bytes[300]! ^= 1;
        return replaced('neostore.transaction.db.1', bytes);
      },
      /neostore\.transaction\.db\.1/,
    ],
    [
      'zeros behind a log that is not the newest: Neo4j does not start with them',
      () => replaced('neostore.transaction.db.1', Buffer.concat([log(1), Buffer.alloc(500)])),
      /neostore\.transaction\.db\.1/,
    ],
    ['logs of another store', () => replaced('neostore', fixture('2026.08', 'neostore')), /one store/],
    ['a neostore that is none', () => replaced('neostore', noise(8192, 3)), /mark/],
    [
      'a checkpoint without an entry',
      () => [...without('checkpoint.0'), ['checkpoint.0', fixture('5.26', 'checkpoint.0').subarray(0, 128)]],
      /no valid checkpoint/,
    ],
    [
      'a checkpoint whose position is inside a transaction',
      () => withCheckpoint(32n, (entry) => writePosition(entry, 0n, entry.readBigInt64LE(10) + 9n)),
      /no transaction end/,
    ],
    [
      'a checkpoint that names a transaction which the log has lost',
      () => {
        const whole = splitLog('5.26', []);
        const { startBytes } = transactionsOf(whole[0]!.bytes).at(-1)!;
        const cut = [{ ...whole[0]!, bytes: whole[0]!.bytes.subarray(0, startBytes) }];
        const checkpoint = checkpointAfter('5.26', 41n, whole);
        writePosition(checkpoint.subarray(128), 0n, BigInt(startBytes));
        sealed(checkpoint.subarray(128));
        const others = completeMembers(whole).filter(
          ([path]) => !/^(checkpoint|neostore\.transaction)/.test(path),
        );
        return [...others, [cut[0]!.name, cut[0]!.bytes], ['checkpoint.0', checkpoint]];
      },
      /ends before transaction 41/,
    ],
    [
      'a checkpoint that names another transaction than the log holds',
      () => {
        const file = checkpointAfter('5.26', 32n, split());
        const entry = file.subarray(128);
        entry.writeUInt32LE(0x12345678, 2 + 32 + 8 + 64 + 17);
        return [
          ...without('checkpoint.0'),
          ['checkpoint.0', Buffer.concat([file.subarray(0, 128), sealed(entry)])],
        ];
      },
      /transaction 32/,
    ],
  ];

  test('nothing in the artifact that the cases below are made of', async (context) => {
    const folder = temporaryFolder(context);
    const result = await validateArtifact(await indexedArtifact(folder, completeMembers(split())));
    assert.deepEqual([result.valid, result.problems], [true, []]);
    assert.equal(result.transactionsChecked, 9n);
  });

  for (const [what, members, message] of cases) {
    test(what, async (context) => {
      const folder = temporaryFolder(context);
      const indexed = await validateArtifact(await indexedArtifact(folder, members()));
      assert.equal(indexed.valid, false, 'with an index');
      assert.match(indexed.problems.join(), message);
      writeFileSync(join(folder, 'foreign.backup'), foreignArtifact(members()));
      const foreign = await validateArtifact(join(folder, 'foreign.backup'));
      assert.equal(foreign.valid, false, 'of another tool');
      assert.deepEqual(openFilesBelow(folder), []);
    });
  }

  test('an index that names another last transaction, or another fence', async (context) => {
    const fence = { logVersion: '0', offsetBytes: '128', appendIndex: '31', checkpointFile: 'checkpoint.0' };
    for (const changes of [{ highestChecksum: 8 }, { fence }]) {
      const folder = temporaryFolder(context);
      const path = await indexedArtifact(folder, completeMembers(split()), changes);
      assert.match((await validateArtifact(path)).problems.join(), /its index names another/);
    }
  });

  test('that a header names another highest transaction than the log', async (context) => {
    const path = join(temporaryFolder(context), 'x.backup');
    writeFileSync(path, foreignArtifact(completeMembers(), { highestAppendIndex: 42n }));
    assert.match(
      (await validateArtifact(path)).problems.join(),
      /ends at transaction 41, its header says 42/,
    );
  });

  test('nothing to say about a file that is not there: that is an error', async (context) => {
    await assert.rejects(validateArtifact(join(temporaryFolder(context), 'no')), failure('GK_NOT_FOUND'));
  });
});
