/**
 * A whole DBMS of one line: users, data, indexes, a plugin, TLS and settings are backed up while it runs; its home is
 * thrown away, and a new one, which holds a freshly installed Neo4j and nothing else, becomes the same server again.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import neo4j, { type Config } from 'neo4j-driver';
import { ensureDistribution, type Line } from './harness/distribution.ts';
import { createHome, type Home, type Server, scratchRoot, startServer } from './harness/server.ts';
import { AT_FULL_SPEED, runProgram } from './program.ts';

const run = promisify(execFile);

const SETTINGS = {
  'dbms.security.auth_enabled': 'true',
  'dbms.security.auth_minimum_password_length': '1',
  'db.transaction.timeout': '17s',
  'server.bolt.tls_level': 'OPTIONAL',
  'dbms.ssl.policy.bolt.enabled': 'true',
  'dbms.ssl.policy.bolt.base_directory': 'certificates/bolt',
  'dbms.security.procedures.unrestricted': 'graphkeep.*',
};
/** What an installation of Neo4j brings along. */
const FRESH_SETTINGS = '# settings of the installation\nserver.directories.import=import\n';
const PEOPLE = 500;

interface Story {
  line: Line;
  scratch: string;
  backups: string;
  source: Home;
  server: Server;
  target: Home;
  /** As a careful operator keeps it: not with the backups. */
  safe: string;
}

export function defineDbmsTests(line: Line): void {
  describe(`a whole DBMS of Neo4j ${line}`, () => {
    const story = { line } as Story;
    before(() => prepare(story));
    after(async () => {
      await story.server?.[Symbol.asyncDispose]();
      await rm(story.scratch, { recursive: true, force: true });
    });

    test('dbms backup takes all of it from the running server, but no private key', () => takeAll(story));
    test('a running server is never restored into', () => refusesRunning(story));
    test('without the jars, the plan of a restore names the plugin to be installed', () =>
      namesPlugin(story));
    test('what an installation brought is replaced only when that was asked for, and kept', () =>
      restoresAll(story));
    test('the new machine is the old one: user, data, index, plugin, setting, certificate', () =>
      isTheSame(story));
  });
}

async function prepare(story: Story): Promise<void> {
  story.scratch = await mkdtemp(join(await scratchRoot(), 'graphkeep-dbms-'));
  story.backups = join(story.scratch, 'backups');
  story.safe = join(story.scratch, 'private.key');
  await mkdir(story.backups);
  const { line } = story;
  story.source = await createHome({ line, dir: join(story.scratch, 'source'), extraConf: SETTINGS });
  await linkProgram(story.source);
  await setInitialPassword(story.source);
  await makeCertificate(story);
  await makePlugin(story);
  story.server = await startServer(story.source);
  await story.server.driver.executeQuery(
    "CREATE USER anna SET PASSWORD 'of anna' CHANGE NOT REQUIRED",
    {},
    { database: 'system' },
  );
  await query(story.server, 'CREATE INDEX by_name FOR (p:Person) ON (p.name)');
  await query(story.server, `UNWIND range(1, ${PEOPLE}) AS n CREATE (:Person {name: 'person ' + n})`);
}

/** The jars of the program, as an installation has them below its home. */
async function linkProgram(home: Home): Promise<void> {
  await symlink((await ensureDistribution(home.line)).libraryFolder, join(home.dir, 'lib'));
}

/** What `neo4j-admin dbms set-initial-password` leaves for the first start. */
async function setInitialPassword(home: Home): Promise<void> {
  const salt = randomBytes(32);
  let hash = createHash('sha256').update(salt).update('neo4j').digest();
  for (let round = 1; round < 1024; round++) hash = createHash('sha256').update(hash).digest();
  await mkdir(join(home.dir, 'data/dbms'), { recursive: true });
  const credentials = `SHA-256,${hash.toString('hex')},${salt.toString('hex')},1024`;
  await writeFile(join(home.dir, 'data/dbms/auth.ini'), `neo4j:${credentials}:\n`);
}

async function makeCertificate({ source, safe }: Story): Promise<void> {
  const folder = join(source.dir, 'certificates/bolt');
  await mkdir(join(folder, 'trusted'), { recursive: true });
  const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost'];
  const files = ['-keyout', join(folder, 'private.key'), '-out', join(folder, 'public.crt')];
  await run('openssl', [...request, ...files]);
  await cp(join(folder, 'public.crt'), join(folder, 'trusted/own.crt'));
  await cp(join(folder, 'private.key'), safe);
  // A second key, under a name that says nothing and that no setting knows.
  await cp(join(folder, 'private.key'), join(folder, 'notes.txt'));
}

const PROCEDURE = `package graphkeep;
import java.util.stream.Stream;
import org.neo4j.procedure.Procedure;
public class Plugin {
  public static class Row { public String word; }
  @Procedure("graphkeep.word")
  public Stream<Row> word() { Row row = new Row(); row.word = "from the plugin"; return Stream.of(row); }
}
`;

async function makePlugin({ source, scratch }: Story): Promise<void> {
  const { javaHome, libraryFolder } = await ensureDistribution(source.line);
  const folder = join(scratch, 'plugin');
  await mkdir(join(folder, 'classes'), { recursive: true });
  await writeFile(join(folder, 'Plugin.java'), PROCEDURE);
  await writeFile(join(folder, 'manifest'), 'Implementation-Title: words\nImplementation-Version: 1.2.3\n');
  const api = (await readdir(libraryFolder)).find((name) => name.startsWith('neo4j-procedure-api-'))!;
  const compile = [
    '-cp',
    join(libraryFolder, api),
    '-d',
    join(folder, 'classes'),
    join(folder, 'Plugin.java'),
  ];
  await run(join(javaHome, 'bin/javac'), compile);
  const jar = [
    'cfm',
    join(source.dir, 'plugins/words.jar'),
    join(folder, 'manifest'),
    '-C',
    join(folder, 'classes'),
    '.',
  ];
  await run(join(javaHome, 'bin/jar'), jar);
}

async function query(server: Server, text: string): Promise<Record<string, unknown>[]> {
  const { records } = await server.driver.executeQuery(text, {}, { database: 'neo4j' });
  return records.map((record) => record.toObject());
}

interface Part {
  readonly subject: string;
  readonly ok: boolean;
  readonly kind: string;
  readonly artifactPath: string;
  readonly manifest: {
    readonly neo4j: { readonly version: string; readonly edition: string };
    readonly members: readonly { readonly place: string; readonly path: string }[];
    readonly plugins: readonly {
      readonly file: string;
      readonly version: string;
      readonly included: boolean;
    }[];
    readonly leftOut: readonly { readonly file: string; readonly reason: string }[];
  };
}

async function takeAll({ source, backups }: Story): Promise<void> {
  const places = [`--neo4j-home=${source.dir}`, `--to-path=${backups}`];
  const first = await runProgram(['dbms', 'backup', ...places, AT_FULL_SPEED]);
  assert.equal(first.status, 0, first.stderr);
  const started = first.stdout.split('\n').filter((line) => /^(database|configuration)/.test(line));
  assert.deepEqual(
    started.map((line) => line.split(/ {2,}/).slice(0, 1)),
    [['database neo4j'], ['database system'], ['configuration']],
  );
  assert.match(first.stdout, /left out {6}certificates\/bolt\/private\.key: a private key/);
  assert.match(first.stdout, /plugin {8}words\.jar, version 1\.2\.3: only its hash was taken/);
  assert.match(first.stderr, /3 of 3 parts backed up\n$/);
  const key = await readFile(join(source.dir, 'certificates/bolt/private.key'), 'utf8');
  const secret = key.split('\n')[3]!;
  for (const name of await readdir(backups)) {
    const content = await readFile(join(backups, name));
    assert.equal(content.includes(secret), false, `${name} holds the private key`);
    if (name.endsWith('.tar')) assert.equal((await stat(join(backups, name))).mode & 0o777, 0o600);
  }
}

async function refusesRunning({ source, backups }: Story): Promise<void> {
  const before = await readFile(join(source.dir, 'conf/neo4j.conf'), 'utf8');
  const args = [
    'dbms',
    'restore',
    `--neo4j-home=${source.dir}`,
    `--from-path=${backups}`,
    '--overwrite-destination',
  ];
  const refused = await runProgram(args);
  assert.equal(refused.status, 80, refused.stderr);
  assert.match(refused.stderr, /Neo4j is running: it holds .*store_lock/);
  assert.equal(await readFile(join(source.dir, 'conf/neo4j.conf'), 'utf8'), before);
}

/** A new machine: the program files, and the settings that come with them. */
async function newMachine(story: Story, name: string): Promise<Home> {
  const dir = join(story.scratch, name);
  const home: Home = {
    ...story.source,
    dir,
    databaseFolder: join(dir, 'data/databases/neo4j'),
    transactionsFolder: join(dir, 'data/transactions/neo4j'),
    configurationFolder: join(dir, 'conf'),
  };
  for (const folder of ['conf', 'logs', 'import', 'plugins', 'run'])
    await mkdir(join(dir, folder), { recursive: true });
  await writeFile(join(dir, 'conf/neo4j.conf'), FRESH_SETTINGS);
  await linkProgram(home);
  return home;
}

async function namesPlugin(story: Story): Promise<void> {
  const { dir } = await newMachine(story, 'planned');
  const args = ['dbms', 'restore', `--neo4j-home=${dir}`, `--from-path=${story.backups}`, '--dry-run'];
  const plan = await runProgram([...args, '--overwrite-destination']);
  assert.equal(plan.status, 0, plan.stderr);
  assert.match(
    plan.stdout,
    /words\.jar, version 1\.2\.3: IS MISSING: install it as .*\/plugins\/words\.jar\n +SHA-256 [0-9a-f]{64}/,
  );
  assert.match(plan.stdout, /private key {3}.*\/certificates\/bolt\/private\.key: IS MISSING/);
  assert.match(
    plan.stdout,
    /Would restore database 'system' to .*planned\/data\/databases\/system: 1 artifact/,
  );
  assert.deepEqual((await readdir(dir)).sort(), ['conf', 'import', 'lib', 'logs', 'plugins', 'run']);
  assert.equal(await readFile(join(dir, 'conf/neo4j.conf'), 'utf8'), FRESH_SETTINGS);
  await rm(dir, { recursive: true });
}

async function restoresAll(story: Story): Promise<void> {
  const { source, backups, server } = story;
  await query(server, "CREATE (:Person {name: 'the last one'})");
  const more = ['--include-plugins', '--format=json', AT_FULL_SPEED];
  const taken = await runProgram([
    'dbms',
    'backup',
    `--neo4j-home=${source.dir}`,
    `--to-path=${backups}`,
    ...more,
  ]);
  assert.equal(taken.status, 0, taken.stderr);
  const parts = (JSON.parse(taken.stdout) as { backups: Part[] }).backups;
  assert.deepEqual(
    parts.map(({ subject, kind, ok }) => [subject, kind, ok]),
    [
      ['neo4j', 'differential', true],
      ['system', 'differential', true],
      ['configuration', 'configuration', true],
    ],
  );
  const { manifest } = parts[2]!;
  assert.deepEqual(manifest.neo4j, {
    version: (await ensureDistribution(story.line)).version,
    edition: 'community',
  });
  assert.deepEqual(
    manifest.plugins.map(({ file, version, included }) => [file, version, included]),
    [['words.jar', '1.2.3', true]],
  );
  assert.deepEqual(
    manifest.leftOut.filter(({ file }) => file.startsWith('certificates')),
    [
      { file: 'certificates/bolt/notes.txt', reason: 'privateKey' },
      { file: 'certificates/bolt/private.key', reason: 'privateKey' },
    ],
  );
  await server.kill();
  await rm(source.dir, { recursive: true });
  await restoreNew(story);
}

async function restoreNew(story: Story): Promise<void> {
  const home = await newMachine(story, 'new');
  const args = ['dbms', 'restore', `--neo4j-home=${home.dir}`, `--from-path=${story.backups}`];
  const refused = await runProgram(args);
  assert.equal(refused.status, 73, refused.stderr);
  assert.match(refused.stderr, /there already.*new\/conf\/neo4j\.conf/);
  assert.deepEqual((await readdir(home.dir)).sort(), ['conf', 'import', 'lib', 'logs', 'plugins', 'run']);
  const restored = await runProgram([...args, '--overwrite-destination']);
  assert.equal(restored.status, 0, restored.stderr);
  assert.match(
    restored.stdout,
    /Restored database 'system'[\s\S]*Restored database 'neo4j'[\s\S]*Restored the configuration/,
  );
  assert.match(restored.stderr, /next: put back 2 private keys, start Neo4j\n$/);
  const kept = (await readdir(home.dir)).find((name) => name.startsWith('configuration.before-'))!;
  assert.equal(await readFile(join(home.dir, kept, 'configuration/neo4j.conf'), 'utf8'), FRESH_SETTINGS);
  // system brings the users: no script with hashes of their passwords is left behind.
  assert.equal((await readdir(join(home.dir, 'data'))).includes('scripts'), false);
  story.target = home;
}

async function isTheSame(story: Story): Promise<void> {
  const { target } = story;
  await cp(story.safe, join(target.dir, 'certificates/bolt/private.key'));
  story.server = await startServer(target);
  await query(story.server, 'CALL db.awaitIndexes(60)');
  const [people] = await query(
    story.server,
    "MATCH (p:Person) USING INDEX p:Person(name) WHERE p.name STARTS WITH '' RETURN count(p) AS count",
  );
  assert.deepEqual(people, { count: PEOPLE + 1 });
  const [index] = await query(story.server, "SHOW INDEXES YIELD name, state WHERE name = 'by_name'");
  assert.deepEqual(index, { name: 'by_name', state: 'ONLINE' });
  assert.deepEqual(await query(story.server, 'CALL graphkeep.word()'), [{ word: 'from the plugin' }]);
  const [setting] = await query(story.server, "SHOW SETTINGS 'db.transaction.timeout' YIELD value");
  assert.deepEqual(setting, { value: '17s' });
  assert.deepEqual(await logIn(target, 'of anna'), ['anna']);
  await assert.rejects(logIn(target, 'of somebody else'), /unauthorized/i);
  const certificate = join(target.dir, 'certificates/bolt/trusted/own.crt');
  const encrypted: Config = {
    encrypted: 'ENCRYPTION_ON',
    trust: 'TRUST_CUSTOM_CA_SIGNED_CERTIFICATES',
    trustedCertificates: [certificate],
  };
  assert.deepEqual(await logIn(target, 'of anna', encrypted), ['anna']);
}

async function logIn({ boltPort }: Home, password: string, config: Config = {}): Promise<string[]> {
  const driver = neo4j.driver(`bolt://localhost:${boltPort}`, neo4j.auth.basic('anna', password), config);
  try {
    const { records } = await driver.executeQuery('SHOW CURRENT USER YIELD user', {}, { database: 'system' });
    return records.map((record) => record.get('user'));
  } finally {
    await driver.close();
  }
}
