/** Who may read which database: the access file, tokens and the names of certificates. */
import assert from 'node:assert/strict';
import crypto, { createHash, X509Certificate } from 'node:crypto';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import os from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { AccessList, generateToken } from '../../../src/server/access.ts';
import { certificateNames, dnsNames } from '../../../src/server/certificatenames.ts';
import { type Certificates, makeCertificates } from '../../fixtures/certificates.ts';
import { failure, temporaryFolder } from '../../fixtures/workspace.ts';

let made: Certificates;
const folder = mkdtempSync(join(os.tmpdir(), 'graphkeep-access-'));
before(async () => {
  made = await makeCertificates(folder);
});
after(() => rmSync(folder, { recursive: true }));

const certificateOf = (file: string): X509Certificate => new X509Certificate(readFileSync(file));
const digest = (text: string): string => createHash('sha256').update(text).digest('hex');
const bearer = (token: string): { authorization: string } => ({ authorization: `Bearer ${token}` });

describe('tokens', () => {
  const list = AccessList.parse(
    [
      '# who       proof                        databases',
      '',
      `nightly     token:sha256:${digest('first')}   neo4j,sys*   # a comment`,
      `\tmonitor  token:sha256:${digest('second').toUpperCase()} none-of-them metrics,configuration`,
      `bare token:sha256:${digest('third')} * none`,
    ].join('\r\n'),
    'access',
  );

  test('name a principal that may read what fits its patterns', () => {
    const principal = list.authenticate(bearer('first'));
    assert.equal(principal?.name, 'nightly');
    assert.equal(principal.proof, 'token');
    const may = ['neo4j', 'NEO4J', 'system', 'neo4j2', 'other'].filter((name) => principal.mayRead(name));
    assert.deepEqual(may, ['neo4j', 'NEO4J', 'system']);
  });

  test('allow metadata and nothing else, unless the line says what', () => {
    const allowed = (token: string): string[] =>
      (['metadata', 'configuration', 'metrics'] as const).filter((what) =>
        list.authenticate(bearer(token))?.may(what),
      );
    assert.deepEqual(allowed('first'), ['metadata']);
    assert.deepEqual(allowed('second'), ['configuration', 'metrics']);
    assert.deepEqual(allowed('third'), []);
  });

  test('that are wrong, cut, longer, in another form or missing let nobody in', () => {
    const wrong = ['fourth', 'firs', 'first1', 'First', '', digest('first'), 'x'.repeat(600), 'first second'];
    for (const token of wrong) assert.equal(list.authenticate(bearer(token)), undefined, token);
    for (const authorization of ['first', 'Basic first', 'Bearer', '', 'Bearer first, Bearer second']) {
      assert.equal(list.authenticate({ authorization }), undefined, authorization);
    }
    assert.equal(list.authenticate({}), undefined);
    assert.equal(list.authenticate({ authorization: 'bearer first' })?.name, 'nightly');
  });

  test('are compared in constant time with every line, whichever fits', (context) => {
    const comparing = context.mock.method(crypto, 'timingSafeEqual');
    syncBuiltinESMExports();
    for (const token of ['first', 'second', 'third', 'fourth', '', 'no token', 'x'.repeat(600)]) {
      comparing.mock.resetCalls();
      list.authenticate(bearer(token));
      assert.equal(comparing.mock.callCount(), 3, token);
    }
    comparing.mock.restore();
    syncBuiltinESMExports();
  });

  test('that are generated have 32 random bytes, and their line lets them in', () => {
    const { token, line } = generateToken('nightly', 'neo4j');
    assert.ok(Buffer.from(token.replace(/^gk_/, ''), 'base64url').length >= 32);
    assert.ok(!line.includes(token));
    const principal = AccessList.parse(line, 'access').authenticate(bearer(token));
    assert.deepEqual([principal?.mayRead('neo4j'), principal?.mayRead('system')], [true, false]);
    assert.notEqual(generateToken('nightly').token, token);
    assert.throws(() => generateToken('a b'), failure('GK_CONFIG'));
    assert.throws(() => generateToken('nightly', 'a/b'), failure('GK_CONFIG'));
  });
});

describe('certificates', () => {
  const parse = (name: string): AccessList => AccessList.parse(`cluster certificate:${name} neo4j`, 'access');

  test('are known by common name or DNS name, in any case', () => {
    const certificate = certificateOf(made.client.certificate);
    for (const name of ['client', 'CLIENT', 'client.example', 'Client.Example']) {
      const principal = parse(name).authenticate({ certificate });
      assert.deepEqual([principal?.name, principal?.proof], ['cluster', 'certificate'], name);
    }
    for (const name of ['clien', 'client.exampl', 'example', '*.example', '*', 'other']) {
      assert.equal(parse(name).authenticate({ certificate }), undefined, name);
    }
  });

  test('do not help whoever sends a wrong token', () => {
    const certificate = certificateOf(made.client.certificate);
    assert.equal(parse('client').authenticate({ certificate, ...bearer('wrong') }), undefined);
  });

  test('names come out of a subjectAltName without being fooled', () => {
    assert.deepEqual(certificateNames(certificateOf(made.server.certificate)), ['server', 'localhost']);
    assert.deepEqual(dnsNames('DNS:a.example, IP Address:127.0.0.1, DNS:b.example'), [
      'a.example',
      'b.example',
    ]);
    const fooling = [
      'URI:"x, DNS:admin, y"',
      'URI:"http://x/, DNS:admin"',
      'URI:"x\\", DNS:admin"',
      'DNS:"x, DNS:admin"',
      'DNS:a b',
      '',
    ];
    for (const text of fooling) assert.deepEqual(dnsNames(text), [], text);
    assert.deepEqual(dnsNames('URI:"x\\", DNS:admin", DNS:me'), ['me']);
  });
});

describe('without an access file', () => {
  test('a verified certificate reads everything, and nobody else where one is required', () => {
    const certificate = certificateOf(made.client.certificate);
    const principal = AccessList.withoutFile(true).authenticate({ certificate });
    assert.deepEqual(
      [principal?.name, principal?.mayRead('any'), principal?.may('metrics')],
      ['client', true, true],
    );
    assert.equal(AccessList.withoutFile(true).authenticate(bearer('x')), undefined);
    assert.equal(AccessList.withoutFile(true).authenticate({}), undefined);
  });

  test('anybody does where none is', () => {
    const principal = AccessList.withoutFile(false).authenticate({});
    assert.deepEqual(
      [principal?.name, principal?.proof, principal?.mayRead('neo4j')],
      ['anybody', 'nothing', true],
    );
  });
});

describe('an access file', () => {
  const good = `a token:sha256:${digest('a')} *`;
  const wrong: readonly [string, string, RegExp][] = [
    ['nobody', '# nobody\n', /names nobody/],
    ['too few words', `a token:sha256:${digest('a')}`, /access:1: a line has/],
    ['too many words', `${good} metadata more`, /a line has/],
    ['a name with a slash', good.replace('a ', 'a/b '), /is not a name/],
    ['another proof', 'a password:x *', /the proof is/],
    ['a plain token', 'a token:secret-word *', /after token: comes sha256:/],
    ['a short digest', good.slice(0, 70), /a line has|64 hexadecimal/],
    ['another digest', `a token:md5:${digest('a')} *`, /sha256:/],
    ['the digest of nothing', `a token:sha256:${digest('')} *`, /empty token/],
    ['a pattern of no database', good.replace('*', 'a/b'), /not a database name/],
    ['an empty pattern', good.replace('*', 'neo4j,'), /not a database name/],
    ['an unknown permission', `${good} write`, /write is not a permission/],
    ['a certificate without a name', 'a certificate: *', /needs a name/],
    ['a name twice', `${good}\na token:sha256:${digest('b')} *`, /access:2: a is named twice/],
    ['a token twice', `${good}\nb token:sha256:${digest('a')} *`, /access:2: b has the same proof as a/],
    ['a certificate twice', 'a certificate:x *\nb certificate:X *', /same proof/],
  ];
  for (const [what, text, reason] of wrong) {
    test(`with ${what} is refused`, () => {
      assert.throws(() => AccessList.parse(text, 'access'), failure('GK_CONFIG', reason));
    });
  }

  test('does not repeat what may be a token', () => {
    assert.throws(
      () => AccessList.parse('a token:secret-word *', 'access'),
      (error: Error) => !error.message.includes('secret-word'),
    );
  });

  test('tells what it holds', () => {
    const list = AccessList.parse(`${good}\nb certificate:x *`, 'access');
    assert.deepEqual([list.hasTokens, list.hasCertificates], [true, true]);
    const tokens = AccessList.parse(good, 'access');
    assert.deepEqual([tokens.hasTokens, tokens.hasCertificates], [true, false]);
  });

  test('is refused with more than mode 0640', async (context) => {
    const file = join(temporaryFolder(context), 'access');
    writeFileSync(file, good);
    for (const mode of [0o644, 0o641, 0o642, 0o660, 0o620]) {
      chmodSync(file, mode);
      await assert.rejects(AccessList.load(file), failure('GK_CONFIG', /the access file .* can be/));
    }
    for (const mode of [0o640, 0o600, 0o440, 0o400]) {
      chmodSync(file, mode);
      assert.equal((await AccessList.load(file)).hasTokens, true);
    }
    await assert.rejects(AccessList.load(`${file}.missing`), failure('GK_NOT_FOUND', /does not exist/));
    await assert.rejects(AccessList.load(os.tmpdir()), failure('GK_CONFIG', /is not a file/));
  });
});
