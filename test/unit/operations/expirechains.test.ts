/** `backup expire` on real chains: overlaps that are proven by reading, and backups that run at the same time. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { listArtifactFiles } from '../../../src/chain/catalogue.ts';
import { LEASE_POLL_INTERVAL_MS } from '../../../src/limits.ts';
import { type ExpireOptions, type ExpireResult, expireArtifacts } from '../../../src/operations/expire.ts';
import { planRestore } from '../../../src/operations/plan.ts';
import type { BackupResult } from '../../../src/operations/types.ts';
import { validateArtifact } from '../../../src/operations/validate.ts';
import { acquireLease } from '../../../src/storage/lease.ts';
import { bytesOf, ChainScene, diverged, GrowingDatabase, historyOf } from '../../fixtures/chains.ts';
import { LINES } from '../../fixtures/lines.ts';
import { failure } from '../../fixtures/workspace.ts';

const SOURCE = join(import.meta.dirname, '../../../src');
const PREFER = { preferDifferentialAsParent: true };

const nameOf = ({ artifactPath }: BackupResult): string => basename(artifactPath);

async function assertLeft(scene: ChainScene, expected: readonly BackupResult[]): Promise<void> {
  const left = (await listArtifactFiles(scene.target)).map(({ path }) => basename(path));
  assert.deepEqual(left.sort(), expected.map(nameOf).sort());
}

async function expire(
  scene: ChainScene,
  more: Partial<ExpireOptions> = {},
): Promise<ExpireResult['databases'][number]> {
  const options = { directory: scene.target, policy: { last: 1 }, confirm: true, leaseWaitMs: 0, ...more };
  const [database] = (await expireArtifacts(options)).databases;
  return database!;
}

/** F1 to 20, D2 to 25, F3 to 28, D4 from 26 to 33, D5 to 38: D4 goes on past F3. */
async function takeOverlapping(scene: ChainScene): Promise<BackupResult[]> {
  return [
    await scene.backup('FULL'),
    await scene.backupAt(25n, 'DIFF'),
    await scene.backupAt(28n, 'FULL'),
    await scene.backupAt(33n, 'DIFF', { ...PREFER, compress: false }),
    await scene.backupAt(38n, 'DIFF', PREFER),
  ];
}

/** What was read, as `done/total` of each report; `onReading` hears when reading begins, and begins again. */
function recorder(onReading: () => void = () => {}) {
  const events: string[] = [];
  let previousBytes = Infinity;
  const progress = (event: { phase: string; doneBytes: number; totalBytes: number }): void => {
    events.push(`${event.phase} ${event.doneBytes}/${event.totalBytes}`);
    if (event.doneBytes < previousBytes) onReading();
    previousBytes = event.doneBytes;
  };
  return { events, listener: { progress, notice: () => {} } };
}

for (const line of LINES) {
  describe(`overlaps of ${line}`, () => {
    test('proven by one reading: the old full artifact and its differentials go', async (context) => {
      const scene = new ChainScene(context, line);
      const all = await takeOverlapping(scene);
      const { events, listener } = recorder();
      const dry = await expire(scene, { confirm: false });
      assert.deepEqual(
        dry.planned.map(({ path }) => basename(path)),
        [nameOf(all[1]!), nameOf(all[0]!)],
      );
      await expire(scene, { listener });
      await assertLeft(scene, all.slice(2));
      assert.deepEqual([...new Set(events)], events, 'nothing is read twice');
      assert.match(events[0]!, new RegExp(`^proving overlaps \\d+/${all[3]!.memberBytes}$`));
      const plan = await planRestore({ artifactPath: all[4]!.artifactPath });
      assert.deepEqual([plan.artifacts.length, plan.endTransaction], [3, 38n]);
    });

    test('of the same numbers and other transactions: the exact chain stays', async (context) => {
      const scene = new ChainScene(context, line);
      const history = historyOf(line);
      const chain = [await scene.backup('FULL'), await scene.backupAt(25n, 'DIFF')];
      scene.database.setBack(25n, diverged(history, 26n));
      await scene.backupAt(28n, 'FULL');
      scene.database.setBack(25n, history);
      const preferred = await scene.backupAt(33n, 'DIFF', PREFER);
      assert.equal(preferred.parentPath, chain[1]!.artifactPath);
      chain.push(preferred, await scene.backupAt(38n, 'DIFF', PREFER));
      const { warnings } = await expire(scene);
      assert.deepEqual(warnings, []);
      await assertLeft(scene, chain);
    });
  });
}

describe('overlaps', () => {
  test('are not read when the same would go anyway', async (context) => {
    const scene = new ChainScene(context, '2026.08');
    const all = await takeOverlapping(scene);
    const { events, listener } = recorder();
    await expire(scene, { policy: { last: 5 }, listener });
    await assertLeft(scene, all);
    const newest = await scene.backup('FULL');
    await expire(scene, { listener });
    await assertLeft(scene, [newest]);
    assert.deepEqual(events, []);
  });

  test('a damaged differential proves nothing: what it may build on stays either way', async (context) => {
    const scene = new ChainScene(context, '2026.08');
    const all = await takeOverlapping(scene);
    const { artifactPath } = all[3]!;
    const bytes = readFileSync(artifactPath);
    bytes[bytes.indexOf(bytesOf(scene.database.history, 30n, 30n)) + 40]! ^= 1;
    writeFileSync(artifactPath, bytes);
    assert.equal((await validateArtifact(artifactPath)).valid, false);
    const { warnings, error, kept } = await expire(scene);
    assert.equal(error, undefined);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0]!, new RegExp(`^whatever ${nameOf(all[3]!)} may build on stays: .`));
    await assertLeft(scene, all);
    assert.deepEqual(
      kept.map(({ artifact }) => basename(artifact.path)),
      all.map(nameOf).reverse(),
    );
  });

  /** F1 to 8, D2 to 11, F3 to 13, D4 from 12 to 16, F5 to 18, D6 from 17 to 21, …: five transactions each round. */
  async function takeRounds(scene: ChainScene, rounds: number): Promise<BackupResult[]> {
    const taken: BackupResult[] = [];
    for (let last = 8n; last < 8n + 5n * BigInt(rounds); last += 5n) {
      taken.push(await scene.backupAt(last, 'FULL'), await scene.backupAt(last + 3n, 'DIFF', PREFER));
    }
    return taken;
  }

  /** Reads with a full artifact and a differential that come in each time that reading begins. */
  async function expireWhileComing(scene: ChainScene, late: readonly BackupResult[]): Promise<string[]> {
    const away = (path: string): string => join(scene.root, basename(path));
    for (const { artifactPath } of late) renameSync(artifactPath, away(artifactPath));
    const waiting = [...late];
    const leases: Promise<void>[] = [];
    const { events, listener } = recorder(() => {
      leases.push(acquireLease(scene.target, 'shared', { waitMs: 0 }).then((lease) => lease.release()));
      for (const { artifactPath } of waiting.splice(0, 2)) renameSync(away(artifactPath), artifactPath);
    });
    await expire(scene, { listener });
    await Promise.all(leases);
    assert.deepEqual(waiting, []);
    return events;
  }

  test('that came while others were read are read as well, and never under the lease', async (context) => {
    const scene = new ChainScene(context, '2026.08', { last: 8n });
    const all = await takeRounds(scene, 3);
    const events = await expireWhileComing(scene, all.slice(4));
    await assertLeft(scene, all.slice(4));
    assert.ok(events.some((event) => event.endsWith(`/${all[5]!.memberBytes}`)));
  });

  test('that come again and again: in the end what one that was not read may need stays', async (context) => {
    const scene = new ChainScene(context, '2026.08', { last: 8n });
    const all = await takeRounds(scene, 5);
    await expireWhileComing(scene, all.slice(4));
    await assertLeft(scene, all.slice(6));
    await expire(scene);
    await assertLeft(scene, all.slice(8));
  });

  test('an interruption ends the reading, and nothing was removed', async (context) => {
    const scene = new ChainScene(context, '2026.08');
    const all = await takeOverlapping(scene);
    const controller = new AbortController();
    const { listener } = recorder(() => controller.abort());
    const interrupted = expire(scene, { listener, signal: controller.signal });
    await assert.rejects(interrupted, failure('GK_INTERRUPTED'));
    await assertLeft(scene, all);
  });
});

function startModule(context: TestContext, code: string, argumentList: string[]): ChildProcess {
  const child = spawn(process.execPath, ['--input-type=module', '-e', code, SOURCE, ...argumentList], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  context.after(() => child.kill('SIGKILL'));
  return child;
}

/** Says so when the first bytes were read; the next ones are due when as many seconds have passed. */
const SLOW_BACKUP = `
  const [source, folders, options] = process.argv.slice(1);
  const { backupDatabase } = await import(source + '/operations/backup.ts');
  const listener = { progress: () => console.log('copying'), notice() {} };
  await backupDatabase(JSON.parse(folders), { ...JSON.parse(options), rateBytesPerSecond: 1, listener });
`;

/** Removes, but stops before the first file until it is told to go on. */
const SLOW_EXPIRE = `
  import fs from 'node:fs';
  import { syncBuiltinESMExports } from 'node:module';
  const [source, directory, now] = process.argv.slice(1);
  const { unlink } = fs.promises;
  let isWaiting = false;
  fs.promises.unlink = async (path) => {
    if (!isWaiting) console.log('removing');
    isWaiting = true;
    for await (const _ of process.stdin) {}
    return unlink(path);
  };
  syncBuiltinESMExports();
  const { expireArtifacts } = await import(source + '/operations/expire.ts');
  const policy = { last: 1 };
  await expireArtifacts({ directory, policy, confirm: true, allowSmaller: true, now: new Date(now) });
`;

describe('a backup in another process', () => {
  for (const type of ['DIFF', 'FULL'] as const) {
    test(`that is under way, ${type}: nothing is removed, its parent least of all`, async (context) => {
      const scene = new ChainScene(context, '2026.08');
      const all = [await scene.backup('FULL'), await scene.backupAt(25n, 'DIFF'), await scene.backup('FULL')];
      for (const last of [28n, 33n]) {
        scene.database.rotate();
        scene.database.appendTo(last);
      }
      const options = JSON.stringify(scene.optionsFor({ type, ...PREFER }));
      const child = startModule(context, SLOW_BACKUP, [JSON.stringify(scene.database.folders), options]);
      await once(child.stdout!, 'data');
      await assert.rejects(expire(scene), failure('GK_IN_USE', new RegExp(`process ${child.pid}: a backup`)));
      await assertLeft(scene, all);
      child.kill('SIGKILL');
      await once(child, 'exit');
      await expire(scene);
      await assertLeft(scene, all.slice(2));
    });
  }
});

describe('a backup while artifacts are being removed', () => {
  /** The backup that was asked for while another process was about to remove the first file. */
  async function backupMeanwhile(context: TestContext, scene: ChainScene): Promise<BackupResult> {
    const now = new Date(Date.now()).toISOString();
    const child = startModule(context, SLOW_EXPIRE, [scene.target, now]);
    await once(child.stdout!, 'data');
    let isDone = false;
    const backup = scene.backup('AUTO', PREFER).finally(() => {
      isDone = true;
    });
    // A backup that did not wait would be done, or have chosen its parent, by then.
    await sleep(5 * LEASE_POLL_INTERVAL_MS);
    assert.equal(isDone, false);
    child.stdin!.end();
    return backup;
  }

  test('waits, and follows what is still there', async (context) => {
    const scene = new ChainScene(context, '2026.08');
    await scene.backup('FULL');
    const preferred = await scene.backupAt(25n, 'DIFF');
    const full = await scene.backupAt(28n, 'FULL');
    scene.database.appendTo(33n);
    const taken = await backupMeanwhile(context, scene);
    assert.equal(existsSync(preferred.artifactPath), false);
    assert.deepEqual([taken.kind, taken.parentPath], ['differential', full.artifactPath]);
    await assertLeft(scene, [full, taken]);
    const { endTransaction } = await planRestore({ artifactPath: taken.artifactPath });
    assert.equal(endTransaction, 33n);
  });

  test('waits, and is full when what it would have followed is gone', async (context) => {
    const scene = new ChainScene(context, '2026.08');
    await scene.backup('FULL');
    await scene.backupAt(25n, 'DIFF');
    const other = new GrowingDatabase(join(scene.root, 'other'), historyOf('5.26'), 25n);
    const newest = await scene.backup('FULL', {}, other);
    scene.database.appendTo(33n);
    const taken = await backupMeanwhile(context, scene);
    assert.deepEqual([taken.kind, taken.fullBecause?.reason], ['full', 'otherStore']);
    await assertLeft(scene, [newest, taken]);
  });
});
