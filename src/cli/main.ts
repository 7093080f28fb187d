/**
 * The entry of the program: connects the command line to this process. It is kept small, because everything it imports
 * itself is loaded before the compile cache is on.
 */
import { enableCompileCache } from 'node:module';
import path from 'node:path';

/**
 * The cache is kept in the user's own folder. The default is a shared temporary folder, and code that root runs must
 * not come from a place that others can write to.
 */
function enableOwnCompileCache(): void {
  const home = process.env.HOME;
  const caches = process.env.XDG_CACHE_HOME ?? (home === undefined ? undefined : path.join(home, '.cache'));
  if (caches === undefined || !path.isAbsolute(caches)) return;
  enableCompileCache(path.join(caches, 'graphkeep', 'compile'));
}

/** A reader that went away (`| head`) is no failure of ours, and nobody is left to tell. */
function ignoreBrokenPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
    });
  }
}

async function main(): Promise<void> {
  enableOwnCompileCache();
  ignoreBrokenPipe();
  const { runCli } = await import('./program.ts');
  const { lowerPriority } = await import('./priority.ts');
  const { watchSignals } = await import('./signals.ts');
  process.exitCode = await runCli(process.argv.slice(2), {
    stdout: process.stdout,
    stderr: process.stderr,
    environment: process.env,
    lowerPriority,
    watchSignals: () =>
      watchSignals({
        on: (name, listener) => process.on(name, listener),
        off: (name, listener) => process.off(name, listener),
        exit: (status) => process.exit(status),
      }),
  });
}

await main();
