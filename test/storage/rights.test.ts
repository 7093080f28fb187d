/**
 * The policies of docs/storage-s3.md, as they stand there, kept by a real server (versitygw, its own users and policies of
 * buckets): each is enough for what it is written for, and not for more, and nothing in it is too much.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { after, afterEach, describe, type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { CreateBucketCommand, PutBucketPolicyCommand, S3Client } from '@aws-sdk/client-s3';
import { foldersBelow } from '../../src/neo4j/folders.ts';
import { expireArtifacts } from '../../src/operations/expire.ts';
import { inspectArtifacts } from '../../src/operations/inspect.ts';
import { restoreDatabase } from '../../src/operations/restore.ts';
import { validateArtifact } from '../../src/operations/validate.ts';
import { openObjectStore } from '../../src/storage/objects/open.ts';
import type { StoreSettings } from '../../src/storage/objects/settings.ts';
import type { ObjectStore } from '../../src/storage/objects/store.ts';
import { closeStores, useStoreSettings } from '../../src/storage/places.ts';
import { ChainScene } from '../fixtures/chains.ts';
import { failure, makeFolder } from '../fixtures/workspace.ts';
import { ensureGoTool, VERSITYGW } from './gotools.ts';
import { startServer } from './servers.ts';
import { HUGE, sendHuge } from './suitehuge.ts';
import { all } from './suitetools.ts';
import { ACCESS_KEY, SECRET_KEY } from './versity.ts';

const run = promisify(execFile);
const DOCUMENT = join(import.meta.dirname, '../../docs/storage-s3.md');
const LINE = '5.26';
const BUCKET = 'example-backups';
const TARGET = `s3://${BUCKET}/neo4j`;
const SECRET_OF_USERS = 'planted-secret-Of-A-User-4714';

interface Statement {
  readonly Effect: string;
  readonly Action: string | readonly string[];
  readonly Resource: string | readonly string[];
}

/** Of the machine that takes backups. */
function documentedPolicy(): Statement[] {
  const [, text = ''] = /```json\n(\{\s*"Version"[\s\S]*?)```/.exec(readFileSync(DOCUMENT, 'utf8')) ?? [];
  return (JSON.parse(text) as { Statement: Statement[] }).Statement;
}

function actionsOf({ Action }: Statement): readonly string[] {
  return typeof Action === 'string' ? [Action] : Action;
}

function without(statements: readonly Statement[], action: string): Statement[] {
  return statements.flatMap((statement) => {
    const Action = actionsOf(statement).filter((candidate) => candidate !== action);
    return Action.length === 0 ? [] : [{ ...statement, Action }];
  });
}

const WRITER = documentedPolicy();
const READER = WRITER.flatMap((statement) => {
  const Action = actionsOf(statement).filter((action) => /^s3:(ListBucket|GetObject)$/.test(action));
  return Action.length === 0 ? [] : [{ ...statement, Action }];
});
const KEEPER: Statement[] = [
  ...WRITER,
  { Effect: 'Allow', Action: 's3:DeleteObject', Resource: `arn:aws:s3:::${BUCKET}/neo4j/*` },
];

interface Guarded {
  readonly asUser: StoreSettings;
  /** From now on everything of the tests is done by a user with exactly these rights. */
  actAs(statements: readonly Statement[]): Promise<void>;
  /** What is in the folder, as the owner of the bucket sees it; uploads that were not completed as well. */
  keys(): Promise<string[]>;
  /** Empties the folder. */
  clear(): Promise<void>;
  stop(): Promise<void>;
}

async function startGuarded(): Promise<Guarded | { skip: string }> {
  const tool = await ensureGoTool(VERSITYGW);
  if ('skip' in tool) return tool;
  const users = mkdtempSync(join(os.tmpdir(), 'graphkeep-users-'));
  const server = await startServer(
    tool.program,
    (port, folder) => ['--port', `127.0.0.1:${port}`, '--quiet', '--iam-dir', users, 'posix', folder],
    { ROOT_ACCESS_KEY: ACCESS_KEY, ROOT_SECRET_KEY: SECRET_KEY },
  );
  const endpoint = `http://127.0.0.1:${server.port}`;
  const admin = ['admin', '--access', ACCESS_KEY, '--secret', SECRET_KEY, '--endpoint-url', endpoint];
  await run(tool.program, [...admin, 'create-user', '-a', 'tester', '-s', SECRET_OF_USERS, '-r', 'user']);
  const root = { accessKeyId: ACCESS_KEY, secretAccessKey: SECRET_KEY };
  // A client for each step: one that has learnt how far the clock of a test is off does not unlearn it.
  const asOwner = async (work: (client: S3Client) => Promise<unknown>): Promise<void> => {
    const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials: root });
    await work(client).finally(() => client.destroy());
  };
  await asOwner((client) => client.send(new CreateBucketCommand({ Bucket: BUCKET })));
  const asUser: StoreSettings = {
    s3: { endpoint, credentials: { accessKeyId: 'tester', secretAccessKey: SECRET_OF_USERS } },
  };
  const withOwner = async <Result>(work: (store: ObjectStore) => Promise<Result>): Promise<Result> => {
    const owner = await openObjectStore(TARGET, { s3: { endpoint, credentials: root } });
    return work(owner).finally(() => owner.close());
  };
  const keys = (): Promise<string[]> =>
    withOwner(async (owner) => [
      ...(await all(owner.list(''))).map(({ key }) => key),
      ...(await all(owner.listUploads(''))).map(({ key }) => `upload of ${key}`),
    ]);
  return {
    asUser,
    keys,
    async actAs(statements) {
      const Statement = statements.map((statement) => ({ ...statement, Principal: { AWS: ['tester'] } }));
      const Policy = JSON.stringify({ Version: '2012-10-17', Statement });
      await asOwner((client) => client.send(new PutBucketPolicyCommand({ Bucket: BUCKET, Policy })));
      await closeStores();
      useStoreSettings({ ...asUser, patienceMs: 1000 });
    },
    clear: () =>
      withOwner(async (owner) => {
        for (const { key } of await all(owner.list(''))) await owner.remove(key);
        for (const { key, id } of await all(owner.listUploads(''))) await owner.abortUpload(key, id);
      }),
    async stop() {
      await closeStores();
      useStoreSettings({});
      await server.stop();
      rmSync(users, { recursive: true, force: true });
    },
  };
}

/** Everything that a machine does that takes backups. @throws what it may not */
async function takeBackups(context: TestContext): Promise<ChainScene> {
  const scene = new ChainScene(context, LINE);
  await scene.backup('FULL', { targetDirectory: TARGET });
  scene.database.appendTo(30n);
  const { kind } = await scene.backup('AUTO', { targetDirectory: TARGET });
  assert.equal(kind, 'differential');
  return scene;
}

async function interruptBackup(scene: ChainScene): Promise<void> {
  const stop = new AbortController();
  const listener = { progress: () => stop.abort(), notice: () => undefined };
  const interrupted = scene.backup('FULL', { targetDirectory: TARGET, signal: stop.signal, listener });
  await assert.rejects(interrupted);
}

function isLease(key: string): boolean {
  return key.startsWith('.graphkeep.lease-');
}

describe('rights in S3', async () => {
  const started = await startGuarded();
  if ('skip' in started) {
    test('rights', { skip: started.skip }, () => undefined);
    return;
  }
  const guarded = started;
  after(() => guarded.stop());
  afterEach(() => guarded.clear());
  const expire = () => expireArtifacts({ directory: TARGET, policy: { last: 1 }, confirm: true });

  test('the machine that takes backups: chains, and an interruption that leaves nothing', async (context) => {
    await guarded.actAs(WRITER);
    const scene = await takeBackups(context);
    await interruptBackup(scene);
    await closeStores();
    const keys = await guarded.keys();
    assert.equal(keys.length, 2, keys.join('\n'));
    assert.ok(
      keys.every((key) => /^neo4j-\S+\.backup$/.test(key)),
      keys.join('\n'),
    );
  });

  test('it cannot remove an artifact, and retention says so and keeps chains whole', async (context) => {
    await guarded.actAs(WRITER);
    const scene = await takeBackups(context);
    await scene.backup('FULL', { targetDirectory: TARGET });
    const { databases } = await expire();
    assert.equal(databases[0]!.error?.code, 'GK_NO_PERMISSION');
    assert.deepEqual(databases[0]!.removed, []);
    await closeStores();
    assert.equal((await guarded.keys()).length, 3);
  });

  test('with the right to remove, retention does its work', async (context) => {
    await guarded.actAs(KEEPER);
    const scene = await takeBackups(context);
    const last = await scene.backup('FULL', { targetDirectory: TARGET });
    const { databases } = await expire();
    assert.equal(databases[0]!.error, undefined);
    await closeStores();
    assert.deepEqual(await guarded.keys(), [last.artifactPath.slice(TARGET.length + 1)]);
  });

  test('who may only read restores, inspects and validates, and writes nothing', async (context) => {
    await guarded.actAs(WRITER);
    const scene = await takeBackups(context);
    await guarded.actAs(READER);
    const { artifacts, unreadable } = await inspectArtifacts(TARGET);
    assert.deepEqual([artifacts.length, unreadable], [2, []]);
    for (const { path } of artifacts) assert.deepEqual((await validateArtifact(path)).problems, []);
    const target = foldersBelow(makeFolder(scene.root, 'restored'), 'neo4j');
    const restored = await restoreDatabase({ artifactPath: TARGET, target, overwriteDestination: false });
    assert.equal(restored.highestTransaction, 30n);
    await assert.rejects(scene.backup('FULL', { targetDirectory: TARGET }), failure('GK_NO_PERMISSION'));
    assert.equal((await guarded.keys()).length, 2);
  });

  for (const action of ['s3:GetObject', 's3:PutObject', 's3:ListBucket']) {
    test(`${action} is not too much: without it no backup goes well`, async (context) => {
      await guarded.actAs(without(WRITER, action));
      await assert.rejects(takeBackups(context), failure('GK_NO_PERMISSION'));
    });
  }

  test('s3:DeleteObject is not too much: without it leases stay', async (context) => {
    await guarded.actAs(without(WRITER, 's3:DeleteObject'));
    await takeBackups(context);
    await closeStores();
    assert.ok((await guarded.keys()).some(isLease));
  });

  test('s3:AbortMultipartUpload is not too much: without it the parts of an interrupted backup stay', async (context) => {
    await guarded.actAs(without(WRITER, 's3:AbortMultipartUpload'));
    await interruptBackup(await takeBackups(context));
    await closeStores();
    assert.ok((await guarded.keys()).some((key) => key.startsWith('upload of ')));
  });

  /** What a huge backup does at its end. */
  const putTogether = async (): Promise<void> => {
    const huge: StoreSettings = { ...guarded.asUser, patienceMs: 1000, uploads: HUGE };
    const store = await openObjectStore(TARGET, huge);
    const { upload } = await sendHuge(store, 'huge.backup');
    assert.equal(await upload.complete(7, { ifAbsent: true }), true);
    store.close();
  };

  test('a huge object is put together with these rights, and without one more its sections stay', async () => {
    await guarded.actAs(WRITER);
    await putTogether();
    assert.deepEqual(await guarded.keys(), ['huge.backup']);
    await guarded.clear();
    await guarded.actAs(without(WRITER, 's3:DeleteObject'));
    await putTogether();
    const [whole, ...sections] = await guarded.keys();
    assert.deepEqual([whole, ...sections], ['huge.backup', 'upload of huge.backup']);
  });

  test('the policy of the document is the one that is tried', () => {
    assert.deepEqual(WRITER.flatMap(actionsOf).toSorted(), [
      's3:AbortMultipartUpload',
      's3:DeleteObject',
      's3:GetObject',
      's3:ListBucket',
      's3:PutObject',
    ]);
  });
});
