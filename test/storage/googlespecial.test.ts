/** What only Google's store has: tokens, and how the whole is to be kept. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { openObjectStore } from '../../src/storage/objects/open.ts';
import { inParallel } from '../../src/storage/parallel.ts';
import { noise } from '../fixtures/random.ts';
import { failure } from '../fixtures/workspace.ts';
import { startFakeGcs } from './fakegcs.ts';
import { all, describeWith, keysOf, open, readAll } from './suitetools.ts';
import { POD_TOKEN } from './tokens.ts';

const OVER = { ifAbsent: false } as const;

describeWith('Google only', startFakeGcs, (running) => {
  const { proxy, tokens } = running;

  test('more parts than two steps put together, and more than one page of a list shows to be removed', async () => {
    using opened = await open(running, { ...running.direct, uploads: { partBytesMin: 1024 } });
    const { store } = opened;
    const upload = await store.beginUpload('many', {});
    const numbers = Array.from({ length: 32 * 32 + 2 }, (_, index) => index + 1);
    await inParallel(numbers, 16, (number) => upload.putPart(number, noise(1024, number)));
    assert.equal(await upload.complete(numbers.length, { ifAbsent: true }), true);
    const whole = Buffer.concat(numbers.map((number) => noise(1024, number)));
    assert.ok((await readAll(store, 'many')).equals(whole));
    assert.deepEqual([...(await keysOf(store)), ...(await all(store.listUploads('')))], ['many']);
  });

  test('how the whole is to be kept is said when it is put together; parts carry no lock', async () => {
    proxy.heal();
    const until = new Date('2031-02-03T04:05:06Z');
    const store = await openObjectStore('gs://backups/kept', running.throughProxy);
    const bodies: string[] = [];
    proxy.onBody = (body) => bodies.push(body.toString('latin1'));
    const upload = await store.beginUpload('kept', {
      contentType: 'application/x-test',
      storageClass: 'NEARLINE',
      tags: { graph: 'movies' },
      encryption: { by: 'kms', keyId: 'projects/p/locations/l/keyRings/r/cryptoKeys/k' },
      lock: { mode: 'compliance', until },
      legalHold: true,
    });
    await upload.putPart(1, Buffer.from('x'));
    assert.equal(await upload.complete(1, { ifAbsent: true }), true);
    proxy.onBody = undefined;
    const writes = proxy.seen.filter(({ method }) => method === 'POST');
    assert.equal(writes.length, 2);
    for (const { path } of writes) assert.match(path, /kmsKeyName=projects%2Fp%2F/);
    assert.match(writes[1]!.path, /\/compose\?ifGenerationMatch=0/);
    const [part, compose] = bodies.filter((body) => body !== '');
    assert.match(part!, /"storageClass":"NEARLINE"/);
    assert.doesNotMatch(part!, /retention|temporaryHold/);
    const { destination, sourceObjects } = JSON.parse(compose!) as {
      destination: object;
      sourceObjects: object[];
    };
    assert.deepEqual(destination, {
      contentType: 'application/x-test',
      metadata: { graph: 'movies', graphkeepwrite: upload.id },
      storageClass: 'NEARLINE',
      retention: { mode: 'Locked', retainUntilTime: until.toISOString() },
      temporaryHold: true,
    });
    assert.equal(sourceObjects.length, 1);
    assert.match(JSON.stringify(sourceObjects), /"generation":"\d+"/);
    const headers = { authorization: `Bearer ${tokens.token}` };
    const list = await fetch(`${running.direct.google!.endpoint}/storage/v1/b/backups/o?prefix=kept/`, {
      headers,
    });
    const { items } = (await list.json()) as { items: { name: string }[] };
    const names = items.map(({ name }) => name);
    assert.deepEqual(names, ['kept/kept'], 'no part is left');
    const scope = { encryption: { by: 'scope', scope: 's' } } as const;
    await assert.rejects(store.beginUpload('x', scope), failure('GK_UNSUPPORTED', /scopes/));
    store.close();
  });

  test('a part that was damaged on the way is sent again', async () => {
    proxy.heal();
    const store = await openObjectStore('gs://backups/damaged', running.throughProxy);
    proxy.break(1, { kind: 'flipped', text: 'what is sent' });
    assert.equal(await store.put('damaged', Buffer.from('what is sent'), OVER), true);
    assert.equal(proxy.hits, 1);
    const target = Buffer.alloc(12);
    await store.read('damaged', 0, target);
    assert.equal(target.toString(), 'what is sent');
    proxy.heal();
    store.close();
  });

  test('tokens are asked for once, and one that is refused is told without it', async () => {
    const asked = tokens.asked();
    const store = await openObjectStore('gs://backups/tokens', running.direct);
    await store.put('x', Buffer.from('x'), OVER);
    await store.stat('x');
    assert.equal(tokens.asked(), asked + 1);
    store.close();
    process.env.GOOGLE_APPLICATION_CREDENTIALS = tokens.refusedKeyFile;
    try {
      const refused = await openObjectStore('gs://backups/tokens', running.direct);
      await assert.rejects(refused.stat('x'), (error) => {
        assert.ok(!inspect(error, { depth: 12, showHidden: true }).includes(POD_TOKEN));
        return failure('GK_NO_PERMISSION', /credentials/)(error);
      });
      process.env.GOOGLE_APPLICATION_CREDENTIALS = `${tokens.keyFile}.none`;
      const missing = await openObjectStore('gs://backups/tokens', running.direct);
      await assert.rejects(missing.stat('x'), failure('GK_NO_PERMISSION', /no credentials/));
    } finally {
      process.env.GOOGLE_APPLICATION_CREDENTIALS = tokens.keyFile;
    }
  });

  test('the emulator that the environment names needs no credentials', async () => {
    process.env.STORAGE_EMULATOR_HOST = new URL(proxy.url).host;
    proxy.heal();
    try {
      const store = await openObjectStore('gs://backups/emulator');
      await assert.rejects(store.put('x', Buffer.from('x'), OVER), failure('GK_NO_PERMISSION'));
      assert.equal(proxy.seen[0]!.headers.authorization, undefined);
      store.close();
    } finally {
      delete process.env.STORAGE_EMULATOR_HOST;
    }
  });
});
