/** The settings of a TLS policy, and what is wrong with its files, said by name. */
import assert from 'node:assert/strict';
import { chmodSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import tls from 'node:tls';
import { cipherVersion, openSslCipherList } from '../../../src/remote/ciphers.ts';
import { loadTlsPolicy, type TlsMaterial } from '../../../src/remote/tlsmaterial.ts';
import { TLS_POLICY_PREFIX, tlsPolicySettings } from '../../../src/remote/tlspolicy.ts';
import {
  type Certificates,
  layOutPolicy,
  makeCertificates,
  type PolicyFiles,
} from '../../fixtures/certificates.ts';
import { policy } from '../../fixtures/tlsservers.ts';
import { failure, isRoot, temporaryFolder } from '../../fixtures/workspace.ts';

let made: Certificates;
const folder = mkdtempSync(join(os.tmpdir(), 'graphkeep-policy-'));
before(async () => {
  made = await makeCertificates(folder);
});
after(() => rmSync(folder, { recursive: true }));

describe('the settings', () => {
  test('have the defaults of Neo4j', () => {
    assert.deepEqual(tlsPolicySettings(new Map(), '/home'), {
      enabled: false,
      baseDirectory: '/home/certificates/backup',
      privateKey: '/home/certificates/backup/private.key',
      publicCertificate: '/home/certificates/backup/public.crt',
      trustedDir: '/home/certificates/backup/trusted',
      revokedDir: '/home/certificates/backup/revoked',
      verifyHostname: true,
      tlsVersions: ['TLSv1.2', 'TLSv1.3'],
      clientAuth: 'REQUIRE',
      trustAll: false,
      given: new Set(),
    });
  });

  test('name paths relative to the base directory, or absolute ones', () => {
    const settings = policy('/home', {
      base_directory: 'tls',
      private_key: 'a.key',
      trusted_dir: '/elsewhere',
    });
    assert.equal(settings.privateKey, '/home/tls/a.key');
    assert.equal(settings.trustedDir, '/elsewhere');
    assert.equal(settings.revokedDir, '/home/tls/revoked');
  });

  const wrong: readonly [string, string, RegExp][] = [
    ['enabled', 'yes', /true or false/],
    ['client_auth', 'REQUIRED', /NONE, OPTIONAL, REQUIRE/],
    ['tls_versions', 'TLSv1.1,TLSv1.2', /TLSv1\.1 is broken/],
    ['tls_versions', 'TLSv1', /TLSv1 is broken/],
    ['tls_versions', 'SSLv3', /SSLv3 is broken/],
    ['tls_versions', 'TLSv1.4', /TLSv1\.2 and TLSv1\.3/],
    ['tls_versions', ',', /TLSv1\.2 and TLSv1\.3/],
    ['ciphers', 'TLS_AES_256_GCM_SHA385', /not known/],
    ['ciphers', 'TLS_RSA_WITH_AES_128_GCM_SHA256', /forward secrecy/],
    ['ciphers', 'TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA', /SHA-1/],
    ['ciphers', 'TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA', /broken/],
    ['ciphers', 'TLS_ECDH_anon_WITH_AES_128_CBC_SHA', /broken/],
    ['ciphers', 'ECDHE-RSA-AES128-GCM-SHA256', /IANA/],
    ['ciphers', 'ALL', /not known/],
    ['client_atuh', 'REQUIRE', /unknown setting dbms\.ssl\.policy\.backup\.client_atuh/],
    ['Enabled', 'true', /unknown setting/],
  ];
  for (const [suffix, value, reason] of wrong) {
    test(`${suffix}=${value} is refused by name`, () => {
      const given = new Map([[TLS_POLICY_PREFIX + suffix, value]]);
      const named = failure('GK_CONFIG', new RegExp(`dbms\\.ssl\\.policy\\.backup\\.${suffix}`));
      assert.throws(() => tlsPolicySettings(given, '/'), named);
      assert.throws(() => tlsPolicySettings(given, '/'), failure('GK_CONFIG', reason));
    });
  }

  test('suites that belong to no allowed version are refused', () => {
    const values = { ciphers: 'TLS_AES_128_GCM_SHA256', tls_versions: 'TLSv1.2' };
    assert.throws(() => policy('/', values), failure('GK_CONFIG', /none of them belongs/));
  });

  test('other policies are none of our business', () => {
    assert.equal(tlsPolicySettings(new Map([['dbms.ssl.policy.bolt.enabled', 'true']]), '/').enabled, false);
  });

  test('every suite of the table is one that OpenSSL has, and means the same there', () => {
    const source = readFileSync(new URL('../../../src/remote/ciphers.ts', import.meta.url), 'utf8');
    const names = [...new Set(source.match(/'TLS_[A-Z0-9_]+'/g))].map((name) => name.slice(1, -1));
    const suites = names.filter((name) => cipherVersion(name) !== undefined);
    assert.ok(suites.length >= 16);
    for (const name of suites) {
      assert.ok(tls.getCiphers().includes(openSslCipherList([name]).toLowerCase()), name);
    }
  });
});

async function loaded(
  context: TestContext,
  files: PolicyFiles = {},
  values: Readonly<Record<string, string>> = {},
  change: (base: string) => void = () => undefined,
): Promise<TlsMaterial> {
  const home = temporaryFolder(context);
  const base = await layOutPolicy(home, {
    own: made.server,
    trusted: [made.authority.certificate],
    ...files,
  });
  change(base);
  return loadTlsPolicy(policy(home, values));
}

describe('the private key', () => {
  test('may be encrypted', async (context) => {
    const material = await loaded(
      context,
      { key: made.encryptedKey },
      { private_key_password: made.password },
    );
    assert.equal(material.certificateExpires! > new Date(), true);
  });

  test('may be PKCS#1, or have the parameters of its curve in front', async (context) => {
    assert.match(readFileSync(made.rsaServer.key, 'latin1'), /BEGIN RSA PRIVATE KEY/);
    await loaded(context, { own: made.rsaServer });
    const parameters = '-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n';
    await loaded(context, {}, {}, (base) => {
      const key = join(base, 'private.key');
      writeFileSync(key, parameters + readFileSync(key, 'latin1'));
    });
  });

  test('with a missing or wrong password is refused, and says which', async (context) => {
    const files = { key: made.encryptedKey };
    await assert.rejects(
      loaded(context, files),
      failure('GK_CONFIG', /is encrypted and there is no password/),
    );
    const wrong = loaded(context, files, { private_key_password: 'wrong' });
    await assert.rejects(wrong, (error: Error & { hint: string }) => {
      assert.ok(!`${error.message}${error.hint}`.includes('wrong password'), 'no word of the password');
      return failure('GK_CONFIG', /cannot be decrypted with the given password/)(error);
    });
  });

  test('of another certificate is refused', async (context) => {
    const reading = loaded(context, { key: made.client.key });
    await assert.rejects(reading, failure('GK_CONFIG', /private\.key does not belong to .*public\.crt/));
  });

  test('that others can read, or its group write, is refused', async (context) => {
    for (const mode of [0o644, 0o604, 0o660, 0o602, 0o777]) {
      const reading = loaded(context, {}, {}, (base) => chmodSync(join(base, 'private.key'), mode));
      await assert.rejects(
        reading,
        failure('GK_CONFIG', /private key .* can be (read|written) by/),
        String(mode),
      );
    }
    for (const mode of [0o400, 0o600, 0o440, 0o640]) {
      await loaded(context, {}, {}, (base) => chmodSync(join(base, 'private.key'), mode));
    }
  });

  test('that is missing, none, or too large is refused by name', async (context) => {
    const at = (change: (file: string) => void) =>
      loaded(context, {}, {}, (base) => change(join(base, 'private.key')));
    await assert.rejects(
      at((file) => rmSync(file)),
      failure('GK_NOT_FOUND', /private\.key/),
    );
    await assert.rejects(
      at((file) => writeFileSync(file, 'x')),
      failure('GK_CONFIG', /no private key in PEM/),
    );
    const large = at((file) => writeFileSync(file, Buffer.alloc(1024 * 1024 + 1)));
    await assert.rejects(large, failure('GK_CONFIG', /larger than/));
  });

  test('that this user may not read is a matter of permission', {
    skip: isRoot && 'root may read everything',
  }, async (context) => {
    const reading = loaded(context, {}, {}, (base) => chmodSync(join(base, 'private.key'), 0));
    await assert.rejects(reading, failure('GK_NO_PERMISSION', /private\.key/));
  });
});

describe('the certificate', () => {
  test('that has expired is refused', async (context) => {
    const reading = loaded(context, { own: made.expiredServer });
    await assert.rejects(reading, failure('GK_CONFIG', /public\.crt has expired \(Feb +1 .*2020/));
  });

  test('that is none, is damaged or missing is refused', async (context) => {
    const at = (change: (file: string) => void) =>
      loaded(context, {}, {}, (base) => change(join(base, 'public.crt')));
    await assert.rejects(
      at((file) => writeFileSync(file, 'x')),
      failure('GK_CONFIG', /no certificate in PEM/),
    );
    const damage = (file: string): void =>
      writeFileSync(file, readFileSync(file, 'latin1').replace(/\nMII../, '\nAAAAA'));
    await assert.rejects(at(damage), failure('GK_CONFIG', /damaged certificate/));
    await assert.rejects(
      at((file) => rmSync(file)),
      failure('GK_NOT_FOUND', /public\.crt/),
    );
  });
});

describe('the trusted certificates', () => {
  test('may be several in a file, in DER, and links as Kubernetes makes them', async (context) => {
    const material = await loaded(context, {}, {}, (base) => {
      const both = [made.authority, made.otherAuthority].map(({ certificate }) => readFileSync(certificate));
      writeFileSync(join(base, 'trusted', 'both.pem'), Buffer.concat(both));
      const der =
        tls.createSecureContext === undefined ? '' : readFileSync(made.client.certificate, 'latin1');
      const base64 = /-----\n(.*)\n-----/s.exec(der)?.[1] ?? '';
      writeFileSync(join(base, 'trusted', 'client.der'), Buffer.from(base64, 'base64'));
      writeFileSync(join(base, 'trusted', '..data'), 'is not looked at');
    });
    assert.equal((material.secureContext.ca as string[]).length, 4);
  });

  test('must be there, and nothing else', async (context) => {
    await assert.rejects(
      loaded(context, { trusted: [] }),
      failure('GK_CONFIG', /no certificate in .*trusted/),
    );
    const gone = loaded(context, {}, {}, (base) => rmSync(join(base, 'trusted'), { recursive: true }));
    await assert.rejects(gone, failure('GK_NOT_FOUND', /trusted_dir.* does not exist/));
    const other = loaded(context, {}, {}, (base) => writeFileSync(join(base, 'trusted', 'readme'), 'x'));
    await assert.rejects(other, failure('GK_CONFIG', /readme is not a certificate/));
    const old = loaded(context, { trusted: [made.expiredClient.certificate] });
    await assert.rejects(old, failure('GK_CONFIG', /every certificate in .* has expired/));
  });

  test('in a folder or file that others can write are refused', async (context) => {
    const folderOpen = loaded(context, {}, {}, (base) => chmodSync(join(base, 'trusted'), 0o777));
    await assert.rejects(folderOpen, failure('GK_CONFIG', /trusted.* can be written by others/));
    const fileOpen = loaded(context, {}, {}, (base) => chmodSync(join(base, 'trusted/authority.crt'), 0o646));
    await assert.rejects(fileOpen, failure('GK_CONFIG', /authority\.crt can be written by others/));
  });
});

describe('the revocation lists', () => {
  test('are needed of every trusted authority, once there is one', async (context) => {
    const trusted = [made.authority.certificate, made.otherAuthority.certificate];
    const one = loaded(context, { trusted, revoked: [made.revocationList] });
    await assert.rejects(one, failure('GK_CONFIG', /none of the authority .*other-authority\.crt/));
    const both = [made.revocationListDer, made.otherRevocationList];
    assert.equal(
      ((await loaded(context, { trusted, revoked: both })).secureContext.crl as string[]).length,
      2,
    );
  });

  test('that have expired are refused, unless a current one is beside them', async (context) => {
    const expired = [made.expiredRevocationList];
    const reading = loaded(context, { revoked: expired });
    await assert.rejects(
      reading,
      failure('GK_CONFIG', /expired\.crl is not current \(valid until 2020-02-01/),
    );
    await loaded(context, { revoked: [...expired, made.revocationList] });
  });

  test('do not go together with a leaf or an intermediate authority in trusted_dir', async (context) => {
    for (const certificate of [
      made.client.certificate,
      made.intermediate.certificate,
      made.selfSignedClient.certificate,
    ]) {
      const files = { trusted: [made.authority.certificate, certificate], revoked: [made.revocationList] };
      await assert.rejects(loaded(context, files), failure('GK_CONFIG', /is not a root authority/));
    }
  });

  test('that are none are refused; a missing folder is none, unless it was named', async (context) => {
    const other = loaded(context, {}, {}, (base) => writeFileSync(join(base, 'revoked', 'list'), 'x'));
    await assert.rejects(other, failure('GK_CONFIG', /list is not a revocation list/));
    const certificate = loaded(context, {}, {}, (base) =>
      cpSync(made.client.certificate, join(base, 'revoked', 'client.crt')),
    );
    await assert.rejects(certificate, failure('GK_CONFIG', /client\.crt is not a revocation list/));
    const remove = (base: string): void => rmSync(join(base, 'revoked'), { recursive: true });
    await loaded(context, {}, {}, remove);
    const named = loaded(context, {}, { revoked_dir: 'revoked' }, remove);
    await assert.rejects(named, failure('GK_NOT_FOUND', /revoked_dir/));
  });
});
