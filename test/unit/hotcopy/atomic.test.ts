/** Copies that must be from one moment: trees and Lucene indexes. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { segmentsGeneration } from '../../../src/formats/lucene.ts';
import type { OpenGroup } from '../../../src/hotcopy/group.ts';
import { openLuceneIndex } from '../../../src/hotcopy/luceneindex.ts';
import { openTree } from '../../../src/hotcopy/tree.ts';
import { put, putLuceneIndex, SEGMENTS, wholeTree } from '../../fixtures/database.ts';
import { LINES, segmentsFixture, TREE_FIXTURE_PAGES } from '../../fixtures/lines.ts';
import { noise } from '../../fixtures/random.ts';
import { makeFolder, openFilesBelow, temporaryFolder } from '../../fixtures/workspace.ts';

const PAGE_BYTES = 8192;

async function readMembers(group: OpenGroup): Promise<Map<string, Buffer>> {
  const read = new Map<string, Buffer>();
  for (const member of group.members) {
    const content = Buffer.alloc(member.bytes);
    if (member.bytes > 0) await member.read(content, 0);
    read.set(member.path, content);
  }
  return read;
}

for (const line of LINES) {
  describe(`tree of ${line}`, () => {
    function makeTree(context: TestContext): { folder: string; path: string; content: Buffer } {
      const folder = temporaryFolder(context);
      const content = wholeTree(line, 5);
      const path = join(folder, 'neostore.counts.db');
      writeFileSync(path, content);
      return { folder, path, content };
    }

    test('unchanged, it is confirmed', async (context) => {
      const { folder, content } = makeTree(context);
      const group = (await openTree(folder, 'neostore.counts.db'))!;
      assert.deepEqual(await readMembers(group), new Map([['neostore.counts.db', content]]));
      assert.equal(await group.confirm(), true);
      await group.close();
      assert.deepEqual(openFilesBelow(folder), []);
    });

    test('a change of any byte of a state page is seen; one of another page is none', async (context) => {
      const { folder, path, content } = makeTree(context);
      for (const [offset, confirmed] of [
        [PAGE_BYTES, false],
        [PAGE_BYTES + 56, false],
        [2 * PAGE_BYTES, false],
        [2 * PAGE_BYTES + 113, false],
        [3 * PAGE_BYTES, true],
        [content.length - 1, true],
      ] as const) {
        writeFileSync(path, content);
        const group = (await openTree(folder, 'neostore.counts.db'))!;
        const changed = Buffer.from(content);
        changed[offset]! ^= 1;
        writeFileSync(path, changed);
        assert.equal(await group.confirm(), confirmed, `byte ${offset}`);
        await group.close();
      }
    });

    test('deleted while it is copied, it is whole', async (context) => {
      const { folder, path, content } = makeTree(context);
      const group = (await openTree(folder, 'neostore.counts.db'))!;
      rmSync(path);
      assert.equal((await readMembers(group)).get('neostore.counts.db')!.equals(content), true);
      assert.equal(await group.confirm(), true);
      await group.close();
    });

    test('shorter while it is copied, reading it fails', async (context) => {
      const { folder, path } = makeTree(context);
      const group = (await openTree(folder, 'neostore.counts.db'))!;
      truncateSync(path, 4 * PAGE_BYTES);
      await assert.rejects(readMembers(group), { code: 'GK_SOURCE_MOVED' });
      await group.close();
    });

    test('whole pages only', async (context) => {
      const { folder, path, content } = makeTree(context);
      writeFileSync(path, Buffer.concat([content, noise(100, 1)]));
      const group = (await openTree(folder, 'neostore.counts.db'))!;
      assert.equal(group.members[0]!.bytes, TREE_FIXTURE_PAGES * PAGE_BYTES);
      await group.close();
    });

    test('without a usable state there is nothing to copy, and nothing stays open', async (context) => {
      const { folder, path, content } = makeTree(context);
      const noState = Buffer.from(content).fill(0, PAGE_BYTES, 3 * PAGE_BYTES);
      for (const [what, bytes] of [
        ['no state', noState],
        ['shorter than its head', content.subarray(0, 3 * PAGE_BYTES - 1)],
        ['empty', Buffer.alloc(0)],
        ['pages that the state names are missing', content.subarray(0, 4 * PAGE_BYTES)],
      ] as const) {
        writeFileSync(path, bytes);
        assert.equal(await openTree(folder, 'neostore.counts.db'), undefined, what);
      }
      rmSync(path);
      assert.equal(await openTree(folder, 'neostore.counts.db'), undefined, 'gone');
      assert.deepEqual(openFilesBelow(folder), []);
    });

    test('a failure to read it leaves nothing open', async (context) => {
      const { folder, path } = makeTree(context);
      rmSync(path);
      makeFolder(path);
      await assert.rejects(openTree(folder, 'neostore.counts.db'), { code: 'GK_IO' });
      assert.deepEqual(openFilesBelow(folder), []);
    });
  });

  describe(`Lucene index of ${line}`, () => {
    const PATH = 'schema/index/text-2.0/5';
    const commit = segmentsFixture(line);

    function makeIndex(context: TestContext): { folder: string; partition: string } {
      const folder = temporaryFolder(context);
      putLuceneIndex(join(folder, PATH), line);
      return { folder, partition: join(folder, PATH, '1') };
    }

    function expectedPaths(): string[] {
      const segments = SEGMENTS[line].flatMap((segment) =>
        ['si', 'cfs', 'cfe'].map((end) => `1/${segment}.${end}`),
      );
      return ['failure-message', `1/${commit.name}`, ...segments].map((name) => `${PATH}/${name}`).sort();
    }

    test('its newest commit, and no lock or file of no segment', async (context) => {
      const { folder, partition } = makeIndex(context);
      put(join(partition, '_zz.cfs'), noise(10, 1));
      put(join(partition, 'pending_segments_9'), noise(10, 1));
      put(join(folder, PATH, '7.tx/data'), noise(10, 1));
      const group = (await openLuceneIndex(folder, PATH))!;
      const read = await readMembers(group);
      assert.deepEqual([...read.keys()].sort(), expectedPaths());
      assert.equal(read.get(`${PATH}/1/${commit.name}`)!.equals(commit.bytes), true);
      assert.equal(await group.confirm(), true);
      await group.close();
      assert.deepEqual(openFilesBelow(folder), []);
    });

    test('an older commit is left alone', async (context) => {
      const { folder, partition } = makeIndex(context);
      put(join(partition, 'segments_1'), noise(50, 1));
      const group = (await openLuceneIndex(folder, PATH))!;
      assert.deepEqual(group.members.map((member) => member.path).sort(), expectedPaths());
      await group.close();
    });

    test('the newest commit is the one of the highest generation, in base 36', async (context) => {
      const { folder, partition } = makeIndex(context);
      renameSync(join(partition, commit.name), join(partition, 'segments_10'));
      put(join(partition, 'segments_z'), noise(50, 1));
      assert.ok(segmentsGeneration('segments_10')! > segmentsGeneration('segments_z')!);
      const group = (await openLuceneIndex(folder, PATH))!;
      assert.ok(group.members.some((member) => member.path.endsWith('/segments_10')));
      await group.close();
    });

    test('merged away while it is copied, it is whole', async (context) => {
      const { folder, partition } = makeIndex(context);
      const before = readFileSync(join(partition, `${SEGMENTS[line][0]}.cfs`));
      const group = (await openLuceneIndex(folder, PATH))!;
      rmSync(join(folder, PATH), { recursive: true });
      const read = await readMembers(group);
      assert.equal(read.get(`${PATH}/1/${SEGMENTS[line][0]}.cfs`)!.equals(before), true);
      assert.equal(await group.confirm(), true);
      await group.close();
    });

    test('not copied when a newer commit appears while its files are opened', async (context) => {
      const { folder, partition } = makeIndex(context);
      // Opening a pipe waits for its other end, which holds the copy at this file for as long as the test wants.
      const gate = join(partition, `${SEGMENTS[line].at(-1)}.si`);
      rmSync(gate);
      execFileSync('mkfifo', [gate]);
      const opening = openLuceneIndex(folder, PATH);
      await sleep(50);
      writeFileSync(join(partition, 'segments_f'), 'a newer one');
      closeSync(openSync(gate, 'w'));
      assert.equal(await opening, undefined);
      assert.deepEqual(openFilesBelow(folder), []);
    });

    const changes: [string, (partition: string) => void][] = [
      [
        'a segment has lost its description',
        (partition) => rmSync(join(partition, `${SEGMENTS[line][0]}.si`)),
      ],
      [
        'a newer commit cannot be read',
        (partition) => writeFileSync(join(partition, 'segments_f'), noise(99, 1)),
      ],
      ['a newer commit is empty', (partition) => writeFileSync(join(partition, 'segments_f'), '')],
      ['there is no commit', (partition) => rmSync(join(partition, commit.name))],
      ['the partition is gone', (partition) => rmSync(partition, { recursive: true })],
      ['the index is gone', (partition) => rmSync(join(partition, '..'), { recursive: true })],
      [
        'a newer commit names segments that are gone',
        (partition) => {
          copyFileSync(join(partition, commit.name), join(partition, 'segments_f'));
          for (const segment of SEGMENTS[line]) rmSync(join(partition, `${segment}.si`));
        },
      ],
    ];
    for (const [what, change] of changes) {
      test(`not copied when ${what}, and nothing stays open`, async (context) => {
        const { folder, partition } = makeIndex(context);
        change(partition);
        const group = await openLuceneIndex(folder, PATH);
        // An index without any partition is copied as the failure message that it holds.
        if (what === 'the partition is gone') {
          assert.deepEqual(
            group?.members.map((member) => member.path),
            [`${PATH}/failure-message`],
          );
          await group?.close();
        } else assert.equal(group, undefined);
        assert.deepEqual(openFilesBelow(folder), []);
      });
    }
  });
}
