/**
 * A backup that does not get through says which of name, port, TLS, certificate, token or Neo4j is at fault: the whole
 * server with real TLS, and the command line as its client, for every way in which the two do not fit.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import os from 'node:os';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import tls from 'node:tls';
import { ERROR_TABLE, type ErrorCode } from '../../../src/errors.ts';
import {
  type Certificates,
  makeCertificates,
  type Pair,
  type PolicyFiles,
} from '../../fixtures/certificates.ts';
import { membersOf } from '../../fixtures/chains.ts';
import { type BackupRun, backUp, Served, tokenLine } from '../../fixtures/served.ts';
import { rawClient } from '../../fixtures/tlsservers.ts';
import { filesBelow, namesIn } from '../../fixtures/workspace.ts';

let made: Certificates;
const folder = mkdtempSync(join(os.tmpdir(), 'graphkeep-connections-'));
before(async () => {
  made = await makeCertificates(folder);
});
after(() => rmSync(folder, { recursive: true }));

const TOKEN = 'gk_a-token-of-a-test';

/** What a script sees (status, code), and what a person reads. Nothing was published, and nobody is told the token. */
function assertFails(run: BackupRun, code: ErrorCode, message: RegExp, hint: RegExp = /./): void {
  assert.equal(run.error.code, code, run.stdout + run.stderr);
  assert.equal(run.exitStatus, ERROR_TABLE[code].exitStatus);
  assert.match(run.error.message, message);
  assert.match(run.error.hint, hint);
  assert.doesNotMatch(run.stdout + run.stderr, new RegExp(TOKEN));
  assert.deepEqual(namesIn(run.target), []);
}

async function assertBackedUp(run: BackupRun): Promise<void> {
  assert.equal(run.exitStatus, 0, run.stdout + run.stderr);
  assert.equal(namesIn(run.target).length, 1);
}

const serverPolicy = (more: Partial<PolicyFiles> = {}): PolicyFiles => ({
  own: made.server,
  trusted: [made.authority.certificate],
  ...more,
});
const clientPolicy = (own?: Pair, more: Partial<PolicyFiles> = {}): PolicyFiles => ({
  trusted: [made.authority.certificate],
  ...(own === undefined ? {} : { own }),
  ...more,
});

describe('certificates of clients', () => {
  test('one of the trusted authority: the backup is the database, byte for byte', async (context) => {
    const served = await Served.start(context, { policy: serverPolicy() });
    const run = await backUp(context, { port: served.port, policy: clientPolicy(made.client) });
    await assertBackedUp(run);
    const members = await membersOf(join(run.target, namesIn(run.target)[0]!));
    const store = filesBelow(join(served.root, 'data', 'databases', 'neo4j'));
    assert.ok(members.size > 20);
    for (const [path, content] of members) {
      const inStore = store.get(path);
      if (inStore !== undefined) assert.ok(inStore.equals(content), path);
    }
    assert.ok([...members.keys()].filter((path) => store.has(path)).length > 20);
  });

  const refused: readonly [string, () => Pair | undefined][] = [
    ['none', () => undefined],
    ['one of another authority', () => made.otherClient],
    ['one that was revoked', () => made.revokedClient],
  ];
  for (const version of ['TLSv1.2', 'TLSv1.3']) {
    for (const [what, pair] of refused) {
      test(`${what}, with ${version}: the certificate of this side is named`, async (context) => {
        const policy = serverPolicy({ revoked: [made.revocationList] });
        const served = await Served.start(context, { policy, settings: { 'tls.tls_versions': version } });
        const run = await backUp(context, { port: served.port, policy: clientPolicy(pair()) });
        assertFails(run, 'GK_CERTIFICATE', /certificate of this side/, /certificate/);
        const refusals = (await served.stop()).filter(({ event }) => event === 'refused');
        assert.equal(refusals.length, 1, 'the audit has a line for it');
        assert.match(refusals[0]!.reason!, /CERT|CRL/);
      });
    }
  }

  test('one that has expired is not even sent: the file is named', async (context) => {
    const served = await Served.start(context, { policy: serverPolicy() });
    const run = await backUp(context, { port: served.port, policy: clientPolicy(made.expiredClient) });
    assertFails(run, 'GK_CONFIG', /public\.crt has expired/, /replace it/);
  });

  test('a revoked one where certificates are optional: the same', async (context) => {
    const served = await Served.start(context, {
      policy: serverPolicy({ revoked: [made.revocationList] }),
      settings: { 'tls.client_auth': 'OPTIONAL' },
    });
    const run = await backUp(context, { port: served.port, policy: clientPolicy(made.revokedClient) });
    assertFails(run, 'GK_CERTIFICATE', /certificate of this side/);
  });

  test('one that the access file does not name: the token or certificate is named', async (context) => {
    const access = ['other certificate:elsewhere.example *'];
    const served = await Served.start(context, { policy: serverPolicy(), access });
    const run = await backUp(context, { port: served.port, policy: clientPolicy(made.client) });
    assertFails(run, 'GK_UNAUTHORIZED', /token or certificate/, /access file/);
  });

  test('one that the access file names, by common name or DNS name', async (context) => {
    for (const name of ['client', 'CLIENT.example']) {
      const served = await Served.start(context, {
        policy: serverPolicy(),
        access: [`it certificate:${name} neo4j`],
      });
      await assertBackedUp(await backUp(context, { port: served.port, policy: clientPolicy(made.client) }));
    }
  });
});

describe('certificates of servers', () => {
  const refused: readonly [string, () => Pair, RegExp][] = [
    ['of another host', () => made.wrongHostServer, /is for another host name/],
    ['that has expired', () => made.expiredServer, /has expired/],
    ['that was revoked', () => made.revokedServer, /was revoked/],
  ];
  for (const [what, own, message] of refused) {
    test(`one ${what}: that is what the client says`, async (context) => {
      const served = await startUnchecked(context, own());
      const policy = clientPolicy(made.client, { revoked: [made.revocationList] });
      const run = await backUp(context, { port: served, policy });
      assertFails(run, 'GK_CERTIFICATE', message, /certificate/);
    });
  }

  test('one of another host, with verify_hostname=false: taken', async (context) => {
    const served = await Served.start(context, { policy: serverPolicy({ own: made.wrongHostServer }) });
    const shape = { port: served.port, policy: clientPolicy(made.client) };
    assertFails(await backUp(context, shape), 'GK_CERTIFICATE', /another host name/);
    await assertBackedUp(await backUp(context, { ...shape, settings: { 'tls.verify_hostname': 'false' } }));
  });

  test('one of an authority that the client does not trust', async (context) => {
    const served = await Served.start(context, { policy: serverPolicy() });
    const policy = clientPolicy(made.client, { trusted: [made.otherAuthority.certificate] });
    const run = await backUp(context, { port: served.port, policy });
    assertFails(run, 'GK_CERTIFICATE', /is not trusted here/, /trusted_dir/);
  });
});

/** A server with a certificate that ours would not start with. It never gets as far as an answer. */
async function startUnchecked(context: TestContext, own: Pair): Promise<number> {
  const { key, cert } = rawClient(made.authority.certificate, own);
  const server = tls.createServer({ key, cert } as tls.TlsOptions, (socket) => socket.destroy());
  return listen(context, server);
}

async function listen(context: TestContext, server: net.Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

describe('tokens', () => {
  const open = { settings: { 'tls.client_auth': 'NONE' } };
  const access = [tokenLine('nightly', TOKEN, 'neo4j'), tokenLine('reader', `${TOKEN}2`, 'other')];
  const serve = (context: TestContext): Promise<Served> =>
    Served.start(context, { ...open, policy: serverPolicy(), access, databases: ['other'] });

  test('the right one', async (context) => {
    const { port } = await serve(context);
    await assertBackedUp(await backUp(context, { port, policy: clientPolicy(), token: TOKEN }));
  });

  for (const [what, token] of [
    ['none', undefined],
    ['a wrong one', `${TOKEN}3`],
  ] as const) {
    test(`${what}: the token is named`, async (context) => {
      const served = await serve(context);
      const more = token === undefined ? {} : { token };
      const run = await backUp(context, { port: served.port, policy: clientPolicy(), ...more });
      assertFails(run, 'GK_UNAUTHORIZED', /no known token or certificate/, /token/);
    });
  }

  test('one of another database: its name and the database are named', async (context) => {
    const { port } = await serve(context);
    const policy = clientPolicy();
    const run = await backUp(context, { port, policy, token: TOKEN, databases: ['other'] });
    assertFails(run, 'GK_UNAUTHORIZED', /nightly may not back up database 'other'/, /access file/);
  });

  test('a pattern takes what the token may read and nothing else', async (context) => {
    const { port } = await serve(context);
    const run = await backUp(context, { port, policy: clientPolicy(), token: TOKEN, databases: ['*'] });
    assert.equal(run.exitStatus, 0, run.stderr);
    assert.match(namesIn(run.target).join(), /^neo4j-[^,]*$/);
  });

  test('a token is not sent in the clear beyond this machine unless one insists', async (context) => {
    const run = await backUp(context, { host: '192.0.2.1', port: 6362, token: TOKEN });
    assertFails(run, 'GK_CONFIG', /unencrypted/, /--insecure/);
  });
});

describe('TLS', () => {
  test('a client without it at a server with it', async (context) => {
    const { port } = await Served.start(context, { policy: serverPolicy() });
    const run = await backUp(context, { port });
    assertFails(run, 'GK_TLS', /TLS/, /dbms\.ssl\.policy\.backup/);
  });

  test('a client with it at a server without it', async (context) => {
    const { port } = await Served.start(context);
    const run = await backUp(context, { port, policy: clientPolicy(made.client) });
    assertFails(run, 'GK_TLS', /TLS/, /dbms\.ssl\.policy\.backup/);
  });

  test('versions that do not meet', async (context) => {
    const settings = { 'tls.tls_versions': 'TLSv1.3' };
    const { port } = await Served.start(context, { policy: serverPolicy(), settings });
    const policy = clientPolicy(made.client);
    const run = await backUp(context, { port, policy, settings: { 'tls.tls_versions': 'TLSv1.2' } });
    assertFails(run, 'GK_TLS', /TLS/, /versions/);
  });

  /** With OpenSSL's own bar lowered, as an old machine has it. */
  const old = { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' } as const;

  test('a client of TLS 1.1 is turned away in the handshake', async (context) => {
    const { port } = await Served.start(context, { policy: serverPolicy() });
    const options = {
      ...rawClient(made.authority.certificate, made.client),
      ...old,
      port,
      host: 'localhost',
    };
    const socket = tls.connect(options);
    const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
    assert.equal(error.code, 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION');
  });

  test('a server of TLS 1.1 is refused', async (context) => {
    const { key, cert } = rawClient(made.authority.certificate, made.server);
    const port = await listen(context, tls.createServer({ key, cert, ...old } as tls.TlsOptions));
    const run = await backUp(context, { port, policy: clientPolicy(made.client) });
    assertFails(run, 'GK_TLS', /TLS/, /versions/);
  });
});

describe('name and port', () => {
  test('a name that leads nowhere', async (context) => {
    // RFC 6761 keeps the name from ever being somebody's.
    const run = await backUp(context, { host: 'nobody.invalid', port: 6362 });
    assertFails(run, 'GK_HOST_UNKNOWN', /nobody\.invalid:6362.*cannot be resolved/, /host name/);
  });

  test('a port where nothing listens', async (context) => {
    const served = await Served.start(context);
    const { port } = served;
    await served.server.close();
    assertFails(
      await backUp(context, { port }),
      'GK_UNREACHABLE',
      /nothing listens/,
      /graphkeep server runs/,
    );
  });

  test('a port where something else listens', async (context) => {
    const server = net.createServer((socket) => {
      socket.on('error', () => undefined);
      socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi'));
    });
    const run = await backUp(context, { port: await listen(context, server) });
    assertFails(run, 'GK_PROTOCOL', /no graphkeep server/, /host and port/);
  });

  test('a port whose owner hangs up: that TLS may be missing is said', async (context) => {
    const server = net.createServer((socket) => {
      socket.on('error', () => undefined);
      socket.once('data', () => socket.destroy());
    });
    const run = await backUp(context, { port: await listen(context, server) });
    assertFails(run, 'GK_TLS', /closed the connection without an answer: it may speak TLS/);
  });
});

describe('Neo4j', () => {
  test('a database that is not there', async (context) => {
    const { port } = await Served.start(context);
    const run = await backUp(context, { port, databases: ['missing'] });
    assertFails(run, 'GK_NOT_FOUND', /missing/);
  });

  test('folders that went away', async (context) => {
    const served = await Served.start(context);
    rmSync(join(served.root, 'data'), { recursive: true });
    const run = await backUp(context, { port: served.port });
    assertFails(run, 'GK_NOT_FOUND', /folder of the databases does not exist/);
  });
});
