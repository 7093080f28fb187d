import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { ConfigurationArtifact, configurationBytes } from '../../../src/artifact/configurationfile.ts';
import { GraphkeepError } from '../../../src/errors.ts';
import { CONFIGURATION_COPY_BYTES, CONFIGURATION_TOTAL_BYTES_MAX } from '../../../src/limits.ts';
import { openInstallation } from '../../../src/neo4j/installation.ts';
import { readConfiguration } from '../../../src/operations/configuration.ts';
import {
  publishConfiguration,
  writeConfigurationArtifact,
} from '../../../src/operations/configurationbackup.ts';
import { listConfigurationArtifacts } from '../../../src/operations/configurationnames.ts';
import { CERTIFICATE, KEY, makeHome, makeJar, PLUGIN, SETTINGS } from '../../fixtures/installations.ts';
import {
  failure,
  filesBelow,
  isRoot,
  makeFolder,
  namesIn,
  openFilesBelow,
  temporaryFolder,
} from '../../fixtures/workspace.ts';

interface Setup {
  readonly root: string;
  readonly home: string;
  readonly backups: string;
}

function setUp(context: TestContext): Setup {
  const root = temporaryFolder(context);
  return { root, home: makeHome(join(root, 'home')), backups: makeFolder(root, 'backups') };
}

async function read({ home }: Pick<Setup, 'home'>, options: { plugins?: boolean; conf?: string } = {}) {
  const environment = options.conf === undefined ? {} : { NEO4J_CONF: options.conf };
  const installation = await openInstallation({ home, environment });
  return readConfiguration({ installation, includePlugins: options.plugins ?? false });
}

async function namesOf(setup: Pick<Setup, 'home'>, options: { plugins?: boolean; conf?: string } = {}) {
  const { manifest } = await read(setup, options);
  return {
    members: manifest.members.map(({ place, path }) => `${place}/${path}`),
    leftOut: manifest.leftOut.map(({ file, reason }) => `${file}: ${reason}`),
  };
}

describe('what is taken', () => {
  test('settings, certificates, licenses; of plugins what they are; no private key', async (context) => {
    const { manifest } = await read(setUp(context));
    const { time, members, plugins, ...rest } = manifest;
    assert.deepEqual(rest, {
      program: 'graphkeep 0.1.0',
      host: hostname(),
      neo4j: { version: '5.26.30', edition: 'community' },
      leftOut: [{ file: 'certificates/bolt/private.key', reason: 'privateKey' }],
      secretSettings: ['dbms.ssl.policy.bolt.private_key_password'],
    });
    assert.ok(Math.abs(Date.parse(time) - Date.now()) < 60_000);
    assert.deepEqual(
      members.map(({ place, path, role }) => [place, path, role]),
      [
        ['configuration', 'neo4j.conf', 'configuration'],
        ['configuration', 'server-logs.xml', 'configuration'],
        ['certificates', 'bolt/public.crt', 'certificate'],
        ['certificates', 'bolt/trusted/authority.crt', 'certificate'],
        ['licenses', 'gds.license', 'license'],
      ],
    );
    const sha256 = createHash('sha256').update(SETTINGS).digest('hex');
    assert.deepEqual(members[0], {
      place: 'configuration',
      path: 'neo4j.conf',
      role: 'configuration',
      bytes: SETTINGS.length,
      sha256,
      mode: 0o640,
    });
    assert.deepEqual(plugins, [
      {
        file: 'words.jar',
        title: 'words',
        version: '1.2.3',
        bytes: PLUGIN.length,
        sha256: createHash('sha256').update(PLUGIN).digest('hex'),
        included: false,
      },
    ]);
  });

  test('the version of a jar is in its name where its manifest has none, or nowhere', async (context) => {
    const setup = setUp(context);
    const jars: Record<string, Buffer> = {
      'apoc-5.26.30-core.jar': makeJar('Manifest-Version: 1.0\n'),
      'broken-1.0.jar': Buffer.from('no zip file'),
      'lost.jar': PLUGIN.subarray(0, PLUGIN.length - 30),
      'empty.jar': Buffer.alloc(0),
    };
    for (const [name, content] of Object.entries(jars))
      writeFileSync(join(setup.home, 'plugins', name), content);
    const { manifest } = await read(setup);
    assert.deepEqual(
      manifest.plugins.map(({ file, version }) => [file, version]),
      [
        ['apoc-5.26.30-core.jar', '5.26.30-core'],
        ['broken-1.0.jar', '1.0'],
        ['empty.jar', undefined],
        ['lost.jar', undefined],
        ['words.jar', '1.2.3'],
      ],
    );
  });

  test('keys are left out wherever they lie and whatever they are called', async (context) => {
    const setup = setUp(context);
    writeFileSync(join(setup.home, 'conf/notes.txt'), `to be kept:\n${KEY}`);
    writeFileSync(join(setup.home, 'licenses/store'), Buffer.from('feedfeed00000002', 'hex'));
    mkdirSync(join(setup.home, 'ssl'));
    writeFileSync(join(setup.home, 'ssl/odd'), 'a key in a form that nobody knows');
    const setting = 'dbms.ssl.policy.https.';
    appendFileSync(
      join(setup.home, 'conf/neo4j.conf'),
      `${setting}base_directory=ssl\n${setting}private_key=odd\n`,
    );
    const { leftOut } = await namesOf(setup);
    assert.deepEqual(leftOut, [
      'configuration/notes.txt: privateKey',
      'certificates/bolt/private.key: privateKey',
      'licenses/store: privateKey',
      'policy.https/odd: privateKey',
    ]);
  });

  test('a key that may not be read is left out all the same', {
    skip: isRoot && 'root may read',
  }, async (context) => {
    const setup = setUp(context);
    chmodSync(join(setup.home, 'certificates/bolt/private.key'), 0);
    assert.deepEqual((await namesOf(setup)).leftOut, ['certificates/bolt/private.key: privateKey']);
  });

  test('files that settings name elsewhere', async (context) => {
    const setup = setUp(context);
    const elsewhere = makeFolder(setup.root, 'elsewhere');
    for (const name of ['public.crt', 'other.txt']) writeFileSync(join(elsewhere, name), CERTIFICATE);
    appendFileSync(
      join(setup.home, 'conf/neo4j.conf'),
      [
        `dbms.ssl.policy.https.base_directory=${elsewhere}`,
        `dbms.ssl.policy.https.private_key=/keys/https.key`,
        `gds.enterprise.license_file=${elsewhere}/other.txt`,
        '',
      ].join('\n'),
    );
    const { members, leftOut } = await namesOf(setup);
    assert.deepEqual(members.slice(5), ['policy.https/other.txt', 'policy.https/public.crt']);
    assert.deepEqual(leftOut.slice(1), ['/keys/https.key: privateKey']);
  });

  test('a license file of its own folder brings nothing else from there', async (context) => {
    const setup = setUp(context);
    const elsewhere = makeFolder(setup.root, 'elsewhere');
    for (const name of ['gds.key.txt', 'diary.txt']) writeFileSync(join(elsewhere, name), 'text');
    appendFileSync(
      join(setup.home, 'conf/neo4j.conf'),
      `gds.enterprise.license_file=${elsewhere}/gds.key.txt\n`,
    );
    const { members } = await namesOf(setup);
    assert.deepEqual(members.slice(5), ['license.gds.enterprise.license_file/gds.key.txt']);
  });

  test('a folder of certificates that holds the databases is not walked', async (context) => {
    const setup = setUp(context);
    makeFolder(setup.home, 'data/databases/neo4j');
    appendFileSync(join(setup.home, 'conf/neo4j.conf'), 'server.directories.certificates=.\n');
    const { members, leftOut } = await namesOf(setup);
    assert.ok(members.every((name) => !name.startsWith('certificates')));
    assert.ok(leftOut.includes(`${setup.home}: outside`));
  });

  test('the configuration of a package, apart from its home', async (context) => {
    const setup = setUp(context);
    const conf = join(setup.root, 'etc');
    renameSync(join(setup.home, 'conf'), conf);
    const { members } = await namesOf(setup, { conf });
    assert.deepEqual(members.slice(0, 2), ['configuration/neo4j.conf', 'configuration/server-logs.xml']);
    await assert.rejects(namesOf(setup), failure('GK_NOT_FOUND', /no configuration in .*home\/conf/));
  });
});

describe('what only looks like a name', () => {
  test('control characters of others do not get to a terminal', async (context) => {
    const setup = setUp(context);
    writeFileSync(join(setup.home, 'plugins/odd.jar'), makeJar('Implementation-Version: 1\u001b[2J\r\n'));
    writeFileSync(join(setup.home, 'conf', 'a\nb.key'), KEY);
    const { manifest } = await read(setup);
    assert.equal(manifest.plugins[0]?.version, '1?[2J');
    assert.equal(manifest.leftOut[0]?.file, 'configuration/a?b.key');
    await writeConfigurationArtifact(await read(setup), { targetDirectory: setup.backups });
  });

  test('a license setting that names no file brings nothing', async (context) => {
    const setup = setUp(context);
    const settings = ['a.license_file=', 'b.license_file=$(cat /etc/passwd)', 'c.license_file=conf', ''].join(
      '\n',
    );
    appendFileSync(join(setup.home, 'conf/neo4j.conf'), settings);
    const { members, leftOut } = await namesOf(setup);
    assert.equal(members.length, 5);
    assert.deepEqual(leftOut, [
      'certificates/bolt/private.key: privateKey',
      'license.c.license_file/conf: special',
    ]);
  });
});

describe('links', () => {
  test('as Kubernetes mounts files: each is taken once, by its name', async (context) => {
    const setup = setUp(context);
    const conf = join(setup.home, 'conf');
    rmSync(conf, { recursive: true });
    const version = makeFolder(conf, '..2026_08_07_16_05_37.123');
    writeFileSync(join(version, 'neo4j.conf'), SETTINGS);
    symlinkSync('..2026_08_07_16_05_37.123', join(conf, '..data'));
    symlinkSync('..data/neo4j.conf', join(conf, 'neo4j.conf'));
    const { members, leftOut } = await namesOf(setup);
    assert.deepEqual(members.slice(0, 2), ['configuration/neo4j.conf', 'certificates/bolt/public.crt']);
    assert.equal(leftOut.length, 1);
  });

  test('that leave their folder are named and not followed', async (context) => {
    const setup = setUp(context);
    writeFileSync(join(setup.root, 'secret'), 'not of Neo4j');
    symlinkSync(join(setup.root, 'secret'), join(setup.home, 'conf/extra.conf'));
    symlinkSync(setup.root, join(setup.home, 'conf/folder'));
    symlinkSync('nowhere', join(setup.home, 'conf/broken'));
    symlinkSync('loop', join(setup.home, 'conf/loop'));
    execFileSync('mkfifo', [join(setup.home, 'conf/pipe')]);
    const { members, leftOut } = await namesOf(setup);
    assert.equal(members.length, 5);
    assert.deepEqual(leftOut.slice(0, 5), [
      'configuration/broken: link',
      'configuration/extra.conf: link',
      'configuration/folder: link',
      'configuration/loop: link',
      'configuration/pipe: special',
    ]);
  });

  test('a linked folder is the folder, and a linked plugin is listed but not copied', async (context) => {
    const setup = setUp(context);
    renameSync(join(setup.home, 'conf'), join(setup.root, 'etc'));
    symlinkSync(join(setup.root, 'etc'), join(setup.home, 'conf'));
    writeFileSync(join(setup.root, 'apoc.jar'), PLUGIN);
    symlinkSync(join(setup.root, 'apoc.jar'), join(setup.home, 'plugins/apoc.jar'));
    const { manifest } = await read(setup, { plugins: true });
    assert.equal(manifest.members[0]?.path, 'neo4j.conf');
    assert.deepEqual(
      manifest.plugins.map(({ file, included }) => [file, included]),
      [
        ['apoc.jar', false],
        ['words.jar', true],
      ],
    );
    assert.ok(manifest.leftOut.some(({ file, reason }) => file === 'plugins/apoc.jar' && reason === 'link'));
  });
});

describe('bounds', () => {
  test('what is too large for a configuration is refused by its name', async (context) => {
    const setup = setUp(context);
    writeFileSync(join(setup.home, 'conf/heap.hprof'), Buffer.alloc(CONFIGURATION_TOTAL_BYTES_MAX + 1));
    await assert.rejects(read(setup), failure('GK_UNSUPPORTED', /heap\.hprof/));
  });

  test('a name that no archive takes is refused', async (context) => {
    const setup = setUp(context);
    writeFileSync(join(setup.home, 'conf', 'x'.repeat(120)), '');
    await assert.rejects(read(setup), failure('GK_UNSUPPORTED', /too long/));
    rmSync(join(setup.home, 'conf', 'x'.repeat(120)));
    writeFileSync(join(setup.home, 'conf', 'two\nlines'), '');
    await assert.rejects(read(setup), failure('GK_UNSUPPORTED', /impossible path/));
  });
});

describe('the artifact', () => {
  test('is a tar of its owner alone, whose hashes a stock tool checks', async (context) => {
    const setup = setUp(context);
    const backup = await writeConfigurationArtifact(await read(setup, { plugins: true }), {
      targetDirectory: setup.backups,
    });
    assert.match(backup.artifactPath, /\/configuration-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.tar$/);
    assert.equal(statSync(backup.artifactPath).mode & 0o777, 0o600);
    assert.equal(statSync(backup.artifactPath).size, backup.artifactBytes);
    const out = makeFolder(setup.root, 'out');
    execFileSync('tar', ['xf', backup.artifactPath, '-C', out]);
    execFileSync('sha256sum', ['--strict', '-c', 'SHA256SUMS'], { cwd: out, stdio: 'pipe' });
    assert.deepEqual(readFileSync(join(out, 'configuration/neo4j.conf'), 'utf8'), SETTINGS);
    assert.deepEqual(readFileSync(join(out, 'plugins/words.jar')), PLUGIN);
    const names = [...filesBelow(out).keys()].filter((name) => !name.endsWith('/'));
    assert.equal(names.length, backup.manifest.members.length + 2);
    assert.equal(readFileSync(backup.artifactPath).includes('PRIVATE KEY'), false);
  });

  test('two of one second have two names, and the newest is listed first', async (context) => {
    const setup = setUp(context);
    const content = await read(setup);
    const first = await writeConfigurationArtifact(content, { targetDirectory: setup.backups });
    const second = await writeConfigurationArtifact(content, { targetDirectory: setup.backups });
    writeFileSync(join(setup.backups, 'configuration-2026-08-07T16-05-37.backup'), '');
    writeFileSync(join(setup.backups, '.configuration.tar.x.partial'), '');
    assert.deepEqual(await listConfigurationArtifacts(setup.backups), [
      second.artifactPath,
      first.artifactPath,
    ]);
  });

  test('every changed byte is found', async (context) => {
    const setup = setUp(context);
    const { artifactPath } = await writeConfigurationArtifact(await read(setup), {
      targetDirectory: setup.backups,
    });
    const good = readFileSync(artifactPath);
    const path = join(setup.backups, 'damaged.tar');
    const unseen: number[] = [];
    // Every byte of the first and last blocks, and others at odd distances: thousands of opened files take their time.
    for (let at = 0; at < good.length; at += at < 1024 || at > good.length - 600 ? 1 : 7) {
      const damaged = Buffer.from(good);
      damaged[at]! ^= 0x20;
      writeFileSync(path, damaged);
      if (await isAccepted(path)) unseen.push(at);
    }
    assert.deepEqual(unseen, []);
    for (const bytes of [0, 100, 512, 5000, good.length - 512, good.length - 1]) {
      writeFileSync(path, good.subarray(0, bytes));
      assert.equal(await isAccepted(path), false, `cut to ${bytes} bytes`);
    }
    writeFileSync(path, Buffer.concat([good, Buffer.alloc(512)]));
    assert.equal(await isAccepted(path), false, 'longer');
    writeFileSync(path, good);
    assert.equal(await isAccepted(path), true);
    assert.deepEqual(openFilesBelow(setup.backups), []);
  });

  test('nothing is published of a plugin that changes, of an interruption or of damaged bytes', async (context) => {
    const setup = setUp(context);
    const target = { targetDirectory: setup.backups };
    const content = await read(setup, { plugins: true });
    appendFileSync(join(setup.home, 'plugins/words.jar'), 'x');
    await writeConfigurationArtifact(content, target);
    writeFileSync(join(setup.home, 'plugins/words.jar'), Buffer.from(PLUGIN).fill(7));
    await assert.rejects(
      writeConfigurationArtifact(content, target),
      failure('GK_SOURCE_MOVED', /words\.jar changed/),
    );
    writeFileSync(join(setup.home, 'plugins/words.jar'), 'short');
    await assert.rejects(writeConfigurationArtifact(content, target), failure('GK_SOURCE_MOVED', /shorter/));
    const signal = AbortSignal.abort();
    await assert.rejects(
      writeConfigurationArtifact(content, { ...target, signal }),
      failure('GK_INTERRUPTED'),
    );
    await assert.rejects(
      publishConfiguration(damaged(await read(setup)), target),
      failure('GK_ARTIFACT_CORRUPT'),
    );
    assert.equal(namesIn(setup.backups).length, 1);
    assert.deepEqual(openFilesBelow(setup.backups), []);
  });

  test('what a killed run left is taken away, but not what is being written', async (context) => {
    const setup = setUp(context);
    const [old, young] = ['.configuration.tar.old.partial', '.configuration.tar.young.partial'];
    for (const name of [old, young]) writeFileSync(join(setup.backups, name), '');
    utimesSync(join(setup.backups, old), 1, 1);
    await writeConfigurationArtifact(await read(setup), { targetDirectory: setup.backups });
    const names = readdirSync(setup.backups);
    assert.deepEqual([names.includes(old), names.includes(young)], [false, true]);
  });

  test('a jar of many pieces comes through', async (context) => {
    const setup = setUp(context);
    const jar = Buffer.alloc(2 * CONFIGURATION_COPY_BYTES + 77, 'jar');
    writeFileSync(join(setup.home, 'plugins/large.jar'), jar);
    const { artifactPath, manifest } = await writeConfigurationArtifact(
      await read(setup, { plugins: true }),
      {
        targetDirectory: setup.backups,
      },
    );
    const artifact = await ConfigurationArtifact.open(artifactPath);
    const member = artifact.manifest.members.find(({ path }) => path === 'large.jar')!;
    assert.equal(manifest.plugins.length, 2);
    const copy = join(setup.root, 'copy');
    await artifact.copyTo(member, copy, async (path) => assert.equal(statSync(path).mode & 0o777, 0o600));
    await artifact.close();
    assert.equal(readFileSync(copy).equals(jar), true);
  });
});

async function isAccepted(path: string): Promise<boolean> {
  try {
    const artifact = await ConfigurationArtifact.open(path);
    try {
      await artifact.verify();
      return true;
    } finally {
      await artifact.close();
    }
  } catch (error) {
    assert.ok(error instanceof GraphkeepError && error.code === 'GK_ARTIFACT_CORRUPT', String(error));
    return false;
  }
}

/** As a broken network or a broken server would deliver it. */
async function* damaged(content: Parameters<typeof configurationBytes>[0]): AsyncGenerator<Buffer, void> {
  for await (const piece of configurationBytes(content)) {
    if (piece.includes('sesame')) piece[0]! ^= 1;
    yield piece;
  }
}
