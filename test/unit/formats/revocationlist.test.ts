/** Revocation lists and certificates as openssl writes them, and bytes that are neither. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { FormatError } from '../../../src/formats/formaterror.ts';
import { parseCertificateNames, parseRevocationList } from '../../../src/formats/revocationlist.ts';
import { type Certificates, makeCertificates } from '../../fixtures/certificates.ts';

let made: Certificates;
const folder = mkdtempSync(join(os.tmpdir(), 'graphkeep-lists-'));
before(async () => {
  made = await makeCertificates(folder);
});
after(() => rmSync(folder, { recursive: true }));

const der = (file: string): Buffer => new X509Certificate(readFileSync(file)).raw;

describe('a revocation list', () => {
  test('names its authority and its dates', () => {
    const list = parseRevocationList(readFileSync(made.revocationListDer));
    assert.ok(list.issuer.equals(parseCertificateNames(der(made.authority.certificate)).subject));
    assert.ok(list.thisUpdate <= new Date() && list.nextUpdate! > new Date());
    const base64 = /-----\n(.*)\n-----/s.exec(readFileSync(made.expiredRevocationList, 'latin1'))?.[1] ?? '';
    const expired = parseRevocationList(Buffer.from(base64, 'base64'));
    assert.equal(expired.nextUpdate?.toISOString(), '2020-02-01T00:00:00.000Z');
  });

  test('that is cut anywhere, or changed in a byte, is refused or read, and nothing else', () => {
    const whole = readFileSync(made.revocationListDer);
    for (let length = 0; length < whole.length; length += 1) {
      assert.throws(() => parseRevocationList(whole.subarray(0, length)), FormatError, String(length));
    }
    for (let position = 0; position < whole.length; position += 1) {
      for (const value of [0x00, 0x7f, 0x80, 0x84, 0x85, 0xff]) {
        const changed = Buffer.from(whole);
        changed[position] = value;
        try {
          parseRevocationList(changed);
        } catch (error) {
          assert.ok(error instanceof FormatError, `${position}: ${String(error)}`);
        }
      }
    }
  });

  test('is no certificate', () => {
    assert.throws(() => parseRevocationList(der(made.client.certificate)), FormatError);
  });
});

describe('a certificate', () => {
  test('names its subject and its issuer', () => {
    const authority = parseCertificateNames(der(made.authority.certificate));
    const client = parseCertificateNames(der(made.client.certificate));
    assert.ok(authority.subject.equals(authority.issuer));
    assert.ok(client.issuer.equals(authority.subject));
    assert.ok(client.subject.includes('client'));
  });
});
