import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isFileAt } from '../../../src/storage/places.ts';

describe('what a path of an object store is', () => {
  for (const url of ['s3://bucket', 'gs://bucket/', 'azb://account/container', 'azb://account/container/']) {
    it(`${url} is a folder, and no store is asked`, async () => {
      assert.equal(await isFileAt(url), false);
    });
  }
});
