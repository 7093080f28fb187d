/** Artifacts on their way between a disk and two real stores, and to all of them at once: what arrives is what set out. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { foldersBelow } from '../../src/neo4j/folders.ts';
import { openInstallation } from '../../src/neo4j/installation.ts';
import { ArtifactCopies, type CopiedArtifact } from '../../src/operations/artifactcopy.ts';
import { BackupPlaces } from '../../src/operations/backupplaces.ts';
import { readConfiguration } from '../../src/operations/configuration.ts';
import { writeConfigurationArtifact } from '../../src/operations/configurationbackup.ts';
import { inspectArtifacts } from '../../src/operations/inspect.ts';
import { restoreDatabase } from '../../src/operations/restore.ts';
import { SeveralPlaces } from '../../src/operations/severalplaces.ts';
import type { OperationContext } from '../../src/operations/types.ts';
import { validateArtifact } from '../../src/operations/validate.ts';
import { Publication } from '../../src/storage/local.ts';
import { closeStores, removePath, storeOf, useStoreSettings } from '../../src/storage/places.ts';
import { ChainScene, HIGHEST } from '../fixtures/chains.ts';
import { makeHome } from '../fixtures/installations.ts';
import { failure, makeFolder, namesIn, temporaryFolder } from '../fixtures/workspace.ts';
import { writeWithRewinds } from './artifacts.ts';
import { startFakeGcs } from './fakegcs.ts';
import { readAll } from './suitetools.ts';
import { startVersity } from './versity.ts';

async function copyAll(
  from: string,
  to: string,
  verifyTarget = false,
  context: OperationContext = {},
): Promise<CopiedArtifact[]> {
  const copies = await ArtifactCopies.begin({ from, to, latestChain: false, verifyTarget, dryRun: false });
  try {
    const results: CopiedArtifact[] = [];
    for (const item of copies.items) results.push(await copies.copy(item, context));
    return results;
  } finally {
    copies.end();
  }
}

async function keysIn(folder: string): Promise<string[]> {
  const store = await storeOf(folder);
  const keys: string[] = [];
  for await (const { key } of store.list('')) keys.push(key);
  for await (const { key } of store.listUploads('')) keys.push(`upload of ${key}`);
  return keys.filter((key) => !key.startsWith('.graphkeep.lease')).sort();
}

describe('copies between a disk, an S3 and a Google store', async () => {
  const [amazon, google] = [await startVersity(), await startFakeGcs()];
  if ('skip' in amazon || 'skip' in google) {
    const reason = 'skip' in amazon ? amazon.skip : 'skip' in google ? google.skip : '';
    test('copies', { skip: reason }, () => undefined);
    if (!('skip' in amazon)) await amazon.stop();
    if (!('skip' in google)) await google.stop();
    return;
  }
  before(() => useStoreSettings({ ...amazon.throughProxy, ...google.direct }));
  after(async () => {
    await closeStores();
    useStoreSettings({});
    await amazon.stop();
    await google.stop();
  });

  test('a chain moves from a volume into the cloud and goes on there', async (context) => {
    const scene = new ChainScene(context, '5.26');
    const full = await scene.backup('FULL');
    const first = await scene.backupAt(25n, 'DIFF');
    const cloud = `${amazon.url}/moved`;
    const results = await copyAll(scene.target, cloud);
    assert.deepEqual(
      results.map(({ action, proven, sourcePath }) => [action, proven, sourcePath]),
      [full, first].map(({ artifactPath }) => ['copied', true, artifactPath]),
    );
    const next = await scene.backupAt(30n, 'DIFF', { targetDirectory: cloud });
    assert.equal(next.parentPath, `${cloud}/${basename(first.artifactPath)}`);
    assert.equal(next.kind, 'differential');
    const { artifacts, chains } = await inspectArtifacts(cloud);
    assert.deepEqual([artifacts.length, chains.map(({ artifacts: all }) => all.length)], [3, [3]]);
    for (const { path } of artifacts) assert.deepEqual((await validateArtifact(path)).problems, []);
    const target = foldersBelow(makeFolder(scene.root, 'restored'), 'neo4j');
    const restored = await restoreDatabase({ artifactPath: cloud, target, overwriteDestination: false });
    assert.equal(restored.highestTransaction, 30n);
  });

  test('disk to S3 to Google and back: every byte', async (context) => {
    const scene = new ChainScene(context, '2026.08');
    await scene.backup('FULL');
    await scene.backupAt(25n, 'DIFF', { compress: false });
    await scene.backupAt(HIGHEST, 'DIFF');
    const places = [`${amazon.url}/round`, `${google.url}/round`, makeFolder(scene.root, 'back')];
    let from = scene.target;
    for (const to of places) {
      await copyAll(from, to, true);
      const again = await copyAll(from, to, true);
      assert.deepEqual(
        again.map(({ action, proven }) => [action, proven]),
        Array(3).fill(['present', true]),
      );
      from = to;
    }
    const back = places[2]!;
    assert.equal(namesIn(back).length, 3);
    for (const name of namesIn(scene.target))
      assert.ok(readFileSync(join(back, name)).equals(readFileSync(join(scene.target, name))), name);
  });

  test('the connection is cut, the run is interrupted: nothing stays, and the next run goes on', async (context) => {
    const scene = new ChainScene(context, '5.26');
    const { artifactPath } = await scene.backup('FULL');
    const cloud = `${amazon.url}/interrupted`;
    const stop = new AbortController();
    const listener = { progress: () => stop.abort(), notice: () => undefined };
    const run = copyAll(scene.target, cloud, false, { signal: stop.signal, listener });
    await assert.rejects(run, failure('GK_INTERRUPTED'));
    assert.deepEqual(await keysIn(cloud), []);
    amazon.proxy.break(1, { kind: 'cut' }, ({ method }) => method === 'PUT');
    const [result] = await copyAll(scene.target, cloud);
    assert.equal(result?.action, 'copied');
    const copied = await readAll(await storeOf(cloud), basename(artifactPath));
    assert.ok(copied.equals(readFileSync(artifactPath)));
  });

  test('a store that is gone is waited for once, not with each artifact', async (context) => {
    const scene = new ChainScene(context, '5.26');
    await scene.backup('FULL');
    await scene.backupAt(25n, 'FULL');
    const settings = { ...amazon.throughProxy, patienceMs: 300 };
    await closeStores();
    useStoreSettings(settings);
    const options = { from: scene.target, to: `${amazon.url}/gone`, latestChain: false };
    const copies = await ArtifactCopies.begin({ ...options, verifyTarget: false, dryRun: false });
    try {
      amazon.proxy.break(10_000, { kind: 'cut' });
      const [first, second] = copies.items;
      await assert.rejects(copies.copy(first!), failure('GK_CONNECTION_LOST'));
      const asked = amazon.proxy.hits;
      await assert.rejects(copies.copy(second!), failure('GK_CONNECTION_LOST', /was not tried/));
      assert.equal(amazon.proxy.hits, asked);
    } finally {
      amazon.proxy.heal();
      copies.end();
      await closeStores();
      useStoreSettings({ ...amazon.throughProxy, ...google.direct });
    }
  });

  test('another object has the name: it stays as it is', async (context) => {
    const scene = new ChainScene(context, '5.26');
    const { artifactPath } = await scene.backup('FULL');
    const cloud = `${google.url}/taken`;
    const store = await storeOf(cloud);
    const name = basename(artifactPath);
    await store.put(name, Buffer.alloc(1000), { ifAbsent: true });
    await assert.rejects(copyAll(scene.target, cloud), failure('GK_TARGET_EXISTS'));
    assert.deepEqual(await readAll(store, name), Buffer.alloc(1000));
    await removePath(`${cloud}/${name}`);
    // While the copy is under way.
    const listener = {
      progress: () => void store.put(name, Buffer.alloc(10), { ifAbsent: true }),
      notice: () => undefined,
    };
    await assert.rejects(copyAll(scene.target, cloud, false, { listener }), failure('GK_TARGET_EXISTS'));
    assert.deepEqual(await keysIn(cloud), [name]);
    assert.equal((await readAll(store, name)).length, 10);
  });

  test('one backup goes to a disk and two stores; a differential follows it in all', async (context) => {
    const scene = new ChainScene(context, '2026.08');
    const clouds = [`${amazon.url}/three`, `${google.url}/three`];
    const full = await scene.backup('AUTO', { alsoTo: clouds });
    const differential = await scene.backupAt(30n, 'AUTO', { alsoTo: clouds });
    assert.deepEqual([differential.kind, differential.parentPath], ['differential', full.artifactPath]);
    for (const { artifactPath, places } of [full, differential]) {
      const name = basename(artifactPath);
      assert.deepEqual(
        places?.map((place) => place.artifactPath),
        [scene.target, ...clouds].map((folder) => `${folder}/${name}`),
      );
      for (const folder of clouds)
        assert.ok((await readAll(await storeOf(folder), name)).equals(readFileSync(artifactPath)), folder);
    }
    const target = foldersBelow(makeFolder(scene.root, 'restored'), 'neo4j');
    const from = { artifactPath: clouds[1]!, target, overwriteDestination: false };
    assert.equal((await restoreDatabase(from)).highestTransaction, 30n);
  });

  const refuseParts = (): void =>
    amazon.proxy.break(
      100,
      { kind: 'answer', status: 403, body: '<Error><Code>AccessDenied</Code></Error>' },
      ({ method, path }) => method === 'PUT' && path.includes('partNumber='),
    );

  test('a store that refuses the last part: nothing is published anywhere', async (context) => {
    const scene = new ChainScene(context, '5.26');
    const clouds = [`${google.url}/all`, `${amazon.url}/all`];
    refuseParts();
    try {
      await assert.rejects(scene.backup('FULL', { alsoTo: clouds }), failure('GK_NO_PERMISSION'));
      assert.ok(amazon.proxy.hits > 0);
    } finally {
      amazon.proxy.heal();
    }
    assert.deepEqual(
      [namesIn(scene.target), await keysIn(clouds[0]!), await keysIn(clouds[1]!)],
      [[], [], []],
    );
  });

  test('with any of them, it is left out, and the next backup brings it back', async (context) => {
    const scene = new ChainScene(context, '5.26');
    const clouds = [`${amazon.url}/any`, `${google.url}/any`];
    const more = { alsoTo: clouds, require: 'any' } as const;
    await scene.backup('FULL', more);
    refuseParts();
    let alone: Awaited<ReturnType<typeof scene.backup>>;
    try {
      alone = await scene.backupAt(25n, 'AUTO', more);
    } finally {
      amazon.proxy.heal();
    }
    assert.deepEqual(
      alone.places?.map(({ error }) => error?.code),
      [undefined, 'GK_NO_PERMISSION', undefined],
    );
    assert.equal((await keysIn(clouds[0]!)).length, 1);
    assert.equal((await keysIn(clouds[1]!)).length, 2);
    const next = await scene.backupAt(30n, 'AUTO', more);
    assert.equal(next.fullBecause?.reason, 'placesDiffer');
    assert.deepEqual(
      next.places?.map(({ error }) => error),
      [undefined, undefined, undefined],
    );
  });

  test('a configuration, and a store that refuses its part: in none of them, or in the others', async (context) => {
    const root = temporaryFolder(context);
    const installation = await openInstallation({ home: makeHome(join(root, 'home')), environment: {} });
    const content = await readConfiguration({ installation, includePlugins: true });
    const [disk, near, far] = [makeFolder(root, 'disk'), `${google.url}/settings`, `${amazon.url}/settings`];
    const all = { targetDirectory: disk, alsoTo: [near, far] };
    refuseParts();
    try {
      await assert.rejects(writeConfigurationArtifact(content, all), failure('GK_NO_PERMISSION'));
      assert.deepEqual([namesIn(disk), await keysIn(near), await keysIn(far)], [[], [], []]);
      const any = await writeConfigurationArtifact(content, { ...all, require: 'any' });
      assert.deepEqual(
        any.places?.map(({ error }) => error?.code),
        [undefined, undefined, 'GK_NO_PERMISSION'],
      );
    } finally {
      amazon.proxy.heal();
    }
    const name = basename((await writeConfigurationArtifact(content, all)).artifactPath);
    assert.deepEqual([(await keysIn(near)).length, await keysIn(far)], [2, [name]]);
    for (const folder of [near, far])
      assert.ok((await readAll(await storeOf(folder), name)).equals(readFileSync(join(disk, name))));
  });

  test('what is taken back while it is written is in none of them', async (context) => {
    const scene = new ChainScene(context, '5.26');
    const clouds = [`${amazon.url}/rewound`, `${google.url}/rewound`];
    const options = scene.optionsFor({ alsoTo: clouds });
    const places = await BackupPlaces.open(options);
    const sink = await SeveralPlaces.begin(places, { nameAt: () => 'x.backup', partialName: 'x.backup' });
    await writeWithRewinds(sink);
    assert.equal(await sink.publish(), join(scene.target, 'x.backup'));
    places.release();
    const disk = temporaryFolder(context);
    const alone = await Publication.create(disk, 'x.backup');
    await writeWithRewinds(alone);
    assert.ok(await alone.publish(join(disk, 'x.backup')));
    const expected = readFileSync(join(disk, 'x.backup'));
    assert.ok(readFileSync(join(scene.target, 'x.backup')).equals(expected));
    for (const folder of clouds)
      assert.ok((await readAll(await storeOf(folder), 'x.backup')).equals(expected));
  });
});
