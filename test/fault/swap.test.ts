/**
 * The swap of a database, looked at before each of its steps through the two paths that Neo4j would open: they must
 * lead to the same generation, always. The real suite kills a process at each step and starts Neo4j; this one is quick
 * enough to be run against a broken copy of the source.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { DatabaseFolders } from '../../src/neo4j/folders.ts';
import { databaseExists, ownershipOf, StagedDatabase, settleDatabase } from '../../src/neo4j/swap.ts';
import { foldersIn } from '../fixtures/database.ts';
import { makeFolder, temporaryFolder } from '../fixtures/workspace.ts';

class Stop extends Error {}

function putGeneration(folders: DatabaseFolders, generation: string): void {
  for (const directory of [folders.storeDirectory, folders.logDirectory]) {
    makeFolder(directory);
    writeFileSync(join(directory, 'generation'), generation);
  }
}

/** What a server would open now: one generation, or a mixture. */
function generationOf(folders: DatabaseFolders): string {
  const [store, log] = [folders.storeDirectory, folders.logDirectory].map((directory) =>
    readFileSync(join(directory, 'generation'), 'utf8'),
  );
  return store === log ? store! : `a mixture: store ${store}, log ${log}`;
}

async function swapUntil(
  folders: DatabaseFolders,
  step: number,
): Promise<{ finished: boolean; seen: string[] }> {
  const seen: string[] = [];
  const staged = await StagedDatabase.create(
    folders,
    await ownershipOf(join(folders.storeDirectory, '..')),
    () => {
      seen.push(generationOf(folders));
      if (seen.length === step) throw new Stop();
    },
  );
  putGeneration(staged.folders, 'new');
  try {
    await staged.commit();
    return { finished: true, seen };
  } catch (error) {
    if (!(error instanceof Stop)) throw error;
    return { finished: false, seen };
  }
}

test('before every step the two folders are of one generation, and what was begun can be settled', async (context) => {
  for (let step = 1; ; step++) {
    const folders = foldersIn(makeFolder(temporaryFolder(context), String(step)));
    putGeneration(folders, 'old');
    const { finished, seen } = await swapUntil(folders, step);
    assert.deepEqual(
      seen.filter((generation) => generation !== 'old' && generation !== 'new'),
      [],
    );
    const left = generationOf(folders);
    await settleDatabase(folders);
    assert.equal(generationOf(folders), left, 'settling does not change which database is there');
    for (const directory of [folders.storeDirectory, folders.logDirectory]) {
      assert.deepEqual(readdirSync(join(directory, '..')), ['neo4j']);
    }
    if (!finished) continue;
    assert.equal(left, 'new');
    assert.ok(step > 6, `only ${step - 1} steps were seen`);
    return;
  }
});

test('a database that was not there is there after the swap', async (context) => {
  const folders = foldersIn(temporaryFolder(context));
  for (const directory of [folders.storeDirectory, folders.logDirectory]) makeFolder(directory, '..');
  assert.equal(await databaseExists(folders), false);
  const staged = await StagedDatabase.create(folders, await ownershipOf(join(folders.storeDirectory, '..')));
  putGeneration(staged.folders, 'new');
  await staged.commit();
  assert.equal(generationOf(folders), 'new');
});
