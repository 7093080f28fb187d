/**
 * Users on real servers of one line, with authentication on: taken out of the system database while the server runs and
 * before any checkpoint, carried by an artifact, brought back by its script. And the native reader, which this stands on,
 * asked for the same graph as the server.
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import neo4j, { type Driver } from 'neo4j-driver';
import { foldersBelow } from '../../src/neo4j/folders.ts';
import { withGraphOf } from '../../src/operations/graphcopy.ts';
import { readMetadataScript } from '../../src/operations/metadata.ts';
import { canonicalNode, describeGraph } from '../fixtures/graphs.ts';
import { portOf, startProgram } from '../fixtures/serverprocess.ts';
import type { Line } from './harness/distribution.ts';
import { createHome, type Home, type Server, scratchRoot, startServer } from './harness/server.ts';
import { AT_FULL_SPEED, runProgram } from './program.ts';

/** What the harness logs in with. */
const INITIAL = { user: 'neo4j', password: 'neo4j' };
const OLD_ADMIN_PASSWORD = 'the old one';
/** Whatever Neo4j lets a name be made of. An escape in it would end the quotes of a naive script. */
const ODD_NAME = 'o`d\'d"\\u0060;//{}$x\\';
const AUTHENTICATION_ON = {
  'dbms.security.auth_enabled': 'true',
  'dbms.security.auth_minimum_password_length': '1',
};

/** What `neo4j-admin dbms set-initial-password` leaves for the first start. */
async function setInitialPassword(home: Home): Promise<void> {
  const salt = randomBytes(32);
  let hash = createHash('sha256').update(salt).update(INITIAL.password).digest();
  for (let round = 1; round < 1024; round++) hash = createHash('sha256').update(hash).digest();
  const credentials = `SHA-256,${hash.toString('hex')},${salt.toString('hex')},1024`;
  await mkdir(join(home.dir, 'data/dbms'), { recursive: true });
  await writeFile(join(home.dir, 'data/dbms/auth.ini'), `${INITIAL.user}:${credentials}:\n`);
}

async function asUser<Result>(
  home: Home,
  user: string,
  password: string,
  work: (driver: Driver) => Promise<Result>,
): Promise<Result> {
  const driver = neo4j.driver(home.boltUri, neo4j.auth.basic(user, password), {
    disableLosslessIntegers: true,
  });
  try {
    return await work(driver);
  } finally {
    await driver.close();
  }
}

const logIn = (home: Home, user: string, password: string): Promise<unknown> =>
  asUser(home, user, password, (driver) => driver.executeQuery('RETURN 1', {}, { database: 'neo4j' }));

async function onSystem(
  { driver }: { driver: Driver },
  query: string,
  parameters: Record<string, unknown> = {},
): Promise<Record<string, unknown>[]> {
  const { records } = await driver.executeQuery(query, parameters, { database: 'system' });
  return records.map((record) => record.toObject());
}

/** As cypher-shell does: statement by statement, with the parameter. */
async function runScript(server: { driver: Driver }, script: string): Promise<void> {
  const statements = script.split('\n').filter((line) => line !== '' && !line.startsWith('//'));
  assert.ok(statements.length > 0);
  for (const statement of statements)
    await onSystem(server, statement.replace(/;$/, ''), { database: 'neo4j' });
}

async function backup(home: Home, target: string, ...more: string[]) {
  const run = await runProgram([
    'database',
    'backup',
    `--neo4j-home=${home.dir}`,
    `--to-path=${target}`,
    '--format=JSON',
    AT_FULL_SPEED,
    ...more,
  ]);
  assert.equal(run.status, 0, run.stderr + run.stdout);
  return (JSON.parse(run.stdout) as { backups: Record<string, unknown>[] }).backups;
}

interface Story {
  scratch: string;
  backups: string;
  source: Home;
  sourceServer: Server;
  target: Home;
}

export function defineMetadataTests(line: Line): void {
  describe(`users of Neo4j ${line}`, () => {
    const story = {} as Story;
    before(async () => {
      story.scratch = await mkdtemp(join(await scratchRoot(), 'graphkeep-metadata-'));
      story.backups = join(story.scratch, 'backups');
      await mkdir(story.backups);
      story.source = await createHome({
        line,
        dir: join(story.scratch, 'source'),
        extraConf: AUTHENTICATION_ON,
      });
      await setInitialPassword(story.source);
      story.sourceServer = await startServer(story.source);
    });
    after(async () => {
      await story.sourceServer?.[Symbol.asyncDispose]();
      await rm(story.scratch, { recursive: true, force: true });
    });

    test('an artifact carries the users that were made a moment ago', () => usersAreCarried(story));
    test('inspect says that they are there, and does not show them', () => inspectIsDiscreet(story));
    test('a later artifact without a transaction knows of later users', () => laterUsers(story));
    test('what is asked for in so many words is had or refused', () => explicitChoices(story));
    test('a backup server gives the users, and Neo4j says over Bolt where it is', (context) =>
      overTheNetwork(story, context));
    test('the native reader sees the graph that the server sees', () =>
      sameGraph(story.sourceServer, story.scratch));
    test('what Enterprise keeps beside users', () => likeEnterprise(story));
    test('after restore and script the users log in', () => usersLogIn(story, line));
  });
}

async function usersAreCarried({ source, sourceServer, backups }: Story): Promise<void> {
  await onSystem(sourceServer, "CREATE USER anna SET PASSWORD 'of anna' CHANGE NOT REQUIRED");
  await onSystem(sourceServer, "CREATE USER ben SET PASSWORD 'of ben' CHANGE REQUIRED");
  await onSystem(sourceServer, "CREATE USER gone SET PASSWORD 'of gone' CHANGE NOT REQUIRED");
  await onSystem(sourceServer, "CREATE USER $name SET PASSWORD 'of odd' CHANGE NOT REQUIRED", {
    name: ODD_NAME,
  });
  await onSystem(sourceServer, 'DROP USER gone');
  await onSystem(sourceServer, 'ALTER USER neo4j SET PASSWORD $password CHANGE NOT REQUIRED', {
    password: OLD_ADMIN_PASSWORD,
  });
  const taken = await backup(source, backups, 'neo4j', 'system');
  const [ofNeo4j, ofSystem] = taken;
  assert.deepEqual(ofNeo4j?.metadata, { userCount: 4, roleCount: 0 });
  assert.deepEqual(ofNeo4j?.notices, []);
  assert.equal(ofSystem?.metadata, undefined);
  // They were in the log only: no checkpoint had written them to the stores.
  assert.ok(Number(ofSystem?.transactionsAfterFence) >= 6);
  assert.deepEqual(
    await readdir(backups).then((names) => names.filter((name) => name.startsWith('.graphkeep-graph'))),
    [],
  );
}

async function inspectIsDiscreet({ backups }: Story): Promise<void> {
  const run = await runProgram(['backup', 'inspect', backups, '--format=JSON']);
  const { artifacts } = JSON.parse(run.stdout) as {
    artifacts: { database: string; hasMetadata?: boolean; file: string }[];
  };
  assert.equal(artifacts.find(({ database }) => database === 'neo4j')?.hasMetadata, true);
  assert.equal(artifacts.find(({ database }) => database === 'system')?.hasMetadata, undefined);
  assert.doesNotMatch(run.stdout, /CREATE USER|anna/);
  for (const { file } of artifacts) assert.equal((await stat(new URL(file))).mode & 0o777, 0o600);
}

async function laterUsers({ source, sourceServer, backups }: Story): Promise<void> {
  await onSystem(sourceServer, "CREATE USER carla SET PASSWORD 'of carla' CHANGE NOT REQUIRED");
  const [taken] = await backup(source, backups, 'neo4j');
  assert.equal(taken?.kind, 'differential');
  assert.equal(taken?.highestTransaction, 0);
  assert.deepEqual(taken?.metadata, { userCount: 5, roleCount: 0 });
}

async function overTheNetwork({ source, scratch }: Story, context: TestContext): Promise<void> {
  const served = startProgram(context, [
    'server',
    `--neo4j-home=${source.dir}`,
    '--listen-address=127.0.0.1:0',
  ]);
  const port = await portOf(served);
  const [target, passwordFile] = [join(scratch, 'over the network'), join(scratch, 'bolt password')];
  await mkdir(target);
  await writeFile(passwordFile, `${OLD_ADMIN_PASSWORD}\n`, { mode: 0o600 });
  const run = await runProgram([
    ...['database', 'backup', `--from=localhost:${port}`, `--to-path=${target}`, '--format=JSON', 'neo4j'],
    ...[
      '--remote-address-resolution',
      `--bolt-address=${source.boltUri}`,
      `--bolt-password-file=${passwordFile}`,
    ],
  ]);
  assert.equal(run.status, 0, run.stderr + run.stdout);
  const { backups } = JSON.parse(run.stdout) as { backups: { artifactPath: string; metadata: unknown }[] };
  assert.deepEqual(backups[0]!.metadata, { userCount: 5, roleCount: 0 });
  await writeFile(passwordFile, 'another one\n', { mode: 0o600 });
  const refused = await runProgram([
    ...['database', 'backup', `--from=localhost:${port}`, `--to-path=${target}`, 'neo4j'],
    ...[
      '--remote-address-resolution',
      `--bolt-address=${source.boltUri}`,
      `--bolt-password-file=${passwordFile}`,
    ],
  ]);
  assert.equal(refused.status, 74);
  assert.match(refused.stderr, /the places of the databases could not be asked for at .*unauthorized/i);
  served.kill('SIGTERM');
  assert.equal(await served.ended, 0);
}

async function explicitChoices({ source, scratch }: Story): Promise<void> {
  const target = join(scratch, 'choices');
  await mkdir(target);
  const [two] = await backup(source, target, '--include-metadata=users=anna,ben', 'neo4j');
  assert.deepEqual(two?.metadata, { userCount: 2, roleCount: 0 });
  const [none] = await backup(source, target, '--type=full', '--include-metadata=none', 'neo4j');
  assert.equal(none?.metadata, undefined);
  const common = ['database', 'backup', `--neo4j-home=${source.dir}`, `--to-path=${target}`];
  const roles = await runProgram([...common, '--include-metadata=roles']);
  assert.equal(roles.status, 69);
  assert.match(roles.stderr, /no roles: Community Edition/);
  const unknown = await runProgram([...common, '--include-metadata=users=anna,zoe']);
  assert.equal(unknown.status, 66);
  assert.match(unknown.stderr, /no user zoe/);
}

const GRAPH = `
  CREATE (hub:Hub:A:B:C:D:E:F:G:H:I {long: $long, strings: ['a', 'ö', $long], numbers: range(1, 300),
    floats: [1.5, -2.25], booleans: [true, false, true], negative: [-1, 2, -300]})
  CREATE (hub)-[:LOOP]->(hub)
  WITH hub UNWIND range(1, 150) AS i
  CREATE (hub)-[:OUT {i: i}]->(leaf:Leaf {i: i, text: 'leaf ' + i})
  CREATE (leaf)-[:BACK]->(hub)
  WITH hub, leaf WHERE leaf.i % 2 = 0
  CREATE (hub)-[:TWICE]->(leaf)`;
const CHANGES = [
  'MATCH (l:Leaf) WHERE l.i % 10 = 0 DETACH DELETE l',
  "MATCH (l:Leaf) WHERE l.i % 7 = 0 SET l.text = 'longer than it was before, and more than fits: ' + l.i REMOVE l:Leaf SET l:Other",
  "MATCH (h:Hub) REMOVE h.strings SET h.long = 'short'",
  'MATCH (:Hub)-[r:OUT]->() WHERE r.i % 3 = 0 DELETE r',
];

/** Both sides in one form: a line for each node, by the id that Neo4j calls the internal one. */
async function sameGraph({ driver, home }: Server, scratch: string): Promise<void> {
  const run = (query: string, parameters = {}) =>
    driver.executeQuery(query, parameters, { database: 'neo4j' });
  await run(GRAPH, { long: 'long text '.repeat(100) });
  for (const change of CHANGES) await run(change);
  const { records } = await run(`
    MATCH (n) OPTIONAL MATCH (n)-[r]-() WITH n, count(DISTINCT r) AS degree, collect(DISTINCT type(r)) AS types
    RETURN id(n) AS id, labels(n) AS labels, properties(n) AS properties, degree, types ORDER BY id`);
  const expected = records.map((record) => {
    const { id, labels, properties, degree, types } = record.toObject();
    return canonicalNode({ id, labels: labels.toSorted(), properties, degree, types: types.toSorted() });
  });
  assert.ok(expected.length > 100);
  const folders = foldersBelow(join(home.dir, 'data'), 'neo4j');
  const native = await withGraphOf(folders, { temporaryDirectory: scratch }, describeGraph);
  assert.deepEqual(native, expected);
}

/**
 * No Enterprise server was available: nodes as its `system` database has them, in the database `neo4j`, which the reader is
 * told to be `system`. Roles are asked for over Bolt, which a Community server refuses.
 */
async function likeEnterprise({ source, sourceServer: { driver }, scratch }: Story): Promise<void> {
  const credentials = `SHA-256,${'ab'.repeat(32)},${'cd'.repeat(32)},1024`;
  await driver.executeQuery(
    `CREATE (:Role {name: 'reader'})
     CREATE (:User {name: 'eve', credentials: $credentials, passwordChangeRequired: false, suspended: true, homeDatabase: 'neo4j'})
       -[:HAS_AUTH]->(:Auth {provider: 'native'})
     CREATE (o:User {name: 'otto', suspended: false})-[:HAS_AUTH]->(:Auth {provider: 'oidc-\nx'})`,
    { credentials },
    { database: 'neo4j' },
  );
  const notices: string[] = [];
  const request = {
    system: foldersBelow(join(source.dir, 'data'), 'neo4j'),
    database: 'neo4j',
    temporaryDirectory: scratch,
    listener: { progress: () => {}, notice: (text: string) => notices.push(text) },
  };
  const { text, userCount } = await readMetadataScript({ ...request, include: { kind: 'all' } });
  assert.equal(userCount, 2);
  assert.match(text, /ALTER USER `eve` IF EXISTS SET STATUS SUSPENDED;\n/);
  assert.match(text, /ALTER USER `eve` IF EXISTS SET HOME DATABASE \$database;\n/);
  assert.match(text, /^\/\/ User otto signs in by oidc-\?x only: to be created by hand\.$/m);
  assert.match(notices.join(), /roles and privileges are not in the artifact/);
  const roles = { ...request, include: { kind: 'roles' } } as const;
  await assert.rejects(readMetadataScript(roles), /no address is given/);
  const passwordFile = join(scratch, 'password');
  await writeFile(passwordFile, `${OLD_ADMIN_PASSWORD}\n`, { mode: 0o600 });
  const bolt = { address: source.boltUri, user: 'neo4j', passwordFile };
  await assert.rejects(
    readMetadataScript({ ...roles, bolt }),
    /privileges could not be asked for at .*Unsupported/,
  );
  await assert.rejects(
    readMetadataScript({ ...roles, bolt: { ...bolt, user: 'anna' } }),
    /privileges could not be asked for at .*unauthorized/,
  );
  await chmod(passwordFile, 0o604);
  await assert.rejects(readMetadataScript({ ...roles, bolt }), /password/);
}

async function usersLogIn(story: Story, line: Line): Promise<void> {
  const { scratch, backups, sourceServer } = story;
  await sourceServer.stop();
  story.target = await createHome({ line, dir: join(scratch, 'target'), extraConf: AUTHENTICATION_ON });
  await setInitialPassword(story.target);
  const run = await runProgram([
    'database',
    'restore',
    `--neo4j-home=${story.target.dir}`,
    `--from-path=${backups}`,
    'neo4j',
  ]);
  assert.equal(run.status, 0, run.stderr);
  const path = join(story.target.dir, 'data/scripts/neo4j/restore_metadata.cypher');
  assert.match(
    run.stdout,
    new RegExp(`cat ${path} \\| cypher-shell .* -d system --param "database => 'neo4j'"`),
  );
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  assert.deepEqual(await readdir(join(path, '..')), ['restore_metadata.cypher']);
  const script = await readFile(path, 'utf8');
  await using server = await startServer(story.target);
  await assert.rejects(logIn(story.target, 'anna', 'of anna'), /unauthorized/i);
  await runScript(server, script);
  // Once more, by an administrator who has the old password now.
  await asUser(story.target, 'neo4j', OLD_ADMIN_PASSWORD, (driver) => runScript({ driver }, script));
  await assertUsers(story.target);
  assert.doesNotMatch(script, /gone/);
  await server.stop();
}

async function assertUsers(target: Home): Promise<void> {
  await logIn(target, 'anna', 'of anna');
  await logIn(target, 'carla', 'of carla');
  await logIn(target, ODD_NAME, 'of odd');
  await logIn(target, 'neo4j', OLD_ADMIN_PASSWORD);
  await assert.rejects(logIn(target, 'anna', 'of ben'), /unauthorized/i);
  await assert.rejects(logIn(target, 'ben', 'of ben'), /credentials.*expired|password change/i);
  const users = await asUser(target, 'neo4j', OLD_ADMIN_PASSWORD, (driver) =>
    onSystem({ driver }, 'SHOW USERS'),
  );
  const seen = users.map(({ user, passwordChangeRequired }) => [user, passwordChangeRequired]);
  assert.deepEqual(
    new Map(seen as [string, boolean][]),
    new Map([
      ['anna', false],
      ['ben', true],
      ['carla', false],
      ['neo4j', false],
      [ODD_NAME, false],
    ]),
  );
}
