/** Object stores as far as they can be tested without one: URLs, keys, parts, secrets, and what is loaded when. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, test } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import type { GraphkeepError } from '../../../src/errors.ts';
import { CHUNK_BYTES, TAG_BYTES } from '../../../src/formats/age/payload.ts';
import { combineCrc32 } from '../../../src/formats/crc32.ts';
import {
  AGE_HEADER_BYTES_MAX,
  AZURE_BLOCK_BYTES_MAX,
  COMPRESSED_SCRIPT_BYTES_MAX,
  GIB,
  KIB,
  MIB,
  OBJECT_PART_BYTES_DEFAULT,
  OBJECT_PARTS_IN_FLIGHT_MAX,
  OBJECT_PARTS_KEPT_MAX,
  OBJECT_PARTS_MEMORY_BYTES,
  S3_PARTS_MAX,
} from '../../../src/limits.ts';
import { fullKey, isStoreUrl, parseStoreUrl } from '../../../src/storage/objects/address.ts';
import { AZURE_LIMITS } from '../../../src/storage/objects/azureupload.ts';
import { networkFailure, statusFailure } from '../../../src/storage/objects/failures.ts';
import { Flights } from '../../../src/storage/objects/flights.ts';
import { keyBelow, Pages } from '../../../src/storage/objects/listing.ts';
import { choosePartBytes, PartTable, partsAtOnce, planSections } from '../../../src/storage/objects/parts.ts';
import { Receipts } from '../../../src/storage/objects/receipts.ts';
import { partsOf, receiptOf } from '../../../src/storage/objects/s3multipart.ts';
import { S3_LIMITS } from '../../../src/storage/objects/s3upload.ts';
import { cleanCause, scrubber, shortWords } from '../../../src/storage/objects/secrets.ts';
import { inParallel } from '../../../src/storage/parallel.ts';
import { failure } from '../../fixtures/workspace.ts';

describe('URLs of object stores', () => {
  test('bucket and folder', () => {
    const parse = (text: string) => {
      const { scheme, account, bucket, prefix, url } = parseStoreUrl(text);
      return [scheme, account, bucket, prefix, url];
    };
    assert.deepEqual(parse('s3://b-1'), ['s3', '', 'b-1', '', 's3://b-1/']);
    assert.deepEqual(parse('s3://b-1/'), ['s3', '', 'b-1', '', 's3://b-1/']);
    assert.deepEqual(parse('gs://my.bucket/a/b'), ['gs', '', 'my.bucket', 'a/b/', 'gs://my.bucket/a/b/']);
    assert.deepEqual(parse('azb://acc/con/a//b/'), ['azb', 'acc', 'con', 'a/b/', 'azb://acc/con/a/b/']);
    assert.equal(parseStoreUrl('azb://acc.blob.core.usgovcloudapi.net/con').bucket, 'con');
    assert.ok(
      isStoreUrl('S3://x') && !isStoreUrl('/data') && !isStoreUrl('s3:/x') && !isStoreUrl('http://x'),
    );
  });

  test('what names none is refused, and a secret in it is not repeated', () => {
    for (const text of [
      's3://',
      's3:///x',
      'azb://account',
      'gs://b/../c',
      's3://-',
      'azb://a_b/c',
      's3://b/a\\c',
    ]) {
      assert.throws(() => parseStoreUrl(text), failure('GK_USAGE'), text);
    }
    const secrets: readonly [RegExp, ...string[]][] = [
      [/a \?, # or @ in it/, 'azb://acc/con?sv=1&sig=planted', 'gs://b/x#planted', 's3://p@b/x?y=planted'],
      // The keys of AWS have slashes in them.
      [
        /a \?, # or @ in it/,
        's3://key:plan/planted@bucket/x',
        's3://plan/planted@bucket',
        's3://p@b/planted@b',
      ],
      [/a password or a port/, 's3://key:planted@bucket/x', 's3://key:planted/x', 's3://:planted@bucket/x'],
      [/a password or a port/, 's3://p@planted:9000/x', 'gs://key:planted@b', 'azb://acc:planted@x/con'],
      [
        /no name of a profile/,
        's3://key%3Aplanted@bucket/x',
        's3://planted%@bucket',
        's3://planted@a@bucket',
      ],
      [
        /no name of a profile/,
        's3://planted%0a@bucket',
        's3://%20planted@bucket',
        's3://planted%ed%a0%80@bucket',
      ],
      [
        /no name of a profile/,
        's3://@bucket/planted',
        `s3://planted${'x'.repeat(128)}@bucket`,
        's3://planted\ud800@b',
      ],
      [
        /has an @ in it/,
        'gs://planted@bucket/x',
        'azb://planted@account/con',
        'azb://planted@acc.blob.x.net/c',
      ],
    ];
    for (const [words, ...texts] of secrets) {
      for (const text of texts) {
        assert.throws(
          () => parseStoreUrl(text),
          (error) => {
            assert.doesNotMatch(`${String(error)} ${(error as GraphkeepError).hint}`, /planted/, text);
            return failure('GK_USAGE', words)(error);
          },
        );
      }
    }
  });

  test('a profile stays in the URL, written in one way', () => {
    const parse = (text: string) => {
      const { profile, bucket, prefix, url } = parseStoreUrl(text);
      return [profile, bucket, prefix, url];
    };
    assert.deepEqual(parse('S3://onsite@b-1'), ['onsite', 'b-1', '', 's3://onsite@b-1/']);
    assert.deepEqual(parse('s3://On.Site_1@b-1/a//b/'), [
      'On.Site_1',
      'b-1',
      'a/b/',
      's3://On.Site_1@b-1/a/b/',
    ]);
    for (const text of ['s3://team%40a%2Fb@bkt/x', 's3://%74eam%40a%2fb@bkt/x/'])
      assert.deepEqual(parse(text), ['team@a/b', 'bkt', 'x/', 's3://team%40a%2Fb@bkt/x/']);
    // Lists of paths are split at commas.
    assert.equal(parseStoreUrl('s3://a,b@bkt').url, 's3://a%2Cb@bkt/');
    assert.deepEqual(parse('s3://..@bkt/x'), ['..', 'bkt', 'x/', 's3://..@bkt/x/']);
    assert.equal('profile' in parseStoreUrl('s3://bkt'), false);
    for (const text of ['s3://p@', 's3://p@/x', 's3://p@-', 's3://p@bkt/../x', 's3://p@bkt%2Fx'])
      assert.throws(() => parseStoreUrl(text), failure('GK_USAGE'), text);
    assert.ok(isStoreUrl('s3://p@bkt'));
  });

  test('whatever is taken for a profile is the same after it was written out', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('.', '/', 'a', '@', '%', '4', '0', ' ', 'ü', '~') }),
        (name) => {
          let url: string;
          try {
            url = parseStoreUrl(`s3://${encodeURIComponent(name)}@bkt/x`).url;
          } catch {
            assert.ok(name === '' || name !== name.trim(), name);
            return;
          }
          const again = parseStoreUrl(url);
          assert.deepEqual([again.profile, again.bucket, again.prefix, again.url], [name, 'bkt', 'x/', url]);
          assert.equal(new URL(url).hostname, 'bkt');
        },
      ),
    );
  });

  test('a key never leaves the folder of its store', () => {
    const address = parseStoreUrl('s3://bucket/folder');
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('.', '/', 'a', '\\', '%', ' ', 'ü') }), (key) => {
        let whole: string;
        try {
          whole = fullKey(address, key);
        } catch {
          return;
        }
        // As the SDKs put it into a URL, which takes steps of dots away all the same.
        const path = new URL(`http://host/${whole.split('/').map(encodeURIComponent).join('/')}`).pathname;
        assert.ok(path.startsWith('/folder/') && path.length > '/folder/'.length, whole);
        assert.equal(keyBelow(address, whole), key);
      }),
    );
    assert.throws(() => fullKey(address, 'ü'.repeat(600)), failure('GK_USAGE', /longer/));
    assert.equal(keyBelow(address, 'folder-eu/x'), undefined);
    assert.equal(keyBelow(address, 'folder/'), undefined);
    assert.equal(keyBelow(address, 'folder/sub/'), undefined);
  });
});

test('parts are as large as the object needs', () => {
  const limits = { partsMax: 10_000, partBytesMax: AZURE_BLOCK_BYTES_MAX };
  assert.equal(choosePartBytes(undefined, limits), OBJECT_PART_BYTES_DEFAULT);
  assert.equal(choosePartBytes(0, limits), OBJECT_PART_BYTES_DEFAULT);
  for (const bytes of [GIB, 100 * GIB, 2000 * GIB]) {
    const partBytes = choosePartBytes(bytes, limits);
    assert.ok(partBytes * limits.partsMax >= 1.25 * bytes && partBytes % MIB === 0);
  }
  assert.throws(() => choosePartBytes(5000 * GIB, limits), failure('GK_UNSUPPORTED'));
});

test('what was sent last under a number counts', () => {
  const table = new PartTable(10, 3);
  assert.throws(() => table.check(4, 1), failure('GK_UNSUPPORTED', /more than 3 parts/));
  for (const [number, bytes] of [
    [0, 1],
    [1.5, 1],
    [1, 11],
  ] as const) {
    assert.throws(() => table.check(number, bytes), failure('GK_INTERNAL'));
  }
  table.sent(1, 4, 'old');
  table.sent(1, 10, 'new');
  table.sent(2, 3, 'end');
  assert.deepEqual(table.receipts(1, 3), ['new', 'end']);
  assert.deepEqual(
    [0, 1, 2].map((count) => table.bytesOf(count)),
    [0, 10, 13],
  );
});

test('what a store said of a part is known again, in whatever words', () => {
  const texts = fc.oneof(fc.constantFrom('00ff', 'a0b1', 'c', 'abcd01', '', '"x"', 'é'), fc.string());
  const sent = fc.array(fc.tuple(fc.integer({ min: 1, max: 9000 }), texts));
  fc.assert(
    fc.property(sent, (pairs) => {
      const receipts = new Receipts();
      for (const [number, text] of pairs) receipts.set(number, text);
      const expected = new Map(pairs);
      for (let number = 0; number < 9010; number++) assert.equal(receipts.get(number), expected.get(number));
    }),
  );
  const parts = [
    { ETag: '"00112233445566778899aabbccddeeff"', ChecksumCRC32: 'y/Q5Jg==' },
    { ETag: '"00112233445566778899aabbccddeeff"' },
    { ETag: '"of another kind"', ChecksumCRC32: 'y/Q5Jg==' },
    { ETag: 'no quotes' },
  ].map((part, index) => ({ ...part, PartNumber: index + 1 }));
  assert.deepEqual(partsOf(parts.map(receiptOf)), parts);
});

const TIB = 1024 * GIB;
const SIZES = [0, 1, 100, 125, 126, 260, 1000, 5 * 1024, 39 * 1024].map((size) => size * GIB);

test('in S3 parts keep within the memory, whatever the size', () => {
  assert.equal(partsAtOnce(OBJECT_PART_BYTES_DEFAULT), OBJECT_PARTS_IN_FLIGHT_MAX);
  for (const bytes of SIZES) {
    const { partBytes, sectionParts } = planSections(bytes, S3_LIMITS);
    const held = OBJECT_PARTS_KEPT_MAX + partsAtOnce(partBytes);
    assert.ok(held * partBytes <= OBJECT_PARTS_MEMORY_BYTES, `${bytes} bytes`);
    const partsMax = S3_PARTS_MAX * (sectionParts ?? 1);
    assert.ok(partBytes * partsMax >= 1.25 * bytes, `${bytes} bytes`);
    assert.equal(sectionParts !== undefined, bytes > 125 * GIB, `${bytes} bytes`);
    if (sectionParts === undefined) continue;
    assert.ok(sectionParts <= S3_PARTS_MAX && partsAtOnce(partBytes) === OBJECT_PARTS_IN_FLIGHT_MAX);
    // What UploadPartCopy takes.
    assert.ok(sectionParts * partBytes <= 5 * GIB && sectionParts * partBytes >= GIB);
  }
  assert.equal(planSections(undefined, S3_LIMITS).partBytes, OBJECT_PART_BYTES_DEFAULT);
  assert.throws(() => planSections(40 * TIB, S3_LIMITS), failure('GK_UNSUPPORTED'));
});

test('in Azure they do up to 550 GiB, and grow beyond', () => {
  const holds = (bytes: number): number => {
    const partBytes = choosePartBytes(bytes, AZURE_LIMITS);
    assert.ok(partBytes * AZURE_LIMITS.partsMax >= 1.25 * bytes);
    return (OBJECT_PARTS_KEPT_MAX + partsAtOnce(partBytes)) * partBytes;
  };
  assert.ok(holds(550 * GIB) <= OBJECT_PARTS_MEMORY_BYTES);
  assert.ok(holds(5 * TIB) > OBJECT_PARTS_MEMORY_BYTES);
});

test('of many tasks a few are under way; the first failure ends them, and none stays under way', async () => {
  let [underWay, most, begun] = [0, 0, 0];
  const task = async (number: number): Promise<void> => {
    begun += 1;
    underWay += 1;
    most = Math.max(most, underWay);
    await new Promise((resolve) => setImmediate(resolve));
    underWay -= 1;
    if (number === 20) throw new Error('twenty');
  };
  await inParallel([1, 2, 3, 4, 5, 6, 7], 3, task);
  assert.deepEqual([begun, most, underWay], [7, 3, 0]);
  await assert.rejects(inParallel(Array.from({ length: 100 }).keys(), 4, task), /twenty/);
  assert.ok(underWay === 0 && begun < 7 + 30);
});

test('the checksum of a whole out of those of its pieces', () => {
  const pieces = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 });
  fc.assert(
    fc.property(pieces, (arrays) => {
      let combined = 0;
      for (const bytes of arrays) combined = combineCrc32(combined, crc32(bytes), bytes.length);
      assert.equal(combined, crc32(Buffer.concat(arrays)));
    }),
  );
  const large = Buffer.alloc(16 * MIB, 'large');
  assert.equal(combineCrc32(crc32(large), crc32(large), large.length), crc32(Buffer.concat([large, large])));
});

test('the first part holds the head of an artifact with the longest script of users, encrypted as well', () => {
  const overhead = (COMPRESSED_SCRIPT_BYTES_MAX / CHUNK_BYTES) * TAG_BYTES + AGE_HEADER_BYTES_MAX;
  assert.ok(OBJECT_PART_BYTES_DEFAULT > COMPRESSED_SCRIPT_BYTES_MAX + overhead + 64 * KIB);
});

test('a list that goes round in circles ends', () => {
  const pages = new Pages('s3://b/');
  assert.equal(pages.next('a'), 'a');
  assert.throws(() => pages.next('a'), failure('GK_PROTOCOL'));
  assert.throws(() => pages.next(undefined), failure('GK_PROTOCOL'));
});

test('the end of an upload waits for what is on its way', async () => {
  const flights = new Flights();
  let isOver = false;
  const flight = flights.fly(undefined, async (signal) => {
    await new Promise((resolve) => signal.addEventListener('abort', resolve));
    await new Promise((resolve) => setTimeout(resolve, 20)); // what was sent takes its time to end
    isOver = true;
  });
  assert.equal(await flights.end(), true);
  assert.equal(isOver, true);
  await flight;
  assert.equal(await flights.end(), false);
  await assert.rejects(
    flights.fly(undefined, async () => undefined),
    failure('GK_INTERRUPTED'),
  );
});

describe('secrets', () => {
  test('those that are known and those that look like one are blacked out', () => {
    const scrub = scrubber(['p/anted+1', undefined, 'abc']);
    const key = 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tqK1SZFPTOtrKBHBeksoGMGw==';
    const texts = [
      'x p/anted+1 y p%2Fanted%2B1 z',
      'https://h/c?sv=1&sig=p%2Fanted&se=2',
      `AccountName=a;AccountKey=${key};EndpointSuffix=x`,
      'Authorization: AWS4-HMAC-SHA256 Credential=planted/x, Signature=planted',
      'bearer planted',
      '{"authorization":"SharedKey a:planted"}',
      'X-Amz-Security-Token=planted&x=1',
      `the key ${key} is wrong`,
      `-----BEGIN PRIVATE KEY-----\nplanted\nplanted\n-----END PRIVATE KEY-----`,
      'token eyJhbGciOiJSUzI1NiJ9.eyJwbGFudGVkIn0.c2lnbmF0dXJl',
    ];
    for (const text of texts) {
      assert.doesNotMatch(scrub(text), /p(\/|%2F)?anted|Eby8|eyJ/, text);
      assert.match(scrub(text), /\*\*\*/);
    }
    const plain = 'could not read s3://bucket/neo4j-2026-11-21T19-51-00.backup: abc (NoSuchKey, HTTP 404)';
    assert.equal(scrub(plain), plain);
  });

  test('the words of a store are one short line, and its errors bring nothing along', () => {
    const scrub = scrubber(['planted-secret']);
    assert.equal(shortWords('two\n\u001b[31mlines', scrub), 'two [31mlines');
    assert.ok(shortWords('x'.repeat(10_000), scrub).length < 300);
    const error = Object.assign(new Error('planted-secret'), { request: { headers: 'planted-secret' } });
    const cause = cleanCause(error, scrub);
    assert.deepEqual(
      Object.keys(cause),
      ['name', 'stack'].filter((name) => Object.keys(cause).includes(name)),
    );
    assert.doesNotMatch(`${cause.message} ${cause.stack}`, /planted-secret/);
  });
});

test('what the network says is found inside of what an SDK makes of it', () => {
  const inner = Object.assign(new Error('x'), { code: 'ECONNREFUSED' });
  for (const error of [inner, new Error('y', { cause: inner }), new AggregateError([inner], 'z')]) {
    assert.equal(networkFailure(error)?.code, 'GK_UNREACHABLE');
  }
  const circle = new Error('circle');
  circle.cause = circle;
  assert.equal(networkFailure(circle), undefined);
  assert.equal(statusFailure(403, '')?.code, 'GK_NO_PERMISSION');
  assert.equal(statusFailure(507, '')?.code, 'GK_NO_SPACE');
  assert.equal(statusFailure(200, ''), undefined);
});

test('no SDK is loaded before its scheme is used', () => {
  const folder = resolve(import.meta.dirname, '../../../src/storage/objects');
  const cloud = /from '(@aws-sdk|@azure|@google-cloud|google-auth-library)/;
  const files = readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8'));
  const statements = files.flatMap((text) => text.match(/^import[^;]*;/gm) ?? []);
  assert.ok(statements.some((statement) => cloud.test(statement)));
  const loading = statements.filter(
    (statement) => cloud.test(statement) && !statement.startsWith('import type'),
  );
  assert.deepEqual(loading, []);
});
