/** Encrypted artifacts through the life of a chain: with a key, without one, and with what they say in the clear. */
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { readRange } from '../../../src/artifact/bytes.ts';
import { openContent } from '../../../src/artifact/sealedfile.ts';
import { GraphkeepError } from '../../../src/errors.ts';
import { isAge } from '../../../src/formats/age/header.ts';
import { CHUNK_BYTES } from '../../../src/formats/age/payload.ts';
import type { Aside, OpenGroup, SnapshotGroup } from '../../../src/hotcopy/group.ts';
import { type BackupSource, localSource } from '../../../src/hotcopy/source.ts';
import { stageGroup } from '../../../src/hotcopy/staged.ts';
import { openTree } from '../../../src/hotcopy/tree.ts';
import { KIB } from '../../../src/limits.ts';
import { foldersBelow } from '../../../src/neo4j/folders.ts';
import { aggregateChain } from '../../../src/operations/aggregate.ts';
import { backupFrom } from '../../../src/operations/backup.ts';
import { expireArtifacts } from '../../../src/operations/expire.ts';
import { inspectArtifacts, inspectLatestChain } from '../../../src/operations/inspect.ts';
import { planRestore } from '../../../src/operations/plan.ts';
import { restoreDatabase } from '../../../src/operations/restore.ts';
import { validateArtifact } from '../../../src/operations/validate.ts';
import { Publication } from '../../../src/storage/local.ts';
import { type KeyPair, makeKey, useKeys } from '../../fixtures/age.ts';
import { ChainScene, HIGHEST, membersOf } from '../../fixtures/chains.ts';
import { LINES } from '../../fixtures/lines.ts';
import { noise } from '../../fixtures/random.ts';
import { failure, filesBelow, makeFolder, namesIn, smallFileSystem } from '../../fixtures/workspace.ts';

const SEALED = { sealed: 'withSealed' } as const;
const FORM = { compress: true, compressionLevel: 1, keepFailed: false, keepOldBackup: false };

async function sceneWithKey(context: TestContext): Promise<{ scene: ChainScene; key: KeyPair }> {
  return { scene: new ChainScene(context, '5.26'), key: await makeKey() };
}

function restoreTo(scene: ChainScene, name: string, artifactPath = scene.target) {
  const target = foldersBelow(makeFolder(scene.root, name), 'neo4j');
  return restoreDatabase({ artifactPath, target, overwriteDestination: false });
}

describe('with the key', () => {
  for (const line of LINES) {
    for (const compress of [true, false]) {
      test(`a chain of ${line} lives as one that is not encrypted, ${compress ? '' : 'un'}compressed`, async (context) => {
        const scene = new ChainScene(context, line);
        const key = await makeKey();
        const plain = await scene.backup('FULL', {
          targetDirectory: makeFolder(scene.root, 'plain'),
          compress,
        });
        useKeys(context, { to: [key], open: [key] });
        const full = await scene.backup('AUTO', { compress });
        const differential = await scene.backupAt(30n, 'AUTO', { compress });
        assert.deepEqual([differential.kind, differential.parentPath], ['differential', full.artifactPath]);
        for (const { artifactPath, artifactBytes } of [full, differential]) {
          const stored = readFileSync(artifactPath);
          assert.equal(stored.length, artifactBytes);
          assert.equal(isAge(stored), true);
          assert.deepEqual((await validateArtifact(artifactPath)).problems, []);
        }
        assert.deepEqual(await membersOf(full.artifactPath), await membersOf(plain.artifactPath));
        const { artifacts, unreadable, chains } = await inspectArtifacts(scene.target);
        assert.deepEqual(unreadable, []);
        assert.deepEqual(
          artifacts.map(({ bytes, encrypted }) => [bytes, encrypted]),
          [differential, full].map(({ artifactBytes }) => [artifactBytes, 'opened']),
        );
        assert.equal(chains[0]!.restorable.to, 30n);
        assert.equal((await restoreTo(scene, 'restored')).highestTransaction, 30n);

        const folded = await aggregateChain({ artifactPath: scene.target, ...FORM });
        assert.deepEqual(namesIn(scene.target), [basename(folded.artifactPath)]);
        assert.equal(isAge(readFileSync(folded.artifactPath)), true);
        assert.equal((await restoreTo(scene, 'again')).highestTransaction, 30n);
        const restored = ['restored', 'again'].map((name) =>
          filesBelow(foldersBelow(join(scene.root, name), 'neo4j').storeDirectory),
        );
        assert.deepEqual(restored[0], restored[1]);
      });
    }
  }

  test('what comes out is byte for byte an artifact as it is without encryption', async (context) => {
    const { scene, key } = await sceneWithKey(context);
    useKeys(context, { to: [key], open: [key] });
    const { artifactPath } = await scene.backup('FULL');
    const file = await openContent(artifactPath);
    const content = await readRange(file, 0, file.bytes);
    await file.close();
    useKeys(context, {});
    const path = join(makeFolder(scene.root, 'opened'), basename(artifactPath));
    writeFileSync(path, content);
    assert.deepEqual((await validateArtifact(path)).problems, []);
    assert.equal((await restoreTo(scene, 'restored', path)).highestTransaction, 20n);
  });

  test('the head may reach over many chunks', async (context) => {
    const { scene, key } = await sceneWithKey(context);
    useKeys(context, { to: [key], open: [key], clearHeader: true });
    const metadataScript = noise(5 * CHUNK_BYTES, 3).toString('base64');
    const { artifactPath } = await scene.backup('FULL', { metadataScript });
    assert.deepEqual((await validateArtifact(artifactPath)).problems, []);
    assert.equal((await inspectArtifacts(artifactPath)).artifacts[0]!.highestTransaction, 20n);
  });

  test('the newest key may be another one: the result is proven all the same', async (context) => {
    const { scene, key } = await sceneWithKey(context);
    const newKey = await makeKey();
    useKeys(context, { to: [key], open: [key] });
    await scene.backup('FULL');
    await scene.backupAt(30n);
    useKeys(context, { to: [newKey], open: [key] });
    const { artifactPath, removed } = await aggregateChain({ artifactPath: scene.target, ...FORM });
    assert.equal(removed.length, 2);
    useKeys(context, { open: [newKey] });
    assert.deepEqual((await validateArtifact(artifactPath)).problems, []);
    useKeys(context, { open: [key] });
    await assert.rejects(validateArtifact(artifactPath), failure('GK_KEY_MISSING', /for other keys/));
  });

  test('what was encrypted is not aggregated into something plain', async (context) => {
    const { scene, key } = await sceneWithKey(context);
    useKeys(context, { to: [key], open: [key] });
    await scene.backup('FULL');
    await scene.backupAt(30n);
    const before = namesIn(scene.target);
    useKeys(context, { open: [key] });
    await assert.rejects(
      aggregateChain({ artifactPath: scene.target, ...FORM }),
      failure('GK_USAGE', /is encrypted, and the result would not be/),
    );
    assert.deepEqual(namesIn(scene.target), before);
  });

  test('an interrupted backup leaves nothing', async (context) => {
    const { scene, key } = await sceneWithKey(context);
    useKeys(context, { to: [key] });
    const stop = new AbortController();
    const listener = { progress: () => stop.abort(), notice: () => undefined };
    await assert.rejects(scene.backup('FULL', { signal: stop.signal, listener }), failure('GK_INTERRUPTED'));
    assert.deepEqual(namesIn(scene.target), []);
  });
});

describe('without the key', () => {
  test('an artifact is told from a damaged one, and nothing is done with it', async (context) => {
    const { scene, key } = await sceneWithKey(context);
    useKeys(context, { to: [key] });
    const { artifactPath } = await scene.backup('FULL');
    useKeys(context, {});
    const { artifacts, unreadable } = await inspectArtifacts(scene.target);
    assert.deepEqual([artifacts, unreadable.map(({ code }) => code)], [[], ['GK_KEY_MISSING']]);
    const missing = failure('GK_KEY_MISSING', /is encrypted/);
    await assert.rejects(inspectArtifacts(artifactPath), missing);
    await assert.rejects(validateArtifact(artifactPath), missing);
    await assert.rejects(restoreTo(scene, 'restored'), missing);
    await assert.rejects(restoreTo(scene, 'restored too', artifactPath), missing);
    await assert.rejects(aggregateChain({ artifactPath: scene.target, ...FORM }), missing);
    const policy = { last: 1 };
    await assert.rejects(expireArtifacts({ directory: scene.target, policy, confirm: true }), missing);
    assert.deepEqual(namesIn(scene.target), [basename(artifactPath)]);
  });

  test('nothing is removed that an encrypted artifact may build on', async (context) => {
    const { scene, key } = await sceneWithKey(context);
    await scene.backup('FULL');
    useKeys(context, { to: [key] });
    await scene.backupAt(25n, 'DIFF');
    useKeys(context, {});
    await scene.backupAt(30n, 'FULL');
    const before = namesIn(scene.target);
    const expire = { directory: scene.target, policy: { last: 1 }, confirm: true };
    await assert.rejects(expireArtifacts(expire), failure('GK_KEY_MISSING', /nothing is removed/));
    assert.deepEqual(namesIn(scene.target), before);
    useKeys(context, { open: [key] });
    assert.equal((await expireArtifacts(expire)).databases[0]!.removed.length, 2);
  });

  test('AUTO takes a full one and says why, DIFF fails and says why', async (context) => {
    const { scene, key } = await sceneWithKey(context);
    useKeys(context, { to: [key] });
    const first = await scene.backup('AUTO');
    assert.equal(first.fullBecause?.reason, 'noChain');
    useKeys(context, { to: [key] });
    const notices: string[] = [];
    const listener = { progress: () => undefined, notice: (text: string) => notices.push(text) };
    const second = await scene.backupAt(30n, 'AUTO', { listener });
    assert.deepEqual([second.kind, second.fullBecause?.reason], ['full', 'encrypted']);
    assert.ok(notices.some((text) => /a full backup is taken.*is encrypted.*--clear-header/.test(text)));
    useKeys(context, { to: [key] });
    await assert.rejects(scene.backup('DIFF'), failure('GK_NO_PARENT', /is encrypted.*--identity/));
  });

  test('an encrypted newest artifact is not passed over for an older one', async (context) => {
    const { scene, key } = await sceneWithKey(context);
    const old = await scene.backup('FULL');
    useKeys(context, { to: [key] });
    await scene.backupAt(30n, 'FULL');
    useKeys(context, {});
    await assert.rejects(
      restoreTo(scene, 'restored'),
      failure('GK_KEY_MISSING', /newest artifact cannot be read/),
    );
    assert.equal((await restoreTo(scene, 'old', old.artifactPath)).highestTransaction, 20n);
  });
});

describe('with a clear header', () => {
  test('a folder is listed and differentials find their parents without a key; the rest needs it', async (context) => {
    const { scene, key } = await sceneWithKey(context);
    useKeys(context, { to: [key], clearHeader: true });
    const full = await scene.backup('AUTO');
    useKeys(context, { to: [key], clearHeader: true });
    const differential = await scene.backupAt(30n, 'AUTO');
    assert.deepEqual([differential.kind, differential.parentPath], ['differential', full.artifactPath]);

    useKeys(context, { open: [key] });
    const known = await inspectArtifacts(scene.target, SEALED);
    useKeys(context, {});
    const told = await inspectArtifacts(scene.target, SEALED);
    assert.deepEqual(
      told.artifacts.map(({ encrypted }) => encrypted),
      ['sealed', 'sealed'],
    );
    const opened = told.artifacts.map((artifact) => ({ ...artifact, encrypted: 'opened' }));
    assert.deepEqual(opened, known.artifacts);
    assert.deepEqual(told.chains, known.chains);
    assert.equal((await inspectLatestChain(scene.target, 'neo4j')).length, 2);
    const missing = failure('GK_KEY_MISSING');
    await assert.rejects(planRestore({ artifactPath: scene.target }), missing);
    await assert.rejects(
      expireArtifacts({ directory: scene.target, policy: { last: 1 }, confirm: true }),
      missing,
    );

    useKeys(context, { open: [key] });
    assert.equal((await restoreTo(scene, 'restored')).highestTransaction, 30n);
  });

  test('one that was changed is believed without the key, and refused with it', async (context) => {
    const { scene, key } = await sceneWithKey(context);
    useKeys(context, { to: [key], clearHeader: true });
    const { artifactPath } = await scene.backup('FULL');
    useKeys(context, {});
    const [facts] = (await inspectArtifacts(artifactPath, SEALED)).artifacts;
    assert.equal(facts!.database, 'neo4j');
    forge(artifactPath, '"database":"neo4j"', '"database":"n3o4j"');
    assert.equal((await inspectArtifacts(artifactPath, SEALED)).artifacts[0]!.database, 'n3o4j');
    useKeys(context, { open: [key] });
    await assert.rejects(
      inspectArtifacts(artifactPath, SEALED),
      failure('GK_ARTIFACT_CORRUPT', /header was changed/),
    );
  });

  test('one that says nonsense is refused', async (context) => {
    const { scene, key } = await sceneWithKey(context);
    useKeys(context, { to: [key], clearHeader: true });
    const { artifactPath } = await scene.backup('FULL');
    useKeys(context, {});
    const whole = readFileSync(artifactPath);
    const nonsense = [
      ['"version":1', '"version":7'],
      ['"full":true', '"full":1234'],
      ['"database":"neo4j"', '"database":"ne\\u001b"'],
      ['"lowestTransaction":"1"', '"lowestTransaction":"-"'],
      ['{"version"', '["version"'],
      ['"container":"BZV2"', '"container":12345 '],
    ] as const;
    for (const [from, to] of nonsense) {
      writeFileSync(artifactPath, whole);
      forge(artifactPath, from, to);
      await assert.rejects(
        inspectArtifacts(artifactPath, SEALED),
        failure('GK_ARTIFACT_CORRUPT', /clear header/),
        to,
      );
    }
  });
});

/** Changes what an artifact says in the clear, at the same length. */
function forge(path: string, from: string, to: string): void {
  const text = readFileSync(path, 'latin1');
  const lines = text.split('\n');
  const first = lines.indexOf('-> graphkeep.org/v1') + 1;
  const last = lines.findIndex((line) => line.startsWith('--- '));
  const json = Buffer.from(lines.slice(first, last).join(''), 'base64').toString('utf8');
  assert.ok(json.includes(from), json);
  const bytes = Buffer.from(json.replace(from, to).padEnd(json.length).slice(0, json.length));
  const body = bytes.toString('base64').match(/.{1,64}/g)!;
  writeFileSync(path, [...lines.slice(0, first), ...body, '', ...lines.slice(last)].join('\n'), 'latin1');
}

/** In the first state page of a tree. */
const GENERATION_BYTE = 8192 + 7;

/** A group that is changed each time while it is read, for the first tries. */
function changing(
  directory: string,
  group: SnapshotGroup,
  tries: number,
): SnapshotGroup & { asides: (Aside | undefined)[] } {
  const asides: (Aside | undefined)[] = [];
  const opened = async (): Promise<OpenGroup | undefined> => {
    const whole = await openTree(directory, group.path);
    if (whole === undefined || asides.length > tries) return whole;
    const members = whole.members.map((member) => ({
      ...member,
      read: async (target: Buffer, position: number) => {
        await member.read(target, position);
        const tree = readFileSync(join(directory, group.path));
        tree[GENERATION_BYTE]! ^= 1;
        writeFileSync(join(directory, group.path), tree);
      },
    }));
    return { ...whole, members };
  };
  return {
    ...group,
    asides,
    open: async (aside) => {
      asides.push(aside);
      const open = await opened();
      return open === undefined || aside === undefined ? open : stageGroup(open, aside.directory);
    },
  };
}

describe('what changes while it is copied', () => {
  test('is copied aside until it stands still: nothing is sealed twice, nothing lies in the target', async (context) => {
    const { scene, key } = await sceneWithKey(context);
    const expected = await membersOf(
      (await scene.backup('FULL', { targetDirectory: makeFolder(scene.root, 'plain') })).artifactPath,
    );
    const { storeDirectory } = scene.database.folders;
    const local = localSource(scene.database.folders);
    let changed: ReturnType<typeof changing> | undefined;
    const asides: (Aside | undefined)[] = [];
    const source: BackupSource = {
      ...local,
      openSnapshot: async () => {
        const snapshot = await local.openSnapshot();
        const groups = snapshot.groups.map((group) => {
          if (group.path === 'neostore.counts.db') {
            changed = changing(storeDirectory, group, 2);
            return changed;
          }
          const open: SnapshotGroup['open'] = (aside) => {
            if (group.rebuildable) asides.push(aside);
            return group.open(aside);
          };
          return { ...group, open };
        });
        return { ...snapshot, groups };
      },
    };
    const staging = makeFolder(scene.root, 'staging');
    const spied = spyOn(context);
    useKeys(context, { to: [key], open: [key] });
    const options = scene.optionsFor({ type: 'FULL', stagingDirectory: staging });
    const { artifactPath, attempts, leftOut } = await backupFrom(source, options);
    assert.deepEqual([attempts, leftOut], [1, []]);
    assert.equal(changed!.asides.length, 3);
    const everyAside = [...changed!.asides, ...asides];
    assert.ok(everyAside.length > 4 && everyAside.every((aside) => aside?.directory === staging));
    assert.deepEqual(namesIn(staging), []);
    assert.ok(spied.appends > 2 && spied.patches > 0);
    assert.deepEqual((await validateArtifact(artifactPath)).problems, []);
    assert.deepEqual([...(await membersOf(artifactPath)).keys()], [...expected.keys()]);
  });

  test('needs room aside: without it nothing is published, and the option is named', async (context) => {
    const { scene, key } = await sceneWithKey(context);
    const small = smallFileSystem(context, 8 * KIB);
    if ('skip' in small) return context.skip(small.skip);
    useKeys(context, { to: [key] });
    const { folder } = small;
    await assert.rejects(scene.backup('FULL', { stagingDirectory: folder }), (error: unknown) => {
      assert.ok(error instanceof GraphkeepError && error.code === 'GK_NO_SPACE');
      return error.message.includes(folder) && error.hint.includes('--temp-path');
    });
    assert.deepEqual([namesIn(scene.target), namesIn(folder)], [[], []]);
  });

  test('is left out when it never stands still, as without encryption', async (context) => {
    const { scene, key } = await sceneWithKey(context);
    const { storeDirectory } = scene.database.folders;
    const local = localSource(scene.database.folders);
    const source: BackupSource = {
      ...local,
      openSnapshot: async () => {
        const snapshot = await local.openSnapshot();
        const groups = snapshot.groups.map((group) =>
          group.path === 'neostore.counts.db' ? changing(storeDirectory, group, 99) : group,
        );
        return { ...snapshot, groups };
      },
    };
    useKeys(context, { to: [key], open: [key] });
    const { leftOut, artifactPath } = await backupFrom(source, scene.optionsFor({ type: 'FULL' }));
    assert.deepEqual(leftOut, ['neostore.counts.db']);
    assert.deepEqual((await validateArtifact(artifactPath)).problems, []);
  });
});

/** Every byte that a publication gets is written once: zeros keep a place, and are written over once. */
function spyOn(context: TestContext): { appends: number; patches: number } {
  const counts = { appends: 0, patches: 0 };
  const { append, patch } = Publication.prototype;
  context.mock.method(Publication.prototype, 'truncate', async () =>
    assert.fail('sealed bytes are taken back'),
  );
  context.mock.method(Publication.prototype, 'append', function (this: Publication, bytes: Buffer) {
    counts.appends += 1;
    return append.call(this, bytes);
  });
  context.mock.method(
    Publication.prototype,
    'patch',
    function (this: Publication, bytes: Buffer, positionBytes: number) {
      counts.patches += 1;
      const place = readFileSync(this.partialPath).subarray(positionBytes, positionBytes + bytes.length);
      assert.ok(place.length === bytes.length && place.every((byte) => byte === 0), 'sealed twice');
      return patch.call(this, bytes, positionBytes);
    },
  );
  return counts;
}

test('whoever forgets to encrypt what follows is told', async (context) => {
  const { scene, key } = await sceneWithKey(context);
  useKeys(context, { to: [key] });
  await scene.backup('FULL');
  useKeys(context, { open: [key] });
  const notices: string[] = [];
  const listener = { progress: () => undefined, notice: (text: string) => notices.push(text) };
  const { kind } = await scene.backupAt(HIGHEST, 'AUTO', { listener });
  assert.equal(kind, 'differential');
  assert.ok(notices.some((text) => /is encrypted, and what follows it will not be/.test(text)));
  rmSync(scene.target, { recursive: true });
});
