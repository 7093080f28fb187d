import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { GraphkeepError } from '../../../src/errors.ts';
import { acquireLease, LEASE_FILE, type LeaseMode } from '../../../src/storage/lease.ts';
import { failure, isRoot, openFilesBelow, temporaryFolder } from '../../fixtures/workspace.ts';

const MODULE = join(import.meta.dirname, '../../../src/storage/lease.ts');

/** Another process that takes the lease, says so (or why not), and holds it until its input ends. */
const HOLDER = `
const { acquireLease } = await import(process.argv[1]);
const [folder, mode, waitMs] = process.argv.slice(2);
try {
  const lease = await acquireLease(folder, mode, { waitMs: Number(waitMs) });
  console.log('held ' + lease.held);
  for await (const _ of process.stdin) {}
  lease.release();
} catch (error) {
  console.log(error.code + ' ' + error.message);
}
`;

async function startHolder(
  context: TestContext,
  folder: string,
  mode: LeaseMode,
  waitMs = 0,
): Promise<{ child: ChildProcess; answer: string }> {
  const child = spawn(
    process.execPath,
    ['--input-type=module', '-e', HOLDER, MODULE, folder, mode, String(waitMs)],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  context.after(() => child.kill('SIGKILL'));
  const [output] = (await once(child.stdout, 'data')) as [Buffer];
  return { child, answer: output.toString().trim() };
}

async function end(child: ChildProcess): Promise<void> {
  const exited = once(child, 'exit');
  child.stdin?.end();
  await exited;
}

describe('between two processes', () => {
  const CASES: [LeaseMode, LeaseMode, boolean][] = [
    ['shared', 'shared', true],
    ['shared', 'exclusive', false],
    ['exclusive', 'shared', false],
    ['exclusive', 'exclusive', false],
  ];
  for (const [theirs, ours, granted] of CASES) {
    test(`theirs is ${theirs}, ours is ${ours}: ${granted ? 'granted' : 'refused'}`, async (context) => {
      const folder = temporaryFolder(context);
      const { child, answer } = await startHolder(context, folder, theirs);
      assert.equal(answer, 'held true');
      const asked = acquireLease(folder, ours, { waitMs: 0 });
      if (granted) (await asked).release();
      else await assert.rejects(asked, failure('GK_IN_USE', new RegExp(`${folder}.*process ${child.pid}`)));
      await end(child);
      (await acquireLease(folder, ours, { waitMs: 0 })).release();
      assert.deepEqual(openFilesBelow(folder), []);
      assert.ok(existsSync(join(folder, LEASE_FILE)), 'the file stays');
    });
  }

  test('a holder that is killed holds nothing', async (context) => {
    const folder = temporaryFolder(context);
    const { child } = await startHolder(context, folder, 'exclusive');
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
    (await acquireLease(folder, 'exclusive', { waitMs: 0 })).release();
  });

  test('who waits gets it when the other is done', async (context) => {
    const folder = temporaryFolder(context);
    const { child } = await startHolder(context, folder, 'shared');
    let isGranted = false;
    const waiting = acquireLease(folder, 'exclusive', { waitMs: 600_000 }).then((lease) => {
      isGranted = true;
      return lease;
    });
    const second = await startHolder(context, folder, 'shared');
    assert.equal(isGranted, false);
    await Promise.all([end(child), end(second.child)]);
    (await waiting).release();
  });

  test('waiting ends with the signal', async (context) => {
    const folder = temporaryFolder(context);
    await startHolder(context, folder, 'exclusive');
    const controller = new AbortController();
    const waiting = acquireLease(folder, 'shared', { waitMs: 600_000, signal: controller.signal });
    setImmediate(() => controller.abort());
    await assert.rejects(waiting, failure('GK_INTERRUPTED'));
  });

  test('shared leases of one process stand until the last of them is given back', async (context) => {
    const folder = temporaryFolder(context);
    const first = await acquireLease(folder, 'shared', { waitMs: 0 });
    const second = await acquireLease(folder, 'shared', { waitMs: 0 });
    first.release();
    first.release();
    const refused = await startHolder(context, folder, 'exclusive');
    assert.match(refused.answer, new RegExp(`^GK_IN_USE .*process ${process.pid}`));
    second.release();
    assert.equal((await startHolder(context, folder, 'exclusive')).answer, 'held true');
  });
});

describe('within one process', () => {
  const CASES: [LeaseMode, LeaseMode, boolean][] = [
    ['shared', 'shared', true],
    ['shared', 'exclusive', false],
    ['exclusive', 'shared', false],
    ['exclusive', 'exclusive', false],
  ];
  for (const [first, second, granted] of CASES) {
    test(`${first}, then ${second} by another path: ${granted ? 'granted' : 'refused'}`, async (context) => {
      const folder = temporaryFolder(context);
      const alias = join(temporaryFolder(context), 'alias');
      symlinkSync(folder, alias);
      const lease = await acquireLease(folder, first, { waitMs: 0 });
      const asked = acquireLease(alias, second, { waitMs: 0 });
      if (granted) (await asked).release();
      else await assert.rejects(asked, failure('GK_IN_USE', /this process itself/));
      lease.release();
      (await acquireLease(alias, second, { waitMs: 0 })).release();
    });
  }
});

describe('where there can be no lock', () => {
  async function bothIn(folder: string): Promise<{ shared: boolean; reason?: string; exclusive: unknown }> {
    const lease = await acquireLease(folder, 'shared', { waitMs: 0 });
    lease.release();
    const exclusive = await acquireLease(folder, 'exclusive', { waitMs: 0 }).catch((error: unknown) => error);
    const { held: shared, reason } = lease;
    return { shared, ...(reason === undefined ? {} : { reason }), exclusive };
  }

  test('a folder that cannot be written to: shared in name only, exclusive not at all', async (context) => {
    const folder = temporaryFolder(context);
    chmodSync(folder, 0o555);
    const result = await asNobody(() => bothIn(folder));
    assert.equal(result.shared, false);
    assert.match(result.reason ?? '', /EACCES/);
    assert.ok(failure('GK_NO_PERMISSION')(result.exclusive));
  });

  test('a lease file of another user that can only be read: shared is held', async (context) => {
    const folder = temporaryFolder(context);
    (await acquireLease(folder, 'shared', { waitMs: 0 })).release();
    chmodSync(join(folder, LEASE_FILE), 0o444);
    chmodSync(folder, 0o555);
    const result = await asNobody(() => bothIn(folder));
    assert.equal(result.shared, true);
    assert.ok(failure('GK_NO_PERMISSION')(result.exclusive));
  });

  test('a missing folder is an error for both', async (context) => {
    const folder = temporaryFolder(context);
    rmSync(folder, { recursive: true });
    for (const mode of ['shared', 'exclusive'] as const) {
      await assert.rejects(acquireLease(folder, mode), failure('GK_NOT_FOUND'));
    }
  });

  test('what is not about locks is an error for both', async (context) => {
    const folder = temporaryFolder(context);
    mkdirSync(join(folder, LEASE_FILE));
    for (const mode of ['shared', 'exclusive'] as const) {
      await assert.rejects(acquireLease(folder, mode), (error) => error instanceof GraphkeepError);
    }
  });
});

/** Root may write everywhere, so it becomes somebody else for a moment. */
async function asNobody<Result>(work: () => Promise<Result>): Promise<Result> {
  const NOBODY = 65_534;
  if (isRoot) process.seteuid?.(NOBODY);
  try {
    return await work();
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
}
