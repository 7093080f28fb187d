/** `dbms backup` and `dbms restore` with an object store in between, as a user types them; the configuration byte for byte. */
import assert from 'node:assert/strict';
import { cpSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import {
  ConfigurationArtifact,
  type ConfigurationContent,
  configurationBytes,
} from '../../src/artifact/configurationfile.ts';
import { openInstallation } from '../../src/neo4j/installation.ts';
import { readConfiguration } from '../../src/operations/configuration.ts';
import {
  publishConfiguration,
  writeConfigurationArtifact,
} from '../../src/operations/configurationbackup.ts';
import { listConfigurationArtifacts } from '../../src/operations/configurationnames.ts';
import { LEASE_FILE } from '../../src/storage/lease.ts';
import { storeOf, useStoreSettings } from '../../src/storage/places.ts';
import { makeDatabase } from '../fixtures/database.ts';
import { makeHome, PLUGIN } from '../fixtures/installations.ts';
import { noise } from '../fixtures/random.ts';
import { failure, filesBelow, makeFolder, namesIn, temporaryFolder } from '../fixtures/workspace.ts';
import { type CliRun, cli } from '../unit/cli/harness.ts';
import type { RunningStore } from './servers.ts';
import { all, keysOf, readAll, withEnvironment } from './suitetools.ts';

const LINE = '5.26';
/** More than a part of an upload has, so that it takes several. */
const JAR_BYTES = 20_000_003;

/** The files of a stopped Neo4j with two databases. */
function makeNeo4j(root: string): string {
  const home = makeHome(join(root, 'home'));
  const { storeDirectory, logDirectory } = makeDatabase(makeFolder(home, 'data'), LINE);
  cpSync(storeDirectory, join(storeDirectory, '../system'), { recursive: true });
  cpSync(logDirectory, join(logDirectory, '../system'), { recursive: true });
  return home;
}

async function succeeding(line: string[], { cliOptions, environment }: RunningStore): Promise<CliRun> {
  const run = await withEnvironment(environment, () => cli([...line, ...cliOptions]));
  assert.equal(run.exitStatus, 0, `${line.join(' ')}: ${run.stderr}`);
  return run;
}

export async function wholeDbms(context: TestContext, target: string, store: RunningStore): Promise<void> {
  const root = temporaryFolder(context);
  const home = makeNeo4j(root);
  const from = [`--neo4j-home=${home}`, `--to-path=${target}`, '--include-metadata=none'];
  context.after(() => useStoreSettings(store.throughProxy));
  const taken = await succeeding(['dbms', 'backup', ...from, '--include-plugins'], store);
  assert.match(taken.stderr, /3 of 3 parts backed up/);

  const [artifact, ...others] = (await succeeding(['backup', 'inspect', target], store)).stdout
    .split('\n')
    .flatMap((line) => /the newest is (configuration-\S+\.tar)$/.exec(line)?.[1] ?? []);
  assert.deepEqual(others, []);
  const shown = await succeeding(['backup', 'inspect', `${target}/${artifact}`], store);
  assert.match(shown.stdout, /^Configuration of Neo4j 5\.26\.30 /);

  const fresh = makeHome(join(root, 'new'), { 'lib/neo4j-kernel-5.26.30.jar': '' });
  const to = ['dbms', 'restore', `--neo4j-home=${fresh}`, `--from-path=${target}`];
  assert.match((await succeeding([...to, '--dry-run'], store)).stdout, /new file .*\/conf\/neo4j\.conf/);
  await succeeding(to, store);
  for (const name of ['conf', 'licenses', 'certificates/bolt/trusted'])
    assert.deepEqual(filesBelow(join(fresh, name)), filesBelow(join(home, name)), name);
  assert.deepEqual(filesBelow(join(fresh, 'plugins')).get('words.jar'), PLUGIN);
  for (const name of ['neo4j', 'system'])
    assert.ok(existsSync(join(fresh, 'data/databases', name, 'neostore')), name);

  // Beside databases that are named one by one as well.
  const named = ['database', 'backup', ...from, '--include-configuration', 'neo4j'];
  await succeeding(named, store);
  useStoreSettings(store.throughProxy);
  const present = await listConfigurationArtifacts(target);
  assert.equal(present.length, 2);

  // Of two more that are older than any backup, at most the later one lies next to one.
  const objects = await storeOf(target);
  for (const day of ['2020-01-01', '2020-01-02'])
    await objects.put(`configuration-${day}T00-00-00.tar`, Buffer.from('old'), { ifAbsent: true });
  await succeeding(['backup', 'expire', target, '--keep-last=9', '--confirm'], store);
  useStoreSettings(store.throughProxy);
  const left = await listConfigurationArtifacts(target);
  assert.deepEqual(left.slice(0, 2), present);
  assert.ok(!left.includes(`${target}/configuration-2020-01-01T00-00-00.tar`));
}

/** Into a folder and into the store in one run; the new machine is made of what is in the store. */
export async function wholeDbmsInTwoPlaces(
  context: TestContext,
  target: string,
  store: RunningStore,
): Promise<void> {
  const root = temporaryFolder(context);
  const home = makeNeo4j(root);
  const disk = makeFolder(root, 'disk');
  context.after(() => useStoreSettings(store.throughProxy));
  const from = [
    `--neo4j-home=${home}`,
    `--to-path=${disk}`,
    `--to-path=${target}`,
    '--include-metadata=none',
  ];
  const taken = await succeeding(['dbms', 'backup', ...from, '--format=json'], store);
  const { backups } = JSON.parse(taken.stdout) as { backups: { places: { artifactPath?: string }[] }[] };
  const names = namesIn(disk).sort();
  assert.deepEqual(
    backups.map(({ places }) => places.map(({ artifactPath }) => artifactPath)),
    ['neo4j-', 'system-', 'configuration-'].map((beginning) => {
      const name = names.find((file) => file.startsWith(beginning));
      return [`${disk}/${name}`, `${target}/${name}`];
    }),
  );
  useStoreSettings(store.throughProxy);
  const objects = await storeOf(target);
  for (const name of names)
    assert.ok((await readAll(objects, name)).equals(readFileSync(join(disk, name))), name);
  const fresh = makeHome(join(root, 'new'), { 'lib/neo4j-kernel-5.26.30.jar': '' });
  await succeeding(['dbms', 'restore', `--neo4j-home=${fresh}`, `--from-path=${target}`], store);
  assert.deepEqual(filesBelow(join(fresh, 'conf')), filesBelow(join(home, 'conf')));
}

async function contentOf(root: string): Promise<ConfigurationContent> {
  const home = makeHome(join(root, 'home'), {
    'conf/neo4j.conf': 'server.directories.import=import\n',
    'plugins/large.jar': noise(JAR_BYTES, 1),
  });
  const installation = await openInstallation({ home, environment: {} });
  return readConfiguration({ installation, includePlugins: true });
}

async function piecesOf(content: ConfigurationContent): Promise<Buffer> {
  return Buffer.concat(await all(configurationBytes(content)));
}

export async function configurationIsWhole(context: TestContext, target: string): Promise<void> {
  const root = temporaryFolder(context);
  const content = await contentOf(root);
  const { artifactPath, artifactBytes } = await writeConfigurationArtifact(content, {
    targetDirectory: target,
  });
  const expected = await piecesOf(content);
  assert.equal(artifactBytes, expected.length);
  const got = Buffer.alloc(expected.length);
  await (await storeOf(target)).read(artifactPath.slice(target.length + 1), 0, got);
  assert.equal(got.equals(expected), true);
  const artifact = await ConfigurationArtifact.open(artifactPath);
  await artifact.verify();
  await artifact.close();
  const second = await writeConfigurationArtifact(content, { targetDirectory: target });
  assert.deepEqual(await listConfigurationArtifacts(target), [second.artifactPath, artifactPath]);
}

export async function damagedConfigurationIsNotPublished(
  context: TestContext,
  targetDirectory: string,
): Promise<void> {
  const good = await piecesOf(await contentOf(temporaryFolder(context)));
  const damaged = (atByte: number): Buffer => {
    const bytes = Buffer.from(good);
    bytes[atByte]! ^= 1;
    return bytes;
  };
  const cases = {
    'its manifest': damaged(700),
    'a jar': damaged(good.length - 5_000_000),
    'its end': damaged(good.length - 1),
    'a cut': good.subarray(0, good.length - 512),
    more: Buffer.concat([good, Buffer.alloc(512)]),
  };
  for (const [name, bytes] of Object.entries(cases)) {
    await assert.rejects(
      publishConfiguration(piecesLike(bytes), { targetDirectory }),
      failure('GK_ARTIFACT_CORRUPT'),
      name,
    );
  }
  const stop = new AbortController();
  const interrupted = publishConfiguration(
    piecesLike(good, () => stop.abort()),
    { targetDirectory, signal: stop.signal },
  );
  await assert.rejects(interrupted, failure('GK_INTERRUPTED'));
  const store = await storeOf(targetDirectory);
  const objects = await keysOf(store);
  assert.deepEqual(
    objects.filter((key) => !key.startsWith(LEASE_FILE)),
    [],
  );
  assert.deepEqual(await all(store.listUploads('')), []);
}

/** @param onHalf called when half of it was taken */
async function* piecesLike(bytes: Buffer, onHalf: () => void = () => {}): AsyncGenerator<Buffer, void> {
  const pieceBytes = 100_003;
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    yield bytes.subarray(at, at + pieceBytes);
    if (at < bytes.length / 2 && at + pieceBytes >= bytes.length / 2) onHalf();
  }
}
