/** The entry of the program: connects the command line to this process. */
import { GraphkeepError } from '../errors.ts';
import { lowerPriority } from './priority.ts';
import { runCli } from './program.ts';
import { renderError } from './render.ts';
import { watchSignals } from './signals.ts';

/** A reader that went away (`| head`) is no failure of ours, and nobody is left to tell. */
function ignoreBrokenPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
    });
  }
}

/** Node ends with 0 when nothing is left to wait for, come to an end or not: that must not look like success. */
function sayThatNothingIsLeft(): void {
  const error = new GraphkeepError(
    'GK_INTERNAL',
    'the command stopped before its end: nothing was left to wait for',
  );
  process.exitCode = error.exitStatus;
  process.stderr.write(renderError(error, { verbose: false }));
}

async function main(): Promise<void> {
  ignoreBrokenPipe();
  process.once('beforeExit', sayThatNothingIsLeft);
  process.exitCode = await runCli(process.argv.slice(2), {
    stdout: process.stdout,
    stderr: process.stderr,
    environment: process.env,
    // By number: to ask for `process.stdin` would begin to read what belongs to a tool of Neo4j.
    descriptors: { input: 0, output: 1 },
    lowerPriority,
    watchSignals: (onHangUp) =>
      watchSignals(
        {
          on: (name, listener) => process.on(name, listener),
          off: (name, listener) => process.off(name, listener),
          exit: (status) => process.exit(status),
        },
        onHangUp,
      ),
  });
  process.off('beforeExit', sayThatNothingIsLeft);
}

void main();
