/** Groups that a server sends whole: what is not what it says to be is refused. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { compressFrame } from '../../../src/artifact/zstd.ts';
import type { SnapshotGroup } from '../../../src/hotcopy/group.ts';
import { WHOLE_GROUP_BYTES_MAX } from '../../../src/limits.ts';
import { Fields } from '../../../src/remote/fields.ts';
import { writeWholeMember } from '../../../src/remote/protocol.ts';
import { TreesAhead } from '../../../src/remote/remotegroups.ts';
import type { RemoteSession } from '../../../src/remote/remotesession.ts';
import { noise } from '../../fixtures/random.ts';
import { failure } from '../../fixtures/workspace.ts';

const CONTENT = Buffer.concat([noise(1000, 1), Buffer.alloc(30_000)]);

/** Trees and a store behind them; which were asked for, in order, and how. */
function treesOf(answers: readonly object[]): { asked: number[]; bodies: object[]; groups: SnapshotGroup[] } {
  const asked: number[] = [];
  const bodies: object[] = [];
  const step = async (name: string, body: object) => {
    const number = Number(/\d+/.exec(name)?.[0]);
    asked.push(number);
    bodies.push(body);
    return { answer: new Fields(JSON.parse(JSON.stringify(answers[number])), 'answer'), step: asked.length };
  };
  const memberOf = (): object => ({ abandon: () => undefined });
  const kinds = [...answers.map(() => ({ rebuildable: true })), { rebuildable: false }];
  const trees = new TreesAhead({ step, memberOf } as unknown as RemoteSession, kinds);
  return { asked, bodies, groups: answers.map((_, number) => trees.group(`tree ${number}`, number)) };
}

async function wholeOf(content: Buffer, changes: object = {}): Promise<object> {
  const packed = await compressFrame(content, 1, (stored) => Buffer.from(stored));
  const member = writeWholeMember({ path: 'tree', kind: 'store', bytes: content.length, packed });
  return { whole: [{ ...member, ...changes }] };
}

describe('a group that comes whole', () => {
  test('has its content, and nothing is asked for any more', async () => {
    for (const content of [CONTENT, Buffer.alloc(0), noise(WHOLE_GROUP_BYTES_MAX, 2)]) {
      const { bodies, groups } = treesOf([await wholeOf(content)]);
      const open = await groups[0]!.open();
      const [member] = open!.members;
      assert.deepEqual([member?.path, member?.kind, member?.bytes], ['tree', 'store', content.length]);
      const target = Buffer.alloc(content.length);
      await member!.read(target, 0);
      assert.ok(target.equals(content));
      assert.equal(await open!.confirm(), true);
      await open!.close();
      assert.deepEqual(bodies, [{ staged: false, whole: true }]);
    }
  });

  test('and was damaged, is shorter or longer than it says, or leaves its folder is refused', async () => {
    const { whole } = (await wholeOf(CONTENT)) as { whole: { packed: string }[] };
    const damaged = Buffer.from(whole[0]!.packed, 'base64');
    damaged[500]! ^= 1;
    const wrong: object[] = [
      { packed: damaged.toString('base64') },
      { packed: damaged.subarray(0, 100).toString('base64') },
      { packed: '' },
      { packed: 'no base64!' },
      { bytes: CONTENT.length - 1 },
      { bytes: CONTENT.length + 1 },
      { bytes: WHOLE_GROUP_BYTES_MAX + 1 },
      { path: '../../tree' },
      { kind: 'other' },
    ];
    for (const changes of wrong) {
      const { groups } = treesOf([await wholeOf(CONTENT, changes)]);
      await assert.rejects(groups[0]!.open(), failure('GK_PROTOCOL'), JSON.stringify(changes).slice(0, 40));
    }
  });

  test('is gone, or not from one moment: the next try asks for a copy aside', async () => {
    const { bodies, groups } = treesOf([{ members: null }]);
    assert.equal(await groups[0]!.open(), undefined);
    assert.equal(await groups[0]!.open(), undefined);
    assert.deepEqual(bodies, [
      { staged: false, whole: true },
      { staged: true, whole: true },
    ]);
  });

  test('has the next one asked for while it is written, and not one more', async () => {
    const whole = await wholeOf(CONTENT);
    const { asked, groups } = treesOf([whole, whole, whole]);
    for (const [number, expected] of [['0 1'], ['0 1 2'], ['0 1 2']].entries()) {
      const open = await groups[number]!.open();
      assert.equal(open?.members.length, 1);
      assert.deepEqual(asked.join(' '), expected[0]);
    }
  });

  test('and one that does not: the next one is asked for after it was closed', async () => {
    const large = { members: [{ number: 1, path: 'large', kind: 'store', bytes: 100_000 }] };
    const { asked, groups } = treesOf([large, await wholeOf(CONTENT), { members: null }]);
    await groups[0]!.open();
    assert.deepEqual(asked, [0]);
    await groups[1]!.open();
    assert.deepEqual(asked, [0, 1, 2]);
    assert.equal(await groups[2]!.open(), undefined);
    assert.equal(await groups[2]!.open(), undefined);
    assert.deepEqual(asked, [0, 1, 2, 2]);
  });

  test('a failure of the next one is told when its turn comes', async () => {
    const { groups } = treesOf([await wholeOf(CONTENT), { whole: [{}] }]);
    assert.ok(await groups[0]!.open());
    await new Promise((resolve) => setImmediate(resolve));
    await assert.rejects(groups[1]!.open(), failure('GK_PROTOCOL'));
  });
});
