import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { splitArguments } from '../../../src/cli/arguments.ts';
import { completionScript } from '../../../src/cli/completion.ts';
import { buildProgram } from '../../../src/cli/tree.ts';
import { withEnvironment } from '../../storage/suitetools.ts';
import { cli, memoryContext } from './harness.ts';

const LAUNCHER = fileURLToPath(new URL('../../../bin/graphkeep', import.meta.url));
const folder = mkdtempSync(path.join(os.tmpdir(), 'graphkeep-help-'));
after(() => rmSync(folder, { recursive: true }));

const absent = path.join(folder, 'absent');
const noProfiles = { AWS_CONFIG_FILE: absent, AWS_SHARED_CREDENTIALS_FILE: absent };
const program = buildProgram(memoryContext(), { exitStatus: 0 });

function paths(command: Command, words: string[] = []): string[][] {
  return [words, ...command.commands.flatMap((child) => paths(child, [...words, child.name()]))];
}

describe('help', () => {
  test('the tree has the commands of this version', () => {
    assert.deepEqual(
      paths(program)
        .map((words) => words.join(' '))
        .sort(),
      [
        '',
        'backup',
        'backup aggregate',
        'backup copy',
        'backup expire',
        'backup inspect',
        'backup validate',
        'completion',
        'database',
        'database aggregate-backup',
        'database backup',
        'database info',
        'database restore',
        'dbms',
        'dbms backup',
        'dbms restore',
        'server',
        'server token',
      ],
    );
  });

  for (const words of paths(program)) {
    test(`graphkeep ${words.join(' ')} --help has examples that name the command`, async () => {
      for (const flag of ['--help', '-h']) {
        const run = await cli([...words, flag]);
        assert.equal(run.exitStatus, 0);
        assert.match(run.stdout, new RegExp(`\nExamples:\n.*graphkeep ${words.join(' ')}`, 's'));
        assert.equal(run.stderr, '');
      }
    });
  }

  test('the examples of a command are accepted by its parser', async () => {
    const known = /is not known where|does not exist|there is no profile/;
    for (const words of paths(program).filter((candidate) => candidate.length === 2)) {
      const { stdout } = await cli([...words, '--help']);
      const lines = stdout
        .split('\n')
        .flatMap((line) => /^ {2}\$ graphkeep (.*?)( {3,}.*)?$/.exec(line)?.[1] ?? []);
      assert.ok(lines.length > 0);
      for (const line of lines) {
        // Never the real folders of the machine that runs the tests.
        const elsewhere = line.replaceAll(/\/(backups|var|data)\b/g, `${folder}/absent$&`);
        const run = await withEnvironment(noProfiles, () => cli(splitArguments(elsewhere, 'an example')));
        // A token needs no Neo4j.
        if (words.join(' ') !== 'server token') assert.match(run.stderr, known, line);
        assert.doesNotMatch(run.stderr, /unknown|refused|is missing/, line);
      }
    }
  });

  test('without a command: the help, as an error', async () => {
    for (const line of [[], ['database'], ['backup']]) {
      const run = await cli(line);
      assert.equal(run.exitStatus, 64);
      assert.match(run.stderr, /^Usage: graphkeep/);
    }
  });
});

describe('completion', () => {
  for (const shell of ['bash', 'zsh', 'fish'] as const) {
    const script = completionScript(program, shell);
    test(`${shell}: every command and every visible option`, () => {
      for (const words of paths(program).filter((candidate) => candidate.length > 0)) {
        assert.ok(script.includes(words.at(-1) ?? ''), words.join(' '));
      }
      const option = (name: string) => (shell === 'fish' ? `-l ${name} ` : `--${name}`);
      for (const name of [
        'to-path',
        'overwrite-destination',
        'latest-chain',
        'compression-level',
        'neo4j-home',
      ]) {
        assert.ok(script.includes(option(name)), name);
      }
      assert.doesNotMatch(script, /parallel-recovery|expand-commands|show-metadata/);
    });

    test(`${shell}: the shell can read it`, (context) => {
      const file = path.join(folder, `completion.${shell}`);
      writeFileSync(file, script);
      const run = spawnSync(shell, shell === 'fish' ? ['--no-execute', file] : ['-n', file], {
        encoding: 'utf8',
      });
      if (run.error !== undefined) return context.skip(`${shell} is not installed`);
      assert.equal(run.status, 0, run.stderr);
    });
  }

  /** What bash would offer, with the words as bash splits them. */
  function offered(...words: string[]): string[] {
    const file = path.join(folder, 'offered.bash');
    writeFileSync(file, completionScript(program, 'bash'));
    const quoted = words.map((word) => `'${word}'`).join(' ');
    const commands = `source ${file}; COMP_WORDS=(${quoted}); COMP_CWORD=${words.length - 1}; _graphkeep; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const run = spawnSync('bash', ['-c', commands], { encoding: 'utf8' });
    assert.equal(run.stderr, '');
    return run.stdout.split('\n').filter((line) => line !== '');
  }

  test('bash offers commands, options and values', () => {
    assert.deepEqual(offered('graphkeep', ''), ['database', 'backup', 'dbms', 'server', 'completion']);
    assert.deepEqual(offered('graphkeep', 'database', 'b'), ['backup']);
    assert.deepEqual(offered('graphkeep', 'database', 'backup', '--to'), ['--to-path=', '--token-file=']);
    assert.deepEqual(offered('graphkeep', 'database', 'backup', 'neo4j', '--compress'), [
      '--compress',
      '--compression-level=',
    ]);
    assert.deepEqual(offered('graphkeep', 'database', 'backup', '--type', '='), ['AUTO', 'DIFF', 'FULL']);
    assert.deepEqual(offered('graphkeep', 'database', 'backup', '--type', '=', 'A'), ['AUTO']);
    assert.deepEqual(offered('graphkeep', 'completion', 'f'), ['fish']);
    assert.deepEqual(offered('graphkeep', 'database', 'backup', '--to-path', '=', '/x'), []);
  });
});

describe('the launcher', () => {
  test('runs through a link from another folder', () => {
    const link = path.join(folder, 'graphkeep-link');
    symlinkSync(LAUNCHER, link);
    const run = spawnSync(link, ['--version'], { encoding: 'utf8', cwd: '/' });
    assert.equal(run.status, 0, run.stderr);
    assert.match(run.stdout, /^\d+\.\d+\.\d+\n$/);
  });

  test('passes arguments and the exit status on unchanged', () => {
    const run = spawnSync(LAUNCHER, ['database', 'restore', '--from-path=/a b,/c', 'x y'], {
      encoding: 'utf8',
    });
    assert.equal(run.status, 64);
    assert.match(run.stderr, /not a database name: 'x y'/);
  });

  test('an old Node is refused with 69, in a checkout of another platform', () => {
    const copy = path.join(folder, 'package', 'bin');
    const tools = path.join(folder, 'tools');
    spawnSync('mkdir', ['-p', copy, tools]);
    spawnSync('cp', [LAUNCHER, copy]);
    spawnSync('mkdir', ['-p', path.join(folder, 'package', 'src', 'cli')]);
    writeFileSync(path.join(folder, 'package', 'src', 'cli', 'main.ts'), '');
    writeFileSync(path.join(tools, 'node'), '#!/bin/sh\necho v20.19.0\n', { mode: 0o755 });
    const environment = { PATH: `${tools}:/usr/bin:/bin` };
    const run = spawnSync(path.join(copy, 'graphkeep'), ['--version'], {
      encoding: 'utf8',
      env: environment,
    });
    assert.equal(run.status, 69);
    assert.match(run.stderr, /Node v20\.19\.0 is too old/);
    assert.match(run.stderr, /hint: install Node 24/);
  });
});
