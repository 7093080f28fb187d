/** Folding chains of real bytes: the result is what the chain would be restored to, and nothing goes before it is proven. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, test } from 'node:test';
import { openArtifact } from '../../../src/artifact/reader.ts';
import { summaryOf } from '../../../src/chain/catalogue.ts';
import { aggregateChain } from '../../../src/operations/aggregate.ts';
import { inspectArtifacts } from '../../../src/operations/inspect.ts';
import { restoreDatabase } from '../../../src/operations/restore.ts';
import type { AggregateOptions, AggregateResult } from '../../../src/operations/types.ts';
import { validateArtifact } from '../../../src/operations/validate.ts';
import { acquireLease } from '../../../src/storage/lease.ts';
import { ChainScene, diverged, HIGHEST, historyOf } from '../../fixtures/chains.ts';
import { foldersIn } from '../../fixtures/database.ts';
import { LINES } from '../../fixtures/lines.ts';
import { assertSameFiles, failure, filesBelow, namesIn, openFilesBelow } from '../../fixtures/workspace.ts';
import { cli } from '../cli/harness.ts';

function aggregate(scene: ChainScene, options: Partial<AggregateOptions> = {}): Promise<AggregateResult> {
  return aggregateChain({
    artifactPath: scene.target,
    compress: true,
    compressionLevel: 1,
    keepFailed: false,
    keepOldBackup: false,
    ...options,
  });
}

async function restored(scene: ChainScene, artifactPath: string, name: string): Promise<Map<string, Buffer>> {
  const target = foldersIn(join(scene.root, name));
  await restoreDatabase({ artifactPath, target, overwriteDestination: false });
  return filesBelow(join(scene.root, name));
}

for (const line of LINES) {
  for (const compress of [true, false]) {
    test(`a chain of ${line} becomes one artifact, ${compress ? '' : 'un'}compressed`, async (context) => {
      const scene = new ChainScene(context, line, { last: 20n, checkpoint: 10n });
      await scene.backup('FULL', { compress });
      scene.database.appendTo(27n);
      scene.database.rotate();
      scene.database.appendTo(30n);
      await scene.backup('DIFF');
      scene.database.appendTo(HIGHEST);
      const last = await scene.backup('DIFF', { compress: !compress });
      const expected = await restored(scene, last.artifactPath, 'of-the-chain');
      const tip = await summaryOf(last.artifactPath);

      const result = await aggregate(scene);
      assert.deepEqual(
        [result.aggregated, result.recovered, result.highestTransaction],
        [true, false, HIGHEST],
      );
      assert.equal(result.removed.length, 3);
      assert.deepEqual(namesIn(scene.target), [basename(result.artifactPath)]);
      assertSameFiles(await restored(scene, result.artifactPath, 'of-the-result'), expected);
      const summary = await summaryOf(result.artifactPath);
      assert.deepEqual(
        [summary.full, summary.compressed, summary.highestChecksum, summary.latestCommit, summary.end],
        [true, compress, tip.highestChecksum, tip.latestCommit, tip.end],
      );
      assert.equal(summary.time?.getTime(), tip.time?.getTime(), 'it stands for the same moment');
      assert.deepEqual((await validateArtifact(result.artifactPath)).problems, []);
      assert.deepEqual(openFilesBelow(scene.root), []);
    });
  }
}

test('the chain goes on behind the result', async (context) => {
  const scene = new ChainScene(context, '5.26', { last: 20n });
  await scene.backup('FULL');
  scene.database.appendTo(30n);
  await scene.backup('DIFF');
  const result = await aggregate(scene);
  scene.database.appendTo(HIGHEST);
  const next = await scene.backup('DIFF');
  assert.deepEqual([next.parentPath, next.lowestTransaction], [result.artifactPath, 31n]);
});

describe('what stays', () => {
  test('everything, when it is to be kept', async (context) => {
    const scene = new ChainScene(context, '5.26', { last: 20n });
    await scene.backup('FULL');
    scene.database.appendTo(30n);
    await scene.backup('DIFF');
    const before = filesBelow(scene.target);
    const result = await aggregate(scene, { keepOldBackup: true });
    const after = filesBelow(scene.target);
    assert.equal(after.delete(basename(result.artifactPath)), true);
    assertSameFiles(after, before);
  });

  test('a lone full artifact: there is nothing to fold', async (context) => {
    const scene = new ChainScene(context, '5.26', { last: 20n });
    const full = await scene.backup('FULL');
    const before = filesBelow(scene.target);
    const result = await aggregate(scene);
    assert.deepEqual(
      [result.aggregated, result.artifactPath, result.removed],
      [false, full.artifactPath, []],
    );
    assertSameFiles(filesBelow(scene.target), before);
  });

  test('what another history still needs', async (context) => {
    const scene = new ChainScene(context, '5.26', { last: 20n });
    const history = historyOf('5.26');
    const full = await scene.backup('FULL');
    scene.database.appendTo(25n);
    const shared = await scene.backup('DIFF');
    scene.database.appendTo(30n);
    const lost = await scene.backup('DIFF');
    const lostBytes = readFileSync(lost.artifactPath);
    rmSync(lost.artifactPath);
    scene.database.setBack(25n, diverged(history, 26n));
    scene.database.appendTo(28n);
    const other = await scene.backup('DIFF');
    writeFileSync(lost.artifactPath, lostBytes);
    const result = await aggregate(scene, { artifactPath: other.artifactPath });
    assert.deepEqual(result.removed, [other.artifactPath]);
    const chain = await restored(scene, lost.artifactPath, 'lost');
    assert.ok(chain.size > 0);
    assert.deepEqual(
      new Set(namesIn(scene.target)),
      new Set([full, shared, lost, result].map(({ artifactPath }) => basename(artifactPath))),
    );
  });

  test('the old ones, while another process uses the folder; the result is there all the same', async (context) => {
    const scene = new ChainScene(context, '5.26', { last: 20n });
    await scene.backup('FULL');
    scene.database.appendTo(30n);
    await scene.backup('DIFF');
    const script = `
      import { acquireLease } from '${join(import.meta.dirname, '../../../src/storage/lease.ts')}';
      await acquireLease(process.argv[1], 'shared');
      console.log('held');
      process.stdin.resume();`;
    const holder = spawn(process.execPath, ['--input-type=module', '-e', script, scene.target], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    context.after(() => holder.kill('SIGKILL'));
    await once(holder.stdout, 'data');
    const notices: string[] = [];
    const listener = { progress: () => {}, notice: (text: string) => notices.push(text) };
    const result = await aggregate(scene, { leaseWaitMs: 0, listener });
    assert.deepEqual(result.removed, []);
    assert.match(notices.join('\n'), /stay where they are/);
    assert.equal(namesIn(scene.target).length, 3);
  });
});

describe('what fails leaves everything as it was', () => {
  test('damage in a differential, and in the store of the full artifact', async (context) => {
    const scene = new ChainScene(context, '5.26', { last: 20n });
    const full = await scene.backup('FULL');
    scene.database.appendTo(30n);
    const differential = await scene.backup('DIFF');
    for (const { artifactPath } of [full, differential]) {
      const { index, file } = await openArtifact(artifactPath);
      await file.close();
      const bytes = readFileSync(artifactPath);
      // Not the first ones: they are read with the head, so that the file would not pass for an artifact at all.
      const [offset, storedBytes] = index!.frames[Math.max(1, index!.frames.length - 4)]!;
      const at = offset + Math.floor(storedBytes / 2);
      const damaged = Buffer.from(bytes);
      damaged.writeUInt8(damaged.readUInt8(at) ^ 1, at);
      writeFileSync(artifactPath, damaged);
      const before = filesBelow(scene.target);
      await assert.rejects(aggregate(scene), failure('GK_ARTIFACT_CORRUPT'));
      assertSameFiles(filesBelow(scene.target), before);
      writeFileSync(artifactPath, bytes);
    }
    assert.deepEqual(openFilesBelow(scene.root), []);
  });

  test('an interruption', async (context) => {
    const scene = new ChainScene(context, '5.26', { last: 20n });
    await scene.backup('FULL');
    scene.database.appendTo(30n);
    await scene.backup('DIFF');
    const before = filesBelow(scene.target);
    const controller = new AbortController();
    const listener = { progress: () => controller.abort(), notice: () => {} };
    const aborted = aggregate(scene, { signal: controller.signal, listener });
    await assert.rejects(aborted, failure('GK_INTERRUPTED'));
    assertSameFiles(filesBelow(scene.target), before);
  });

  test('a chain with a gap', async (context) => {
    const scene = new ChainScene(context, '5.26', { last: 20n });
    await scene.backup('FULL');
    scene.database.appendTo(25n);
    const middle = await scene.backup('DIFF');
    scene.database.appendTo(30n);
    await scene.backup('DIFF');
    rmSync(middle.artifactPath);
    await assert.rejects(aggregate(scene), failure('GK_CHAIN_BROKEN'));
  });
});

describe('the command', () => {
  for (const words of [
    ['backup', 'aggregate'],
    ['database', 'aggregate-backup'],
  ]) {
    test(`${words.join(' ')} folds what a pattern matches, and says what it did as JSON`, async (context) => {
      const scene = new ChainScene(context, '5.26', { last: 20n });
      await scene.backup('FULL');
      scene.database.appendTo(30n);
      await scene.backup('DIFF');
      const run = await cli([...words, `--from-path=${scene.target}`, 'n*', '--format=json']);
      assert.equal(run.exitStatus, 0, run.stderr);
      const [item] = (JSON.parse(run.stdout) as { aggregations: AggregateResult[] }).aggregations;
      assert.deepEqual([item!.database, item!.aggregated, item!.recovered], ['neo4j', true, false]);
      assert.equal((await inspectArtifacts(scene.target)).artifacts.length, 1);
    });
  }

  test('says that earlier moments are lost, and that there is no Neo4j where one is asked for', async (context) => {
    const scene = new ChainScene(context, '5.26', { last: 20n });
    await scene.backup('FULL');
    const run = await cli(['backup', 'aggregate', `--from-path=${scene.target}`]);
    assert.match(run.stderr, /only the newest state can be restored afterwards/);
    assert.match(run.stdout, /Nothing to aggregate/);
    const refused = await cli(['backup', 'aggregate', `--from-path=${scene.target}`, '--engine=neo4j']);
    assert.deepEqual([refused.exitStatus, /none was found/.test(refused.stderr)], [64, true]);
    const absent = await cli(['backup', 'aggregate', `--from-path=${scene.target}`, 'other']);
    assert.equal(absent.exitStatus, 66);
  });
});

test('the lease is free again after it', async (context) => {
  const scene = new ChainScene(context, '5.26', { last: 20n });
  await scene.backup('FULL');
  scene.database.appendTo(30n);
  await scene.backup('DIFF');
  await aggregate(scene);
  const lease = await acquireLease(scene.target, 'exclusive', { waitMs: 0 });
  lease.release();
});
