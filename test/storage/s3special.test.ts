/** What only S3 has: checksums, object lock, a key of the customer, a clock that is wrong, TLS with an authority of one's own. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, describe, mock, test } from 'node:test';
import {
  CreateMultipartUploadCommand,
  GetObjectLegalHoldCommand,
  GetObjectRetentionCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { openObjectStore } from '../../src/storage/objects/open.ts';
import { crc32Text } from '../../src/storage/objects/s3client.ts';
import type { S3Settings } from '../../src/storage/objects/settings.ts';
import type { ObjectAttributes } from '../../src/storage/objects/store.ts';
import { makeCertificates } from '../fixtures/certificates.ts';
import { noise } from '../fixtures/random.ts';
import { failure, temporaryFolder } from '../fixtures/workspace.ts';
import type { SeenRequest } from './faults.ts';
import { HUGE, isCopy, sendHuge } from './suitehuge.ts';
import { all, keysOf, readAll } from './suitetools.ts';
import { ACCESS_KEY, SECRET_KEY, SLOW_DOWN, startVersity } from './versity.ts';

const OVER = { ifAbsent: false } as const;
const SKEW_MS = 40 * 60_000;

describe('S3 only', async () => {
  const running = await startVersity();
  if ('skip' in running) {
    test('S3 only', { skip: running.skip }, () => undefined);
    return;
  }
  const { proxy } = running;
  const s3 = running.direct.s3!;
  const client = new S3Client({
    endpoint: s3.endpoint!,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: s3.credentials!,
  });
  after(async () => {
    client.destroy();
    await running.stop();
  });
  const open = (settings: S3Settings = {}, url = 's3://backups/special') =>
    openObjectStore(url, { s3: { ...s3, endpoint: proxy.url, ...settings }, patienceMs: 1000 });

  test('each part carries a checksum, unless the store knows none; the hash of the body always', async () => {
    for (const mode of ['WHEN_SUPPORTED', 'WHEN_REQUIRED'] as const) {
      proxy.heal();
      const store = await open({ requestChecksums: mode, responseChecksums: mode });
      const upload = await store.beginUpload('checksums', {});
      await upload.putPart(1, Buffer.from('123456789'));
      assert.equal(await upload.complete(1, OVER), true);
      await store.put('checksums', Buffer.from('123456789'), OVER);
      const writes = proxy.seen.filter(({ method }) => method === 'PUT');
      assert.equal(writes.length, 2);
      for (const { headers } of writes) {
        // The check value of CRC-32.
        assert.equal(headers['x-amz-checksum-crc32'], mode === 'WHEN_SUPPORTED' ? 'y/Q5Jg==' : undefined);
        assert.equal(
          headers['x-amz-content-sha256'],
          '15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225',
        );
      }
      store.close();
    }
  });

  test('an object keeps the checksum of all its bytes, which the store is told; not where it knows none', async () => {
    for (const mode of ['WHEN_SUPPORTED', 'WHEN_REQUIRED'] as const) {
      proxy.heal();
      const store = await open({ requestChecksums: mode });
      const upload = await store.beginUpload('whole', {});
      const first = noise(upload.partBytes, 1);
      await upload.putPart(2, Buffer.from('the end'));
      await upload.putPart(1, first);
      assert.equal(await upload.complete(2, OVER), true);
      store.close();
      const isKept = mode === 'WHEN_SUPPORTED';
      const expected = isKept ? crc32Text(Buffer.concat([first, Buffer.from('the end')])) : undefined;
      const [begun, completed] = proxy.seen.filter(({ method }) => method === 'POST');
      assert.equal(begun!.headers['x-amz-checksum-type'], isKept ? 'FULL_OBJECT' : undefined);
      assert.equal(completed!.headers['x-amz-checksum-crc32'], expected);
      const target = { Bucket: 'backups', Key: 'special/whole', ChecksumMode: 'ENABLED' } as const;
      const { ChecksumType, ChecksumCRC32 } = await client.send(new HeadObjectCommand(target));
      if (isKept) assert.deepEqual([ChecksumType, ChecksumCRC32], ['FULL_OBJECT', expected]);
    }
  });

  test('a store that does not say that it keeps the checksum of all bytes is not told it', async () => {
    proxy.heal();
    const target = { Bucket: 'backups', Key: 'special/older' };
    const { UploadId } = await client.send(
      new CreateMultipartUploadCommand({ ...target, ChecksumAlgorithm: 'CRC32' }),
    );
    const body = `<InitiateMultipartUploadResult><UploadId>${UploadId}</UploadId></InitiateMultipartUploadResult>`;
    const store = await open();
    proxy.break(1, { kind: 'answer', status: 200, body }, ({ method }) => method === 'POST');
    const upload = await store.beginUpload('older', {});
    await upload.putPart(1, Buffer.from('older'));
    assert.equal(await upload.complete(1, OVER), true);
    const completed = proxy.seen.findLast(({ method }) => method === 'POST');
    assert.equal(completed!.headers['x-amz-checksum-crc32'], undefined);
    assert.equal((await readAll(store, 'older')).toString(), 'older');
    store.close();
  });

  test('a store that keeps no checksum of all bytes is asked for one of the parts', async () => {
    proxy.heal();
    const store = await open();
    const body = '<Error><Code>NotImplemented</Code></Error>';
    const isOfWhole = ({ headers }: SeenRequest): boolean => headers['x-amz-checksum-type'] !== undefined;
    proxy.break(100, { kind: 'answer', status: 501, body }, isOfWhole);
    const upload = await store.beginUpload('of parts', {});
    await upload.putPart(1, Buffer.from('of parts'));
    assert.equal(await upload.complete(1, OVER), true);
    assert.equal(proxy.hits, 1);
    const target = { Bucket: 'backups', Key: 'special/of parts', ChecksumMode: 'ENABLED' } as const;
    assert.equal((await client.send(new HeadObjectCommand(target))).ChecksumType, 'COMPOSITE');
    assert.equal((await readAll(store, 'of parts')).toString(), 'of parts');
    store.close();
  });

  test('a read is pinned by the store, and not only by looking at the answer', async () => {
    proxy.heal();
    const store = await open();
    await store.put('pinned', Buffer.from('abc'), OVER);
    const { tag } = (await store.stat('pinned'))!;
    await store.read('pinned', 1, Buffer.alloc(1), { tag });
    assert.equal(proxy.seen.at(-1)!.headers['if-match'], tag);
    assert.equal(proxy.seen.at(-1)!.headers.range, 'bytes=1-1');
    store.close();
  });

  test('a part that was damaged on the way is sent again', async () => {
    proxy.heal();
    const store = await open();
    const upload = await store.beginUpload('damaged', {});
    proxy.break(2, { kind: 'damaged' }, ({ method }) => method === 'PUT');
    await upload.putPart(1, Buffer.from('what is sent'));
    assert.ok(proxy.hits >= 1);
    proxy.heal();
    await upload.complete(1, OVER);
    const target = Buffer.alloc(12);
    await store.read('damaged', 0, target);
    assert.equal(target.toString(), 'what is sent');
    store.close();
  });

  test('object lock, legal hold, tags and type stay with the object', async () => {
    const store = await open({}, 's3://locked/folder');
    const until = new Date(Date.now() + 3_600_000);
    const attributes: ObjectAttributes = {
      contentType: 'application/x-test',
      tags: { graph: 'a b', 'x/y': '1+1=2' },
      lock: { mode: 'governance', until },
      legalHold: true,
    };
    const upload = await store.beginUpload('uploaded', attributes);
    await upload.putPart(1, Buffer.from('x'));
    assert.equal(await upload.complete(1, { ifAbsent: true }), true);
    assert.equal(await store.put('put', Buffer.from('x'), { ...attributes, ifAbsent: true }), true);
    for (const name of ['uploaded', 'put']) {
      const target = { Bucket: 'locked', Key: `folder/${name}` };
      const { Retention } = await client.send(new GetObjectRetentionCommand(target));
      assert.equal(Retention?.Mode, 'GOVERNANCE');
      assert.ok(Math.abs(Retention.RetainUntilDate!.getTime() - until.getTime()) < 1000);
      assert.equal((await client.send(new GetObjectLegalHoldCommand(target))).LegalHold?.Status, 'ON');
      const { TagSet } = await client.send(new GetObjectTaggingCommand(target));
      const tags = Object.fromEntries(TagSet!.map(({ Key, Value }) => [Key, Value]));
      assert.deepEqual(tags, attributes.tags);
      assert.equal((await client.send(new HeadObjectCommand(target))).ContentType, 'application/x-test');
    }
    store.close();
  });

  test('attributes of a huge object are its own, and not those of what it is put together of', async () => {
    proxy.heal();
    const options = { s3: { ...s3, endpoint: proxy.url }, patienceMs: 1000, uploads: HUGE };
    const store = await openObjectStore('s3://locked/huge folder', options);
    const until = new Date(Date.now() + 3_600_000);
    const attributes: ObjectAttributes = {
      contentType: 'application/x-test',
      storageClass: 'STANDARD',
      tags: { graph: 'a b' },
      lock: { mode: 'governance', until },
      legalHold: true,
    };
    const { upload, whole } = await sendHuge(store, 'ü', attributes);
    assert.equal(await upload.complete(7, { ifAbsent: true }), true);
    const target = { Bucket: 'locked', Key: 'huge folder/ü' };
    assert.equal((await client.send(new GetObjectRetentionCommand(target))).Retention?.Mode, 'GOVERNANCE');
    assert.equal((await client.send(new GetObjectLegalHoldCommand(target))).LegalHold?.Status, 'ON');
    const { TagSet } = await client.send(new GetObjectTaggingCommand(target));
    assert.deepEqual(TagSet, [{ Key: 'graph', Value: 'a b' }]);
    const { ContentType, ContentLength } = await client.send(new HeadObjectCommand(target));
    assert.deepEqual([ContentType, ContentLength], ['application/x-test', whole.length]);
    const begun = proxy.seen.filter(({ method, path }) => method === 'POST' && path.includes('?uploads'));
    const [ofWhole, ...ofSections] = begun.map(({ headers }) =>
      Object.keys(headers).filter((name) => /tagging|object-lock|storage-class/.test(name)),
    );
    assert.equal(ofWhole?.length, 5, String(ofWhole));
    assert.deepEqual(ofSections, [[], [], [], []]);
    const copies = proxy.seen.filter(({ headers }) => headers['x-amz-copy-source'] !== undefined);
    assert.equal(copies.length, 5, 'the one that is tried first, and four sections');
    for (const { headers } of copies) assert.ok(headers['x-amz-copy-source-if-match']);
    // Every version of the sections is hidden, and none is locked.
    assert.deepEqual(await keysOf(store), ['ü']);
    assert.deepEqual(await all(store.listUploads('')), []);
    store.close();
  });

  test('a store that cannot copy is refused before anything is sent; one that only wants no checksums is not', async () => {
    proxy.heal();
    const options = { s3: { ...s3, endpoint: proxy.url }, patienceMs: 1000, uploads: HUGE };
    const store = await openObjectStore('s3://backups/cannot', options);
    const unknown = {
      kind: 'answer',
      status: 501,
      body: '<Error><Code>NotImplemented</Code></Error>',
    } as const;
    proxy.break(2, unknown, isCopy);
    await assert.rejects(sendHuge(store, 'x'), failure('GK_UNSUPPORTED', /could not copy/));
    assert.ok(!proxy.seen.some(({ path }) => path.includes('partNumber=2')));
    assert.deepEqual([...(await keysOf(store)), ...(await all(store.listUploads('')))], []);
    proxy.heal();
    proxy.break(1, unknown, isCopy);
    const { upload, whole } = await sendHuge(store, 'x');
    const begun = proxy.seen.filter(({ path }) => /\/x\?uploads/.test(path)).slice(0, 2);
    const algorithms = begun.map(({ headers }) => headers['x-amz-checksum-algorithm']);
    assert.deepEqual(algorithms, ['CRC32', undefined]);
    assert.equal(await upload.complete(7, { ifAbsent: true }), true);
    assert.ok((await readAll(store, 'x')).equals(whole));
    store.close();
  });

  test('a store that copied other bytes than were sent is noticed before anything is published', async () => {
    proxy.heal();
    const options = { s3: { ...s3, endpoint: proxy.url }, patienceMs: 1000, uploads: HUGE };
    const store = await openObjectStore('s3://backups/miscopied', options);
    const { upload } = await sendHuge(store, 'x', {});
    const body =
      '<CopyPartResult><ETag>"00112233445566778899aabbccddeeff"</ETag><ChecksumCRC32>AAAAAA==</ChecksumCRC32></CopyPartResult>';
    proxy.break(1, { kind: 'answer', status: 200, body }, isCopy);
    await assert.rejects(upload.complete(7, { ifAbsent: true }), failure('GK_IO', /copied other bytes/));
    await upload.abort();
    assert.deepEqual([...(await keysOf(store)), ...(await all(store.listUploads('')))], []);
    store.close();
    proxy.heal();
  });

  test('encryption and storage class are asked for with every write that begins an object', async () => {
    proxy.heal();
    const key = Buffer.alloc(32, 7);
    const store = await open({ customerKey: key });
    const refused = { kind: 'answer', status: 400, body: '<Error><Code>X</Code></Error>' } as const;
    const storageClass = 'GLACIER_IR';
    const ask = async (attributes: ObjectAttributes): Promise<void> => {
      proxy.break(5, refused); // uploads are asked for twice, the second time without the checksum of the whole
      await assert.rejects(store.put('x', Buffer.from('x'), { ...attributes, ...OVER }));
      await assert.rejects(store.beginUpload('x', attributes));
      await assert.rejects(store.stat('x'));
      await assert.rejects(store.read('x', 0, Buffer.alloc(1)));
    };
    await ask({ storageClass, encryption: { by: 'kms', keyId: 'key-1' } });
    const [put, begin, again, ...reads] = proxy.seen.splice(0);
    for (const { headers } of [put!, begin!, again!]) {
      assert.equal(headers['x-amz-storage-class'], storageClass);
      assert.equal(headers['x-amz-server-side-encryption'], 'aws:kms');
      assert.equal(headers['x-amz-server-side-encryption-aws-kms-key-id'], 'key-1');
    }
    assert.equal(reads.length, 2);
    for (const { headers } of [put!, begin!, again!, ...reads]) {
      assert.equal(headers['x-amz-server-side-encryption-customer-key'], key.toString('base64'));
    }
    await ask({ encryption: { by: 'store' } });
    assert.equal(proxy.seen[0]!.headers['x-amz-server-side-encryption'], 'AES256');
    const scope = { encryption: { by: 'scope', scope: 's' } } as const;
    await assert.rejects(store.beginUpload('x', scope), failure('GK_UNSUPPORTED', /scopes/));
    await assert.rejects(open({ customerKey: Buffer.alloc(16) }), failure('GK_CONFIG', /32 bytes/));
    proxy.heal();
    store.close();
  });

  test('a clock that is wrong is put right by what the store says; if it cannot be, that is told', async () => {
    const store = await open({ endpoint: s3.endpoint! });
    mock.timers.enable({ apis: ['Date'], now: Date.now() + SKEW_MS });
    try {
      assert.equal(await store.put('skewed', Buffer.from('x'), OVER), true);
    } finally {
      mock.timers.reset();
      store.close();
    }
    proxy.heal();
    const body = '<Error><Code>RequestTimeTooSkewed</Code><Message>x</Message></Error>';
    proxy.break(1000, { kind: 'answer', status: 403, body });
    const other = await open();
    await assert.rejects(other.put('x', Buffer.from('x'), OVER), failure('GK_CONFIG', /clock/));
    proxy.heal();
    other.close();
  });

  test('endpoint, region and credentials come from the environment when nobody gives them', async () => {
    proxy.heal();
    const names = [
      'AWS_ENDPOINT_URL_S3',
      'AWS_REGION',
      'AWS_ACCESS_KEY_ID',
      'AWS_SECRET_ACCESS_KEY',
    ] as const;
    const before = names.map((name) => process.env[name]);
    const values = [proxy.url, 'eu-test-9', ACCESS_KEY, SECRET_KEY];
    for (const [index, name] of names.entries()) process.env[name] = values[index]!;
    try {
      const store = await openObjectStore('s3://backups/environment');
      proxy.break(1, { kind: 'answer', status: 400, body: '<Error><Code>X</Code></Error>' });
      await assert.rejects(store.put('x', Buffer.from('x'), OVER), failure('GK_IO'));
      assert.match(proxy.seen[0]!.path, /^\/backups\/environment\/x/);
      assert.match(proxy.seen[0]!.headers.authorization!, /\/eu-test-9\/s3\//);
      store.close();
    } finally {
      for (const [index, name] of names.entries()) {
        if (before[index] === undefined) delete process.env[name];
        else process.env[name] = before[index];
      }
      proxy.heal();
    }
  });

  test('an endpoint that is none, or has a password in it', async () => {
    for (const endpoint of [
      's3.example.com',
      'ftp://x',
      'http://user:planted@host',
      'https://h/?sig=planted',
    ]) {
      await assert.rejects(open({ endpoint }), (error) => {
        assert.doesNotMatch(String(error), /planted/);
        return failure('GK_CONFIG', /endpoint/)(error);
      });
    }
  });

  test('TLS: an unknown authority is refused, a given one is trusted, and the check can be left out', async (context) => {
    const folder = temporaryFolder(context);
    const { authority, server } = await makeCertificates(folder);
    const listener = createServer(
      { key: readFileSync(server.key), cert: readFileSync(server.certificate) },
      (_request, response) => {
        response.writeHead(503);
        response.end(SLOW_DOWN);
      },
    );
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
    context.after(() => {
      listener.closeAllConnections();
      listener.close();
    });
    const endpoint = `https://localhost:${(listener.address() as AddressInfo).port}`;
    const ask = async (tls: { authorityFile?: string; skipVerify?: boolean }): Promise<unknown> => {
      const store = await openObjectStore('s3://backups', { s3: { ...s3, endpoint }, tls, patienceMs: 1 });
      return store.put('x', Buffer.from('x'), OVER).finally(() => store.close());
    };
    await assert.rejects(ask({}), failure('GK_CERTIFICATE', /not trusted/));
    await assert.rejects(ask({ authorityFile: authority.certificate }), failure('GK_SERVER_BUSY'));
    await assert.rejects(ask({ skipVerify: true }), failure('GK_SERVER_BUSY'));
    const empty = join(folder, 'empty.pem');
    writeFileSync(empty, 'nothing');
    await assert.rejects(ask({ authorityFile: empty }), failure('GK_CONFIG', /no certificate/));
    await assert.rejects(ask({ authorityFile: join(folder, 'none.pem') }), failure('GK_NOT_FOUND'));
  });
});
