import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { DatabaseFolders } from '../../../src/neo4j/folders.ts';
import { backupDatabase } from '../../../src/operations/backup.ts';
import { type CopyOptions, copyDatabase } from '../../../src/operations/copy.ts';
import { restoreDatabase } from '../../../src/operations/restore.ts';
import { foldersIn, makeDatabase, put } from '../../fixtures/database.ts';
import { LINES, type Line, LOG_FIXTURE } from '../../fixtures/lines.ts';
import {
  assertSameFiles,
  failure,
  filesBelow,
  makeFolder,
  temporaryFolder,
} from '../../fixtures/workspace.ts';

const LOCKS_MODULE = fileURLToPath(new URL('../../../src/storage/locks.ts', import.meta.url));

interface Setting {
  readonly root: string;
  readonly options: CopyOptions;
  readonly source: DatabaseFolders;
  readonly target: DatabaseFolders;
}

/** A home as a stopped server leaves it, locks included. */
function makeSetting(context: TestContext, line: Line = '5.26'): Setting {
  const root = temporaryFolder(context);
  const source = makeDatabase(root, line, { propertyStoreBytes: 10 * 8192 });
  put(storeLockOf(source), Buffer.alloc(0));
  const target = foldersIn(root, 'copy');
  return { root, source, target, options: { source, target, scratchDirectory: root } };
}

const storeLockOf = ({ storeDirectory }: DatabaseFolders): string =>
  join(dirname(storeDirectory), 'store_lock');
const databaseLockOf = ({ storeDirectory }: DatabaseFolders): string => join(storeDirectory, 'database_lock');

const lockScript = (afterwards: string): string => `
  const { tryLock } = await import(${JSON.stringify(LOCKS_MODULE)});
  const lock = tryLock(process.argv[1], { create: true });
  console.log(lock === undefined ? 'busy' : 'held');
  ${afterwards}`;

async function lockFromAnotherProcess(context: TestContext, path: string): Promise<ChildProcess> {
  const script = lockScript('setInterval(() => {}, 1000);');
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  context.after(() => child.kill('SIGKILL'));
  await once(child.stdout!, 'data');
  return child;
}

function couldBeLocked(path: string): boolean {
  const args = ['--input-type=module', '-e', lockScript(''), path];
  return spawnSync(process.execPath, args, { encoding: 'utf8' }).stdout === 'held\n';
}

/** The source is as it was, and nothing else is there. */
function assertOnlySource({ root }: Setting, before: ReadonlyMap<string, Buffer>): void {
  const after = filesBelow(root);
  assertSameFiles(after, before);
}

describe('a copy', () => {
  for (const line of LINES) {
    test(`${line}: what a backup restored under that name would be`, async (context) => {
      const setting = makeSetting(context, line);
      const before = filesBelow(setting.root);
      const result = await copyDatabase(setting.options);
      const elsewhere = temporaryFolder(context);
      const { artifactPath } = await backupDatabase(setting.source, {
        targetDirectory: makeFolder(elsewhere, 'artifacts'),
        type: 'FULL',
        compress: true,
        compressionLevel: 1,
        keepFailed: false,
      });
      const restored = foldersIn(elsewhere, 'copy');
      const { highestTransaction } = await restoreDatabase({
        artifactPath,
        target: restored,
        overwriteDestination: false,
      });
      assert.equal(result.highestTransaction, highestTransaction);
      for (const folder of ['storeDirectory', 'logDirectory'] as const) {
        assertSameFiles(filesBelow(setting.target[folder]), filesBelow(restored[folder]));
        rmSync(setting.target[folder], { recursive: true });
      }
      assertOnlySource(setting, before);
    });
  }

  test('into another home, and from a folder that holds both store and log', async (context) => {
    const setting = makeSetting(context);
    await copyDatabase(setting.options);
    const flat = join(setting.root, 'flat');
    for (const folder of [setting.source.storeDirectory, setting.source.logDirectory]) {
      for (const [name, content] of filesBelow(folder))
        if (!name.endsWith('/')) put(join(flat, name), content);
    }
    const home = makeFolder(setting.root, 'other');
    const target = foldersIn(home, 'copy');
    const source = { name: 'flat', storeDirectory: flat, logDirectory: flat };
    await copyDatabase({ source, target, scratchDirectory: home });
    const { storeDirectory, logDirectory } = setting.target;
    assertSameFiles(filesBelow(target.storeDirectory), filesBelow(storeDirectory));
    assertSameFiles(filesBelow(target.logDirectory), filesBelow(logDirectory));
    assert.deepEqual(readdirSync(home).sort(), ['databases', 'transactions']);
  });
});

describe('a source in use', () => {
  for (const [what, lockOf] of [
    ['its home', storeLockOf],
    ['the database', databaseLockOf],
  ] as const) {
    test(`is refused: a server holds ${what}`, async (context) => {
      const setting = makeSetting(context);
      const target = foldersIn(makeFolder(setting.root, 'other'), 'copy');
      const before = filesBelow(setting.root);
      await lockFromAnotherProcess(context, lockOf(setting.source));
      const copied = copyDatabase({ ...setting.options, target });
      await assert.rejects(copied, failure('GK_IN_USE', /database neo4j is in use.*_lock/));
      assertOnlySource(setting, before);
    });

    test(`cannot become so meanwhile: ${what} is locked, and free afterwards`, async (context) => {
      const setting = makeSetting(context);
      const answers = new Set<boolean>();
      const progress = ({ phase }: { phase: string }): void => {
        if (phase === 'reading the log') answers.add(couldBeLocked(lockOf(setting.source)));
      };
      await copyDatabase({ ...setting.options, listener: { progress, notice: () => {} } });
      assert.deepEqual([...answers], [false]);
      assert.equal(couldBeLocked(lockOf(setting.source)), true);
    });
  }

  test('no lock is made where there is none: of another user it would keep Neo4j from starting', async (context) => {
    const setting = makeSetting(context);
    rmSync(databaseLockOf(setting.source));
    await copyDatabase(setting.options);
    assert.equal(existsSync(databaseLockOf(setting.source)), false);
  });

  test('a directory backup that is being brought up to date is refused', async (context) => {
    const setting = makeSetting(context);
    const lock = join(dirname(setting.source.storeDirectory), '.neo4j.lock');
    await lockFromAnotherProcess(context, lock);
    const before = filesBelow(setting.root);
    await assert.rejects(copyDatabase(setting.options), failure('GK_IN_USE', /another graphkeep/));
    assertOnlySource(setting, before);
  });
});

describe('a copy that is not made leaves nothing', () => {
  test('the name is taken, if only by a log', async (context) => {
    for (const path of ['databases/copy/neostore', 'transactions/copy/checkpoint.0']) {
      const setting = makeSetting(context);
      put(join(setting.root, path), Buffer.from('of somebody'));
      const before = filesBelow(setting.root);
      const copied = copyDatabase(setting.options);
      await assert.rejects(copied, failure('GK_TARGET_EXISTS', /\[copy\] already exists/));
      assertOnlySource(setting, before);
    }
  });

  test('the name is taken while the source is read', async (context) => {
    const setting = makeSetting(context);
    const path = join(setting.target.storeDirectory, 'neostore');
    const progress = ({ phase }: { phase: string }): void => {
      if (phase === 'reading the log') put(path, Buffer.from('of somebody'));
    };
    const copied = copyDatabase({ ...setting.options, listener: { progress, notice: () => {} } });
    await assert.rejects(copied, failure('GK_TARGET_EXISTS'));
    assert.equal(readFileSync(path, 'utf8'), 'of somebody');
  });

  test('onto itself', async (context) => {
    const setting = makeSetting(context);
    const before = filesBelow(setting.root);
    const copied = copyDatabase({ ...setting.options, target: setting.source });
    await assert.rejects(copied, failure('GK_TARGET_EXISTS'));
    assertOnlySource(setting, before);
  });

  test('a server runs in the home that is to get it', async (context) => {
    const setting = makeSetting(context);
    const target = foldersIn(join(setting.root, 'other'), 'copy');
    put(storeLockOf(target), Buffer.alloc(0));
    const before = filesBelow(setting.root);
    await lockFromAnotherProcess(context, storeLockOf(target));
    let copied = 0;
    const listener = { progress: () => void copied++, notice: () => {} };
    const copy = copyDatabase({ ...setting.options, target, listener });
    await assert.rejects(copy, failure('GK_IN_USE', /database copy is in use/));
    assert.equal(copied, 0, 'nothing was read in vain');
    assertOnlySource(setting, before);
  });

  test('the log is gone', async (context) => {
    const setting = makeSetting(context);
    rmSync(join(setting.source.logDirectory, LOG_FIXTURE));
    const before = filesBelow(setting.root);
    await assert.rejects(copyDatabase(setting.options), failure('GK_STORE_DAMAGED'));
    assertOnlySource(setting, before);
  });

  test('system, from or to', async (context) => {
    const setting = makeSetting(context);
    const before = filesBelow(setting.root);
    const system = { ...setting.source, name: 'system' };
    await assert.rejects(copyDatabase({ ...setting.options, source: system }), failure('GK_USAGE', /system/));
    const target = foldersIn(setting.root, 'system');
    await assert.rejects(copyDatabase({ ...setting.options, target }), failure('GK_USAGE', /system/));
    assertOnlySource(setting, before);
  });

  for (const phase of ['copying', 'reading the log', 'restoring']) {
    test(`interrupted while ${phase}`, async (context) => {
      const setting = makeSetting(context);
      const before = filesBelow(setting.root);
      const controller = new AbortController();
      let lastPhase = '';
      const progress = (event: { phase: string }): void => {
        lastPhase = event.phase;
        if (event.phase === phase) controller.abort();
      };
      const listener = { progress, notice: () => {} };
      const copied = copyDatabase({ ...setting.options, signal: controller.signal, listener });
      await assert.rejects(copied, failure('GK_INTERRUPTED'));
      assert.equal(lastPhase, phase, 'it ended at once');
      assertOnlySource(setting, before);
    });
  }
});
