import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import { CONFIGURATION_FILE_BYTES_MAX, readDirectories } from '../../../src/neo4j/configuration.ts';
import { parseProperties } from '../../../src/neo4j/properties.ts';

const root = mkdtempSync(path.join(os.tmpdir(), 'graphkeep-configuration-'));
after(() => rmSync(root, { recursive: true }));

let homes = 0;

/** A home with the given files below `conf`; paths are relative to it. */
function homeWith(files: Record<string, string | Buffer>): string {
  homes += 1;
  const home = path.join(root, `home${homes}`);
  mkdirSync(path.join(home, 'conf'), { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(path.join(home, 'conf', name), text);
  return home;
}

function read(home: string, more: { command?: string; additionalConfig?: string } = {}) {
  return readDirectories({ home, configurationDirectory: path.join(home, 'conf'), ...more });
}

async function dataOf(text: string): Promise<string> {
  const home = homeWith({ 'neo4j.conf': text });
  return path.relative(home, (await read(home)).data);
}

describe('Java properties', () => {
  const cases: [string, [string, string][]][] = [
    ['a=b', [['a', 'b']]],
    ['  a = b c ', [['a', 'b c ']]],
    [
      'a:b\na b\na\tb',
      [
        ['a', 'b'],
        ['a', 'b'],
        ['a', 'b'],
      ],
    ],
    ['a = = b', [['a', '= b']]],
    ['# c\n  ! d\n\na=#b', [['a', '#b']]],
    ['a=b\\\n   c\\\n#d', [['a', 'bc#d']]],
    [
      'a=b\\\\\nc=d',
      [
        ['a', 'b\\'],
        ['c', 'd'],
      ],
    ],
    ['# c \\\na=b', [['a', 'b']]],
    [
      'a=1\r\nb=2\rc=3',
      [
        ['a', '1'],
        ['b', '2'],
        ['c', '3'],
      ],
    ],
    ['a\\=b=c', [['a=b', 'c']]],
    ['a=\\u0041\\t\\q', [['a', 'A\tq']]],
    ['a', [['a', '']]],
    ['a=b\\', [['a', 'b']]],
    ['', []],
  ];
  for (const [text, expected] of cases) {
    test(JSON.stringify(text), () => {
      assert.deepEqual(
        parseProperties(text).map(({ key, value }) => [key, value]),
        expected,
      );
    });
  }
  test('a malformed escape is an error', () => assert.throws(() => parseProperties('a=\\u12'), SyntaxError));
});

describe('directories', () => {
  test('defaults without any file', async () => {
    const home = homeWith({});
    assert.deepEqual(await read(home), {
      data: `${home}/data`,
      databasesRoot: `${home}/data/databases`,
      transactionsRoot: `${home}/data/transactions`,
      dumpsRoot: `${home}/data/dumps`,
      scriptsRoot: `${home}/data/scripts`,
      defaultDatabase: 'neo4j',
    });
  });

  test('relative paths hang on what Neo4j hangs them on', async () => {
    const home = homeWith({
      'neo4j.conf': [
        'server.directories.data=store/../mine',
        'server.directories.transaction.logs.root=logs',
        'internal.server.directories.databases.root=dbs',
        'server.directories.dumps.root=/elsewhere/dumps',
        'initial.dbms.default_database=Movies',
      ].join('\n'),
    });
    assert.deepEqual(await read(home), {
      data: `${home}/mine`,
      databasesRoot: `${home}/mine/dbs`,
      transactionsRoot: `${home}/mine/logs`,
      dumpsRoot: '/elsewhere/dumps',
      scriptsRoot: `${home}/mine/scripts`,
      defaultDatabase: 'movies',
    });
  });

  test('the home setting in the file is overruled by the home that is used, as in Neo4j', async () => {
    assert.equal(await dataOf('server.directories.neo4j_home=/elsewhere'), 'data');
  });

  test('comments, blanks and unknown settings', async () => {
    const text =
      '# server.directories.data=a\nserver.memory.pagecache.size=1g\n\n  server.directories.data =  b\n';
    assert.equal(await dataOf(text), 'b');
    assert.equal(await dataOf('server.directories.data=a # b'), 'a # b');
    assert.equal(await dataOf('server.directories.data=a '), 'a ');
    assert.equal(await dataOf('server.directories.data='), '');
  });

  test('names of 4.x are taken as Neo4j 5 takes them: unless the new name is set anywhere', async () => {
    assert.equal(await dataOf('dbms.directories.data=old'), 'old');
    assert.equal(await dataOf('server.directories.data=new\ndbms.directories.data=old'), 'new');
    assert.equal(await dataOf('dbms.directories.data= '), 'data');
    const home = homeWith({
      'neo4j.conf': 'server.directories.data=new',
      'neo4j-admin.conf': 'dbms.directories.data=old',
    });
    assert.equal((await read(home)).data, `${home}/new`);
  });
});

describe('precedence of files', () => {
  test('additional > command > admin > neo4j.conf', async () => {
    const setting = (value: string) => `server.directories.data=${value}\n`;
    const home = homeWith({
      'neo4j.conf': `${setting('general')}server.directories.dumps.root=kept\n`,
      'neo4j-admin.conf': setting('admin'),
      'neo4j-admin-database-backup.conf': setting('backup'),
      'neo4j-admin-database-restore.conf': setting('restore'),
    });
    const additionalConfig = path.join(home, 'more.conf');
    writeFileSync(additionalConfig, setting('additional'));
    const data = async (more: { command?: string; additionalConfig?: string }) =>
      path.relative(home, (await read(home, more)).data);
    assert.equal(await data({}), 'admin');
    assert.equal(await data({ command: 'info' }), 'admin');
    assert.equal(await data({ command: 'backup' }), 'backup');
    assert.equal(await data({ command: 'restore' }), 'restore');
    assert.equal(await data({ command: 'backup', additionalConfig }), 'additional');
    assert.equal((await read(home, { additionalConfig })).dumpsRoot, `${home}/additional/kept`);
  });

  test('only the additional file has to exist', async () => {
    const home = homeWith({});
    await assert.rejects(read(home, { additionalConfig: `${home}/missing` }), { code: 'GK_NOT_FOUND' });
    await assert.rejects(read(home, { additionalConfig: home }), { code: 'GK_CONFIG' });
  });
});

describe('refused', () => {
  const refused = async (text: string | Buffer, message: RegExp) => {
    await assert.rejects(read(homeWith({ 'neo4j.conf': text })), (error) => {
      assert.ok(error instanceof Error && 'code' in error);
      assert.equal(error.code, 'GK_CONFIG');
      assert.match(error.message, message);
      return true;
    });
  };

  test('a setting declared twice in one file', async () => {
    await refused('server.directories.data=a\nserver.directories.data=a', /declared several times/);
    await refused('some.other=1\nsome.other=2', /some\.other is declared several times/);
  });

  test('but not twice in two files, nor where Neo4j allows it', async () => {
    const jvm = 'server.jvm.additional=-Da\nserver.jvm.additional=-Db\n';
    assert.equal(await dataOf(jvm), 'data');
    const twice = 'server.directories.data=a\nserver.directories.data=b\n';
    assert.equal(await dataOf(`${twice}server.config.strict_validation.enabled=false`), 'b');
    assert.equal(await dataOf(`${twice}dbms.config.strict_validation=false`), 'b');
  });

  test('commands where the value is needed', async () => {
    await refused('server.directories.data=$(cat /etc/data)', /is a command/);
    assert.equal(await dataOf('dbms.some.password=$(cat secret)'), 'data');
  });

  test('characters that Neo4j turns into something else', async () => {
    await refused('server.directories.data="data"', /quote, backslash/);
    await refused('server.directories.data=C:\\\\data', /quote, backslash/);
    await refused(Buffer.from('server.directories.data=dätä'), /non-ASCII/);
    await refused('server.directories.data=d\\u00e4t\\u00e4', /non-ASCII/);
    assert.equal(await dataOf('some.text=dätä'), 'data');
  });

  test('a malformed escape and a file too large to be one', async () => {
    await refused('a=\\uXYZ', /malformed/);
    await refused(Buffer.alloc(CONFIGURATION_FILE_BYTES_MAX + 1, '#'), /larger than/);
  });
});

test('a folder as neo4j.conf, as Kubernetes mounts it', async () => {
  const home = homeWith({});
  const folder = path.join(home, 'conf', 'neo4j.conf');
  const hidden = path.join(folder, '..data');
  mkdirSync(hidden, { recursive: true });
  writeFileSync(path.join(hidden, 'server.directories.data'), 'mounted');
  symlinkSync('..data/server.directories.data', path.join(folder, 'server.directories.data'));
  writeFileSync(path.join(folder, '.server.directories.dumps.root'), 'hidden');
  const directories = await read(home);
  assert.equal(directories.data, `${home}/mounted`);
  assert.equal(directories.dumpsRoot, `${home}/mounted/dumps`);
});
