/** The installed package: packed, installed in an empty folder with what it depends on, and used. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { test } from 'node:test';
import { VERSION } from '../../src/version.ts';
import { makeDatabase } from '../fixtures/database.ts';
import { namesIn } from '../fixtures/workspace.ts';

const ROOT = join(import.meta.dirname, '..', '..');

test('npm pack, npm install, backup, validate', (context) => {
  const folder = mkdtempSync(join(tmpdir(), 'graphkeep-package-'));
  context.after(() => rmSync(folder, { recursive: true, force: true }));
  const env = { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH ?? ''}` };
  const run = (command: string, args: readonly string[], cwd: string): string =>
    execFileSync(command, args, { cwd, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

  run('npm', ['pack', `--pack-destination=${folder}`], ROOT);
  const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz'));
  assert.ok(tarball !== undefined);
  const home = join(folder, 'home');
  mkdirSync(home);
  writeFileSync(join(home, 'package.json'), '{"private":true}');
  run('npm', ['install', '--no-audit', '--no-fund', join(folder, tarball)], home);
  const program = join(home, 'node_modules', '.bin', 'graphkeep');
  assert.equal(run(program, ['--version'], home).trim(), VERSION);
  refusesOldNode(join(home, 'node_modules', 'graphkeep', 'dist', 'graphkeep.cjs'));

  const database = makeDatabase(join(folder, 'data'), '5.26');
  const target = join(folder, 'target');
  mkdirSync(target);
  run(
    program,
    [
      'database',
      'backup',
      `--from-path-data=${dirname(database.storeDirectory)}`,
      `--from-path-txn=${dirname(database.logDirectory)}`,
      `--to-path=${target}`,
      'neo4j',
    ],
    home,
  );
  const [artifact] = namesIn(target);
  assert.match(run(program, ['backup', 'validate', join(target, artifact ?? '')], home), /OK/);
});

/** No old Node is at hand: this one says that it is. */
function refusesOldNode(start: string): void {
  const claim = `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '20.19.0' } });`;
  const run = spawnSync(process.execPath, ['-e', `${claim} import(${JSON.stringify(start)});`], {
    encoding: 'utf8',
  });
  assert.equal(run.status, 69, run.stderr);
  assert.match(run.stderr, /^error: Node v20\.19\.0 is too old: .*\nhint: install Node 24/);
}
