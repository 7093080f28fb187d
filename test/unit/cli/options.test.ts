import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import { rateOption } from '../../../src/cli/options.ts';
import { cli } from './harness.ts';

const folder = mkdtempSync(path.join(os.tmpdir(), 'graphkeep-options-'));
after(() => rmSync(folder, { recursive: true }));

/** Command line → words that the message has to hold. All are refused before any file is read. */
const REFUSALS: [string[], RegExp][] = [
  [['--object-lock=governance'], /--object-lock takes governance,<yyyy-MM-dd>/],
  [['--object-lock=compliance,2027-02-30'], /--object-lock takes/],
  [['--object-lock=compliance,2020-01-01'], /--object-lock ends in the past: 2020-01-01/],
  [['--object-tags=team'], /--object-tags takes <key>=<value>/],
  [['--server-side-encryption=scope'], /--server-side-encryption takes store, kms/],
  [['--s3-checksums=never'], /--s3-checksums/],
  [['--from=host:port'], /--from names no address: 'host:port'/],
  [['--from', 'host:70000'], /--from names no address/],
  [['--from=localhost', '--from-path-data=/x'], /--from and --from-path-data and --from-path-txn exclude/],
  [['--from=localhost', '--additional-config=/x'], /--from and --additional-config exclude/],
  [['--token-file=/x'], /--token-file is for backup servers, and --from is missing/],
  [['--inactivity-timeout=soon'], /--inactivity-timeout takes a time/],
  [['--inactivity-timeout=5m'], /--inactivity-timeout is for backup servers/],
  [['--pagecache=4G'], /--pagecache is refused.*recovery/],
  [['--parallel-recovery'], /--parallel-recovery is refused/],
  [['--parallel-recovery=true'], /--parallel-recovery is refused/],
  [['--parallel-download'], /--parallel-download is for backup servers, and --from is missing/],
  [['--remote-address-resolution'], /--remote-address-resolution is for backup servers/],
  [
    ['--from=localhost', '--remote-address-resolution'],
    /--remote-address-resolution needs --bolt-password-file/,
  ],
  [['--from=localhost', '--bolt-address=x', '--bolt-password-file=/x'], /--from and --bolt-address exclude/],
  [['--temp-path=/x'], /--temp-path is refused.*staged/],
  [['--report-path=/x'], /--report-path is refused.*staged/],
  [['--check-consistency', '--from-path-data=/a', '--from-path-txn=/b'], /does not exist|needs the jars/],
  [['--expand-commands'], /--expand-commands is refused/],
  [['--type=WEEKLY'], /--type=WEEKLY is not possible/],
  [['--include-metadata=everybody'], /--include-metadata=everybody is not possible/],
  [['--include-metadata=users='], /--include-metadata=users= is not possible/],
  [['--bolt-address=localhost:7687'], /--bolt-address needs --bolt-password-file/],
  [['--bolt-user=anna'], /--bolt-user and --bolt-password-file need --bolt-address/],
  [
    ['--include-metadata=none', '--bolt-address=localhost', '--bolt-password-file=/x'],
    /--bolt-address and --include-metadata=none exclude each other/,
  ],
  [['--skip-recovery=false'], /--skip-recovery=false is refused/],
  [['--compress=maybe'], /takes true or false/],
  [['--compress=false', '--compression-level=3'], /--compression-level is refused.*--compress=false/],
  [['--compression-level=0'], /from 1 to 19/],
  [['--compression-level=20'], /from 1 to 19/],
  [['--compression-level=fast'], /from 1 to 19/],
  [['--limit-rate=fast'], /--limit-rate takes a size/],
  [['--limit-rate=0'], /--limit-rate takes a size/],
  [['--limit-rate=5T'], /--limit-rate takes a size/],
  [['--from-path-data=/x'], /needs --from-path-txn/],
  [['--from-path-txn=/x'], /needs --from-path-data/],
  [['--from-path-data=/x', '--from-path-txn=/y', '--neo4j-home=/z'], /exclude each other/],
  [['--inspect-path=/x'], /--inspect-path and --to-path exclude/],
];

describe('database backup refuses what it does not do', () => {
  for (const [options, message] of REFUSALS) {
    test(options.join(' '), async () => {
      const run = await cli(['database', 'backup', `--to-path=${folder}`, ...options, 'neo4j']);
      assert.equal(run.exitStatus, 64, run.stderr);
      assert.match(run.stderr, message);
      assert.match(run.stderr, /^hint: \S/m);
      assert.equal(run.stdout, '');
    });
  }

  for (const scheme of ['s3', 'gs', 'azb']) {
    test(`--to-path=${scheme}:// takes a store, and nothing else does`, async () => {
      const wrong = await cli(['database', 'backup', `--to-path=${scheme}://bucket/folder?token=x`]);
      assert.equal(wrong.exitStatus, 64);
      assert.match(wrong.stderr, new RegExp(`the ${scheme}:// URL has a \\?, # or @ in it`));
      assert.doesNotMatch(wrong.stderr, /token=x/);
      const local = await cli(['database', 'backup', `--temp-path=${scheme}://bucket/folder`]);
      assert.equal(local.exitStatus, 64);
      assert.match(local.stderr, new RegExp(`--temp-path is refused.*${scheme}:// is none`));
    });
  }

  test('switches that ask for what happens anyway pass', async () => {
    const home = '--neo4j-home=/does/not/exist';
    for (const option of [
      '--parallel-recovery=false',
      '--skip-recovery',
      '--include-metadata=none',
      '--type=auto',
    ]) {
      const run = await cli(['database', 'backup', `--to-path=${folder}`, home, option]);
      assert.equal(run.exitStatus, 66, `${option}: ${run.stderr}`);
    }
  });

  test('--to-path is required', async () => {
    const run = await cli(['database', 'backup', 'neo4j']);
    assert.equal(run.exitStatus, 64);
    assert.match(run.stderr, /--to-path is missing/);
  });

  test('a missing target folder is 66 before any database is touched', async () => {
    const run = await cli([
      'database',
      'backup',
      `--to-path=${folder}/missing`,
      '--neo4j-home=/does/not/exist',
    ]);
    assert.equal(run.exitStatus, 66);
    assert.match(run.stderr, /target folder does not exist/);
  });

  test('a database name that leaves the folder is refused', async () => {
    const run = await cli([
      'database',
      'backup',
      `--to-path=${folder}`,
      `--from-path-data=${folder}`,
      `--from-path-txn=${folder}`,
      '../../etc',
    ]);
    assert.equal(run.exitStatus, 64);
    assert.match(run.stderr, /not a database name/);
  });
});

describe('database restore and the backup commands refuse', () => {
  const cases: [string[], RegExp][] = [
    [['database', 'restore'], /--from-path is missing/],
    [['database', 'restore', '--from-path=/a', '--restore-until=soon'], /neither a transaction nor a time/],
    [['database', 'restore', '--from-path=/a', '--restore-until=0'], /neither a transaction nor a time/],
    [
      ['database', 'restore', '--from-path=/a', '--restore-until=2026-02-30 10:00:00'],
      /neither a transaction nor a time/,
    ],
    [['database', 'restore', '--from-path=/a', '--temp-path=/b'], /--temp-path is refused/],
    [['database', 'restore', '--from-path=/a', '--to-path-data=/b'], /needs --to-path-txn/],
    [['database', 'restore', '--to-path-data=s3://a/b'], /--to-path-data is refused/],
    [['database', 'restore', '--from-path=s3://a'], /does not name a bucket/],
    [['backup', 'inspect'], /missing required argument/],
    [['backup', 'inspect', '/a', '--latest-backup', '--latest-chain'], /exclude each other/],
    [['backup', 'inspect', '/a', '--format=XML'], /possible values: TABULAR, JSON/],
    [['backup', 'inspect', '/a', '--additional-config=/b'], /--additional-config is refused/],
    [['backup', 'validate'], /no artifact is given/],
    [['database', 'info', '--from-path=/a', '--neo4j-home=/b'], /excludes --neo4j-home/],
    [['database', 'info', '--neo4j-home=/b', '--expand-commands'], /--expand-commands is refused/],
  ];
  for (const [line, message] of cases) {
    test(line.join(' '), async () => {
      const run = await cli(line);
      assert.equal(run.exitStatus, 64, run.stderr);
      assert.match(run.stderr.replaceAll('\n', ' '), message);
    });
  }
});

describe('mistyped words', () => {
  const cases: [string[], RegExp][] = [
    [['databse'], /hint: did you mean database\?/],
    [['database', 'bakup'], /hint: did you mean backup\?/],
    [['database', 'backup', '--to-pth', '/x'], /hint: did you mean --to-path\?/],
    [['database', 'backup', '--to-pth=/x'], /hint: did you mean --to-path\?/],
    [['database', 'backup', '--to-pth=two\nlines'], /hint: did you mean --to-path\?/],
    [['backup', 'validte'], /hint: did you mean validate\?/],
  ];
  for (const [line, message] of cases) {
    test(JSON.stringify(line), async () => {
      const run = await cli(line);
      assert.equal(run.exitStatus, 64);
      assert.match(run.stderr, message);
    });
  }

  test('refused options are not suggested', async () => {
    const run = await cli(['database', 'backup', '--pagecach=1']);
    assert.equal(run.exitStatus, 64);
    assert.doesNotMatch(run.stderr, /did you mean/);
  });
});

describe('errors as JSON', () => {
  test('one document with code, message, hint and exit status', async () => {
    for (const form of [['--format=json'], ['--format', 'JSON']]) {
      const run = await cli(['database', 'backup', `--to-path=${folder}`, ...form]);
      assert.equal(run.exitStatus, 64);
      const document: unknown = JSON.parse(run.stdout);
      assert.deepEqual(document, {
        error: {
          code: 'GK_USAGE',
          message: 'it is not known where Neo4j is installed',
          hint: 'give --neo4j-home=<folder>, or set NEO4J_HOME, or name the folders by path options',
          exitStatus: 64,
        },
      });
    }
  });

  test('also when the parser refuses the line', async () => {
    const run = await cli(['database', 'backup', '--format=json', '--no-such-option']);
    assert.match(run.stdout, /"code": "GK_USAGE"/);
  });
});

describe('stack traces', () => {
  const line = ['database', 'backup', `--to-path=${folder}`];
  test('none by default', async () => assert.doesNotMatch((await cli(line)).stderr, /\n {4}at /));
  test('with --verbose', async () => assert.match((await cli([...line, '--verbose'])).stderr, /\n {4}at /));
  test('with NEO4J_DEBUG', async () =>
    assert.match((await cli(line, { NEO4J_DEBUG: '1' })).stderr, /\n {4}at /));
});

test('arguments from a file reach the command', async () => {
  const file = path.join(folder, 'arguments');
  writeFileSync(file, '# nightly\ndatabase backup\n--pagecache="4 G"\n');
  const run = await cli([`@${file}`]);
  assert.equal(run.exitStatus, 64);
  assert.match(run.stderr, /--pagecache is refused/);
});

test('a missing argument file is 66', async () => {
  assert.equal((await cli([`@${folder}/missing`])).exitStatus, 66);
});

test('rates count by 1024', () => {
  const parse = (value: string) => rateOption('--limit-rate', '').parseArg?.(value, undefined);
  assert.deepEqual(
    ['1', '10k', '50M', '50MiB', '1.5g', '2GB'].map(parse),
    [1, 10_240, 52_428_800, 52_428_800, 1_610_612_736, 2_147_483_648],
  );
});

describe('what only an object store can do', () => {
  const wishes = [
    '--object-lock=compliance,2999-01-01',
    '--legal-hold',
    '--server-side-encryption=store',
    '--storage-class=STANDARD_IA',
    '--object-tags=team=a',
  ];
  const nowhere = '--neo4j-home=/does/not/exist';
  const commands: readonly (readonly string[])[] = [
    ['database', 'backup', `--to-path=${folder}`, nowhere],
    ['dbms', 'backup', `--to-path=${folder}`, nowhere],
    ['backup', 'copy', 's3://bucket/folder', folder],
    ['backup', 'aggregate', `--from-path=${folder}`],
  ];

  for (const wish of wishes) {
    test(`${wish} is refused for a folder, by every command that writes there`, async () => {
      for (const command of commands) {
        const run = await cli([...command, wish]);
        assert.equal(run.exitStatus, 64, `${command.join(' ')}: ${run.stderr}`);
        const [name] = wish.split('=');
        assert.match(run.stderr, new RegExp(`${name}: only what is kept in an object store .* is a folder`));
        assert.match(run.stderr, /^hint: .*s3:\/\//m);
      }
    });

    test(`${wish} with a folder and a store: it is said for which it does not hold`, async () => {
      const run = await cli([
        'database',
        'backup',
        `--to-path=${folder}`,
        '--to-path=s3://bucket/folder',
        nowhere,
        wish,
      ]);
      assert.notEqual(run.exitStatus, 64, run.stderr);
      assert.match(run.stderr, new RegExp(`note: .*; in ${folder} artifacts are plain files`));
      const store = await cli(['database', 'backup', '--to-path=s3://bucket/folder', nowhere, wish]);
      assert.doesNotMatch(store.stderr, /plain files|object store can have/);
    });
  }

  test('a key of one own may be for what is read', async () => {
    const key = path.join(folder, 'key');
    writeFileSync(key, Buffer.alloc(32, 7), { mode: 0o600 });
    const run = await cli([
      'backup',
      'aggregate',
      `--from-path=${folder}/missing`,
      `--server-side-encryption=customer:${key}`,
    ]);
    assert.equal(run.exitStatus, 66, run.stderr);
  });
});
