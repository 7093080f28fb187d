/** Rules that the source keeps, which neither the compiler nor the linter knows. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, test } from 'node:test';
import { ERROR_TABLE } from '../../src/errors.ts';
import { VERSION } from '../../src/version.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const FILE_LINES_MAX = 500;
const LINE_COLUMNS_MAX = 110;
/** Prose cannot always be broken; code is wrapped by the formatter. */
const COMMENT_COLUMNS_MAX = 125;

/** From the outside in: a layer uses those below it, and nothing uses one above it. */
const LAYERS: readonly (readonly string[])[] = [
  ['cli'],
  ['server'],
  ['operations'],
  ['hotcopy', 'remote'],
  ['chain', 'artifact', 'engine', 'neo4j'],
  ['storage'],
  ['formats'],
];
const EVERYWHERE = ['errors.ts', 'limits.ts', 'version.ts'];

interface SourceFile {
  /** Relative to the folder `src`, `test`, … it lies in, with that folder. */
  readonly path: string;
  readonly lines: readonly string[];
}

function sourceFiles(folder: string): SourceFile[] {
  const root = join(ROOT, folder);
  if (!existsSync(root)) return [];
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => {
      const path = join(entry.parentPath, entry.name);
      return { path: relative(ROOT, path), lines: readFileSync(path, 'utf8').split('\n') };
    });
}

const source = sourceFiles('src');
const everything = ['src', 'test', 'scripts', 'bench', 'demo'].flatMap(sourceFiles);

/** `path:line: text` of every line that the rule complains about. */
function complaints(files: readonly SourceFile[], rule: (line: string, path: string) => boolean): string[] {
  return files.flatMap(({ path, lines }) =>
    lines.flatMap((line, number) => (rule(line, path) ? [`${path}:${number + 1}: ${line.trim()}`] : [])),
  );
}

const isComment = (line: string): boolean => /^\s*(\/\*|\*( |\/|$)|\/\/)/.test(line);
const code = (line: string): string => (isComment(line) ? '' : line.replace(/(?<!:)\/\/.*$/, ''));

describe('source', () => {
  test('is there to be checked', () => {
    assert.ok(source.length > 30);
    assert.ok(everything.length > source.length);
  });

  test('no file is too long to be read', () => {
    const long = source.filter(({ lines }) => lines.length > FILE_LINES_MAX).map(({ path }) => path);
    assert.deepEqual(long, []);
  });

  test('no line is too long to be read', () => {
    // A text or pattern that the formatter will not break may stand out, on a line of its own.
    const isLongText = (line: string): boolean => /['"`/]/.test(line) && line.length <= 140;
    const tooLong = (line: string): boolean =>
      isComment(line)
        ? line.length > COMMENT_COLUMNS_MAX
        : line.length > LINE_COLUMNS_MAX && !isLongText(line);
    assert.deepEqual(complaints(source, tooLong), []);
  });

  test('nothing is of type any, and no check is switched off', () => {
    const loose = (line: string): boolean =>
      /(:|<|\bas|,|\|)\s*any\b/.test(code(line)) || /@ts-(ignore|expect-error|nocheck)/.test(line);
    assert.deepEqual(complaints(source, loose), []);
  });

  test('nothing is left to be done', () => {
    assert.deepEqual(
      complaints(source, (line) => /\b(TODO|FIXME|XXX|HACK)\b/.test(line)),
      [],
    );
  });

  test('there are no default exports', () => {
    assert.deepEqual(
      complaints(everything, (line) => /^export default\b|\bas default\b/.test(line)),
      [],
    );
  });

  test('imports name the file with its ending', () => {
    const without = (line: string): boolean =>
      /from '\.[^']*'/.test(line) && !/from '\.[^']*\.ts'/.test(line);
    assert.deepEqual(complaints(everything, without), []);
  });

  test('no path of the machine it was written on', () => {
    const local = (line: string): boolean =>
      /['"`](\/home\/|\/root\/|\/work\/|\/Users\/|\/tmp\/m)/.test(line);
    assert.deepEqual(complaints(source, local), []);
  });

  test('every file begins by saying what it is for', () => {
    const silent = source.filter(({ lines }) => !lines[0]!.startsWith('/**')).map(({ path }) => path);
    assert.deepEqual(silent, []);
  });
});

describe('layers', () => {
  const rankOf = (path: string): number | undefined => {
    const [folder] = relative('src', path).split('/');
    const rank = LAYERS.findIndex((layer) => layer.includes(folder!));
    return rank < 0 ? undefined : rank;
  };

  const imports = source.flatMap(({ path, lines }) =>
    lines.flatMap((line) => {
      const target = /(?:from|import\() ?'(\.[^']+)'/.exec(line)?.[1];
      return target === undefined ? [] : [{ from: path, to: join(dirname(path), target) }];
    }),
  );

  test('every file belongs to one', () => {
    const homeless = source
      .map(({ path }) => path)
      .filter((path) => rankOf(path) === undefined && !EVERYWHERE.includes(relative('src', path)));
    assert.deepEqual(homeless, []);
  });

  test('there are imports to be checked', () => {
    assert.ok(imports.length > 100);
    assert.ok(imports.every(({ to }) => existsSync(join(ROOT, to))));
  });

  test('nothing uses a layer above its own', () => {
    const upward = imports.filter(({ from, to }) => {
      const [fromRank, toRank] = [rankOf(from), rankOf(to)];
      // What may be used everywhere uses nothing but its like.
      if (fromRank === undefined) return toRank !== undefined;
      return toRank !== undefined && toRank < fromRank;
    });
    assert.deepEqual(upward, []);
  });

  test('nothing in the formats knows of files or users', () => {
    const format = source.filter(({ path }) => path.startsWith('src/formats/'));
    const impure = (line: string): boolean => /from 'node:(fs|net|http|child_process)|errors\.ts'/.test(line);
    assert.deepEqual(complaints(format, impure), []);
  });
});

describe('errors', () => {
  const entries = Object.entries(ERROR_TABLE);

  test('every code has an exit status of its own', () => {
    const statuses = entries.map(([, entry]) => entry.exitStatus);
    assert.equal(new Set(statuses).size, statuses.length);
    for (const status of statuses) assert.ok(status > 0 && status < 256, String(status));
  });

  test('every code has a hint', () => {
    for (const [errorCode, { hint }] of entries) {
      assert.match(errorCode, /^GK_[A-Z_]+$/);
      assert.ok(hint.length > 10, errorCode);
    }
  });

  test('every code is used, and no other is', () => {
    const used = new Set(
      source
        .filter(({ path }) => path !== 'src/errors.ts')
        .flatMap(({ lines }) => lines.flatMap((line) => line.match(/\bGK_[A-Z_]+\b/g) ?? [])),
    );
    const inTable = readFileSync(join(ROOT, 'src/errors.ts'), 'utf8').match(/\bGK_[A-Z_]+\b/g) ?? [];
    const known = new Set<string>(entries.map(([errorCode]) => errorCode));
    assert.deepEqual(
      [...used].filter((errorCode) => !known.has(errorCode)),
      [],
    );
    const count = (errorCode: string): number => inTable.filter((found) => found === errorCode).length;
    assert.deepEqual(
      [...known].filter((errorCode) => !used.has(errorCode) && count(errorCode) < 2),
      [],
    );
  });
});

test('the version is that of the package', () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  assert.equal(VERSION, version);
});

describe('lock file', () => {
  // npm writes down only what its registry has for this machine, and `npm ci` refuses what is missing elsewhere.
  test('names every package that another one asks for, those of other platforms too', () => {
    const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as LockFile;
    const missing = Object.entries(packages).flatMap(([path, { dependencies, optionalDependencies }]) =>
      Object.keys({ ...dependencies, ...optionalDependencies })
        .filter((name) => !foldersAbove(path).some((folder) => `${folder}node_modules/${name}` in packages))
        .map((name) => `${path}: ${name}`),
    );
    assert.deepEqual(missing, []);
  });
});

interface LockFile {
  readonly packages: Record<string, Partial<Record<'dependencies' | 'optionalDependencies', object>>>;
}

/** Where a package's dependencies may lie: in its own folder, or in that of any package that it lies in. */
function foldersAbove(path: string): string[] {
  if (path === '') return [''];
  return [`${path}/`, ...foldersAbove(path.slice(0, Math.max(0, path.lastIndexOf('node_modules/') - 1)))];
}
