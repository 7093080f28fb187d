import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { holdsPrivateKey, isKeyName } from '../../../src/formats/configuration/privatekey.ts';
import { temporaryFolder } from '../../fixtures/workspace.ts';

const rsa = generateKeyPairSync('rsa', { modulusLength: 1024 });
const curve = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const edwards = generateKeyPairSync('ed25519');
const cipher = { cipher: 'aes-256-cbc', passphrase: 'secret' };

/** Names that say nothing: the content alone has to tell. */
describe('a private key is known by its content', () => {
  const forms: Record<string, string | Buffer> = {
    'PKCS#8 of RSA': rsa.privateKey.export({ type: 'pkcs8', format: 'pem' }),
    'PKCS#1': rsa.privateKey.export({ type: 'pkcs1', format: 'pem' }),
    SEC1: curve.privateKey.export({ type: 'sec1', format: 'pem' }),
    'encrypted PKCS#8': rsa.privateKey.export({ type: 'pkcs8', format: 'pem', ...cipher }),
    Ed25519: edwards.privateKey.export({ type: 'pkcs8', format: 'pem' }),
    'PKCS#8, binary': rsa.privateKey.export({ type: 'pkcs8', format: 'der' }),
    'PKCS#1, binary': rsa.privateKey.export({ type: 'pkcs1', format: 'der' }),
    'SEC1, binary': curve.privateKey.export({ type: 'sec1', format: 'der' }),
    'Ed25519, binary': edwards.privateKey.export({ type: 'pkcs8', format: 'der' }),
    'encrypted PKCS#8, binary': rsa.privateKey.export({ type: 'pkcs8', format: 'der', ...cipher }),
    OpenSSH: '-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\n',
    PGP: '-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQ\n',
    JKS: Buffer.from('feedfeed00000002', 'hex'),
    JCEKS: Buffer.from('cececece00000002', 'hex'),
    PuTTY: 'PuTTY-User-Key-File-3: ssh-ed25519\n',
    'a key behind a certificate': `-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n-----BEGIN RSA PRIVATE KEY-----\n`,
  };
  for (const [form, content] of Object.entries(forms)) {
    test(form, () => assert.equal(holdsPrivateKey('public.crt', Buffer.from(content)), true));
  }

  test('PKCS#12, and the certificate it was made of is none', (context) => {
    const folder = temporaryFolder(context);
    const file = (name: string) => join(folder, name);
    const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=a'];
    const run = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe' });
    run(...request, '-keyout', file('k'), '-out', file('c'));
    run('pkcs12', '-export', '-inkey', file('k'), '-in', file('c'), '-passout', 'pass:x', '-out', file('p'));
    run('x509', '-in', file('c'), '-outform', 'DER', '-out', file('d'));
    assert.equal(holdsPrivateKey('store', readFileSync(file('p'))), true);
    assert.equal(holdsPrivateKey('public.crt', readFileSync(file('c'))), false);
    assert.equal(holdsPrivateKey('public.der', readFileSync(file('d'))), false);
  });
});

describe('what is no key', () => {
  const others: Record<string, string | Buffer> = {
    settings: 'dbms.ssl.policy.bolt.private_key=private.key\n',
    nothing: '',
    'one byte': '0',
    'a public key': rsa.publicKey.export({ type: 'spki', format: 'pem' }),
    'text about keys': 'This file holds no PRIVATE KEY.\n',
  };
  for (const [form, content] of Object.entries(others)) {
    test(form, () => assert.equal(holdsPrivateKey('public.crt', Buffer.from(content)), false));
  }

  test('names alone are enough for those that are kept in stores', () => {
    for (const name of ['private.key', 'a.P12', 'b.pfx', 'c.jks', 'd.keystore'])
      assert.equal(isKeyName(name), true);
    for (const name of ['public.crt', 'neo4j.conf', 'key.crt', 'keystore'])
      assert.equal(isKeyName(name), false);
  });
});
