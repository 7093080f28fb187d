/**
 * Requests that no client of ours sends: too large, too slow, malformed, or with names that try to leave the folder of the
 * databases. A file beside them and above them holds a mark that must never be in an answer.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { KIB, REQUEST_BODY_BYTES_MAX, REQUEST_HEADER_BYTES_MAX } from '../../../src/limits.ts';
import { NAME_HEADER } from '../../../src/remote/protocol.ts';
import { type Certificates, makeCertificates } from '../../fixtures/certificates.ts';
import { membersOf } from '../../fixtures/chains.ts';
import { type Answered, backUp, json, Served } from '../../fixtures/served.ts';
import { namesIn } from '../../fixtures/workspace.ts';

const CANARY = 'a-mark-that-no-answer-may-hold';

/** Files with the mark beside and above the databases, in places that look like a database, too. */
function plantCanaries({ root }: Served): void {
  const data = join(root, 'data');
  for (const folder of [root, data, join(data, 'databases'), join(data, 'transactions')])
    writeFileSync(join(folder, 'canary'), CANARY);
  for (const name of ['beside', 'Upper', '_under']) {
    mkdirSync(join(data, name));
    writeFileSync(join(data, name, 'neostore'), CANARY);
  }
}

async function openSession(served: Served): Promise<{ id: string; groups: number }> {
  const body = json({ database: 'neo4j', kind: 'snapshot', request: 'test' });
  const { text } = await served.ask({ path: '/v1/sessions', ...body });
  const opened = JSON.parse(text) as { session: string; groups: unknown[] };
  return { id: opened.session, groups: opened.groups.length };
}

async function assertUp(served: Served): Promise<void> {
  assert.equal((await served.ask({ path: '/v1/databases' })).text, '{"databases":[{"name":"neo4j"}]}');
  const failures = served.logLines.filter((line) => line.includes('"level":50'));
  assert.deepEqual(failures, []);
}

/** Bytes as they are, and everything that comes until the server closes the connection. */
async function sendRaw(port: number, bytes: string, end = true): Promise<string> {
  const socket = net.connect(port, '127.0.0.1');
  let text = '';
  socket.on('data', (piece: Buffer) => {
    text += piece.toString('latin1');
  });
  // Too much of a request is not read to its end: its sender may see a reset instead of the answer.
  socket.on('error', () => undefined);
  if (end) socket.end(bytes);
  else socket.write(bytes);
  await once(socket, 'close');
  return text;
}

describe('the name of a request', () => {
  test('is carried by its answer, whatever that says', async (context) => {
    const served = await Served.start(context);
    const asked = [
      [{ path: '/v1/server' }, 200],
      [{ path: '/v1/nothing' }, 404],
      [{ path: '/v1/server', headers: { host: 'evil.example' } }, 403],
      [{ path: '/v1/sessions', ...json({ database: 7 }) }, 400],
    ] as const;
    for (const [request, expected] of asked) {
      const headers = { ...('headers' in request ? request.headers : {}), [NAME_HEADER]: 'a-1' };
      const answer = await served.ask({ ...request, headers });
      assert.equal(answer.status, expected);
      assert.equal(answer.headers[NAME_HEADER], 'a-1');
    }
  });

  test('that is none is not repeated', async (context) => {
    const served = await Served.start(context);
    for (const name of ['a b', 'a\tb', '<script>', 'x'.repeat(65), '']) {
      const answer = await served.ask({ path: '/v1/server', headers: { [NAME_HEADER]: name } });
      assert.deepEqual([answer.status, answer.headers[NAME_HEADER]], [200, undefined]);
    }
  });
});

describe('too large', () => {
  test('headers', async (context) => {
    const served = await Served.start(context);
    const ask = (bytes: number): Promise<Answered> =>
      served.ask({ path: '/v1/databases', headers: { 'x-long': 'x'.repeat(bytes) } });
    assert.equal((await ask(REQUEST_HEADER_BYTES_MAX - KIB)).status, 200);
    assert.equal((await ask(REQUEST_HEADER_BYTES_MAX + 1)).status, 431);
    const line = `GET /v1/${'x'.repeat(2 * REQUEST_HEADER_BYTES_MAX)} HTTP/1.1\r\nhost: localhost\r\n\r\n`;
    assert.match(await sendRaw(served.port, line), /^(HTTP\/1\.1 431 .*)?$/s);
    await assertUp(served);
  });

  test('bodies, whether they say so or not', async (context) => {
    const served = await Served.start(context);
    const path = '/v1/sessions';
    const padded = (bytes: number): string => JSON.stringify({ database: 'x', pad: 'x'.repeat(bytes) });
    const fits = padded(REQUEST_BODY_BYTES_MAX - KIB);
    const tooLong = padded(REQUEST_BODY_BYTES_MAX);
    const headers = { 'content-type': 'application/json' };
    assert.equal((await served.ask({ method: 'POST', path, headers, body: fits })).status, 400);
    assert.equal((await served.ask({ method: 'POST', path, headers, body: tooLong })).status, 413);
    const chunks = `${tooLong.length.toString(16)}\r\n${tooLong}\r\n0\r\n\r\n`;
    const head = `POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n`;
    const chunked = `${head}transfer-encoding: chunked\r\n\r\n${chunks}`;
    assert.match(await sendRaw(served.port, chunked), /^HTTP\/1\.1 413 /);
    const said = `${head}content-length: 99999999999\r\n\r\n{}`;
    assert.match(await sendRaw(served.port, said), /^HTTP\/1\.1 413 /);
    await assertUp(served);
  });
});

describe('too slow', () => {
  const slow: readonly [string, string][] = [
    ['nothing at all', ''],
    ['half of a header', 'POST /v1/sessions HTTP/1.1\r\nhost: local'],
    [
      'half of a body',
      'POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{"a"',
    ],
  ];
  for (const [what, bytes] of slow) {
    test(`${what}: the connection is closed`, async (context) => {
      const served = await Served.start(context, { requestArrivalMs: 200 });
      const answer = await sendRaw(served.port, bytes, false);
      assert.match(answer, /^(HTTP\/1\.1 408 .*)?$/s);
      await assertUp(served);
    });
  }
});

describe('malformed', () => {
  const path = '/v1/sessions';
  const json400: readonly string[] = [
    ...['{', '', 'null', '[]', '"text"', '1', '{"database":1}', '{"database":null}', '{"database":{}}'],
    ...['{"database":"neo4j"}', '{"database":"neo4j","kind":"other","request":"r"}'],
    ...['{"__proto__":{"database":"neo4j"}}', '{"constructor":{"prototype":{"x":1}}}'],
    `{"database":"${'x'.repeat(2000)}","kind":"log","request":"r"}`,
    '{"database":"neo4j","kind":"log","request":1}',
    `${'['.repeat(20_000)}`,
  ];
  test('bodies', async (context) => {
    const served = await Served.start(context);
    const headers = { 'content-type': 'application/json' };
    for (const body of json400) {
      const { status, code, text } = await served.ask({ method: 'POST', path, headers, body });
      assert.equal(status, 400, `${body.slice(0, 60)}: ${text}`);
      assert.match(String(code), /^GK_(USAGE|PROTOCOL)$/);
    }
    await assertUp(served);
  });

  test('content types', async (context) => {
    const served = await Served.start(context);
    const body = JSON.stringify({ database: 'neo4j', kind: 'log', request: 'r' });
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data',
      'text/html',
      '',
    ]) {
      const headers = type === '' ? {} : { 'content-type': type };
      const { status } = await served.ask({ method: 'POST', path, headers, body });
      assert.ok(status === 415 || status === 400, `${type}: ${status}`);
    }
    await assertUp(served);
  });

  test('methods', async (context) => {
    const served = await Served.start(context);
    for (const method of ['PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS', 'TRACE', 'PROPFIND'])
      assert.equal((await served.ask({ method, path: '/v1/databases' })).status, 404, method);
    assert.match(await sendRaw(served.port, 'NOTHING / HTTP/1.1\r\n\r\n'), /^HTTP\/1\.1 400 /);
    assert.match(await sendRaw(served.port, '\x00\x01\x02\x03\r\n\r\n'), /^HTTP\/1\.1 400 /);
    assert.match(
      await sendRaw(served.port, 'CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n'),
      /^(HTTP\/1\.1 [45].*)?$/s,
    );
    await assertUp(served);
  });

  test('two requests in one, by lengths that contradict each other', async (context) => {
    const served = await Served.start(context);
    const head = 'POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n';
    const smuggled = 'GET /v1/databases HTTP/1.1\r\nhost: localhost\r\n\r\n';
    for (const lengths of [
      'content-length: 2\r\ntransfer-encoding: chunked\r\n',
      'content-length: 2\r\ncontent-length: 3\r\n',
      'transfer-encoding: chunked, identity\r\n',
      'content-length: +2\r\n',
    ]) {
      const answer = await sendRaw(served.port, `${head}${lengths}\r\n{}${smuggled}`);
      assert.match(answer, /^HTTP\/1\.1 400 /, lengths);
      assert.ok(!answer.includes('"databases"'), lengths);
    }
    await assertUp(served);
  });
});

/** Each as a name of a database, a session, a group and a member. */
const TRICKS: readonly string[] = [
  ...[
    '..',
    '../',
    '../..',
    '../../canary',
    '../canary',
    './neo4j',
    'neo4j/../canary',
    'neo4j/../beside',
    '/etc',
  ],
  ...['/etc/passwd', '//etc/passwd', '..\\..\\canary', 'C:\\', '\\\\host\\share', 'file:///etc/passwd'],
  ...[
    'neo4j\u0000',
    'neo4j\u0000.canary',
    '\u0000',
    'neo4j\n',
    'neo4j\r\nx: y',
    ' neo4j',
    'neo4j ',
    '.',
    '...',
  ],
  ...[
    '.neo4j',
    '-neo4j',
    '_under',
    '~',
    '~root',
    '$HOME',
    '$(id)',
    '`id`',
    '{{7*7}}',
    '%',
    '%2e%2e',
    '%2e%2e%2fcanary',
  ],
  ...[
    '%252e%252e%252f',
    '..%2f',
    '%c0%ae%c0%ae/',
    '..;/',
    'neo4j;',
    'neo4j?x',
    'neo4j#x',
    '*',
    '?',
    'neo*',
    'n?o4j',
  ],
  ...[
    'ne\u043e4j',
    '\uff0e\uff0e\uff0f',
    '\u2024\u2024',
    'ＮＥＯ４Ｊ',
    '\u202eneo4j',
    '\ud83d\ude00',
    'é'.repeat(40),
  ],
  ...[
    'a',
    'ab',
    'a'.repeat(64),
    'a'.repeat(99),
    'a'.repeat(5000),
    '__proto__',
    'constructor',
    'toString',
    'canary',
  ],
  ...[
    'databases',
    'transactions',
    'beside',
    'CON',
    'nul',
    '0',
    '-1',
    '1e3',
    '0x10',
    '1.5',
    '99999999999',
    'NaN',
    '',
  ],
];

/** A body that is right for each of the routes, so that it is the name which is refused. */
const FITS_ALL = {
  ...{ kind: 'all', step: 1, staged: false },
  ...{ succeeded: true, durationMs: 1, artifactBytes: 1 },
};

/** As a client would encode it, and as it stands wherever a request line can hold it. */
function spellings(trick: string): string[] {
  const plain = /^[\x21-\x7e]+$/.test(trick) ? [trick] : [];
  const encoded = encodeURIComponent(Buffer.from(trick, 'utf8').toString('utf8'));
  return [...plain, encoded, encoded.replaceAll('.', '%2e'), encoded.replaceAll('%', '%25')];
}

describe('names that try to leave', () => {
  let served: Served;
  let session: string;
  const begin = async (context: TestContext): Promise<void> => {
    served = await Served.start(context);
    plantCanaries(served);
    session = (await openSession(served)).id;
  };
  const assertRefused = ({ status, text }: Answered, what: string): void => {
    assert.ok(status >= 400 && status < 500, `${what}: ${status} ${text.slice(0, 200)}`);
    assert.ok(!text.includes(CANARY) && !text.includes('root:'), what);
  };

  test('as the name of a database in a body', async (context) => {
    await begin(context);
    for (const trick of TRICKS) {
      for (const kind of ['snapshot', 'log']) {
        const body = json({ database: trick, kind, request: 'r' });
        const answer = await served.ask({ path: '/v1/sessions', ...body });
        assertRefused(answer, `${kind} ${JSON.stringify(trick)}`);
      }
    }
    await assertUp(served);
  });

  const patterns: readonly [string, string][] = [
    ['POST', '/v1/databases/{}/metadata'],
    ['POST', '/v1/databases/{}/reports'],
    ['POST', '/v1/sessions/{}/renew'],
    ['POST', '/v1/sessions/{}/tail'],
    ['DELETE', '/v1/sessions/{}'],
    ['POST', '/v1/sessions/{session}/groups/{}/open'],
    ['POST', '/v1/sessions/{session}/groups/{}/close'],
    ['GET', '/v1/sessions/{session}/members/{}'],
    ['GET', '/v1/sessions/{session}/members/{}/frames/0'],
    ['GET', '/v1/sessions/{session}/members/0/frames/{}'],
    ['GET', '/v1/sessions/{session}/members/{}/hash'],
    ['GET', '/v1/configuration/plugins/{}'],
    ['GET', '/v1/{}'],
    ['GET', '/{}'],
  ];
  for (const [method, pattern] of patterns) {
    test(`in ${method} ${pattern}`, async (context) => {
      await begin(context);
      // A group of this number is there, and no member is open.
      const tricks = pattern.includes('groups') ? TRICKS.filter((trick) => trick !== '0') : TRICKS;
      for (const spelling of tricks.flatMap(spellings)) {
        const path = pattern.replace('{session}', session).replace('{}', () => spelling);
        if (/[^\x21-\x7e]/.test(path) || /^\/(v1\/databases)?$/.test(path)) continue;
        const body = method === 'POST' ? json(FITS_ALL) : {};
        const answer = await served.ask({ ...body, method, path });
        assertRefused(answer, `${method} ${path.slice(0, 200)}`);
      }
      await assertUp(served);
    });
  }

  test('a record store is not copied aside, whatever a client asks for: it may be as large as the disk', async (context) => {
    const settings = { 'graphkeep.server.staging_directory': '/nowhere' };
    const there = await Served.start(context, { settings });
    const body = json({ database: 'neo4j', kind: 'snapshot', request: 'staged' });
    const opened = await there.ask({ path: '/v1/sessions', ...body });
    const answer = JSON.parse(opened.text) as { session: string; groups: { rebuildable: boolean }[] };
    const statuses = new Map<boolean, Set<number>>();
    for (const [group, { rebuildable }] of answer.groups.entries()) {
      const path = `/v1/sessions/${answer.session}/groups/${group}/open`;
      const { status } = await there.ask({ path, ...json({ staged: true, step: group + 1 }) });
      statuses.set(rebuildable, (statuses.get(rebuildable) ?? new Set()).add(status));
    }
    // An index would be copied there, so the test sees what it looks for.
    assert.deepEqual(
      statuses,
      new Map([
        [false, new Set([200])],
        [true, new Set([404])],
      ]),
    );
  });

  test('as ranges', async (context) => {
    await begin(context);
    const path = `/v1/sessions/${session}/groups/0/open`;
    const opened = await served.ask({ path, ...json({ staged: false, step: 1 }) });
    const [member] = (JSON.parse(opened.text) as { members: { number: number; bytes: number }[] }).members;
    const ask = (range: string): Promise<Answered> =>
      served.ask({ path: `/v1/sessions/${session}/members/${member!.number}`, headers: { range } });
    const { bytes } = member!;
    assert.equal((await ask(`bytes=0-${bytes - 1}`)).status, 206);
    for (const range of [
      ...[
        'bytes=0-',
        'bytes=-5',
        'bytes=5-1',
        'bytes=',
        'bytes=a-b',
        'bytes=0-0,2-3',
        'lines=0-5',
        '',
        'bytes=0x0-5',
      ],
      ...[
        `bytes=0-${bytes}`,
        `bytes=${bytes}-${bytes}`,
        'bytes=0-999999999999999',
        'bytes=0-99999999999999999999',
      ],
      ...['bytes=-1--1', 'bytes= 0-1'],
      ...['bytes=999999999999999-999999999999999', 'bytes=1e1-2e1'],
    ])
      assertRefused(await ask(range), range);
    await assertUp(served);
  });

  test('as links in a folder of a database: what they lead to is not served', async (context) => {
    await begin(context);
    const store = join(served.root, 'data', 'databases', 'neo4j');
    symlinkSync(join(served.root, 'canary'), join(store, 'neostore.extra.db'));
    symlinkSync(join(served.root, 'data', 'beside'), join(store, 'schema', 'index', 'linked'));
    const run = await backUp(context, { port: served.port });
    assert.equal(run.exitStatus, 0, run.stdout);
    for (const name of namesIn(run.target)) {
      for (const [path, content] of await membersOf(join(run.target, name)))
        assert.ok(!content.includes(CANARY), path);
    }
    await assertUp(served);
  });
});

describe('a thousand connections that do not go on', () => {
  const CONNECTIONS = 1000;
  let made: Certificates;
  const folder = mkdtempSync(join(os.tmpdir(), 'graphkeep-hostile-'));
  before(async () => {
    made = await makeCertificates(folder);
  });
  after(() => rmSync(folder, { recursive: true }));

  async function hold(context: TestContext, port: number, bytes: Buffer): Promise<net.Socket[]> {
    const sockets = Array.from({ length: CONNECTIONS }, () => net.connect(port, '127.0.0.1'));
    context.after(() => {
      for (const socket of sockets) socket.destroy();
    });
    await Promise.all(sockets.map((socket) => once(socket, 'connect')));
    for (const socket of sockets) {
      socket.on('error', () => undefined).resume();
      if (bytes.length > 0) socket.write(bytes);
    }
    return sockets;
  }

  /** Type, version and length of a record with a greeting of TLS, and no more than its beginning. */
  const halfGreeting = Buffer.from('160301020001', 'hex');
  const shapes: readonly [string, boolean, Buffer][] = [
    ['without a byte', false, Buffer.alloc(0)],
    ['in the middle of a header', false, Buffer.from('GET /v1/databases HTTP/1.1\r\nhost: lo')],
    ['in the middle of a TLS handshake', true, halfGreeting],
  ];
  for (const [what, withTls, bytes] of shapes) {
    test(`${what}: a backup beside them is right`, async (context) => {
      const trusted = [made.authority.certificate];
      const served = await Served.start(context, {
        ...(withTls ? { policy: { own: made.server, trusted } } : {}),
        // They are to last as long as the backup does, however slow the machine is; that they end is tested above.
        requestArrivalMs: 300_000,
      });
      const sockets = await hold(context, served.port, bytes);
      const policy = withTls ? { policy: { own: made.client, trusted } } : {};
      const run = await backUp(context, { port: served.port, ...policy });
      assert.equal(run.exitStatus, 0, run.stdout);
      assert.equal((await membersOf(join(run.target, namesIn(run.target)[0]!))).size > 20, true);
      assert.equal(sockets.filter(({ closed }) => !closed).length, CONNECTIONS, 'they were there meanwhile');
      assert.deepEqual(
        served.logLines.filter((line) => line.includes('"level":50')),
        [],
      );
    });
  }
});
