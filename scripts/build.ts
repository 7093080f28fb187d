/**
 * Builds the program of the package: few files instead of two hundred, since a small command spends most of its time on
 * finding and linking modules. What is loaded on demand stays apart; dependencies stay packages of their own.
 */
import { rm } from 'node:fs/promises';
import { build } from 'esbuild';

await rm('dist', { recursive: true, force: true });
await build({
  entryPoints: ['src/cli/start.ts'],
  outdir: 'dist/cli',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node24',
  packages: 'external',
  logLevel: 'warning',
});
