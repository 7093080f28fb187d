/** Sessions of a real backup server, asked over HTTP: whose they are, how many, what they hold and for how long. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { crc32 } from 'node:zlib';
import { decompressFrame } from '../../../src/artifact/zstd.ts';
import { SESSION_RANGES_MAX, WHOLE_GROUP_BYTES_MAX } from '../../../src/limits.ts';
import type { Address } from '../../../src/neo4j/values.ts';
import { validateArtifact } from '../../../src/operations/validate.ts';
import { generateToken } from '../../../src/server/access.ts';
import type { BackupServer } from '../../../src/server/backupserver.ts';
import { HeldRanges } from '../../../src/server/heldranges.ts';
import { Sessions } from '../../../src/server/sessions.ts';
import type { ServerSettings } from '../../../src/server/settings.ts';
import { makeKey, useKeys } from '../../fixtures/age.ts';
import { ChainScene, membersOf } from '../../fixtures/chains.ts';
import { put } from '../../fixtures/database.ts';
import { busyMachine } from '../../fixtures/machine.ts';
import { ask, backupOver, connectTo, Relay, serve, until } from '../../fixtures/network.ts';
import { noise } from '../../fixtures/random.ts';
import { failure, openFilesBelow } from '../../fixtures/workspace.ts';

const TREE = 'neostore.counts.db';
const PAGE_BYTES = 8192;

interface Answer {
  readonly status: number;
  readonly answer: Readonly<Record<string, unknown>>;
}

class Host {
  readonly scene: ChainScene;
  readonly server: BackupServer;
  readonly source: string;

  private constructor(scene: ChainScene, server: BackupServer) {
    this.scene = scene;
    this.server = server;
    this.source = join(scene.root, 'source');
  }

  static async start(
    context: TestContext,
    settings: Partial<ServerSettings> = {},
    parts: Parameters<typeof serve>[3] = {},
  ): Promise<Host> {
    const scene = new ChainScene(context, '5.26');
    return new Host(scene, await serve(context, join(scene.root, 'source'), settings, parts));
  }

  async post(path: string, body: object, token?: string): Promise<Answer> {
    const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const { status, body: text } = await ask(this.server.address, path, { method: 'POST', body, headers });
    return { status, answer: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>) };
  }

  async open(request: string, kind = 'snapshot', token?: string): Promise<Answer> {
    return this.post('/v1/sessions', { database: 'neo4j', kind, request }, token);
  }

  /** Path of a session of its own. */
  async session(request = 'a', kind = 'snapshot', token?: string): Promise<string> {
    const { answer } = await this.open(request, kind, token);
    return `/v1/sessions/${String(answer.session)}`;
  }

  openFiles(): string[] {
    return openFilesBelow(this.source);
  }
}

function codeOf({ answer }: Answer): unknown {
  return (answer.error as { code?: unknown } | undefined)?.code;
}

function membersIn({ answer }: Answer): { number: number; path: string; bytes: number }[] {
  return answer.members as { number: number; path: string; bytes: number }[];
}

describe('a session', () => {
  test('asked for again under the same name is the same one; under another name it is another', async (context) => {
    const host = await Host.start(context);
    const [first, again, other] = [await host.open('a'), await host.open('a'), await host.open('b')];
    assert.equal(first.answer.session, again.answer.session);
    assert.notEqual(first.answer.session, other.answer.session);
    const both = await Promise.all([host.open('c'), host.open('c')]);
    assert.equal(both[0].answer.session, both[1].answer.session);
    assert.match((await ask(host.server.address, '/metrics')).body, /^graphkeep_sessions 3$/m);
  });

  test('two at once know nothing of each other', async (context) => {
    const host = await Host.start(context);
    const [left, right] = [await host.session('left'), await host.session('right')];
    const opened = await host.post(`${left}/groups/0/open`, { step: 1, staged: false });
    const { number, bytes } = membersIn(opened)[0]!;
    const headers = { range: `bytes=0-${bytes - 1}` };
    const get = (session: string) => ask(host.server.address, `${session}/members/${number}`, { headers });
    assert.equal((await get(left)).status, 206);
    assert.equal((await get(right)).status, 400, 'its group is not open');
    assert.equal((await ask(host.server.address, right, { method: 'DELETE' })).status, 204);
    assert.equal((await get(left)).status, 206);
    assert.equal((await get(right)).status, 410);
  });

  test('of another principal is not there, and neither is his request', async (context) => {
    const tokens = ['anna', 'ben'].map((name) => generateToken(name, 'neo4j'));
    const folder = new ChainScene(context, '5.26');
    const accessFile = join(folder.root, 'access');
    writeFileSync(accessFile, tokens.map(({ line }) => `${line}\n`).join(''), { mode: 0o600 });
    const server = await serve(context, join(folder.root, 'source'), { accessFile });
    const open = async (token: string): Promise<string> => {
      const options = { method: 'POST', headers: { authorization: `Bearer ${token}` } };
      const body = { database: 'neo4j', kind: 'log', request: 'same' };
      return String(
        JSON.parse((await ask(server.address, '/v1/sessions', { ...options, body })).body).session,
      );
    };
    const [anna, ben] = [await open(tokens[0]!.token), await open(tokens[1]!.token)];
    assert.notEqual(anna, ben);
    const renew = async (session: string, token: string): Promise<number> => {
      const headers = { authorization: `Bearer ${token}` };
      return (
        await ask(server.address, `/v1/sessions/${session}/renew`, { method: 'POST', headers, body: {} })
      ).status;
    };
    assert.deepEqual([await renew(anna, tokens[0]!.token), await renew(anna, tokens[1]!.token)], [204, 410]);
    assert.equal(await renew(ben, tokens[1]!.token), 204);
  });

  test('beyond the number that is allowed: GK_SERVER_BUSY, until another ends', async (context) => {
    const host = await Host.start(context, { sessionsMax: 2 });
    const [first] = [await host.session('a'), await host.session('b')];
    const refused = await host.open('c');
    assert.deepEqual([refused.status, codeOf(refused)], [503, 'GK_SERVER_BUSY']);
    assert.equal((await host.open('a')).status, 200, 'one that is there already');
    await ask(host.server.address, first, { method: 'DELETE' });
    assert.equal((await host.open('c')).status, 200);
    const connection = await connectTo(context, host.server.address);
    await assert.rejects(backupOver(connection, host.scene), failure('GK_SERVER_BUSY', /2 sessions/));
  });

  test('that cannot be opened counts for nothing, and may be asked for again', async (context) => {
    const host = await Host.start(context, { sessionsMax: 1 });
    const missing = { database: 'none', kind: 'snapshot', request: 'a' };
    for (let number = 0; number < 3; number++) {
      assert.equal((await host.post('/v1/sessions', missing)).status, 404);
    }
    assert.equal((await host.open('a')).status, 200);
  });

  test('that is being opened when the server ends is closed, not forgotten', async () => {
    const closed: string[] = [];
    const opening = Promise.withResolvers<void>();
    const sessions = new Sessions({
      sessionsMax: 4,
      timeoutMs: 60_000,
      onEnd: () => undefined,
      onError: (error) => closed.push(String(error)),
    });
    const log = { close: async () => void closed.push('released') };
    const opened = sessions.open({ principal: 'a', database: 'neo4j', request: 'r' }, async () => {
      await opening.promise;
      return { log } as never;
    });
    const refused = assert.rejects(opened, failure('GK_CONNECTION_LOST', /being stopped/));
    const ended = sessions.closeAll();
    opening.resolve();
    await Promise.all([refused, ended]);
    assert.deepEqual([closed, sessions.count], [['released'], 0]);
  });
});

describe('the hash of a member', () => {
  test('is that of the frames that were asked for with it; of others there is none', async (context) => {
    const host = await Host.start(context);
    const session = await host.session();
    const opened = await host.post(`${session}/groups/0/open`, { step: 1, staged: false });
    const { number, path } = membersIn(opened)[0]!;
    const member = `${session}/members/${number}`;
    const hashAfter = async (query: string): Promise<unknown> => {
      const frame = await ask(host.server.address, `${member}/frames/0?level=1${query}`);
      assert.equal(frame.status, 200);
      return JSON.parse((await ask(host.server.address, `${member}/hash`)).body).sha256;
    };
    assert.equal(await hashAfter(''), null, 'to hash what nobody asks for costs a fifth of a backup');
    assert.equal(await hashAfter('&hash=false'), null);
    const content = readFileSync(join(host.source, 'databases', 'neo4j', path));
    assert.equal(await hashAfter('&hash=true'), createHash('sha256').update(content).digest('hex'));
    assert.equal(await hashAfter('&hash=true'), null, 'sent twice');
    assert.equal((await ask(host.server.address, `${member}/frames/0?level=1&hash=1`)).status, 400);
  });
});

describe('a step', () => {
  test('asked for again gives the same answer, and one that comes too late is refused', async (context) => {
    const host = await Host.start(context);
    const session = await host.session();
    const open = (step: number) => host.post(`${session}/groups/1/open`, { step, staged: false });
    const [first, again] = await Promise.all([open(1), open(1)]);
    assert.deepEqual(first.answer, again.answer);
    const held = host.openFiles().length;
    const second = await open(2);
    assert.notDeepEqual(membersIn(second)[0]!.number, membersIn(first)[0]!.number);
    assert.equal(host.openFiles().length, held, 'what the first one opened is closed');
    const late = await open(1);
    assert.deepEqual([late.status, codeOf(late)], [400, 'GK_USAGE']);
    const range = { headers: { range: 'bytes=0-0' } };
    const { number } = membersIn(second)[0]!;
    assert.equal((await ask(host.server.address, `${session}/members/${number}`, range)).status, 206);
  });

  test('closing closes what was opened in its step, and nothing later', async (context) => {
    const host = await Host.start(context);
    const session = await host.session();
    for (const step of [1, 2]) await host.post(`${session}/groups/1/open`, { step, staged: false });
    const held = host.openFiles().length;
    assert.equal((await host.post(`${session}/groups/1/close`, { step: 1 })).status, 204);
    assert.equal(host.openFiles().length, held);
    assert.equal((await host.post(`${session}/groups/1/close`, { step: 2 })).status, 204);
    assert.equal(host.openFiles().length, held - 1);
  });

  test('the end of the log, asked for again, is not read a second time', async (context) => {
    const host = await Host.start(context);
    const session = await host.session();
    const first = await host.post(`${session}/tail`, { step: 1 });
    host.scene.database.appendTo(30n);
    assert.deepEqual((await host.post(`${session}/tail`, { step: 1 })).answer, first.answer);
    const later = await host.post(`${session}/tail`, { step: 2 });
    assert.deepEqual([first.answer.highestAppendIndex, later.answer.highestAppendIndex], ['20', '30']);
  });
});

describe('what must be from one moment', () => {
  test('and changes while it is sent is copied aside before the next try', async (context) => {
    const host = await Host.start(context);
    const path = join(host.scene.database.folders.storeDirectory, TREE);
    const relay = await Relay.start(context, () => host.server.address);
    const stagings: boolean[] = [];
    relay.onRequest = (bytes) => {
      const asked = /"staged":(true|false)/.exec(bytes.toString('latin1'))?.[1];
      if (asked !== undefined) stagings.push(asked === 'true');
      return bytes;
    };
    const connection = await connectTo(context, relay.address);
    // Too large to come with the answer.
    const versions: Buffer[] = [Buffer.concat([readFileSync(path), noise(WHOLE_GROUP_BYTES_MAX, 3)])];
    writeFileSync(path, versions[0]!);
    const progress = (): void => {
      if (!host.openFiles().includes(path)) return;
      versions.push(advancedTree(versions.at(-1)!));
      writeFileSync(path, versions.at(-1)!);
    };
    const listener = { progress, notice: () => {} };
    const result = await backupOver(connection, host.scene, { type: 'FULL', listener });
    assert.deepEqual([result.leftOut, stagings.filter(Boolean).length], [[], 1]);
    const tree = (await membersOf(result.artifactPath)).get(TREE)!;
    assert.equal(tree.equals(versions.at(-1)!), true, 'it is from one moment');
    assert.equal(versions.length, 2);
    assert.deepEqual(host.openFiles(), []);
  });

  test('comes whole with the answer where it is small, and is asked for once', async (context) => {
    const host = await Host.start(context);
    const relay = await Relay.start(context, () => host.server.address);
    const asked: string[] = [];
    relay.onRequest = (bytes) => {
      for (const [, path] of bytes.toString('latin1').matchAll(/^[A-Z]+ \S+?\/(groups\S+|members\S+)/gm))
        asked.push(path!);
      return bytes;
    };
    const connection = await connectTo(context, relay.address);
    const { artifactPath, leftOut } = await backupOver(connection, host.scene, { type: 'FULL' });
    assert.deepEqual(leftOut, []);
    const { answer } = await host.open('a');
    const groups = answer.groups as { path: string; rebuildable: boolean }[];
    const small = [...groups.entries()].filter(([, { rebuildable }]) => rebuildable);
    assert.ok(small.length >= 3);
    for (const [number] of small) {
      const ofGroup = asked.filter((path) => path.startsWith(`groups/${number}/`));
      assert.deepEqual(ofGroup, [`groups/${number}/open`]);
    }
    const members = await membersOf(artifactPath);
    const { storeDirectory } = host.scene.database.folders;
    for (const [, { path }] of small) {
      const content = members.get(path);
      if (content !== undefined) assert.ok(content.equals(readFileSync(join(storeDirectory, path))), path);
    }
    assert.ok(members.has(TREE));
  });

  test('and comes whole leaves nothing open; asked for again it is the same; without being asked for it does not', async (context) => {
    const host = await Host.start(context);
    const path = join(host.scene.database.folders.storeDirectory, TREE);
    const content = Buffer.from(readFileSync(path));
    const { answer } = await host.open('a');
    const session = `/v1/sessions/${String(answer.session)}`;
    const number = (answer.groups as { path: string }[]).findIndex((group) => group.path === TREE);
    const held = host.openFiles();
    const open = (step: number, more: object) =>
      host.post(`${session}/groups/${number}/open`, { step, staged: false, ...more });
    const first = await open(1, { whole: true });
    assert.deepEqual(host.openFiles(), held);
    const [member] = first.answer.whole as { path: string; bytes: number; packed: string }[];
    assert.deepEqual([member?.path, member?.bytes], [TREE, content.length]);
    const packed = Buffer.from(member!.packed, 'base64');
    assert.ok((await decompressFrame(packed, content.length)).equals(content));
    writeFileSync(path, advancedTree(content));
    assert.deepEqual((await open(1, { whole: true })).answer, first.answer);
    assert.equal(codeOf(await host.post(`${session}/groups/${number}/confirm`, { step: 2 })), 'GK_USAGE');
    for (const [step, more] of [
      [3, {}],
      [4, { whole: false }],
    ] as const)
      assert.equal(membersIn(await open(step, more)).length, 1);
    writeFileSync(path, Buffer.concat([advancedTree(content), noise(WHOLE_GROUP_BYTES_MAX, 1)]));
    assert.equal(membersIn(await open(5, { whole: true })).length, 1);
    assert.deepEqual((await open(6, { whole: true, staged: true })).answer.whole, undefined);
  });

  test('is read at once beside busy processors; what the log repairs waits for them', async (context) => {
    const processorMeter = busyMachine();
    const host = await Host.start(context, { cpuSharePercent: 3 }, { processorMeter });
    const opened = await host.open('a');
    const session = `/v1/sessions/${String(opened.answer.session)}`;
    const groups = opened.answer.groups as { path: string }[];
    const pausesFor = async (path: string, step: number): Promise<number> => {
      const group = groups.findIndex((one) => one.path === path);
      const answer = await host.post(`${session}/groups/${group}/open`, { step, staged: false });
      const url = memberUrl(host.server.address, session, membersIn(answer)[0]!.number);
      const before = processorMeter.pauses;
      for (const [request, status] of [
        [new Request(url, { headers: { range: 'bytes=0-9' } }), 206],
        [new Request(`${url}/frames/0?level=1`), 200],
      ] as const) {
        const response = await fetch(request);
        assert.equal(response.status, status);
        await response.arrayBuffer();
      }
      return processorMeter.pauses - before;
    };
    assert.equal(await pausesFor('neostore.nodestore.db', 1), 2);
    assert.equal(await pausesFor(TREE, 2), 0);
  });

  test('and is to be encrypted is copied aside before the first try', async (context) => {
    const host = await Host.start(context);
    const relay = await Relay.start(context, () => host.server.address);
    const asked: string[] = [];
    relay.onRequest = (bytes) => {
      const [, group, staged] =
        /groups\/(\d+)\/open[\s\S]*"staged":(true|false)/.exec(bytes.toString('latin1')) ?? [];
      if (group !== undefined) asked.push(`${group} ${staged}`);
      return bytes;
    };
    const connection = await connectTo(context, relay.address);
    const key = await makeKey();
    useKeys(context, { to: [key], open: [key] });
    const { artifactPath } = await backupOver(connection, host.scene, { type: 'FULL' });
    const opened = await host.open('a');
    const groups = opened.answer.groups as { rebuildable: boolean }[];
    assert.deepEqual(
      asked,
      groups.map(({ rebuildable }, number) => `${number} ${rebuildable}`),
    );
    assert.deepEqual((await validateArtifact(artifactPath)).problems, []);
  });

  test('the copy aside has no name, is what was there at its moment, and is gone with its session', async (context) => {
    const host = await Host.start(context);
    const path = join(host.scene.database.folders.storeDirectory, TREE);
    const before = Buffer.from(readFileSync(path));
    const opened = await host.open('a');
    const session = `/v1/sessions/${String(opened.answer.session)}`;
    const groups = opened.answer.groups as { path: string }[];
    const number = groups.findIndex((group) => group.path === TREE);
    const staged = await host.post(`${session}/groups/${number}/open`, { step: 1, staged: true });
    assert.ok(host.openFiles().some((file) => file.endsWith('.partial (deleted)')));
    assert.ok(!host.openFiles().includes(path), 'the file itself is let go');
    writeFileSync(path, advancedTree(before));
    const { number: member } = membersIn(staged)[0]!;
    const got = await fetch(memberUrl(host.server.address, session, member), {
      headers: { range: `bytes=0-${before.length - 1}` },
    });
    assert.equal(Buffer.from(await got.arrayBuffer()).equals(before), true);
    assert.equal(got.headers.get('graphkeep-crc32'), crc32(before).toString(16));
    const confirmed = await host.post(`${session}/groups/${number}/confirm`, { step: 2 });
    assert.deepEqual(confirmed.answer, { confirmed: true });
    await ask(host.server.address, session, { method: 'DELETE' });
    assert.deepEqual(host.openFiles(), []);
  });

  test('a folder for copies that is not there fails the step, and leaves nothing open', async (context) => {
    const host = await Host.start(context, { stagingDirectory: '/nowhere/at/all' });
    const opened = await host.open('a');
    const session = `/v1/sessions/${String(opened.answer.session)}`;
    const held = host.openFiles().length;
    const groups = opened.answer.groups as { path: string }[];
    const number = groups.findIndex((group) => group.path === TREE);
    const refused = await host.post(`${session}/groups/${number}/open`, { step: 1, staged: true });
    assert.deepEqual([refused.status, codeOf(refused)], [404, 'GK_NOT_FOUND']);
    assert.equal(host.openFiles().length, held);
  });
});

function memberUrl({ host, port }: Address, session: string, member: number): string {
  return `http://${host}:${port}${session}/members/${member}`;
}

/** The tree one checkpoint later: both state pages name newer generations. */
function advancedTree(tree: Buffer): Buffer {
  const advanced = Buffer.from(tree);
  for (const page of [1, 2]) {
    const at = page * PAGE_BYTES;
    const state = advanced.subarray(at, at + 57);
    if (state.every((byte) => byte === 0)) continue;
    state.writeUInt32BE(state.readUInt32BE(0) + 2, 0);
    state.writeUInt32BE(state.readUInt32BE(4) + 2, 4);
    state.copy(advanced, at + 57);
  }
  return advanced;
}

describe('memory', () => {
  test('answers that are not taken make room for new ones: there are never more than so many', async (context) => {
    // Held back by a rate limit: what a client does not take would partly lie in buffers of the kernel.
    const host = await Host.start(context, { rateBytesPerSecond: 1024 * 1024 });
    const store = 'neostore.propertystore.db';
    put(join(host.scene.database.folders.storeDirectory, store), noise(4 * 1024 * 1024, 5));
    const opened = await host.open('a');
    const session = `/v1/sessions/${String(opened.answer.session)}`;
    const groups = opened.answer.groups as { path: string }[];
    const group = groups.findIndex(({ path }) => path === store);
    const members = await host.post(`${session}/groups/${group}/open`, { step: 1, staged: false });
    const url = memberUrl(host.server.address, session, membersIn(members)[0]!.number);
    const stop = new AbortController();
    const outcomes: string[] = [];
    const taken: Promise<unknown>[] = [];
    for (let number = 0; number < SESSION_RANGES_MAX * 2; number++) {
      const response = await fetch(url, { headers: { range: 'bytes=0-2097151' }, signal: stop.signal });
      const body = response.arrayBuffer();
      taken.push(body.catch((error: unknown) => outcomes.push(String(error))));
    }
    await until(() => outcomes.length === SESSION_RANGES_MAX);
    const read = await fetch(url, { headers: { range: 'bytes=0-9' } });
    assert.equal(read.status, 206);
    stop.abort();
    await Promise.all(taken);
    assert.match(outcomes[0]!, /terminated/);
  });

  test('what was cut off is not written to any more: its memory is that of another answer', async () => {
    const ranges = new HeldRanges();
    const first = await ranges.read(4, async (target) => void target.write('1st '));
    first.release();
    const second = await ranges.read(4, async (target) => void target.write('2nd '));
    assert.equal(
      second.content.buffer,
      first.content.buffer,
      'the memory is another one: this shows nothing',
    );
    assert.equal(first.replace(Buffer.from('late')).content.length, 0);
    assert.equal(second.content.toString(), '2nd ');
    assert.equal(second.replace(Buffer.from('new')).content.toString(), 'new');
  });

  test('ranges: the oldest that is sent is cut, those that are read are not, and buffers are used again', async () => {
    const ranges = new HeldRanges();
    const cuts: number[] = [];
    const buffers = new Set<ArrayBufferLike>();
    const take = async (number: number) => {
      const range = await ranges.read(
        10,
        async (target) => void target.fill(number),
        () => cuts.push(number),
      );
      buffers.add(range.content.buffer);
      return range;
    };
    const held = [];
    for (let number = 0; number < SESSION_RANGES_MAX + 2; number++) held.push(await take(number));
    assert.deepEqual(cuts, [0, 1]);
    for (const range of held) range.release();
    for (const range of held) range.release();
    for (let number = 0; number < SESSION_RANGES_MAX; number++) await take(100 + number);
    assert.deepEqual([cuts.length, buffers.size], [2, SESSION_RANGES_MAX]);
    const reading = new HeldRanges();
    const wait = Promise.withResolvers<void>();
    const under = Array.from({ length: SESSION_RANGES_MAX }, () => reading.read(1, () => wait.promise));
    await assert.rejects(
      reading.read(1, async () => undefined),
      failure('GK_SERVER_BUSY'),
    );
    wait.resolve();
    await Promise.all(under);
    const failing = new HeldRanges();
    for (let number = 0; number <= SESSION_RANGES_MAX; number++) {
      const refused = failing.read(1, async () => Promise.reject(new Error('disk')));
      await assert.rejects(refused, /disk/);
    }
  });
});
