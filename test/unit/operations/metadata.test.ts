import assert from 'node:assert/strict';
import { cpSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { metadataScriptOf, withMetadataScript } from '../../../src/artifact/metadata.ts';
import { openArtifact } from '../../../src/artifact/reader.ts';
import { RECORD_STORES } from '../../../src/formats/records/layout.ts';
import { KIB, MIB } from '../../../src/limits.ts';
import { type DatabaseFolders, foldersBelow } from '../../../src/neo4j/folders.ts';
import { aggregateChain } from '../../../src/operations/aggregate.ts';
import { backupDatabase } from '../../../src/operations/backup.ts';
import { inspectArtifacts } from '../../../src/operations/inspect.ts';
import { type MetadataRequest, readMetadataScript } from '../../../src/operations/metadata.ts';
import { restoreDatabase } from '../../../src/operations/restore.ts';
import type { BackupOptions } from '../../../src/operations/types.ts';
import { ChainScene } from '../../fixtures/chains.ts';
import { makeDatabase } from '../../fixtures/database.ts';
import { unpackFixture } from '../../fixtures/graphs.ts';
import { LINES } from '../../fixtures/lines.ts';
import { noise } from '../../fixtures/random.ts';
import { failure, makeFolder, openFilesBelow, temporaryFolder } from '../../fixtures/workspace.ts';
import { cli } from '../cli/harness.ts';

/** How the users of the fixtures were made. */
const H = 'ab'.repeat(32);
const S = 'cd'.repeat(32);
const ODD = '`o``d\'d"\\u005Cu0060;//`';

const statements = (text: string): string[] => text.split('\n').filter((line) => /^CREATE USER/.test(line));

for (const line of LINES) {
  describe(`users of ${line}`, () => {
    const request = async (
      context: TestContext,
      more: Partial<MetadataRequest> = {},
    ): Promise<MetadataRequest> => ({
      system: await unpackFixture(context, line, 'users'),
      database: 'neo4j',
      include: { kind: 'all' },
      temporaryDirectory: temporaryFolder(context),
      ...more,
    });

    test('out of a copy of the system database, whose log holds them', async (context) => {
      const asked = await request(context);
      const { text, userCount, roleCount } = await readMetadataScript(asked);
      assert.deepEqual(
        statements(text),
        [
          `CREATE USER \`anna\` IF NOT EXISTS SET ENCRYPTED PASSWORD '1,${H},${S}' CHANGE NOT REQUIRED;`,
          `CREATE USER \`ben\` IF NOT EXISTS SET ENCRYPTED PASSWORD '1,${S},${H}' CHANGE REQUIRED;`,
          `CREATE USER ${ODD} IF NOT EXISTS SET ENCRYPTED PASSWORD '1,${H},${H}' CHANGE REQUIRED;`,
        ].concat(statements(text).filter((statement) => statement.includes('`neo4j`'))),
      );
      assert.equal(userCount, statements(text).length);
      assert.equal(roleCount, 0);
      assert.deepEqual(readdirSync(asked.temporaryDirectory), []);
      assert.deepEqual(openFilesBelow(asked.system.storeDirectory), []);
    });

    test('some of them; one that does not exist is not passed over', async (context) => {
      const asked = await request(context, { include: { kind: 'users', names: ['ben'] } });
      assert.match((await readMetadataScript(asked)).text, /`ben`/);
      assert.equal((await readMetadataScript(asked)).userCount, 1);
      const missing = { ...asked, include: { kind: 'users', names: ['ben', 'gone'] } } as const;
      await assert.rejects(readMetadataScript(missing), failure('GK_NOT_FOUND', /no user gone/));
    });

    test('roles alone, where there are none', async (context) => {
      const asked = await request(context, { include: { kind: 'roles' } });
      await assert.rejects(readMetadataScript(asked), failure('GK_UNSUPPORTED', /no roles/));
    });

    test('a damaged system database is an error, and nothing is left', async (context) => {
      const asked = await request(context);
      writeFileSync(join(asked.system.storeDirectory, RECORD_STORES.labelNames.file), noise(8192, 3));
      writeFileSync(join(asked.system.storeDirectory, RECORD_STORES.labels.file), noise(8192, 4));
      await assert.rejects(readMetadataScript(asked), failure('GK_STORE_DAMAGED', /record/));
      assert.deepEqual(readdirSync(asked.temporaryDirectory), []);
    });

    test('interrupted: nothing is left', async (context) => {
      const asked = await request(context, { signal: AbortSignal.abort() });
      await assert.rejects(readMetadataScript(asked), failure('GK_INTERRUPTED'));
      assert.deepEqual(readdirSync(asked.temporaryDirectory), []);
    });
  });
}

function takes(target: string, more: Partial<BackupOptions> = {}): BackupOptions {
  return {
    targetDirectory: target,
    compress: true,
    compressionLevel: 1,
    keepFailed: false,
    type: 'AUTO',
    ...more,
  };
}

interface Setting {
  readonly root: string;
  readonly source: DatabaseFolders;
  readonly backups: string;
}

function makeSetting(context: TestContext): Setting {
  const root = temporaryFolder(context);
  return { root, source: makeDatabase(join(root, 'data'), '5.26'), backups: makeFolder(root, 'backups') };
}

async function restoredScript(
  { root, backups }: Setting,
  artifactPath = backups,
): Promise<string | undefined> {
  const target = foldersBelow(join(root, 'restored/data'), 'other');
  const { metadataScriptPath } = await restoreDatabase({ artifactPath, target, overwriteDestination: true });
  if (metadataScriptPath === undefined) return undefined;
  assert.equal(metadataScriptPath, join(root, 'restored/data/scripts/other/restore_metadata.cypher'));
  assert.equal(statSync(metadataScriptPath).mode & 0o777, 0o600);
  return readFileSync(metadataScriptPath, 'utf8');
}

describe('in artifacts', () => {
  test('the newest one of a chain counts, also one without a transaction', async (context) => {
    const setting = makeSetting(context);
    const { source, backups } = setting;
    const full = await backupDatabase(source, takes(backups, { metadataScript: 'first' }));
    assert.equal(await restoredScript(setting), 'first');
    const empty = await backupDatabase(source, takes(backups, { metadataScript: 'second' }));
    assert.equal(empty.highestTransaction, 0n);
    assert.equal(await restoredScript(setting), 'second');
    assert.equal(await restoredScript(setting, empty.artifactPath), 'second');
    // A file stands for its own end.
    assert.equal(await restoredScript(setting, full.artifactPath), 'first');
    const none = await backupDatabase(source, takes(backups));
    assert.equal(none.highestTransaction, 0n);
    assert.equal(await restoredScript(setting), 'second');
  });

  test('without one, none is written', async (context) => {
    const setting = makeSetting(context);
    await backupDatabase(setting.source, takes(setting.backups));
    assert.equal(await restoredScript(setting), undefined);
  });

  test('a long one is compressed; one that no head can hold is refused', async (context) => {
    const setting = makeSetting(context);
    const line = `CREATE USER x SET ENCRYPTED PASSWORD '${noise(40, 1).toString('hex')}';\n`;
    const long = line.repeat(Math.ceil((1.5 * MIB) / line.length));
    for (const compress of [true, false]) {
      rmSync(setting.backups, { recursive: true });
      makeFolder(setting.backups);
      const { artifactPath } = await backupDatabase(
        setting.source,
        takes(setting.backups, { metadataScript: long, compress }),
      );
      const artifact = await openArtifact(artifactPath);
      await artifact.file.close();
      const { properties } = artifact.descriptor;
      assert.deepEqual(
        [properties.has('metadataScript'), properties.has('compressedMetadataScript')],
        [false, true],
      );
      assert.equal(await restoredScript(setting), long);
    }
    assert.throws(
      () => withMetadataScript(new Map(), Buffer.from(noise(20 * MIB, 2).toString('latin1'))),
      failure('GK_UNSUPPORTED', /too long/),
    );
  });

  test('one of a mebibyte is kept as it is, in a head of several blocks', async (context) => {
    const setting = makeSetting(context);
    const script = `// ${noise(500 * KIB, 5).toString('hex')}\n`;
    await backupDatabase(setting.source, takes(setting.backups, { metadataScript: script }));
    assert.equal(await restoredScript(setting), script);
  });

  test('inspect says that there is one, and does not show it', async (context) => {
    const { source, backups } = makeSetting(context);
    await backupDatabase(source, takes(backups, { metadataScript: 'the secret' }));
    const { artifacts } = await inspectArtifacts(backups);
    assert.equal(artifacts[0]?.hasMetadata, true);
    for (const form of ['TABULAR', 'JSON']) {
      const run = await cli(['backup', 'inspect', backups, `--format=${form}`]);
      assert.doesNotMatch(run.stdout + run.stderr, /secret/);
    }
  });

  test('a target that has a script gets the new one as a whole', async (context) => {
    const setting = makeSetting(context);
    await backupDatabase(setting.source, takes(setting.backups, { metadataScript: 'a new one' }));
    const scripts = makeFolder(setting.root, 'restored/data/scripts/other');
    writeFileSync(join(scripts, 'restore_metadata.cypher'), 'an old and longer one', { mode: 0o644 });
    assert.equal(await restoredScript(setting), 'a new one');
    assert.deepEqual(readdirSync(scripts), ['restore_metadata.cypher']);
  });

  test('a chain that becomes one artifact keeps the newest one', async (context) => {
    const scene = new ChainScene(context, '5.26', { last: 20n });
    await scene.backup('FULL', { metadataScript: 'of the full one' });
    scene.database.appendTo(30n);
    await scene.backup('DIFF', { metadataScript: 'of the differential one' });
    await scene.backup('DIFF');
    const { artifactPath } = await aggregateChain({
      ...takes(scene.target),
      artifactPath: scene.target,
      keepOldBackup: false,
    });
    const artifact = await openArtifact(artifactPath);
    await artifact.file.close();
    assert.equal(metadataScriptOf(artifact)?.toString(), 'of the differential one');
  });
});

describe('database backup --include-metadata', () => {
  const run = async (context: TestContext, withSystem: boolean, ...options: string[]) => {
    const { root, source, backups } = makeSetting(context);
    if (withSystem) {
      const system = await unpackFixture(context, '5.26', 'users');
      cpSync(system.storeDirectory, join(root, 'data/databases/system'), { recursive: true });
      cpSync(system.logDirectory, join(root, 'data/transactions/system'), { recursive: true });
    }
    const from = [
      `--from-path-data=${dirname(source.storeDirectory)}`,
      `--from-path-txn=${dirname(source.logDirectory)}`,
    ];
    const result = await cli(['database', 'backup', ...from, `--to-path=${backups}`, ...options, 'neo4j']);
    const { artifacts } = await inspectArtifacts(backups);
    return { ...result, hasMetadata: artifacts[0]?.hasMetadata };
  };

  test('by default all users, and the report counts them', async (context) => {
    const { exitStatus, stdout, hasMetadata } = await run(context, true);
    assert.equal(exitStatus, 0);
    assert.equal(hasMetadata, true);
    assert.match(stdout, /metadata +\d users; the artifact holds password hashes/);
  });

  test('where there is no system database: a note by default, an error when it was asked for', async (context) => {
    const byDefault = await run(context, false);
    assert.equal(byDefault.exitStatus, 0);
    assert.equal(byDefault.hasMetadata, undefined);
    assert.match(byDefault.stderr, /the artifact carries no users: there is no database system/);
    const asked = await run(context, false, '--include-metadata=all');
    assert.equal(asked.exitStatus, 66);
    assert.match(asked.stderr, /no database system/);
    const none = await run(context, false, '--include-metadata=none');
    assert.equal(none.exitStatus, 0);
    assert.doesNotMatch(none.stderr, /users/);
  });

  test('some users, in JSON', async (context) => {
    const { stdout } = await run(context, true, '--include-metadata=users=anna,ben', '--format=JSON');
    const { backups } = JSON.parse(stdout) as { backups: { metadata: unknown; notices: unknown }[] };
    assert.deepEqual(backups[0]?.metadata, { userCount: 2, roleCount: 0 });
    assert.deepEqual(backups[0]?.notices, []);
  });

  test('the system database carries none', async (context) => {
    const system = await unpackFixture(context, '5.26', 'users');
    const backups = makeFolder(temporaryFolder(context), 'backups');
    const from = [
      `--from-path-data=${dirname(system.storeDirectory)}`,
      `--from-path-txn=${dirname(system.logDirectory)}`,
    ];
    const result = await cli([
      'database',
      'backup',
      ...from,
      `--to-path=${backups}`,
      '--include-metadata=all',
      'system',
    ]);
    assert.equal(result.exitStatus, 0, result.stderr);
    assert.match(result.stderr, /the artifact of system holds users and roles themselves/);
    assert.equal((await inspectArtifacts(backups)).artifacts[0]?.hasMetadata, undefined);
  });
});
