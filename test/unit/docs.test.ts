/** The documents that scripts and the code rely on say what the code does. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { buildProgram } from '../../src/cli/tree.ts';
import { ERROR_TABLE, type ErrorCode } from '../../src/errors.ts';
import { FOOTER_BYTES, INDEX_FORMAT_VERSION, INDEX_PROPERTY } from '../../src/formats/artifact/index.ts';
import { memoryContext } from './cli/harness.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const LONG_OPTION = /^--[a-z][a-z0-9-]*$/;

function read(file: string): string {
  return readFileSync(path.join(ROOT, file), 'utf8');
}

function leafCommands(command: Command, words: string[] = []): { words: string; command: Command }[] {
  if (command.commands.length === 0) return [{ words: words.join(' '), command }];
  return command.commands.flatMap((child) => leafCommands(child, [...words, child.name()]));
}

describe('docs/scripting.md', () => {
  const text = read('docs/scripting.md');
  const rows = text
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) => line.split('|').map((cell) => cell.trim()));

  for (const [code, { exitStatus, hint }] of Object.entries(ERROR_TABLE) as [
    ErrorCode,
    (typeof ERROR_TABLE)[ErrorCode],
  ][]) {
    test(`has ${code} with its exit status and hint`, () => {
      const row = rows.find((cells) => cells[2] === `\`${code}\``);
      assert.ok(row !== undefined, `no row for ${code}`);
      assert.equal(row[1], String(exitStatus));
      assert.equal(row[4], hint);
    });
  }

  test('has no code that the program does not know', () => {
    const named = new Set(text.match(/GK_[A-Z_]+/g));
    assert.deepEqual(
      [...named].filter((code) => !(code in ERROR_TABLE)),
      [],
    );
  });

  const commands = leafCommands(buildProgram(memoryContext(), { exitStatus: 0 }));

  for (const { words } of commands) {
    test(`names the command ${words}`, () => {
      assert.ok(text.includes(`\`graphkeep ${words}\``));
    });
  }

  test('names no option that no command has', () => {
    const known = new Set(commands.flatMap(({ command }) => command.options.map((option) => option.long)));
    const named = new Set(text.match(/--[a-z][a-z0-9-]*/g)?.filter((word) => LONG_OPTION.test(word)));
    const unknown = [...named].filter((option) => !known.has(option) && option !== '--help');
    assert.deepEqual(unknown, []);
  });
});

describe('docs/formats/formats.md', () => {
  const numbers = new Set(
    read('docs/formats/formats.md')
      .split('\n')
      .flatMap((line) => /^#{2,3} (\d+(?:\.\d+)?)\.? /.exec(line)?.[1] ?? []),
  );

  test('has every section that the code refers to', () => {
    let references = 0;
    for (const file of globSync('src/**/*.ts', { cwd: ROOT })) {
      // `formats.md §1, §9.2`: a reference may name several sections.
      for (const [reference] of read(file).matchAll(/formats\.md(?:,? §\d+(?:\.\d+)*)+/g)) {
        for (const [, section] of reference.matchAll(/§(\d+(?:\.\d+)*)/g)) {
          references++;
          assert.ok(section !== undefined && numbers.has(section), `${file} refers to §${section}`);
        }
      }
    }
    assert.ok(references >= 10, `only ${references} references were found`);
  });
});

describe('docs/formats/artifact.md', () => {
  const text = read('docs/formats/artifact.md');

  test('names the current version of the index', () => {
    assert.ok(text.includes(`**index format version ${INDEX_FORMAT_VERSION}**`));
  });

  test('names the size of the footer', () => {
    assert.ok(text.includes(`**${FOOTER_BYTES} bytes**`));
  });

  test('names the property of the descriptor', () => {
    assert.ok(text.includes(`key \`${INDEX_PROPERTY}\``));
  });
});

describe('links between the documents', () => {
  for (const file of globSync('docs/**/*.md', { cwd: ROOT })) {
    test(file, () => {
      for (const [, target] of read(file).matchAll(/\]\(([^)#:]+\.md)\)/g)) {
        const linked = path.join(path.dirname(file), target ?? '');
        assert.doesNotThrow(() => read(linked), `${file} links to ${linked}`);
      }
    });
  }
});
