/** A proxy that does to connections what networks do: Shopify's toxiproxy, built once with Go and kept in the cache. */
import { spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../../fixtures/ports.ts';
import { ensureGoTool, type GoTool } from '../../storage/gotools.ts';
import { killOnExit } from './server.ts';

const TOXIPROXY: GoTool = {
  name: 'server',
  folder: 'toxiproxy',
  version: '2.5.0',
  module: 'github.com/Shopify/toxiproxy/v2/cmd/server',
};
const START_TRIES_MAX = 500;

/** Path of the program, or why there is none. */
export function findToxiproxy(): Promise<{ program: string } | { skip: string }> {
  return ensureGoTool(TOXIPROXY);
}

export interface Toxic {
  readonly type: 'latency' | 'bandwidth' | 'slow_close' | 'timeout' | 'reset_peer' | 'limit_data';
  readonly attributes: Readonly<Record<string, number>>;
}

/** One proxy; toxics hurt what the server sends. */
export class HurtProxy {
  readonly port: number;
  readonly #url: string;
  readonly #base: string;

  constructor(base: string, name: string, port: number) {
    this.#base = base;
    this.#url = `${base}/proxies/${name}`;
    this.port = port;
  }

  async add({ type, attributes }: Toxic): Promise<void> {
    await post(`${this.#url}/toxics`, { type, stream: 'downstream', attributes });
  }

  /** Takes every toxic away, of all proxies. */
  async heal(): Promise<void> {
    await post(`${this.#base}/reset`, {});
  }

  /** Ends every connection; new ones are taken at once again. */
  async cut(): Promise<void> {
    await post(this.#url, { enabled: false });
    await post(this.#url, { enabled: true });
  }

  async enable(enabled: boolean): Promise<void> {
    await post(this.#url, { enabled });
  }
}

export class Toxiproxy {
  readonly #base: string;
  readonly #stop: () => Promise<void>;
  #proxies = 0;

  private constructor(base: string, stop: () => Promise<void>) {
    this.#base = base;
    this.#stop = stop;
  }

  static async start(program: string): Promise<Toxiproxy> {
    const port = await freePort();
    const child = spawn(program, ['-host', '127.0.0.1', '-port', String(port)], { stdio: 'ignore' });
    killOnExit(child);
    const exited = new Promise((resolve) => child.once('exit', resolve));
    const base = `http://127.0.0.1:${port}`;
    for (let tries = 0; ; tries++) {
      const answer = await fetch(`${base}/version`).catch(() => undefined);
      if (answer?.ok) break;
      if (tries >= START_TRIES_MAX) throw new Error('toxiproxy does not start');
      await delay(20);
    }
    return new Toxiproxy(base, async () => {
      child.kill();
      await exited;
    });
  }

  async proxyTo(upstreamPort: number): Promise<HurtProxy> {
    const port = await freePort();
    this.#proxies += 1;
    const name = `proxy${this.#proxies}`;
    const addresses = { listen: `127.0.0.1:${port}`, upstream: `127.0.0.1:${upstreamPort}` };
    await post(`${this.#base}/proxies`, { name, ...addresses, enabled: true });
    return new HurtProxy(this.#base, name, port);
  }

  close(): Promise<void> {
    return this.#stop();
  }
}

async function post(url: string, body: object): Promise<void> {
  const response = await fetch(url, { method: 'POST', body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`toxiproxy: ${response.status} ${await response.text()}`);
}
