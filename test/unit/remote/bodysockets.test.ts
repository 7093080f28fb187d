/** Bodies that are received into memory of the caller: all of them, nothing beside them, and nothing later. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import os from 'node:os';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { createServer as createTlsServer } from 'node:tls';
import fc from 'fast-check';
import { type Body, type BodyRequest, BodySockets } from '../../../src/remote/bodysockets.ts';
import { loadTlsPolicy, type TlsMaterial } from '../../../src/remote/tlsmaterial.ts';
import { type Certificates, layOutPolicy, makeCertificates, type Pair } from '../../fixtures/certificates.ts';
import { until } from '../../fixtures/network.ts';
import { noise } from '../../fixtures/random.ts';
import { policy } from '../../fixtures/tlsservers.ts';

const BODY = noise(100_000, 3);
const SILENCE_MS = 20_000;

function headOf(bytes: number, ...more: readonly string[]): Buffer {
  return Buffer.from(['HTTP/1.1 200 OK', `content-length: ${bytes}`, ...more, '', ''].join('\r\n'));
}

const WHOLE = Buffer.concat([headOf(BODY.length), BODY]);

const WAYS = ['plain', 'TLS'] as const;
type Way = (typeof WAYS)[number];

const folder = mkdtempSync(join(os.tmpdir(), 'graphkeep-bodies-'));
let certificates: Certificates;
before(async () => {
  certificates = await makeCertificates(folder);
});
after(() => rmSync(folder, { recursive: true }));

async function material(role: 'server' | 'client', own: Pair): Promise<TlsMaterial> {
  const home = mkdtempSync(join(folder, `${role}-`));
  await layOutPolicy(home, { own, trusted: [certificates.authority.certificate] });
  return loadTlsPolicy(policy(home), role);
}

interface Peer {
  readonly sockets: BodySockets;
  readonly port: number;
  /** Connections that were made. */
  readonly connections: () => number;
}

interface PeerOptions {
  readonly way?: Way;
  readonly silenceMs?: number;
  /** Its certificate. */
  readonly own?: Pair;
}

/** A server that does this for every request. */
async function peer(
  context: TestContext,
  answer: (socket: Socket) => unknown,
  { way = 'plain', silenceMs = SILENCE_MS, own = certificates.server }: PeerOptions = {},
): Promise<Peer> {
  const open: Socket[] = [];
  const take = (socket: Socket): void => {
    open.push(socket);
    socket.setNoDelay(true).on('error', () => undefined);
    socket.on('data', () => answer(socket));
  };
  const tls = way === 'TLS' ? await material('server', own) : undefined;
  const server =
    tls === undefined ? createServer(take) : createTlsServer({ ...tls.secureContext, ...tls.server }, take);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const sockets = new BodySockets({
    host: 'localhost',
    port,
    servername: 'localhost',
    tls: tls === undefined ? undefined : await material('client', certificates.client),
    silenceMs,
    silent: () => new Error('silent'),
  });
  context.after(() => {
    sockets.close();
    for (const socket of open) socket.destroy();
    server.close();
  });
  return { sockets, port, connections: () => open.length };
}

function get(
  { sockets }: Peer,
  target = Buffer.alloc(BODY.length),
  signal?: AbortSignal,
  heard: () => void = () => undefined,
): Promise<Body | undefined> {
  const isAnswer: BodyRequest['isAnswer'] = (headers) => headers.of === undefined || headers.of === 'this';
  return sockets.get({
    head: 'GET /frame HTTP/1.1\r\nhost: here\r\n\r\n',
    isAnswer,
    target,
    heard,
    signal,
  });
}

async function assertWhole(received: Promise<Body | undefined>): Promise<void> {
  assert.equal((await received)?.content.equals(BODY), true);
}

/** Each piece in a packet of its own, as far as that can be had. */
async function inPieces(socket: Socket, bytes: Buffer, pieceBytes: number): Promise<void> {
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    socket.write(bytes.subarray(at, at + pieceBytes));
    await turn();
  }
}

for (const way of WAYS) {
  const start = (
    context: TestContext,
    answer: (socket: Socket) => unknown,
    options: PeerOptions = {},
  ): Promise<Peer> => peer(context, answer, { ...options, way });

  describe(`a body is received whole: ${way}`, () => {
    test('at once, one after the other over one connection', async (context) => {
      const server = await start(context, (socket) => socket.write(WHOLE));
      for (let round = 0; round < 5; round++) await assertWhole(get(server));
      assert.equal(server.connections(), 1);
    });

    for (const pieceBytes of [1, 7, 1000]) {
      test(`head and beginning in pieces of ${pieceBytes}`, async (context) => {
        const early = headOf(BODY.length).length + 5;
        const server = await start(context, async (socket) => {
          await inPieces(socket, WHOLE.subarray(0, early), pieceBytes);
          socket.write(WHOLE.subarray(early));
        });
        await assertWhole(get(server));
        await assertWhole(get(server));
        assert.equal(server.connections(), 1);
      });
    }

    test('several at once, over as many connections, each in its own memory', async (context) => {
      let asked = 0;
      const server = await start(context, (socket) => {
        const own = Buffer.alloc(BODY.length, ++asked);
        return inPieces(socket, Buffer.concat([headOf(own.length), own]), 9000);
      });
      const bodies = await Promise.all([get(server), get(server), get(server)]);
      const found = bodies.map((body) => body!.content);
      for (const content of found) assert.equal(content.equals(Buffer.alloc(BODY.length, content[0])), true);
      assert.deepEqual(new Set(found.map((content) => content[0])), new Set([1, 2, 3]));
      assert.equal(server.connections(), 3);
    });

    test('of no bytes, and one that ends its connection', async (context) => {
      const server = await start(context, (socket) => socket.write(headOf(0, 'connection: close')));
      assert.equal((await get(server))?.content.length, 0);
      assert.equal((await get(server))?.content.length, 0);
      assert.equal(server.connections(), 2);
    });

    test('all that comes is heard', async (context) => {
      const server = await start(context, (socket) => inPieces(socket, WHOLE, 50_000));
      let heard = 0;
      await get(server, undefined, undefined, () => {
        heard += 1;
      });
      assert.ok(heard >= 1, `heard ${heard} times`);
    });
  });

  describe(`a body that ends early fails, and nothing is written afterwards: ${way}`, () => {
    test('when the other side hangs up', async (context) => {
      const server = await start(context, (socket) => socket.end(WHOLE.subarray(0, 50_000)));
      await assert.rejects(get(server), { code: 'ECONNRESET' });
    });

    test('when it says nothing for too long', async (context) => {
      const server = await start(context, (socket) => socket.write(WHOLE.subarray(0, 50_000)), {
        silenceMs: 50,
      });
      await assert.rejects(get(server), { message: 'silent' });
    });

    for (const [name, stop] of [
      ['when it is interrupted', ({ abort }: Stops) => abort.abort()],
      ['when all is closed', ({ server }: Stops) => server.sockets.close()],
    ] as const) {
      test(name, async (context) => {
        const begun = Promise.withResolvers<Socket>();
        const server = await start(context, (socket) => {
          socket.write(WHOLE.subarray(0, 50_000));
          begun.resolve(socket);
        });
        const abort = new AbortController();
        const target = Buffer.alloc(BODY.length);
        const first = Promise.withResolvers<void>();
        const received = get(server, target, abort.signal, first.resolve);
        await first.promise;
        stop({ abort, server });
        await assert.rejects(received, { code: 'ECONNRESET' });
        target.fill(0xee);
        const other = await begun.promise;
        other.write(WHOLE.subarray(50_000));
        await until(() => other.closed);
        assert.equal(
          target.every((byte) => byte === 0xee),
          true,
        );
      });
    }
  });
}

test('a server with a certificate of another host gets no request', async (context) => {
  let asked = 0;
  const answer = (): unknown => ++asked;
  const server = await peer(context, answer, { way: 'TLS', own: certificates.wrongHostServer });
  await assert.rejects(get(server), { code: 'ERR_TLS_CERT_ALTNAME_INVALID' });
  assert.equal(asked, 0);
});

describe('what is no plain answer is not received', () => {
  const answers: readonly (readonly [name: string, answer: Buffer])[] = [
    ['an error', Buffer.from('HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\nno')],
    [
      'a body in chunks',
      Buffer.from('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n'),
    ],
    ['the answer to another request', Buffer.concat([headOf(BODY.length, 'of: another'), BODY])],
    ['more than there is room for', headOf(BODY.length + 1)],
    ['more than it says', Buffer.concat([headOf(3), Buffer.from('four')])],
    ['a head without end', Buffer.alloc(64 * 1024, 'x')],
  ];
  for (const [name, answer] of answers) {
    test(`${name}; the next request has a connection of its own`, async (context) => {
      let asked = 0;
      const server = await peer(context, (socket) => socket.write(asked++ === 0 ? answer : WHOLE), {
        silenceMs: 3_000,
      });
      const target = Buffer.alloc(BODY.length, 0xee);
      assert.equal(await get(server, target).catch(String), undefined);
      assert.equal(
        target.every((byte) => byte === 0xee),
        true,
      );
      await assertWhole(get(server));
      assert.equal(server.connections(), 2);
    });
  }

  test('bytes that nobody asked for end their connection', async (context) => {
    const first = Promise.withResolvers<Socket>();
    const server = await peer(context, (socket) => {
      socket.write(WHOLE);
      first.resolve(socket);
    });
    await assertWhole(get(server));
    const socket = await first.promise;
    socket.write('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfour');
    await until(() => socket.closed);
    await assertWhole(get(server));
    assert.equal(server.connections(), 2);
  });
});

describe('whatever an answer looks like', () => {
  const lines = fc.array(
    fc.constantFrom(
      'content-length:4 ',
      'Content-Length: 3',
      'Content-Length: 04',
      'Content-Length: 4, 4',
      'Content-Length: 0x4',
      'Transfer-Encoding: chunked',
      'transfer-encoding: identity',
      'Content-Encoding: gzip',
      'Connection: close',
      'Connection: keep-alive',
      'graphkeep-crc32: 1',
      'Graphkeep-CRC32 : 2',
      'folded: a\r\n b',
      'bare: a\nb: c',
      'empty:',
      ': nameless',
      'no colon',
    ),
    { maxLength: 4 },
  );
  /** Mostly what is plain, so that the rest is seen beside it. */
  const mostly = (plain: string, ...others: readonly string[]): fc.Arbitrary<string> =>
    fc.oneof(
      { weight: 4, arbitrary: fc.constant(plain) },
      { weight: 1, arbitrary: fc.constantFrom(...others) },
    );
  const status = mostly(
    'HTTP/1.1 200 OK',
    'HTTP/1.1 206',
    'HTTP/1.0 200 OK',
    'HTTP/1.1 204 No',
    'HTTP/1.1 404 No',
  );
  const length = mostly('Content-Length: 4', 'Content-Length: 3', 'Date: today');
  const body = mostly('four', '4\r\nfour\r\n0\r\n\r\n', 'fou', 'fourty', '');

  /** What Node's HTTP makes of the same answer; undefined when it does not take it. */
  async function throughNode(
    port: number,
  ): Promise<{ readonly headers: object; readonly content: Buffer } | undefined> {
    const request = http.get({ host: 'localhost', port, agent: false });
    try {
      const [response] = (await once(request, 'response')) as [http.IncomingMessage];
      const content = await response.toArray();
      return { headers: response.headers, content: Buffer.concat(content as Buffer[]) };
    } catch {
      return undefined;
    } finally {
      request.destroy();
    }
  }

  test('what is received is what Node would have received', async (context) => {
    let answer = '';
    const server = await peer(context, (socket) => socket.end(answer));
    let received = 0;
    const sameAsNode = async (
      start: string,
      first: string,
      headers: readonly string[],
      end: string,
    ): Promise<void> => {
      answer = [start, first, ...headers, '', end].join('\r\n');
      const direct = await get(server, Buffer.alloc(10)).catch(() => undefined);
      if (direct === undefined) return;
      received += 1;
      const node = await throughNode(server.port);
      assert.equal(direct.content.toString(), node?.content.toString(), answer);
      assert.deepEqual({ ...direct.headers }, { ...node?.headers }, answer);
    };
    await fc.assert(fc.asyncProperty(status, length, lines, body, sameAsNode), { numRuns: 1000 });
    assert.ok(received > 50, `only ${received} answers were received`);
  });
});

interface Stops {
  readonly abort: AbortController;
  readonly server: Peer;
}
