/** Backup servers to be measured: each a process of its own, plain on loopback or with TLS on both sides. */
import { spawn } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { layOutPolicy, makeCertificates } from '../test/fixtures/certificates.ts';
import { killOnExit } from '../test/real/harness/server.ts';
import { graphkeep } from './tasks.ts';

export interface BackupServer {
  /** What a client is told. */
  readonly clientArgs: readonly string[];
  /** It does nothing until it is resumed. */
  pause(): void;
  resume(): void;
  stop(): Promise<void>;
}

/** @param source options that name the databases */
export async function startPlainServer(source: readonly string[]): Promise<BackupServer> {
  return startServer(source, [], []);
}

/** Mutual TLS with certificates made for this. */
export async function startTlsServer(source: readonly string[], folder: string): Promise<BackupServer> {
  await mkdir(folder, { recursive: true });
  const certificates = await makeCertificates(folder);
  const sides = { server: certificates.server, client: certificates.client };
  const configs: Record<string, string> = {};
  for (const [side, own] of Object.entries(sides)) {
    const base = join(folder, side);
    await mkdir(base, { recursive: true });
    await layOutPolicy(base, { own, trusted: [certificates.authority.certificate] });
    configs[side] = join(base, 'graphkeep.conf');
    const policy = ['enabled=true', `base_directory=${join(base, 'certificates', 'backup')}`];
    await writeFile(configs[side], policy.map((line) => `dbms.ssl.policy.backup.${line}\n`).join(''), {
      mode: 0o600,
    });
  }
  return startServer(source, [`--config=${configs.server}`], [`--config=${configs.client}`]);
}

async function startServer(
  source: readonly string[],
  args: readonly string[],
  clientArgs: readonly string[],
): Promise<BackupServer> {
  const { file, args: all } = graphkeep('server', ...source, '--listen-address=127.0.0.1:0', ...args);
  const child = spawn(file, all, { stdio: ['ignore', 'ignore', 'pipe'] });
  killOnExit(child);
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const address = await listeningAddress(child.stderr);
  return {
    clientArgs: [`--from=${address.replace('127.0.0.1', 'localhost')}`, ...clientArgs],
    pause: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
    stop: async () => {
      child.kill('SIGTERM');
      await exited;
    },
  };
}

/** Out of the log: the port is chosen by the system. */
async function listeningAddress(log: NodeJS.ReadableStream): Promise<string> {
  const lines: string[] = [];
  for await (const line of createInterface({ input: log })) {
    lines.push(line);
    const address = /"address":"([^"]+)".*"msg":"listening"/.exec(line)?.[1];
    if (address === undefined) continue;
    // What comes later must go somewhere, or the server would wait for it to be read.
    log.resume();
    return address;
  }
  throw new Error(`the backup server did not start: ${lines.join('\n')}`);
}
