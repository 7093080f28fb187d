/** What every object store must do, whoever made it: one suite for all drivers, each against a real server. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { MIB } from '../../src/limits.ts';
import { probeIfAbsent } from '../../src/storage/objects/probe.ts';
import { failure } from '../fixtures/workspace.ts';
import type { RunningStore } from './servers.ts';
import { faults, wrongSettings } from './suitefaults.ts';
import { hugeObjects } from './suitehuge.ts';
import { ABSENT, all, describeWith, keysOf, OVER, open, partOf, readAll } from './suitetools.ts';

const MANY_KEYS = 1050;
const KEYS_AT_ONCE = 16;
const LARGE_BYTES = 300 * MIB;
/** Four parts of 9 MiB on their way, their copies in sockets, and what the collector has not seen yet. */
const GROWTH_BYTES_MAX = 160 * MIB;

export function objectStoreSuite(name: string, start: () => Promise<RunningStore | { skip: string }>): void {
  describeWith(name, start, (running) => {
    smallObjects(running);
    listings(running);
    uploads(running);
    leftovers(running);
    hugeObjects(running);
    wrongSettings(running);
    faults(running);
  });
}

function smallObjects(running: RunningStore): void {
  test('ranges of an object', async () => {
    using opened = await open(running, running.direct);
    const { store } = opened;
    const bytes = randomBytes(100_000);
    assert.equal(await store.put('ranges', bytes, ABSENT), true);
    const facts = await store.stat('ranges');
    assert.equal(facts?.bytes, bytes.length);
    assert.ok(Math.abs(facts.modified.getTime() - Date.now()) < 3_600_000);
    for (const [start, length] of [
      [0, 1],
      [0, 100_000],
      [99_999, 1],
      [1234, 5678],
      [50_000, 0],
    ] as const) {
      const target = Buffer.alloc(length);
      await store.read('ranges', start, target, { tag: facts.tag });
      assert.ok(target.equals(bytes.subarray(start, start + length)), `${start}+${length}`);
    }
    await assert.rejects(store.read('ranges', 99_999, Buffer.alloc(2)), failure('GK_IO', /ends before/));
    await assert.rejects(store.read('ranges', 100_000, Buffer.alloc(1)), failure('GK_IO', /ends before/));
    await assert.rejects(store.read('nothing', 0, Buffer.alloc(1)), failure('GK_NOT_FOUND', /nothing/));
  });

  test('an object is written once, unless it may be replaced', async () => {
    using opened = await open(running, running.direct);
    const { store } = opened;
    assert.equal(await store.put('once', Buffer.from('first'), ABSENT), true);
    assert.equal(await store.put('once', Buffer.from('second'), ABSENT), false);
    assert.equal((await readAll(store, 'once')).toString(), 'first');
    assert.equal(await store.put('once', Buffer.from('third'), OVER), true);
    assert.equal((await readAll(store, 'once')).toString(), 'third');
    await store.remove('once');
    assert.equal(await store.stat('once'), undefined);
    await store.remove('once');
    assert.equal(await probeIfAbsent(store), true);
    assert.deepEqual(await keysOf(store), []);
  });

  test('of several writers that race for a key, one gets it', async () => {
    using opened = await open(running, running.direct);
    const { store } = opened;
    const writers = Array.from({ length: 8 }, (_, number) => Buffer.from(`writer ${number}`));
    const won = await Promise.all(writers.map((bytes) => store.put('race', bytes, ABSENT)));
    assert.equal(won.filter((isMine) => isMine).length, 1);
    assert.ok((await readAll(store, 'race')).equals(writers[won.indexOf(true)]!));
  });

  test('an empty object', async () => {
    using opened = await open(running, running.direct);
    const { store } = opened;
    assert.equal(await store.put('empty', Buffer.alloc(0), ABSENT), true);
    assert.equal((await store.stat('empty'))?.bytes, 0);
    await store.read('empty', 0, Buffer.alloc(0));
    const upload = await store.beginUpload('empty-upload', {});
    assert.equal(await upload.complete(0, ABSENT), true);
    assert.equal((await store.stat('empty-upload'))?.bytes, 0);
    const again = await store.beginUpload('empty-upload', {});
    assert.equal(await again.complete(0, ABSENT), false);
    assert.deepEqual(await keysOf(store), ['empty', 'empty-upload']);
    assert.deepEqual(await all(store.listUploads('')), []);
  });

  test('odd names of objects, and those that are refused', async () => {
    using opened = await open(running, running.direct);
    const { store } = opened;
    const odd = [
      'two words',
      'a+b',
      '100%',
      'ünïcödé-日本-🙂',
      'a..b',
      '..hidden',
      'q?x=1&y#z',
      "it's",
      'd/e f/g',
    ];
    for (const key of odd) assert.equal(await store.put(key, Buffer.from(key), ABSENT), true, key);
    assert.deepEqual(await keysOf(store), odd.toSorted());
    for (const key of odd) assert.equal((await readAll(store, key)).toString(), key);
    const upload = await store.beginUpload('parts of ü+%', {});
    await upload.putPart(1, Buffer.from('x'));
    assert.equal(await upload.complete(1, ABSENT), true);
    assert.equal((await readAll(store, 'parts of ü+%')).toString(), 'x');
    for (const key of ['..', '../up', 'a/../b', 'a/./b', '/a', 'a//b', 'a/', '', 'a\nb', 'a\\b', '\ud800']) {
      await assert.rejects(store.put(key, Buffer.from('x'), OVER), failure('GK_USAGE', /key/), key);
      await assert.rejects(store.stat(key), failure('GK_USAGE', /key/), key);
    }
  });

  test('an object that changes while it is read', async () => {
    using opened = await open(running, running.throughProxy);
    const { store } = opened;
    const [before, after] = [randomBytes(MIB), randomBytes(MIB)];
    await store.put('changed', before, OVER);
    const facts = await store.stat('changed');
    await store.put('changed', after, OVER);
    const target = Buffer.alloc(1000);
    await assert.rejects(
      store.read('changed', 0, target, { tag: facts!.tag }),
      failure('GK_SOURCE_MOVED', /changed/),
    );
    await store.put('changed', before, OVER);
    // Cut in the middle, and another object when it is asked for the rest: without a tag from the caller.
    running.proxy.heal();
    using other = await open(running, running.direct, store.url.split('/').at(-2)!);
    const replace = (): Promise<boolean> => other.store.put('changed', after, OVER);
    const torn = { kind: 'torn', afterBytes: 300_000, before: replace } as const;
    running.proxy.break(1, torn, ({ method }) => method === 'GET');
    const reading = store.read('changed', 0, Buffer.alloc(MIB));
    await assert.rejects(reading, failure('GK_SOURCE_MOVED', /changed/));
    running.proxy.heal();
  });
}

function listings(running: RunningStore): void {
  test('a list of many pages', async () => {
    using opened = await open(running, running.direct);
    const { store } = opened;
    const keys = Array.from({ length: MANY_KEYS }, (_, number) => `many-${String(number).padStart(5, '0')}`);
    for (let first = 0; first < keys.length; first += KEYS_AT_ONCE) {
      const group = keys.slice(first, first + KEYS_AT_ONCE);
      await Promise.all(group.map((key) => store.put(key, Buffer.from(key), OVER)));
    }
    const found = await all(store.list('many-'));
    assert.deepEqual(
      found.map(({ key }) => key),
      keys,
    );
    assert.ok(found.every(({ bytes, tag }) => bytes === 10 && tag !== ''));
    assert.deepEqual(await keysOf(store, 'many-0104'), keys.slice(1040, 1050));
    const few = store.list('many-')[Symbol.asyncIterator]();
    await few.next();
    await few.return?.();
  });

  test('a key that begins another', async () => {
    using opened = await open(running, running.direct, `neo4j-${process.pid}`);
    using neighbour = await open(running, running.direct, `neo4j-${process.pid}-eu`);
    const { store } = opened;
    for (const key of ['neo4j-1', 'neo4j-eu-1', 'neo4j']) await store.put(key, Buffer.from(key), ABSENT);
    await neighbour.store.put('other', Buffer.from('x'), ABSENT);
    assert.deepEqual(await keysOf(store), ['neo4j', 'neo4j-1', 'neo4j-eu-1']);
    assert.deepEqual(await keysOf(store, 'neo4j-'), ['neo4j-1', 'neo4j-eu-1']);
    assert.deepEqual(await keysOf(store, 'neo4j-eu-'), ['neo4j-eu-1']);
    assert.equal(await store.stat('neo4j-'), undefined);
    assert.equal(await store.stat('neo4j-eu'), undefined);
    const tags = new Map((await all(store.list(''))).map(({ key, tag }) => [key, tag]));
    for (const [key, tag] of tags) assert.equal((await store.stat(key))?.tag, tag);
  });
}

function uploads(running: RunningStore): void {
  test('parts in any order, repeated, and the first one last', async () => {
    using opened = await open(running, running.direct);
    const { store } = opened;
    const upload = await store.beginUpload('parts', { contentType: 'application/x-graphkeep' });
    await upload.putPart(3, Buffer.from('the end'));
    await upload.putPart(2, partOf(upload, 99));
    await upload.putPart(4, partOf(upload, 98)); // a writer that went back needs it no longer
    assert.deepEqual(await keysOf(store), []);
    await upload.putPart(2, partOf(upload, 2));
    await upload.putPart(1, partOf(upload, 1));
    assert.equal(await store.stat('parts'), undefined);
    assert.equal(await upload.complete(3, ABSENT), true);
    const expected = Buffer.concat([partOf(upload, 1), partOf(upload, 2), Buffer.from('the end')]);
    assert.ok((await readAll(store, 'parts')).equals(expected));
    assert.deepEqual(await keysOf(store), ['parts']);
    assert.deepEqual(await all(store.listUploads('')), []);
    await upload.abort(); // does nothing by now
    assert.equal((await store.stat('parts'))?.bytes, expected.length);
  });

  test('a part that is missing or too short is noticed before anything is published', async () => {
    using opened = await open(running, running.direct);
    const { store } = opened;
    const upload = await store.beginUpload('gaps', {});
    await upload.putPart(2, Buffer.from('short'));
    await upload.putPart(3, Buffer.from('end'));
    await assert.rejects(upload.complete(3, ABSENT), failure('GK_INTERNAL', /part 1 was never sent/));
    await upload.putPart(1, partOf(upload, 1));
    await assert.rejects(upload.complete(3, ABSENT), failure('GK_INTERNAL', /part 2 has only 5 bytes/));
    await upload.abort();
    assert.equal(await store.stat('gaps'), undefined);
  });

  test('of two uploads to one key, the second is told that it is taken', async () => {
    using opened = await open(running, running.direct);
    const { store } = opened;
    const [left, right] = await Promise.all([store.beginUpload('two', {}), store.beginUpload('two', {})]);
    await left.putPart(1, Buffer.from('left'));
    await right.putPart(1, Buffer.from('right'));
    const won = await Promise.all([left.complete(1, ABSENT), right.complete(1, ABSENT)]);
    assert.deepEqual(won.toSorted(), [false, true]);
    assert.equal((await readAll(store, 'two')).toString(), won[0] ? 'left' : 'right');
    assert.deepEqual(await all(store.listUploads('')), []);
    assert.deepEqual(await keysOf(store), ['two']);
    const third = await store.beginUpload('two', {});
    await third.putPart(1, Buffer.from('third'));
    assert.equal(await third.complete(1, OVER), true);
    assert.equal((await readAll(store, 'two')).toString(), 'third');
  });

  test('memory stays flat for an upload of 300 MiB', async (context) => {
    using opened = await open(running, running.direct);
    const { store } = opened;
    const upload = await store.beginUpload('large', { bytesExpected: LARGE_BYTES });
    const count = Math.ceil(LARGE_BYTES / upload.partBytes);
    const ring = Array.from({ length: 4 }, () => Buffer.alloc(upload.partBytes));
    const before = process.memoryUsage();
    let [growthBytes, next] = [0, 1];
    const send = async (buffer: Buffer): Promise<void> => {
      for (let number = next++; number <= count; number = next++) {
        const bytes = Math.min(upload.partBytes, LARGE_BYTES - (number - 1) * upload.partBytes);
        buffer.fill(number);
        await upload.putPart(number, buffer.subarray(0, bytes));
        const { rss } = process.memoryUsage();
        growthBytes = Math.max(growthBytes, rss - before.rss);
      }
    };
    await Promise.all(ring.map(send));
    assert.equal(await upload.complete(count, ABSENT), true);
    assert.equal((await store.stat('large'))?.bytes, LARGE_BYTES);
    // Every joint: Google puts so many parts together in steps.
    const pair = Buffer.alloc(2);
    for (let number = 1; number < count; number++) {
      await store.read('large', number * upload.partBytes - 1, pair);
      assert.deepEqual([...pair], [number, number + 1]);
    }
    context.diagnostic(`grew by ${Math.round(growthBytes / MIB)} MiB`);
    assert.ok(growthBytes < GROWTH_BYTES_MAX, `grew by ${Math.round(growthBytes / MIB)} MiB`);
    await store.remove('large');
  });
}

function leftovers(running: RunningStore): void {
  test('abort leaves nothing, not even what is on its way', async () => {
    using opened = await open(running, running.direct);
    const { store } = opened;
    const upload = await store.beginUpload('aborted', {});
    await upload.putPart(1, partOf(upload, 1));
    const late = upload.putPart(2, partOf(upload, 2));
    late.catch(() => undefined);
    await upload.abort();
    await assert.rejects(async () => {
      await late;
      await upload.putPart(3, partOf(upload, 3));
    }, failure('GK_INTERRUPTED'));
    assert.deepEqual(await all(store.listUploads('')), []);
    assert.deepEqual(await keysOf(store), []);
    await upload.abort();
  });

  test('what a killed upload left is found and removed', async () => {
    using killed = await open(running, running.direct);
    const folder = killed.store.url.split('/').at(-2)!;
    const upload = await killed.store.beginUpload('killed ü', {});
    await upload.putPart(1, partOf(upload, 1));
    await upload.putPart(2, Buffer.from('x'));
    killed.store.close();
    using opened = await open(running, running.direct, folder);
    const { store } = opened;
    await store.put('other', Buffer.from('x'), ABSENT);
    assert.deepEqual(await keysOf(store), ['other']);
    const found = await all(store.listUploads(running.listsUploads ? '' : 'killed ü'));
    assert.deepEqual(
      found.map(({ key }) => key),
      ['killed ü'],
    );
    assert.ok(Math.abs(found[0]!.started.getTime() - Date.now()) < 3_600_000);
    assert.deepEqual((await all(store.listUploads('killed'))).length, running.listsUploads ? 1 : 0);
    assert.deepEqual(await all(store.listUploads('other')), []);
    await store.abortUpload(found[0]!.key, found[0]!.id);
    assert.deepEqual(await all(store.listUploads('')), []);
    assert.deepEqual(await keysOf(store), ['other']);
    await store.abortUpload(found[0]!.key, found[0]!.id);
  });

  test('an operation that is interrupted says so', async () => {
    using opened = await open(running, running.direct);
    const { store } = opened;
    const signal = AbortSignal.abort();
    await assert.rejects(store.stat('x', signal), failure('GK_INTERRUPTED'));
    await assert.rejects(store.put('x', Buffer.from('x'), { ...OVER, signal }), failure('GK_INTERRUPTED'));
    await assert.rejects(all(store.list('', signal)), failure('GK_INTERRUPTED'));
    const upload = await store.beginUpload('x', {});
    const controller = new AbortController();
    const part = upload.putPart(1, partOf(upload, 1), controller.signal);
    setImmediate(() => controller.abort());
    await assert.rejects(part, failure('GK_INTERRUPTED'));
    await upload.abort();
  });
}
