import assert from 'node:assert/strict';
import { readdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { acquireLease, LEASE_FILE } from '../../../src/storage/lease.ts';
import { writeArtifact } from '../../fixtures/artifacts.ts';
import { temporaryFolder } from '../../fixtures/workspace.ts';
import { type CliRun, cli, memoryContext } from './harness.ts';

interface ExpireDocument {
  confirmed: boolean;
  databases: {
    database: string;
    ok: boolean;
    error?: { code: string; exitStatus: number };
    keptCount: number;
    plannedCount: number;
    plannedBytes: number;
    removedCount: number;
    freedBytes: number;
    orphanCount: number;
    notices: string[];
    artifacts: {
      file: string;
      path: string;
      time: string | null;
      kind: string;
      lowestTransaction: number;
      highestTransaction: number;
      bytes: number;
      action: string;
      removed: boolean;
      reasons: string[];
    }[];
  }[];
  unreadable: { path: string; code: string; message: string }[];
  error?: { code: string; exitStatus: number };
}

async function backups(context: TestContext, newestBytes = 1000): Promise<string> {
  const folder = temporaryFolder(context);
  const at = (day: number): Date => new Date(Date.UTC(2026, 0, day, 12));
  await writeArtifact(folder, 'f1', { kind: 'full', range: [1, 10], time: at(1) });
  await writeArtifact(folder, 'd2', { kind: 'differential', range: [11, 20], time: at(2) });
  await writeArtifact(folder, 'e3', { kind: 'empty', range: [20, 20], time: at(3) });
  await writeArtifact(folder, 'f4', { kind: 'full', range: [1, 30], time: at(4), memberBytes: newestBytes });
  return folder;
}

const expire = (folder: string, ...more: string[]): Promise<CliRun> =>
  cli(['backup', 'expire', folder, ...more]);
const left = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => name !== LEASE_FILE)
    .sort();
const ALL = ['d2.backup', 'e3.backup', 'f1.backup', 'f4.backup'];

async function document(
  run: Promise<CliRun>,
): Promise<ExpireDocument & { exitStatus: number; stderr: string }> {
  const { stdout, exitStatus, stderr } = await run;
  return { ...(JSON.parse(stdout) as ExpireDocument), exitStatus, stderr };
}

test('a dry run: a table of what would happen, and nothing happens', async (context) => {
  const folder = await backups(context);
  for (const more of [[], ['--dry-run'], ['--dry-run=true'], ['--confirm=false']]) {
    const { exitStatus, stdout, stderr } = await expire(folder, '--keep-last=1', ...more);
    assert.equal(exitStatus, 0);
    const rows = stdout.split('\n').map((line) => line.split('|').map((cell) => cell.trim()));
    assert.deepEqual(rows[0]!.slice(1, -1), [
      'FILE',
      'DATABASE',
      'TIME (UTC)',
      'KIND',
      'TRANSACTIONS',
      'SIZE',
      'ACTION',
      'WHY',
    ]);
    const shown = rows.slice(1, -1).map((cells) => [1, 3, 4, 5, 7, 8].map((cell) => cells[cell]));
    assert.deepEqual(shown, [
      ['f4.backup', '2026-01-04T12:00:00', 'full', '1-30', 'keep', 'last 1, newest complete chain'],
      ['e3.backup', '2026-01-03T12:00:00', 'empty', '-', 'remove', 'no rule keeps it'],
      ['d2.backup', '2026-01-02T12:00:00', 'differential', '11-20', 'remove', 'no rule keeps it'],
      ['f1.backup', '2026-01-01T12:00:00', 'full', '1-10', 'remove', 'no rule keeps it'],
    ]);
    assert.match(stderr, /^neo4j: 1 artifact kept, 3 would be removed, .* KiB; --confirm removes them\n$/);
    assert.deepEqual(readdirSync(folder).sort(), ALL);
  }
});

test('with --confirm they are gone, and the last line says how much that was', async (context) => {
  const folder = await backups(context);
  const { exitStatus, stdout, stderr } = await expire(folder, '--keep-last=1', '--confirm');
  assert.equal(exitStatus, 0);
  assert.equal(stdout.match(/ removed \|/g)?.length, 3);
  assert.match(stderr, /^neo4j: 1 artifact kept, 3 removed, .* KiB freed\n$/);
  assert.deepEqual(left(folder), ['f4.backup']);
});

describe('JSON', () => {
  test('of a dry run', async (context) => {
    const folder = await backups(context);
    writeFileSync(join(folder, 'x.backup'), 'none');
    const result = await document(expire(folder, '--keep-daily=2', '--format=json'));
    assert.deepEqual([result.exitStatus, result.stderr, result.confirmed], [0, '', false]);
    assert.deepEqual(result.unreadable[0], {
      path: join(folder, 'x.backup'),
      code: 'GK_ARTIFACT_CORRUPT',
      message: result.unreadable[0]!.message,
    });
    const [database] = result.databases;
    assert.deepEqual(
      [database!.database, database!.ok, database!.keptCount, database!.plannedCount, database!.removedCount],
      ['neo4j', true, 4, 0, 0],
    );
    const { bytes, ...rest } = database!.artifacts[2]!;
    assert.ok(bytes > 1000);
    assert.deepEqual(rest, {
      file: pathToFileURL(join(folder, 'd2.backup')).href,
      path: join(folder, 'd2.backup'),
      time: '2026-01-02T12:00:00',
      kind: 'differential',
      lowestTransaction: 11,
      highestTransaction: 20,
      action: 'keep',
      removed: false,
      reasons: ['daily 2026-01-02'],
    });
  });

  test('with --confirm', async (context) => {
    const folder = await backups(context);
    const { databases } = await document(expire(folder, '--keep-last=1', '--confirm', '--format=JSON'));
    const [{ plannedBytes, freedBytes, removedCount, artifacts }] = databases as [
      ExpireDocument['databases'][number],
    ];
    assert.equal(removedCount, 3);
    assert.equal(freedBytes, plannedBytes);
    assert.deepEqual(
      artifacts.map(({ path, action, removed }) => [basename(path), action, removed]),
      [
        ['f4.backup', 'keep', false],
        ['e3.backup', 'remove', true],
        ['d2.backup', 'remove', true],
        ['f1.backup', 'remove', true],
      ],
    );
  });

  test('of an error of one database, of several, and of all', async (context) => {
    const folder = await backups(context, 10);
    const one = await document(expire(folder, '--keep-last=1', '--confirm', '--format=JSON'));
    assert.deepEqual([one.exitStatus, one.error?.code, one.error?.exitStatus], [88, 'GK_SUSPICIOUS', 88]);
    assert.deepEqual([one.databases[0]!.ok, one.databases[0]!.error?.code], [false, 'GK_SUSPICIOUS']);
    assert.match(one.databases[0]!.notices[0]!, /is gone/);
    const time = new Date('2026-01-01T00:00:00Z');
    await writeArtifact(folder, 's1', { kind: 'full', range: [1, 2], time, database: 'system' });
    const several = await document(expire(folder, '--keep-last=1', '--confirm', '--format=JSON'));
    assert.deepEqual([several.exitStatus, several.error?.code], [1, 'GK_FAILED']);
    const lease = await acquireLease(folder, 'shared');
    const all = await document(expire(folder, '--keep-last=0', '--format=JSON'));
    assert.deepEqual([all.exitStatus, all.error?.code], [64, 'GK_USAGE']);
    lease.release();
  });
});

test('a suspicious newest artifact: a note in the dry run, 88 with --confirm, --allow-smaller acts', async (context) => {
  const folder = await backups(context, 400);
  const dry = await expire(folder, '--keep-last=1');
  assert.equal(dry.exitStatus, 0);
  assert.match(dry.stderr, /note: neo4j: the newest full artifact f4.backup holds 400 bytes/);
  const refused = await expire(folder, '--keep-last=1', '--confirm');
  assert.equal(refused.exitStatus, 88);
  assert.match(refused.stderr, /error: neo4j: nothing was removed: .*\nhint: .*--allow-smaller/);
  assert.match(refused.stdout, / remove \|/);
  assert.deepEqual(left(folder), ALL);
  assert.equal((await expire(folder, '--keep-last=1', '--confirm', '--size-drop-percent=60')).exitStatus, 0);
  const again = await backups(context, 400);
  assert.equal((await expire(again, '--keep-last=1', '--confirm', '--allow-smaller')).exitStatus, 0);
  assert.deepEqual(left(again), ['f4.backup']);
});

test('orphans: a note, and --remove-orphans', async (context) => {
  const folder = await backups(context);
  const time = new Date('2026-01-09T00:00:00Z');
  await writeArtifact(folder, 'o9', { kind: 'differential', range: [91, 99], time });
  const kept = await expire(folder, '--keep-last=9');
  assert.match(kept.stderr, /no chain leads to 1 artifact; --remove-orphans removes such/);
  assert.match(kept.stdout, /o9\.backup .* keep \| +no chain leads to it \|/);
  const removed = await expire(folder, '--keep-last=9', '--remove-orphans', '--confirm');
  assert.match(removed.stdout, /o9\.backup .* removed \| +no chain leads to it \|/);
  assert.deepEqual(left(folder), ALL);
});

test('--verify: a newest full artifact that is not valid keeps everything', async (context) => {
  const folder = await backups(context);
  const run = await expire(folder, '--keep-last=1', '--confirm', '--verify');
  assert.equal(run.exitStatus, 65);
  assert.deepEqual(left(folder), ALL);
});

test('the folder as an option, as an address, and the rules in one policy', async (context) => {
  const folder = await backups(context);
  for (const given of [[`--from-path=${folder}`], [pathToFileURL(folder).href]]) {
    const rules = ['hourly', 'daily', 'weekly', 'monthly', 'yearly', 'last'].map(
      (rule) => `--keep-${rule}=1`,
    );
    const run = await cli([
      'backup',
      'expire',
      ...given,
      ...rules,
      '--keep-within=1y2m3w4d5h',
      '--database=N*',
    ]);
    assert.equal(run.exitStatus, 0, run.stderr);
    const all = /last 1, hourly .*, daily .*, weekly .*, monthly .*, yearly .*, within 1y2m25d5h/;
    assert.match(run.stdout, all);
  }
});

describe('arguments that are refused', () => {
  const CASES: [string[], RegExp][] = [
    [['/nowhere'], /the policy is empty/],
    [['/nowhere', '--keep-last=0', '--keep-daily=0'], /the policy is empty/],
    [['/nowhere', '--keep-last=-1'], /--keep-last takes a whole number/],
    [['/nowhere', '--keep-daily=x'], /--keep-daily takes a whole number/],
    [['/nowhere', '--keep-last=99999999'], /keep-last is a number from 0 to/],
    [['/nowhere', '--keep-within=30'], /not an age: '30'/],
    [['--keep-last=1'], /no folder is given/],
    [['/nowhere', '--from-path=/elsewhere', '--keep-last=1'], /two folders/],
    [['/nowhere', '--keep-last=1', '--confirm', '--dry-run'], /exclude each other/],
    [['/nowhere', '--keep-last=1', '--dry-run=false'], /does not remove anything by itself/],
    [['s3://b', '--keep-last=1'], /does not name a bucket/],
    [['/nowhere', '--keep-last=1', '--additional-config=x'], /refused/],
  ];
  for (const [argumentList, message] of CASES) {
    test(argumentList.join(' '), async () => {
      const run = await cli(['backup', 'expire', ...argumentList]);
      assert.equal(run.exitStatus, 64);
      assert.match(run.stderr, message);
    });
  }

  test('a threshold that is none', async (context) => {
    const run = await expire(await backups(context), '--keep-last=1', '--size-drop-percent=0');
    assert.equal(run.exitStatus, 64);
  });

  test('a folder that is missing or a file, a database that is not there', async (context) => {
    const folder = await backups(context);
    assert.equal((await expire(join(folder, 'no'), '--keep-last=1')).exitStatus, 66);
    assert.equal((await expire(join(folder, 'f1.backup'), '--keep-last=1')).exitStatus, 66);
    const run = await expire(folder, '--keep-last=1', '--database=other');
    assert.equal(run.exitStatus, 66);
    assert.match(run.stderr, /no artifact of database 'other'/);
  });
});

test('a signal before anything was removed has the status of the signal', async (context) => {
  const folder = await backups(context);
  const interrupted = { ...memoryContext(), watchSignals };
  function watchSignals() {
    return { signal: AbortSignal.abort(), exitStatus: () => 143, stop() {} };
  }
  const { runCli } = await import('../../../src/cli/program.ts');
  const status = await runCli(
    ['backup', 'expire', folder, '--keep-last=1', '--confirm', '--format=JSON'],
    interrupted,
  );
  assert.equal(status, 143);
  const { error } = JSON.parse(interrupted.stdout.text) as ExpireDocument;
  assert.deepEqual([error?.code, error?.exitStatus], ['GK_INTERRUPTED', 143]);
  assert.deepEqual(left(folder), ALL);
});
