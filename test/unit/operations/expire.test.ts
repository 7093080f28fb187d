import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, renameSync, truncateSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { readCatalogue } from '../../../src/chain/catalogue.ts';
import { chainsTo, groupArtifacts, surveyChains } from '../../../src/chain/chains.ts';
import type { ArtifactSummary } from '../../../src/chain/summary.ts';
import { KIB } from '../../../src/limits.ts';
import { backupDatabase } from '../../../src/operations/backup.ts';
import { type ExpireOptions, type ExpireResult, expireArtifacts } from '../../../src/operations/expire.ts';
import { acquireLease, LEASE_FILE } from '../../../src/storage/lease.ts';
import { type ArtifactShape, writeArtifact } from '../../fixtures/artifacts.ts';
import { makeDatabase } from '../../fixtures/database.ts';
import { failure, makeFolder, openFilesBelow, temporaryFolder } from '../../fixtures/workspace.ts';

const SOURCE = join(import.meta.dirname, '../../../src');
const DAY_MS = 86_400_000;
const FIRST = Date.parse('2026-01-01T00:00:00Z');

/** `f1: ['full', 1, 10]`: written with one day between each and the next. */
async function fill(
  folder: string,
  files: Record<string, [ArtifactShape['kind'], number, number, Partial<ArtifactShape>?]>,
): Promise<void> {
  let days = 0;
  for (const [name, [kind, lowest, highest, more]] of Object.entries(files)) {
    const time = new Date(FIRST + days * DAY_MS);
    await writeArtifact(folder, name, { kind, range: [lowest, highest], time, ...more });
    days += 1;
  }
}

const TWO_CHAINS = {
  f1: ['full', 1, 10],
  d2: ['differential', 11, 20],
  e3: ['empty', 20, 20],
  d4: ['differential', 21, 30],
  f5: ['full', 1, 40],
  d6: ['differential', 41, 50],
} satisfies Parameters<typeof fill>[1];

function optionsFor(directory: string, more: Partial<ExpireOptions> = {}): ExpireOptions {
  return { directory, policy: { last: 1 }, confirm: true, leaseWaitMs: 0, ...more };
}

const names = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => name !== LEASE_FILE)
    .map((name) => basename(name, '.backup'))
    .sort();
const namesOf = (artifacts: readonly ArtifactSummary[]): string[] =>
  artifacts.map(({ path }) => basename(path, '.backup'));

async function assertAllRestorable(folder: string): Promise<void> {
  for (const { artifacts } of groupArtifacts((await readCatalogue(folder)).artifacts)) {
    assert.deepEqual(surveyChains(artifacts).orphans, []);
  }
}

test('without confirm nothing is touched, not even the lease', async (context) => {
  const folder = temporaryFolder(context);
  await fill(folder, TWO_CHAINS);
  const before = readdirSync(folder);
  const { confirmed, databases } = await expireArtifacts(optionsFor(folder, { confirm: false }));
  assert.equal(confirmed, false);
  assert.deepEqual(namesOf(databases[0]!.planned), ['d4', 'e3', 'd2', 'f1']);
  assert.deepEqual(databases[0]!.removed, []);
  assert.deepEqual(readdirSync(folder), before);
});

test('with confirm the plan is done, and once more nothing is left to do', async (context) => {
  const folder = temporaryFolder(context);
  await fill(folder, TWO_CHAINS);
  const { databases } = await expireArtifacts(optionsFor(folder));
  assert.deepEqual(databases[0]!.removed, databases[0]!.planned);
  assert.equal(databases[0]!.error, undefined);
  assert.deepEqual(names(folder), ['d6', 'f5']);
  const again = await expireArtifacts(optionsFor(folder));
  assert.deepEqual(again.databases[0]!.planned, []);
  assert.deepEqual(openFilesBelow(folder), []);
});

test('backups of a real database: the newest stays', async (context) => {
  const root = temporaryFolder(context);
  const source = makeDatabase(join(root, 'data'), '5.26', { propertyStoreBytes: 8 * KIB });
  const target = makeFolder(root, 'backups');
  const backup = {
    targetDirectory: target,
    compress: true,
    compressionLevel: 1,
    keepFailed: false,
    type: 'FULL',
  } as const;
  await backupDatabase(source, backup);
  const { artifactPath } = await backupDatabase(source, backup);
  const now = new Date(Date.now() + DAY_MS); // the second name may lie in the next second
  await expireArtifacts(optionsFor(target, { now, verify: true }));
  assert.deepEqual(names(target), [basename(artifactPath, '.backup')]);
});

describe('databases', () => {
  const BOTH = {
    ...TWO_CHAINS,
    s1: ['full', 1, 5, { database: 'system' }],
    s2: ['full', 1, 6, { database: 'system' }],
  } satisfies Parameters<typeof fill>[1];

  test('each has its own calendar', async (context) => {
    const folder = temporaryFolder(context);
    await fill(folder, BOTH);
    const { databases } = await expireArtifacts(optionsFor(folder));
    assert.deepEqual(
      databases.map(({ database }) => database),
      ['neo4j', 'system'],
    );
    assert.deepEqual(names(folder), ['d6', 'f5', 's2']);
  });

  for (const [pattern, left] of [
    ['SYSTEM', ['d2', 'd4', 'd6', 'e3', 'f1', 'f5', 's2']],
    ['n*', ['d6', 'f5', 's1', 's2']],
  ] as const) {
    test(`only ${pattern}`, async (context) => {
      const folder = temporaryFolder(context);
      await fill(folder, BOTH);
      await expireArtifacts(optionsFor(folder, { database: pattern }));
      assert.deepEqual(names(folder), left);
    });
  }

  test('none that fits is an error', async (context) => {
    const folder = temporaryFolder(context);
    await assert.rejects(expireArtifacts(optionsFor(folder)), failure('GK_NOT_FOUND', /no artifact in/));
    await fill(folder, BOTH);
    const other = optionsFor(folder, { database: 'other' });
    await assert.rejects(expireArtifacts(other), failure('GK_NOT_FOUND', /'other'/));
  });

  test('what is wrong with one keeps no other from being done', async (context) => {
    const folder = temporaryFolder(context);
    const small = { database: 'system', memberBytes: 10 };
    await fill(folder, { ...BOTH, s3: ['full', 1, 7, small] });
    const { databases } = await expireArtifacts(optionsFor(folder));
    assert.deepEqual(names(folder), ['d6', 'f5', 's1', 's2', 's3']);
    assert.equal(databases[0]!.error, undefined);
    assert.ok(failure('GK_SUSPICIOUS', /s3\.backup holds 10 bytes.*s2\.backup, 1000/)(databases[1]!.error));
  });
});

describe('a newest full artifact that is much smaller', () => {
  async function shrunken(context: TestContext, bytes: number): Promise<string> {
    const folder = temporaryFolder(context);
    await fill(folder, {
      f1: ['full', 1, 10],
      f2: ['full', 1, 20],
      f3: ['full', 1, 30, { memberBytes: bytes }],
    });
    return folder;
  }

  const CASES: [number, Partial<ExpireOptions>, boolean][] = [
    [499, {}, true],
    [500, {}, false],
    [499, { allowSmaller: true }, false],
    [800, { sizeDropPercent: 10 }, true],
    [1, { sizeDropPercent: 100 }, false],
    // Nothing would be removed.
    [1, { policy: { last: 3 } }, false],
  ];
  for (const [bytes, more, refused] of CASES) {
    const text = JSON.stringify(more);
    test(`${bytes} bytes after 1000, ${text}: ${refused ? 'refused' : 'no matter'}`, async (context) => {
      const folder = await shrunken(context, bytes);
      const { databases } = await expireArtifacts(optionsFor(folder, more));
      const [{ error, removed }] = databases as [ExpireResult['databases'][number]];
      if (refused) assert.ok(failure('GK_SUSPICIOUS', /more than \d+ % is gone/)(error));
      else assert.equal(error, undefined);
      const left = more.policy === undefined ? ['f3'] : ['f1', 'f2', 'f3'];
      assert.deepEqual(names(folder), refused ? ['f1', 'f2', 'f3'] : left);
      assert.equal(removed.length, 3 - names(folder).length);
    });
  }

  test('a dry run warns and shows the plan', async (context) => {
    const folder = await shrunken(context, 1);
    const { databases } = await expireArtifacts(optionsFor(folder, { confirm: false }));
    assert.equal(databases[0]!.error, undefined);
    assert.match(databases[0]!.warnings[0]!, /more than 50 % is gone/);
    assert.equal(databases[0]!.planned.length, 2);
  });

  for (const sizeDropPercent of [0, 101, Number.NaN]) {
    test(`a threshold of ${sizeDropPercent} is none`, async (context) => {
      const options = optionsFor(temporaryFolder(context), { sizeDropPercent });
      await assert.rejects(expireArtifacts(options), failure('GK_USAGE'));
    });
  }
});

describe('files that are no artifacts, and orphans', () => {
  const WITH_ORPHAN = { ...TWO_CHAINS, o7: ['differential', 91, 99] } satisfies Parameters<typeof fill>[1];

  test('an empty policy is refused before anything is read', async () => {
    const nowhere = optionsFor('/nowhere', { policy: { last: 0 } });
    await assert.rejects(expireArtifacts(nowhere), failure('GK_USAGE', /empty/));
  });

  test('an unreadable file is reported and stays', async (context) => {
    const folder = temporaryFolder(context);
    await fill(folder, TWO_CHAINS);
    writeFileSync(join(folder, 'neo4j-broken.backup'), 'no artifact');
    writeFileSync(join(folder, '.neo4j.backup.aa.partial'), 'half');
    const { unreadable } = await expireArtifacts(optionsFor(folder));
    assert.deepEqual(
      unreadable.map(({ path }) => basename(path)),
      ['neo4j-broken.backup'],
    );
    assert.deepEqual(names(folder), ['.neo4j.backup.aa.partial', 'd6', 'f5', 'neo4j-broken']);
  });

  test('orphans go on request only', async (context) => {
    const folder = temporaryFolder(context);
    await fill(folder, WITH_ORPHAN);
    const { databases } = await expireArtifacts(optionsFor(folder));
    assert.deepEqual(namesOf(databases[0]!.orphans), ['o7']);
    assert.deepEqual(names(folder), ['d6', 'f5', 'o7']);
    await expireArtifacts(optionsFor(folder, { removeOrphans: true }));
    assert.deepEqual(names(folder), ['d6', 'f5']);
  });

  test('what looks like an orphan stays while its parent may be a file that cannot be read', async (context) => {
    const folder = temporaryFolder(context);
    await fill(folder, TWO_CHAINS);
    truncateSync(join(folder, 'd2.backup'), 100);
    const { databases } = await expireArtifacts(optionsFor(folder, { removeOrphans: true }));
    assert.match(databases[0]!.warnings.join(), /orphans stay/);
    assert.deepEqual(names(folder), ['d2', 'd4', 'd6', 'e3', 'f5']);
  });
});

describe('verify', () => {
  test('a newest full artifact that is damaged keeps everything', async (context) => {
    const folder = temporaryFolder(context);
    await fill(folder, TWO_CHAINS);
    // Noise for members: readable, and far from valid.
    const { databases } = await expireArtifacts(optionsFor(folder, { verify: true }));
    assert.ok(failure('GK_ARTIFACT_CORRUPT', /f5\.backup is not valid/)(databases[0]!.error));
    assert.equal(names(folder).length, 6);
  });
});

describe('at the same time', () => {
  test('a backup in this process: nothing is removed', async (context) => {
    const folder = temporaryFolder(context);
    await fill(folder, TWO_CHAINS);
    const lease = await acquireLease(folder, 'shared', { waitMs: 0 });
    await assert.rejects(expireArtifacts(optionsFor(folder)), failure('GK_IN_USE', /this process itself/));
    assert.equal(names(folder).length, 6);
    lease.release();
    await expireArtifacts(optionsFor(folder));
    assert.equal(names(folder).length, 2);
  });

  /** A backup in another process, as far as the folder can see: it chose d4 and adds a differential to it. */
  const BACKUP = `
    const { acquireLease } = await import(process.argv[1] + '/storage/lease.ts');
    const { rename } = await import('node:fs/promises');
    const [folder, from, to] = process.argv.slice(2);
    const lease = await acquireLease(folder, 'shared', { waitMs: 0 });
    console.log('chosen');
    for await (const _ of process.stdin) {}
    await rename(from, to);
    lease.release();
  `;

  test('a backup in another process: its parent stays, because the plan is made again', async (context) => {
    const root = temporaryFolder(context);
    const folder = makeFolder(root, 'backups');
    await fill(folder, TWO_CHAINS);
    const time = new Date(FIRST + 9 * DAY_MS);
    const added = await writeArtifact(root, 'd7', { kind: 'differential', range: [31, 45], time });
    const child = startModule(context, BACKUP, [SOURCE, folder, added, join(folder, 'd7.backup')]);
    await once(child.stdout!, 'data');
    await assert.rejects(
      expireArtifacts(optionsFor(folder)),
      failure('GK_IN_USE', new RegExp(`${child.pid}`)),
    );
    // The first plan, without d7, takes f1, d2 and d4 away.
    const first = await expireArtifacts(optionsFor(folder, { confirm: false }));
    assert.deepEqual(namesOf(first.databases[0]!.planned), ['d4', 'e3', 'd2', 'f1']);
    const waiting = expireArtifacts(optionsFor(folder, { leaseWaitMs: 600_000 }));
    child.stdin!.end();
    await waiting;
    // d4 was followed by d7: the exact chain stays, and e3 because d2 does. d6 is older than d7. So is f5, but d7 goes past
    // it, and what its log is made of here says neither that it builds on f5 nor that it does not.
    assert.deepEqual(names(folder), ['d2', 'd4', 'd7', 'e3', 'f1', 'f5']);
    await assertAllRestorable(folder);
  });

  test('a full artifact that came while the newest one was verified is verified as well', async (context) => {
    const root = temporaryFolder(context);
    const source = makeDatabase(join(root, 'data'), '5.26', { propertyStoreBytes: 8 * KIB });
    const folder = makeFolder(root, 'backups');
    const backup = {
      targetDirectory: folder,
      compress: true,
      compressionLevel: 1,
      keepFailed: false,
      type: 'FULL',
    } as const;
    for (let count = 0; count < 2; count += 1) await backupDatabase(source, backup);
    const now = new Date(Date.now() + DAY_MS);
    const late = await writeArtifact(root, 'late', {
      kind: 'full',
      range: [1, 99],
      time: now,
      memberBytes: 9e6,
    });
    let isThere = false;
    const progress = (): void => {
      if (!isThere) renameSync(late, join(folder, 'late.backup'));
      isThere = true;
    };
    const options = { now, verify: true, listener: { progress, notice: () => {} } };
    const { databases } = await expireArtifacts(optionsFor(folder, options));
    assert.ok(failure('GK_ARTIFACT_CORRUPT', /late\.backup/)(databases[0]!.error));
    assert.equal(names(folder).length, 3);
  });
});

function startModule(context: TestContext, code: string, argumentList: string[]): ChildProcess {
  const child = spawn(process.execPath, ['--input-type=module', '-e', code, ...argumentList], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  context.after(() => child.kill('SIGKILL'));
  return child;
}

describe('ended in the middle', () => {
  const LONG = {
    f1: ['full', 1, 10],
    d2: ['differential', 11, 20],
    d3: ['differential', 21, 30],
    d4: ['differential', 31, 40],
    x5: ['differential', 25, 35], // goes its own way, past f6
    f6: ['full', 1, 33],
    f7: ['full', 1, 60],
    d8: ['differential', 61, 70],
    f9: ['full', 1, 80],
  } satisfies Parameters<typeof fill>[1];

  /** Kills itself instead of deleting file number `count`. */
  const KILLED = `
    import fs from 'node:fs';
    import { syncBuiltinESMExports } from 'node:module';
    const [source, directory, count] = process.argv.slice(1);
    const { unlink } = fs.promises;
    let left = Number(count);
    fs.promises.unlink = async (path) => {
      if (left === 0) process.kill(process.pid, 'SIGKILL');
      left -= 1;
      return unlink(path);
    };
    syncBuiltinESMExports();
    const { expireArtifacts } = await import(source + '/operations/expire.ts');
    await expireArtifacts({ directory, policy: { last: 1 }, confirm: true, leaseWaitMs: 0 });
  `;

  for (let count = 0; count <= 7; count += 1) {
    test(`by kill -9 after ${count} deletions: all that is left can be restored`, async (context) => {
      const folder = temporaryFolder(context);
      await fill(folder, LONG);
      const child = startModule(context, KILLED, [SOURCE, folder, String(count)]);
      const [, signal] = (await once(child, 'exit')) as [number | null, string | null];
      assert.equal(signal, 'SIGKILL');
      assert.equal(names(folder).length, 9 - count);
      const { artifacts } = await readCatalogue(folder);
      for (const tip of artifacts) assert.notDeepEqual(chainsTo(tip, artifacts), [], tip.path);
      await assertAllRestorable(folder);
      // The lease died with its holder.
      await expireArtifacts(optionsFor(folder));
      assert.deepEqual(names(folder), ['f9']);
    });
  }

  test('by a signal: what is gone is said', async (context) => {
    const folder = temporaryFolder(context);
    await fill(folder, LONG);
    const { signal } = new AbortController();
    Object.defineProperty(signal, 'aborted', { get: () => names(folder).length <= 6 });
    const { databases } = await expireArtifacts(optionsFor(folder, { signal }));
    const [{ error, removed }] = databases as [ExpireResult['databases'][number]];
    assert.ok(failure('GK_INTERRUPTED', /3 of 8 artifacts were removed/)(error));
    assert.equal(removed.length, 3);
    assert.equal(names(folder).length, 6);
    await assertAllRestorable(folder);
  });

  const TRACED = `
    import fs from 'node:fs';
    import { syncBuiltinESMExports } from 'node:module';
    const [source, directory] = process.argv.slice(1);
    const { unlink, open } = fs.promises;
    const steps = [];
    fs.promises.unlink = async (path) => {
      steps.push(path.slice(directory.length + 1, -'.backup'.length));
      return unlink(path);
    };
    fs.promises.open = async (path, ...more) => {
      if (path === directory) steps.push('sync');
      return open(path, ...more);
    };
    syncBuiltinESMExports();
    const { expireArtifacts } = await import(source + '/operations/expire.ts');
    await expireArtifacts({ directory, policy: { last: 1 }, confirm: true });
    console.log(steps.join(' '));
  `;

  test('by a power failure: the folder is synced before what a deleted file was built on goes', async (context) => {
    const folder = temporaryFolder(context);
    await fill(folder, LONG);
    const child = startModule(context, TRACED, [SOURCE, folder]);
    const [output] = (await once(child.stdout!, 'data')) as [Buffer];
    const steps = output.toString().trim().split(' ');
    const isSyncedBetween = (first: string, second: string): boolean => {
      const [from, to] = [steps.indexOf(first), steps.indexOf(second)];
      assert.ok(from >= 0 && from < to, `${first} before ${second}: ${steps}`);
      return steps.slice(from, to).includes('sync');
    };
    for (const [dependent, base] of ['d4 d3', 'd3 d2', 'd2 f1', 'd8 f7', 'x5 f6'].map((pair) =>
      pair.split(' '),
    )) {
      assert.ok(isSyncedBetween(dependent!, base!), `${dependent}, ${base}: ${steps}`);
    }
    assert.equal(steps.at(-1), 'sync');
  });

  const REFUSED = `
    import fs from 'node:fs';
    import { syncBuiltinESMExports } from 'node:module';
    const [source, directory] = process.argv.slice(1);
    const { unlink } = fs.promises;
    fs.promises.unlink = async (path) => {
      if (!path.endsWith('d3.backup')) return unlink(path);
      throw Object.assign(new Error('EPERM: not now'), { code: 'EPERM' });
    };
    syncBuiltinESMExports();
    const { expireArtifacts } = await import(source + '/operations/expire.ts');
    const { databases } = await expireArtifacts({ directory, policy: { last: 1 }, confirm: true });
    console.log(databases[0].error?.code, databases[0].error?.message);
  `;

  test('by a file that cannot be removed: what it is built on stays', async (context) => {
    const folder = temporaryFolder(context);
    await fill(folder, LONG);
    const child = startModule(context, REFUSED, [SOURCE, folder]);
    const [output] = (await once(child.stdout!, 'data')) as [Buffer];
    assert.match(
      output.toString(),
      /^GK_NO_PERMISSION could not remove .*d3\.backup.* of 8 artifacts were removed/,
    );
    const left = names(folder);
    for (const name of ['f1', 'd2', 'd3', 'f9']) assert.ok(left.includes(name), name);
    await assertAllRestorable(folder);
  });
});

test('the lease file is in no list', async (context) => {
  const folder = temporaryFolder(context);
  await fill(folder, TWO_CHAINS);
  await expireArtifacts(optionsFor(folder));
  assert.ok(existsSync(join(folder, LEASE_FILE)));
  assert.equal(readFileSync(join(folder, LEASE_FILE)).length, 0);
  const { artifacts, unreadable } = await readCatalogue(folder);
  assert.deepEqual([artifacts.length, unreadable.length], [2, 0]);
});
