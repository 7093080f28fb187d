/**
 * The vendor's own artifacts: five tiny samples that come with the server of 2026.08. They are read where the
 * distribution has them and are never part of this repository.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { inspectArtifacts } from '../../src/operations/inspect.ts';
import { ensureDistribution } from './harness/distribution.ts';

const run = promisify(execFile);

test("the vendor's sample artifacts are inspected", async () => {
  const folder = await mkdtemp(join(tmpdir(), 'graphkeep-samples-'));
  const { libraryFolder, java } = await ensureDistribution('2026.08');
  const jar = (await readdir(libraryFolder)).find((name) => name.startsWith('neo4j-push-to-cloud-'));
  await run(join(java, '..', 'jar'), ['xf', join(libraryFolder, jar ?? ''), 'org/neo4j/export'], {
    cwd: folder,
  });
  const samples = join(folder, 'org', 'neo4j', 'export');
  const { artifacts, unreadable } = await inspectArtifacts(samples);
  const expected = (await readdir(samples)).filter((name) => name.endsWith('.backup')).length;
  assert.deepEqual(unreadable, []);
  assert.equal(artifacts.length, expected);
  for (const sample of artifacts) {
    assert.equal(sample.database, 'foo');
    assert.equal(sample.databaseId, '00000000-0000-0000-0000-000000000001');
    assert.equal(sample.full, true);
    assert.equal(sample.indexed, false);
  }
  await rm(folder, { recursive: true });
});
