/** The stock tool of age opens what graphkeep wrote, and graphkeep reads what it encrypted. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { readRange } from '../../src/artifact/bytes.ts';
import { openContent } from '../../src/artifact/sealedfile.ts';
import { inspectArtifacts } from '../../src/operations/inspect.ts';
import { validateArtifact } from '../../src/operations/validate.ts';
import { makeKey, useKeys, writeIdentity } from '../fixtures/age.ts';
import { ChainScene, membersOf } from '../fixtures/chains.ts';
import { makeFolder } from '../fixtures/workspace.ts';
import { AGE, ensureGoTool } from './gotools.ts';

const tool = await ensureGoTool(AGE);
const options = 'skip' in tool ? { skip: tool.skip } : {};

function age(...given: string[]): { status: number | null; stderr: string } {
  assert.ok('program' in tool);
  return spawnSync(tool.program, given, { encoding: 'utf8' });
}

async function plainContent(path: string): Promise<Buffer> {
  const file = await openContent(path);
  try {
    return await readRange(file, 0, file.bytes);
  } finally {
    await file.close();
  }
}

async function opensOurs(
  context: TestContext,
  kind: 'x25519' | 'hybrid',
  clearHeader: boolean,
): Promise<void> {
  const scene = new ChainScene(context, '5.26');
  const [key, other] = [await makeKey(kind), await makeKey(kind)];
  useKeys(context, { to: [other, key], open: [key], clearHeader });
  const { artifactPath } = await scene.backup('FULL');
  const identity = writeIdentity(join(scene.root, 'key'), key);
  const opened = join(makeFolder(scene.root, 'opened'), 'neo4j.backup');
  const run = age('--decrypt', '-i', identity, '-o', opened, artifactPath);
  assert.equal(run.status, 0, run.stderr);
  assert.equal(readFileSync(opened).equals(await plainContent(artifactPath)), true);
  const members = await membersOf(artifactPath);
  useKeys(context, {});
  assert.deepEqual((await validateArtifact(opened)).problems, []);
  assert.deepEqual(await membersOf(opened), members);

  const wrong = writeIdentity(join(scene.root, 'wrong'), await makeKey(kind));
  assert.notEqual(age('--decrypt', '-i', wrong, '-o', `${opened}.2`, artifactPath).status, 0);
  const cut = join(scene.root, 'cut');
  writeFileSync(cut, readFileSync(artifactPath).subarray(0, -1));
  assert.notEqual(age('--decrypt', '-i', identity, '-o', `${opened}.3`, cut).status, 0);
}

describe('stock age', options, () => {
  for (const kind of ['x25519', 'hybrid'] as const) {
    for (const clearHeader of [false, true]) {
      const header = clearHeader ? 'with' : 'without';
      test(`opens what graphkeep encrypted: ${kind} keys, ${header} a clear header`, (context) =>
        opensOurs(context, kind, clearHeader));
    }

    test(`encrypts what graphkeep reads: ${kind} keys`, async (context) => {
      const scene = new ChainScene(context, '5.26');
      const { artifactPath } = await scene.backup('FULL');
      const key = await makeKey(kind);
      const encrypted = join(makeFolder(scene.root, 'encrypted'), 'neo4j-2027-01-01T00-00-10.backup');
      const run = age('--encrypt', '-r', key.recipient, '-o', encrypted, artifactPath);
      assert.equal(run.status, 0, run.stderr);
      useKeys(context, { open: [key] });
      assert.deepEqual((await validateArtifact(encrypted)).problems, []);
      assert.equal((await inspectArtifacts(encrypted)).artifacts[0]!.encrypted, 'opened');
      assert.equal(readFileSync(artifactPath).equals(await plainContent(encrypted)), true);
    });
  }
});
