/** The real servers that the drivers are tested against, on loopback, each with a folder of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import os from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { StoreSettings } from '../../src/storage/objects/settings.ts';
import { freePort } from '../fixtures/ports.ts';
import { FaultProxy } from './faults.ts';

export interface RunningStore {
  /** URL of the store that the tests may write to, without a folder. */
  readonly url: string;
  readonly missingBucketUrl: string;
  readonly proxy: FaultProxy;
  /** How the server itself is reached, and how through the proxy. */
  readonly direct: StoreSettings;
  readonly throughProxy: StoreSettings;
  /** Undefined when the server asks for none. */
  readonly wrongCredentials: StoreSettings | undefined;
  /** What no message may repeat. */
  readonly secrets: readonly string[];
  readonly wrongSecrets: readonly string[];
  /** How a command line reaches the server itself: options, and variables with the credentials. */
  readonly cliOptions: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** The settings for this endpoint instead. */
  at(endpoint: string): StoreSettings;
  /** Whether uploads are listed by the beginning of their names: MinIO lists those of one whole name only. */
  readonly listsUploads: boolean;
  /** Whether a removal that names no version hides a locked object, where others refuse it. */
  readonly hidesLocked: boolean;
  /** How such a store says "slow down". */
  readonly slowDown: { readonly status: number; readonly body: string };
  stop(): Promise<void>;
}

export interface ServerProcess {
  readonly port: number;
  readonly folder: string;
  stop(): Promise<void>;
}

const START_MS_MAX = 20_000;
const POLL_MS = 25;

/** Starts a server with a free port and a folder, and waits until it takes connections. */
export async function startServer(
  program: string,
  argumentsFor: (port: number, folder: string) => readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<ServerProcess> {
  const folder = mkdtempSync(join(os.tmpdir(), 'graphkeep-store-'));
  const port = await freePort();
  const child = spawn(program, argumentsFor(port, folder), {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-4000);
    });
  }
  // Also when the tests are killed by their runner, as far as that can be.
  const kill = (): void => void child.kill('SIGKILL');
  process.once('exit', kill);
  const stop = async (): Promise<void> => {
    process.removeListener('exit', kill);
    await ended(child);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await waitForPort(port, child);
  } catch (error) {
    await stop();
    throw new Error(`${program} did not start: ${output}`, { cause: error });
  }
  return { port, folder, stop };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await exit;
}

async function waitForPort(port: number, child: ChildProcess): Promise<void> {
  for (const end = performance.now() + START_MS_MAX; performance.now() < end; await sleep(POLL_MS)) {
    if (child.exitCode !== null) throw new Error(`it ended with status ${child.exitCode}`);
    const isOpen = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1');
      socket.on('connect', () => {
        socket.destroy();
        resolve(true);
      });
      socket.on('error', () => resolve(false));
    });
    if (isOpen) return;
  }
  throw new Error('nothing listens on its port');
}

/** Both ways to a server: the stop of the whole takes the proxy along. */
export async function withProxy(
  server: ServerProcess,
): Promise<{ proxy: FaultProxy; stop: () => Promise<void> }> {
  const proxy = await FaultProxy.start(`http://127.0.0.1:${server.port}`);
  const stop = async (): Promise<void> => {
    await proxy.stop();
    await server.stop();
  };
  return { proxy, stop };
}
