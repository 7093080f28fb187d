/** Copies between folders: nothing is published that was not proven, nothing is replaced, and every state can be gone on from. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  copyFileSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { openArtifact } from '../../../src/artifact/reader.ts';
import type { GraphkeepError } from '../../../src/errors.ts';
import { KIB } from '../../../src/limits.ts';
import {
  ArtifactCopies,
  type ArtifactCopyOptions,
  type CopiedArtifact,
} from '../../../src/operations/artifactcopy.ts';
import { writeConfigurationArtifact } from '../../../src/operations/configurationbackup.ts';
import { sha256Of } from '../../../src/operations/hashing.ts';
import { restoreDatabase } from '../../../src/operations/restore.ts';
import type { OperationContext } from '../../../src/operations/types.ts';
import { validateArtifact } from '../../../src/operations/validate.ts';
import { makeKey, useKeys } from '../../fixtures/age.ts';
import { ChainScene, HIGHEST } from '../../fixtures/chains.ts';
import { foldersIn } from '../../fixtures/database.ts';
import { LINES } from '../../fixtures/lines.ts';
import {
  assertSameFiles,
  failure,
  filesBelow,
  makeFolder,
  namesIn,
  openFilesBelow,
  smallFileSystem,
} from '../../fixtures/workspace.ts';
import { cli } from '../cli/harness.ts';

const START = fileURLToPath(new URL('../../../src/cli/start.ts', import.meta.url));

interface CopyRun {
  readonly results: readonly CopiedArtifact[];
  readonly errors: readonly GraphkeepError[];
}

/** All of them, whatever becomes of each, as the command does it. */
async function copyAll(
  from: string,
  to: string,
  more: Partial<ArtifactCopyOptions> = {},
  context: OperationContext = {},
): Promise<CopyRun> {
  const options = { from, to, latestChain: false, verifyTarget: false, dryRun: false, ...more };
  const copies = await ArtifactCopies.begin(options);
  const results: CopiedArtifact[] = [];
  const errors: GraphkeepError[] = [];
  try {
    for (const item of copies.items) {
      await copies.copy(item, context).then(
        (result) => results.push(result),
        (error) => errors.push(error),
      );
    }
  } finally {
    copies.end();
  }
  return { results, errors };
}

const actionsOf = ({ results }: CopyRun) =>
  results.map(({ action, sourcePath }) => `${action} ${basename(sourcePath)}`);
const codesOf = ({ errors }: CopyRun) => errors.map(({ code }) => code);
const bytesIn = (folder: string) =>
  new Map([...filesBelow(folder)].filter(([name]) => !name.startsWith('.graphkeep.lease')));

/** A full artifact and two differentials; then another full one. */
async function chainIn(scene: ChainScene): Promise<string[]> {
  const chain = [
    await scene.backup('FULL'),
    await scene.backupAt(25n, 'DIFF'),
    await scene.backupAt(30n, 'DIFF', { compress: false }),
    await scene.backupAt(35n, 'FULL'),
  ];
  return chain.map(({ artifactPath }) => artifactPath);
}

function elsewhere(scene: ChainScene): string {
  return makeFolder(scene.root, 'elsewhere');
}

function flip(file: string, offset: number): void {
  const bytes = readFileSync(file);
  bytes[offset]! ^= 0x10;
  writeFileSync(file, bytes);
}

const settings = Buffer.from('server.memory.heap.max_size=1g\n');

async function putConfiguration(folder: string): Promise<string> {
  const member = {
    place: 'configuration',
    path: 'neo4j.conf',
    role: 'configuration',
    bytes: settings.length,
    sha256: sha256Of(settings),
    mode: 0o600,
  } as const;
  const manifest = {
    program: 'graphkeep test',
    time: new Date().toISOString(),
    host: 'host',
    members: [member],
    plugins: [],
    leftOut: [],
    secretSettings: [],
  };
  const read = async (target: Buffer, position: number): Promise<void> => {
    settings.copy(target, 0, position, position + target.length);
  };
  const written = await writeConfigurationArtifact(
    { manifest, sources: [{ member, read }] },
    { targetDirectory: folder },
  );
  return written.artifactPath;
}

for (const line of LINES) {
  test(`a folder of ${line} is copied, and used like the first one`, async (context) => {
    const scene = new ChainScene(context, line);
    const files = (await chainIn(scene)).map((file) => basename(file));
    const empty = basename((await scene.backup('DIFF')).artifactPath);
    const configuration = basename(await putConfiguration(scene.target));
    const to = elsewhere(scene);

    const run = await copyAll(scene.target, to);
    assert.deepEqual(codesOf(run), []);
    assert.deepEqual(
      actionsOf(run),
      [...files, empty, configuration].map((name) => `copied ${name}`),
      'what others build on comes first',
    );
    assert.ok(run.results.every(({ proven }) => proven));
    assertSameFiles(bytesIn(to), bytesIn(scene.target));
    assert.deepEqual(openFilesBelow(scene.root), []);

    const next = await scene.backupAt(HIGHEST, 'DIFF', { targetDirectory: to });
    assert.equal(next.parentPath, join(to, files[3]!), 'the chain goes on');
    for (const name of namesIn(to).filter((file) => file.endsWith('.backup')))
      assert.deepEqual((await validateArtifact(join(to, name))).problems, []);
    const target = foldersIn(join(scene.root, 'restored'));
    const restored = await restoreDatabase({ artifactPath: to, target, overwriteDestination: false });
    assert.equal(restored.highestTransaction, HIGHEST);
  });
}

describe('a second run', () => {
  test('brings what is new and touches nothing else', async (context) => {
    const scene = new ChainScene(context, '5.26');
    const to = elsewhere(scene);
    const [full] = await chainIn(scene);
    await copyAll(full!, to);
    const before = statSync(join(to, basename(full!)));
    await putConfiguration(scene.target);
    for (const expected of [['present', 'copied', 'copied', 'copied', 'copied'], Array(5).fill('present')]) {
      const run = await copyAll(scene.target, to);
      assert.deepEqual([codesOf(run), run.results.map(({ action }) => action)], [[], expected]);
    }
    const after = statSync(join(to, basename(full!)));
    assert.deepEqual([after.ino, after.mtimeMs], [before.ino, before.mtimeMs]);
    assertSameFiles(bytesIn(to), bytesIn(scene.target));
  });

  test('goes on after a kill, and clears away what that left', async (context) => {
    const scene = new ChainScene(context, '5.26');
    await chainIn(scene);
    const to = elsewhere(scene);
    const child = spawn(process.execPath, [
      START,
      ...['backup', 'copy', scene.target, to, '--limit-rate=100K'],
    ]);
    context.after(() => child.kill('SIGKILL'));
    const partials = (): string[] => readdirSync(to).filter((name) => name.endsWith('.partial'));
    const isWriting = (): boolean => partials().some((name) => statSync(join(to, name)).size > 0);
    while (!isWriting()) {
      assert.equal(child.exitCode, null, 'the copy ended before it could be killed');
      await sleep(5);
    }
    const exit = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await exit;
    assert.equal(partials().length, 1);
    assert.deepEqual(
      readdirSync(to).filter((name) => name.endsWith('.backup')),
      [],
      'nothing half copied has the name of an artifact',
    );
    context.mock.timers.reset();
    context.mock.timers.enable({ apis: ['Date'], now: Date.now() + 120_000 });
    const run = await copyAll(scene.target, to);
    assert.deepEqual(
      [codesOf(run), run.results.map(({ action }) => action)],
      [[], ['copied', 'copied', 'copied', 'copied']],
    );
    assertSameFiles(bytesIn(to), bytesIn(scene.target));
  });

  test('goes on after an interruption', async (context) => {
    const scene = new ChainScene(context, '5.26');
    const [full] = await chainIn(scene);
    const to = elsewhere(scene);
    const stop = new AbortController();
    const listener = { progress: () => stop.abort(), notice: () => {} };
    const run = await copyAll(full!, to, {}, { signal: stop.signal, listener });
    assert.deepEqual(codesOf(run), ['GK_INTERRUPTED']);
    assert.deepEqual(namesIn(to), []);
    assert.deepEqual(actionsOf(await copyAll(full!, to)), [`copied ${basename(full!)}`]);
  });
});

describe('a damaged source', () => {
  test('is not published wherever it is damaged', async (context) => {
    const scene = new ChainScene(context, '2026.08');
    const { artifactPath } = await scene.backup('FULL');
    const whole = readFileSync(artifactPath);
    const to = elsewhere(scene);
    const { index, file } = await openArtifact(artifactPath);
    await file.close();
    const frames = index!.frames.map(([offset, storedBytes]) => offset + Math.floor(storedBytes / 2));
    const indexStart = index!.frames.at(-1)![0] + index!.frames.at(-1)![1];
    for (const offset of [3, ...frames, indexStart, indexStart + 20, whole.length - 1]) {
      flip(artifactPath, offset);
      const run = await copyAll(scene.target, to);
      assert.deepEqual([codesOf(run), namesIn(to)], [['GK_ARTIFACT_CORRUPT'], []], `byte ${offset}`);
      writeFileSync(artifactPath, whole);
    }
    for (const bytes of [0, 100, frames[3]!, whole.length - 1]) {
      truncateSync(artifactPath, bytes);
      const run = await copyAll(scene.target, to);
      assert.deepEqual([codesOf(run), namesIn(to)], [['GK_ARTIFACT_CORRUPT'], []], `cut to ${bytes}`);
      writeFileSync(artifactPath, whole);
    }
  });

  test('keeps back what builds on it, and nothing else', async (context) => {
    const scene = new ChainScene(context, '5.26');
    const [full, first, second, other] = await chainIn(scene);
    flip(first!, statSync(first!).size >> 1);
    const to = elsewhere(scene);
    const run = await cli(['backup', 'copy', scene.target, to, '--format=json']);
    assert.equal(run.exitStatus, 65);
    const { copies } = JSON.parse(run.stdout) as {
      copies: { subject: string; ok: boolean; error?: { code: string } }[];
    };
    assert.deepEqual(
      copies.map(({ subject, error }) => [subject, error?.code]),
      [
        [basename(full!), undefined],
        [basename(first!), 'GK_ARTIFACT_CORRUPT'],
        [basename(second!), 'GK_CHAIN_BROKEN'],
        [basename(other!), undefined],
      ],
    );
    assert.deepEqual(namesIn(to).sort(), [full!, other!].map((file) => basename(file)).sort());
  });

  test('a configuration artifact is proven as well', async (context) => {
    const scene = new ChainScene(context, '5.26');
    const file = await putConfiguration(scene.target);
    const whole = readFileSync(file);
    const to = elsewhere(scene);
    const content = whole.indexOf(settings);
    for (const offset of [10, 700, content - 512, content, content + settings.length + 1, whole.length - 1]) {
      flip(file, offset);
      const run = await copyAll(scene.target, to);
      assert.deepEqual([codesOf(run), namesIn(to)], [['GK_ARTIFACT_CORRUPT'], []], `byte ${offset}`);
      writeFileSync(file, whole);
    }
    assert.deepEqual(codesOf(await copyAll(scene.target, to)), []);
    assert.equal(statSync(join(to, basename(file))).mode & 0o777, 0o600);
  });
});

describe('a name that is taken', () => {
  test('by another artifact, a shorter one, or one of the same length: it stays as it is', async (context) => {
    const scene = new ChainScene(context, '5.26');
    const [full, , , other] = await chainIn(scene);
    const to = elsewhere(scene);
    const target = join(to, basename(full!));
    const { index, file } = await openArtifact(full!);
    await file.close();
    const indexStart = index!.frames.at(-1)![0] + index!.frames.at(-1)![1];
    const changes = [
      () => copyFileSync(other!, target),
      () => truncateSync(target, 1000),
      () => flip(target, 30),
      () => flip(target, indexStart + 20),
    ];
    for (const change of changes) {
      copyFileSync(full!, target);
      change();
      const before = readFileSync(target);
      const run = await copyAll(full!, to);
      assert.deepEqual(codesOf(run), ['GK_TARGET_EXISTS']);
      assert.deepEqual(readFileSync(target), before);
    }
    assert.equal((await cli(['backup', 'copy', full!, to])).exitStatus, 73);
  });

  test('while it is copied: it stays as it is', async (context) => {
    const scene = new ChainScene(context, '5.26');
    const [full] = await chainIn(scene);
    const to = elsewhere(scene);
    const target = join(to, basename(full!));
    const listener = { progress: () => writeFileSync(target, 'theirs'), notice: () => {} };
    const run = await copyAll(full!, to, {}, { listener });
    assert.deepEqual(codesOf(run), ['GK_TARGET_EXISTS']);
    assert.equal(readFileSync(target, 'utf8'), 'theirs');
    assert.deepEqual(namesIn(to), [basename(full!)]);
  });

  test('damage that only shows when all is read is found with --verify=full', async (context) => {
    const scene = new ChainScene(context, '5.26');
    const [full] = await chainIn(scene);
    const to = elsewhere(scene);
    await copyAll(full!, to);
    const target = join(to, basename(full!));
    flip(target, statSync(target).size >> 1);
    assert.deepEqual(actionsOf(await copyAll(full!, to)), [`present ${basename(full!)}`]);
    assert.deepEqual(codesOf(await copyAll(full!, to, { verifyTarget: true })), ['GK_ARTIFACT_CORRUPT']);
    rmSync(target);
    const again = await copyAll(full!, to, { verifyTarget: true });
    assert.deepEqual(actionsOf(again), [`copied ${basename(full!)}`]);
    const run = await cli(['backup', 'copy', full!, to, '--verify=full']);
    assert.match(run.stdout, /there already .*every byte proven/);
  });
});

test('a full disk leaves nothing, and what was copied before stays', async (context) => {
  const scene = new ChainScene(context, '5.26');
  const [full] = await chainIn(scene);
  const small = smallFileSystem(context, statSync(full!).size + 16 * KIB);
  if ('skip' in small) return context.skip(small.skip);
  const run = await copyAll(scene.target, small.folder);
  assert.deepEqual(run.results.map(({ sourcePath }) => sourcePath)[0], full);
  assert.ok(codesOf(run).includes('GK_NO_SPACE'), codesOf(run).join());
  for (const name of namesIn(small.folder))
    assert.deepEqual((await validateArtifact(join(small.folder, name))).problems, [], name);
});

describe('what is chosen', () => {
  test('the latest chain, a database, or nothing', async (context) => {
    const scene = new ChainScene(context, '5.26');
    const [full, first, second, other] = (await chainIn(scene)).map((file) => basename(file));
    const configuration = basename(await putConfiguration(scene.target));
    const to = elsewhere(scene);
    const planned = async (from: string, more: Partial<ArtifactCopyOptions>): Promise<string[]> => {
      const run = await copyAll(from, to, { dryRun: true, ...more });
      assert.deepEqual(codesOf(run), []);
      return actionsOf(run).map((action) => action.replace('planned ', ''));
    };
    assert.deepEqual(await planned(scene.target, { latestChain: true }), [other, configuration]);
    assert.deepEqual(await planned(join(scene.target, second!), { latestChain: true }), [
      full,
      first,
      second,
    ]);
    assert.deepEqual(await planned(join(scene.target, second!), {}), [second]);
    assert.deepEqual(await planned(scene.target, { database: 'neo*' }), [full, first, second, other]);
    await assert.rejects(planned(scene.target, { database: 'other' }), failure('GK_NOT_FOUND'));
    assert.deepEqual(readdirSync(to), [], 'a dry run writes nothing');
    const alone = await cli(['backup', 'copy', join(scene.target, second!), to]);
    assert.match(alone.stderr, /it is differential/);
    assert.equal((await cli(['backup', 'copy', scene.target, scene.target])).exitStatus, 64);
  });

  test('an encrypted artifact goes along as it is, and is said to be unproven', async (context) => {
    const scene = new ChainScene(context, '5.26');
    const name = 'neo4j-2027-01-01T00-00-00.backup';
    const secret = Buffer.concat([Buffer.from('age-encryption.org/v1\n'), Buffer.alloc(3_000_000, 7)]);
    writeFileSync(join(scene.target, name), secret);
    const to = elsewhere(scene);
    const run = await copyAll(scene.target, to);
    assert.deepEqual(
      run.results.map(({ kind, proven, action }) => [kind, proven, action]),
      [['encrypted', false, 'copied']],
    );
    assert.ok(readFileSync(join(to, name)).equals(secret));
    flip(join(to, name), 1_500_000);
    assert.deepEqual(actionsOf(await copyAll(scene.target, to)), [`present ${name}`]);
    assert.deepEqual(codesOf(await copyAll(scene.target, to, { verifyTarget: true })), ['GK_TARGET_EXISTS']);
    assert.deepEqual(codesOf(await copyAll(scene.target, to, { latestChain: true })), ['GK_UNSUPPORTED']);
  });

  test('an artifact without an index, as another tool writes it', async (context) => {
    const scene = new ChainScene(context, '5.26');
    const { artifactPath } = await scene.backup('FULL', { compress: false });
    const { index, file } = await openArtifact(artifactPath);
    await file.close();
    const bytes = readFileSync(artifactPath);
    bytes.write('graphkeeq', bytes.indexOf('graphkeep'));
    const [offset, storedBytes] = index!.frames.at(-1)!;
    writeFileSync(artifactPath, bytes.subarray(0, offset + storedBytes));
    const to = elsewhere(scene);
    const run = await copyAll(scene.target, to, { verifyTarget: true });
    assert.deepEqual([codesOf(run), actionsOf(run)], [[], [`copied ${basename(artifactPath)}`]]);
    assertSameFiles(bytesIn(to), bytesIn(scene.target));
    flip(join(to, basename(artifactPath)), 1000);
    assert.deepEqual(codesOf(await copyAll(scene.target, to)), ['GK_TARGET_EXISTS']);
  });
});

test('what is encrypted is copied as it is, artifacts and configurations, and said to be unproven', async (context) => {
  const scene = new ChainScene(context, '5.26');
  useKeys(context, { to: [await makeKey()], clearHeader: true });
  await scene.backup('FULL');
  await scene.backupAt(30n, 'DIFF');
  const configuration = 'configuration-2026-11-21T10-00-00.tar';
  writeFileSync(
    join(scene.target, configuration),
    readFileSync(join(scene.target, namesIn(scene.target)[0]!)),
  );
  const to = makeFolder(scene.root, 'copies');
  const run = await copyAll(scene.target, to, { verifyTarget: true });
  assert.deepEqual(run.errors, []);
  assert.deepEqual(
    run.results.map(({ action, proven }) => [action, proven]),
    Array(3).fill(['copied', false]),
  );
  assertSameFiles(bytesIn(to), bytesIn(scene.target));
  const again = await copyAll(scene.target, to, { verifyTarget: true });
  assert.ok(again.results.every(({ action }) => action === 'present'));
  assert.equal(again.results.length, 3);
});
