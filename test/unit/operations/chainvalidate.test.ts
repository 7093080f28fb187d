/** What validate and inspect say of chains, as results, as text and as JSON. */
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { openArtifact } from '../../../src/artifact/reader.ts';
import { readCatalogue } from '../../../src/chain/catalogue.ts';
import { inspectArtifacts, inspectLatestChain } from '../../../src/operations/inspect.ts';
import type { ChainVerdict, ValidateResult } from '../../../src/operations/types.ts';
import { endsToWatch, judgeChains, validateArtifact } from '../../../src/operations/validate.ts';
import {
  ChainScene,
  diverged,
  GrowingDatabase,
  historyOf,
  logMember,
  markAt,
  putForeignArtifact,
  writeDifferential,
} from '../../fixtures/chains.ts';
import { foldersIn } from '../../fixtures/database.ts';
import { LINES, type Line } from '../../fixtures/lines.ts';
import { failure, openFilesBelow } from '../../fixtures/workspace.ts';
import { type CliRun, cli } from '../cli/harness.ts';

/** F20, D21-25, D26-30, E30, one every ten seconds. */
async function makeChain(
  context: TestContext,
  line: Line = '5.26',
  compress = true,
): Promise<{ scene: ChainScene; paths: string[] }> {
  const scene = new ChainScene(context, line);
  const paths: string[] = [];
  for (const last of [20n, 25n, 30n, 30n]) {
    paths.push((await scene.backupAt(last, 'AUTO', { compress })).artifactPath);
  }
  return { scene, paths };
}

async function validateAll(folder: string): Promise<{ results: ValidateResult[]; chains: ChainVerdict[] }> {
  const { artifacts } = await readCatalogue(folder);
  const watched = endsToWatch(artifacts);
  const results: ValidateResult[] = [];
  for (const { path } of artifacts) results.push(await validateArtifact(path, { watched }));
  return { results, chains: judgeChains(artifacts, results) };
}

/** Names of the artifacts, whether all is well, what can be restored, and what is wrong. */
function shown({ artifacts, valid, restorable, problems }: ChainVerdict): unknown[] {
  const window = restorable === undefined ? undefined : [restorable.from, restorable.to];
  return [artifacts, valid, window, problems.length];
}

function flip(path: string, place: number): void {
  const bytes = readFileSync(path);
  bytes[place]! ^= 1;
  writeFileSync(path, bytes);
}

const IN_HEAD = 30;

/** A place in the first member of an artifact. */
async function inMember(path: string): Promise<number> {
  const { file, index } = await openArtifact(path);
  await file.close();
  const [offset, storedBytes] = index!.frames[1]!;
  return offset + (storedBytes >> 1);
}

const validate = (...more: string[]): Promise<CliRun> => cli(['backup', 'validate', ...more]);

/** The fields that a program reads. */
interface ValidateJson {
  readonly valid: boolean;
  readonly artifacts: { path: string; valid: boolean; problems?: string[] }[];
  readonly chains: {
    database: string;
    databaseId: string;
    artifacts: string[];
    valid: boolean;
    problems: string[];
    restorable?: { from: number; to: number; fromTime: string; toTime: string };
  }[];
}

for (const line of LINES) {
  describe(`validate of chains of ${line}`, () => {
    test('a whole one', async (context) => {
      const { scene, paths } = await makeChain(context, line);
      const { results, chains } = await validateAll(scene.target);
      assert.deepEqual(
        results.map(({ path, valid, transactionsChecked }) => [path, valid, transactionsChecked]),
        [paths[3], paths[2], paths[1], paths[0]].map((path, number) => [
          path,
          true,
          [0n, 5n, 5n, 18n][number],
        ]),
      );
      assert.deepEqual(chains.map(shown), [[paths.slice(0, 3), true, [20n, 30n], 0]]);
      const { exitStatus, stdout, stderr } = await validate(scene.target);
      assert.deepEqual([exitStatus, stderr], [0, '']);
      assert.match(stdout, new RegExp(`${basename(paths[0]!)} +\\| +3 \\| +20 to 30 \\| +OK`));
      assert.deepEqual(openFilesBelow(scene.root), []);
    });

    test('a gap: what lies before it can be restored, what lies behind it cannot', async (context) => {
      const { scene, paths } = await makeChain(context, line);
      rmSync(paths[1]!);
      const { chains } = await validateAll(scene.target);
      assert.deepEqual(chains.map(shown), [
        [[paths[0]], true, [20n, 20n], 0],
        [[paths[2]], false, undefined, 1],
      ]);
      assert.match(chains[1]!.problems[0]!, /a gap: .* begins after transaction 25/);
      const { exitStatus, stdout } = await validate(scene.target);
      assert.equal(exitStatus, 85);
      assert.match(stdout, /nothing \| +a gap: no full artifact leads to/);
      const alone = await validate(paths[2]!);
      assert.equal(alone.exitStatus, 0, 'of a file that is named, nobody knows what else there is');
    });

    test('no full one at all', async (context) => {
      const { scene, paths } = await makeChain(context, line);
      rmSync(paths[0]!);
      const { chains } = await validateAll(scene.target);
      assert.deepEqual(chains.map(shown), [
        [[paths[2]], false, undefined, 1],
        [[paths[1]], false, undefined, 1],
      ]);
      assert.equal((await validate(scene.target)).exitStatus, 85);
    });

    test('damage in the middle: up to there', async (context) => {
      const { scene, paths } = await makeChain(context, line, false);
      flip(paths[1]!, await inMember(paths[1]!));
      const { chains } = await validateAll(scene.target);
      assert.deepEqual(chains.map(shown), [[paths.slice(0, 3), false, [20n, 20n], 1]]);
      const { exitStatus, stdout } = await validate(scene.target, '--format=JSON');
      assert.equal(exitStatus, 65, 'damage comes before a gap');
      const json: ValidateJson = JSON.parse(stdout);
      assert.equal(json.valid, false);
      assert.deepEqual(
        json.artifacts.map(({ path, valid }) => [path, valid]),
        paths.map((path) => [path, path !== paths[1]]),
      );
      const [chain] = json.chains;
      assert.deepEqual([chain!.restorable?.from, chain!.restorable?.to, chain!.valid], [20, 20, false]);
      assert.deepEqual(chain!.problems, json.artifacts[1]!.problems);
    });

    test('damage in the full one: nothing', async (context) => {
      const { scene, paths } = await makeChain(context, line, false);
      flip(paths[0]!, await inMember(paths[0]!));
      const { chains } = await validateAll(scene.target);
      assert.deepEqual(chains.map(shown), [[paths.slice(0, 3), false, undefined, 1]]);
      assert.equal((await validate(scene.target)).exitStatus, 65);
    });

    test('an artifact with a damaged member is still what its head says it is', async (context) => {
      for (const compress of [false, true]) {
        const { scene, paths } = await makeChain(context, line, compress);
        flip(paths[1]!, await inMember(paths[1]!));
        const { artifacts, unreadable } = await inspectArtifacts(scene.target);
        assert.deepEqual([artifacts.length, unreadable], [4, []], compress ? 'compressed' : 'plain');
        context.mock.timers.reset();
      }
    });

    test('damage in a head: the file belongs to no chain, and what builds on it has a gap', async (context) => {
      const { scene, paths } = await makeChain(context, line);
      flip(paths[1]!, IN_HEAD);
      const { exitStatus, stdout } = await validate(scene.target, '--format=JSON');
      assert.equal(exitStatus, 65);
      const { artifacts, chains }: ValidateJson = JSON.parse(stdout);
      assert.equal(artifacts.find(({ path }) => path === paths[1])!.valid, false);
      assert.deepEqual(
        chains.map((chain) => chain.artifacts),
        [[paths[0]], [paths[2]]],
      );
    });

    test('a parent of another history', async (context) => {
      const { scene, paths } = await makeChain(context, line);
      const other = diverged(historyOf(line), 25n);
      rmSync(paths[1]!);
      await writeDifferential(paths[1]!, line, {
        parent: markAt(other, 20n),
        members: [logMember(other, 0n, 21n, 25n)],
        end: markAt(other, 25n),
      });
      const { results, chains } = await validateAll(scene.target);
      assert.ok(results.every(({ valid }) => valid));
      assert.deepEqual(chains.map(shown).at(-1), [[paths[2]], false, undefined, 1]);
      assert.match(chains.at(-1)!.problems[0]!, /follows another transaction 25 than .* was set back/);
      assert.equal((await validate(scene.target)).exitStatus, 85);
    });

    test('an overlap that holds, and one that is refuted', async (context) => {
      for (const from of [undefined, 28n]) {
        const scene = new ChainScene(context, line);
        const first = await scene.backup();
        const differential = await scene.backupAt(25n);
        if (from !== undefined) scene.database.setBack(25n, diverged(historyOf(line), from));
        const full = await scene.backupAt(30n, 'FULL');
        scene.database.setBack(25n, historyOf(line));
        scene.database.appendTo(33n);
        const last = await scene.backup('DIFF', { preferDifferentialAsParent: true });
        const { chains } = await validateAll(scene.target);
        const whole = [first, differential, last].map(({ artifactPath }) => artifactPath);
        const overlapping = [full, last].map(({ artifactPath }) => artifactPath);
        // What was refuted is no fault as long as the first chain holds all that it seemed to join.
        const seen =
          from === undefined
            ? [overlapping, true, [30n, 33n], 0]
            : [[full.artifactPath], true, [30n, 30n], 0];
        assert.deepEqual(chains.map(shown), [seen, [whole, true, [20n, 33n], 0]]);
        assert.equal((await validate(scene.target)).exitStatus, 0);
        rmSync(differential.artifactPath);
        const lost = await validateAll(scene.target);
        assert.equal(lost.chains[0]!.valid, from === undefined);
        if (from !== undefined) {
          assert.match(lost.chains[0]!.problems[0]!, /another transaction 30 than .* two histories/);
          assert.equal((await validate(scene.target)).exitStatus, 85);
        }
        context.mock.timers.reset();
      }
    });
  });
}

test('validate of a database in a folder of several judges its chains only', async (context) => {
  const { scene, paths } = await makeChain(context);
  const system = new GrowingDatabase(join(scene.root, 'other'), historyOf('2026.08'), 20n);
  Object.assign(system, { folders: { ...system.folders, name: 'system' } });
  await scene.backup('FULL', {}, system);
  system.appendTo(25n);
  const differential = await scene.backup('AUTO', {}, system);
  assert.equal(differential.kind, 'differential');
  rmSync(paths[1]!);
  const run = await validate(scene.target, '--database=system', '--format=JSON');
  const { chains, valid }: ValidateJson = JSON.parse(run.stdout);
  assert.deepEqual([run.exitStatus, valid, chains.length, chains[0]!.database], [0, true, 1, 'system']);
  assert.equal((await validate(scene.target)).exitStatus, 85);
});

test('the JSON of validate names window and times as inspect does', async (context) => {
  const { scene } = await makeChain(context);
  const validated: ValidateJson = JSON.parse((await validate(scene.target, '--format=JSON')).stdout);
  const inspected: ValidateJson = JSON.parse(
    (await cli(['backup', 'inspect', scene.target, '--format=JSON'])).stdout,
  );
  assert.deepEqual(validated.chains[0]!.restorable, inspected.chains[0]!.restorable);
  assert.equal(validated.chains[0]!.restorable!.toTime, '2027-01-01T00:00:40.000Z', 'of the empty one');
  assert.equal(JSON.stringify(validated).includes('seenChecksums'), false);
});

describe('inspect', () => {
  const inspect = async (...more: string[]): Promise<CliRun> => {
    const run = await cli(['backup', 'inspect', ...more]);
    assert.equal(run.exitStatus, 0, run.stderr);
    return run;
  };
  /** Files of the rows of a table, from the first on. */
  const filesIn = (stdout: string): string[] =>
    [...stdout.matchAll(/^\| +(file:\S+)/gm)].map(([, file]) => file!);
  const urls = (...paths: (string | undefined)[]): string[] => paths.map((path) => pathToFileURL(path!).href);

  test('of a folder: newest first, empty ones on request, and what can be restored', async (context) => {
    const { scene, paths } = await makeChain(context);
    const { stdout } = await inspect(scene.target);
    assert.deepEqual(filesIn(stdout), urls(paths[2], paths[1], paths[0]));
    assert.match(
      stdout,
      /^neo4j: \S+ and 2 after it can be restored to any transaction from 20 to 30, .* to 2027-01-01T00:00:40 UTC$/m,
    );
    const withEmpty = await inspect(scene.target, '--empty');
    assert.deepEqual(filesIn(withEmpty.stdout), urls(paths[3], paths[2], paths[1], paths[0]));
  });

  test('--latest-backup is the newest that holds something, unless --empty', async (context) => {
    const { scene, paths } = await makeChain(context);
    const { stdout } = await inspect(scene.target, '--latest-backup');
    assert.deepEqual(filesIn(stdout), urls(paths[2]));
    assert.doesNotMatch(stdout, /can be restored/);
    const withEmpty = await inspect(scene.target, '--latest-backup', '--empty');
    assert.deepEqual(filesIn(withEmpty.stdout), urls(paths[3]));
  });

  test('--latest-chain of a database or of a file, the last artifact first', async (context) => {
    const { scene, paths } = await makeChain(context);
    const ofDatabase = await inspect(scene.target, '--latest-chain', '--database=Neo4j');
    assert.deepEqual(filesIn(ofDatabase.stdout), urls(paths[2], paths[1], paths[0]));
    const ofFile = await inspect(paths[1]!, '--latest-chain');
    assert.deepEqual(filesIn(ofFile.stdout), urls(paths[1], paths[0]));
    const full = await scene.backup('FULL');
    const latest = await inspect(scene.target, '--latest-chain', '--database=neo4j', '--format=JSON');
    const { artifacts }: { artifacts: { file: string }[] } = JSON.parse(latest.stdout);
    assert.deepEqual(
      artifacts.map(({ file }) => file),
      urls(full.artifactPath),
    );
    const unknown = await inspect(scene.target, '--latest-chain', '--database=unknown');
    assert.deepEqual(filesIn(unknown.stdout), []);
  });

  test('--latest-chain of an empty differential is that of what it follows', async (context) => {
    const { paths } = await makeChain(context);
    const chain = await inspectLatestChain(paths[3]!, undefined);
    assert.deepEqual(
      chain.map(({ path }) => path).filter((path) => path !== paths[3]),
      [paths[2], paths[1], paths[0]],
    );
  });

  test('--latest-chain says what is missing, and needs to know of which database', async (context) => {
    const { scene, paths } = await makeChain(context);
    rmSync(paths[1]!);
    const broken = await cli(['backup', 'inspect', scene.target, '--latest-chain', '--database=neo4j']);
    assert.equal(broken.exitStatus, 85);
    assert.match(broken.stderr, /no full artifact leads to .*transaction 25/);
    const nameless = await cli(['backup', 'inspect', scene.target, '--latest-chain']);
    assert.deepEqual([nameless.exitStatus, nameless.stdout], [64, '']);
    const both = await cli(['backup', 'inspect', scene.target, '--latest-chain', '--latest-backup']);
    assert.equal(both.exitStatus, 64);
  });

  test('the JSON holds what a differential follows, and the chains with their windows', async (context) => {
    const { scene, paths } = await makeChain(context);
    const { stdout } = await inspect(scene.target, '--format=JSON');
    const { artifacts, chains, unreadable } = JSON.parse(stdout) as {
      artifacts: Record<string, unknown>[];
      chains: Record<string, unknown>[];
      unreadable: unknown[];
    };
    const history = historyOf('5.26');
    const newest = artifacts[0]!;
    assert.deepEqual(
      [newest.file, newest.full, newest.lowestTransaction, newest.highestTransaction, newest.parent],
      [
        pathToFileURL(paths[2]!).href,
        false,
        26,
        30,
        { appendIndex: 25, checksum: markAt(history, 25n).checksum },
      ],
    );
    assert.match(String(newest.latestCommit), /^2026-11-21T13:\d\d:\d\d\.\d{3}Z$/);
    assert.equal(newest.time, '2027-01-01T00:00:30');
    const { from, to } = chains[0]!.restorable as { from: number; to: number };
    assert.deepEqual([chains[0]!.artifacts, from, to], [paths.slice(0, 3), 20, 30]);
    assert.deepEqual([chains.length, unreadable], [1, []]);
  });

  test('a full artifact of another tool is a chain of its own, without a moment', async (context) => {
    const { scene } = await makeChain(context);
    const path = join(scene.target, 'foreign.backup');
    putForeignArtifact(path, '5.26', 25n, new Date());
    const { chains } = await inspectArtifacts(scene.target);
    const foreign = chains.find(({ artifacts }) => artifacts[0] === path)!;
    assert.deepEqual([foreign.artifacts, foreign.restorable.fromTime], [[path], undefined]);
  });
});

describe('restore through the command line', () => {
  const restore = (scene: ChainScene, ...more: string[]): Promise<CliRun> => {
    const { storeDirectory, logDirectory } = foldersIn(join(scene.root, 'restored'));
    const to = [`--to-path-data=${join(storeDirectory, '..')}`, `--to-path-txn=${join(logDirectory, '..')}`];
    return cli(['database', 'restore', `--from-path=${scene.target}`, ...to, ...more, 'neo4j']);
  };

  test('--dry-run prints the plan, and writes nothing', async (context) => {
    const { scene, paths } = await makeChain(context);
    const text = await restore(scene, '--dry-run', '--restore-until=27');
    assert.deepEqual([text.exitStatus, openFilesBelow(scene.root)], [0, []]);
    const names = paths.slice(0, 3).map((path) => basename(path));
    for (const name of names) assert.ok(text.stdout.includes(name), name);
    assert.match(text.stdout, /transactions {2}up to 26, /);
    assert.match(text.stdout, /any transaction from 20 to 30/);
    const json = await restore(scene, '--dry-run', '--format=JSON');
    const { plans } = JSON.parse(json.stdout) as { plans: Record<string, unknown>[] };
    assert.deepEqual([plans[0]!.ok, plans[0]!.endTransaction, plans[0]!.target], [true, 30, 'neo4j']);
    assert.equal(typeof plans[0]!.neededBytes, 'number');
    await assert.rejects(inspectArtifacts(join(scene.root, 'restored')), failure('GK_NOT_FOUND'));
  });

  test('each refusal has its own status', async (context) => {
    const { scene, paths } = await makeChain(context);
    assert.equal((await restore(scene, '--restore-until=10')).exitStatus, 86);
    assert.equal((await restore(scene, '--restore-until=2026-11-31 10:00:00')).exitStatus, 64);
    assert.equal((await restore(scene, '--restore-until=0')).exitStatus, 64);
    rmSync(paths[1]!);
    assert.equal((await restore(scene)).exitStatus, 85);
    assert.equal((await restore(scene, '--restore-until=21')).exitStatus, 0);
  });
});

test('an artifact that could not be read is not called good', async (context) => {
  const { scene, paths } = await makeChain(context);
  const { artifacts } = await inspectArtifacts(scene.target);
  const results = [await validateArtifact(paths[0]!), await validateArtifact(paths[1]!)];
  const [verdict] = judgeChains(artifacts, results);
  assert.deepEqual([verdict!.valid, verdict!.restorable?.to], [false, 25n]);
  assert.match(verdict!.problems[0]!, /00-00-30\.backup could not be read/);
});
