import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { listLogFolder, pinFile } from '../../../src/hotcopy/logfolder.ts';
import { failure, temporaryFolder } from '../../fixtures/workspace.ts';

describe('log folder', () => {
  test('is listed by number, not by name', async (context) => {
    const folder = temporaryFolder(context);
    for (const version of [10, 9, 100, 2]) {
      writeFileSync(join(folder, `neostore.transaction.db.${version}`), '');
      writeFileSync(join(folder, `checkpoint.${version}`), '');
    }
    for (const other of [
      'neostore.transaction.db',
      'neostore.transaction.db.1.bak',
      'checkpoint.x',
      'raft.1',
    ]) {
      writeFileSync(join(folder, other), '');
    }
    const { logs, checkpoints } = await listLogFolder(folder);
    assert.deepEqual(
      logs.map((file) => file.version),
      [2n, 9n, 10n, 100n],
    );
    assert.deepEqual(
      checkpoints.map((file) => file.name),
      ['checkpoint.2', 'checkpoint.9', 'checkpoint.10', 'checkpoint.100'],
    );
    await assert.rejects(listLogFolder(join(folder, 'no')), failure('GK_NOT_FOUND'));
  });

  test('a file that is gone cannot be pinned, which is no error', async (context) => {
    assert.equal(await pinFile(join(temporaryFolder(context), 'no')), undefined);
  });
});
