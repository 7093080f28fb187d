/** Restoring chains of real bytes: to the end, to a transaction, to a moment; and what is refused untouched. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { openArtifact } from '../../../src/artifact/reader.ts';
import { summaryOf } from '../../../src/chain/catalogue.ts';
import type { Until } from '../../../src/chain/proof.ts';
import { GraphkeepError } from '../../../src/errors.ts';
import type { DatabaseFolders } from '../../../src/neo4j/folders.ts';
import { planRestore } from '../../../src/operations/plan.ts';
import { restoreDatabase } from '../../../src/operations/restore.ts';
import type { ChainRequest, RestoreResult } from '../../../src/operations/types.ts';
import { validateArtifact } from '../../../src/operations/validate.ts';
import {
  bytesOf,
  ChainScene,
  CLOCK_START,
  diverged,
  FIRST,
  HIGHEST,
  type History,
  historyOf,
  logName,
  membersOf,
  readLogFiles,
  transactionAt,
  withCommitTimes,
} from '../../fixtures/chains.ts';
import { foldersIn } from '../../fixtures/database.ts';
import { CHECKPOINT_FIXTURE, LINES, type Line } from '../../fixtures/lines.ts';
import { randomNumbers } from '../../fixtures/random.ts';
import { isReached, type Taken, type Way, waysThrough } from '../../fixtures/ways.ts';
import { assertSameFiles, failure, filesBelow, openFilesBelow } from '../../fixtures/workspace.ts';

interface Restored {
  readonly target: DatabaseFolders;
  readonly result: RestoreResult;
}

async function restore(scene: ChainScene, request: Partial<ChainRequest> = {}): Promise<Restored> {
  const target = foldersIn(join(scene.root, 'restored'));
  const result = await restoreDatabase({
    artifactPath: scene.target,
    target,
    overwriteDestination: true,
    ...request,
  });
  assert.deepEqual(openFilesBelow(scene.root), []);
  return { target, result };
}

/** What is where databases are restored to, but for the lock file that replacing one leaves. */
function stateOf(scene: ChainScene): Map<string, Buffer> {
  const files = filesBelow(join(scene.root, 'restored'));
  return new Map([...files].filter(([name]) => basename(name) !== 'database_lock'));
}

/**
 * The whole restored database: the store files and the checkpoint of the full artifact, untouched; its log, untouched; and
 * behind it the log of the differentials up to the cut, byte by byte, without a gap.
 */
async function assertRestored({ target, result }: Restored, history: History, end: bigint): Promise<void> {
  assert.equal(result.highestTransaction, end);
  const logs = filesBelow(target.logDirectory);
  const expected = new Map<string, Buffer>();
  for (const [path, bytes] of await membersOf(result.artifactPath)) {
    if (path === CHECKPOINT_FIXTURE || path.startsWith(logName(0n).slice(0, -1))) {
      assert.equal(logs.get(path)?.equals(bytes), true, `${path} is that of the full artifact`);
    } else expected.set(path, bytes);
  }
  const stores = [...filesBelow(target.storeDirectory)].filter(([name]) => !name.endsWith('/'));
  assertSameFiles(new Map(stores.filter(([name]) => name !== 'database_lock')), expected);
  const files = readLogFiles(logs);
  const first = files[0]!.previousAppendIndex + 1n;
  const content = Buffer.concat(files.map(({ bytes }) => bytes.subarray(128)));
  assert.equal(content.equals(bytesOf(history, first, end)), true, `transactions ${first} to ${end}`);
  const sizes = [...filesBelow(target.logDirectory).values(), ...expected.values()];
  assert.equal(
    result.memberBytes,
    sizes.reduce((sum, { length }) => sum + length, 0),
  );
}

/** F20, D21-27 (two files), D28-30, D31-35, each after a rotation or not. */
async function makeChain(context: TestContext, line: Line): Promise<ChainScene & { artifacts: string[] }> {
  const scene = new ChainScene(context, line, { checkpoint: 15n });
  const artifacts = [(await scene.backup()).artifactPath];
  scene.database.appendTo(24n);
  scene.database.rotate();
  artifacts.push((await scene.backupAt(27n)).artifactPath);
  artifacts.push((await scene.backupAt(30n)).artifactPath);
  scene.database.rotate();
  artifacts.push((await scene.backupAt(35n)).artifactPath);
  return Object.assign(scene, { artifacts });
}

for (const line of LINES) {
  const history = historyOf(line);

  describe(`restore of a chain of ${line}`, () => {
    test('to its end, from a folder or from its last artifact', async (context) => {
      const scene = await makeChain(context, line);
      for (const artifactPath of [scene.target, scene.artifacts[3]!]) {
        const restored = await restore(scene, { artifactPath });
        await assertRestored(restored, history, 35n);
        const { artifactPath: full, differentialPaths } = restored.result;
        assert.deepEqual([full, ...differentialPaths], scene.artifacts);
      }
      await assertRestored(await restore(scene, { artifactPath: scene.artifacts[1]! }), history, 27n);
      await assertRestored(await restore(scene, { artifactPath: scene.artifacts[0]! }), history, 20n);
      const { valid } = await validateArtifact((await scene.backup('FULL')).artifactPath);
      assert.equal(valid, true);
    });

    test('what was restored can be backed up, and goes on in its chain', async (context) => {
      const scene = await makeChain(context, line);
      const { target } = await restore(scene);
      const database = Object.assign(Object.create(scene.database), { folders: target });
      const next = await scene.backup('DIFF', {}, database);
      assert.deepEqual([next.parentPath, next.highestTransaction], [scene.artifacts[3]!, 0n]);
      const full = await scene.backup('FULL', {}, database);
      assert.equal(full.highestTransaction, 35n);
      assert.equal((await validateArtifact(full.artifactPath)).valid, true);
    });

    test('until every transaction; before the end of the full one nothing is touched', async (context) => {
      const scene = await makeChain(context, line);
      await restore(scene);
      const before = stateOf(scene);
      for (const transaction of [1n, 2n, 16n, 20n, 37n]) {
        await assert.rejects(
          restore(scene, { until: { transaction } }),
          failure('GK_OUT_OF_WINDOW', /from 21 to 36/),
        );
        assertSameFiles(stateOf(scene), before);
      }
      for (let transaction = 21n; transaction <= 36n; transaction += 1n) {
        const restored = await restore(scene, { until: { transaction } });
        await assertRestored(restored, history, transaction - 1n);
        const needed = [20n, 27n, 30n, 35n].findIndex((end) => end >= transaction - 1n);
        assert.deepEqual(restored.result.differentialPaths, scene.artifacts.slice(1, needed + 1));
      }
    });

    test('until a moment: the result names what it was made of, and nothing else', async (context) => {
      const scene = await makeChain(context, line);
      const { commitTimeMillis } = transactionAt(history, 26n);
      const restored = await restore(scene, { until: { time: new Date(Number(commitTimeMillis)) } });
      await assertRestored(restored, history, 25n);
      assert.deepEqual(restored.result.differentialPaths, scene.artifacts.slice(1, 2));
    });

    test('the whole chain is needed: without one of its artifacts nothing is touched', async (context) => {
      const scene = await makeChain(context, line);
      await restore(scene);
      const before = stateOf(scene);
      for (const artifact of scene.artifacts.slice(0, 3)) {
        const bytes = readFileSync(artifact);
        rmSync(artifact);
        await assert.rejects(restore(scene), failure('GK_CHAIN_BROKEN', /no full artifact leads to/));
        writeFileSync(artifact, bytes);
      }
      assertSameFiles(stateOf(scene), before);
    });

    test('artifacts named one by one: all of one chain, in any order', async (context) => {
      const scene = await makeChain(context, line);
      const [full, first, second, third] = scene.artifacts as [string, string, string, string];
      const restored = await restore(scene, { artifactPath: second, among: [second, full, first] });
      await assertRestored(restored, history, 30n);
      await assert.rejects(
        restore(scene, { artifactPath: third, among: [full, third, first] }),
        failure('GK_CHAIN_BROKEN'),
      );
      const other = await scene.backup('FULL');
      await assert.rejects(
        restore(scene, { artifactPath: other.artifactPath, among: [other.artifactPath, full, first] }),
        failure('GK_USAGE', /does not belong to one chain/),
      );
    });

    test('an empty differential leads to where its parent leads', async (context) => {
      const scene = await makeChain(context, line);
      const empty = await scene.backup();
      assert.equal(empty.highestTransaction, 0n);
      await assertRestored(await restore(scene, { artifactPath: empty.artifactPath }), history, 35n);
      await assertRestored(await restore(scene), history, 35n);
      rmSync(scene.artifacts[3]!);
      await assert.rejects(
        restore(scene, { artifactPath: empty.artifactPath }),
        failure('GK_CHAIN_BROKEN', /the artifact that it follows is missing: transaction 35/),
      );
    });

    test('an overlap is cut where the full one ends', async (context) => {
      const scene = new ChainScene(context, line);
      await scene.backup();
      await scene.backupAt(25n);
      const full = await scene.backupAt(30n, 'FULL');
      scene.database.appendTo(35n);
      const last = await scene.backup('DIFF', { preferDifferentialAsParent: true });
      assert.equal(last.lowestTransaction, 26n);
      const restored = await restore(scene);
      assert.equal(restored.result.artifactPath, full.artifactPath);
      await assertRestored(restored, history, 35n);
      const earlier = await restore(scene, { until: { transaction: 28n } });
      assert.notEqual(earlier.result.artifactPath, full.artifactPath);
      await assertRestored(earlier, history, 27n);
    });

    test('an overlap with another history: another chain, or nothing', async (context) => {
      const scene = new ChainScene(context, line);
      const first = await scene.backup();
      const differential = await scene.backupAt(25n);
      // The server is set back; of its other history only a full artifact is taken. Then it is set back again.
      scene.database.setBack(22n, diverged(history, 23n));
      const other = await scene.backupAt(30n, 'FULL');
      scene.database.setBack(22n, history);
      scene.database.appendTo(35n);
      const last = await scene.backup('DIFF', { preferDifferentialAsParent: true });
      assert.equal(last.parentPath, differential.artifactPath);
      const notices: string[] = [];
      const listener = { progress: () => {}, notice: (text: string) => notices.push(text) };
      const restored = await restore(scene, { listener });
      assert.equal(restored.result.artifactPath, first.artifactPath);
      await assertRestored(restored, history, 35n);
      assert.match(notices.join(), /another chain is tried: .*transaction 30 .*another/);
      rmSync(differential.artifactPath);
      const before = stateOf(scene);
      await assert.rejects(restore(scene), failure('GK_CHAIN_BROKEN', /transaction 30/));
      assertSameFiles(stateOf(scene), before);
      assert.equal(existsSync(other.artifactPath), true);
    });

    test('what the newest full one holds already is not needed, damaged or not', async (context) => {
      const scene = new ChainScene(context, line);
      await scene.backup();
      const held = await scene.backupAt(25n);
      const full = await scene.backup('FULL');
      const last = await scene.backupAt(30n);
      assert.equal(last.parentPath, full.artifactPath);
      const bytes = readFileSync(held.artifactPath);
      bytes[600]! ^= 1;
      writeFileSync(held.artifactPath, bytes);
      const restored = await restore(scene);
      await assertRestored(restored, history, 30n);
      assert.deepEqual(restored.result.differentialPaths, [last.artifactPath]);
    });

    test('damage anywhere in a differential is found before the target is touched', async (context) => {
      const scene = await makeChain(context, line);
      await restore(scene);
      const before = stateOf(scene);
      const next = randomNumbers(20261121);
      for (const path of scene.artifacts.slice(1)) {
        const whole = readFileSync(path);
        const artifact = await openArtifact(path);
        await artifact.file.close();
        const { frames } = artifact.index!;
        const indexStart = frames.at(-1)![0] + frames.at(-1)![1];
        const regions = [...frames.map(([from, bytes]) => [from, from + bytes]), [indexStart, whole.length]];
        for (let count = 0; count < 10 * regions.length; count++) {
          const [from, to] = regions[count % regions.length] as [number, number];
          const place = from + next(to - from);
          const bit = next(8);
          const damaged = Buffer.from(whole);
          damaged[place]! ^= 1 << bit;
          writeFileSync(path, damaged);
          const where = `bit ${bit} of byte ${place} of ${basename(path)}`;
          const request = { artifactPath: scene.artifacts[3]! };
          await assert.rejects(restore(scene, request), refusal, where);
          assert.equal((await validateArtifact(path)).valid, false, where);
        }
        writeFileSync(path, whole);
      }
      assertSameFiles(stateOf(scene), before);
      await assertRestored(await restore(scene), history, 35n);
    });

    test('a folder whose newest artifact cannot be read is not restored to an older state', async (context) => {
      const scene = await makeChain(context, line);
      const newest = scene.artifacts[3]!;
      const whole = readFileSync(newest);
      for (const damaged of [whole.subarray(0, 100), whole.subarray(0, -1), Buffer.alloc(0)]) {
        writeFileSync(newest, damaged);
        await assert.rejects(restore(scene), refusal, `${damaged.length} bytes of ${whole.length}`);
      }
    });

    test('an interruption at any report leaves the target as it was', async (context) => {
      const scene = await makeChain(context, line);
      await restore(scene);
      const before = stateOf(scene);
      let total = 0;
      const run = (stopAt: number): Promise<Restored> => {
        const stop = new AbortController();
        let reports = 0;
        const progress = (): void => {
          reports += 1;
          total = Math.max(total, reports);
          if (reports === stopAt) stop.abort();
        };
        return restore(scene, { signal: stop.signal, listener: { progress, notice: () => {} } });
      };
      await run(0);
      const whole = total;
      for (const stopAt of [1, 3, 8, 20, whole - 1]) {
        await assert.rejects(run(stopAt), failure('GK_INTERRUPTED'), `report ${stopAt} of ${whole}`);
        assertSameFiles(stateOf(scene), before);
        assert.deepEqual(openFilesBelow(scene.root), []);
      }
    });

    test('the plan says what a restore would do', async (context) => {
      const scene = await makeChain(context, line);
      const plan = await planRestore({ artifactPath: scene.target });
      assert.deepEqual(
        plan.artifacts.map(({ path }) => path),
        scene.artifacts,
      );
      assert.deepEqual([plan.window.from, plan.window.to, plan.endTransaction], [20n, 35n, 35n]);
      assert.equal(plan.neo4jVersion, line === '5.26' ? '5.25' : '2026.08');
      assert.deepEqual(openFilesBelow(scene.root), []);
      assert.equal(existsSync(join(scene.root, 'restored')), false);
      const untils: (Until | undefined)[] = [
        undefined,
        { transaction: 21n },
        { transaction: 26n },
        { time: new Date(Number(transactionAt(history, 29n).commitTimeMillis)) },
      ];
      for (const until of untils) {
        const request = { artifactPath: scene.target, ...(until && { until }) };
        const { neededBytes, endTransaction, endTime } = await planRestore(request);
        const { result, target } = await restore(scene, request);
        assert.equal(endTransaction, result.highestTransaction);
        assert.equal(neededBytes, result.memberBytes);
        const written = [target.storeDirectory, target.logDirectory].flatMap((folder) => [
          ...filesBelow(folder).values(),
        ]);
        assert.equal(
          neededBytes,
          written.reduce((sum, { length }) => sum + length, 0),
        );
        const times = history.transactions.flatMap(({ appendIndex, commitTimeMillis }) =>
          15n <= appendIndex && appendIndex <= endTransaction ? Number(commitTimeMillis) : [],
        );
        assert.equal(endTime?.getTime(), Math.max(...times));
      }
    });
  });
}

/** What one run of the property does: backups of a growing log, then restores. */
interface Step {
  readonly commits: number;
  readonly rotate: boolean;
  readonly kind: 'FULL' | 'DIFF' | 'prefer' | 'AUTO';
}

const steps = fc.array(
  fc.record({
    commits: fc.integer({ min: 0, max: 6 }),
    rotate: fc.boolean(),
    kind: fc.constantFrom<Step['kind']>('FULL', 'DIFF', 'DIFF', 'prefer', 'prefer', 'AUTO'),
  }),
  { minLength: 2, maxLength: 8 },
);
const targets = fc.array(
  fc.oneof(
    fc.record({ transaction: fc.bigInt({ min: 1n, max: 44n }) }),
    fc.record({ time: fc.integer({ min: 0, max: 150 }).map(timeOf) }),
    fc.constant(undefined),
  ),
  { minLength: 1, maxLength: 4 },
);

/** Transactions are committed three ticks after one another, some up to three ticks early or late. */
const TICK_MS = 20_000;
function timeOf(tick: number): Date {
  return new Date(CLOCK_START + tick * TICK_MS);
}

for (const line of LINES) {
  test(`any backups of ${line}, restored to anywhere: the log up to there, or a refusal`, async (context) => {
    const scene = new ChainScene(context, line);
    const jitter = fc.array(fc.integer({ min: -3, max: 3 }), { minLength: 42, maxLength: 42 });
    let restores = 0;
    let refusals = 0;
    const property = fc.asyncProperty(steps, targets, jitter, async (plan, untils, late) => {
      const history = withCommitTimes(historyOf(line), (appendIndex) => {
        const index = Number(appendIndex);
        return BigInt(timeOf(3 * index + late[index]!).getTime());
      });
      scene.restart({ history, last: 6n, checkpoint: FIRST });
      const taken = await takeAll(scene, plan);
      const ways = waysThrough(taken);
      for (const until of untils) {
        rmSync(join(scene.root, 'restored'), { recursive: true, force: true });
        const possible = ways.filter((way) => until === undefined || isReached(way, until));
        if (possible.length === 0) {
          refusals += 1;
          await assert.rejects(restore(scene, { until: until! }), failure('GK_OUT_OF_WINDOW'));
          assert.equal(existsSync(join(scene.root, 'restored')), false);
          continue;
        }
        restores += 1;
        const restored = await restore(scene, until && { until });
        const { artifactPath, highestTransaction } = restored.result;
        await assertRestored(restored, history, highestTransaction);
        assert.equal(highestTransaction, expectedEnd(history, taken, possible, artifactPath, until));
      }
    });
    await fc.assert(property, { numRuns: Number(process.env.GRAPHKEEP_PROPERTY_RUNS ?? 12) });
    context.diagnostic(`${restores} restores, ${refusals} refusals`);
    assert.ok(restores > 0);
  });
}

async function takeAll(scene: ChainScene, plan: readonly Step[]): Promise<Taken[]> {
  const { database } = scene;
  const taken: Taken[] = [];
  let nowMs = CLOCK_START;
  let checkpoint = FIRST;
  for (const { commits, rotate, kind } of plan) {
    if (rotate) database.rotate();
    const last = database.last + BigInt(commits);
    database.appendTo(last < HIGHEST ? last : HIGHEST);
    // A checkpoint somewhere between the last one and the end: full ones begin there.
    checkpoint = (checkpoint + database.last) / 2n;
    database.checkpoint(checkpoint);
    const seen = database.history.transactions.filter(({ appendIndex }) => appendIndex <= database.last);
    nowMs = Math.max(nowMs, ...seen.map(({ commitTimeMillis }) => Number(commitTimeMillis))) + TICK_MS;
    scene.nowMs = nowMs;
    const type = kind === 'prefer' || taken.length === 0 ? 'AUTO' : kind;
    const result = await scene.backup(type, { preferDifferentialAsParent: kind === 'prefer' });
    const { parent, latestCommit, time } = await summaryOf(result.artifactPath);
    taken.push({
      path: result.artifactPath,
      kind: result.kind,
      // Of an empty one, what it follows, below zero.
      low: result.highestTransaction === 0n ? -parent!.appendIndex : result.lowestTransaction,
      high: result.highestTransaction,
      takenMs: time!.getTime(),
      latestCommitMs: latestCommit!.getTime(),
    });
    nowMs = time!.getTime();
  }
  return taken;
}

/** The last transaction that must be there, when the restore was made from this full artifact. */
function expectedEnd(
  history: History,
  taken: readonly Taken[],
  possible: readonly Way[],
  full: string,
  until: Until | undefined,
): bigint {
  const ways = possible.filter((way) => way.full === full);
  assert.ok(ways.length > 0, `${full} leads there`);
  if (until === undefined) return taken.findLast(({ high }) => high > 0n)!.high;
  if ('transaction' in until) return until.transaction - 1n;
  const { from } = ways[0]!;
  // The newest artifact of those that lead there decides: what it holds is the history that counts.
  const newest = taken.findLast(({ path }) => ways.some(({ tip }) => tip === path))!;
  const cut = history.transactions.find(
    ({ appendIndex, commitTimeMillis }) =>
      appendIndex > from && Number(commitTimeMillis) >= until.time.getTime(),
  );
  return cut === undefined || cut.appendIndex > newest.high ? newest.high : cut.appendIndex - 1n;
}

function refusal(error: unknown): boolean {
  assert.ok(error instanceof GraphkeepError, String(error));
  // A flip in the head may give the artifact to another store or database: then something is missing.
  const codes = ['GK_ARTIFACT_CORRUPT', 'GK_CHAIN_BROKEN', 'GK_UNSUPPORTED'];
  assert.ok(codes.includes(error.code), `${error.code}: ${error.message}`);
  return true;
}
