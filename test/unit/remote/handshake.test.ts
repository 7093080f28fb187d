/** Who gets in and who does not, with real TLS on loopback: every case of the issue, seen from both sides. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import https from 'node:https';
import os from 'node:os';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import type { ConnectionOptions } from 'node:tls';
import { setServerMaterial } from '../../../src/remote/peer.ts';
import { TlsWatch } from '../../../src/remote/reload.ts';
import { loadTlsPolicy } from '../../../src/remote/tlsmaterial.ts';
import { type Certificates, layOutPolicy, makeCertificates, type Pair } from '../../fixtures/certificates.ts';
import {
  ask,
  clientOptions,
  policy,
  type RunningServer,
  rawClient,
  startServer,
} from '../../fixtures/tlsservers.ts';
import { failure, makeFolder, temporaryFolder } from '../../fixtures/workspace.ts';

let made: Certificates;
const folder = mkdtempSync(join(os.tmpdir(), 'graphkeep-tls-'));
before(async () => {
  made = await makeCertificates(folder);
});
after(() => rmSync(folder, { recursive: true }));

interface Layout {
  readonly own?: Pair;
  readonly trusted?: readonly string[];
  readonly revoked?: readonly string[];
  readonly values?: Readonly<Record<string, string>>;
}

async function serverOf(context: TestContext, layout: Layout = {}): Promise<RunningServer> {
  const home = makeFolder(temporaryFolder(context), 'server');
  await layOutPolicy(home, { own: made.server, trusted: [made.authority.certificate], ...layout });
  return startServer(context, policy(home, layout.values));
}

async function clientOf(context: TestContext, layout: Layout = {}): Promise<ConnectionOptions> {
  const home = makeFolder(temporaryFolder(context), 'client');
  await layOutPolicy(home, { own: made.client, trusted: [made.authority.certificate], ...layout });
  return clientOptions(policy(home, layout.values));
}

/** The connection fails, and no request was read. */
async function assertShutOut(server: RunningServer, asking: Promise<unknown>, code: RegExp): Promise<void> {
  await assert.rejects(asking, (error: NodeJS.ErrnoException) => {
    assert.match(String(error.code), code, error.message);
    return true;
  });
  assert.equal(server.handled(), 0, 'a request was read');
}

/** Node closes after the handshake; only a missing certificate is answered with an alert of TLS. */
const CLOSED = /^(ECONNRESET|EPIPE|ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED)$/;

const NOBODY = (): undefined => undefined;

describe('a server with client_auth=REQUIRE', () => {
  test('lets in a client with a certificate of the trusted authority', async (context) => {
    const server = await serverOf(context);
    assert.equal((await ask(server.port, await clientOf(context))).state, 'verified');
  });

  const refused: readonly [string, () => Pair | undefined, string][] = [
    ['no certificate', NOBODY, 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE'],
    ['a certificate of another authority', () => made.otherClient, 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY'],
    ['an expired certificate', () => made.expiredClient, 'CERT_HAS_EXPIRED'],
    ['a certificate that signed itself', () => made.selfSignedClient, 'DEPTH_ZERO_SELF_SIGNED_CERT'],
  ];
  for (const [what, pair, reason] of refused) {
    test(`refuses ${what}, and says why`, async (context) => {
      const server = await serverOf(context);
      const told = once(server.server, 'tlsClientError');
      const asking = (): Promise<unknown> => ask(server.port, rawClient(made.authority.certificate, pair()));
      await assertShutOut(server, asking(), CLOSED);
      await told;
      assert.deepEqual(server.refusals, [reason]);
    });

    if (pair === NOBODY) continue;
    test(`refuses ${what} also where one is OPTIONAL, and says why`, async (context) => {
      const server = await serverOf(context, { values: { client_auth: 'OPTIONAL' } });
      const asking = ask(server.port, rawClient(made.authority.certificate, pair()));
      await assertShutOut(server, asking, CLOSED);
      assert.deepEqual(server.refusals, [reason]);
    });
  }

  test('refuses a revoked certificate, and lets in the others of that authority', async (context) => {
    const lists = [made.revocationList, made.revocationListDer];
    for (const list of lists) {
      const layout = { revoked: [list] };
      const server = await serverOf(context, layout);
      const revoked = rawClient(made.authority.certificate, made.revokedClient);
      await assertShutOut(server, ask(server.port, revoked), CLOSED);
      assert.equal((await ask(server.port, await clientOf(context))).state, 'verified');
      const optional = await serverOf(context, { ...layout, values: { client_auth: 'OPTIONAL' } });
      await assertShutOut(optional, ask(optional.port, revoked), CLOSED);
      assert.deepEqual(optional.refusals, ['CERT_REVOKED']);
    }
  });

  test('lets in the revoked one where there is no list: the test above sees the list', async (context) => {
    const server = await serverOf(context);
    const revoked = rawClient(made.authority.certificate, made.revokedClient);
    assert.equal((await ask(server.port, revoked)).state, 'verified');
  });

  test('refuses a chain with an authority without a list, once there are lists', async (context) => {
    const client = rawClient(made.authority.certificate, made.chainedClient);
    const without = await serverOf(context);
    assert.equal((await ask(without.port, client)).state, 'verified');
    const layout = { revoked: [made.revocationList], values: { client_auth: 'OPTIONAL' } };
    const server = await serverOf(context, layout);
    await assertShutOut(server, ask(server.port, client), CLOSED);
    assert.deepEqual(server.refusals, ['UNABLE_TO_GET_CRL']);
  });

  test('refuses everybody when the list expires while it runs', async (context) => {
    const home = temporaryFolder(context);
    await layOutPolicy(home, { own: made.server, trusted: [made.authority.certificate] });
    const settings = policy(home, { client_auth: 'OPTIONAL' });
    const material = await loadTlsPolicy(settings);
    const crl = [readFileSync(made.expiredRevocationList, 'latin1')];
    const server = await startServer(context, settings, {
      ...material,
      secureContext: { ...material.secureContext, crl },
    });
    await assertShutOut(server, ask(server.port, await clientOf(context)), CLOSED);
    assert.deepEqual(server.refusals, ['CRL_HAS_EXPIRED']);
  });

  test('lets in a leaf that lies in trusted_dir, and no other of its authority', async (context) => {
    for (const trusted of [made.client.certificate, made.selfSignedClient.certificate]) {
      const server = await serverOf(context, { trusted: [trusted] });
      const pinned = trusted === made.client.certificate ? made.client : made.selfSignedClient;
      await assertShutOut(
        server,
        ask(server.port, rawClient(made.authority.certificate, made.revokedClient)),
        CLOSED,
      );
      const answer = await ask(server.port, rawClient(made.authority.certificate, pinned));
      assert.equal(answer.state, 'verified');
    }
  });

  test('lets in what an intermediate authority in trusted_dir has signed', async (context) => {
    const server = await serverOf(context, { trusted: [made.intermediate.certificate] });
    const chained = rawClient(made.authority.certificate, made.chainedClient);
    assert.equal((await ask(server.port, chained)).state, 'verified');
    const handled = server.handled();
    await assert.rejects(ask(server.port, rawClient(made.authority.certificate, made.client)));
    assert.equal(server.handled(), handled);
  });
});

describe('the other values of client_auth', () => {
  test('OPTIONAL lets in a client without a certificate, and knows one with it', async (context) => {
    const server = await serverOf(context, { values: { client_auth: 'OPTIONAL' } });
    assert.equal((await ask(server.port, rawClient(made.authority.certificate))).state, 'absent');
    assert.equal((await ask(server.port, await clientOf(context))).state, 'verified');
  });

  test('NONE asks nobody, and needs no trusted_dir', async (context) => {
    const home = temporaryFolder(context);
    const base = await layOutPolicy(home, { own: made.server });
    rmSync(join(base, 'trusted'), { recursive: true });
    rmSync(join(base, 'revoked'), { recursive: true });
    const server = await startServer(context, policy(home, { client_auth: 'NONE' }));
    assert.equal((await ask(server.port, await clientOf(context))).state, 'absent');
  });

  test('trust_all lets in any certificate, and believes none', async (context) => {
    const server = await serverOf(context, { values: { trust_all: 'true' } });
    const answer = await ask(server.port, rawClient(made.authority.certificate, made.otherClient));
    assert.equal(answer.state, 'refused');
  });
});

describe('a client', () => {
  const wrong: readonly [string, () => Pair, Layout, string][] = [
    ['another host name', () => made.wrongHostServer, {}, 'ERR_TLS_CERT_ALTNAME_INVALID'],
    ['a revoked certificate', () => made.revokedServer, { revoked: ['list'] }, 'CERT_REVOKED'],
    [
      'an authority it does not trust',
      () => made.server,
      { trusted: ['other'] },
      'SELF_SIGNED_CERT_IN_CHAIN',
    ],
  ];
  for (const [what, pair, layout, code] of wrong) {
    test(`refuses a server with ${what}`, async (context) => {
      const server = await serverOf(context, { own: pair(), values: { client_auth: 'OPTIONAL' } });
      const client = await clientOf(context, {
        ...(layout.trusted === undefined ? {} : { trusted: [made.otherAuthority.certificate] }),
        ...(layout.revoked === undefined ? {} : { revoked: [made.revocationList] }),
      });
      await assertShutOut(server, ask(server.port, client), new RegExp(`^${code}$`));
    });
  }

  test('refuses a server with an expired certificate', async (context) => {
    const home = temporaryFolder(context);
    await layOutPolicy(home, { own: made.server, trusted: [made.authority.certificate] });
    const settings = policy(home, { client_auth: 'NONE' });
    const material = await loadTlsPolicy(settings);
    const own = rawClient(made.authority.certificate, made.expiredServer);
    const expired = { ...material, secureContext: { ...material.secureContext, ...own } };
    const server = await startServer(context, settings, expired as typeof material);
    await assertShutOut(server, ask(server.port, await clientOf(context)), /^CERT_HAS_EXPIRED$/);
  });

  test('takes another host name with verify_hostname=false, and another authority not even then', async (context) => {
    const server = await serverOf(context, { own: made.wrongHostServer });
    const values = { verify_hostname: 'false' };
    assert.equal((await ask(server.port, await clientOf(context, { values }))).state, 'verified');
    const client = await clientOf(context, { values, trusted: [made.otherAuthority.certificate] });
    await assert.rejects(ask(server.port, client), { code: 'SELF_SIGNED_CERT_IN_CHAIN' });
  });

  test('takes an address that the certificate names', async (context) => {
    const server = await serverOf(context);
    const answer = await ask(server.port, await clientOf(context), { host: '127.0.0.1' });
    assert.equal(answer.state, 'verified');
  });

  test('trusts a leaf in trusted_dir, and anything with trust_all', async (context) => {
    const server = await serverOf(context, { own: made.wrongHostServer });
    const pinned = await clientOf(context, {
      trusted: [made.wrongHostServer.certificate],
      values: { verify_hostname: 'false' },
    });
    assert.equal((await ask(server.port, pinned)).state, 'verified');
    const careless = await clientOf(context, { trusted: [], values: { trust_all: 'true' } });
    assert.equal((await ask(server.port, careless)).state, 'verified');
  });

  test('needs no certificate of its own for a server that asks for none', async (context) => {
    const server = await serverOf(context, { values: { client_auth: 'NONE' } });
    const home = temporaryFolder(context);
    await layOutPolicy(home, { trusted: [made.authority.certificate] });
    assert.equal((await ask(server.port, await clientOptions(policy(home)))).state, 'absent');
    const named = policy(home, { private_key: 'private.key' });
    await assert.rejects(loadTlsPolicy(named, 'client'), failure('GK_NOT_FOUND', /public\.crt/));
  });

  test('does not fall back to the public authorities when nobody is trusted', async (context) => {
    const home = temporaryFolder(context);
    await layOutPolicy(home, { own: made.client });
    await assert.rejects(loadTlsPolicy(policy(home), 'client'), failure('GK_CONFIG', /no certificate in/));
    const anybody = await loadTlsPolicy(policy(home, { trust_all: 'true' }), 'client');
    assert.deepEqual(anybody.secureContext.ca, []);
  });
});

describe('versions and ciphers', () => {
  test('TLS 1.1 is not spoken', async (context) => {
    const home = temporaryFolder(context);
    await layOutPolicy(home, { own: made.server, trusted: [made.authority.certificate] });
    const { secureContext, ...material } = await loadTlsPolicy(policy(home));
    // OpenSSL itself refuses TLS 1.1 from its security level 1 on; without that, ours must be enough.
    const ciphers = 'DEFAULT@SECLEVEL=0';
    const weak = { ...material, secureContext: { ...secureContext, ciphers } };
    const server = await startServer(context, policy(home), weak);
    const old = { ...rawClient(made.authority.certificate, made.client), ciphers };
    const asking = ask(server.port, { ...old, minVersion: 'TLSv1', maxVersion: 'TLSv1.1' });
    await assertShutOut(server, asking, /^(EPROTO|ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION)$/);
    const answer = await ask(server.port, { ...old, minVersion: 'TLSv1', maxVersion: 'TLSv1.2' });
    assert.equal(answer.version, 'TLSv1.2');
  });

  test('only the versions of tls_versions are', async (context) => {
    const server = await serverOf(context, { values: { tls_versions: 'TLSv1.3' } });
    const client = await clientOf(context);
    assert.equal((await ask(server.port, client)).version, 'TLSv1.3');
    await assert.rejects(ask(server.port, { ...client, maxVersion: 'TLSv1.2' }));
    const older = await serverOf(context, { values: { tls_versions: 'TLSv1.2' } });
    assert.equal((await ask(older.port, client)).version, 'TLSv1.2');
  });

  test('only the suites of ciphers are', async (context) => {
    const ciphers = 'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256';
    const server = await serverOf(context, { own: made.rsaServer, values: { ciphers } });
    const client = await clientOf(context);
    const answer = await ask(server.port, client);
    assert.deepEqual([answer.version, answer.cipher], ['TLSv1.2', ciphers]);
    await assert.rejects(ask(server.port, { ...client, ciphers: 'ECDHE-RSA-AES256-GCM-SHA384' }));
  });

  test('suites with ephemeral Diffie-Hellman over plain fields work', async (context) => {
    const ciphers = 'TLS_DHE_RSA_WITH_AES_256_GCM_SHA384';
    const server = await serverOf(context, { own: made.rsaServer, values: { ciphers } });
    const client = { ...(await clientOf(context)), ciphers: 'DHE-RSA-AES256-GCM-SHA384' };
    assert.equal((await ask(server.port, client)).cipher, ciphers);
  });
});

describe('exchanging certificates while the server runs', () => {
  test('new connections see the new one, and those that exist go on', async (context) => {
    const home = temporaryFolder(context);
    await layOutPolicy(home, { own: made.server, trusted: [made.authority.certificate] });
    const settings = policy(home);
    const watch = await TlsWatch.start(settings, { intervalMs: 3_600_000 });
    context.after(() => watch.close());
    const running = await startServer(context, settings, watch.material);
    const client = await clientOf(context);
    const agent = new https.Agent({ keepAlive: true, maxSockets: 1, ...client });
    context.after(() => agent.destroy());
    const before = await ask(running.port, client, { agent });
    await layOutPolicy(home, { own: made.renewedServer });
    assert.equal(await watch.check(), true);
    setServerMaterial(running.server, watch.material);
    assert.equal((await ask(running.port, client, { agent })).serverSerial, before.serverSerial);
    const renewed = await ask(running.port, client);
    assert.notEqual(renewed.serverSerial, before.serverSerial);
  });

  test('a certificate that is revoked meanwhile gets no new connection, not by an old session either', async (context) => {
    const home = temporaryFolder(context);
    await layOutPolicy(home, { own: made.server, trusted: [made.authority.certificate] });
    const settings = policy(home);
    const watch = await TlsWatch.start(settings, { intervalMs: 3_600_000 });
    context.after(() => watch.close());
    const running = await startServer(context, settings, watch.material);
    const agent = new https.Agent({ keepAlive: false, maxCachedSessions: 10 });
    const revoked = rawClient(made.authority.certificate, made.revokedClient);
    await ask(running.port, revoked, { agent });
    assert.equal((await ask(running.port, revoked, { agent })).reused, false, 'a session was resumed');
    await layOutPolicy(home, { revoked: [made.revocationList] });
    assert.equal(await watch.check(), true);
    setServerMaterial(running.server, watch.material);
    await assert.rejects(ask(running.port, revoked, { agent }), { code: CLOSED });
    assert.equal((await ask(running.port, await clientOf(context))).state, 'verified');
  });

  test('a leaf that is added to trusted_dir is let in', async (context) => {
    const home = temporaryFolder(context);
    await layOutPolicy(home, { own: made.server, trusted: [made.authority.certificate] });
    const watch = await TlsWatch.start(policy(home), { intervalMs: 3_600_000 });
    context.after(() => watch.close());
    const running = await startServer(context, policy(home), watch.material);
    const client = rawClient(made.authority.certificate, made.otherClient);
    await assertShutOut(running, ask(running.port, client), CLOSED);
    await layOutPolicy(home, { trusted: [made.otherClient.certificate] });
    await watch.check();
    setServerMaterial(running.server, watch.material);
    assert.equal((await ask(running.port, client)).state, 'verified');
  });
});
