/**
 * Takes the safety steps out of a copy of the source, one at a time, and expects the test that guards each to fail.
 * A guard that stays green here guards nothing.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from '../fixtures/workspace.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const COPY = 'test/fault/livecopy.test.ts';
const SWAP = 'test/fault/swap.test.ts';

interface Mutation {
  readonly step: string;
  readonly file: string;
  readonly from: string;
  readonly to: string;
  readonly guard: string;
  /** Names of the tests that must notice. */
  readonly pattern: string;
}

const MUTATIONS: readonly Mutation[] = [
  {
    step: 'identify',
    file: 'src/hotcopy/snapshot.ts',
    from: 'refuseUnsupported(directory, neostore.storeId);',
    to: '',
    guard: COPY,
    pattern: 'identify:',
  },
  {
    step: 'pin: watching for new log files',
    file: 'src/hotcopy/snapshot.ts',
    from: 'pins.watch();',
    to: '',
    guard: COPY,
    pattern: 'pin:',
  },
  {
    step: 'fence: the checkpoint file as it was at the beginning',
    file: 'src/hotcopy/snapshot.ts',
    from: 'const { checkpoint, fileBytes } = fence;',
    to: 'const { checkpoint, fileBytes } = await readFence(folders.logDirectory);',
    guard: COPY,
    pattern: 'fence:',
  },
  {
    step: 'copy: looking at a tree again after it was read',
    file: 'src/hotcopy/tree.ts',
    from: 'return now.equals(head);',
    to: 'return now.length === head.length;',
    guard: COPY,
    pattern: 'copy:',
  },
  {
    step: 'tail: only after the last store byte',
    file: 'src/operations/fullbackup.ts',
    from: 'for (const group of this.#snapshot.groups) await this.#copyGroup(writer, group);',
    to: 'const early = await this.#snapshot.takeTail(); this.#snapshot.takeTail = async () => early; for (const group of this.#snapshot.groups) await this.#copyGroup(writer, group);',
    guard: COPY,
    pattern: 'tail: what was committed',
  },
  {
    step: 'tail: cut at the last transaction',
    file: 'src/hotcopy/tail.ts',
    from: 'files.push({ ...pin, startBytes, endBytes: end });',
    to: 'files.push({ ...pin, startBytes, endBytes: (await pin.handle.stat()).size || end });',
    guard: COPY,
    pattern: 'tail: what was committed',
  },
  {
    step: 'tail: the checksum of each transaction',
    file: 'src/formats/txlog/transactions.ts',
    from: 'if (checksum !== computed)',
    to: 'if (checksum !== computed && computed < 0)',
    guard: COPY,
    pattern: 'tail: a transaction that fails',
  },
  {
    step: 'tail: continuity',
    file: 'src/chain/continuity.ts',
    from: 'appendIndex === before.appendIndex + 1n',
    to: 'appendIndex > before.appendIndex',
    guard: COPY,
    pattern: 'tail: a log file that lacks',
  },
  {
    step: 'publish: a temporary name until the end',
    file: 'src/storage/local.ts',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is source text
    from: '`.${fileName}.${unique}${PARTIAL_SUFFIX}`',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is source text
    to: '`${unique}-${fileName}`',
    guard: COPY,
    pattern: 'publish:',
  },
  {
    step: 'verify: the checksum of each frame',
    file: 'src/artifact/membersource.ts',
    from: 'if (crc32(stored) !== expectedCrc32)',
    to: 'if (crc32(stored) !== expectedCrc32 && storedBytes < 0)',
    guard: COPY,
    pattern: 'verify:',
  },
  {
    step: 'swap: the store folder is exchanged for a link, too',
    file: 'src/neo4j/swap.ts',
    from: 'exchangePaths(this.#target.storeDirectory, join(this.#work.store, OLD, this.#target.name));',
    to: 'exchangePaths(this.#target.storeDirectory, this.folders.storeDirectory);',
    guard: SWAP,
    pattern: 'before every step',
  },
  {
    step: 'swap: both folders lead through one link',
    file: 'src/neo4j/swap.ts',
    from: 'if (await this.#canExchange()) await this.#commitByExchange();',
    to: 'if (!(await this.#canExchange())) await this.#commitByExchange();',
    guard: SWAP,
    pattern: 'before every step',
  },
];

for (const mutation of MUTATIONS) {
  test(`a test notices when this is missing: ${mutation.step}`, (context) => {
    const copy = temporaryFolder(context);
    for (const folder of ['src', 'test/fault', 'test/fixtures']) {
      cpSync(join(ROOT, folder), join(copy, folder), { recursive: true });
    }
    cpSync(join(ROOT, 'package.json'), join(copy, 'package.json'));
    symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
    const guard = [
      '--test',
      '--test-reporter=spec',
      `--test-name-pattern=${mutation.pattern}`,
      join(copy, mutation.guard),
    ];
    const run = (): { status: number | null; output: string } => {
      const { status, stdout, stderr } = spawnSync(process.execPath, guard, {
        encoding: 'utf8',
        // A test runner that finds itself inside another one reports to it instead of exiting with a status.
        env: { ...process.env, NODE_TEST_CONTEXT: undefined },
      });
      return { status, output: stdout + stderr };
    };
    const path = join(copy, mutation.file);
    const source = readFileSync(path, 'utf8');
    assert.equal(source.split(mutation.from).length, 2, `${mutation.file} has changed: adapt the mutation`);
    writeFileSync(
      path,
      source.replace(mutation.from, () => mutation.to),
    );
    const broken = run();
    assert.notEqual(broken.status, 0, `nothing noticed:\n${broken.output}`);
    assert.match(broken.output, /AssertionError|GraphkeepError/, 'the guard failed for another reason');
  });
}
