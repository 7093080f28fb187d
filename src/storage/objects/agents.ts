/**
 * Connections to a store, the same for every SDK: authorities of one's own besides those of the system, the proxy that the
 * environment names, and an end for a connection that brings nothing any more, which not every SDK notices.
 */
import { readFile, stat } from 'node:fs/promises';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import type { Socket } from 'node:net';
import { getCACertificates } from 'node:tls';
import { GraphkeepError, wrapSystemError } from '../../errors.ts';
import { OBJECT_SILENCE_MS_MAX, OBJECT_SOCKETS_MAX, TLS_FILE_BYTES_MAX } from '../../limits.ts';
import type { StoreSettings } from './settings.ts';

export interface StoreAgents {
  readonly http: HttpAgent;
  readonly https: HttpsAgent;
  close(): void;
}

/** @throws GK_CONFIG, GK_NOT_FOUND, GK_NO_PERMISSION */
export async function storeAgents(settings: StoreSettings): Promise<StoreAgents> {
  const authorities = await readAuthorities(settings.tls?.authorityFile);
  const silenceMs = settings.silenceMs ?? OBJECT_SILENCE_MS_MAX;
  const common = { keepAlive: true, maxSockets: OBJECT_SOCKETS_MAX, proxyEnv: process.env };
  const http = watched(new HttpAgent(common), silenceMs);
  const https = new HttpsAgent({
    ...common,
    // A list replaces the system's, which a store behind a public certificate still needs.
    ...(authorities === undefined ? {} : { ca: [...getCACertificates('default'), authorities] }),
    ...(settings.tls?.skipVerify ? { rejectUnauthorized: false } : {}),
  });
  return {
    http,
    https: watched(https, silenceMs),
    close: () => {
      http.destroy();
      https.destroy();
    },
  };
}

/**
 * Every socket of the agent ends when nothing went over it for so long. The agent changes the time of a socket that is put
 * aside, so it is set anew whenever one is taken.
 */
function watched<Kind extends HttpAgent>(agent: Kind, silenceMs: number): Kind {
  const connect = agent.createConnection.bind(agent);
  const reuse = agent.reuseSocket.bind(agent);
  const watch = (socket: unknown): void => {
    if (!isSocket(socket)) return;
    socket.setTimeout(silenceMs);
    socket.on('timeout', () => {
      const text = `nothing came for ${silenceMs} ms`;
      socket.destroy(Object.assign(new Error(text), { code: 'ECONNRESET' }));
    });
  };
  agent.createConnection = (options, callback) => {
    // Behind a proxy the socket comes later.
    const socket = connect(options, (error, late) => {
      watch(late);
      callback?.(error, late);
    });
    watch(socket);
    return socket;
  };
  agent.reuseSocket = (socket, request) => {
    if (isSocket(socket)) socket.setTimeout(silenceMs);
    reuse(socket, request);
  };
  return agent;
}

function isSocket(value: unknown): value is Socket {
  return typeof value === 'object' && value !== null && 'setTimeout' in value;
}

async function readAuthorities(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  try {
    const { size } = await stat(path);
    const text = size > TLS_FILE_BYTES_MAX ? '' : await readFile(path, 'utf8');
    if (text.includes('-----BEGIN CERTIFICATE-----')) return text;
  } catch (error) {
    throw wrapSystemError(error, `read the certificates in ${path}`);
  }
  throw new GraphkeepError('GK_CONFIG', `${path} holds no certificate`, {
    hint: 'give a PEM file with -----BEGIN CERTIFICATE----- in it',
  });
}
