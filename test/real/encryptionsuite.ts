/**
 * Encrypted chains of a real server of one line that is written to: taken with the public key alone, restored with the
 * private one, and opened by the stock tools of age and Neo4j.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { isAge } from '../../src/formats/age/header.ts';
import { aggregateChain } from '../../src/operations/aggregate.ts';
import { backupDatabase } from '../../src/operations/backup.ts';
import { inspectArtifacts } from '../../src/operations/inspect.ts';
import { restoreDatabase } from '../../src/operations/restore.ts';
import type { BackupResult } from '../../src/operations/types.ts';
import { validateArtifact } from '../../src/operations/validate.ts';
import { type KeyPair, makeKey, useKeys, writeIdentity } from '../fixtures/age.ts';
import { AGE, ensureGoTool } from '../storage/gotools.ts';
import { foldersOf } from './cycle.ts';
import type { Line } from './harness/distribution.ts';
import { assertVerdict, runStockTool } from './harness/judge.ts';
import { createHome, type Home } from './harness/server.ts';
import { endServer, type LoadedServer, startLoadedServer } from './loadedserver.ts';

const FORM = { compress: true, compressionLevel: 1, keepFailed: false };
const DIFFERENTIALS = 2;

/** With what was acknowledged when it began, and so must be in it. */
type Taken = BackupResult & { readonly acknowledged: ReadonlyMap<number, number> };

interface Story extends LoadedServer {
  readonly key: KeyPair;
  taken: Taken[];
  homes: number;
}

export function defineEncryptionTests(line: Line): void {
  describe(`encrypted artifacts of Neo4j ${line}`, async () => {
    const story = { line, key: await makeKey(), taken: [], homes: 0 } as unknown as Story;
    before(() => startLoadedServer(story, { name: 'encryption', writers: 4, warmUp: 100 }));
    after(() => endServer(story));
    test('with the public key alone: a full one and differentials, while the server is written to', (context) =>
      takeChain(context, story));
    test('with the private key: inspected, validated, restored and judged', (context) =>
      restoreChain(context, story));
    test('stock age opens the full one, and stock load takes what comes out', (context) =>
      loadByStock(context, story));
    test('aggregated into one that is encrypted as well', (context) => aggregate(context, story));
  });
}

async function takeChain(context: TestContext, story: Story): Promise<void> {
  for (let number = 0; number <= DIFFERENTIALS; number++) {
    // Anew for each: no key of the one before is kept.
    useKeys(context, { to: [story.key], clearHeader: true });
    const options = { targetDirectory: story.artifacts, type: 'AUTO', ...FORM } as const;
    const acknowledged = story.load.snapshotAcknowledged();
    story.taken.push({ ...(await backupDatabase(foldersOf(story.home), options)), acknowledged });
    if (number < DIFFERENTIALS) await story.load.waitForMore(50);
  }
  process.kill(story.server.pid, 'SIGSTOP');
  assert.deepEqual(
    story.taken.map(({ kind }) => kind),
    ['full', 'differential', 'differential'],
  );
  for (const { artifactPath } of story.taken) assert.equal(isAge(await readFile(artifactPath)), true);
}

async function restoreChain(context: TestContext, story: Story): Promise<void> {
  useKeys(context, { open: [story.key] });
  const { artifacts, unreadable } = await inspectArtifacts(story.artifacts);
  assert.deepEqual([artifacts.length, unreadable], [story.taken.length, []]);
  for (const { path } of artifacts) assert.deepEqual((await validateArtifact(path)).problems, []);
  await restoreAndJudge(story, story.artifacts);
}

async function restoreAndJudge(story: Story, artifactPath: string): Promise<void> {
  const home = await createHome({ line: story.line, dir: join(story.scratch, `home-${story.homes++}`) });
  await restoreDatabase({ artifactPath, target: foldersOf(home), overwriteDestination: false });
  await judge(story, home, story.taken.at(-1)!);
}

async function judge(story: Story, home: Home, { highestTransaction, acknowledged }: Taken): Promise<void> {
  const verdict = await story.judge.judge(home.dir, { expectAcknowledged: acknowledged });
  assertVerdict(verdict, { acknowledgedBefore: acknowledged });
  assert.equal(verdict.lastTransactionId, Number(highestTransaction));
  await rm(home.dir, { recursive: true });
}

async function loadByStock(context: TestContext, story: Story): Promise<void> {
  const tool = await ensureGoTool(AGE);
  if ('skip' in tool) return context.skip(tool.skip);
  const [full] = story.taken;
  const opened = join(story.scratch, 'opened');
  await mkdir(opened);
  const identity = writeIdentity(join(story.scratch, 'key'), story.key);
  const target = join(opened, basename(full!.artifactPath));
  const run = spawnSync(tool.program, ['-d', '-i', identity, '-o', target, full!.artifactPath]);
  assert.equal(run.status, 0, run.stderr.toString());
  const home = await createHome({ line: story.line, dir: join(story.scratch, `home-${story.homes++}`) });
  const load = await runStockTool(story.line, home, ['database', 'load', `--from-path=${opened}`, 'neo4j']);
  assert.equal(load.exitCode, 0, load.stderr);
  await judge(story, home, full!);
}

async function aggregate(context: TestContext, story: Story): Promise<void> {
  useKeys(context, { to: [story.key], open: [story.key] });
  const options = { artifactPath: story.artifacts, keepOldBackup: false, ...FORM };
  const { artifactPath, removed } = await aggregateChain(options);
  assert.deepEqual([removed.length, isAge(await readFile(artifactPath))], [story.taken.length, true]);
  useKeys(context, { open: [story.key] });
  await restoreAndJudge(story, artifactPath);
}
