/** A group that is copied aside: from one moment or not at all, and nothing of it is left. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { OpenGroup } from '../../../src/hotcopy/group.ts';
import { stageGroup } from '../../../src/hotcopy/staged.ts';
import { openTree } from '../../../src/hotcopy/tree.ts';
import { put, wholeTree } from '../../fixtures/database.ts';
import { failure, makeFolder, openFilesBelow, temporaryFolder } from '../../fixtures/workspace.ts';

const TREE = 'neostore.counts.db';
/** In the first state page of a tree. */
const GENERATION_BYTE = 8192 + 7;

async function treeIn(context: TestContext): Promise<{ folder: string; staging: string; group: OpenGroup }> {
  const folder = makeFolder(temporaryFolder(context), 'store');
  put(join(folder, TREE), wholeTree('5.26', 1));
  const group = await openTree(folder, TREE);
  assert.ok(group !== undefined);
  return { folder, staging: makeFolder(folder, 'staging'), group };
}

test('what is copied aside stays as it was, in a file without a name', async (context) => {
  const { folder, staging, group } = await treeIn(context);
  const before = readFileSync(join(folder, TREE));
  const staged = await stageGroup(group, staging);
  assert.ok(staged !== undefined);
  assert.deepEqual(readdirSync(staging), []);
  writeFileSync(join(folder, TREE), Buffer.alloc(before.length));
  const [member] = staged.members;
  const read = Buffer.alloc(before.length);
  await member!.read(read, 0);
  assert.equal(read.equals(before), true);
  assert.equal(openFilesBelow(folder).length, 1);
  await staged.close();
  assert.deepEqual(openFilesBelow(folder), []);
});

test('what changes while it is copied aside is not taken', async (context) => {
  const { folder, staging, group } = await treeIn(context);
  const [member] = group.members;
  const changing: OpenGroup = {
    ...group,
    members: [
      {
        ...member!,
        read: async (target, position) => {
          await member!.read(target, position);
          const tree = readFileSync(join(folder, TREE));
          tree[GENERATION_BYTE]! ^= 1;
          writeFileSync(join(folder, TREE), tree);
        },
      },
    ],
  };
  assert.equal(await stageGroup(changing, staging), undefined);
  assert.deepEqual(openFilesBelow(folder), []);
});

test('whatever fails, nothing stays open', async (context) => {
  for (const fail of ['folder', 'abort', 'read']) {
    const { folder, staging, group } = await treeIn(context);
    const stop = new AbortController();
    if (fail === 'abort') stop.abort();
    const [member] = group.members;
    const read = async (): Promise<void> => Promise.reject(new Error('disk'));
    const source = fail === 'read' ? { ...group, members: [{ ...member!, read }] } : group;
    const directory = fail === 'folder' ? join(folder, 'nowhere') : staging;
    const expected = fail === 'read' ? /disk/ : failure(fail === 'abort' ? 'GK_INTERRUPTED' : 'GK_NOT_FOUND');
    await assert.rejects(stageGroup(source, directory, stop.signal), expected);
    assert.deepEqual(openFilesBelow(folder), [], fail);
    assert.deepEqual(readdirSync(staging), []);
  }
});
