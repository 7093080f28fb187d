/** Small groups that are read into memory at once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { memberFromBytes } from '../../../src/artifact/membersource.ts';
import type { OpenGroup } from '../../../src/hotcopy/group.ts';
import { bytesOfGroup, readWhole } from '../../../src/hotcopy/whole.ts';

const CONTENTS = [Buffer.from('first'), Buffer.alloc(0), Buffer.from('third')];

/** Tells what was done with it, in order. */
function groupThat(isOneMoment: boolean): { group: OpenGroup; events: string[] } {
  const events: string[] = [];
  const members = CONTENTS.map((content, index) => {
    const member = memberFromBytes(`member ${index}`, 'store', content);
    return {
      ...member,
      read: async (target: Buffer, position: number) => {
        events.push(`read ${index}`);
        await member.read(target, position);
      },
    };
  });
  const group = {
    members,
    confirm: async () => events.push('confirm') > 0 && isOneMoment,
    close: async () => void events.push('close'),
  };
  return { group, events };
}

test('all members are read, then confirmed, then closed', async () => {
  const { group, events } = groupThat(true);
  assert.equal(bytesOfGroup(group), 10);
  assert.deepEqual(await readWhole(group), CONTENTS);
  assert.deepEqual(events, ['read 0', 'read 1', 'read 2', 'confirm', 'close']);
});

test('what is not from one moment is not given, and closed', async () => {
  const { group, events } = groupThat(false);
  assert.equal(await readWhole(group), undefined);
  assert.equal(events.at(-1), 'close');
});

test('what cannot be read is closed', async () => {
  const { group, events } = groupThat(true);
  const failing = { ...group, confirm: () => Promise.reject(new Error('gone')) };
  await assert.rejects(readWhole(failing), /gone/);
  assert.equal(events.at(-1), 'close');
});
