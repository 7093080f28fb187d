/** What the tests of every object store use. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, describe, test } from 'node:test';
import { openObjectStore } from '../../src/storage/objects/open.ts';
import type { StoreSettings } from '../../src/storage/objects/settings.ts';
import type { ObjectStore, Upload } from '../../src/storage/objects/store.ts';
import type { RunningStore } from './servers.ts';

/** A store waits so long in these tests that a storm passes, and no longer. */
export const PATIENCE_MS = 10_000;

export interface Opened {
  readonly store: ObjectStore;
  [Symbol.dispose](): void;
}

let folders = 0;

/** A store with a folder of its own. */
export async function open(running: RunningStore, settings: StoreSettings, folder?: string): Promise<Opened> {
  folders += 1;
  const url = `${running.url}/${folder ?? `case-${process.pid}-${folders}`}`;
  const store = await openObjectStore(url, { patienceMs: PATIENCE_MS, ...settings });
  return { store, [Symbol.dispose]: () => store.close() };
}

export async function all<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const found: Item[] = [];
  for await (const item of items) found.push(item);
  return found;
}

export async function keysOf(store: ObjectStore, prefix = ''): Promise<string[]> {
  return (await all(store.list(prefix))).map(({ key }) => key).sort();
}

export async function readAll(store: ObjectStore, key: string): Promise<Buffer> {
  const facts = await store.stat(key);
  assert.ok(facts !== undefined, `there is no ${key}`);
  const bytes = Buffer.alloc(facts.bytes);
  await store.read(key, 0, bytes, { tag: facts.tag });
  return bytes;
}

/** The bytes of a part of an upload, not all the same. */
export function partOf(upload: Upload, number: number, bytes = upload.partBytes): Buffer {
  return Buffer.alloc(bytes, createHash('sha256').update(`part ${number}`).digest());
}

/** Tests that need a server; where it cannot be had they are skipped, and say so. */
export function describeWith<Running extends { stop(): Promise<void> }>(
  name: string,
  start: () => Promise<Running | { skip: string }>,
  define: (running: Running) => void,
): void {
  describe(name, async () => {
    const running = await start();
    if ('skip' in running) {
      test(name, { skip: running.skip }, () => undefined);
      return;
    }
    after(() => running.stop());
    define(running);
  });
}

export const ABSENT = { ifAbsent: true } as const;
export const OVER = { ifAbsent: false } as const;

/** Runs `work` with these variables, which the SDKs of the clouds read from the process. */
export async function withEnvironment<Result>(
  variables: Readonly<Record<string, string>>,
  work: () => Promise<Result>,
): Promise<Result> {
  const before = Object.keys(variables).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, variables);
  try {
    return await work();
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}
