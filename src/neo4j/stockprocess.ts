/**
 * A child process that never outlives graphkeep. It ends when the work is interrupted, when graphkeep exits in
 * whatever way, and even when graphkeep is killed: then a small shell, whose input closes with graphkeep's death, ends
 * it. A headless server that nobody knows of would hold the locks of the database for ever.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Writable } from 'node:stream';
import { throwIfAborted, wrapSystemError } from '../errors.ts';
import { STOCK_STOP_MS_MAX } from '../limits.ts';

export interface GuardedOptions {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Where standard output and standard error go: an open file, or a function that gets the text as it comes. */
  readonly output: number | ((text: string) => void);
  /** What standard input is read from, an open file; without it there is none. */
  readonly input?: number | undefined;
  /** An open file that standard output goes to instead of `output`, byte for byte; `output` gets standard error alone. */
  readonly bytesOutput?: number | undefined;
  /** Aborted: SIGTERM, and SIGKILL when that is not obeyed. */
  readonly signal?: AbortSignal | undefined;
  /** From SIGTERM to SIGKILL; `STOCK_STOP_MS_MAX` when absent. */
  readonly graceMs?: number | undefined;
}

export interface ProcessEnd {
  /** undefined when a signal ended it. */
  readonly exitStatus: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
}

export interface GuardedProcess {
  /** Resolves when the process is gone and its output is read; 126 or 127 when the command cannot be run. */
  readonly ended: Promise<ProcessEnd>;
  hasEnded(): boolean;
  /** SIGTERM, with all the time that a clean end takes. */
  terminate(): void;
  /** SIGTERM, and SIGKILL after a bound; resolves when the process is gone. */
  stop(): Promise<void>;
}

const SHELL = '/bin/sh';

/**
 * A kill may come between two starts: so the process begins only when it is told that its guard is there, and not at all
 * when nobody is left to tell it. It is told on a descriptor of its own, since standard input may carry a dump.
 */
const LAUNCH_SCRIPT = 'read -r line <&3 && exec "$@" 3<&-';
const LAUNCH_DESCRIPTOR = 3;

/** It waits for a line, which says that all is well, or for the end of its input, which says that nobody is left. */
const GUARD_SCRIPT = `
trap '' HUP INT TERM
read -r line && exit 0
kill -TERM "$1" || exit 0
left=$2
while [ "$left" -gt 0 ] && kill -0 "$1"; do sleep 1; left=$((left - 1)); done
kill -KILL "$1"`;

const liveChildren = new Set<ChildProcess>();
const killLiveChildren = (): void => {
  for (const child of liveChildren) child.kill('SIGKILL');
};

/** @throws GK_INTERRUPTED when the signal was aborted before; failures to start come with `ended`. */
export function startGuarded(
  command: string,
  args: readonly string[],
  options: GuardedOptions,
): GuardedProcess {
  throwIfAborted(options.signal);
  const { output, signal, graceMs = STOCK_STOP_MS_MAX } = options;
  const target = typeof output === 'number' ? output : 'pipe';
  const child = spawn(SHELL, ['-c', LAUNCH_SCRIPT, 'sh', command, ...args], {
    env: { ...options.environment },
    stdio: [options.input ?? 'ignore', options.bytesOutput ?? target, target, 'pipe'],
  });
  // Ended before it was told to begin.
  launchPipeOf(child)?.on('error', () => undefined);
  if (typeof output === 'function') {
    for (const stream of [child.stdout, child.stderr]) stream?.setEncoding('utf8').on('data', output);
  }
  remember(child);
  let ended = false;
  const stop = makeStop(child, graceMs);
  signal?.addEventListener('abort', stop.begin, { once: true });
  const outcome = endOf(child, command, graceMs).finally(() => {
    ended = true;
    forget(child);
    stop.cancel();
    signal?.removeEventListener('abort', stop.begin);
  });
  // Whoever awaits it gets the error; nobody may be waiting yet when it comes.
  outcome.catch(() => undefined);
  return {
    ended: outcome,
    hasEnded: () => ended,
    terminate: () => void child.kill('SIGTERM'),
    async stop() {
      if (!ended) stop.begin();
      await outcome.catch(() => undefined);
    },
  };
}

function launchPipeOf(child: ChildProcess): Writable | undefined {
  const pipe = child.stdio[LAUNCH_DESCRIPTOR];
  return pipe instanceof Writable ? pipe : undefined;
}

/** `begin` may be called again: the bound counts from the first time. */
function makeStop(child: ChildProcess, graceMs: number): { begin: () => void; cancel: () => void } {
  let timer: NodeJS.Timeout | undefined;
  return {
    begin() {
      child.kill('SIGTERM');
      timer ??= setTimeout(() => child.kill('SIGKILL'), graceMs);
    },
    cancel: () => clearTimeout(timer),
  };
}

function remember(child: ChildProcess): void {
  if (liveChildren.size === 0) process.on('exit', killLiveChildren);
  liveChildren.add(child);
}

function forget(child: ChildProcess): void {
  liveChildren.delete(child);
  if (liveChildren.size === 0) process.off('exit', killLiveChildren);
}

async function endOf(child: ChildProcess, command: string, graceMs: number): Promise<ProcessEnd> {
  const closed = once(child, 'close').catch((error: unknown) => {
    throw wrapSystemError(error, `start ${command}`);
  });
  if (child.pid === undefined) {
    await closed;
    return { exitStatus: undefined, signal: undefined };
  }
  const guard = startGuard(child.pid, graceMs);
  launchPipeOf(child)?.end(guard.started ? 'begin\n' : '');
  try {
    const [exitStatus, signal] = (await closed) as [number | null, NodeJS.Signals | null];
    return { exitStatus: exitStatus ?? undefined, signal: signal ?? undefined };
  } finally {
    await guard.dismiss();
  }
}

interface Guard {
  readonly started: boolean;
  /** @throws GraphkeepError when it could not be started */
  dismiss(): Promise<void>;
}

function startGuard(processId: number, graceMs: number): Guard {
  const graceSeconds = Math.ceil(graceMs / 1000);
  const guard = spawn(SHELL, ['-c', GUARD_SCRIPT, 'sh', `${processId}`, `${graceSeconds}`], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  let failure: unknown;
  const gone = once(guard, 'exit').catch((error: unknown) => {
    failure = wrapSystemError(error, 'start the guard of a process');
  });
  // A guard that somebody killed cannot be told any more that it is not needed.
  guard.stdin.on('error', () => undefined);
  return {
    started: guard.pid !== undefined,
    async dismiss() {
      guard.stdin.end('done\n');
      await gone;
      if (failure !== undefined) throw failure;
    },
  };
}
