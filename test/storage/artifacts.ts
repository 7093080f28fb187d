/**
 * What graphkeep does with a folder of artifacts, in an object store: the same suite for each real server. Databases are
 * those of the fixtures; nothing of the store is imitated.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { memberFromBytes } from '../../src/artifact/membersource.ts';
import { type ArtifactSink, ArtifactWriter } from '../../src/artifact/writer.ts';
import { listArtifactFiles, readCatalogue, summaryOf } from '../../src/chain/catalogue.ts';
import { CHUNK_BYTES } from '../../src/formats/age/payload.ts';
import { foldersBelow } from '../../src/neo4j/folders.ts';
import { aggregateChain } from '../../src/operations/aggregate.ts';
import { backupDatabase } from '../../src/operations/backup.ts';
import { expireArtifacts } from '../../src/operations/expire.ts';
import { inspectArtifacts } from '../../src/operations/inspect.ts';
import { cleanUpLeftovers } from '../../src/operations/leftovers.ts';
import { databasesOf, planRestore } from '../../src/operations/plan.ts';
import { restoreDatabase } from '../../src/operations/restore.ts';
import { validateArtifact } from '../../src/operations/validate.ts';
import { acquireLease } from '../../src/storage/lease.ts';
import { Publication } from '../../src/storage/local.ts';
import { ObjectPublication } from '../../src/storage/objects/publication.ts';
import {
  closeStores,
  openPath,
  removeArtifact,
  removePath,
  storeOf,
  useStoreSettings,
} from '../../src/storage/places.ts';
import { makeKey, useKeys } from '../fixtures/age.ts';
import { ChainScene, membersOf } from '../fixtures/chains.ts';
import { storeIdOf } from '../fixtures/lines.ts';
import { noise } from '../fixtures/random.ts';
import { failure, filesBelow, makeFolder, temporaryFolder } from '../fixtures/workspace.ts';
import type { RunningStore } from './servers.ts';
import {
  configurationIsWhole,
  damagedConfigurationIsNotPublished,
  wholeDbms,
  wholeDbmsInTwoPlaces,
} from './wholedbms.ts';

const LINE = '5.26';
const SEALED = { sealed: 'withSealed' } as const;
const HOUR_MS = 3_600_000;
/** Of one artifact: its two ends. What size it has is in the listing. */
const REQUESTS_PER_LISTED = 2;
/** An encrypted one is asked for its end twice over: by chunks, and where those are not enough for the index. */
const REQUESTS_PER_SEALED_MAX = 4;

export function artifactSuite(name: string, start: () => Promise<RunningStore | { skip: string }>): void {
  describe(`artifacts in ${name}`, async () => {
    const started = await start();
    if ('skip' in started) {
      test('a folder of artifacts', { skip: started.skip }, () => undefined);
      return;
    }
    const store = started;
    let folders = 0;
    /** Each test has a folder of its own. */
    const folder = (): string => `${store.url}/artifacts-${++folders}`;
    before(() => useStoreSettings(store.throughProxy));
    after(async () => {
      await closeStores();
      useStoreSettings({});
      await store.stop();
    });

    test('a chain is written, listed, proven, restored, folded and expired', (context) =>
      wholeLife(context, folder()));
    test('an artifact is inspected by a few requests', (context) => fewRequests(context, folder(), store));
    test('what was exchanged since it was listed is not read', () => exchangedIsNoticed(folder()));
    test('an encrypted chain lives as one that is not', async (context) => {
      const key = await makeKey();
      useKeys(context, { to: [key], open: [key], clearHeader: true });
      await wholeLife(context, folder());
    });
    test('an encrypted artifact is inspected by a few requests, with the key and without', (context) =>
      fewRequestsEncrypted(context, folder(), store));
    test('an interrupted backup leaves nothing', (context) => nothingIsLeft(context, folder()));
    test('what is taken back while it is written is not in the object', (context) =>
      goesBack(context, folder()));
    test('a name that is taken meanwhile is not overwritten', () => neverOverwrites(folder()));
    const skip = store.listsUploads ? false : 'this store lists the unfinished uploads of one name only';
    test('what a killed backup left is found and removed, and nothing younger', { skip }, (context) =>
      leftoversGo(context, folder()),
    );
    test('a whole Neo4j goes into the store and comes out of it', (context) =>
      wholeDbms(context, folder(), store));
    test('a whole Neo4j goes into a folder and the store at once', (context) =>
      wholeDbmsInTwoPlaces(context, folder(), store));
    test('a configuration comes through byte for byte, in several parts', (context) =>
      configurationIsWhole(context, folder()));
    test('of a configuration that is damaged or interrupted nothing is left', (context) =>
      damagedConfigurationIsNotPublished(context, folder()));
    test('leases keep each other out', () => leasesExclude(folder()));
    if (store.url.startsWith('s3:'))
      test('a lock keeps an artifact from being removed', (context) => lockHolds(context, store));
  });
}

async function wholeLife(context: TestContext, target: string): Promise<void> {
  const scene = new ChainScene(context, LINE);
  const local = await scene.backup('FULL');
  const full = await scene.backup('AUTO', { targetDirectory: target });
  assert.equal(full.kind, 'full');
  assert.ok(full.artifactPath.startsWith(`${target}/neo4j-`), full.artifactPath);
  scene.database.appendTo(30n);
  const differential = await scene.backup('AUTO', { targetDirectory: target });
  assert.deepEqual([differential.kind, differential.parentPath], ['differential', full.artifactPath]);

  const { artifacts, unreadable } = await inspectArtifacts(target);
  assert.deepEqual(unreadable, []);
  assert.deepEqual(
    artifacts.map(({ path }) => path).sort(),
    [full.artifactPath, differential.artifactPath].sort(),
  );
  for (const { path } of artifacts) assert.deepEqual((await validateArtifact(path)).problems, []);
  assert.deepEqual(await membersOf(full.artifactPath), await membersOf(local.artifactPath));

  const restored = foldersBelow(makeFolder(scene.root, 'restored'), 'neo4j');
  const result = await restoreDatabase({
    artifactPath: target,
    target: restored,
    overwriteDestination: false,
  });
  assert.equal(result.highestTransaction, 30n);
  assert.ok(filesBelow(restored.storeDirectory).size > 10);

  const form = { compress: true, compressionLevel: 1, keepFailed: false, keepOldBackup: false };
  const folded = await aggregateChain({ artifactPath: target, ...form });
  assert.deepEqual(
    (await readCatalogue(target)).artifacts.map(({ path }) => path),
    [folded.artifactPath],
  );
  assert.deepEqual((await validateArtifact(folded.artifactPath!)).problems, []);

  await scene.backup('FULL', { targetDirectory: target });
  const policy = { last: 1 };
  const expired = await expireArtifacts({ directory: target, policy, confirm: true });
  assert.deepEqual(
    expired.databases[0]!.removed.map(({ path }) => path),
    [folded.artifactPath],
  );
  assert.equal((await readCatalogue(target)).artifacts.length, 1);
}

async function fewRequests(context: TestContext, target: string, { proxy }: RunningStore): Promise<void> {
  const scene = new ChainScene(context, LINE);
  const asked = async (name: string, work: () => Promise<unknown>): Promise<number> => {
    const before = proxy.seen.length;
    await work();
    return proxy.seen.slice(before).filter(({ path }) => path.includes(name)).length;
  };
  const full = await scene.backup('FULL', { targetDirectory: target });
  const name = basename(full.artifactPath);
  assert.equal(await asked(name, () => inspectArtifacts(target)), REQUESTS_PER_LISTED);
  // A name of its own is looked for once more, since nothing was listed.
  assert.equal(await asked(name, () => summaryOf(full.artifactPath)), REQUESTS_PER_LISTED + 1);
  scene.database.appendTo(30n);
  const parents: (string | undefined)[] = [];
  const differential = async (): Promise<unknown> =>
    parents.push((await scene.backup('AUTO', { targetDirectory: target })).parentPath);
  assert.equal(await asked(name, differential), REQUESTS_PER_LISTED);
  assert.deepEqual(parents, [full.artifactPath]);
  const ofFolder = await asked('', () => inspectArtifacts(target, { isFile: false }));
  assert.equal(ofFolder, 1 + 2 * REQUESTS_PER_LISTED, 'one list, and the ends of both');
  const [source] = await databasesOf([target], undefined);
  const known = await asked('', () => planRestore(source!));
  const unknown = await asked('', () => planRestore({ artifactPath: target }));
  assert.ok(
    unknown >= known + ofFolder,
    `${unknown} requests instead of ${known}, and a folder is ${ofFolder}`,
  );
}

async function exchangedIsNoticed(target: string): Promise<void> {
  const store = await storeOf(target);
  await store.put('x.backup', Buffer.from('first'), { ifAbsent: true });
  const [listed] = await listArtifactFiles(target);
  assert.ok(listed !== undefined);
  const file = await openPath(listed.path, listed.facts);
  assert.equal(file.bytes, 5);
  assert.equal(await file.read(Buffer.alloc(9), 0), 5);
  await store.put('x.backup', Buffer.from('other'), { ifAbsent: false });
  const again = await openPath(listed.path, listed.facts);
  await assert.rejects(again.read(Buffer.alloc(5), 0), failure('GK_SOURCE_MOVED'));
}

/** Large enough that its ends do not meet. */
async function fewRequestsEncrypted(
  context: TestContext,
  target: string,
  { proxy }: RunningStore,
): Promise<void> {
  const scene = new ChainScene(context, LINE);
  const key = await makeKey();
  useKeys(context, { to: [key], clearHeader: true });
  const { artifactBytes } = await scene.backup('FULL', { targetDirectory: target, compress: false });
  assert.ok(artifactBytes > 4 * CHUNK_BYTES, `${artifactBytes} bytes`);
  for (const open of [[key], []]) {
    useKeys(context, { open });
    const before = proxy.seen.length;
    const { artifacts } = await inspectArtifacts(target, SEALED);
    assert.equal(artifacts[0]!.encrypted, open.length > 0 ? 'opened' : 'sealed');
    const asked = proxy.seen.slice(before).map(({ method, path }) => `${method} ${path}`);
    const ofArtifact = asked.filter((request) => request.includes('.backup'));
    assert.ok(ofArtifact.length >= 2 && ofArtifact.length <= REQUESTS_PER_SEALED_MAX, asked.join('\n'));
  }
}

async function nothingIsLeft(context: TestContext, target: string): Promise<void> {
  const scene = new ChainScene(context, LINE);
  const stop = new AbortController();
  const listener = { progress: () => stop.abort(), notice: () => undefined };
  const run = scene.backup('FULL', { targetDirectory: target, signal: stop.signal, listener });
  await assert.rejects(run, failure('GK_INTERRUPTED'));
  const store = await storeOf(target);
  const left: string[] = [];
  for await (const { key } of store.list('')) left.push(key);
  for await (const { key } of store.listUploads('')) left.push(`upload of ${key}`);
  assert.deepEqual(
    left.filter((key) => !key.startsWith('.graphkeep.lease')),
    [],
  );
}

const descriptor = {
  storeId: storeIdOf(LINE),
  databaseUuid: Buffer.alloc(16, 7),
  databaseName: 'neo4j',
  timeSeconds: 1n,
  lowestAppendIndex: 1n,
  highestAppendIndex: 2n,
  recovered: false,
  compressed: true,
  full: true,
  properties: new Map<string, Buffer>(),
};

/** Members that are taken back begin in the first part, in the middle of one, and at places that no part ends at. */
export async function writeWithRewinds(sink: ArtifactSink): Promise<void> {
  const writer = new ArtifactWriter(sink, 1);
  await writer.begin(descriptor);
  for (const [number, megabytes] of [3, 20, 1, 13, 9].entries()) {
    const mark = await writer.mark();
    await writer.addMember(
      memberFromBytes(`abandoned.${number}`, 'store', noise(megabytes * 1_000_003, number)),
    );
    await writer.rewind(mark);
    await writer.addMember(
      memberFromBytes(`kept.${number}`, 'store', noise(megabytes * 700_001, number + 50)),
    );
  }
  await writer.finish(descriptor, {
    writer: 'graphkeep test',
    parent: { appendIndex: '1', checksum: 1 },
    end: { logVersion: '0', offsetBytes: '128' },
    highestChecksum: 1,
    latestCommitMillis: '1',
    leftOut: [],
  });
}

async function goesBack(context: TestContext, target: string): Promise<void> {
  const local = temporaryFolder(context);
  const file = await Publication.create(local, 'x.backup');
  await writeWithRewinds(file);
  assert.ok(await file.publish(join(local, 'x.backup')));
  const store = await storeOf(target);
  const object = await ObjectPublication.begin(store, 'x.backup', {});
  await writeWithRewinds(object);
  assert.equal(await object.publish(), true);
  const expected = readFileSync(join(local, 'x.backup'));
  const facts = await store.stat('x.backup');
  assert.equal(facts?.bytes, expected.length);
  const got = Buffer.alloc(expected.length);
  await store.read('x.backup', 0, got);
  assert.equal(got.equals(expected), true);
}

async function lockHolds(context: TestContext, { throughProxy, hidesLocked }: RunningStore): Promise<void> {
  const target = 's3://locked/artifacts';
  const scene = new ChainScene(context, LINE);
  context.mock.timers.reset();
  const until = new Date(Date.now() + 60_000);
  useStoreSettings(throughProxy, { lock: { mode: 'governance', until } });
  try {
    const form = { ...scene.optionsFor({ type: 'FULL' }), targetDirectory: target };
    const { artifactPath } = await backupDatabase(scene.database.folders, form);
    const store = await storeOf(target);
    await assert.rejects(removeArtifact(artifactPath), failure('GK_NO_PERMISSION', /locked/));
    assert.ok((await store.stat(basename(artifactPath))) !== undefined, 'hidden by a marker');
    assert.deepEqual((await validateArtifact(artifactPath)).problems, []);
    // What turned out wrong, a copy or a result, must not stay in sight where the store can hide it.
    const isRemoved = await removePath(artifactPath).then(
      () => true,
      () => false,
    );
    assert.equal(isRemoved, hidesLocked);
    assert.equal((await store.stat(basename(artifactPath))) === undefined, hidesLocked);
  } finally {
    useStoreSettings(throughProxy);
  }
}

async function leftoversGo(context: TestContext, directory: string): Promise<void> {
  const store = await storeOf(directory);
  const killed = await store.beginUpload('killed.backup', {});
  await killed.putPart(1, noise(1000, 1));
  const names = async (confirm: boolean, olderThanMs = HOUR_MS): Promise<string[]> =>
    (await cleanUpLeftovers({ directory, olderThanMs, confirm })).map(({ key }) => key);
  assert.deepEqual(await names(true), [], 'it may be under way');
  await assert.rejects(names(true, HOUR_MS - 1), failure('GK_USAGE'));
  context.mock.timers.enable({ apis: ['Date'], now: Date.now() + 2 * HOUR_MS });
  try {
    assert.deepEqual(await names(false), ['killed.backup']);
    assert.deepEqual(await names(true), ['killed.backup']);
    assert.deepEqual(await names(true), []);
  } finally {
    context.mock.timers.reset();
  }
}

async function neverOverwrites(target: string): Promise<void> {
  const store = await storeOf(target);
  const object = await ObjectPublication.begin(store, 'taken.backup', {});
  await object.append(Buffer.from('ours'));
  await store.put('taken.backup', Buffer.from('theirs'), { ifAbsent: true });
  assert.equal(await object.publish(), false);
  const got = Buffer.alloc(6);
  await store.read('taken.backup', 0, got);
  assert.equal(got.toString(), 'theirs');
}

async function leasesExclude(target: string): Promise<void> {
  const once = { waitMs: 0 };
  const first = await acquireLease(target, 'shared', once);
  const second = await acquireLease(target, 'shared', once);
  await assert.rejects(
    acquireLease(target, 'exclusive', once),
    failure('GK_IN_USE', /\.graphkeep\.lease-shared-/),
  );
  first.release();
  second.release();
  const alone = await acquireLease(target, 'exclusive', { waitMs: 10_000 });
  for (const mode of ['shared', 'exclusive'] as const) {
    await assert.rejects(
      acquireLease(target, mode, once),
      failure('GK_IN_USE', /\.graphkeep\.lease-exclusive-/),
    );
  }
  alone.release();
  (await acquireLease(target, 'shared', { waitMs: 10_000 })).release();
}
