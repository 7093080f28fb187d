/** Who may do what on a whole backup server: every route, every principal, and a line of audit for each access. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import tls from 'node:tls';
import { foldersBelow } from '../../../src/neo4j/folders.ts';
import { restoreDatabase } from '../../../src/operations/restore.ts';
import { layOutPolicy, makeCertificates } from '../../fixtures/certificates.ts';
import { artifactFixture } from '../../fixtures/graphs.ts';
import { type Answered, json, Served, type ServedShape, tokenLine } from '../../fixtures/served.ts';
import { rawClient } from '../../fixtures/tlsservers.ts';
import { temporaryFolder } from '../../fixtures/workspace.ts';

const TOKENS = { alice: 'gk_alice', carol: 'gk_carol', bob: 'gk_bob', meter: 'gk_meter', all: 'gk_all' };
type Name = keyof typeof TOKENS;

const ACCESS = [
  tokenLine('alice', TOKENS.alice, 'neo4j'),
  tokenLine('carol', TOKENS.carol, 'neo4j'),
  tokenLine('bob', TOKENS.bob, 'other', 'none'),
  tokenLine('meter', TOKENS.meter, 'none-of-them', 'metrics'),
  tokenLine('all', TOKENS.all, '*', 'metadata,metrics,configuration'),
];

function serve(context: TestContext, more: ServedShape = {}): Promise<Served> {
  return Served.start(context, { access: ACCESS, databases: ['other'], ...more });
}

let requests = 0;
const sessionFor = (database: string) =>
  json({ database, kind: 'snapshot', request: `request-${requests++}` });
const report = json({ succeeded: true, kind: 'full', durationMs: 5, artifactBytes: 7 });

async function openSession(served: Served, name: Name, database = 'neo4j'): Promise<string> {
  const opened = await served.ask({ path: '/v1/sessions', token: TOKENS[name], ...sessionFor(database) });
  assert.equal(opened.status, 200, opened.text);
  return (JSON.parse(opened.text) as { session: string }).session;
}

/** As the source has them: a route that is added is looked at here without anybody thinking of it. */
function routesOf(session: string): { method: string; path: string }[] {
  const source = ['app', 'configurationroutes']
    .map((name) => readFileSync(new URL(`../../../src/server/${name}.ts`, import.meta.url), 'utf8'))
    .join('\n');
  const base = `/v1/sessions/${session}`;
  const found = [...source.matchAll(/app\.(get|post|delete|put|patch)\(\s*[`'"]?([^`'",]+)/g)];
  return found.map(([, method = '', path = '']) => ({
    method: method.toUpperCase(),
    path: path
      // biome-ignore lint/suspicious/noTemplateCurlyInString: it is source text
      .replace('${prefix}', '/v1')
      .replace(/^\$\{session\}|^session$/, base)
      // biome-ignore lint/suspicious/noTemplateCurlyInString: it is source text
      .replace('${group}', `${base}/groups/0`)
      .replace(/^(\$\{path\}|path$)/, '/v1/configuration')
      .replace(':database', 'neo4j')
      .replace(':file', 'plugin.jar')
      .replace(':offset', '0')
      .replace(':member', '0'),
  }));
}

describe('who is not known', () => {
  test('gets nothing from any route, whatever the address is spelled like', async (context) => {
    const served = await serve(context);
    const session = await openSession(served, 'alice');
    const routes = [...routesOf(session), { method: 'GET', path: '/metrics' }];
    assert.ok(routes.length >= 17, 'the routes were found in the source');
    assert.ok(routes.every(({ path }) => /^\/(v1\/[a-z]|metrics)/.test(path) && !path.includes('$')));
    for (const { method, path } of routes) {
      for (const headers of [{}, { authorization: 'Bearer gk_wrong' }, { authorization: 'Basic YTpi' }]) {
        const { status, code, headers: got } = await served.ask({ method, path, headers });
        assert.deepEqual([path, status, code], [path, 401, 'GK_UNAUTHORIZED']);
        assert.equal(got['www-authenticate'], 'Bearer');
      }
    }
    for (const path of [
      '//v1/databases',
      '/v1//databases',
      '/V1/databases',
      '/%761/databases',
      '/v1/databases/',
    ]) {
      const { status, text } = await served.ask({ path });
      assert.ok(status === 401 || status === 404, `${path}: ${status}`);
      assert.ok(!text.includes('neo4j'), text);
    }
  });

  test('learns from /health and /ready that the server is up, and nothing else', async (context) => {
    const served = await serve(context);
    const health = await served.ask({ path: '/health' });
    assert.deepEqual(Object.keys(JSON.parse(health.text) as object), ['status', 'version']);
    assert.equal((await served.ask({ path: '/ready' })).text, '{"status":"ready"}');
  });
});

describe('databases', () => {
  const listed = async (served: Served, name: Name): Promise<string[]> => {
    const { text } = await served.ask({ path: '/v1/databases', token: TOKENS[name] });
    return (JSON.parse(text) as { databases: { name: string }[] }).databases.map((one) => one.name);
  };

  test('each principal sees its own', async (context) => {
    const served = await serve(context);
    assert.deepEqual(await listed(served, 'alice'), ['neo4j']);
    assert.deepEqual(await listed(served, 'bob'), ['other']);
    assert.deepEqual(await listed(served, 'meter'), []);
    assert.deepEqual(await listed(served, 'all'), ['neo4j', 'other']);
  });

  const asked: readonly [Name, string, number][] = [
    ['alice', 'neo4j', 200],
    ['alice', 'NEO4J', 200],
    ['alice', 'other', 403],
    // Not 404: who may not read it does not learn whether it is there.
    ['alice', 'missing', 403],
    ['bob', 'neo4j', 403],
    ['meter', 'neo4j', 403],
    ['all', 'other', 200],
    ['all', 'missing', 404],
  ];
  test('a session is opened for those that the principal may read', async (context) => {
    const served = await serve(context);
    for (const [name, database, expected] of asked) {
      for (const kind of ['snapshot', 'log']) {
        const body = json({ database, kind, request: `${name} ${database}` });
        const { status } = await served.ask({ path: '/v1/sessions', token: TOKENS[name], ...body });
        assert.equal(status, expected, `${name} ${database} ${kind}`);
      }
    }
  });

  test('a report is taken for those that the principal may read and that are there', async (context) => {
    const served = await serve(context);
    for (const [name, database, expected] of asked) {
      const path = `/v1/databases/${database}/reports`;
      const { status } = await served.ask({ path, token: TOKENS[name], ...report });
      assert.equal(status, expected === 200 ? 204 : expected, `${name} ${database}`);
    }
  });

  test('figures are for who has the permission', async (context) => {
    const served = await serve(context);
    const statuses: Record<string, number> = {};
    for (const name of Object.keys(TOKENS) as Name[])
      statuses[name] = (await served.ask({ path: '/metrics', token: TOKENS[name] })).status;
    assert.deepEqual(statuses, { alice: 403, carol: 403, bob: 403, meter: 200, all: 200 });
  });

  test('the configuration is for who has the permission', async (context) => {
    const served = await serve(context);
    for (const name of Object.keys(TOKENS) as Name[]) {
      const token = TOKENS[name];
      const asked = { path: '/v1/configuration', token, ...json({ includePlugins: true }) };
      const plugin = { path: '/v1/configuration/plugins/apoc.jar', token, headers: { range: 'bytes=0-9' } };
      for (const ask of [asked, plugin]) {
        const { status } = await served.ask(ask);
        // Allowed, and not there: this server was given folders and no home of a Neo4j.
        if (name === 'all') assert.ok(status !== 403 && status !== 401, String(status));
        else assert.equal(status, 403, `${name} ${ask.path}`);
      }
    }
  });

  test('users and passwords are for who has the permission', async (context) => {
    const served = await serve(context);
    const target = foldersBelow(join(served.root, 'data'), 'system');
    mkdirSync(join(target.storeDirectory, '..'), { recursive: true });
    const artifactPath = artifactFixture('5.26', 'users');
    await restoreDatabase({ artifactPath, target, overwriteDestination: false });
    const ask = (name: Name, database: string): Promise<Answered> =>
      served.ask({
        path: `/v1/databases/${database}/metadata`,
        token: TOKENS[name],
        ...json({ kind: 'all' }),
      });
    const allowed = await ask('alice', 'neo4j');
    assert.match(allowed.text, /CREATE USER `anna`/, 'the test would see them');
    for (const [name, database] of [
      ['bob', 'other'],
      ['alice', 'other'],
      ['alice', 'system'],
      ['meter', 'neo4j'],
    ] as const) {
      const { status, text } = await ask(name, database);
      assert.equal(status, 403, `${name} ${database}`);
      assert.doesNotMatch(text, /anna|PASSWORD/);
    }
  });
});

describe('sessions', () => {
  test('of somebody else are not there, even for who may read the database', async (context) => {
    const served = await serve(context);
    const session = await openSession(served, 'alice');
    const routes = routesOf(session).filter(({ path }) => path.includes(session));
    assert.ok(routes.length >= 8);
    const step = { ...json({ step: 1, staged: false }), headers: { 'content-type': 'application/json' } };
    for (const { method, path } of routes) {
      for (const name of ['carol', 'bob', 'all'] as const) {
        const withBody =
          method === 'POST' ? { ...step, method } : { method, headers: { range: 'bytes=0-1' } };
        const { status, code } = await served.ask({ path, token: TOKENS[name], ...withBody });
        assert.deepEqual([path, status, code], [path, 410, 'GK_SESSION_LOST']);
      }
    }
    const renewed = await served.ask({
      ...{ method: 'POST', path: `/v1/sessions/${session}/renew`, token: TOKENS.alice },
    });
    assert.equal(renewed.status, 204, 'it is still there for its owner');
  });

  test('a request of the same name by somebody else is another session', async (context) => {
    const served = await serve(context);
    const body = json({ database: 'neo4j', kind: 'snapshot', request: 'the same' });
    const ids = [];
    for (const token of [TOKENS.alice, TOKENS.carol, TOKENS.alice]) {
      const { text } = await served.ask({ path: '/v1/sessions', token, ...body });
      ids.push((JSON.parse(text) as { session: string }).session);
    }
    assert.equal(ids[0], ids[2]);
    assert.notEqual(ids[0], ids[1]);
  });

  test('end to be of use when the access file takes the database or the token away', async (context) => {
    const served = await serve(context);
    const session = await openSession(served, 'alice');
    const renew = { method: 'POST', path: `/v1/sessions/${session}/renew`, token: TOKENS.alice };
    const file = join(served.root, 'server', 'access');
    for (const [line, expected] of [
      [tokenLine('alice', TOKENS.alice, 'other'), 403],
      [tokenLine('alice', 'gk_renewed', 'neo4j'), 401],
    ] as const) {
      writeFileSync(file, `${line}\n`);
      await served.server.reload();
      assert.equal((await served.ask(renew)).status, expected);
    }
  });
});

describe('certificates that are exchanged while the server runs', () => {
  test('end a connection that was busy meanwhile behind its answer', async (context) => {
    const folder = temporaryFolder(context);
    const made = await makeCertificates(folder);
    const policy = { own: made.server, trusted: [made.authority.certificate] };
    const served = await Served.start(context, { policy });
    const socket = tls.connect({
      ...rawClient(made.authority.certificate, made.client),
      ...{ port: served.port, host: 'localhost' },
    });
    let text = '';
    socket.on('data', (piece: Buffer) => {
      text += piece.toString('latin1');
    });
    const body = JSON.stringify({ database: 'neo4j', kind: 'log', request: 'busy' });
    const head = ['POST /v1/sessions HTTP/1.1', 'host: localhost', 'expect: 100-continue'];
    const rest = ['content-type: application/json', `content-length: ${body.length}`, '', ''];
    socket.write([...head, ...rest].join('\r\n'));
    // Now the server waits for the body.
    await once(socket, 'data');
    await layOutPolicy(join(served.root, 'server'), { ...policy, own: made.renewedServer });
    await served.server.reload();
    socket.write(body);
    while (!text.includes('"session":')) await once(socket, 'data');
    socket.destroy();
    assert.match(text, /^HTTP\/1\.1 100 .*HTTP\/1\.1 200 .*connection: close.*"session":/is);
  });
});

describe('a page in a browser of this machine', () => {
  const statusFor = async (served: Served, host: string): Promise<number> =>
    (await served.ask({ path: '/v1/databases', headers: { host } })).status;

  test('cannot ask under the name of another host, where nobody has to prove who he is', async (context) => {
    const served = await Served.start(context);
    const own = `:${served.port}`;
    for (const host of [
      `evil.example${own}`,
      'evil.example',
      `127.0.0.1.evil.example${own}`,
      `localhost.evil${own}`,
    ])
      assert.equal(await statusFor(served, host), 403, host);
    for (const host of [`x@127.0.0.1${own}`, '127.0.0.1:99999', '[::1', `evil.example, localhost${own}`])
      assert.equal(await statusFor(served, host), 403, host);
    for (const host of [`localhost${own}`, `LOCALHOST${own}`, '127.0.0.1', `[::1]${own}`])
      assert.equal(await statusFor(served, host), 200, host);
  });

  test('nor without any name', async (context) => {
    const served = await Served.start(context);
    const socket = net.connect(served.port, '127.0.0.1');
    socket.end('GET /v1/databases HTTP/1.0\r\n\r\n');
    let text = '';
    for await (const piece of socket) text += String(piece);
    assert.match(text, /^HTTP\/1\.1 403 /);
  });

  test('nor with a token that it got hold of', async (context) => {
    const served = await serve(context);
    const asked = { path: '/v1/databases', token: TOKENS.all };
    assert.equal((await served.ask({ ...asked, headers: { host: 'evil.example' } })).status, 403);
    assert.equal((await served.ask(asked)).status, 200);
  });

  test('the name that clients are told is one of its own', async (context) => {
    const settings = { 'server.backup.advertised_address': 'backup.example:6362' };
    const served = await Served.start(context, { settings });
    assert.equal(await statusFor(served, 'backup.example:6362'), 200);
    assert.equal(await statusFor(served, 'backup.example.evil'), 403);
  });

  test('no answer allows another site to read it', async (context) => {
    const served = await Served.start(context);
    const headers = { origin: 'http://evil.example', 'access-control-request-method': 'POST' };
    for (const method of ['GET', 'OPTIONS']) {
      const answer = await served.ask({ method, path: '/v1/databases', headers });
      assert.deepEqual(
        Object.keys(answer.headers).filter((name) => name.startsWith('access-control')),
        [],
      );
    }
  });
});

describe('the audit', () => {
  test('has a line for each access, with who, what and how it went', async (context) => {
    const served = await serve(context);
    const session = await openSession(served, 'alice');
    const asks = [
      { path: '/v1/databases', token: TOKENS.bob },
      { path: '/v1/databases', token: 'gk_wrong' },
      { path: '/v1/sessions', token: TOKENS.alice, ...sessionFor('other') },
      { path: '/v1/sessions', token: TOKENS.all, ...sessionFor('missing') },
      { path: `/v1/databases/neo4j/metadata`, token: TOKENS.alice, ...json({ kind: 'all' }) },
      { path: `/v1/databases/other/reports`, token: TOKENS.alice, ...report },
      { path: `/v1/databases/${'x'.repeat(9000)}/metadata`, token: TOKENS.all },
      { path: `/v1/sessions/${session}`, token: TOKENS.carol, method: 'DELETE' },
      { path: `/v1/sessions/${session}`, token: TOKENS.alice, method: 'DELETE' },
    ];
    for (const ask of asks) await served.ask(ask);
    const lines = await served.stop();
    const told = lines.map(({ event, principal, database, method, status }) =>
      [event, principal, database, method, status].filter((word) => word !== undefined).join(' '),
    );
    assert.deepEqual(told, [
      'start',
      'request alice neo4j POST 200',
      'request bob GET 200',
      'refused GET 401',
      'refused alice other POST 403',
      'request all missing POST 404',
      'request alice neo4j POST 404',
      'refused alice other POST 403',
      // No route: nobody is asked who he is.
      'request GET 404',
      'request carol DELETE 410',
      ...['sessionEnd alice neo4j', 'request alice neo4j DELETE 204'],
      'stop',
    ]);
    const requests = lines.filter(({ event }) => event === 'request' || event === 'refused');
    assert.ok(requests.every(({ remoteAddress }) => remoteAddress === '127.0.0.1'));
    assert.ok(lines.every(({ path = '' }) => path.length <= 256));
    for (const token of Object.values(TOKENS)) {
      assert.ok(!served.auditText().includes(token));
      assert.ok(!served.logLines.join('').includes(token));
    }
  });

  test('has a line for who hangs up before the answer', async (context) => {
    const served = await serve(context);
    const body = JSON.stringify({ database: 'neo4j', kind: 'snapshot', request: 'hang up' });
    const socket = net.connect(served.port, '127.0.0.1');
    const head = ['POST /v1/sessions HTTP/1.1', 'host: localhost', `authorization: Bearer ${TOKENS.alice}`];
    const rest = ['content-type: application/json', `content-length: ${body.length}`, '', body];
    socket.write([...head, ...rest].join('\r\n'), () => socket.destroy());
    await once(socket, 'close');
    // On a connection of its own, and answered after the server has seen the other one.
    await served.ask({ path: '/v1/databases', token: TOKENS.alice });
    const lines = await served.stop();
    const cut = lines.filter(({ path }) => path === '/v1/sessions');
    assert.deepEqual(
      cut.map(({ event, principal, database }) => [event, principal, database]),
      [['request', 'alice', 'neo4j']],
    );
  });

  test('cannot be opened: the server does not start', async (context) => {
    const settings = { 'graphkeep.server.audit_log': '/dev/null/audit' };
    await assert.rejects(serve(context, { settings }), /could not open the audit log/);
  });

  test('is readable by its owner only', async (context) => {
    const served = await serve(context);
    await served.stop();
    assert.equal(statSync(join(served.root, 'server', 'audit.log')).mode & 0o777, 0o600);
  });
});
