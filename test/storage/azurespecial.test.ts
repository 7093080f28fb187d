/** What only Azure has: four ways to say who we are, blocks that cannot be thrown away, how a blob is to be kept. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  BlobServiceClient,
  ContainerSASPermissions,
  generateBlobSASQueryParameters,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import { openObjectStore } from '../../src/storage/objects/open.ts';
import type { AzureSettings } from '../../src/storage/objects/settings.ts';
import { failure } from '../fixtures/workspace.ts';
import { ACCOUNT, ACCOUNT_KEY, startAzurite } from './azurite.ts';
import { describeWith } from './suitetools.ts';

const OVER = { ifAbsent: false } as const;
const ABSENT = { ifAbsent: true } as const;
const HOUR_MS = 3_600_000;

describeWith('Azure only', startAzurite, (running) => {
  const { proxy } = running;
  const endpoint = running.direct.azure!.endpoint!;
  const credential = new StorageSharedKeyCredential(ACCOUNT, ACCOUNT_KEY);
  const container = new BlobServiceClient(endpoint, credential).getContainerClient('backups');
  const open = (azure: AzureSettings, folder = 'special') =>
    openObjectStore(`azb://${ACCOUNT}/backups/${folder}`, { azure, patienceMs: 1000 });
  const sasToken = (permissions: string, expiresOn = new Date(Date.now() + HOUR_MS)): string =>
    generateBlobSASQueryParameters(
      { containerName: 'backups', permissions: ContainerSASPermissions.parse(permissions), expiresOn },
      credential,
    ).toString();
  const connectionString = `DefaultEndpointsProtocol=http;AccountName=${ACCOUNT};AccountKey=${ACCOUNT_KEY};BlobEndpoint=${endpoint};`;

  test('a token (SAS) and a connection string', async () => {
    for (const settings of [{ endpoint, sasToken: `?${sasToken('racwdl')}` }, { connectionString }]) {
      const store = await open(settings);
      const upload = await store.beginUpload('who', {});
      await upload.putPart(1, Buffer.from('x'));
      assert.equal(await upload.complete(1, OVER), true);
      assert.equal((await store.stat('who'))?.bytes, 1);
      for await (const { key } of store.list('')) assert.equal(key, 'who');
      store.close();
    }
  });

  test('a token that may not, and one that has expired, are told without the token', async () => {
    for (const token of [sasToken('r'), sasToken('racwdl', new Date(Date.now() - HOUR_MS))]) {
      const store = await open({ endpoint, sasToken: token });
      const signature = decodeURIComponent(/sig=([^&]+)/.exec(token)![1]!);
      await assert.rejects(store.put('x', Buffer.from('x'), OVER), (error) => {
        assert.ok(error instanceof Error && !`${error.stack} ${error.cause}`.includes(signature));
        return failure('GK_NO_PERMISSION')(error);
      });
      store.close();
    }
  });

  test('credentials come from the environment when nobody gives them', async () => {
    const variables = {
      AZURE_STORAGE_CONNECTION_STRING: connectionString,
      AZURE_STORAGE_KEY: ACCOUNT_KEY,
      AZURE_STORAGE_SAS_TOKEN: sasToken('racwdl'),
    };
    for (const [name, value] of Object.entries(variables)) {
      process.env[name] = value;
      try {
        const store = await open({ endpoint });
        assert.equal(await store.put('environment', Buffer.from('x'), OVER), true, name);
        store.close();
      } finally {
        delete process.env[name];
      }
    }
  });

  test('credentials that are none are refused without repeating them', async () => {
    const planted = 'planted secret!';
    for (const azure of [{ accountKey: planted }, { sasToken: planted }, { connectionString: planted }]) {
      await assert.rejects(open({ endpoint, ...azure }), (error) => {
        assert.doesNotMatch(String(error), /planted/);
        return failure('GK_CONFIG')(error);
      });
    }
    const other = connectionString.replace(`AccountName=${ACCOUNT}`, 'AccountName=another');
    const url = 'azb://myaccount/backups';
    await assert.rejects(
      openObjectStore(url, { azure: { connectionString: other } }),
      failure('GK_CONFIG', /the URL names myaccount/),
    );
  });

  test('without any credentials, the default chain is asked and says that it found none', async () => {
    const store = await openObjectStore('azb://no-such-account-of-graphkeep/backups', { patienceMs: 1 });
    await assert.rejects(store.stat('x'), failure('GK_NO_PERMISSION', /no credentials/));
    store.close();
  });

  test('how the blob is to be kept is said when it appears', async () => {
    proxy.heal();
    const until = new Date('2031-02-03T04:05:06Z');
    const store = await openObjectStore(`azb://${ACCOUNT}/backups/kept`, running.throughProxy);
    const upload = await store.beginUpload('kept', {
      contentType: 'application/x-test',
      storageClass: 'Cool',
      tags: { graph: 'movies' },
      encryption: { by: 'scope', scope: 'my-scope' },
      lock: { mode: 'governance', until },
      legalHold: true,
    });
    await upload.putPart(1, Buffer.from('x'));
    await upload.complete(1, ABSENT).catch(() => undefined); // Azurite need not know all of it
    const [part, commit] = proxy.seen.filter(({ method }) => method === 'PUT');
    assert.equal(part!.headers['x-ms-encryption-scope'], 'my-scope');
    assert.match(String(part!.headers['content-md5']), /^[\w+/]{22}==$/);
    assert.equal(commit!.headers['x-ms-encryption-scope'], 'my-scope');
    assert.equal(commit!.headers['x-ms-access-tier'], 'Cool');
    assert.equal(commit!.headers['x-ms-tags'], 'graph=movies');
    assert.equal(commit!.headers['x-ms-blob-content-type'], 'application/x-test');
    assert.equal(commit!.headers['x-ms-immutability-policy-mode']?.toString().toLowerCase(), 'unlocked');
    assert.equal(commit!.headers['x-ms-immutability-policy-until-date'], until.toUTCString());
    assert.equal(commit!.headers['x-ms-legal-hold'], 'true');
    assert.equal(commit!.headers['if-none-match'], '*');
    const kms = { encryption: { by: 'kms' } } as const;
    await assert.rejects(store.beginUpload('x', kms), failure('GK_UNSUPPORTED', /KMS/));
    proxy.heal();
    store.close();
  });

  test('a block that was damaged on the way is sent again', async () => {
    proxy.heal();
    const store = await openObjectStore(`azb://${ACCOUNT}/backups/damaged`, running.throughProxy);
    const upload = await store.beginUpload('damaged', {});
    proxy.break(1, { kind: 'damaged' }, ({ method }) => method === 'PUT');
    await upload.putPart(1, Buffer.from('what is sent'));
    assert.equal(proxy.hits, 1);
    proxy.heal();
    assert.equal(await upload.complete(1, ABSENT), true);
    const target = Buffer.alloc(12);
    await store.read('damaged', 0, target);
    assert.equal(target.toString(), 'what is sent');
    proxy.break(1, { kind: 'damaged' }, ({ method }) => method === 'PUT');
    assert.equal(await store.put('damaged', Buffer.from('in one piece'), OVER), true);
    await store.read('damaged', 0, target);
    assert.equal(target.toString(), 'in one piece');
    proxy.heal();
    store.close();
  });

  test('what an abort that was killed left is never an object, is found, and gives way', async () => {
    const store = await open({ endpoint, accountKey: ACCOUNT_KEY }, 'tombs');
    const leave = (name: string) =>
      container
        .getBlockBlobClient(`tombs/${name}`)
        .commitBlockList([], { metadata: { graphkeepaborted: 'gk0123456789ab0123456789ab' } });
    const keys = async (): Promise<string[]> => {
      const found: string[] = [];
      for await (const { key } of store.list('')) found.push(key);
      return found;
    };
    await Promise.all(['left', 'taken'].map(leave));
    assert.equal(await store.stat('left'), undefined);
    assert.deepEqual(await keys(), []);
    for await (const { key, id } of store.listUploads('left')) await store.abortUpload(key, id);
    for await (const { key } of store.listUploads('left')) assert.fail(key);
    assert.equal(await store.put('taken', Buffer.from('mine'), ABSENT), true);
    assert.deepEqual(await keys(), ['taken']);
    store.close();
  });

  test('of two uploads to one key, aborting one leaves the other alive', async () => {
    const store = await open({ endpoint, accountKey: ACCOUNT_KEY }, 'twins');
    const [left, right] = await Promise.all([store.beginUpload('twin', {}), store.beginUpload('twin', {})]);
    await left.putPart(1, Buffer.from('left'));
    await right.putPart(1, Buffer.from('right'));
    await left.abort();
    assert.equal(await right.complete(1, ABSENT), true);
    assert.equal((await store.stat('twin'))?.bytes, 5);
    store.close();
  });
});
