import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';

const PROGRAM = `
  import { readdirSync, readFileSync } from 'node:fs';
  import { readFile } from 'node:fs/promises';
  import { lowerPriority } from './src/cli/priority.ts';
  import { startPinThread } from './src/hotcopy/pinthread.ts';
  const spared = process.argv[1] === 'spare' ? await startPinThread() : undefined;
  lowerPriority(spared);
  await Promise.all(Array.from({ length: 8 }, () => readFile('/proc/self/stat')));
  const unchanged = readdirSync('/proc/self/task').filter((thread) => {
    const fields = readFileSync('/proc/self/task/' + thread + '/stat', 'utf8').replace(/^.*\\) /, '').split(' ');
    return fields[16] !== '10';
  });
  console.log(JSON.stringify({ spared: spared?.toString(), unchanged }));
`;

function runProgram(...args: string[]): { readonly spared?: string; readonly unchanged: readonly string[] } {
  const options = ['--input-type=module', '--eval', PROGRAM, ...args];
  return JSON.parse(execFileSync(process.execPath, options, { encoding: 'utf8' }));
}

test('every thread gives way, those that are made later as well', () => {
  assert.deepEqual(runProgram().unchanged, []);
});

test('the thread that holds the log open keeps its priority, and no other does', () => {
  const { spared, unchanged } = runProgram('spare');
  assert.notEqual(spared, undefined);
  assert.deepEqual(unchanged, [spared]);
});
