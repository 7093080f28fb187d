/**
 * What a command may touch of the outside: two streams, the environment and the signals. Commands get it handed in, so
 * that tests run them in-process. Results go to `stdout`, talk to `stderr`; nothing else writes to either.
 */
import type { SignalWatch } from './signals.ts';

export interface OutputStream {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

export interface CliContext {
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Open files behind standard input and output, for a tool of Neo4j that reads or writes bytes there itself. */
  readonly descriptors: { readonly input: number; readonly output: number };
  /** Starts to watch for signals; called once, by a command that does work. */
  watchSignals(onHangUp?: () => void): SignalWatch;
  /** Gives way to other processes, for good: with all threads but the one given. */
  lowerPriority(sparedThread?: number): void;
}

/** Where a command leaves its exit status, since the parser's actions return nothing. */
export interface CommandOutcome {
  exitStatus: number;
}

/** `--verbose`, or NEO4J_DEBUG with any value, as for `neo4j-admin`. */
export function isVerbose(options: { verbose: boolean }, context: CliContext): boolean {
  return options.verbose || context.environment.NEO4J_DEBUG !== undefined;
}

export function writeLine(stream: OutputStream, text = ''): void {
  stream.write(`${text}\n`);
}
