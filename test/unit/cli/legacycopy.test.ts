/** `copy` in its 4.x spelling: what it is given, what it says, and what it refuses. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { makeDatabase, put } from '../../fixtures/database.ts';
import { assertSameFiles, filesBelow, makeFolder, temporaryFolder } from '../../fixtures/workspace.ts';
import { type CliRun, cli } from './harness.ts';

class CopyScene {
  readonly root: string;
  readonly home: string;

  constructor(context: TestContext) {
    this.root = temporaryFolder(context);
    this.home = makeFolder(this.root, 'home');
    makeDatabase(join(this.home, 'data'), '5.26');
  }

  run(...args: string[]): Promise<CliRun> {
    return cli(['copy', ...args], { NEO4J_HOME: this.home });
  }

  path(...steps: string[]): string {
    return join(this.home, 'data', ...steps);
  }
}

const FROM_TO = ['--from-database=neo4j', '--to-database=copy'];

describe('copy', () => {
  test('beside its source, once', async (context) => {
    const scene = new CopyScene(context);
    const run = await scene.run(...FROM_TO);
    assert.equal(run.exitStatus, 0, run.stderr);
    assert.equal(run.stdout, "Copied database 'neo4j' to 'copy', up to transaction 41.\n");
    assert.match(run.stderr, /^note: Neo4j Community opens it with initial\.dbms\.default_database=copy/);
    assert.deepEqual(readdirSync(scene.path()).sort(), ['databases', 'transactions']);
    const before = filesBelow(scene.home);
    for (const force of [[], ['--force']]) {
      const again = await scene.run(...FROM_TO, ...force);
      assert.equal(again.exitStatus, 1);
      assert.match(again.stderr, /error: database with name \[copy\] already exists.*\nhint: give another/);
    }
    assertSameFiles(filesBelow(scene.home), before);
  });

  test('from a path, with the log beside or elsewhere, into another home', async (context) => {
    const scene = new CopyScene(context);
    const other = makeFolder(scene.root, 'other');
    put(join(other, 'conf/neo4j.conf'), Buffer.from('server.directories.data=elsewhere\n'));
    const to = ['--to-database=copy', `--neo4j-home=${other}`];
    const from = `--from-path=${scene.path('databases/neo4j')}`;
    const lost = await cli(['copy', from, ...to]);
    assert.equal(lost.exitStatus, 1);
    assert.match(lost.stderr, /there is no transaction log in .*\nhint: give --from-path-tx/);
    const log = `--from-path-tx=${scene.path('transactions/neo4j')}`;
    const run = await cli(['copy', from, log, ...to]);
    assert.equal(run.exitStatus, 0, run.stderr);
    assert.ok(existsSync(join(other, 'elsewhere/databases/copy/neostore')));
    assert.ok(existsSync(join(other, 'elsewhere/transactions/copy/checkpoint.0')));
    assert.deepEqual(readdirSync(scene.path('databases')), ['neo4j']);
  });

  test('a directory backup', async (context) => {
    const scene = new CopyScene(context);
    const backups = makeFolder(scene.root, 'backups');
    const args = ['backup', `--backup-dir=${backups}`, '--name=graph.db-backup', '--check-consistency=false'];
    assert.equal((await cli(args, { NEO4J_HOME: scene.home })).exitStatus, 0);
    const run = await scene.run(`--from-path=${join(backups, 'graph.db-backup')}`, '--to-database=copy');
    assert.equal(run.exitStatus, 0, run.stderr);
    assert.match(run.stdout, /^Copied database 'graph\.db-backup' to 'copy'/);
  });

  test('options that mean nothing pass with a note', async (context) => {
    const scene = new CopyScene(context);
    const ignored = ['--force', '--from-pagecache=8m', '--to-pagecache=1G', '--expand-commands'];
    const passed = ['--to-format=SAME', '--compact-node-store=false', '--verbose'];
    const run = await scene.run(...FROM_TO, ...ignored, ...passed);
    assert.equal(run.exitStatus, 0, run.stderr);
    for (const option of ignored) {
      assert.match(run.stderr, new RegExp(`^note: ${option.split('=')[0]} has no effect: `, 'm'));
    }
    assert.equal(run.stderr.match(/^note: --/gm)?.length, ignored.length);
  });

  const filters = [
    '--delete-nodes-with-labels=A',
    '--skip-labels=A',
    '--skip-properties=p',
    '--skip-node-properties=A.p',
    '--skip-relationship-properties=T.p',
    '--copy-only-nodes-with-labels=A',
    '--copy-only-relationships-with-types=T',
    '--copy-only-node-properties=A.p',
    '--copy-only-relationship-properties=T.p',
    '--ignore-nodes-with-labels=A',
    '--ignore-relationships-with-types=T',
    '--compact-node-store',
    '--to-format=high_limit',
    '--to-format=aligned',
  ];
  for (const option of filters) {
    test(`${option} is refused: a copy that ignored it would be another one`, async (context) => {
      const scene = new CopyScene(context);
      const before = filesBelow(scene.home);
      const spellings = option.startsWith('--compact') ? [[option]] : [[option], option.split('=')];
      for (const spelling of spellings) {
        const run = await scene.run(...FROM_TO, ...spelling);
        assert.deepEqual([run.exitStatus, run.stdout], [1, '']);
        const [name = ''] = option.split('=');
        assert.match(run.stderr, new RegExp(`^error: ${name}.* is refused: .*rewrites nothing\nhint: `));
      }
      assertSameFiles(filesBelow(scene.home), before);
    });
  }

  const wrong: [args: string[], message: RegExp][] = [
    [[], /either --from-database or --from-path/],
    [['--to-database=copy'], /either --from-database or --from-path/],
    [['--from-database=neo4j', '--from-path=/x', '--to-database=copy'], /either --from-database or/],
    [['--from-database=neo4j'], /Missing argument 'to-database'/],
    [[...FROM_TO, '--from-path-tx=/x'], /--from-path-tx goes with --from-path/],
    [['--from-path=/nothing/there', '--to-database=copy'], /\/nothing\/there/],
    [['--from-database=nodb', '--to-database=copy'], /nodb/],
    [['--from-database=n*', '--to-database=copy'], /not a database name/],
    [['--from-database=neo4j', '--to-database=../copy'], /not a database name/],
    [['--from-database=neo4j', '--to-database=neo4j'], /\[neo4j\] already exists/],
    [['--from-database=neo4j', '--to-database=system'], /system cannot be copied/],
    [['--from-database=system', '--to-database=copy'], /system cannot be copied/],
    [[...FROM_TO, '--to-format=blocks'], /--to-format=blocks is not possible/],
    [[...FROM_TO, '--to-pagecache=much'], /not possible/],
    [[...FROM_TO, '--bogus'], /unknown option '--bogus'/],
    [[...FROM_TO, 'surplus'], /too many arguments/],
  ];
  for (const [args, message] of wrong) {
    test(`${args.join(' ') || 'no option'}: 1`, async (context) => {
      const scene = new CopyScene(context);
      const before = filesBelow(scene.home);
      const run = await scene.run(...args);
      assert.deepEqual([run.exitStatus, run.stdout], [1, '']);
      assert.match(run.stderr, /^error: .*\nhint: /);
      assert.match(run.stderr, message);
      assertSameFiles(filesBelow(scene.home), before);
    });
  }
});
