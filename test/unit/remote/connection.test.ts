/** What a failed first contact says is at fault, and how long is waited for a server that was there before. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import type { ErrorCode } from '../../../src/errors.ts';
import type { Address } from '../../../src/neo4j/values.ts';
import { Connection } from '../../../src/remote/connection.ts';
import { ChainScene } from '../../fixtures/chains.ts';
import { connectTo, Relay, serve } from '../../fixtures/network.ts';
import { failure } from '../../fixtures/workspace.ts';

async function listening(context: TestContext, server: ReturnType<typeof createServer>): Promise<Address> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => server.close());
  return { host: '127.0.0.1', port: (server.address() as AddressInfo).port };
}

function peer(context: TestContext, talk: (socket: Socket) => void): Promise<Address> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    talk(socket);
  });
  context.after(() => {
    for (const socket of sockets) socket.destroy();
  });
  return listening(context, server);
}

function webServer(context: TestContext, answer: RequestListener): Promise<Address> {
  return listening(context, createHttpServer(answer));
}

const INACTIVITY_MS = 300;

function connectionTo(context: TestContext, address: Address): Connection {
  const connection = new Connection({ ...address, inactivityMs: INACTIVITY_MS });
  context.after(() => connection.close());
  return connection;
}

async function freePort(context: TestContext): Promise<Address> {
  const server = createServer();
  const address = await listening(context, server);
  await new Promise((resolve) => server.close(resolve));
  return address;
}

describe('a first contact that fails says what is at fault', () => {
  const html = '<html><body>It works!</body></html>';
  const peers: readonly (readonly [
    name: string,
    code: ErrorCode,
    message: RegExp,
    start: (context: TestContext) => Promise<Address>,
  ])[] = [
    ['nothing listens', 'GK_UNREACHABLE', /nothing listens there/, freePort],
    [
      'a host name that nobody has',
      'GK_HOST_UNKNOWN',
      /cannot be resolved/,
      async () => ({ host: 'no-such-host.invalid', port: 1 }),
    ],
    [
      'a server that says nothing',
      'GK_UNREACHABLE',
      /says nothing/,
      (context) => peer(context, () => undefined),
    ],
    [
      'a server that closes at once',
      'GK_TLS',
      /closed the connection without an answer/,
      (context) => peer(context, (socket) => socket.destroy()),
    ],
    [
      'a server that speaks something else',
      'GK_PROTOCOL',
      /no graphkeep server/,
      (context) => peer(context, (socket) => socket.end('SSH-2.0-OpenSSH_9.9\r\n')),
    ],
    [
      'a server that speaks TLS',
      'GK_TLS',
      /do not speak the same TLS/,
      (context) => peer(context, (socket) => socket.end(Buffer.of(0x15, 3, 3, 0, 2, 2, 10))),
    ],
    [
      'a web server',
      'GK_PROTOCOL',
      /no graphkeep server/,
      (context) => webServer(context, (_request, response) => response.end(html)),
    ],
    [
      'a web server that has no such page',
      'GK_PROTOCOL',
      /no graphkeep server/,
      (context) => webServer(context, (_request, response) => response.writeHead(404).end(html)),
    ],
    [
      'another program that speaks JSON',
      'GK_PROTOCOL',
      /no graphkeep server/,
      (context) => webServer(context, (_request, response) => response.end('{"program":"other"}')),
    ],
    [
      'another program whose errors are JSON',
      'GK_PROTOCOL',
      /no graphkeep server/,
      (context) =>
        webServer(context, (_request, response) => response.writeHead(404).end('{"error":"none"}')),
    ],
    [
      'a proxy before a server that is down',
      'GK_UNREACHABLE',
      /answers with 502/,
      (context) => webServer(context, (_request, response) => response.writeHead(502).end(html)),
    ],
    [
      'a proxy that says so in JSON',
      'GK_UNREACHABLE',
      /answers with 503/,
      (context) =>
        webServer(context, (_request, response) => response.writeHead(503).end('{"error":"away"}')),
    ],
    [
      'a server that does not know the token',
      'GK_UNAUTHORIZED',
      /no known token/,
      (context) =>
        webServer(context, (_request, response) => {
          const error = { code: 'GK_UNAUTHORIZED', message: 'no known token\u001b[2J', hint: 'look' };
          response.writeHead(401).end(JSON.stringify({ error }));
        }),
    ],
  ];
  for (const [name, code, message, start] of peers) {
    test(`${name}: ${code}`, async (context) => {
      const connection = connectionTo(context, await start(context));
      await assert.rejects(connection.greet(), (error) => {
        assert.doesNotMatch(String(error), /\p{Cc}|\(\)/u);
        return failure(code, message)(error);
      });
    });
  }

  test('a name with several addresses, of which none answers, has a message', async (context) => {
    const { port } = await freePort(context);
    const connection = connectionTo(context, { host: 'localhost', port });
    await assert.rejects(connection.greet(), failure('GK_UNREACHABLE', /ECONNREFUSED/));
  });

  test('one that is interrupted is that, and not a broken connection', async (context) => {
    const connection = connectionTo(context, await peer(context, () => undefined));
    const stop = new AbortController();
    const greeting = connection.greet(stop.signal);
    stop.abort();
    await assert.rejects(greeting, failure('GK_INTERRUPTED'));
  });
});

describe('a connection that breaks later', () => {
  async function met(context: TestContext) {
    const scene = new ChainScene(context, '5.26');
    const server = await serve(context, join(scene.root, 'source'));
    const { address } = server;
    return { server, relay: await Relay.start(context, () => address) };
  }

  test('is made again, and told, until the server has been silent for too long', async (context) => {
    const { server, relay } = await met(context);
    const retries: string[] = [];
    const connection = await connectTo(context, relay.address, {
      inactivityMs: 1000,
      onRetry: (message) => retries.push(message),
    });
    relay.cutAll();
    await connection.request('GET', '/v1/databases');
    await server.close();
    await assert.rejects(
      connection.request('GET', '/v1/databases'),
      failure('GK_CONNECTION_LOST', /has been silent for/),
    );
    assert.ok(retries.length > 1, 'it was tried again');
  });

  test('a silence of other requests is their own: one that never gets through is given up', async (context) => {
    const { relay } = await met(context);
    const connection = await connectTo(context, relay.address, { inactivityMs: 1000 });
    relay.onRequest = (bytes, passage) => {
      if (!bytes.includes('/v1/databases')) return bytes;
      passage.cut();
      return undefined;
    };
    let isOver = false;
    const others = (async () => {
      while (!isOver) await connection.request('GET', '/v1/server');
    })();
    const refused = connection.request('GET', '/v1/databases');
    await assert.rejects(refused, failure('GK_CONNECTION_LOST', /silent/)).finally(() => {
      isOver = true;
    });
    await others;
  });

  test('answers that always break are not asked for without end', async (context) => {
    const { relay } = await met(context);
    let asked = 0;
    relay.onRequest = (bytes) => {
      if (bytes.includes('/v1/databases')) asked += 1;
      return bytes;
    };
    const connection = await connectTo(context, relay.address);
    relay.onAnswer = (bytes) => {
      const end = bytes.indexOf('"databases"');
      if (end >= 0) bytes[end] = 0;
      return bytes;
    };
    const refused = connection.request('GET', '/v1/databases');
    await assert.rejects(refused, failure('GK_CONNECTION_LOST', /no answer was whole/));
    assert.equal(asked, 32);
  });

  test('closing it ends a request that waits for its next try', async (context) => {
    const { server, relay } = await met(context);
    const tried = Promise.withResolvers<void>();
    const connection = await connectTo(context, relay.address, { onRetry: () => tried.resolve() });
    await server.close();
    const waiting = connection.request('GET', '/v1/databases');
    await tried.promise;
    connection.close();
    await assert.rejects(waiting, failure('GK_INTERRUPTED'));
  });
});
