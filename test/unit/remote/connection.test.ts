/** What a failed first contact says is at fault, and how long is waited for a server that was there before. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { crc32 } from 'node:zlib';
import type { ErrorCode } from '../../../src/errors.ts';
import type { Address } from '../../../src/neo4j/values.ts';
import { Connection } from '../../../src/remote/connection.ts';
import { CHECKSUM_HEADER, NAME_HEADER } from '../../../src/remote/protocol.ts';
import { ChainScene } from '../../fixtures/chains.ts';
import { connectTo, Relay, serve } from '../../fixtures/network.ts';
import { noise } from '../../fixtures/random.ts';
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

/** One whose answers carry the name of the request, as ours do. */
function namingServer(context: TestContext, answer: RequestListener): Promise<Address> {
  return webServer(context, (request, response) => {
    response.setHeader(NAME_HEADER, request.headers[NAME_HEADER]!);
    answer(request, response);
  });
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
      'a server whose answers are those to other requests',
      'GK_PROTOCOL',
      /no graphkeep server/,
      (context) =>
        webServer(context, (_request, response) => {
          response.writeHead(200, { [NAME_HEADER]: 'another' }).end('{"program":"graphkeep"}');
        }),
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

describe('an answer of another length than was asked for', () => {
  const ROOM_BYTES = 1000;
  const checksum = (content: Buffer): string => crc32(content).toString(16);

  /** Whole ranges and frames, however many bytes were asked for. */
  function lengthy(context: TestContext, bytes: number): Promise<Address> {
    const content = noise(bytes, 7);
    return namingServer(context, (request, response) => {
      const range = request.headers.range?.replace('=', ' ');
      const placed = range === undefined ? {} : { 'content-range': `${range}/*` };
      response.writeHead(range === undefined ? 200 : 206, {
        ...placed,
        [CHECKSUM_HEADER]: checksum(content),
      });
      response.end(content);
    });
  }

  for (const bytes of [ROOM_BYTES + 1, 40 * ROOM_BYTES]) {
    test(`of ${bytes} bytes is broken, and nothing is written beside its memory`, async (context) => {
      const connection = connectionTo(context, await lengthy(context, bytes));
      const memory = Buffer.alloc(3 * ROOM_BYTES, 0xee);
      const target = memory.subarray(ROOM_BYTES, 2 * ROOM_BYTES);
      assert.equal(await connection.readFrameOnce('/frame', target), undefined);
      assert.equal(await connection.readRangeOnce('/range', 0, target), false);
      const beside = [memory.subarray(0, ROOM_BYTES), memory.subarray(2 * ROOM_BYTES)];
      assert.equal(
        beside.every((part) => part.every((byte) => byte === 0xee)),
        true,
      );
    });
  }

  test('that is shorter is a whole frame, and no whole range', async (context) => {
    const connection = connectionTo(context, await lengthy(context, ROOM_BYTES - 1));
    const target = Buffer.alloc(ROOM_BYTES);
    assert.equal((await connection.readFrameOnce('/frame', target))?.equals(noise(ROOM_BYTES - 1, 7)), true);
    assert.equal(await connection.readRangeOnce('/range', 0, target), false);
  });

  test('that a proxy sends in pieces is whole, and not asked for twice each time', async (context) => {
    const content = noise(ROOM_BYTES, 7);
    let asked = 0;
    const address = await namingServer(context, (_request, response) => {
      asked += 1;
      response.writeHead(200, { [CHECKSUM_HEADER]: checksum(content) });
      response.write(content.subarray(0, 10));
      response.end(content.subarray(10));
    });
    const connection = connectionTo(context, address);
    for (const requests of [2, 3, 4]) {
      const frame = await connection.readFrameOnce('/frame', Buffer.alloc(ROOM_BYTES));
      assert.equal(frame?.equals(content), true);
      assert.equal(asked, requests);
    }
  });

  test('an answer in words that does not end is given up', async (context) => {
    const address = await namingServer(context, (_request, response) => {
      const send = (error?: Error | null): void => {
        if (!(error instanceof Error)) response.write(Buffer.alloc(1_000_000, 0x20), send);
      };
      send();
    });
    const connection = connectionTo(context, address);
    await assert.rejects(
      connection.requestOnce('GET', '/'),
      failure('GK_PROTOCOL', /has more than \d+ bytes/),
    );
  });
});

describe('an answer one too many is not taken for that of the next request', () => {
  const BYTES = 1000;
  const contentOf = (path: string): Buffer => noise(BYTES, path.length);

  /** To a server that begins each answer but the first of a connection with the one before it. */
  async function toStuttering(context: TestContext): Promise<Connection> {
    const address = await peer(context, (socket) => {
      let last: Buffer | undefined;
      socket.on('data', (request: Buffer) => {
        const answer = answerTo(request.toString('latin1'));
        if (last !== undefined) socket.write(last);
        socket.write(answer);
        last = answer;
      });
    });
    const connection = connectionTo(context, address);
    await connection.greet();
    return connection;
  }

  function answerTo(request: string): Buffer {
    const [, path = ''] = /^\w+ (\S+) /.exec(request) ?? [];
    const header = (name: string): string | undefined =>
      new RegExp(`^${name}: (.*)\r$`, 'im').exec(request)?.[1];
    const isBytes = path.startsWith('/bytes');
    const content = isBytes ? contentOf(path) : Buffer.from(JSON.stringify({ program: 'graphkeep', path }));
    const range = header('range');
    const lines = [
      `HTTP/1.1 ${range === undefined ? '200 OK' : '206 Partial Content'}`,
      `content-length: ${content.length}`,
      `${NAME_HEADER}: ${header(NAME_HEADER)}`,
      `${CHECKSUM_HEADER}: ${crc32(content).toString(16)}`,
      ...(range === undefined ? [] : [`content-range: ${range.replace('=', ' ')}/*`]),
    ];
    return Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), content]);
  }

  test('a frame', async (context) => {
    const connection = await toStuttering(context);
    let received = 0;
    for (const path of ['/bytes', '/bytes/2', '/bytes/33', '/bytes/444']) {
      const frame = await connection.readFrameOnce(path, Buffer.alloc(BYTES));
      // undefined is told to be read in another way.
      if (frame === undefined) continue;
      received += 1;
      assert.equal(frame.equals(contentOf(path)), true, path);
    }
    assert.ok(received > 0);
  });

  test('a range', async (context) => {
    const connection = await toStuttering(context);
    for (const path of ['/bytes', '/bytes/2', '/bytes/33', '/bytes/444']) {
      const target = Buffer.alloc(BYTES);
      await connection.readRange(path, 0, target);
      assert.equal(target.equals(contentOf(path)), true, path);
    }
  });

  test('words', async (context) => {
    const connection = await toStuttering(context);
    for (const path of ['/words', '/words/2', '/words/33'])
      assert.equal((await connection.request('GET', path)).text('path'), path);
  });
});
