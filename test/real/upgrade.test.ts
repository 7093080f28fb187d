/** A store of 5.26 that a server of 2026.08 takes over: the kernel version in the log rises in the middle of a chain. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { backupDatabase } from '../../src/operations/backup.ts';
import { planRestore } from '../../src/operations/plan.ts';
import { restoreDatabase } from '../../src/operations/restore.ts';
import type { BackupResult } from '../../src/operations/types.ts';
import { validateArtifact } from '../../src/operations/validate.ts';
import { foldersOf, untilCheckpointed } from './cycle.ts';
import type { Line } from './harness/distribution.ts';
import { assertVerdict, createJudge } from './harness/judge.ts';
import { prepareSchema, startLoad } from './harness/load.ts';
import { createHome, type Home, type Server, scratchRoot, startServer } from './harness/server.ts';

test('a chain goes on across an upgrade that raises the kernel version of the log', async (context) => {
  const scratch = await mkdtemp(join(await scratchRoot(), 'graphkeep-upgrade-'));
  context.after(() => rm(scratch, { recursive: true, force: true }));
  const artifacts = join(scratch, 'artifacts');
  await mkdir(artifacts);
  const backup = (home: Home): Promise<BackupResult> =>
    backupDatabase(foldersOf(home), {
      targetDirectory: artifacts,
      type: 'AUTO',
      compress: true,
      compressionLevel: 1,
      keepFailed: false,
    });
  const extraConf = { 'db.tx_log.rotation.retention_policy': '1 hours' };
  const homeOf = (line: Line): Promise<Home> =>
    createHome({ line, dir: join(scratch, 'source'), harsh: true, extraConf });
  const write = async (server: Server, firstWriter: number): Promise<ReadonlyMap<number, number>> => {
    const load = startLoad(server, { writers: 4, firstWriter, vector: false });
    await load.waitForMore(200);
    await load.stop();
    return load.snapshotAcknowledged();
  };

  const old = await homeOf('5.26');
  const oldServer = await startServer(old);
  await prepareSchema(oldServer, { lucene: true, vector: false });
  // Indexes that are made behind the fence are populated again by recovery: that is not what this test is about.
  await untilCheckpointed(old);
  const full = await backup(old);
  await write(oldServer, 1);
  const before = await backup(old);
  await oldServer.stop();

  const home = await homeOf('2026.08');
  const server = await startServer(home);
  const acknowledged = await write(server, 100);
  const after = await backup(home);
  await server.stop();

  assert.deepEqual([full.kind, before.kind, after.kind], ['full', 'differential', 'differential']);
  assert.equal(after.parentPath, before.artifactPath);
  assert.ok(after.memberCount >= 2, 'the log rotates where the version rises');
  for (const { artifactPath } of [full, before, after]) {
    assert.deepEqual((await validateArtifact(artifactPath)).problems, []);
  }
  assert.equal((await planRestore({ artifactPath: before.artifactPath })).neo4jVersion, '5.25');
  assert.equal((await planRestore({ artifactPath: artifacts })).neo4jVersion, '2026.08');
  const restored = await createHome({ line: '2026.08', dir: join(scratch, 'restored') });
  await restoreDatabase({
    artifactPath: artifacts,
    target: foldersOf(restored),
    overwriteDestination: false,
  });
  await using judge = await createJudge('2026.08');
  const verdict = await judge.judge(restored.dir, { expectAcknowledged: acknowledged });
  assertVerdict(verdict, { acknowledgedBefore: acknowledged });
  assert.equal(verdict.lastTransactionId, Number(after.highestTransaction));
});
