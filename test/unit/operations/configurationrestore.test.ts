import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { configurationBytes } from '../../../src/artifact/configurationfile.ts';
import type { ConfigurationManifest } from '../../../src/formats/configuration/manifest.ts';
import { openInstallation } from '../../../src/neo4j/installation.ts';
import { readConfiguration } from '../../../src/operations/configuration.ts';
import { writeConfigurationArtifact } from '../../../src/operations/configurationbackup.ts';
import {
  applyConfiguration,
  planConfiguration,
  replacedBy,
} from '../../../src/operations/configurationrestore.ts';
import { CERTIFICATE, FILES, KEY, makeHome, PLUGIN, SETTINGS } from '../../fixtures/installations.ts';
import { failure, filesBelow, isRoot, makeFolder, temporaryFolder } from '../../fixtures/workspace.ts';

interface Setup {
  readonly root: string;
  readonly artifactPath: string;
  /** Program files and nothing else. */
  readonly home: string;
  readonly manifest: ConfigurationManifest;
}

async function setUp(
  context: TestContext,
  {
    more = '',
    plugins = true,
    prepare,
  }: { more?: string; plugins?: boolean; prepare?: (home: string) => void } = {},
): Promise<Setup> {
  const root = temporaryFolder(context);
  const old = makeHome(join(root, 'old'), { ...FILES, 'conf/neo4j.conf': SETTINGS + more });
  prepare?.(old);
  const installation = await openInstallation({ home: old, environment: {} });
  const content = await readConfiguration({ installation, includePlugins: plugins });
  const { artifactPath, manifest } = await writeConfigurationArtifact(content, {
    targetDirectory: makeFolder(root, 'backups'),
  });
  return { root, artifactPath, manifest, home: makeHome(join(root, 'new'), { 'lib/neo4j.jar': '' }) };
}

function plan(
  { home, artifactPath }: Pick<Setup, 'home' | 'artifactPath'>,
  includePlugins = true,
  conf = join(home, 'conf'),
) {
  return planConfiguration(
    artifactPath,
    { home, configurationDirectory: conf, environment: {} },
    { includePlugins },
  );
}

const filesOf = (folder: string): string[] =>
  [...filesBelow(folder).keys()].filter((name) => !name.endsWith('/'));

describe('a configuration in an empty home', () => {
  test('is the old one, but for the key', async (context) => {
    const setup = await setUp(context);
    const planned = await plan(setup);
    assert.deepEqual(filesOf(setup.home), ['lib/neo4j.jar']);
    assert.ok(planned.files.every(({ existing }) => existing === 'none'));
    const restored = await applyConfiguration(planned, setup.home);
    const { durationMs, ...facts } = restored;
    assert.deepEqual(facts, {
      kind: 'configuration',
      artifactPath: setup.artifactPath,
      written: 6,
      unchanged: 0,
      replaced: 0,
      plugins: [
        { ...setup.manifest.plugins[0], path: join(setup.home, 'plugins/words.jar'), state: 'restored' },
      ],
      keys: [{ path: join(setup.home, 'certificates/bolt/private.key'), present: false }],
    });
    for (const [name, content] of Object.entries(FILES)) {
      if (name.startsWith('lib') || name.endsWith('.key') || name.endsWith('.txt')) continue;
      assert.deepEqual(readFileSync(join(setup.home, name)), Buffer.from(content), name);
      assert.equal(statSync(join(setup.home, name)).mode & 0o777, 0o640, name);
    }
    assert.equal(filesOf(setup.home).length, 7);
  });

  test('of a package lies where it lies there', async (context) => {
    const setup = await setUp(context);
    const etc = join(setup.root, 'etc');
    await applyConfiguration(await plan(setup, true, etc), setup.home);
    assert.deepEqual(readdirSync(etc).sort(), ['neo4j.conf', 'server-logs.xml']);
    assert.equal(existsSync(join(setup.home, 'conf')), false);
    assert.ok(existsSync(join(setup.home, 'certificates/bolt/public.crt')));
  });

  test('settings in the artifact say where its other files belong, and the databases', async (context) => {
    const more = ['server.directories.plugins=jars', 'server.directories.data=/srv/data', ''].join('\n');
    const setup = await setUp(context, {
      more,
      prepare: (home) => cpSync(join(home, 'plugins'), join(home, 'jars'), { recursive: true }),
    });
    const scratch = makeFolder(setup.root, 'scratch');
    const { TMPDIR } = process.env;
    process.env.TMPDIR = scratch;
    const planned = await plan(setup).finally(() => {
      if (TMPDIR === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = TMPDIR;
    });
    assert.equal(planned.installation.folders('neo4j').storeDirectory, '/srv/data/databases/neo4j');
    await applyConfiguration(planned, setup.home);
    assert.deepEqual(readFileSync(join(setup.home, 'jars/words.jar')), PLUGIN);
    assert.equal(existsSync(join(setup.home, 'plugins')), false);
    // What was read to find this out is not left behind.
    assert.deepEqual(readdirSync(scratch), []);
  });

  test('everything belongs to who the home belongs to', {
    skip: !isRoot && 'only root gives files away',
  }, async (context) => {
    const setup = await setUp(context);
    makeHome(setup.home, { 'conf/neo4j.conf': 'old' });
    for (const name of ['', 'conf']) chownSync(join(setup.home, name), 1234, 1235);
    const { keptIn } = await applyConfiguration(await plan(setup), setup.home);
    const owned = ['conf/neo4j.conf', 'certificates', 'certificates/bolt/trusted', 'plugins/words.jar'];
    for (const path of [
      ...owned.map((name) => join(setup.home, name)),
      keptIn!,
      join(keptIn!, 'configuration/neo4j.conf'),
    ]) {
      const { uid, gid } = statSync(path);
      assert.deepEqual([uid, gid], [1234, 1235], path);
    }
  });

  test('nothing becomes writable by all', async (context) => {
    const setup = await setUp(context, {
      prepare: (home) => {
        chmodSync(join(home, 'conf/neo4j.conf'), 0o666);
        chmodSync(join(home, 'conf/server-logs.xml'), 0o007);
      },
    });
    await applyConfiguration(await plan(setup), setup.home);
    assert.equal(statSync(join(setup.home, 'conf/neo4j.conf')).mode & 0o7777, 0o664);
    assert.equal(statSync(join(setup.home, 'conf/server-logs.xml')).mode & 0o7777, 0o405);
  });
});

describe('what is there already', () => {
  test('is named, replaced whole, and kept where Neo4j does not look', async (context) => {
    const setup = await setUp(context);
    const trusted = join(setup.home, 'certificates/bolt/trusted');
    makeHome(setup.home, {
      'conf/neo4j.conf': 'old',
      'conf/server-logs.xml': FILES['conf/server-logs.xml']!,
      'conf/own.txt': 'mine',
      'certificates/bolt/trusted/authority.crt': 'an authority that is not trusted any more',
      'certificates/bolt/private.key': KEY,
    });
    const planned = await plan(setup);
    assert.deepEqual(
      replacedBy(planned).map(({ path }) => path),
      [join(setup.home, 'conf/neo4j.conf'), join(trusted, 'authority.crt')],
    );
    const { keptIn, replaced, unchanged, keys } = await applyConfiguration(planned, setup.home);
    assert.deepEqual([replaced, unchanged, keys[0]?.present], [2, 1, true]);
    assert.match(keptIn!, /\/new\/configuration\.before-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d$/);
    assert.deepEqual(filesOf(keptIn!), [
      'certificates/bolt/trusted/authority.crt',
      'configuration/neo4j.conf',
    ]);
    assert.equal(readFileSync(join(keptIn!, 'configuration/neo4j.conf'), 'utf8'), 'old');
    assert.deepEqual(
      [statSync(keptIn!).mode & 0o777, statSync(join(keptIn!, 'configuration/neo4j.conf')).mode & 0o777],
      [0o700, 0o600],
    );
    assert.deepEqual(readdirSync(trusted), ['authority.crt']);
    assert.equal(readFileSync(join(trusted, 'authority.crt'), 'utf8'), CERTIFICATE);
    assert.equal(readFileSync(join(setup.home, 'conf/own.txt'), 'utf8'), 'mine');
    assert.equal(readFileSync(join(setup.home, 'certificates/bolt/private.key'), 'utf8'), KEY);
  });

  test('a link is replaced by the file, and what it led to stays', async (context) => {
    const setup = await setUp(context);
    writeFileSync(join(setup.root, 'shared.conf'), 'of others');
    mkdirSync(join(setup.home, 'conf'));
    symlinkSync(join(setup.root, 'shared.conf'), join(setup.home, 'conf/neo4j.conf'));
    const { keptIn } = await applyConfiguration(await plan(setup), setup.home);
    assert.equal(readFileSync(join(setup.root, 'shared.conf'), 'utf8'), 'of others');
    assert.equal(readFileSync(join(setup.home, 'conf/neo4j.conf'), 'utf8'), SETTINGS);
    assert.equal(readFileSync(join(keptIn!, 'configuration/neo4j.conf'), 'utf8'), 'of others');
  });

  test('a folder in the place of a file is refused before anything is written', async (context) => {
    const setup = await setUp(context);
    makeFolder(setup.home, 'conf/server-logs.xml');
    await assert.rejects(plan(setup), failure('GK_TARGET_EXISTS', /server-logs\.xml is a folder/));
    assert.deepEqual(readdirSync(join(setup.home, 'conf')), ['server-logs.xml']);
  });

  test('a run after a failed one goes on where it stopped', async (context) => {
    const setup = await setUp(context);
    const planned = await plan(setup);
    // In the place of a folder that the third file needs.
    writeFileSync(join(setup.home, 'certificates'), '');
    await assert.rejects(
      applyConfiguration(planned, setup.home),
      failure('GK_NOT_FOUND', /create .*certificates\/bolt/),
    );
    assert.deepEqual(filesOf(setup.home), [
      'certificates',
      'conf/neo4j.conf',
      'conf/server-logs.xml',
      'lib/neo4j.jar',
    ]);
    rmSync(join(setup.home, 'certificates'));
    const { written, unchanged, replaced } = await applyConfiguration(await plan(setup), setup.home);
    assert.deepEqual([written, unchanged, replaced], [4, 2, 0]);
  });
});

describe('plugins that are not in the artifact', () => {
  test('are missing, there, or others', async (context) => {
    const setup = await setUp(context, { plugins: false });
    const stateNow = async () => (await plan(setup)).plugins.map(({ state }) => state);
    assert.deepEqual(await stateNow(), ['missing']);
    makeHome(setup.home, { 'plugins/words.jar': PLUGIN });
    assert.deepEqual(await stateNow(), ['present']);
    appendFileSync(join(setup.home, 'plugins/words.jar'), ' ');
    assert.deepEqual(await stateNow(), ['other']);
  });

  test('nor are they restored when that is not wanted', async (context) => {
    const setup = await setUp(context);
    const planned = await plan(setup, false);
    assert.deepEqual(
      planned.plugins.map(({ state }) => state),
      ['missing'],
    );
    await applyConfiguration(planned, setup.home);
    assert.equal(existsSync(join(setup.home, 'plugins')), false);
  });
});

describe('an artifact that means harm', () => {
  /** Whole by its hashes, as whoever can write to the folder can make it. */
  async function forged(
    context: TestContext,
    change: (member: ConfigurationManifest['members'][number]) => object,
  ): Promise<Setup> {
    const setup = await setUp(context);
    const installation = await openInstallation({ home: join(setup.root, 'old'), environment: {} });
    const content = await readConfiguration({ installation, includePlugins: false });
    const sources = content.sources.map((source) => ({
      ...source,
      member: { ...source.member, ...change(source.member) },
    }));
    const manifest = { ...content.manifest, members: sources.map(({ member }) => member) };
    const pieces: Buffer[] = [];
    for await (const piece of configurationBytes({ manifest, sources })) pieces.push(piece);
    writeFileSync(setup.artifactPath, Buffer.concat(pieces));
    return setup;
  }

  for (const path of ['../../escaped', '/tmp/escaped', 'bolt/../../escaped']) {
    test(`cannot leave its folder by ${path}`, async (context) => {
      const setup = await forged(context, (member) => (member.path === 'bolt/public.crt' ? { path } : {}));
      await assert.rejects(plan(setup), failure('GK_ARTIFACT_CORRUPT', /path/));
      assert.deepEqual(filesOf(setup.home), ['lib/neo4j.jar']);
      assert.equal(existsSync('/tmp/escaped'), false);
    });
  }

  test('cannot name a place that its settings do not name', async (context) => {
    const setup = await forged(context, (member) =>
      member.place === 'licenses' ? { place: 'policy.backdoor' } : {},
    );
    await assert.rejects(plan(setup), failure('GK_ARTIFACT_CORRUPT', /policy\.backdoor\/gds\.license/));
  });

  test('cannot give a file another content than its hash says', async (context) => {
    const setup = await setUp(context);
    const bytes = readFileSync(setup.artifactPath);
    bytes[bytes.indexOf('open sesame')] = 0x4f;
    writeFileSync(setup.artifactPath, bytes);
    await assert.rejects(plan(setup), failure('GK_ARTIFACT_CORRUPT', /neo4j\.conf fails its SHA-256/));
  });

  test('cannot be exchanged between plan and restore', async (context) => {
    const setup = await setUp(context);
    const planned = await plan(setup);
    const other = await setUp(context, { more: '# changed\n' });
    cpSync(other.artifactPath, setup.artifactPath);
    await assert.rejects(applyConfiguration(planned, setup.home), failure('GK_ARTIFACT_CORRUPT', /replaced/));
    assert.deepEqual(filesOf(setup.home), ['lib/neo4j.jar']);
  });
});
