/** The process of the program, as the system sees it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';

const PROGRAM = join(import.meta.dirname, '..', '..', '..', 'src', 'cli', 'main.ts');

/** The answer of the disk never comes, and nothing else keeps the process alive. */
const NEVER_ANSWERS = `data:text/javascript,
  import fs from 'node:fs/promises';
  import { syncBuiltinESMExports } from 'node:module';
  fs.readdir = () => new Promise(() => {});
  syncBuiltinESMExports();`;

test('a command that comes to nothing has failed', () => {
  const run = spawnSync(
    process.execPath,
    ['--import', NEVER_ANSWERS, PROGRAM, 'backup', 'inspect', import.meta.dirname],
    { encoding: 'utf8' },
  );
  assert.equal(run.status, 70, run.stderr);
  assert.match(run.stderr, /^error: the command stopped before its end/m);
  assert.equal(run.stdout, '');
});
