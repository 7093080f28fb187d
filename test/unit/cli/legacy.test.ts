/** The command line of 3.x and 4.x: which words are its, what it says, and its exit statuses. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  existsSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { splitArguments } from '../../../src/cli/arguments.ts';
import { isLegacyCommandLine } from '../../../src/cli/legacy-commandline.ts';
import { memoryBytes } from '../../../src/cli/legacy-options.ts';
import { MIB } from '../../../src/limits.ts';
import { findStockNeo4j } from '../../../src/neo4j/stock.ts';
import { backupDatabase } from '../../../src/operations/backup.ts';
import { checkConsistency } from '../../../src/operations/consistency.ts';
import { GrowingDatabase, historyOf } from '../../fixtures/chains.ts';
import { put } from '../../fixtures/database.ts';
import { assertSameFiles, filesBelow, makeFolder, temporaryFolder } from '../../fixtures/workspace.ts';
import { type CliRun, cli } from './harness.ts';

const LAUNCHER = fileURLToPath(new URL('../../../bin/graphkeep', import.meta.url));

/**
 * Stands for the Java of an installation. As a server it says that it recovered up to a transaction, as a tool what the
 * test wants said.
 */
const JAVA = `#!/bin/sh
if [ "$1" = -version ]; then echo 'openjdk version "17.0.1" 2025-01-01' >&2; exit 0; fi
case " $* " in
*" org.neo4j.cli.AdminTool "*)
  echo "$@" | sed 's/.*AdminTool //' >> "$MARK/tool"
  . "$MARK/tool.sh"
  exit $?;;
esac
echo "$@" >> "$MARK/server"
for argument in "$@"; do case "$argument" in --home-dir=*) home="\${argument#--home-dir=}";; esac; done
cp "$home/conf/neo4j.conf" "$MARK/conf"
name=$(ls "$home/data/databases")
echo recovered > "$home/data/databases/$name/recovered"
line='2026-01-01 00:00:00.000+0000 INFO  [x] ['"$name"'/69612d34] Checkpoint triggered by "Database shutdown" @ txId: '
trap 'echo "$line$(cat "$MARK/transaction"), append index: $(cat "$MARK/transaction") checkpoint completed in 5ms." >> "$home/logs/debug.log"; exit 0' TERM
echo '2026-01-01 00:00:00.000+0000 INFO  Started.' >> "$home/logs/neo4j.log"
while :; do sleep 0.02; done
`;
const CONSISTENT = 'exit 0';
const INCONSISTENT = `
for argument in "$@"; do case "$argument" in --report-path=*) reports="\${argument#--report-path=}";; esac; done
echo 'ERROR: wrong' > "$reports/inconsistencies-1.report"
echo "Inconsistencies found. See '$reports/inconsistencies-1.report' for details."
exit 1`;

/** A home with a database that grows, and a folder for its directory backups. */
class LegacyScene {
  readonly root: string;
  readonly home: string;
  readonly backups: string;
  readonly database: GrowingDatabase;
  environment: Record<string, string>;

  constructor(context: TestContext) {
    this.root = temporaryFolder(context);
    this.home = makeFolder(this.root, 'home');
    this.backups = makeFolder(this.root, 'backups');
    this.database = new GrowingDatabase(join(this.home, 'data'), historyOf('5.26'), 20n, 10n);
    this.environment = { NEO4J_HOME: this.home, PATH: process.env.PATH ?? '' };
  }

  /** From now on there is an installed Neo4j, whose tools do what `tool` says. */
  install(tool: string): void {
    put(join(this.home, 'lib/neo4j-kernel-5.26.30.jar'), Buffer.alloc(0));
    put(join(this.root, 'java/bin/java'), Buffer.from(JAVA));
    chmodSync(join(this.root, 'java/bin/java'), 0o755);
    writeFileSync(join(this.root, 'tool.sh'), tool);
    writeFileSync(join(this.root, 'transaction'), '20');
    this.environment = { ...this.environment, JAVA_HOME: join(this.root, 'java'), MARK: this.root };
  }

  get tool(): string {
    return readFileSync(join(this.root, 'tool'), 'utf8').trim();
  }

  run(...args: string[]): Promise<CliRun> {
    return cli(args, this.environment);
  }

  /** As its own process, with these bytes to read, and what it wrote as bytes. */
  program(
    args: readonly string[],
    input = Buffer.alloc(0),
  ): { status: number | null; bytes: Buffer; talk: string } {
    const options = { env: this.environment, input, maxBuffer: 64 * MIB };
    const { status, stdout, stderr } = spawnSync(LAUNCHER, [...args], options);
    return { status, bytes: stdout, talk: stderr.toString() };
  }

  backup(...more: string[]): Promise<CliRun> {
    return this.run('backup', `--backup-dir=${this.backups}`, '--name=graph.db-backup', ...more);
  }
}

const DOING_INCREMENTAL = 'Destination is not empty, doing incremental backup...';

describe('which command lines are old ones', () => {
  const cases: [line: string, isOld: boolean][] = [
    ['backup --backup-dir=/b --name=x', true],
    ['backup --name=x --backup-dir /b', true],
    ['backup --from=localhost --database=neo4j', true],
    ['backup --backup-dir=/b --help', true],
    ['backup --cc-graph=false', true],
    ['backup --help', false],
    ['backup', false],
    ['backup inspect /b', false],
    ['backup validate --from-path=/b --database=neo4j', false],
    ['backup --bogus', false],
    ['database backup --to-path=/b', false],
    ['database restore --from-path=/b', false],
    ['restore --from=/b/x', true],
    ['check-consistency --help', true],
    ['dump --database=neo4j', true],
    ['load', true],
    ['copy', true],
    ['prepare-restore --target=/b', true],
    ['', false],
  ];
  for (const [line, isOld] of cases) {
    test(line, () => assert.equal(isLegacyCommandLine(splitArguments(line, 'a case')), isOld));
  }
});

describe('help of the old commands', () => {
  const folder = makeFolder(os.tmpdir(), 'graphkeep-absent-by-name');
  rmSync(folder, { recursive: true });

  for (const command of [
    'backup --backup-dir=/b',
    'restore',
    'check-consistency',
    'dump',
    'load',
    'copy',
    'prepare-restore',
  ]) {
    const [name = ''] = command.split(' ');
    test(name, async () => {
      const run = await cli([...command.split(' '), '--help']);
      assert.equal(run.exitStatus, 0);
      assert.match(
        run.stdout,
        new RegExp(`^Usage: graphkeep ${name} .*\nExamples:\n.*graphkeep ${name} `, 's'),
      );
      assert.equal(run.stderr, '');
    });

    test(`the examples of ${name} are accepted by its parser`, async () => {
      const { stdout } = await cli([...command.split(' '), '--help']);
      const lines = stdout
        .split('\n')
        .flatMap((line) => /^ {2}\$ graphkeep (.*?)( {3,}.*)?$/.exec(line)?.[1] ?? []);
      assert.ok(lines.length > 0);
      for (const line of lines) {
        // Never the real folders of the machine that runs the tests.
        const elsewhere = line.replaceAll(/\/(backups|var|dumps)\b/g, `${folder}$&`).replace(/ [<>] .*/, '');
        const run = await cli(splitArguments(elsewhere, 'an example'));
        assert.equal(run.exitStatus, 1, line);
        assert.match(run.stderr, /is not known where|does not exist/, line);
        assert.doesNotMatch(run.stderr, /unknown|not possible|Missing/, line);
      }
    });
  }

  test('the help of today mentions them', async () => {
    assert.match((await cli(['--help'])).stdout, /neo4j-admin 3\.x and 4\.x.*backup --backup-dir/);
  });
});

describe('backup --backup-dir', () => {
  test('the lines of 3.3: full, incremental, fallback', async (context) => {
    const scene = new LegacyScene(context);
    const unchecked = '--check-consistency=false';
    const full = await scene.backup(unchecked);
    assert.deepEqual(full, {
      exitStatus: 0,
      stdout: 'Doing full backup...\nBackup complete.\n',
      stderr: '',
    });
    scene.database.appendTo(27n);
    const incremental = await scene.backup(unchecked);
    assert.deepEqual(
      [incremental.exitStatus, incremental.stdout],
      [0, `${DOING_INCREMENTAL}\nBackup complete.\n`],
    );
    assert.match(incremental.stderr, /^note: transactions: 21 to 27\n$/);
    assert.match((await scene.backup(unchecked)).stderr, /nothing has happened since/);
    rmSync(join(scene.backups, 'graph.db-backup/neostore'));
    const refused = await scene.backup(unchecked, '--fallback-to-full=false');
    assert.equal(refused.exitStatus, 1);
    assert.equal(refused.stdout, `${DOING_INCREMENTAL}\n`);
    assert.match(
      refused.stderr,
      /^error: no incremental backup.*doesn't contain a database.*\nhint: .*--fallback/,
    );
    const fallback = await scene.backup(unchecked);
    assert.equal(fallback.exitStatus, 0);
    const renamed = "Old backup renamed to 'graph.db-backup.err.1'.";
    assert.equal(
      fallback.stdout,
      `${DOING_INCREMENTAL}\nDoing full backup...\n${renamed}\nBackup complete.\n`,
    );
    assert.match(fallback.stderr, /^note: a full backup is taken: .*doesn't contain a database/);
  });

  test('without an installed Neo4j: a note and 0, or 2 when the check was asked for', async (context) => {
    const scene = new LegacyScene(context);
    const byDefault = await scene.backup();
    assert.equal(byDefault.exitStatus, 0);
    assert.match(byDefault.stdout, /^Doing full backup\.\.\.\nBackup complete\.\n$/);
    assert.match(byDefault.stderr, /^note: the backup is not checked: there is no installed Neo4j in/);
    for (const given of ['--check-consistency', '--check-consistency=true']) {
      const asked = await scene.backup(given);
      assert.equal(asked.exitStatus, 2);
      assert.doesNotMatch(asked.stdout, /complete/);
      assert.match(asked.stderr, /error: the backup was taken and not checked: .*\nhint: .*--neo4j-home/s);
    }
    assert.ok(existsSync(join(scene.backups, 'graph.db-backup/neostore')));
  });

  test('consistent: 0', async (context) => {
    const scene = new LegacyScene(context);
    scene.install(CONSISTENT);
    const run = await scene.backup('--pagecache=8m', '--cc-indexes=false', '--cc-property-owners');
    assert.equal(run.exitStatus, 0, run.stderr);
    assert.equal(run.stdout, 'Doing full backup...\nDoing consistency check...\nBackup complete.\n');
    assert.match(readFileSync(join(scene.root, 'conf'), 'utf8'), /pagecache\.size=8m/);
    assert.equal(
      scene.tool,
      `database check --report-path=${scene.backups} --check-graph=true --check-indexes=false ` +
        `--check-property-owners=true --max-off-heap-memory=${64 * MIB} neo4j`,
    );
    assert.deepEqual(readdirSync(scene.backups).sort(), ['.graph.db-backup.lock', 'graph.db-backup']);
  });

  test('the options of the check in their 4.x spelling', async (context) => {
    const scene = new LegacyScene(context);
    scene.install(CONSISTENT);
    const reports = join(scene.root, 'reports');
    const run = await scene.backup(`--report-dir=${reports}`, '--check-graph=false', '--pagecache=1g');
    assert.equal(run.exitStatus, 0, run.stderr);
    assert.match(scene.tool, new RegExp(`--report-path=${reports} --check-graph=false --check-indexes=true`));
    assert.match(scene.tool, /--max-off-heap-memory=1073741824/);
  });

  test('inconsistent: 3, and both the backup and the report are kept', async (context) => {
    const scene = new LegacyScene(context);
    scene.install(INCONSISTENT);
    const reports = join(scene.root, 'reports');
    const run = await scene.backup(`--cc-report-dir=${reports}`);
    assert.equal(run.exitStatus, 3);
    assert.equal(run.stdout, 'Doing full backup...\nDoing consistency check...\n');
    const report = join(reports, 'inconsistencies-1.report');
    assert.equal(run.stderr, `Inconsistencies found. See '${report}' for details.\n`);
    assert.ok(existsSync(report) && existsSync(join(scene.backups, 'graph.db-backup/neostore')));
  });

  test('a check that could not be run: 2', async (context) => {
    const scene = new LegacyScene(context);
    scene.install('echo "not today"; exit 70');
    const run = await scene.backup();
    assert.equal(run.exitStatus, 2);
    assert.match(run.stderr, /error: the backup was taken and not checked: .*ended with 70:\n.*not today/s);
  });

  test('a recovery that ends too early, or finds damage: 3', async (context) => {
    const scene = new LegacyScene(context);
    scene.install(CONSISTENT);
    writeFileSync(join(scene.root, 'transaction'), '19');
    const run = await scene.backup();
    assert.equal(run.exitStatus, 3);
    assert.match(run.stderr, /the backup was taken and is damaged: recovery ended with transaction 19/);
  });

  test('options that mean nothing any more pass with a note', async (context) => {
    const scene = new LegacyScene(context);
    const ignored = [
      '--from=localhost:6362',
      '--protocol=catchup',
      '--timeout=20m',
      '--cc-label-scan-store=false',
      '--check-label-scan-store',
      '--check-index-structure=true',
      '--prepare-restore=false',
      '--parallel-recovery',
      '--include-metadata=all',
      '--expand-commands',
    ];
    const run = await scene.backup(...ignored, '--pagecache=8M');
    assert.equal(run.exitStatus, 0, run.stderr);
    const notes = run.stderr.trim().split('\n');
    const expected = ignored.map((option) => `note: ${option.split('=')[0]} has no effect: `).sort();
    assert.deepEqual(
      notes.map((note) => /^note: --[a-z-]+ has no effect: /.exec(note)?.[0]).sort(),
      expected,
    );
    for (const from of ['127.0.0.1', '[::1]:6362', os.hostname(), 'LOCALHOST']) {
      assert.equal((await scene.backup(`--from=${from}`, '--check-consistency=false')).exitStatus, 0, from);
    }
  });

  const wrong: [argument: string, message: RegExp][] = [
    ['--from=db1.example.com:6362', /--from=db1\.example\.com:6362 is refused: .*not over the network/],
    ['--from=a:b:c', /not an address/],
    ['--from=localhost:0', /not an address/],
    ['--from=', /not an address/],
    ['--protocol=http', /--protocol=http is not possible/],
    ['--timeout=soon', /--timeout=soon is not possible/],
    ['--timeout=5d', /--timeout=5d is not possible/],
    ['--pagecache=much', /--pagecache=much is not possible/],
    ['--include-metadata=everything', /not possible/],
    ['--fallback-to-full=maybe', /true or false/],
    ['--cc-graph=1', /true or false/],
    ['--cc-label-scan-store=maybe', /true or false/],
    ['--bogus', /unknown option '--bogus'/],
    ['--bogus=1', /unknown option '--bogus'/],
    ['surplus', /too many arguments/],
    ['--additional-config=/nothing/there', /nothing\/there/],
    ['--name=../elsewhere', /cannot be the name/],
    ['--database=nodb', /nodb/],
    ['--database=n*', /exclude each other/],
  ];
  for (const [argument, message] of wrong) {
    test(`${argument}: 1`, async (context) => {
      const scene = new LegacyScene(context);
      const run = await scene.backup(argument);
      assert.equal(run.exitStatus, 1);
      assert.match(run.stderr, /^(note: .*\n)*error: .*\nhint: /);
      assert.match(run.stderr, message);
      const left = readdirSync(scene.backups).filter((name) => !name.endsWith('.lock'));
      assert.deepEqual(left, []);
    });
  }

  test('what is missing: 1', async (context) => {
    const scene = new LegacyScene(context);
    const withoutFolder = await scene.run('backup', '--name=x');
    assert.equal(withoutFolder.exitStatus, 1);
    assert.match(withoutFolder.stderr, /Missing argument 'backup-dir'/);
    const absent = join(scene.root, 'absent');
    const noFolder = await scene.run('backup', `--backup-dir=${absent}`, '--name=x');
    assert.deepEqual([noFolder.exitStatus, existsSync(absent)], [1, false]);
    assert.match(noFolder.stderr, /does not exist/);
    scene.environment = {};
    const homeless = await scene.backup();
    assert.equal(homeless.exitStatus, 1);
    assert.match(homeless.stderr, /not known where Neo4j is installed/);
    assert.equal((await scene.backup(`--neo4j-home=${scene.home}`)).exitStatus, 0);
  });

  test('--name is of the default database, which neo4j.conf names', async (context) => {
    const scene = new LegacyScene(context);
    put(join(scene.home, 'conf/neo4j.conf'), Buffer.from('initial.dbms.default_database=other\n'));
    const run = await scene.backup();
    assert.equal(run.exitStatus, 1);
    assert.match(run.stderr, /databases\/other/);
    assert.equal((await scene.backup('--database=neo4j')).exitStatus, 0);
  });

  test('--database names the directory, too; several: 0 or 1', async (context) => {
    const scene = new LegacyScene(context);
    const all = ['backup', `--backup-dir=${scene.backups}`, '--database=*', '--check-consistency=false'];
    assert.equal((await scene.run(...all)).exitStatus, 0);
    assert.deepEqual(readdirSync(scene.backups).sort(), ['.neo4j.lock', 'neo4j']);
    put(join(scene.home, 'data/databases/broken/neostore'), Buffer.alloc(10));
    const run = await scene.run(...all);
    assert.equal(run.exitStatus, 1);
    assert.match(run.stderr, /^error: broken: /m);
    assert.match(run.stdout, /Backup complete/);
    assert.equal((await scene.run('backup', `--backup-dir=${scene.backups}`, '--database=x*')).exitStatus, 1);
  });
});

describe('restore', () => {
  async function makeSetting(
    context: TestContext,
  ): Promise<{ scene: LegacyScene; from: string; target: string }> {
    const scene = new LegacyScene(context);
    await scene.backup('--check-consistency=false');
    const target = makeFolder(scene.root, 'target');
    scene.environment = { NEO4J_HOME: target };
    return { scene, from: `--from=${join(scene.backups, 'graph.db-backup')}`, target };
  }

  test('into a free name; an existing database only with --force', async (context) => {
    const { scene, from, target } = await makeSetting(context);
    const run = await scene.run('restore', from, '--database=neo4j');
    assert.equal(run.exitStatus, 0, run.stderr);
    assert.match(
      run.stdout,
      /^Restored database 'neo4j' from '\S*graph\.db-backup', up to transaction 20\.\n$/,
    );
    const again = await scene.run('restore', from, '--database=neo4j');
    assert.equal(again.exitStatus, 1);
    assert.match(again.stderr, /database with name \[neo4j\] already exists.*\nhint: give --force/);
    assert.equal((await scene.run('restore', from, '--database=neo4j', '--force')).exitStatus, 0);
    const left = readdirSync(join(target, 'data')).sort();
    assert.deepEqual(left, ['databases', 'transactions']);
  });

  test('what is no backup: 1, and the database is kept even with --force', async (context) => {
    const { scene, from, target } = await makeSetting(context);
    await scene.run('restore', from, '--database=neo4j');
    const before = filesBelow(join(target, 'data/databases/neo4j'));
    const junk = makeFolder(scene.root, 'junk');
    writeFileSync(join(junk, 'notes.txt'), '');
    for (const path of [junk, join(scene.root, 'absent'), join(junk, 'notes.txt')]) {
      const run = await scene.run('restore', `--from=${path}`, '--database=neo4j', '--force');
      assert.equal(run.exitStatus, 1, path);
      assert.match(run.stderr, /is not a backup|does not exist|no artifact|notes\.txt/, path);
    }
    assertSameFiles(filesBelow(join(target, 'data/databases/neo4j')), before);
    const missing = await scene.run('restore', '--database=neo4j');
    assert.deepEqual([missing.exitStatus, /Missing argument 'from'/.test(missing.stderr)], [1, true]);
  });

  test('the name of the directory when none is given; lists; --move', async (context) => {
    const { scene, from, target } = await makeSetting(context);
    const named = await scene.run('restore', from);
    assert.match(named.stdout, /'graph\.db-backup'/);
    assert.match(named.stderr, /initial\.dbms\.default_database=graph\.db-backup/);
    const { NEO4J_HOME: _target, ...rest } = scene.environment;
    const source = { ...rest, NEO4J_HOME: scene.home };
    await cli(
      ['backup', `--backup-dir=${scene.backups}`, '--name=second', '--check-consistency=false'],
      source,
    );
    const both = `--from=${join(scene.backups, 'graph.db-backup')},${join(scene.backups, 'second')}`;
    assert.match(
      (await scene.run('restore', both, '--database=neo4j')).stderr,
      /--database goes with one path/,
    );
    const run = await scene.run('restore', both, '--force', '--move');
    assert.equal(run.exitStatus, 0, run.stderr);
    const databases = readdirSync(join(target, 'data/databases')).sort();
    assert.deepEqual(databases, ['graph.db-backup', 'second', 'store_lock']);
    assert.deepEqual(
      readdirSync(scene.backups).filter((name) => !name.startsWith('.')),
      [],
    );
  });

  test('to other folders, both or one of them', async (context) => {
    const { scene, from, target } = await makeSetting(context);
    const [data, logs] = [join(scene.root, 'd'), join(scene.root, 't')];
    const one = [from, '--database=neo4j', `--to-data-tx-directory=${logs}`];
    assert.equal((await scene.run('restore', ...one)).exitStatus, 0);
    assert.ok(existsSync(join(target, 'data/databases/neo4j/neostore')));
    assert.ok(existsSync(join(logs, 'neo4j/checkpoint.0')));
    scene.environment = {};
    const both = [...one.slice(0, 2), `--to-data-directory=${data}`, `--to-data-tx-directory=${logs}2`];
    const run = await scene.run('restore', ...both);
    assert.equal(run.exitStatus, 0, run.stderr);
    assert.ok(existsSync(join(data, 'neo4j/neostore')) && existsSync(`${logs}2/neo4j/checkpoint.0`));
  });

  test('from an artifact, and from a folder of artifacts', async (context) => {
    const { scene, target } = await makeSetting(context);
    const artifacts = makeFolder(scene.root, 'artifacts');
    const form = { compress: true, compressionLevel: 1, keepFailed: false, type: 'FULL' } as const;
    const folders = scene.database.folders;
    const { artifactPath } = await backupDatabase(folders, { targetDirectory: artifacts, ...form });
    const named = await scene.run('restore', `--from=${artifactPath}`);
    assert.equal(named.exitStatus, 0, named.stderr);
    assert.ok(existsSync(join(target, 'data/databases/neo4j/neostore')));
    const exists = await scene.run('restore', `--from=${artifactPath}`);
    assert.deepEqual([exists.exitStatus, /hint: give --force/.test(exists.stderr)], [1, true]);
    const folder = await scene.run('restore', `--from=${artifacts}`, '--database=copy');
    assert.equal(folder.exitStatus, 0, folder.stderr);
    assert.equal(
      (await scene.run('restore', `--from=${artifacts}`, '--database=c2x', '--move')).exitStatus,
      1,
    );
  });

  test('prepare-restore has nothing to do', async (context) => {
    const { scene } = await makeSetting(context);
    const path = join(scene.backups, 'graph.db-backup');
    const run = await scene.run('prepare-restore', `--target=${path}`, '--parallel-recovery');
    assert.equal(run.exitStatus, 0);
    assert.match(run.stderr, /nothing to prepare/);
    const wrong = await scene.run('prepare-restore', `--target=${path},${scene.root}`);
    assert.equal(wrong.exitStatus, 1);
    assert.match(wrong.stderr, /is not a directory backup/);
    assert.equal((await scene.run('prepare-restore')).exitStatus, 1);
  });
});

describe('check-consistency', () => {
  test('of a backup: beside it, and 1 with a report', async (context) => {
    const scene = new LegacyScene(context);
    await scene.backup('--check-consistency=false');
    const backup = `--backup=${join(scene.backups, 'graph.db-backup')}`;
    const without = await scene.run('check-consistency', backup);
    assert.deepEqual([without.exitStatus, /no installed Neo4j/.test(without.stderr)], [1, true]);
    scene.install(CONSISTENT);
    const before = filesBelow(join(scene.backups, 'graph.db-backup'));
    const clean = await scene.run('check-consistency', backup, '--check-label-scan-store=true');
    assert.deepEqual([clean.exitStatus, clean.stdout], [0, 'No inconsistencies found.\n'], clean.stderr);
    assert.match(clean.stderr, /note: --check-label-scan-store has no effect/);
    assertSameFiles(filesBelow(join(scene.backups, 'graph.db-backup')), before);
    scene.install(INCONSISTENT);
    const found = await scene.run('check-consistency', backup, '--check-indexes=false');
    assert.equal(found.exitStatus, 1);
    const report = join(scene.backups, 'inconsistencies-1.report');
    assert.match(found.stderr, new RegExp(`Inconsistencies found. See '${report}'`));
    const names = ['.graph.db-backup.lock', 'graph.db-backup', 'inconsistencies-1.report'];
    assert.deepEqual(readdirSync(scene.backups).sort(), names);
  });

  test('of a stopped database, as it is', async (context) => {
    const scene = new LegacyScene(context);
    scene.install(INCONSISTENT);
    const reports = `--report-dir=${join(scene.root, 'reports')}`;
    const run = await scene.run('check-consistency', '--database=neo4j', reports, '--check-property-owners');
    assert.equal(run.exitStatus, 1);
    assert.match(run.stderr, /Inconsistencies found/);
    assert.equal(existsSync(join(scene.root, 'server')), false, 'nothing was recovered');
    assert.match(scene.tool, /--check-property-owners=true neo4j$/);
  });

  test('neither or both, and what is no backup: 1', async (context) => {
    const scene = new LegacyScene(context);
    for (const args of [[], ['--database=neo4j', '--backup=/b']]) {
      const run = await scene.run('check-consistency', ...args);
      assert.deepEqual([run.exitStatus, /either --database or --backup/.test(run.stderr)], [1, true]);
    }
    const junk = await scene.run('check-consistency', `--backup=${scene.backups}`);
    assert.deepEqual([junk.exitStatus, /is not a backup/.test(junk.stderr)], [1, true]);
  });
});

test('an artifact is checked in the same way', async (context) => {
  const scene = new LegacyScene(context);
  scene.install(INCONSISTENT);
  const form = { compress: true, compressionLevel: 1, keepFailed: false, type: 'FULL' } as const;
  const { artifactPath } = await backupDatabase(scene.database.folders, {
    targetDirectory: scene.backups,
    ...form,
  });
  const stock = await findStockNeo4j(scene.home, scene.environment);
  const reportDirectory = join(scene.root, 'reports');
  const options = { stock: stock!, database: 'neo4j', scratchDirectory: scene.backups, reportDirectory };
  const { durationMs: _time, ...result } = await checkConsistency({ chain: { artifactPath } }, options);
  const reportPath = join(reportDirectory, 'inconsistencies-1.report');
  assert.deepEqual(result, { consistent: false, reportPath, lastTransaction: 20n });
  const left = readdirSync(scene.backups).filter((name) => name.startsWith('.graphkeep-check'));
  assert.deepEqual(left, []);
});

describe('dump and load', () => {
  const DUMPED = `
for argument in "$@"; do case "$argument" in --to-path=*) folder="\${argument#--to-path=}";; esac; done
echo dumped > "$folder/neo4j.dump"; echo 'Done: 36 files'`;

  test('dump to a file, to a folder, and not over a file', async (context) => {
    const scene = new LegacyScene(context);
    scene.install(DUMPED);
    const dumps = makeFolder(scene.root, 'dumps');
    const file = join(dumps, 'nightly.dump');
    const run = await scene.run('dump', '--database=neo4j', `--to=${file}`);
    assert.deepEqual([run.exitStatus, run.stdout], [0, 'Done: 36 files\n'], run.stderr);
    assert.deepEqual(readdirSync(dumps), ['nightly.dump']);
    const again = await scene.run('dump', `--to=${file}`);
    assert.deepEqual([again.exitStatus, /already exists/.test(again.stderr)], [1, true]);
    assert.equal((await scene.run('dump', `--to=${dumps}`)).exitStatus, 0);
    assert.match(scene.tool, new RegExp(`database dump --to-path=${dumps} neo4j$`));
    assert.deepEqual(readdirSync(dumps).sort(), ['neo4j.dump', 'nightly.dump']);
  });

  test('load from a file of any name', async (context) => {
    const scene = new LegacyScene(context);
    scene.install(`
for argument in "$@"; do case "$argument" in --from-path=*) folder="\${argument#--from-path=}";; esac; done
cat "$folder"/*.dump`);
    const file = join(scene.root, 'nightly.dump');
    writeFileSync(file, 'content of the dump\n');
    put(join(scene.root, 'more.conf'), Buffer.from('server.memory.heap.max_size=1g\n'));
    const more = `--additional-config=${join(scene.root, 'more.conf')}`;
    const run = await scene.run('load', `--from=${file}`, '--database=other', '--force', more);
    assert.deepEqual([run.exitStatus, run.stdout], [0, 'content of the dump\n'], run.stderr);
    assert.match(
      scene.tool,
      /^database load --from-path=\S+ --overwrite-destination=true other --additional-config=\S+more\.conf$/,
    );
    await scene.run('load', `--from=${file}`, '--info');
    assert.match(scene.tool, /--info neo4j$/);
    assert.equal(lstatSync(file).isFile(), true);
  });

  test('a tool that fails, or is not there: 1', async (context) => {
    const scene = new LegacyScene(context);
    const file = join(scene.root, 'x.dump');
    const without = await scene.run('dump', `--to=${file}`);
    assert.deepEqual([without.exitStatus, /no installed Neo4j/.test(without.stderr)], [1, true]);
    scene.install('echo "The database is in use."; exit 1');
    const run = await scene.run('dump', `--to=${file}`);
    assert.equal(run.exitStatus, 1);
    assert.match(run.stderr, /error: neo4j-admin ended with 1: The database is in use\./);
    assert.equal(readdirSync(scene.root).includes('x.dump'), false);
    assert.deepEqual(
      readdirSync(scene.root).filter((name) => name.startsWith('.graphkeep')),
      [],
    );
  });

  const wrong: [line: string, message: RegExp][] = [
    ['dump', /Missing argument 'to'/],
    ['load', /Missing argument 'from'/],
    ['load --from=/nothing/there', /does not exist/],
  ];
  for (const [line, message] of wrong) {
    test(`${line}: 1`, async (context) => {
      const scene = new LegacyScene(context);
      scene.install(CONSISTENT);
      const run = await scene.run(...line.split(' '));
      assert.equal(run.exitStatus, 1);
      assert.match(run.stderr, message);
    });
  }
});

describe('a dump on a pipe', () => {
  /** Every byte there is, more than a pipe holds at once. */
  const BYTES = Buffer.alloc(3 * MIB, Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)));
  const DUMPED = 'echo "Files: 1/36" >&2; cat "$MARK/content" && echo "Done: 36 files" >&2';
  const LOADED = 'cat > "$MARK/loaded"; echo "Done: 36 files"';

  function installed(context: TestContext, tool: string): LegacyScene {
    const scene = new LegacyScene(context);
    scene.install(tool);
    writeFileSync(join(scene.root, 'content'), BYTES);
    return scene;
  }

  test('dump writes it, and not a word beside it', async (context) => {
    const scene = installed(context, DUMPED);
    const dump = scene.program(['dump', '--database=neo4j', '--to=-', '--expand-commands']);
    assert.equal(dump.status, 0, dump.talk);
    assert.ok(dump.bytes.equals(BYTES));
    assert.match(dump.talk, /^note: --expand-commands .*\nFiles: 1\/36\nDone: 36 files\n$/);
    assert.equal(scene.tool, 'database dump --to-stdout neo4j');
  });

  test('dump to a file that the shell opened; nothing goes through graphkeep', async (context) => {
    const scene = installed(context, DUMPED);
    const file = openSync(join(scene.root, 'x.dump'), 'w');
    const run = await cli(['dump', '--to=-'], scene.environment, { descriptors: { input: 0, output: file } });
    closeSync(file);
    assert.deepEqual([run.exitStatus, run.stdout], [0, ''], run.stderr);
    assert.ok(readFileSync(join(scene.root, 'x.dump')).equals(BYTES));
  });

  test('a dump that fails half-way: 1, and no word on standard output either', (context) => {
    const scene = installed(context, 'printf half; echo "The database is in use." >&2; exit 1');
    const dump = scene.program(['dump', '--to=-']);
    assert.deepEqual([dump.status, dump.bytes.toString()], [1, 'half']);
    assert.match(dump.talk, /error: neo4j-admin ended with 1: The database is in use\./);
    const without = new LegacyScene(context).program(['dump', '--to=-']);
    assert.deepEqual([without.status, without.bytes.length], [1, 0]);
    assert.match(without.talk, /no installed Neo4j/);
  });

  test('a tool that is killed: 1', (context) => {
    const scene = installed(context, 'printf half; kill -KILL $$');
    const dump = scene.program(['dump', '--to=-']);
    assert.deepEqual([dump.status, dump.bytes.toString()], [1, 'half']);
    assert.match(dump.talk, /was ended by SIGKILL/);
  });

  test('a reader that goes away is a dump that failed', (context) => {
    const scene = installed(context, DUMPED);
    const line = `"${LAUNCHER}" dump --to=- 2>"${scene.root}/talk" | head -c 10 >/dev/null; echo "\${PIPESTATUS[0]}"`;
    const { stdout } = spawnSync('bash', ['--norc', '-c', line], {
      env: scene.environment,
      encoding: 'utf8',
    });
    assert.equal(stdout, '1\n', readFileSync(join(scene.root, 'talk'), 'utf8'));
  });

  test('load reads it', (context) => {
    const scene = installed(context, LOADED);
    const load = scene.program(['load', '--from=-', '--database=other', '--force'], BYTES);
    assert.deepEqual([load.status, load.bytes.toString()], [0, 'Done: 36 files\n'], load.talk);
    assert.ok(readFileSync(join(scene.root, 'loaded')).equals(BYTES));
    assert.equal(scene.tool, 'database load --from-stdin --overwrite-destination=true other');
    assert.equal(scene.program(['load', '--from=-', '--info'], BYTES).status, 0);
    assert.match(scene.tool, /load --from-stdin --info neo4j$/);
  });

  test('no other command takes the input of the script that runs it', (context) => {
    const scene = installed(context, 'cat > "$MARK/loaded"');
    const file = join(scene.root, 'x.dump');
    writeFileSync(file, '');
    const load = scene.program(['load', `--from=${file}`], BYTES);
    assert.equal(load.status, 0, load.talk);
    assert.equal(readFileSync(join(scene.root, 'loaded')).length, 0);
  });

  test('a terminal is no place for a dump: 1', async (context) => {
    if (!existsSync('/dev/ptmx')) return context.skip('there are no terminals here');
    const scene = installed(context, DUMPED);
    const terminal = openSync('/dev/ptmx', 'r+');
    context.after(() => closeSync(terminal));
    const descriptors = { input: terminal, output: terminal };
    for (const args of [
      ['dump', '--to=-'],
      ['load', '--from=-'],
    ]) {
      const run = await cli(args, scene.environment, { descriptors });
      assert.equal(run.exitStatus, 1);
      assert.match(run.stderr, /^error: .*this is a terminal\nhint: use a pipe or a file/);
    }
    assert.equal(existsSync(join(scene.root, 'tool')), false, 'no tool was started');
  });
});

test('the sizes of the old tools', () => {
  assert.deepEqual(['8m', '8M', '512k', '1g', '2T', '12345'].map(memoryBytes), [
    8 * MIB,
    8 * MIB,
    512 * 1024,
    1024 * MIB,
    2 * 1024 * 1024 * MIB,
    12345,
  ]);
});
