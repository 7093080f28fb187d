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
const CHAINS = 'test/unit/chain/chains.test.ts';
const PLAN = 'test/unit/chain/plan.test.ts';
const PROOF = 'test/unit/chain/proof.test.ts';
const DIFFERENTIAL = 'test/unit/operations/differential.test.ts';
const RESTORE = 'test/unit/operations/chainrestore.test.ts';
const VALIDATE = 'test/unit/operations/chainvalidate.test.ts';

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
  {
    step: 'differential: the checksum of the parent where it was found last time',
    file: 'src/hotcopy/logafter.ts',
    from: 'commit?.transactionId === mark.appendIndex && commit.checksum === mark.checksum',
    to: 'commit?.transactionId === mark.appendIndex',
    guard: DIFFERENTIAL,
    pattern: 'diverged: the very last',
  },
  {
    step: 'differential: the checksum of the parent where it is found by its number',
    file: 'src/hotcopy/logafter.ts',
    from: 'if (found.checksum !== mark.checksum)',
    to: 'if (found.checksum !== mark.checksum && found.checksum < 0)',
    guard: DIFFERENTIAL,
    pattern: 'diverged: the very last',
  },
  {
    step: 'differential: the checksum of a parent whose file is gone',
    file: 'src/hotcopy/logafter.ts',
    from: 'if (next.previousChecksum !== mark.checksum) return',
    to: 'if (next.previousChecksum < 0) return',
    guard: DIFFERENTIAL,
    pattern: 'a file that begins right behind',
  },
  {
    step: 'differential: it begins right behind its parent',
    file: 'src/hotcopy/logafter.ts',
    from: 'if (tail.appendIndexBefore !== mark.appendIndex) {',
    to: 'if (tail.appendIndexBefore > mark.appendIndex) {',
    guard: DIFFERENTIAL,
    pattern: 'a next file that repeats',
  },
  {
    step: 'differential: log files that appeared since the search',
    file: 'src/hotcopy/logafter.ts',
    from: 'await this.#pins.refresh();',
    to: '',
    guard: DIFFERENTIAL,
    pattern: 'between the search and the reading',
  },
  {
    step: 'differential: files without a transaction are left out',
    file: 'src/hotcopy/logafter.ts',
    from: 'membersOfTail(withoutEmptyFiles(tail))',
    to: 'membersOfTail(tail.files.length < 0 ? withoutEmptyFiles(tail) : tail)',
    guard: DIFFERENTIAL,
    pattern: 'rotation right at',
  },
  {
    step: 'differential: only of the same store',
    file: 'src/operations/differential.ts',
    from: 'const group = named.filter((artifact) => isOfStore(artifact, log.neostore));',
    to: 'const group = named.filter((artifact) => isOfStore(artifact, log.neostore) || true);',
    guard: DIFFERENTIAL,
    pattern: 'otherStore:',
  },
  {
    step: 'differential: only behind a whole chain',
    file: 'src/operations/differential.ts',
    from: 'if (chainsTo(artifact, group).length === 0) {',
    to: 'if (chainsTo(artifact, group).length < 0) {',
    guard: DIFFERENTIAL,
    pattern: 'chainBroken:',
  },
  {
    step: 'differential: no full one in its place unasked',
    file: 'src/operations/backup.ts',
    from: 'refuseUnlessFullMayBeTaken(parent, options);',
    to: '',
    guard: DIFFERENTIAL,
    pattern: 'noChain:',
  },
  {
    step: 'chain: the checksum of a joint',
    file: 'src/chain/chains.ts',
    from: 'parent.checksum === artifact.highestChecksum',
    to: 'parent.checksum !== undefined',
    guard: CHAINS,
    pattern: 'D11b-20 does not follow',
  },
  {
    step: 'chain: nothing follows an empty one',
    file: 'src/chain/chains.ts',
    from: '    !isEmptyDifferential(artifact) &&\n    parent.appendIndex === artifact',
    to: '    parent.appendIndex === artifact',
    guard: CHAINS,
    pattern: 'an empty one whose numbers',
  },
  {
    step: 'plan: no target before the end of the full one',
    file: 'src/chain/plan.ts',
    from: 'window.from < until.transaction && until.transaction <= window.to + 1n',
    to: 'until.transaction <= window.to + 1n',
    guard: PLAN,
    pattern: 'never takes a full artifact',
  },
  {
    step: 'plan: no moment before the last commit of the full one',
    file: 'src/chain/plan.ts',
    from: 'fromTime < until.time && until.time <= toTime',
    to: 'until.time <= toTime',
    guard: PLAN,
    pattern: 'the last commit of the full one itself',
  },
  {
    step: 'proof: number and checksum of a joint',
    file: 'src/chain/proof.ts',
    from: 'parent?.appendIndex === appendIndex && parent.checksum === checksum',
    to: 'parent?.appendIndex === appendIndex',
    guard: PROOF,
    pattern: 'a joint holds',
  },
  {
    step: 'proof: only the first differential may overlap',
    file: 'src/chain/proof.ts',
    from: 'this.#isFirst && parent !== undefined',
    to: 'parent !== undefined',
    guard: PROOF,
    pattern: 'a joint holds',
  },
  {
    step: 'proof: the overlapped transaction is the one that the full one ends with',
    file: 'src/chain/continuity.ts',
    from: 'lastChecksum !== this.#fence.checksum',
    to: 'lastChecksum < 0',
    guard: PROOF,
    pattern: 'another history is refuted',
  },
  {
    step: 'proof: what the full one holds is left out',
    file: 'src/chain/proof.ts',
    from: 'transaction.appendIndex <= this.#full.highestTransaction || this.#wasCut',
    to: 'this.#wasCut',
    guard: PROOF,
    pattern: 'an overlap: what',
  },
  {
    step: 'proof: nothing behind the cut',
    file: 'src/chain/proof.ts',
    from: 'transaction.appendIndex <= this.#full.highestTransaction || this.#wasCut',
    to: 'transaction.appendIndex <= this.#full.highestTransaction',
    guard: PROOF,
    pattern: 'before the first transaction that',
  },
  {
    step: 'proof: the cut',
    file: 'src/chain/proof.ts',
    from: 'if (isBeyond(transaction, this.#until)) {',
    to: 'if (isBeyond(transaction, this.#until) && this.#wasCut) {',
    guard: PROOF,
    pattern: 'before every transaction',
  },
  {
    step: 'proof: the end of a differential',
    file: 'src/chain/proof.ts',
    from: 'if (appendIndex === highestTransaction && checksum === highestChecksum) return;',
    to: 'if (appendIndex <= highestTransaction || checksum !== highestChecksum) return;',
    guard: PROOF,
    pattern: 'the log must end with',
  },
  {
    step: 'proof: a differential reaches the end of the full one',
    file: 'src/chain/proof.ts',
    from: 'this.#continuity.requireFence();',
    to: '',
    guard: PROOF,
    pattern: 'the log must end with',
  },
  {
    step: 'proof: no zeros inside the log',
    file: 'src/chain/proof.ts',
    from: 'if (reader.hasZeroTail)',
    to: "if (reader.hasZeroTail && reader.path === '')",
    guard: PROOF,
    pattern: 'what no differential holds',
  },
  {
    step: 'proof: the file is still the one that was planned with',
    file: 'src/chain/proof.ts',
    from: 'refuseReplaced(artifact, summary);',
    to: '',
    guard: PROOF,
    pattern: 'is another one by now',
  },
  {
    step: 'validate: a log begins behind its parent',
    file: 'src/operations/artifactproof.ts',
    from: 'this.#requireJoint(mark);',
    to: '',
    guard: PROOF,
    pattern: 'the log must say what',
  },
  {
    step: 'validate: an overlap is refuted',
    file: 'src/operations/validate.ts',
    from: 'if (seen === full.highestChecksum) return undefined;',
    to: 'if (seen !== full.parent?.checksum) return undefined;',
    guard: VALIDATE,
    pattern: 'one that is refuted',
  },
  {
    step: 'restore: a file of the log has the header of its place',
    file: 'src/chain/assemble.ts',
    from: 'writeLogHeaderAfter(piece.header, piece.previousAppendIndex, version)',
    to: 'writeLogHeaderAfter(piece.header, piece.previousAppendIndex)',
    guard: RESTORE,
    pattern: 'to its end, from',
  },
  {
    step: 'restore: what comes before a piece is told in its header',
    file: 'src/chain/assemble.ts',
    from: 'writeLogHeaderAfter(piece.header, piece.previousAppendIndex, version)',
    to: 'writeLogHeaderAfter(piece.header, 1n, version)',
    guard: RESTORE,
    pattern: 'an overlap is cut',
  },
];

for (const mutation of MUTATIONS) {
  test(`a test notices when this is missing: ${mutation.step}`, (context) => {
    const copy = temporaryFolder(context);
    for (const folder of ['src', 'test/fault', 'test/fixtures', 'test/unit']) {
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
