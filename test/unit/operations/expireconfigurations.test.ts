/** What `backup expire` makes of configuration artifacts, in a folder of this machine. */
import assert from 'node:assert/strict';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { planConfigurations } from '../../../src/operations/expireconfigurations.ts';
import { writeArtifact } from '../../fixtures/artifacts.ts';
import { temporaryFolder } from '../../fixtures/workspace.ts';
import { artifact, cli } from '../cli/harness.ts';

const nameAt = (day: number, hour = 13): string =>
  `configuration-2026-01-${String(day).padStart(2, '0')}T${String(hour).padStart(2, '0')}-00-00.tar`;
const backupAt = (day: number, hour = 12) => artifact({ time: new Date(Date.UTC(2026, 0, day, hour)) });
const newestFirst = (names: string[]): string[] => names.toSorted().toReversed();

/** Of each day a full one at noon, and a configuration an hour later. */
async function runs(context: TestContext, days: number): Promise<string> {
  const folder = temporaryFolder(context);
  for (let day = 1; day <= days; day++) {
    const time = new Date(Date.UTC(2026, 0, day, 12));
    await writeArtifact(folder, `f${day}`, { kind: 'full', range: [1, 10 * day], time });
    writeFileSync(join(folder, nameAt(day)), 'whatever it holds');
  }
  return folder;
}

const tarsIn = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.tar'))
    .sort();

describe('which configurations stay', () => {
  test('the last one before a backup that stays, the first one after it, and the newest', () => {
    const all = newestFirst([1, 2, 3, 4, 5, 6, 7].map((day) => nameAt(day)));
    const { kept, planned } = planConfigurations(all, [backupAt(3), backupAt(5)]);
    assert.deepEqual(kept, [nameAt(7), nameAt(5), nameAt(4), nameAt(3), nameAt(2)]);
    assert.deepEqual(planned, [nameAt(6), nameAt(1)]);
  });

  test('one of the same second is both', () => {
    const all = newestFirst([nameAt(1), nameAt(2, 12), nameAt(3), nameAt(4)]);
    assert.deepEqual(planConfigurations(all, [backupAt(2)]).kept, [nameAt(4), nameAt(2, 12)]);
  });

  test('the newest stays, even beside no backup at all', () => {
    assert.deepEqual(planConfigurations(newestFirst([nameAt(1), nameAt(2)]), []).kept, [nameAt(2)]);
    assert.deepEqual(planConfigurations([], []), { kept: [], planned: [] });
  });

  test('all, when it is not known which backups stay or when one was taken', () => {
    const all = newestFirst([1, 2, 3].map((day) => nameAt(day)));
    const timeless = artifact({ time: undefined });
    assert.deepEqual(planConfigurations(all, undefined).kept, all);
    assert.deepEqual(planConfigurations(all, [backupAt(3), timeless]).kept, all);
  });
});

describe('backup expire', () => {
  test('a dry run names them and leaves them, --confirm removes them', async (context) => {
    const folder = await runs(context, 5);
    const policy = ['backup', 'expire', folder, '--keep-last=2'];
    const dry = await cli(policy);
    assert.equal(dry.exitStatus, 0, dry.stderr);
    const line = `${nameAt(1)}: would be removed, no kept artifact lies next to it`;
    assert.match(dry.stdout, new RegExp(`^${line}$`, 'm'));
    assert.match(dry.stdout, new RegExp(`^${nameAt(2)}: would`, 'm'));
    assert.doesNotMatch(dry.stdout, new RegExp(`^${nameAt(3)}: `, 'm'));
    assert.equal(tarsIn(folder).length, 5);
    const json = await cli([...policy, '--confirm', '--format=json']);
    assert.equal(json.exitStatus, 0, json.stderr);
    const { configurations } = JSON.parse(json.stdout) as {
      configurations: { ok: boolean; kept: string[]; removed: string[] };
    };
    assert.equal(configurations.ok, true);
    assert.deepEqual(
      configurations.kept,
      [5, 4, 3].map((day) => join(folder, nameAt(day))),
    );
    assert.deepEqual(
      configurations.removed,
      [1, 2].map((day) => join(folder, nameAt(day))),
    );
    assert.deepEqual(
      tarsIn(folder),
      [3, 4, 5].map((day) => nameAt(day)),
    );
  });

  test('they go as well when no backup has to', async (context) => {
    const folder = await runs(context, 2);
    writeFileSync(join(folder, nameAt(1, 20)), '');
    writeFileSync(join(folder, nameAt(1, 22)), '');
    const run = await cli(['backup', 'expire', folder, '--keep-last=9', '--confirm']);
    assert.equal(run.exitStatus, 0, run.stderr);
    assert.deepEqual(tarsIn(folder), [nameAt(1), nameAt(1, 22), nameAt(2)]);
  });

  test('none goes for one database, beside a file that cannot be read, or when a database was refused', async (context) => {
    const folder = await runs(context, 4);
    const confirmed = (...more: string[]) =>
      cli(['backup', 'expire', folder, '--keep-last=1', '--confirm', ...more]);
    assert.equal((await confirmed('--database=neo4j')).exitStatus, 0);
    assert.equal(tarsIn(folder).length, 4);

    const small = await runs(context, 3);
    const time = new Date(Date.UTC(2026, 0, 4, 12));
    await writeArtifact(small, 'f4', { kind: 'full', range: [1, 50], time, memberBytes: 10 });
    const refused = await cli(['backup', 'expire', small, '--keep-last=1', '--confirm']);
    assert.equal(refused.exitStatus, 88, refused.stderr);
    assert.equal(tarsIn(small).length, 3);

    const odd = await runs(context, 4);
    writeFileSync(join(odd, 'odd.backup'), 'no artifact');
    const beside = await cli(['backup', 'expire', odd, '--keep-last=1', '--confirm']);
    assert.equal(beside.exitStatus, 0, beside.stderr);
    assert.equal(tarsIn(odd).length, 4);
  });
});
