/** `graphkeep server` as a process: how it starts, what signals do to it, and how it ends. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import https from 'node:https';
import os from 'node:os';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import type tls from 'node:tls';
import { ERROR_TABLE } from '../../../src/errors.ts';
import { type Certificates, layOutPolicy, makeCertificates } from '../../fixtures/certificates.ts';
import {
  type AuditLine,
  askServer,
  backUp,
  digestOf,
  json,
  layOutServer,
  type ServedShape,
  tokenLine,
} from '../../fixtures/served.ts';
import { portOf, type ServerProcess, startProgram } from '../../fixtures/serverprocess.ts';
import { rawClient } from '../../fixtures/tlsservers.ts';
import { namesIn, temporaryFolder } from '../../fixtures/workspace.ts';
import { cli } from '../cli/harness.ts';

let made: Certificates;
const folder = mkdtempSync(join(os.tmpdir(), 'graphkeep-process-'));
before(async () => {
  made = await makeCertificates(folder);
});
after(() => rmSync(folder, { recursive: true }));

interface Started extends ServerProcess {
  readonly root: string;
  readonly audit: () => AuditLine[];
}

async function start(
  context: TestContext,
  shape: ServedShape = {},
  more: readonly string[] = [],
  environment: Readonly<Record<string, string>> = {},
): Promise<Started> {
  const root = temporaryFolder(context);
  const file = await layOutServer(root, shape);
  const server = startProgram(context, [...wordsFor(root, file), ...more], environment);
  const audit = (): AuditLine[] =>
    readFileSync(join(root, 'server', 'audit.log'), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as AuditLine);
  return { ...server, root, audit };
}

function wordsFor(root: string, file: string): string[] {
  const data = join(root, 'data');
  return [
    ...['server', `--config=${file}`],
    ...[`--from-path-data=${join(data, 'databases')}`, `--from-path-txn=${join(data, 'transactions')}`],
  ];
}

describe('start and stop', () => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    test(`says where it listens; ${signal} closes sessions, and it ends with 0`, async (context) => {
      const server = await start(context);
      const port = await portOf(server);
      const body = { database: 'neo4j', kind: 'snapshot', request: 'test' };
      const opened = await askServer({ port, path: '/v1/sessions', ...json(body) });
      assert.equal(opened.status, 200, opened.text);
      server.kill(signal);
      assert.equal(await server.ended, 0, server.output());
      const events = server.audit().map(({ event, database }) => [event, database].join(' ').trim());
      assert.deepEqual(events, ['start', 'request neo4j', 'sessionEnd neo4j', 'stop']);
    });
  }

  test('a backup from it, as a user makes one', async (context) => {
    const server = await start(context);
    const run = await backUp(context, { port: await portOf(server), host: '127.0.0.1' });
    assert.equal(run.exitStatus, 0, run.stdout);
    assert.equal(namesIn(run.target).length, 1);
  });

  test('a second one on the same port: says so, with the status for it', async (context) => {
    const port = await portOf(await start(context));
    const second = await start(context, {}, [`--listen-address=127.0.0.1:${port}`]);
    assert.equal(await second.ended, ERROR_TABLE.GK_UNREACHABLE.exitStatus);
    assert.match(second.output(), new RegExp(`something listens on 127\\.0\\.0\\.1:${port} already`));
    assert.match(second.output(), /hint: .*server\.backup\.listen_address/);
  });

  test('server.backup.enabled=false: says so and ends with 0', async (context) => {
    const server = await start(context, { settings: { 'server.backup.enabled': 'false' } });
    assert.equal(await server.ended, 0);
    assert.match(server.output(), /server\.backup\.enabled is false: nothing is served/);
  });
});

describe('beyond loopback', () => {
  const everywhere = '--listen-address=0.0.0.0:0';

  test('without protection: refused', async (context) => {
    const server = await start(context, {}, [everywhere]);
    const came = await Promise.race([server.ended, server.line('"msg":"listening"')]);
    assert.equal(came, ERROR_TABLE.GK_CONFIG.exitStatus);
    assert.match(server.output(), /refusing to listen on 0\.0\.0\.0:0/);
  });

  test('--insecure insists, and warns at each start', async (context) => {
    const first = await start(context, {}, [everywhere, '--insecure']);
    await portOf(first);
    first.kill('SIGTERM');
    assert.equal(await first.ended, 0);
    const words = [...wordsFor(first.root, join(first.root, 'server', 'graphkeep.conf')), everywhere];
    const second = startProgram(context, [...words, '--insecure']);
    await portOf(second);
    for (const { output } of [first, second]) {
      assert.match(output(), /"level":40.*although without TLS .* anybody .* could copy every database/);
    }
  });
});

describe('SIGHUP', () => {
  const policy = () => ({ own: made.server, trusted: [made.authority.certificate] });

  /** What a server shows: the serial number of its certificate. */
  async function serialOf(port: number, agent: https.Agent | false, options: tls.ConnectionOptions) {
    const request = https.get({ ...options, host: 'localhost', family: 4, port, path: '/health', agent });
    const [response] = (await once(request, 'response')) as [import('node:http').IncomingMessage];
    // Afterwards the socket belongs to the agent.
    const socket = response.socket as tls.TLSSocket;
    const serial = socket.getPeerX509Certificate()?.serialNumber;
    response.resume();
    await once(response, 'end');
    return { socket, serial };
  }

  test('reads certificates anew: idle connections end, new ones see the new certificate', async (context) => {
    const server = await start(context, { policy: policy() });
    const port = await portOf(server);
    const options = rawClient(made.authority.certificate, made.client);
    const agent = new https.Agent({ keepAlive: true });
    context.after(() => agent.destroy());
    const first = await serialOf(port, agent, options);
    const closed = once(first.socket, 'close');
    await layOutPolicy(join(server.root, 'server'), { ...policy(), own: made.renewedServer });
    server.kill('SIGHUP');
    await closed;
    await server.line('certificates were read anew');
    const second = await serialOf(port, false, options);
    assert.notEqual(second.serial, first.serial);
  });

  test('reads revocation lists anew', async (context) => {
    const server = await start(context, { policy: policy() });
    const port = await portOf(server);
    const options = rawClient(made.authority.certificate, made.revokedClient);
    await serialOf(port, false, options);
    await layOutPolicy(join(server.root, 'server'), { ...policy(), revoked: [made.revocationList] });
    server.kill('SIGHUP');
    await server.line('certificates were read anew');
    await assert.rejects(serialOf(port, false, options));
  });

  test('files that cannot be used change nothing, and the log says so', async (context) => {
    const server = await start(context, { policy: policy() });
    const port = await portOf(server);
    const options = rawClient(made.authority.certificate, made.client);
    const { serial } = await serialOf(port, false, options);
    await layOutPolicy(join(server.root, 'server'), { own: made.expiredServer });
    server.kill('SIGHUP');
    assert.match(await server.line('"level":50'), /has expired/);
    assert.equal((await serialOf(port, false, options)).serial, serial);
  });
});

describe('secrets', () => {
  test('stand neither in the command line, nor in a log, nor in the audit', async (context) => {
    const token = 'gk_planted-token-1234567890';
    const wrong = 'gk_planted-wrong-1234567890';
    const server = await start(
      context,
      {
        policy: { own: made.server, key: made.encryptedKey, trusted: [made.authority.certificate] },
        settings: { 'tls.client_auth': 'NONE' },
        access: [tokenLine('nightly', token, 'neo4j')],
      },
      [],
      { GRAPHKEEP_dbms_ssl_policy_backup_private__key__password: made.password },
    );
    const port = await portOf(server);
    const tlsOptions = rawClient(made.authority.certificate);
    for (const bearer of [token, wrong]) {
      const asked = { port, tls: tlsOptions, token: bearer };
      const answers = [
        await askServer({ ...asked, path: '/v1/databases' }),
        await askServer({ ...asked, path: '/v1/sessions', ...withToken(bearer, { database: 'other' }) }),
        await askServer({ ...asked, path: '/v1/none' }),
      ];
      for (const { text } of answers) assert.ok(!text.includes(bearer), text);
    }
    const commandLine = server.commandLine();
    server.kill('SIGTERM');
    assert.equal(await server.ended, 0);
    const audit = readFileSync(join(server.root, 'server', 'audit.log'), 'utf8');
    assert.ok(audit.split('\n').length > 6);
    for (const secret of [token, wrong, made.password, digestOf(token), 'PRIVATE KEY']) {
      for (const text of [commandLine, server.output(), audit]) assert.ok(!text.includes(secret), text);
    }
  });

  const withToken = (token: string, body: object) => {
    const { headers, ...rest } = json(body);
    return { ...rest, headers: { ...headers, authorization: `Bearer ${token}` } };
  };

  test('a password on the command line is no option at all', async () => {
    const run = await cli(['server', '--private-key-password=secret-in-words']);
    assert.equal(run.exitStatus, ERROR_TABLE.GK_USAGE.exitStatus);
    assert.ok(!run.stderr.includes('secret-in-words'));
  });
});

describe('graphkeep server token', () => {
  test('prints a token once, and its line lets the token in', async (context) => {
    const run = await cli(['server', 'token', 'nightly', '--databases=neo4j']);
    assert.equal(run.exitStatus, 0);
    const [, token = ''] = /^token +(\S+)$/m.exec(run.stdout) ?? [];
    const [, line = ''] = /^line of access file +(.+)$/m.exec(run.stdout) ?? [];
    assert.match(token, /^gk_[A-Za-z0-9_-]{43}$/);
    assert.ok(!line.includes(token) && !run.stderr.includes(token));
    const server = await start(context, { access: [line] });
    const port = await portOf(server);
    const statuses: number[] = [];
    for (const bearer of [token, `${token}x`])
      statuses.push((await askServer({ port, path: '/v1/databases', token: bearer })).status);
    assert.deepEqual(statuses, [200, 401]);
  });

  test('a name that cannot be one is refused', async () => {
    const run = await cli(['server', 'token', 'two words']);
    assert.equal(run.exitStatus, ERROR_TABLE.GK_CONFIG.exitStatus);
    assert.equal(run.stdout, '');
  });
});
