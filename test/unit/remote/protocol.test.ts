/** What a server may say is not believed: names that leave their folder, and numbers and fields that are none. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { Fields } from '../../../src/remote/fields.ts';
import { parseMember, parseOpenedSnapshot, parseSearch } from '../../../src/remote/protocol.ts';
import { ChainScene } from '../../fixtures/chains.ts';
import { ask, serve } from '../../fixtures/network.ts';
import { failure } from '../../fixtures/workspace.ts';

const MEMBER = { number: 1, path: 'neostore', kind: 'store', bytes: 8192 };

test('a path that leaves its folder is refused, wherever it stands', async (context) => {
  const scene = new ChainScene(context, '5.26');
  const server = await serve(context, join(scene.root, 'source'));
  const body = { database: 'neo4j', kind: 'snapshot', request: 'a' };
  const opened = JSON.parse((await ask(server.address, '/v1/sessions', { method: 'POST', body })).body);
  assert.equal(parseOpenedSnapshot(new Fields(opened, 'answer')).neostore.storeId.engine, 'record');
  for (const path of ['../neostore', '/etc/passwd', 'a/../../b', '']) {
    const refused = failure('GK_PROTOCOL');
    assert.throws(() => parseMember(new Fields({ ...MEMBER, path }, 'answer')), refused, path);
    const group = { ...opened, groups: [{ path, rebuildable: false }] };
    assert.throws(() => parseOpenedSnapshot(new Fields(group, 'answer')), refused, path);
    const fence = { ...opened, fence: { ...opened.fence, checkpointFile: path } };
    assert.throws(() => parseOpenedSnapshot(new Fields(fence, 'answer')), refused, path);
    const leftOut = { ...opened, leftOut: [path] };
    assert.throws(() => parseOpenedSnapshot(new Fields(leftOut, 'answer')), refused, path);
  }
});

test('a field that is missing or of another kind is refused', () => {
  assert.deepEqual(parseMember(new Fields(MEMBER, 'answer')), MEMBER);
  const wrong: readonly object[] = [
    { ...MEMBER, bytes: -1 },
    { ...MEMBER, bytes: 1.5 },
    { ...MEMBER, bytes: '8192' },
    { ...MEMBER, number: 2 ** 53 },
    { ...MEMBER, kind: 'other' },
    { ...MEMBER, path: 5 },
    {},
  ];
  for (const value of wrong) {
    assert.throws(
      () => parseMember(new Fields(value, 'answer')),
      failure('GK_PROTOCOL'),
      JSON.stringify(value),
    );
  }
  assert.throws(() => parseSearch(new Fields({ status: 'maybe' }, 'answer')), failure('GK_PROTOCOL'));
  assert.throws(() => new Fields([], 'answer'), failure('GK_PROTOCOL'));
});
