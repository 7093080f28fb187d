import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import {
  databaseMatcher,
  isDatabaseName,
  isPattern,
  normalizeDatabaseName,
} from '../../../src/neo4j/glob.ts';
import { installationFromPaths, openInstallation, selectDatabases } from '../../../src/neo4j/installation.ts';

const root = mkdtempSync(path.join(os.tmpdir(), 'graphkeep-installation-'));
after(() => rmSync(root, { recursive: true }));

describe('names', () => {
  test('are lower-cased', () => assert.equal(normalizeDatabaseName('Movies-2.x'), 'movies-2.x'));
  for (const name of ['neo4j', 'system', 'a.b-c', '1db', 'abc', 'x'.repeat(63)]) {
    test(`${name} is one`, () => assert.equal(normalizeDatabaseName(name), name));
  }
  const bad = [
    '',
    'ab',
    'x'.repeat(64),
    '..',
    '...',
    '../etc',
    'a/b',
    '/abc',
    '.neo4j',
    '-neo',
    'neo_4j',
    'näo',
    'a b c',
  ];
  for (const name of [...bad, 'neo4j\n', 'neo\0j', 'n*o']) {
    test(`${JSON.stringify(name)} is none`, () => {
      assert.throws(() => normalizeDatabaseName(name), { code: 'GK_USAGE' });
      assert.equal(isDatabaseName(name), false);
      assert.throws(() => installationFromPaths('/d', '/t').folders(name), { code: 'GK_USAGE' });
    });
  }
});

describe('patterns', () => {
  const cases: [string, string[], string[]][] = [
    ['*', ['neo4j', 'system'], []],
    ['n*', ['neo4j', 'n'], ['system']],
    ['neo4j*', ['neo4j', 'neo4j2'], ['neo']],
    ['*4j', ['neo4j'], ['neo4js']],
    ['n?o4j', ['neo4j', 'no4j'], ['neeo4j']],
    ['NEO*', ['neo4j'], []],
    ['a.b*', ['a.b', 'a.bc'], ['axb']],
    ['**?*', ['', 'anything'], []],
  ];
  for (const [pattern, yes, no] of cases) {
    test(pattern, () => {
      const matches = databaseMatcher(pattern);
      for (const name of yes) assert.equal(matches(name), true, name);
      for (const name of no) assert.equal(matches(name), false, name);
    });
  }
  test('what is one', () => assert.deepEqual(['neo4j', 'n*', 'n?'].map(isPattern), [false, true, true]));
  test('other characters are refused', () =>
    assert.throws(() => databaseMatcher('../*'), { code: 'GK_USAGE' }));
  test('many stars come to an end', { timeout: 20_000 }, () => {
    assert.equal(databaseMatcher(`${'a*'.repeat(30)}b`)('a'.repeat(63)), false);
  });
});

function makeHome(name: string, settings = ''): string {
  const home = path.join(root, name);
  mkdirSync(path.join(home, 'conf'), { recursive: true });
  writeFileSync(path.join(home, 'conf', 'neo4j.conf'), settings);
  return home;
}

function makeDatabases(folder: string, names: string[]): void {
  for (const name of names) {
    mkdirSync(path.join(folder, name), { recursive: true });
    writeFileSync(path.join(folder, name, 'neostore'), '');
  }
}

describe('openInstallation', () => {
  test('by option, by NEO4J_HOME, and the option wins', async () => {
    const first = makeHome('first');
    const second = makeHome('second');
    assert.equal((await openInstallation({ home: first, environment: {} })).home, first);
    assert.equal((await openInstallation({ environment: { NEO4J_HOME: second } })).home, second);
    assert.equal((await openInstallation({ home: first, environment: { NEO4J_HOME: second } })).home, first);
  });

  test('NEO4J_CONF is where the files are', async () => {
    const home = makeHome('third', 'server.directories.data=in-home');
    const elsewhere = path.join(root, 'etc');
    mkdirSync(elsewhere);
    writeFileSync(path.join(elsewhere, 'neo4j.conf'), 'server.directories.data=/var/data');
    const environment = { NEO4J_CONF: elsewhere };
    assert.equal((await openInstallation({ home, environment })).databasesRoot, '/var/data/databases');
    assert.equal(
      (await openInstallation({ home, environment: {} })).databasesRoot,
      `${home}/in-home/databases`,
    );
  });

  test('no home, a missing one and a file', async () => {
    await assert.rejects(openInstallation({ environment: {} }), { code: 'GK_USAGE' });
    await assert.rejects(openInstallation({ environment: { NEO4J_HOME: ' ' } }), { code: 'GK_USAGE' });
    await assert.rejects(openInstallation({ home: `${root}/missing`, environment: {} }), {
      code: 'GK_NOT_FOUND',
    });
    const file = path.join(root, 'file');
    writeFileSync(file, '');
    await assert.rejects(openInstallation({ home: file, environment: {} }), { code: 'GK_NOT_FOUND' });
  });

  test('folders of a database', async () => {
    const home = makeHome('fourth', 'server.directories.transaction.logs.root=/fast/logs');
    const installation = await openInstallation({ home, environment: {} });
    assert.deepEqual(installation.folders('Neo4j'), {
      name: 'neo4j',
      storeDirectory: `${home}/data/databases/neo4j`,
      logDirectory: '/fast/logs/neo4j',
    });
  });
});

describe('databases found', () => {
  const databases = path.join(root, 'listed', 'databases');
  const transactions = path.join(root, 'listed', 'transactions');
  makeDatabases(databases, ['neo4j', 'system', '.hidden', 'not_a_name']);
  makeDatabases(transactions, ['neo4j', 'half']);
  makeDatabases(path.join(root, 'other'), ['linked']);
  mkdirSync(path.join(databases, 'empty'));
  writeFileSync(path.join(databases, 'store_lock'), '');
  writeFileSync(path.join(databases, 'file'), '');
  symlinkSync(path.join(root, 'other', 'linked'), path.join(databases, 'linked'));
  symlinkSync('/nowhere/at/all', path.join(databases, 'dangling'));
  const installation = installationFromPaths(databases, transactions);

  test('folders, links to folders and what is left of a database', async () => {
    assert.deepEqual(await installation.listDatabases(), ['half', 'linked', 'neo4j', 'system']);
  });

  test('a missing base folder is an error, missing logs are not', async () => {
    await assert.rejects(installationFromPaths(`${root}/none`, transactions).listDatabases(), {
      code: 'GK_NOT_FOUND',
    });
    const names = await installationFromPaths(databases, `${root}/none`).listDatabases();
    assert.deepEqual(names, ['linked', 'neo4j', 'system']);
  });

  test('selection keeps the order, drops doubles and carries what matches nothing', async () => {
    const selected = await selectDatabases(installation, ['system', 'S*', 'absent', 'x*', '*']);
    assert.deepEqual(
      selected.map(({ name, error }) => [name, error?.code]),
      [
        ['system', undefined],
        ['absent', undefined],
        ['x*', 'GK_NOT_FOUND'],
        ['half', undefined],
        ['linked', undefined],
        ['neo4j', undefined],
      ],
    );
  });
});
