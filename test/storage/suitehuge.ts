/**
 * The part of the suite of object stores that is about huge objects: of more parts than one upload takes, or than are put
 * together at once. With other limits than the store has, so that a few MiB are huge.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { MIB } from '../../src/limits.ts';
import { cleanUpLeftovers } from '../../src/operations/leftovers.ts';
import type { SectionLimits } from '../../src/storage/objects/parts.ts';
import { ObjectPublication } from '../../src/storage/objects/publication.ts';
import type { StoreSettings } from '../../src/storage/objects/settings.ts';
import type { ObjectAttributes, ObjectStore, Upload } from '../../src/storage/objects/store.ts';
import { closeStores, useStoreSettings } from '../../src/storage/places.ts';
import { noise } from '../fixtures/random.ts';
import { failure } from '../fixtures/workspace.ts';
import type { SeenRequest } from './faults.ts';
import type { RunningStore } from './servers.ts';
import { ABSENT, all, keysOf, OVER, open, partOf, readAll } from './suitetools.ts';

const HOUR_MS = 3_600_000;
const PART_BYTES = 5 * MIB;

/** Of S3 none but the last part may be smaller; sections are two of them, and four sections an object. */
export const HUGE: Partial<SectionLimits> = {
  partsMax: 4,
  partBytesMin: PART_BYTES,
  partBytesMax: PART_BYTES,
  sectionPartBytes: PART_BYTES,
  sectionBytesMin: 2 * PART_BYTES,
  sectionBytesMax: 2 * PART_BYTES,
};
/** The most that can be expected of eight parts: a guess of the size may be wrong. */
export const HUGE_EXPECTED = { bytesExpected: 6 * PART_BYTES } as const;

function huge(settings: StoreSettings): StoreSettings {
  return { ...settings, uploads: HUGE };
}

/** The whole of seven parts, the last one short, and what has to be in the object. */
export async function sendHuge(
  store: ObjectStore,
  key: string,
  attributes: ObjectAttributes = {},
): Promise<{ upload: Upload; whole: Buffer }> {
  const upload = await store.beginUpload(key, { ...HUGE_EXPECTED, ...attributes });
  const parts = [1, 2, 3, 4, 5, 6].map((number) => partOf(upload, number));
  parts.push(Buffer.from('the end'));
  const [first, ...others] = parts.entries();
  await Promise.all(others.toReversed().map(([index, bytes]) => upload.putPart(index + 1, bytes)));
  await upload.putPart(1, first![1]);
  return { upload, whole: Buffer.concat(parts) };
}

async function assertOnly(store: ObjectStore, ...keys: string[]): Promise<void> {
  assert.deepEqual(await keysOf(store), keys);
  assert.deepEqual(await all(store.listUploads('')), []);
}

/** Somebody else publishes under that name. */
async function take(store: ObjectStore, key: string): Promise<void> {
  const upload = await store.beginUpload(key, {});
  await upload.putPart(1, Buffer.from('theirs'));
  assert.equal(await upload.complete(1, ABSENT), true);
}

/** The requests by which a store puts together what it has. */
export function isCopy({ method, path, headers }: SeenRequest): boolean {
  const isWrite = method === 'PUT' || method === 'POST';
  return isWrite && (headers['x-amz-copy-source'] !== undefined || /\/compose\b|comp=blocklist/.test(path));
}

export function hugeObjects(running: RunningStore): void {
  const { proxy } = running;

  test('huge: parts in any order, the first one last', async () => {
    using opened = await open(running, huge(running.direct));
    const { store } = opened;
    const { upload, whole } = await sendHuge(store, 'huge ü+%');
    assert.deepEqual(await keysOf(store), []);
    await upload.putPart(3, partOf(upload, 99));
    await upload.putPart(3, partOf(upload, 3));
    assert.equal(await upload.complete(7, ABSENT), true);
    assert.ok((await readAll(store, 'huge ü+%')).equals(whole));
    await assertOnly(store, 'huge ü+%');
    await upload.abort(); // does nothing by now
    assert.equal((await store.stat('huge ü+%'))?.bytes, whole.length);
  });

  test('huge as expected, and small or empty in the end', async () => {
    using opened = await open(running, huge(running.direct));
    const { store } = opened;
    const small = await store.beginUpload('small', HUGE_EXPECTED);
    await small.putPart(3, partOf(small, 3)); // a writer that went back needs it no longer
    await small.putPart(1, Buffer.from('small'));
    assert.equal(await small.complete(1, ABSENT), true);
    assert.equal((await readAll(store, 'small')).toString(), 'small');
    const none = await store.beginUpload('empty', HUGE_EXPECTED);
    await none.putPart(1, Buffer.alloc(0));
    assert.equal(await none.complete(1, ABSENT), true);
    assert.equal((await store.stat('empty'))?.bytes, 0);
    const even = await store.beginUpload('even', HUGE_EXPECTED);
    for (const number of [1, 2, 3, 4]) await even.putPart(number, partOf(even, number));
    assert.equal(await even.complete(4, ABSENT), true);
    assert.equal((await store.stat('even'))?.bytes, 4 * even.partBytes);
    await assertOnly(store, 'empty', 'even', 'small');
  });

  test('huge: a writer goes back over several parts, and writes something else', async () => {
    using opened = await open(running, huge(running.direct));
    const { store } = opened;
    const object = await ObjectPublication.begin(store, 'rewound', HUGE_EXPECTED);
    const [kept, taken, instead] = [noise(8 * MIB, 1), noise(19 * MIB, 2), noise(14 * MIB, 3)];
    await object.append(kept);
    object.hold();
    await object.append(taken);
    await object.truncate(kept.length);
    await object.append(instead);
    await object.patch(Buffer.from('head'), 0);
    assert.equal(await object.publish(), true);
    const whole = Buffer.concat([kept, instead]);
    whole.write('head');
    assert.ok((await readAll(store, 'rewound')).equals(whole));
    await assertOnly(store, 'rewound');
  });

  test('huge: a part that is missing or too short is noticed before anything is published', async () => {
    using opened = await open(running, huge(running.direct));
    const { store } = opened;
    const { upload } = await sendHuge(store, 'gaps');
    await assert.rejects(upload.complete(8, ABSENT), failure('GK_INTERNAL', /never sent|only 7 bytes/));
    await upload.putPart(4, Buffer.from('short'));
    await assert.rejects(upload.complete(7, ABSENT), failure('GK_INTERNAL', /part 4 has only 5 bytes/));
    await upload.abort();
    await assertOnly(store);
  });

  test('huge: abort leaves nothing, not even what is on its way', async () => {
    using opened = await open(running, huge(running.direct));
    const { store } = opened;
    const { upload } = await sendHuge(store, 'aborted');
    const late = [8, 2].map((number) => upload.putPart(number, partOf(upload, number)));
    for (const part of late) part.catch(() => undefined);
    await upload.abort();
    await assert.rejects(upload.putPart(3, partOf(upload, 3)), failure('GK_INTERRUPTED'));
    await assertOnly(store);
  });

  test('huge: who is interrupted while it is put together leaves nothing', async () => {
    using opened = await open(running, huge(running.throughProxy));
    const { store } = opened;
    proxy.heal();
    const { upload } = await sendHuge(store, 'interrupted');
    const stop = new AbortController();
    proxy.onForward = async (request) => {
      if (isCopy(request)) stop.abort();
      return undefined;
    };
    const completing = upload.complete(7, { ...ABSENT, signal: stop.signal });
    await assert.rejects(completing, failure('GK_INTERRUPTED'));
    proxy.onForward = async () => undefined;
    await upload.abort();
    // The store may have done what nobody waited for; then it is whole.
    const left = await store.stat('interrupted');
    if (left === undefined) await assertOnly(store);
    else assert.equal(left.bytes, 6 * upload.partBytes + 7);
  });

  test('huge: a name that is taken is not overwritten, before it is put together or meanwhile', async () => {
    using opened = await open(running, huge(running.throughProxy));
    const { store } = opened;
    proxy.heal();
    const { upload } = await sendHuge(store, 'taken');
    await take(store, 'taken');
    proxy.heal();
    assert.equal(await upload.complete(7, ABSENT), false);
    assert.ok(!proxy.seen.some((request) => request.headers['x-amz-copy-source'] !== undefined));
    const { upload: other } = await sendHuge(store, 'meanwhile');
    let isTaken = false;
    proxy.onForward = async (request) => {
      if (isTaken || !isCopy(request)) return undefined;
      isTaken = true;
      await take(store, 'meanwhile');
      return undefined;
    };
    proxy.break(1, { kind: 'cut' }, isCopy);
    assert.equal(await other.complete(7, ABSENT), false);
    proxy.onForward = async () => undefined;
    for (const key of ['taken', 'meanwhile']) assert.equal((await readAll(store, key)).toString(), 'theirs');
    await assertOnly(store, 'meanwhile', 'taken');
    const { upload: third, whole } = await sendHuge(store, 'taken');
    assert.equal(await third.complete(7, OVER), true);
    assert.ok((await readAll(store, 'taken')).equals(whole));
    proxy.heal();
  });

  test('huge: connections that are cut and answers that are lost while it is put together', async () => {
    using opened = await open(running, huge(running.throughProxy));
    const { store } = opened;
    for (const kind of ['cut', 'lost'] as const) {
      proxy.heal();
      const { upload, whole } = await sendHuge(store, kind);
      // All that writes, removals and looks included.
      proxy.break(4, { kind }, ({ method }) => method !== 'HEAD');
      assert.equal(await upload.complete(7, ABSENT), true, kind);
      assert.ok(proxy.hits > 0);
      proxy.heal();
      assert.ok((await readAll(store, kind)).equals(whole), kind);
    }
    await assertOnly(store, 'cut', 'lost');
  });

  for (const isPutTogether of [false, true]) {
    const when = isPutTogether ? 'while it was put together' : 'while it was sent';
    test(`huge: what was killed ${when} is found when it is old, and removed`, async (context) => {
      using opened = await open(running, huge({ ...running.throughProxy, patienceMs: 1 }));
      const { store } = opened;
      proxy.heal();
      const { upload } = await sendHuge(store, 'killed.backup');
      if (isPutTogether) {
        proxy.break(1000, { kind: 'cut' }, isCopy);
        await assert.rejects(upload.complete(7, ABSENT));
        proxy.heal();
      }
      await store.put('other', Buffer.from('x'), ABSENT);
      assert.deepEqual(await keysOf(store), ['other'], 'nobody takes what is left for an artifact');
      await leftoversGo(context, running, store.url);
      assert.deepEqual(await keysOf(store), ['other']);
      // MinIO lists no unfinished upload whose whole name is not known.
      if (running.listsUploads) await assertOnly(store, 'other');
    });
  }
}

async function leftoversGo(context: TestContext, running: RunningStore, directory: string): Promise<void> {
  useStoreSettings(running.direct);
  const names = async (confirm: boolean): Promise<Set<string>> =>
    new Set((await cleanUpLeftovers({ directory, olderThanMs: HOUR_MS, confirm })).map(({ key }) => key));
  try {
    assert.deepEqual(await names(true), new Set(), 'it may be under way');
    context.mock.timers.enable({ apis: ['Date'], now: Date.now() + 2 * HOUR_MS });
    const found = running.listsUploads ? ['killed.backup'] : [...(await names(false))];
    assert.deepEqual(await names(false), new Set(found));
    assert.deepEqual(await names(true), new Set(found));
    assert.deepEqual(await names(true), new Set());
  } finally {
    context.mock.timers.reset();
    await closeStores();
    useStoreSettings({});
  }
}
