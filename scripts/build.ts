/**
 * Builds the program of the package: few files instead of two hundred, since a small command spends most of its time on
 * finding and linking modules. CommonJS, because Node starts it in two thirds of the time that ES modules take; what is
 * imported on demand is loaded on demand. The dependencies of the package stay packages of their own.
 */
import { readFile, rm } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import { resolve } from 'node:path';
import { build, type Plugin } from 'rolldown';

/** What `backup inspect` loads, which scripts run again and again, lies in one file; most of it is what every command needs. */
const LOADED_FIRST = ['src/cli/main.ts', 'src/cli/backup-inspect.ts', 'src/operations/inspect.ts'];

const manifest = JSON.parse(await readFile('package.json', 'utf8')) as { dependencies: object };
const licence = await readFile('node_modules/commander/LICENSE', 'utf8');
const dependencies = Object.keys(manifest.dependencies);

const COMMANDER = /node_modules.commander/;

/** Commander starts commands that are programs of their own with it; graphkeep has none, and to load it takes time. */
function isUnused(source: string, importer: string | undefined): boolean {
  return source === 'node:child_process' && COMMANDER.test(importer ?? '');
}

const NOTHING = '\0nothing';
const withoutUnused: Plugin = {
  name: 'without what is not used',
  resolveId: (source, importer) => (isUnused(source, importer) ? NOTHING : undefined),
  load: (id) => (id === NOTHING ? 'export default {};' : undefined),
};

const importsOf = new Map<string, readonly string[]>();
const rememberImports: Plugin = {
  name: 'who imports whom',
  moduleParsed: ({ id, importedIds }) => {
    importsOf.set(id, importedIds);
  },
};

/** The modules of these files, and all that they import other than on demand. */
function reachableFrom(files: readonly string[]): Set<string> {
  const found = new Set<string>();
  const visit = (id: string): void => {
    if (found.has(id)) return;
    found.add(id);
    importsOf.get(id)?.forEach(visit);
  };
  for (const file of files) visit(resolve(file));
  return found;
}

let loadedFirst: Set<string> | undefined;

await rm('dist', { recursive: true, force: true });
await build({
  // A thread begins with a file of its own.
  input: { graphkeep: 'src/cli/start.ts', pinwatch: 'src/hotcopy/pinwatch.ts' },
  platform: 'node',
  external: (id, importer) =>
    (isBuiltin(id) && !isUnused(id, importer)) ||
    dependencies.some((name) => id === name || id.startsWith(`${name}/`)),
  plugins: [withoutUnused, rememberImports],
  // Most commands load what lies in the first file at once, `backup inspect` in two steps.
  checks: { ineffectiveDynamicImport: false },
  output: {
    dir: 'dist',
    format: 'cjs',
    entryFileNames: '[name].cjs',
    chunkFileNames: '[name]-[hash].cjs',
    // Names stay, so that a stack still says where.
    minify: { compress: false, mangle: false, codegen: { removeWhitespace: true } },
    codeSplitting: {
      groups: [
        {
          name: 'first',
          test: (id) => {
            loadedFirst ??= reachableFrom(LOADED_FIRST);
            return loadedFirst.has(id);
          },
        },
      ],
    },
    banner: ({ moduleIds }) =>
      moduleIds.some((id) => COMMANDER.test(id)) ? `/*!\nIn this file: commander\n${licence}*/` : '',
  },
});
