/**
 * Builds the program of the package: one file instead of two hundred, since a small command spends most of its time on
 * finding and linking modules. A CommonJS file, because Node starts it in two thirds of the time that ES modules take;
 * what is imported on demand is still evaluated on demand. The dependencies of the package stay packages of their own.
 */
import { readFile, rm } from 'node:fs/promises';
import { build, type Plugin } from 'esbuild';

const manifest = JSON.parse(await readFile('package.json', 'utf8')) as { dependencies: object };
const licence = await readFile('node_modules/commander/LICENSE', 'utf8');

/** What starts commands that are programs of their own; graphkeep has none, and to load it takes time at every start. */
const withoutChildProcesses: Plugin = {
  name: 'commander starts no programs',
  setup({ onResolve, onLoad }) {
    const namespace = 'nothing';
    onResolve({ filter: /^node:child_process$/ }, ({ path, importer }) =>
      /node_modules.commander/.test(importer) ? { path, namespace } : undefined,
    );
    onLoad({ filter: /./, namespace }, () => ({ contents: 'export default {};' }));
  },
};

await rm('dist', { recursive: true, force: true });
await build({
  entryPoints: ['src/cli/start.ts'],
  outfile: 'dist/graphkeep.cjs',
  bundle: true,
  format: 'cjs',
  platform: 'node',
  // Only the syntax: an old Node must be able to read the file to the place where it says that it is too old.
  target: 'node16',
  // Half of what a small command does is to read this file. Names stay, and lines, so that a stack still says where.
  minifyWhitespace: true,
  lineLimit: 120,
  external: Object.keys(manifest.dependencies),
  banner: { js: "const fileUrl = require('node:url').pathToFileURL(__filename).href;" },
  define: { 'import.meta.url': 'fileUrl' },
  footer: { js: `/*!\nIn this file: commander\n${licence}*/` },
  plugins: [withoutChildProcesses],
  logLevel: 'warning',
});
