import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import {
  ARGUMENT_FILE_BYTES_MAX,
  attachBooleanValues,
  expandArgumentFiles,
  splitArguments,
} from '../../../src/cli/arguments.ts';

const folder = mkdtempSync(path.join(os.tmpdir(), 'graphkeep-arguments-'));
after(() => rmSync(folder, { recursive: true }));

function fileWith(text: string): string {
  const file = path.join(folder, `arguments-${Math.random()}`);
  writeFileSync(file, text);
  return file;
}

describe('argument files', () => {
  test('blanks, lines, quotes and comments', () => {
    const text = `a b\n  "c d" 'e "f'  # comment "\n--path="x y"\n#last`;
    assert.deepEqual(splitArguments(text, 'f'), ['a', 'b', 'c d', 'e "f', '--path=x y']);
    assert.deepEqual(splitArguments('"a\\"b" "" x#y', 'f'), ['a"b', '', 'x#y']);
  });

  test('an open quote is an error', () =>
    assert.throws(() => splitArguments('a "b', 'f'), { code: 'GK_USAGE' }));

  test('files include files; a doubled sign is a plain argument', () => {
    const inner = fileWith('inner');
    const outer = fileWith(`x @${inner} y`);
    assert.deepEqual(expandArgumentFiles(['1', `@${outer}`, '@@2', '@']), [
      '1',
      'x',
      'inner',
      'y',
      '@2',
      '@',
    ]);
  });

  test('a file that includes itself ends in an error', () => {
    const file = fileWith('');
    writeFileSync(file, `@${file}`);
    assert.throws(() => expandArgumentFiles([`@${file}`]), /nested too deeply/);
  });

  test('size and number are bounded', () => {
    const large = fileWith('x'.repeat(ARGUMENT_FILE_BYTES_MAX + 1));
    assert.throws(() => expandArgumentFiles([`@${large}`]), /larger than/);
    const many = fileWith('x '.repeat(20_000));
    assert.throws(() => expandArgumentFiles([`@${many}`]), /more than 10000 arguments/);
    assert.throws(() => expandArgumentFiles([`@${folder}`]), /not a file/);
  });
});

describe('bare boolean options', () => {
  const names = new Set(['--compress', '--verbose']);
  const cases: [string[], string[]][] = [
    [
      ['--compress', 'neo4j'],
      ['--compress=true', 'neo4j'],
    ],
    [
      ['--compress', 'false', 'neo4j'],
      ['--compress=false', 'neo4j'],
    ],
    [['--compress', 'TRUE'], ['--compress=true']],
    [
      ['neo4j', '--compress'],
      ['neo4j', '--compress=true'],
    ],
    [
      ['--compress=false', 'true'],
      ['--compress=false', 'true'],
    ],
    [
      ['--compress', '--verbose', 'x'],
      ['--compress=true', '--verbose=true', 'x'],
    ],
    [
      ['--', '--compress', 'x'],
      ['--', '--compress', 'x'],
    ],
  ];
  for (const [given, expected] of cases) {
    test(given.join(' '), () => assert.deepEqual(attachBooleanValues(given, names), expected));
  }
});
