/** One backup to several places: the same artifact in each, or in none; or, where that is wanted, in those that do not fail. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { isAge } from '../../../src/formats/age/header.ts';
import { KIB } from '../../../src/limits.ts';
import { ArtifactCopies } from '../../../src/operations/artifactcopy.ts';
import { formatTime } from '../../../src/operations/artifactfile.ts';
import type { BackupOptions } from '../../../src/operations/types.ts';
import { validateArtifact } from '../../../src/operations/validate.ts';
import { acquireLease } from '../../../src/storage/lease.ts';
import { makeKey, useKeys } from '../../fixtures/age.ts';
import { ChainScene } from '../../fixtures/chains.ts';
import { LINES } from '../../fixtures/lines.ts';
import { failure, makeFolder, namesIn, openFilesBelow, smallFileSystem } from '../../fixtures/workspace.ts';
import { cli } from '../cli/harness.ts';

interface Setting {
  readonly scene: ChainScene;
  readonly first: string;
  readonly second: string;
  readonly notices: string[];
  readonly both: Partial<BackupOptions>;
}

function setUp(context: TestContext, second?: string): Setting {
  const scene = new ChainScene(context, '5.26');
  const notices: string[] = [];
  const listener = { progress: () => {}, notice: (text: string) => notices.push(text) };
  const other = second ?? makeFolder(scene.root, 'second');
  return { scene, first: scene.target, second: other, notices, both: { alsoTo: [other], listener } };
}

/** Too small for the artifact. */
function smallDisk(context: TestContext): string | undefined {
  const small = smallFileSystem(context, 48 * KIB);
  if ('folder' in small) return small.folder;
  context.skip(small.skip);
  return undefined;
}

/** Whoever writes under the name that the artifact is about to get. */
function takingTheName(folder: string): { progress: () => void; notice: (text: string) => void } {
  const name = `neo4j-${formatTime(new Date(Date.now() + 10_000))}.backup`;
  return { progress: () => writeFileSync(join(folder, name), 'theirs'), notice: () => {} };
}

for (const line of LINES) {
  test(`a chain of ${line} is in both places, byte for byte`, async (context) => {
    const scene = new ChainScene(context, line);
    const second = makeFolder(scene.root, 'second');
    const both = { alsoTo: [second] };
    const full = await scene.backup('AUTO', both);
    assert.deepEqual([full.kind, full.fullBecause?.reason], ['full', 'noChain']);
    const differential = await scene.backupAt(30n, 'AUTO', both);
    assert.deepEqual([differential.kind, differential.parentPath], ['differential', full.artifactPath]);
    for (const { artifactPath, artifactBytes, places } of [full, differential]) {
      const name = basename(artifactPath);
      assert.deepEqual(
        places,
        [scene.target, second].map((directory) => ({
          directory,
          artifactPath: join(directory, name),
          artifactBytes,
        })),
      );
      const bytes = readFileSync(artifactPath);
      assert.equal(bytes.length, artifactBytes);
      assert.ok(readFileSync(join(second, name)).equals(bytes));
      assert.deepEqual((await validateArtifact(join(second, name))).problems, []);
    }
    assert.deepEqual(namesIn(scene.target), namesIn(second));
    assert.deepEqual(openFilesBelow(scene.root), []);
  });
}

describe('all of them', () => {
  test('a disk that fills up in one: nothing is anywhere', async (context) => {
    const small = smallDisk(context);
    if (small === undefined) return;
    const { scene, first, both } = setUp(context, small);
    await assert.rejects(scene.backup('FULL', both), failure('GK_NO_SPACE'));
    assert.deepEqual([namesIn(first), namesIn(small)], [[], []]);
    assert.deepEqual([openFilesBelow(first), openFilesBelow(small)], [[], []]);
    await assert.rejects(scene.backup('FULL', { ...both, keepFailed: true }), failure('GK_NO_SPACE'));
    for (const folder of [first, small])
      assert.deepEqual(
        namesIn(folder).map((name) => name.endsWith('.backup.failed')),
        [true],
      );
  });

  test('an interruption: nothing is anywhere', async (context) => {
    const { scene, first, second, both } = setUp(context);
    const stop = new AbortController();
    const listener = { progress: () => stop.abort(), notice: () => {} };
    const run = scene.backup('FULL', { ...both, listener, signal: stop.signal });
    await assert.rejects(run, failure('GK_INTERRUPTED'));
    assert.deepEqual([namesIn(first), namesIn(second)], [[], []]);
  });

  test('the name is taken in the first one: nothing is anywhere', async (context) => {
    const { scene, first, second, both } = setUp(context);
    const run = scene.backup('FULL', { ...both, listener: takingTheName(first) });
    await assert.rejects(run, failure('GK_TARGET_EXISTS'));
    assert.equal(readFileSync(join(first, namesIn(first)[0]!), 'utf8'), 'theirs');
    assert.deepEqual([namesIn(first).length, namesIn(second)], [1, []]);
  });

  test('the name is taken in the second one, too late: it says where the artifact is', async (context) => {
    const { scene, first, second, both } = setUp(context);
    const run = scene.backup('FULL', { ...both, listener: takingTheName(second) });
    const [name] = await assert
      .rejects(run, failure('GK_TARGET_EXISTS', /backups.*is there and whole.*not in .*second/s))
      .then(() => namesIn(first));
    assert.deepEqual((await validateArtifact(join(first, name!))).problems, []);
    assert.deepEqual(
      namesIn(second).map((taken) => readFileSync(join(second, taken), 'utf8')),
      ['theirs'],
    );
  });

  test('a place that is not there: nothing is begun', async (context) => {
    const { scene, first, second, both } = setUp(context);
    rmSync(second, { recursive: true });
    await assert.rejects(scene.backup('FULL', both), failure('GK_NOT_FOUND'));
    assert.deepEqual(namesIn(first), []);
  });

  test('one place that is given twice is refused', async (context) => {
    const { scene, first, both } = setUp(context);
    const link = join(scene.root, 'link');
    symlinkSync(first, link);
    for (const again of [first, link])
      await assert.rejects(scene.backup('FULL', { ...both, alsoTo: [again] }), failure('GK_USAGE'));
    assert.deepEqual(namesIn(first), []);
  });

  test('a name that one of them has already: the next second, in both', async (context) => {
    const { scene, second, both } = setUp(context);
    const taken = `neo4j-${formatTime(new Date(Date.now() + 10_000))}.backup`;
    writeFileSync(join(second, taken), 'theirs');
    const { artifactPath, places } = await scene.backup('FULL', both);
    assert.notEqual(basename(artifactPath), taken);
    assert.deepEqual(
      places?.map((place) => basename(place.artifactPath!)),
      Array(2).fill(basename(artifactPath)),
    );
  });
});

describe('any of them', () => {
  test('a disk that fills up is left out and reported', async (context) => {
    const small = smallDisk(context);
    if (small === undefined) return;
    const { scene, first, both, notices } = setUp(context, small);
    const { artifactPath, places } = await scene.backup('FULL', { ...both, require: 'any' });
    assert.deepEqual((await validateArtifact(artifactPath)).problems, []);
    assert.deepEqual(
      places?.map(({ directory, error, artifactPath: path }) => [directory, error?.code, path]),
      [
        [first, undefined, artifactPath],
        [small, 'GK_NO_SPACE', undefined],
      ],
    );
    assert.match(notices.join('\n'), /does not get this backup/);
    assert.deepEqual(namesIn(small), []);
  });

  test('the first one fills up: the second one has it', async (context) => {
    const small = smallDisk(context);
    if (small === undefined) return;
    const { scene, second, both } = setUp(context);
    const more = { ...both, require: 'any', targetDirectory: small } as const;
    const { artifactPath } = await scene.backup('FULL', more);
    assert.equal(artifactPath, join(second, namesIn(second)[0]!));
    assert.deepEqual((await validateArtifact(artifactPath)).problems, []);
    assert.deepEqual(namesIn(small), []);
  });

  test('places that are not there, or whose name is taken; none is left: the backup fails', async (context) => {
    const { scene, first, second, both } = setUp(context);
    const any = { ...both, require: 'any' } as const;
    const taken = await scene.backup('FULL', { ...any, listener: takingTheName(second) });
    assert.deepEqual(
      taken.places?.map(({ error }) => error?.code),
      [undefined, 'GK_TARGET_EXISTS'],
    );
    rmSync(second, { recursive: true });
    const missing = await scene.backup('FULL', any);
    assert.deepEqual(
      missing.places?.map(({ error }) => error?.code),
      [undefined, 'GK_NOT_FOUND'],
    );
    rmSync(first, { recursive: true });
    await assert.rejects(scene.backup('FULL', any), failure('GK_NOT_FOUND'));
    mkdirSync(first);
  });

  test('an interruption ends it: nothing is anywhere', async (context) => {
    const { scene, first, second, both } = setUp(context);
    const stop = new AbortController();
    const listener = { progress: () => stop.abort(), notice: () => {} };
    const run = scene.backup('FULL', { ...both, require: 'any', listener, signal: stop.signal });
    await assert.rejects(run, failure('GK_INTERRUPTED'));
    assert.deepEqual([namesIn(first), namesIn(second)], [[], []]);
  });
});

describe('a differential', () => {
  test('follows the same artifact in every place, or is none', async (context) => {
    const { scene, first, second, both, notices } = setUp(context);
    await scene.backup('FULL', both);
    const alone = await scene.backupAt(25n, 'DIFF');
    await assert.rejects(scene.backupAt(28n, 'DIFF', both), failure('GK_NO_PARENT', /ends with transaction/));
    const copies = await ArtifactCopies.begin({
      ...{ from: first, to: second, latestChain: false, verifyTarget: false, dryRun: false },
    });
    for (const item of copies.items) await copies.copy(item);
    copies.end();
    const next = await scene.backupAt(30n, 'DIFF', both);
    assert.equal(next.parentPath, alone.artifactPath, 'a copy brings them together');
    rmSync(join(second, basename(next.artifactPath)));
    const full = await scene.backupAt(33n, 'AUTO', both);
    assert.deepEqual([full.kind, full.fullBecause?.reason], ['full', 'placesDiffer']);
    assert.match(full.fullBecause!.message, /30, but .*second.* ends with transaction 25/);
    assert.match(notices.join('\n'), /a full backup is taken/);
    for (const name of readdirSync(second).filter((file) => file.endsWith('.backup')))
      rmSync(join(second, name));
    const fallen = await scene.backupAt(35n, 'DIFF', { ...both, fallbackToFull: true });
    assert.equal(fallen.fullBecause?.reason, 'placesDiffer');
    assert.match(fallen.fullBecause!.message, /no artifact of neo4j in .*second yet; .* ends with/);
  });
});

test('every place is leased while it is written to', async (context) => {
  const { scene, first, second, both } = setUp(context);
  const refused: string[] = [];
  const tries: Promise<unknown>[] = [];
  const progress = (): void => {
    if (tries.length > 0) return;
    for (const folder of [first, second])
      tries.push(
        acquireLease(folder, 'exclusive', { waitMs: 0 }).catch((error: { code: string }) =>
          refused.push(`${folder} ${error.code}`),
        ),
      );
  };
  await scene.backup('FULL', { ...both, listener: { progress, notice: () => {} } });
  await Promise.all(tries);
  assert.deepEqual(refused, [`${first} GK_IN_USE`, `${second} GK_IN_USE`]);
  for (const folder of [first, second]) (await acquireLease(folder, 'exclusive', { waitMs: 0 })).release();
});

describe('the command', () => {
  test('reports each place, in words and in JSON', async (context) => {
    const { scene, first, second } = setUp(context);
    context.mock.timers.reset();
    const { storeDirectory, logDirectory } = scene.database.folders;
    const from = [
      `--from-path-data=${join(storeDirectory, '..')}`,
      `--from-path-txn=${join(logDirectory, '..')}`,
    ];
    const backup = (...more: string[]) =>
      cli(['database', 'backup', ...from, '--include-metadata=none', `--to-path=${first}`, ...more]);
    const run = await backup(`--to-path=${second}`);
    assert.equal(run.exitStatus, 0, run.stderr);
    assert.match(run.stdout, new RegExp(`file +${first}/neo4j-.*\n +and +${second}/neo4j-`));
    const missing = join(scene.root, 'missing');
    assert.equal((await backup(`--to-path=${missing}`)).exitStatus, 66);
    const any = await backup(`--to-path=${missing}`, '--require=any', '--type=full');
    assert.equal(any.exitStatus, 0, 'one has it');
    assert.match(any.stdout, new RegExp(`NOT IN +${missing}: `));
    assert.match(any.stderr, /missing does not get this backup/);
    const json = await backup(`--to-path=${missing}`, '--require=any', '--type=full', '--format=json');
    const { backups } = JSON.parse(json.stdout) as {
      backups: {
        ok: boolean;
        places: { directory: string; error?: { code: string } }[];
        notices: string[];
      }[];
    };
    assert.deepEqual(
      backups.map(({ ok, places }) => [ok, places.map(({ directory, error }) => [directory, error?.code])]),
      [
        [
          true,
          [
            [first, undefined],
            [missing, 'GK_NOT_FOUND'],
          ],
        ],
      ],
    );
    assert.equal(backups[0]?.notices.length, 1);
  });
});

test('an encrypted one is sealed once: the same bytes in both places', async (context) => {
  const key = await makeKey();
  useKeys(context, { to: [key], open: [key], clearHeader: true });
  const { scene, first, second, both } = setUp(context);
  const full = await scene.backup('AUTO', both);
  const differential = await scene.backupAt(30n, 'AUTO', both);
  assert.equal(differential.parentPath, full.artifactPath);
  for (const { artifactPath, artifactBytes, places } of [full, differential]) {
    const [left, right] = [first, second].map((folder) => readFileSync(join(folder, basename(artifactPath))));
    assert.ok(isAge(left!) && left!.equals(right!));
    assert.deepEqual(
      places?.map((place) => place.artifactBytes),
      [artifactBytes, artifactBytes],
    );
    assert.equal(left!.length, artifactBytes);
    assert.deepEqual((await validateArtifact(join(second, basename(artifactPath)))).problems, []);
  }
});
