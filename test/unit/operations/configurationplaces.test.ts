/** One configuration to several places: the same file in each, or in none; or, where that is wanted, in those that do not fail. */
import assert from 'node:assert/strict';
import {
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import {
  ConfigurationArtifact,
  type ConfigurationContent,
  configurationBytes,
} from '../../../src/artifact/configurationfile.ts';
import { isAge } from '../../../src/formats/age/header.ts';
import { KIB } from '../../../src/limits.ts';
import { openInstallation } from '../../../src/neo4j/installation.ts';
import { formatTime } from '../../../src/operations/artifactfile.ts';
import { readConfiguration } from '../../../src/operations/configuration.ts';
import {
  publishConfiguration,
  writeConfigurationArtifact,
} from '../../../src/operations/configurationbackup.ts';
import { configurationName } from '../../../src/operations/configurationnames.ts';
import type { TargetOptions } from '../../../src/operations/types.ts';
import { acquireLease } from '../../../src/storage/lease.ts';
import { PARTIAL_SUFFIX } from '../../../src/storage/local.ts';
import { makeKey, useKeys } from '../../fixtures/age.ts';
import { makeHome } from '../../fixtures/installations.ts';
import { noise } from '../../fixtures/random.ts';
import {
  failure,
  makeFolder,
  namesIn,
  openFilesBelow,
  smallFileSystem,
  temporaryFolder,
} from '../../fixtures/workspace.ts';

const NOW_MS = Date.parse('2026-11-21T12:43:07Z');
const NAME = configurationName('2026-11-21T12-43-07');
const JAR_BYTES = 200 * KIB;

interface Setting {
  readonly root: string;
  readonly content: ConfigurationContent;
  readonly folders: readonly [string, string, string];
  readonly notices: string[];
  readonly all: TargetOptions;
  readonly any: TargetOptions;
}

/** At a time that stands still, so that the name is known. */
async function setUp(context: TestContext, last?: string): Promise<Setting> {
  context.mock.timers.enable({ apis: ['Date'], now: NOW_MS });
  const root = temporaryFolder(context);
  const home = makeHome(join(root, 'home'), {
    'conf/neo4j.conf': 'server.directories.import=import\n',
    'plugins/large.jar': noise(JAR_BYTES, 1),
  });
  const installation = await openInstallation({ home, environment: {} });
  const content = await readConfiguration({ installation, includePlugins: true });
  const [first, second] = [makeFolder(root, 'first'), makeFolder(root, 'second')];
  const third = last ?? makeFolder(root, 'third');
  const notices: string[] = [];
  const listener = { progress: () => {}, notice: (text: string) => notices.push(text) };
  const all = { targetDirectory: first, alsoTo: [second, third], listener };
  return { root, content, folders: [first, second, third], notices, all, any: { ...all, require: 'any' } };
}

/** The bytes of a good artifact; when all of them were taken and written, `then` is called. */
async function* bytesOf(content: ConfigurationContent, then: () => void): AsyncGenerator<Buffer, void> {
  yield* configurationBytes(content);
  then();
}

/** What a disk does that gives back another byte than it got. */
function rotIn(folder: string): () => void {
  return () => {
    const partial = readdirSync(folder).find((name) => name.endsWith(PARTIAL_SUFFIX));
    const file = openSync(join(folder, partial!), 'r+');
    const byte = Buffer.alloc(1);
    readSync(file, byte, 0, 1, JAR_BYTES / 2);
    byte[0]! ^= 1;
    writeSync(file, byte, 0, 1, JAR_BYTES / 2);
    closeSync(file);
  };
}

/** Whoever writes under the name that the artifact is about to get. */
function takingTheName(folder: string): () => void {
  return () => writeFileSync(join(folder, NAME), 'theirs');
}

async function requireWhole(path: string): Promise<void> {
  const artifact = await ConfigurationArtifact.open(path);
  await artifact.verify();
  await artifact.close();
}

function nothingIn({ root, folders }: Setting): void {
  assert.deepEqual(folders.map(namesIn), [[], [], []]);
  for (const folder of [root, ...folders]) assert.deepEqual(openFilesBelow(folder), []);
}

/** A file system that is too small for the jar. */
function smallDisk(context: TestContext): string | undefined {
  const small = smallFileSystem(context, 64 * KIB);
  if ('folder' in small) return small.folder;
  context.skip(small.skip);
  return undefined;
}

test('it is in all of them under one name, byte for byte, for its owner only', async (context) => {
  const { root, content, folders, all } = await setUp(context);
  const { artifactPath, artifactBytes, places } = await writeConfigurationArtifact(content, all);
  const paths = folders.map((folder) => join(folder, NAME));
  assert.equal(artifactPath, paths[0]);
  assert.deepEqual(
    places,
    folders.map((directory, number) => ({ directory, artifactPath: paths[number], artifactBytes })),
  );
  for (const path of paths) {
    assert.ok(readFileSync(path).equals(readFileSync(artifactPath)));
    assert.deepEqual([statSync(path).size, statSync(path).mode & 0o777], [artifactBytes, 0o600]);
    await requireWhole(path);
  }
  assert.deepEqual(folders.map(namesIn), [[NAME], [NAME], [NAME]]);
  assert.deepEqual(openFilesBelow(root), []);
});

test('one place alone: there is no list of places, and it is read back as well', async (context) => {
  const setting = await setUp(context);
  const { content, folders } = setting;
  const one = { targetDirectory: folders[0] };
  const rotten = publishConfiguration(bytesOf(content, rotIn(folders[0])), one);
  await assert.rejects(rotten, failure('GK_ARTIFACT_CORRUPT', /large\.jar fails its SHA-256/));
  nothingIn(setting);
  const result = await writeConfigurationArtifact(content, one);
  assert.deepEqual([result.artifactPath, 'places' in result], [join(folders[0], NAME), false]);
});

test('a name that one of them has already: the next second, in all', async (context) => {
  const { content, folders, all } = await setUp(context);
  takingTheName(folders[1])();
  const { places } = await writeConfigurationArtifact(content, all);
  const next = configurationName(formatTime(new Date(NOW_MS + 1000)));
  assert.deepEqual(
    places?.map(({ artifactPath }) => artifactPath),
    folders.map((folder) => join(folder, next)),
  );
});

test('an encrypted one is sealed once: the same bytes in all', async (context) => {
  const key = await makeKey();
  useKeys(context, { to: [key], open: [key] });
  const { content, folders, all } = await setUp(context);
  const { artifactPath } = await writeConfigurationArtifact(content, all);
  const bytes = readFileSync(artifactPath);
  assert.ok(isAge(bytes));
  for (const folder of folders) {
    assert.ok(readFileSync(join(folder, NAME)).equals(bytes));
    await requireWhole(join(folder, NAME));
  }
});

test('every place is leased while it is written to', async (context) => {
  const { content, folders, all } = await setUp(context);
  const tries: Promise<unknown>[] = [];
  const codeOf = ({ code }: { code: string }): string => code;
  const tryAll = (): void => {
    for (const folder of folders)
      tries.push(acquireLease(folder, 'exclusive', { waitMs: 0 }).then(() => 'taken', codeOf));
  };
  await publishConfiguration(bytesOf(content, tryAll), all);
  assert.deepEqual(await Promise.all(tries), Array(3).fill('GK_IN_USE'));
  for (const folder of folders) (await acquireLease(folder, 'exclusive', { waitMs: 0 })).release();
});

describe('all of them', () => {
  for (const number of [0, 1, 2] as const)
    test(`place ${number + 1} does not give back what it got: nothing is anywhere`, async (context) => {
      const setting = await setUp(context);
      const { content, folders, all } = setting;
      const run = publishConfiguration(bytesOf(content, rotIn(folders[number])), all);
      await assert.rejects(run, failure('GK_ARTIFACT_CORRUPT', /large\.jar fails its SHA-256/));
      nothingIn(setting);
    });

  test('a disk that fills up: nothing is anywhere', async (context) => {
    const small = smallDisk(context);
    if (small === undefined) return;
    const setting = await setUp(context, small);
    await assert.rejects(writeConfigurationArtifact(setting.content, setting.all), failure('GK_NO_SPACE'));
    nothingIn(setting);
  });

  test('damaged bytes, a folder that is missing: nothing is anywhere', async (context) => {
    const setting = await setUp(context);
    const { content, folders, all } = setting;
    const cut = async function* (): AsyncGenerator<Buffer, void> {
      for await (const piece of configurationBytes(content)) yield piece.subarray(0, -1);
    };
    await assert.rejects(publishConfiguration(cut(), all), failure('GK_ARTIFACT_CORRUPT'));
    nothingIn(setting);
    const missing = { ...all, alsoTo: [folders[1], join(setting.root, 'missing')] };
    await assert.rejects(writeConfigurationArtifact(content, missing), failure('GK_NOT_FOUND'));
    nothingIn(setting);
  });

  test('the name is taken meanwhile: it says where the artifact is, and overwrites nothing', async (context) => {
    const { content, folders, all } = await setUp(context);
    const run = publishConfiguration(bytesOf(content, takingTheName(folders[1])), all);
    await assert.rejects(
      run,
      failure('GK_TARGET_EXISTS', /first.*is there and whole.*not in .*second and .*third/),
    );
    await requireWhole(join(folders[0], NAME));
    assert.equal(readFileSync(join(folders[1], NAME), 'utf8'), 'theirs');
    assert.deepEqual(folders.map(namesIn), [[NAME], [NAME], []]);
  });
});

describe('any of them', () => {
  test('a place that does not give back what it got, and one that is missing, are left out', async (context) => {
    const { content, folders, any, notices } = await setUp(context);
    rmSync(folders[2], { recursive: true });
    const result = await publishConfiguration(bytesOf(content, rotIn(folders[0])), any);
    assert.equal(result.artifactPath, join(folders[1], NAME));
    assert.deepEqual(
      result.places?.map(({ artifactPath, error }) => artifactPath ?? error?.code),
      ['GK_ARTIFACT_CORRUPT', join(folders[1], NAME), 'GK_NOT_FOUND'],
    );
    await requireWhole(result.artifactPath);
    assert.deepEqual([namesIn(folders[0]), namesIn(folders[1])], [[], [NAME]]);
    assert.deepEqual(
      notices.map((text) => basename(text.replace(/ does not get this backup: .*/, ''))),
      ['third', 'first'],
    );
  });

  test('a disk that fills up is left out', async (context) => {
    const small = smallDisk(context);
    if (small === undefined) return;
    const { content, folders, any } = await setUp(context, small);
    const { places } = await writeConfigurationArtifact(content, any);
    assert.deepEqual(
      places?.map(({ error }) => error?.code),
      [undefined, undefined, 'GK_NO_SPACE'],
    );
    assert.deepEqual(folders.map(namesIn), [[NAME], [NAME], []]);
    await requireWhole(join(folders[1], NAME));
  });

  test('none is left: it fails, and nothing is anywhere', async (context) => {
    const setting = await setUp(context);
    const rot = (): void => {
      for (const folder of setting.folders) rotIn(folder)();
    };
    const run = publishConfiguration(bytesOf(setting.content, rot), setting.any);
    await assert.rejects(run, failure('GK_ARTIFACT_CORRUPT'));
    nothingIn(setting);
  });
});

for (const require of ['all', 'any'] as const) {
  test(`${require}: interrupted on the way, or when all of it is written: nothing is anywhere`, async (context) => {
    const setting = await setUp(context);
    const { content } = setting;
    const stops = [new AbortController(), new AbortController()] as const;
    const half = async function* (): AsyncGenerator<Buffer, void> {
      for await (const piece of configurationBytes(content)) {
        yield piece;
        stops[0].abort();
      }
    };
    const runs = [half(), bytesOf(content, () => stops[1].abort())];
    for (const [number, pieces] of runs.entries()) {
      const { signal } = stops[number]!;
      const run = publishConfiguration(pieces, { ...setting[require], signal });
      await assert.rejects(run, failure('GK_INTERRUPTED'));
      nothingIn(setting);
    }
  });
}
