import assert from 'node:assert/strict';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { makeDatabase } from '../../fixtures/database.ts';
import { FILES, makeHome, SETTINGS } from '../../fixtures/installations.ts';
import { filesBelow, makeFolder, namesIn, temporaryFolder } from '../../fixtures/workspace.ts';
import { type CliRun, cli } from './harness.ts';

interface Setup {
  readonly root: string;
  readonly home: string;
  readonly backups: string;
}

/** The files of a stopped Neo4j with two databases. */
function setUp(context: TestContext, files = FILES): Setup {
  const root = temporaryFolder(context);
  const home = makeHome(join(root, 'home'), files);
  const { storeDirectory, logDirectory } = makeDatabase(makeFolder(home, 'data'), '5.26');
  cpSync(storeDirectory, join(storeDirectory, '../system'), { recursive: true });
  cpSync(logDirectory, join(logDirectory, '../system'), { recursive: true });
  return { root, home, backups: makeFolder(root, 'backups') };
}

function backup({ home, backups }: Setup, ...more: string[]): Promise<CliRun> {
  return cli([
    'dbms',
    'backup',
    `--neo4j-home=${home}`,
    `--to-path=${backups}`,
    '--include-metadata=none',
    ...more,
  ]);
}

function newHome({ root }: Setup, name = 'new'): string {
  return makeHome(join(root, name), { 'lib/neo4j-kernel-5.26.30.jar': '' });
}

function restore({ backups }: Setup, home: string, ...more: string[]): Promise<CliRun> {
  return cli(['dbms', 'restore', `--neo4j-home=${home}`, `--from-path=${backups}`, ...more]);
}

function placesOf({ stdout }: CliRun): { directory: string; error?: { code: string } }[][] {
  const { backups } = JSON.parse(stdout) as {
    backups: { places: { directory: string; error?: { code: string } }[] }[];
  };
  return backups.map(({ places }) => places);
}

describe('dbms backup', () => {
  test('is one line for each part, and says what is left out', async (context) => {
    const setup = setUp(context);
    const run = await backup(setup);
    assert.equal(run.exitStatus, 0, run.stderr);
    const names = namesIn(setup.backups).sort();
    const line = (name: string, kind: string, file: string) =>
      `${name.padEnd(24)} ${kind.padEnd(14)} ${file}  `;
    const [configuration, neo4j, system] = names as [string, string, string];
    const lines = run.stdout.split('\n');
    assert.ok(lines[0]!.startsWith(line('database neo4j', 'full', neo4j)), run.stdout);
    assert.ok(lines[1]!.startsWith(line('database system', 'full', system)), run.stdout);
    assert.ok(lines[2]!.startsWith(line('configuration', '', configuration)), run.stdout);
    assert.deepEqual(lines.slice(3), [
      '  plugin        words.jar, version 1.2.3: only its hash was taken',
      '  left out      certificates/bolt/private.key: a private key; keep it in a safe place yourself',
      '  secrets       the file holds the values of dbms.ssl.policy.bolt.private_key_password',
      '',
    ]);
    assert.match(run.stderr, /3 of 3 parts backed up\n$/);
  });

  test('a part that fails is named, and the others are taken', async (context) => {
    const setup = setUp(context);
    rmSync(join(setup.home, 'data/databases/neo4j/neostore'));
    const run = await backup(setup, '--format=json');
    assert.equal(run.exitStatus, 1);
    const { backups } = JSON.parse(run.stdout) as { backups: { subject: string; ok: boolean }[] };
    assert.deepEqual(
      backups.map(({ subject, ok }) => [subject, ok]),
      [
        ['neo4j', false],
        ['system', true],
        ['configuration', true],
      ],
    );
    assert.equal(namesIn(setup.backups).length, 2);
  });

  test('a configuration that cannot be read fails alone', async (context) => {
    const setup = setUp(context);
    writeFileSync(join(setup.home, 'conf', 'x'.repeat(150)), '');
    const run = await backup(setup);
    assert.equal(run.exitStatus, 1);
    assert.match(run.stderr, /2 of 3 parts backed up; failed: 'configuration'\n$/);
  });

  test('database backup takes the configuration when asked, once for all databases', async (context) => {
    const { home, backups } = setUp(context);
    const args = [
      'database',
      'backup',
      `--neo4j-home=${home}`,
      `--to-path=${backups}`,
      '--include-metadata=none',
    ];
    const without = await cli([...args, 'neo4j', 'system']);
    assert.equal(without.exitStatus, 0, without.stderr);
    assert.deepEqual(
      namesIn(backups).filter((name) => !name.endsWith('.backup')),
      [],
    );
    const run = await cli([...args, '--include-configuration', '--type=full', 'neo4j', 'system']);
    assert.equal(run.exitStatus, 0, run.stderr);
    assert.match(
      run.stdout,
      /\nFinished artifact creation 'configuration-.*\.tar' for the configuration, took \d+ms\.\n/,
    );
    assert.equal(namesIn(backups).filter((name) => name.endsWith('.tar')).length, 1);
    const data = [
      '--from-path-data=/x',
      '--from-path-txn=/y',
      `--to-path=${backups}`,
      '--include-configuration',
    ];
    assert.match((await cli(['database', 'backup', ...data])).stderr, /needs --neo4j-home instead/);
    assert.match((await cli([...args, '--include-plugins'])).stderr, /needs --include-configuration/);
  });

  test('to several places: every part is in each, in words and in JSON', async (context) => {
    const setup = setUp(context);
    const second = makeFolder(setup.root, 'second');
    const run = await backup(setup, `--to-path=${second}`, '--include-plugins');
    assert.equal(run.exitStatus, 0, run.stderr);
    assert.equal(namesIn(second).length, 3);
    assert.deepEqual(filesBelow(second), filesBelow(setup.backups));
    const placed = run.stdout.split('\n').filter((line) => /^ {2}(file|and) /.test(line));
    assert.deepEqual(
      placed,
      ['neo4j-', 'system-', 'configuration-'].flatMap((beginning) => {
        const name = namesIn(second).find((file) => file.startsWith(beginning));
        return [`  file          ${setup.backups}/${name}`, `  and           ${second}/${name}`];
      }),
    );
    const json = await backup(setup, `--to-path=${second}`, '--format=json');
    assert.deepEqual(
      placesOf(json).map((places) => places.map(({ directory }) => directory)),
      Array(3).fill([setup.backups, second]),
    );

    const fresh = newHome(setup);
    assert.equal((await restore({ ...setup, backups: second }, fresh)).exitStatus, 0);
    assert.deepEqual(filesBelow(join(fresh, 'conf')), filesBelow(join(setup.home, 'conf')));
  });

  test('to several places, one of which is missing: all of the parts or none, as --require says', async (context) => {
    const setup = setUp(context);
    const missing = join(setup.root, 'missing');
    const more = [`--to-path=${missing}`, '--format=json'];
    assert.equal((await backup(setup, ...more)).exitStatus, 66);
    assert.deepEqual(namesIn(setup.backups), []);
    const any = await backup(setup, ...more, '--require=any');
    assert.equal(any.exitStatus, 0, any.stdout);
    assert.deepEqual(
      placesOf(any).map((places) => places.map(({ error }) => error?.code)),
      Array(3).fill([undefined, 'GK_NOT_FOUND']),
    );
    const first = await cli([
      ...['dbms', 'backup', `--neo4j-home=${setup.home}`, '--include-metadata=none', '--require=any'],
      ...[`--to-path=${missing}`, `--to-path=${setup.backups}`],
    ]);
    assert.equal(first.exitStatus, 0, first.stderr);
    for (const name of ['neo4j', 'system', 'configuration'])
      assert.match(
        first.stdout,
        new RegExp(`${name} .*\n +file +${setup.backups}/${name}-.*\n +NOT IN +${missing}: `),
      );
    assert.equal(first.stderr.match(/missing does not get this backup/g)?.length, 3);
    const named = await cli([
      ...['database', 'backup', `--neo4j-home=${setup.home}`, '--include-metadata=none', '--require=any'],
      ...[`--to-path=${setup.backups}`, `--to-path=${missing}`, '--include-configuration', 'neo4j'],
    ]);
    assert.equal(named.exitStatus, 0, named.stderr);
    assert.match(named.stdout, /configuration, took.*\n +file .*\n +NOT IN +.*missing: /);
  });

  test('no other command takes the configuration for a database', async (context) => {
    const setup = setUp(context);
    await backup(setup);
    for (const line of [
      ['backup', 'inspect', setup.backups, '--database=neo4j'],
      ['backup', 'inspect', setup.backups, '--format=json'],
      ['backup', 'validate', `--from-path=${setup.backups}`, '--database=neo4j'],
      ['backup', 'expire', setup.backups, '--keep-last=1'],
      ['database', 'restore', `--from-path=${setup.backups}`, '--dry-run', 'neo4j'],
    ]) {
      const run = await cli(line);
      assert.equal(run.exitStatus, 0, `${line.join(' ')}: ${run.stderr}`);
      assert.doesNotMatch(run.stdout + run.stderr, /configuration-/, line.join(' '));
    }
  });

  test('inspect shows what a configuration holds', async (context) => {
    const setup = setUp(context);
    await backup(setup);
    const tar = namesIn(setup.backups).find((name) => name.endsWith('.tar'))!;
    const folder = await cli(['backup', 'inspect', setup.backups]);
    assert.ok(folder.stdout.endsWith(`\nconfiguration: 1 file, the newest is ${tar}\n`), folder.stdout);
    const text = await cli(['backup', 'inspect', join(setup.backups, tar)]);
    assert.equal(text.exitStatus, 0, text.stderr);
    assert.match(text.stdout, /^Configuration of Neo4j 5\.26\.30 \(community\) on \S+, taken at 20/);
    assert.match(text.stdout, /certificates\/bolt\/public\.crt \| +certificate \| +59 \| [0-9a-f]{64}/);
    const json = await cli(['backup', 'inspect', join(setup.backups, tar), '--format=json']);
    const { configuration } = JSON.parse(json.stdout) as {
      configuration: { members: unknown[]; file: string };
    };
    assert.deepEqual([configuration.file, configuration.members.length], [join(setup.backups, tar), 5]);
    writeFileSync(join(setup.backups, tar), 'no configuration');
    assert.equal((await cli(['backup', 'inspect', join(setup.backups, tar)])).exitStatus, 65);
  });
});

describe('dbms restore', () => {
  test('makes an empty home the old one', async (context) => {
    const setup = setUp(context);
    await backup(setup, '--include-plugins');
    const home = newHome(setup);
    const run = await restore(setup, home);
    assert.equal(run.exitStatus, 0, run.stderr);
    assert.match(
      run.stdout,
      /^Restored database 'system'.*\nRestored database 'neo4j'.*\nRestored the configuration/,
    );
    assert.match(run.stderr, /next: put back 1 private key, start Neo4j\n$/);
    for (const name of ['conf', 'licenses', 'certificates/bolt/trusted']) {
      assert.deepEqual(filesBelow(join(home, name)), filesBelow(join(setup.home, name)), name);
    }
    for (const name of ['neo4j', 'system'])
      assert.ok(existsSync(join(home, 'data/databases', name, 'neostore')));
    assert.ok(existsSync(join(home, 'plugins/words.jar')));
  });

  test('a dry run writes nothing at all', async (context) => {
    const setup = setUp(context);
    await backup(setup);
    const home = newHome(setup);
    const run = await restore(setup, home, '--dry-run');
    assert.equal(run.exitStatus, 0, run.stderr);
    assert.match(
      run.stdout,
      /^Would restore database 'system' to .*\/new\/data\/databases\/system: 1 artifact, /,
    );
    assert.match(run.stdout, / {2}new file {6}.*\/new\/conf\/neo4j\.conf\n/);
    assert.deepEqual(readdirSync(home), ['lib']);
  });

  test('nothing is written where anything is there, until that is allowed', async (context) => {
    const setup = setUp(context);
    await backup(setup);
    const home = newHome(setup);
    makeHome(home, { 'conf/neo4j.conf': '# new\n' });
    const before = filesBelow(home);
    const refused = await restore(setup, home);
    assert.equal(refused.exitStatus, 73);
    assert.match(
      refused.stderr,
      /already, with other content: .*new\/conf\/neo4j\.conf\n.*--overwrite-destination/,
    );
    assert.deepEqual(filesBelow(home), before);
    const first = await restore(setup, home, '--overwrite-destination');
    assert.equal(first.exitStatus, 0, first.stderr);
    // All files are the same now; the databases alone stand in the way.
    const again = await restore(setup, home);
    assert.equal(again.exitStatus, 73);
    assert.match(again.stderr, /content: \S*databases\/system, \S*databases\/neo4j\n/);
    const second = await restore(setup, home, '--overwrite-destination');
    assert.match(second.stdout, /: 0 files written, 0 of them replaced, 5 unchanged\n/);
  });

  test('of a damaged artifact restores the rest, says so, and can be repeated', async (context) => {
    const setup = setUp(context);
    await backup(setup);
    const name = namesIn(setup.backups).find((candidate) => candidate.startsWith('neo4j-'))!;
    const good = readFileSync(join(setup.backups, name));
    const bad = Buffer.from(good);
    bad[bad.length >> 1]! ^= 1;
    writeFileSync(join(setup.backups, name), bad);
    const home = newHome(setup);
    const run = await restore(setup, home);
    assert.equal(run.exitStatus, 1);
    assert.match(run.stderr, /2 of 3 parts restored; failed: 'neo4j'\ndo not start Neo4j yet/);
    assert.equal(existsSync(join(home, 'data/databases/neo4j')), false);
    writeFileSync(join(setup.backups, name), good);
    const again = await restore(setup, home, '--overwrite-destination');
    assert.equal(again.exitStatus, 0, again.stderr);
    assert.ok(existsSync(join(home, 'data/databases/neo4j/neostore')));
  });

  test('a damaged configuration keeps everything from being touched', async (context) => {
    const setup = setUp(context);
    await backup(setup);
    const tar = join(setup.backups, namesIn(setup.backups).find((name) => name.endsWith('.tar'))!);
    const bytes = readFileSync(tar);
    bytes[bytes.length - 3000]! ^= 1;
    writeFileSync(tar, bytes);
    const home = newHome(setup);
    const run = await restore(setup, home);
    assert.equal(run.exitStatus, 65, run.stderr);
    assert.deepEqual(readdirSync(home), ['lib']);
  });

  test('the databases alone, where there is no configuration or none is wanted', async (context) => {
    const setup = setUp(context);
    await backup(setup);
    const tar = namesIn(setup.backups).find((name) => name.endsWith('.tar'))!;
    const home = newHome(setup);
    assert.equal((await restore(setup, home, '--include-configuration=false')).exitStatus, 0);
    assert.deepEqual(readdirSync(home).sort(), ['data', 'lib']);
    rmSync(join(setup.backups, tar));
    const other = newHome(setup, 'other');
    const refused = await restore(setup, other);
    assert.equal(refused.exitStatus, 66);
    assert.match(refused.stderr, /no configuration in .*\n.*--include-configuration=false/);
    const empty = { ...setup, backups: makeFolder(setup.root, 'nothing') };
    assert.match((await restore(empty, other)).stderr, /no artifact of a database in/);
    assert.deepEqual(readdirSync(other), ['lib']);
  });

  test('the configuration is that of the moment that is gone back to', async (context) => {
    const setup = setUp(context);
    await backup(setup);
    const now = namesIn(setup.backups).find((name) => name.endsWith('.tar'))!;
    const earlier = join(setup.backups, 'configuration-2020-01-01T00-00-00.tar');
    renameSync(join(setup.backups, now), earlier);
    writeFileSync(join(setup.home, 'conf/neo4j.conf'), `${SETTINGS}# later\n`);
    const later = await backup(setup, '--type=full');
    assert.equal(later.exitStatus, 0, later.stderr);
    const home = newHome(setup);
    const none = await restore(setup, home, '--dry-run', '--restore-until=2019-12-31 23:59:59');
    assert.match(none.stderr, /no configuration from before 2019-12-31T23-59-59/);
    const plan = await restore(setup, home, '--dry-run', '--restore-until=2021-01-01 00:00:00');
    assert.match(plan.stdout, /configuration of .*configuration-2020-01-01T00-00-00\.tar/);
    const transaction = await restore(setup, home, '--restore-until=17');
    assert.equal(transaction.exitStatus, 64);
    assert.match(transaction.stderr, /takes a time here/);
  });

  test('without system it says that users do not come back', async (context) => {
    const setup = setUp(context);
    await backup(setup);
    mkdirSync(join(setup.root, 'aside'));
    const system = namesIn(setup.backups).find((name) => name.startsWith('system-'))!;
    renameSync(join(setup.backups, system), join(setup.root, 'aside', system));
    const run = await restore(setup, newHome(setup));
    assert.equal(run.exitStatus, 0, run.stderr);
    assert.match(run.stderr, /note: there is no artifact of system: users and passwords do not come back/);
  });
});

describe('backup validate judges configurations', () => {
  interface Judged {
    readonly valid: boolean;
    readonly artifacts: readonly { path: string; valid: boolean }[];
    readonly configurations: readonly {
      path: string;
      valid: boolean;
      problems: string[];
      memberCount: number;
    }[];
  }

  async function taken(context: TestContext): Promise<{ folder: string; configuration: string }> {
    const setup = setUp(context);
    const run = await backup(setup);
    assert.equal(run.exitStatus, 0, run.stderr);
    const [name] = namesIn(setup.backups).sort();
    return { folder: setup.backups, configuration: join(setup.backups, name!) };
  }

  async function judge(...args: string[]): Promise<{ exitStatus: number; judged: Judged }> {
    const run = await cli(['backup', 'validate', ...args, '--format=json']);
    return { exitStatus: run.exitStatus, judged: JSON.parse(run.stdout) as Judged };
  }

  test('beside the artifacts of a folder, or by its path, but not for one database', async (context) => {
    const { folder, configuration } = await taken(context);
    const text = await cli(['backup', 'validate', folder]);
    assert.equal(text.exitStatus, 0, text.stderr);
    assert.match(text.stdout, new RegExp(`^\\| +\\d+ \\| ${configuration} \\| +OK \\|$`, 'm'));
    const all = await judge(folder);
    assert.deepEqual([all.exitStatus, all.judged.valid, all.judged.artifacts.length], [0, true, 2]);
    assert.deepEqual(
      all.judged.configurations.map(({ path, valid }) => [path, valid]),
      [[configuration, true]],
    );
    assert.ok(all.judged.configurations[0]!.memberCount > 1);
    const alone = await judge(configuration);
    assert.deepEqual(
      [alone.exitStatus, alone.judged.artifacts, alone.judged.configurations[0]?.valid],
      [0, [], true],
    );
    const one = await judge(folder, '--database=neo4j');
    assert.deepEqual([one.judged.artifacts.length, one.judged.configurations], [1, []]);
  });

  test('a flipped byte anywhere, or an end that is missing, is damage: 65', async (context) => {
    const { folder, configuration } = await taken(context);
    const whole = readFileSync(configuration);
    const spoiled = [0, 700, whole.length >> 1, whole.length - 1].map((at) => {
      const copy = Buffer.from(whole);
      copy[at]! ^= 1;
      return copy;
    });
    for (const [number, bytes] of [...spoiled, whole.subarray(0, -512)].entries()) {
      writeFileSync(configuration, bytes);
      const { exitStatus, judged } = await judge(folder);
      assert.deepEqual(
        [exitStatus, judged.valid, judged.configurations[0]?.valid],
        [65, false, false],
        `${number}`,
      );
      assert.notEqual(judged.configurations[0]!.problems[0], undefined);
      assert.equal(
        judged.artifacts.every(({ valid }) => valid),
        true,
      );
    }
  });

  test('one that is not there is an error of its own', async (context) => {
    const { configuration } = await taken(context);
    rmSync(configuration);
    const run = await cli(['backup', 'validate', configuration]);
    assert.equal(run.exitStatus, 66, run.stderr);
  });
});
