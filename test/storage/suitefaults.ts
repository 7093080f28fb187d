/** The part of the suite of object stores in which something is wrong: settings, the store, or the way to it. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { GraphkeepError } from '../../src/errors.ts';
import { MIB } from '../../src/limits.ts';
import { openObjectStore } from '../../src/storage/objects/open.ts';
import { failure } from '../fixtures/workspace.ts';
import { FaultProxy, type SeenRequest } from './faults.ts';
import type { RunningStore } from './servers.ts';
import { ABSENT, all, keysOf, OVER, open, PATIENCE_MS, partOf, readAll } from './suitetools.ts';

export function wrongSettings(running: RunningStore): void {
  /** Nothing that is thrown, nor what hangs on it, repeats a secret. */
  const assertNoSecret = (error: unknown): void => {
    const text = inspect(error, { depth: 12, showHidden: true, maxStringLength: null });
    for (const secret of [...running.secrets, ...running.wrongSecrets])
      assert.ok(!text.includes(secret), text.slice(0, 500));
  };

  test('wrong credentials', async (context) => {
    const settings = running.wrongCredentials;
    if (settings === undefined) return context.skip(`${running.url} asks for no credentials`);
    using opened = await open(running, settings);
    const { store } = opened;
    const attempts: (() => Promise<unknown>)[] = [
      () => store.stat('x'),
      () => store.put('x', Buffer.from('x'), OVER),
      () => all(store.list('')),
      () => store.beginUpload('x', {}).then((upload) => upload.putPart(1, Buffer.from('x'))),
      () => store.read('x', 0, Buffer.alloc(1)),
      () => store.remove('x'),
    ];
    for (const attempt of attempts) {
      await assert.rejects(attempt, (error) => {
        assertNoSecret(error);
        return failure('GK_NO_PERMISSION', /could not/)(error);
      });
    }
  });

  test('a bucket that is not there', async () => {
    const settings = { patienceMs: PATIENCE_MS, ...running.direct };
    const store = await openObjectStore(`${running.missingBucketUrl}/x`, settings);
    const attempts: (() => Promise<unknown>)[] = [
      () => store.stat('x'),
      () => store.put('x', Buffer.from('x'), OVER),
      () => all(store.list('')),
      () => store.beginUpload('x', {}).then((upload) => upload.putPart(1, Buffer.from('x'))),
    ];
    for (const attempt of attempts) {
      await assert.rejects(attempt, (error) => {
        assertNoSecret(error);
        return failure('GK_NOT_FOUND', /no such (bucket|container)/)(error);
      });
    }
    store.close();
  });

  test('no secret in an error of any kind', async () => {
    using opened = await open(running, { ...running.throughProxy, patienceMs: 1 });
    const { store } = opened;
    const page = `<Error><Code>X</Code><Message>${running.secrets.join(' ')}</Message></Error>`;
    const faults = [400, 403, 404, 409, 412, 416, 500, 501, 503].map(
      (status) => ({ kind: 'answer', status, body: page }) as const,
    );
    for (const fault of [...faults, { kind: 'cut' } as const]) {
      running.proxy.heal();
      running.proxy.break(1000, fault);
      for (const attempt of [
        () => store.put('x', Buffer.from('x'), OVER),
        () => store.read('x', 0, Buffer.alloc(1)),
        () => all(store.list('')),
      ]) {
        const error = await attempt().then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        if (error !== undefined) assert.ok(error instanceof GraphkeepError, String(error));
        assertNoSecret(error);
      }
    }
    running.proxy.heal();
  });
}

export function faults(running: RunningStore): void {
  const { proxy, slowDown } = running;
  const isWrite = ({ method }: SeenRequest): boolean => method === 'PUT' || method === 'POST';

  test('a storm of 503 passes', async () => {
    using opened = await open(running, running.throughProxy);
    const { store } = opened;
    proxy.heal();
    await store.put('before', Buffer.from('x'), ABSENT);
    proxy.break(6, { kind: 'answer', ...slowDown });
    assert.equal(await store.put('storm', Buffer.from('storm'), ABSENT), true);
    proxy.break(4, { kind: 'answer', status: 503, body: '<html>busy</html>', type: 'text/html' });
    assert.equal((await readAll(store, 'storm')).toString(), 'storm');
    proxy.break(4, { kind: 'answer', status: 500, body: '' });
    assert.deepEqual(await keysOf(store), ['before', 'storm']);
    assert.ok(proxy.hits === 14, `${proxy.hits} of the requests met the storm`);
    proxy.heal();
  });

  test('a storm that does not pass ends with what it was', async () => {
    using opened = await open(running, { ...running.throughProxy, patienceMs: 500 });
    proxy.heal();
    proxy.break(10_000, { kind: 'answer', ...slowDown });
    await assert.rejects(opened.store.put('x', Buffer.from('x'), OVER), failure('GK_SERVER_BUSY', /busy/));
    proxy.heal();
  });

  test('a connection on which nothing comes any more is given up and made again', async () => {
    using opened = await open(running, { ...running.throughProxy, silenceMs: 300 });
    const { store } = opened;
    proxy.heal();
    proxy.break(2, { kind: 'stall' });
    assert.equal(await store.put('stalled', Buffer.from('x'), ABSENT), true);
    proxy.break(1, { kind: 'stall' });
    assert.equal((await readAll(store, 'stalled')).toString(), 'x');
    assert.equal(proxy.hits, 3);
    proxy.heal();
  });

  test('connections that are cut are made again, and nothing is lost or doubled', async () => {
    using opened = await open(running, running.throughProxy);
    const { store } = opened;
    proxy.heal();
    const bytes = randomBytes(MIB);
    proxy.break(4, { kind: 'cut' }, isWrite);
    assert.equal(await store.put('cut', bytes, ABSENT), true);
    proxy.break(3, { kind: 'torn', afterBytes: 200_000 }, ({ method }) => method === 'GET');
    assert.ok((await readAll(store, 'cut')).equals(bytes));
    assert.equal(proxy.hits, 7);
    const upload = await store.beginUpload('cut-parts', {});
    proxy.break(4, { kind: 'cut' }, isWrite);
    await upload.putPart(1, partOf(upload, 1));
    proxy.break(2, { kind: 'lost' }, isWrite);
    await upload.putPart(2, Buffer.from('end'));
    proxy.break(4, { kind: 'cut' }, isWrite);
    assert.equal(await upload.complete(2, ABSENT), true);
    const expected = Buffer.concat([partOf(upload, 1), Buffer.from('end')]);
    assert.ok((await readAll(store, 'cut-parts')).equals(expected));
    assert.deepEqual(await all(store.listUploads('')), []);
    proxy.heal();
  });

  test('a write whose answer is lost is known again as our own', async () => {
    using opened = await open(running, running.throughProxy);
    const { store } = opened;
    proxy.heal();
    for (const times of [1, 2]) {
      proxy.break(times, { kind: 'lost' }, isWrite);
      assert.equal(await store.put(`lost-${times}`, Buffer.from('mine'), ABSENT), true);
      assert.equal(await store.put(`lost-${times}`, Buffer.from('not mine'), ABSENT), false);
    }
    const upload = await store.beginUpload('lost-upload', {});
    await upload.putPart(1, Buffer.from('whole'));
    proxy.break(1, { kind: 'lost' }, isWrite);
    assert.equal(await upload.complete(1, ABSENT), true);
    assert.equal((await readAll(store, 'lost-upload')).toString(), 'whole');
    assert.deepEqual(await keysOf(store), ['lost-1', 'lost-2', 'lost-upload']);
    proxy.heal();
  });

  test('an answer that is of no store is never taken for one', async () => {
    using opened = await open(running, running.throughProxy);
    const { store } = opened;
    proxy.heal();
    proxy.break(1000, { kind: 'answer', status: 200, body: '<html>log in</html>', type: 'text/html' });
    const attempts: (() => Promise<unknown>)[] = [
      () => all(store.list('')),
      () => store.stat('x'),
      () => store.put('x', Buffer.from('x'), OVER),
      () => store.read('x', 0, Buffer.alloc(5)),
      () => all(store.listUploads('')),
      () => store.beginUpload('x', {}).then((upload) => upload.putPart(1, Buffer.from('x'))),
    ];
    for (const attempt of attempts) await assert.rejects(attempt, failure('GK_PROTOCOL', /no object store/));
    proxy.heal();
  });

  test('nobody listens', async () => {
    const stopped = await FaultProxy.start('http://127.0.0.1:1');
    const settings = running.at(stopped.url);
    await stopped.stop();
    using opened = await open(running, settings);
    const startMs = performance.now();
    await assert.rejects(opened.store.stat('x'), failure('GK_UNREACHABLE', /nothing listens/));
    assert.ok(performance.now() - startMs < PATIENCE_MS, 'a wrong port is told at once');
    using unknown = await open(running, running.at('http://no-such-host.invalid:9'));
    await assert.rejects(unknown.store.stat('x'), failure('GK_HOST_UNKNOWN', /cannot be resolved/));
  });
}
