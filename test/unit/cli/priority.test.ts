import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';

const PROGRAM = `
  import { readdirSync, readFileSync } from 'node:fs';
  import { readFile } from 'node:fs/promises';
  import { lowerPriority } from './src/cli/priority.ts';
  lowerPriority();
  await Promise.all(Array.from({ length: 8 }, () => readFile('/proc/self/stat')));
  const niceness = readdirSync('/proc/self/task').map((thread) => {
    const fields = readFileSync('/proc/self/task/' + thread + '/stat', 'utf8').replace(/^.*\\) /, '').split(' ');
    return fields[16];
  });
  console.log([...new Set(niceness)].join());
`;

test('every thread gives way, those that are made later as well', () => {
  const output = execFileSync(process.execPath, ['--input-type=module', '--eval', PROGRAM], {
    encoding: 'utf8',
  });
  assert.equal(output.trim(), '10');
});
