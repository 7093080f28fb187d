import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path, { join } from 'node:path';
import { describe, it } from 'node:test';
import { parsePlace } from '../../../src/cli/options.ts';
import { closeStores, isFileAt, joinPath, resolvePath, storeOf, urlOf } from '../../../src/storage/places.ts';
import { temporaryFolder } from '../../fixtures/workspace.ts';
import { withEnvironment } from '../../storage/suitetools.ts';

describe('what a path of an object store is', () => {
  for (const url of [
    's3://bucket',
    'gs://bucket/',
    'azb://account/container',
    'azb://account/container/',
    's3://profile@bucket/',
  ]) {
    it(`${url} is a folder, and no store is asked`, async () => {
      assert.equal(await isFileAt(url), false);
    });
  }
});

describe('a profile in the path of an object store', () => {
  const folder = 's3://on%40site@bucket/a';

  it('stays where paths are joined, shown and taken apart', () => {
    assert.equal(joinPath(`${folder}/`, 'x.backup'), `${folder}/x.backup`);
    assert.equal(joinPath('s3://p@bucket', 'x.backup'), 's3://p@bucket/x.backup');
    assert.equal(resolvePath(`${folder}//`), folder);
    assert.equal(urlOf(folder), folder);
    assert.deepEqual([path.dirname(`${folder}/x`), path.basename(`${folder}/x`)], [folder, 'x']);
    assert.equal(parsePlace('<to>', `${folder}/`), folder);
  });

  it('makes a store of its own, which says whose it is', async (context) => {
    const file = join(temporaryFolder(context), 'config');
    writeFileSync(file, '[profile a]\nregion=eu-west-1\n[profile b]\nregion=eu-west-2\n');
    try {
      await withEnvironment(
        { AWS_CONFIG_FILE: file, AWS_SHARED_CREDENTIALS_FILE: `${file}.none` },
        async () => {
          const [a, b] = [await storeOf('s3://a@bucket/x'), await storeOf('s3://b@bucket/x')];
          assert.notEqual(a, b);
          assert.equal(await storeOf('s3://a@bucket/x/'), a);
          assert.deepEqual([a.url, b.url], ['s3://a@bucket/x/', 's3://b@bucket/x/']);
        },
      );
    } finally {
      await closeStores();
    }
  });
});
