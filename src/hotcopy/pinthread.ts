/** The thread of `pinwatch.ts`, one for all folders of this process, and what is said to it and by it. */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { GraphkeepError, wrapSystemError } from '../errors.ts';
import { PIN_INTERVAL_MS, PIN_REST_TIMES } from '../limits.ts';

export interface PinTimes {
  readonly intervalMs: number;
  /** How many times longer it rests than a look at all folders takes. */
  readonly restTimes: number;
}

export interface FolderToWatch {
  readonly directory: string;
  /** Of the files to be opened; its first group is their version. */
  readonly pattern: RegExp;
  readonly firstVersion: bigint;
  readonly filesMax: number;
  /** Of the folder, whatever they are. */
  readonly entriesMax: number;
}

/** Said to the thread. Through the port it is then asked: `true` to look at once, `false` to look no more. */
export interface FolderRequest {
  readonly folder: FolderToWatch;
  readonly port: MessagePort;
}

/** Said through a folder's port. */
export type WatchAnswer =
  /** The descriptor is one of this process, and belongs to whoever is told of it. */
  | {
      readonly type: 'opened';
      readonly name: string;
      readonly version: bigint;
      readonly descriptor: number;
    }
  | { readonly type: 'tooMany'; readonly what: 'files' | 'entries' }
  | { readonly type: 'failed'; readonly code: string | undefined; readonly message: string }
  /** What was asked for is done, and everything that came of it was told before. */
  | { readonly type: 'done' };

interface PinThread {
  readonly worker: Worker;
  /** The number by which the system knows the thread. */
  readonly started: Promise<number>;
}

export const THREAD_ENDED = 'the thread that holds the transaction log has ended';

let shared: PinThread | undefined;

function startThread(): PinThread {
  const workerData: PinTimes = { intervalMs: PIN_INTERVAL_MS, restTimes: PIN_REST_TIMES };
  // In a checkout it is TypeScript as it lies here; in a package both are compiled, and lie in one folder.
  const script = new URL(
    import.meta.url.endsWith('.ts') ? './pinwatch.ts' : './pinwatch.cjs',
    import.meta.url,
  );
  const worker = new Worker(script, {
    workerData,
    // Its descriptors are closed by others: it must not close their numbers once more when it ends.
    trackUnmanagedFds: false,
    // What the process was started with may not fit a thread: it is a program's own business.
    execArgv: [],
  });
  const { promise: started, resolve, reject } = Promise.withResolvers<number>();
  worker.once('message', (threadNumber: number) => {
    // Alone it is no reason for the process to go on.
    worker.unref();
    resolve(threadNumber);
  });
  worker.once('error', (error) => reject(wrapSystemError(error, 'watch the transaction log')));
  // Who watches a folder is told by its port, which is closed with the thread; the next one gets a new thread.
  worker.once('exit', () => {
    shared = undefined;
    reject(new GraphkeepError('GK_INTERNAL', THREAD_ENDED));
  });
  started.catch(() => undefined);
  return { worker, started };
}

/**
 * Resolves when the thread runs: what it is asked for from now on is done at once. A process that lowers its priority
 * starts it before, and spares it: on a busy machine a thread of low priority waits for a quarter of a second.
 * @returns the number by which the system knows the thread; @throws GK_IO, GK_INTERNAL
 */
export function startPinThread(): Promise<number> {
  shared ??= startThread();
  return shared.started;
}

/** From now on the files of a folder are opened as they appear, and told through the port. */
export function watchFolder(folder: FolderToWatch): MessagePort {
  shared ??= startThread();
  const { port1, port2 } = new MessageChannel();
  const request: FolderRequest = { folder, port: port2 };
  shared.worker.postMessage(request, [port2]);
  return port1;
}
