/**
 * Random requests to every route: right ones with something wrong in them. The server stays up, calls nothing an error of
 * its own, and sends no byte of a file that is no database.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { randomNumbers } from '../../fixtures/random.ts';
import { digestOf, json, Served, tokenLine } from '../../fixtures/served.ts';

const SEED = 20_260_917;
const DURATION_MS = 12_000;
const REQUESTS_MAX = 6000;
const REQUESTS_MIN = 200;
const AT_ONCE = 8;
const CANARY = 'a-mark-that-no-answer-may-hold';
const TOKEN = 'gk_fuzz';
const NARROW = 'gk_narrow';

class Random {
  readonly below = randomNumbers(SEED);

  chance(oneIn: number): boolean {
    return this.below(oneIn) === 0;
  }

  pick<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)]!;
  }
}

interface Shape {
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
}

/** Right requests; `{database}`, `{session}`, … are filled in. */
const SHAPES: readonly Shape[] = [
  { method: 'GET', path: '/health' },
  { method: 'GET', path: '/ready' },
  { method: 'GET', path: '/metrics' },
  { method: 'GET', path: '/v1/server' },
  { method: 'POST', path: '/v1/configuration', body: { includePlugins: true } },
  { method: 'GET', path: '/v1/configuration/plugins/{database}' },
  { method: 'GET', path: '/v1/databases' },
  { method: 'POST', path: '/v1/databases/{database}/metadata', body: { kind: 'users', names: ['neo4j'] } },
  {
    method: 'POST',
    path: '/v1/databases/{database}/reports',
    body: { succeeded: false, kind: 'full', durationMs: 3, artifactBytes: 4, errorCode: 'GK_IO' },
  },
  { method: 'POST', path: '/v1/sessions', body: { database: 'neo4j', kind: 'snapshot', request: 'fuzz' } },
  { method: 'POST', path: '/v1/sessions/{session}/renew', body: {} },
  { method: 'DELETE', path: '/v1/sessions/{session}' },
  { method: 'POST', path: '/v1/sessions/{session}/groups/{number}/open', body: { staged: false, step: 1 } },
  { method: 'POST', path: '/v1/sessions/{session}/groups/{number}/confirm', body: { step: 2 } },
  { method: 'POST', path: '/v1/sessions/{session}/groups/{number}/close', body: { step: 3 } },
  {
    method: 'POST',
    path: '/v1/sessions/{session}/find',
    body: { step: 4, appendIndex: '20', checksum: 5, hint: { logVersion: '0', offsetBytes: '128' } },
  },
  {
    method: 'POST',
    path: '/v1/sessions/{session}/tail',
    body: {
      step: 5,
      start: {
        ...{ appendIndex: '20', checksum: 5, commitTimeMillis: '1' },
        position: { logVersion: '0', offsetBytes: '128' },
      },
    },
  },
  { method: 'GET', path: '/v1/sessions/{session}/members/{number}' },
  { method: 'GET', path: '/v1/sessions/{session}/members/{number}/frames/0' },
  { method: 'GET', path: '/v1/sessions/{session}/members/{number}/hash' },
  { method: 'GET', path: '/v1/sessions/{session}/members/{number}/frames/{number}?level=1' },
  { method: 'GET', path: '/v1/sessions/{session}/members/{number}/frames/{number}?level=1&hash=true' },
];

const NAMES = [
  'neo4j',
  'other',
  'NEO4J',
  'missing',
  'canary',
  '..',
  '%2e%2e%2fcanary',
  'a%00b',
  '*',
  '%',
  'é',
  '',
];
const VALUES: readonly unknown[] = [
  ...[
    null,
    true,
    false,
    0,
    -1,
    1.5,
    1e308,
    2 ** 53,
    4294967296,
    '',
    '0',
    '-1',
    '9223372036854775807',
    '1e5',
    'neo4j',
  ],
  ...[
    '-9223372036854775808',
    '../canary',
    '\u0000',
    'x'.repeat(3000),
    [],
    {},
    [[]],
    { length: 3 },
    ['neo4j', 'gone'],
  ],
];
const HEADERS = [
  ...[
    'range: bytes=0-99',
    'range: bytes=0-8191',
    'range: bytes=5-1',
    'range: bytes=999999-9999999',
    'range: x',
  ],
  ...[
    'expect: 100-continue',
    'expect: nothing',
    'connection: upgrade\r\nupgrade: websocket',
    'accept: */*;q=x',
  ],
  ...[
    'if-none-match: *',
    'x-forwarded-for: 1.2.3.4',
    'content-encoding: gzip',
    'accept-encoding: br',
    'cookie: a=b',
  ],
  ...['origin: http://evil.example', 'x-http-method-override: DELETE', 'te: trailers', 'forwarded: for=_x'],
];

class Fuzzer {
  readonly #random = new Random();
  /** Ids that were given out, so that what lies behind them is reached as well. */
  readonly sessions: string[] = [];
  #step = 0;

  request(): string {
    const random = this.#random;
    // A session that is ended is of no more use.
    const shapes = random.chance(20) ? SHAPES : SHAPES.filter((one) => one.method !== 'DELETE');
    const shape = random.pick(shapes);
    const method = random.chance(20)
      ? random.pick(['GET', 'POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS'])
      : shape.method;
    const body = this.#body(shape.body);
    const lines = [`${method} ${this.#path(shape.path)} HTTP/1.1`];
    lines.push(random.chance(40) ? 'host: evil.example' : 'host: localhost', 'connection: close');
    if (!random.chance(10))
      lines.push(`authorization: Bearer ${random.chance(8) ? random.pick([NARROW, 'x']) : TOKEN}`);
    if (/members|plugins/.test(shape.path)) lines.push(random.pick(HEADERS.slice(0, 3)));
    if (random.chance(6)) lines.push(random.pick(HEADERS));
    if (body !== undefined) {
      lines.push(`content-type: ${random.chance(30) ? 'text/plain' : 'application/json'}`);
      lines.push(`content-length: ${Buffer.byteLength(body)}`);
    }
    return `${lines.join('\r\n')}\r\n\r\n${body ?? ''}`;
  }

  #path(pattern: string): string {
    const random = this.#random;
    const path = pattern
      .replace('{database}', () => (random.chance(2) ? 'neo4j' : random.pick(NAMES)))
      .replace('{session}', () =>
        random.chance(15) ? random.pick(NAMES) : (this.sessions.at(-1 - random.below(6)) ?? 'x'),
      )
      .replaceAll('{number}', () => (random.chance(8) ? random.pick(NAMES) : String(random.below(12))));
    const spoiled = random.chance(30)
      ? `${path}${random.pick(['/', '?a=b', '//', '/../..', '#', ';a', '%'])}`
      : path;
    return spoiled.replace(/[^\x21-\x7e]/g, 'x');
  }

  #body(right: unknown): string | undefined {
    const random = this.#random;
    if (right === undefined) return random.chance(20) ? '{}' : undefined;
    const changed = this.#changed(right);
    const text = JSON.stringify(changed) ?? '';
    return random.chance(25) ? text.slice(0, random.below(text.length + 1)) : text;
  }

  /** A value in which, more or less often, one of the parts is another. */
  #changed(value: unknown): unknown {
    const random = this.#random;
    if (random.chance(7)) return random.pick(VALUES);
    if (typeof value === 'number') return random.chance(2) ? random.below(50) : value;
    if (typeof value === 'string') return this.#text(value);
    if (typeof value !== 'object' || value === null) return value;
    if (Array.isArray(value)) return value.map((item) => this.#changed(item));
    const entries = Object.entries(value).filter(() => !random.chance(15));
    return Object.fromEntries(entries.map(([key, part]) => [key, this.#changed(this.#next(key, part))]));
  }

  /** Steps are counted by the client; one that was taken before is not taken again. */
  #next(key: string, part: unknown): unknown {
    if (key !== 'step' || this.#random.chance(4)) return part;
    this.#step += 1;
    return this.#step;
  }

  #text(value: string): string {
    const random = this.#random;
    if (value === 'snapshot') return random.pick(['snapshot', 'log', 'log', 'other']);
    if (value === 'fuzz') return `fuzz ${random.below(20)}`;
    if (/^\d+$/.test(value)) return random.chance(2) ? String(random.below(60) - 5) : value;
    return value;
  }
}

async function exchange(port: number, bytes: string): Promise<string> {
  const socket = net.connect(port, '127.0.0.1');
  let text = '';
  socket.on('data', (piece: Buffer) => {
    text += piece.toString('latin1');
  });
  socket.on('error', () => undefined);
  socket.write(bytes);
  await once(socket, 'close');
  return text;
}

test('random requests', async (context) => {
  const served = await Served.start(context, {
    access: [
      tokenLine('fuzzer', TOKEN, '*', 'metadata,configuration,metrics'),
      tokenLine('narrow', NARROW, 'nothing-of-it', 'none'),
    ],
    databases: ['other'],
    settings: { 'graphkeep.server.sessions_max': '60' },
    requestArrivalMs: 1000,
  });
  for (const folder of [served.root, join(served.root, 'data'), join(served.root, 'data', 'databases')])
    writeFileSync(join(folder, 'canary'), CANARY);
  const fuzzer = new Fuzzer();
  let opened = 0;
  const open = async (): Promise<void> => {
    const kind = opened % 3 === 0 ? 'log' : 'snapshot';
    const body = json({ database: 'neo4j', kind, request: `right ${opened++}` });
    const { text } = await served.ask({ path: '/v1/sessions', token: TOKEN, ...body });
    const { session } = JSON.parse(text) as { session?: string };
    if (session !== undefined) fuzzer.sessions.push(session);
  };
  const endMs = performance.now() + DURATION_MS;
  const statuses = new Map<string, number>();
  let requests = 0;
  const work = async (): Promise<void> => {
    while (requests < REQUESTS_MAX && (performance.now() < endMs || requests < REQUESTS_MIN)) {
      if (fuzzer.sessions.length < 6) await open();
      requests += 1;
      const asked = fuzzer.request();
      const answer = await exchange(served.port, asked);
      const [, status = 'none'] = /^HTTP\/1\.1 (\d{3})/.exec(answer) ?? [];
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      assert.doesNotMatch(answer, /GK_INTERNAL/, asked);
      assert.ok(!answer.includes(CANARY) && !answer.includes(digestOf(TOKEN)), asked);
      const isGone = asked.includes(TOKEN) && (status === '410' || /^DELETE/.test(asked));
      const ended = isGone ? /sessions\/([0-9a-f]{32})/.exec(asked)?.[1] : undefined;
      const place = fuzzer.sessions.indexOf(ended ?? '');
      if (place >= 0) fuzzer.sessions.splice(place, 1);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  context.diagnostic(`${requests} requests: ${JSON.stringify(Object.fromEntries([...statuses].sort()))}`);
  for (const status of ['200', '204', '206', '400', '401', '403', '404', '410'])
    assert.ok(statuses.has(status), `no answer was ${status}: the requests miss something`);
  assert.equal((await served.ask({ path: '/v1/databases', token: TOKEN })).status, 200);
  assert.deepEqual(
    served.logLines.filter((line) => line.includes('"level":50') || line.includes(TOKEN)),
    [],
  );
});
