/**
 * Backups over a network that cuts, stalls, shortens and damages what passes, and with a server that goes away in the
 * middle: what is published is right, and nothing else is.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { KIB, MIB } from '../../../src/limits.ts';
import type { Address } from '../../../src/neo4j/values.ts';
import { backupDatabase } from '../../../src/operations/backup.ts';
import type { BackupOptions, BackupResult } from '../../../src/operations/types.ts';
import type { BackupServer } from '../../../src/server/backupserver.ts';
import type { ServerSettings } from '../../../src/server/settings.ts';
import { ChainScene } from '../../fixtures/chains.ts';
import { put } from '../../fixtures/database.ts';
import { ask, backupOver, connectTo, Relay, serve, until } from '../../fixtures/network.ts';
import { noise } from '../../fixtures/random.ts';
import { failure, makeFolder, namesIn, openFilesBelow } from '../../fixtures/workspace.ts';

const STORE_BYTES = 6 * MIB;
const STORE = 'neostore.propertystore.db';

/** A database that takes several ranges, and a server of it behind a relay. */
class Network {
  readonly scene: ChainScene;
  readonly source: string;
  readonly notices: string[] = [];
  server: BackupServer;
  relay: Relay;
  readonly #context: TestContext;

  private constructor(context: TestContext, scene: ChainScene, server: BackupServer, relay: Relay) {
    this.#context = context;
    this.scene = scene;
    this.source = join(scene.root, 'source');
    this.server = server;
    this.relay = relay;
  }

  static async start(context: TestContext, settings: Partial<ServerSettings> = {}): Promise<Network> {
    const scene = new ChainScene(context, '5.26');
    put(join(scene.database.folders.storeDirectory, STORE), noise(STORE_BYTES, 3));
    const server = await serve(context, join(scene.root, 'source'), settings);
    const { address } = server;
    return new Network(context, scene, server, await Relay.start(context, () => address));
  }

  connect(inactivityMs = 20_000) {
    const onRetry = (text: string): void => void this.notices.push(text);
    return connectTo(this.#context, this.relay.address, { inactivityMs, onRetry });
  }

  async backup(more: Partial<BackupOptions> = {}, inactivityMs?: number): Promise<BackupResult> {
    const connection = await this.connect(inactivityMs);
    const listener = {
      progress: () => {},
      notice: (text: string) => void this.notices.push(text),
      ...more.listener,
    };
    return backupOver(connection, this.scene, { type: 'FULL', ...more, listener });
  }

  /** What a backup beside the files gives at this moment, without the clock moving on. */
  async assertRight({ artifactPath }: BackupResult, compress = true): Promise<void> {
    const targetDirectory = makeFolder(this.scene.root, 'expected');
    const options = this.scene.optionsFor({ type: 'FULL', targetDirectory, compress });
    const expected = await backupDatabase(this.scene.database.folders, options);
    assert.equal(readFileSync(artifactPath).equals(readFileSync(expected.artifactPath)), true, 'other bytes');
    await until(() => openFilesBelow(this.source).length === 0);
  }

  /** Ends the server and starts it anew on the same port. */
  async restart(): Promise<void> {
    const { address } = this.server;
    await this.server.close();
    this.server = await serve(this.#context, this.source, { listenAddress: address });
  }

  async sentBytes(): Promise<number> {
    const { body } = await ask(this.server.address, '/metrics');
    return Number(/^graphkeep_sent_bytes_total\{[^}]*\} (\d+)/m.exec(body)?.[1]);
  }
}

describe('a backup over a network', () => {
  test('that cuts every connection now and then goes on where it was', async (context) => {
    const network = await Network.start(context);
    let cuts = 0;
    network.relay.onAnswer = (bytes, passage) => {
      if (passage.answeredBytes < 1.5 * MIB || cuts >= 5) return bytes;
      cuts += 1;
      passage.cut();
      return undefined;
    };
    const result = await network.backup();
    assert.deepEqual([cuts, result.attempts], [5, 1]);
    await network.assertRight(result);
    const wholeBytes = result.memberBytes;
    const sent = await network.sentBytes();
    assert.ok(sent > wholeBytes && sent < wholeBytes + cuts * 2 * MIB + MIB, `${sent} of ${wholeBytes}`);
  });

  test('whose connections carry less than a range asks for less', async (context) => {
    const network = await Network.start(context);
    network.relay.onAnswer = (bytes, passage) => {
      if (passage.answeredBytes < 300 * KIB) return bytes;
      passage.cut();
      return undefined;
    };
    const result = await network.backup();
    assert.equal(result.attempts, 1);
    await network.assertRight(result);
  });

  test('that cuts every connection once, whatever is asked over it, does no step twice', async (context) => {
    const network = await Network.start(context);
    const seen = new Set<string>();
    network.relay.onAnswer = (bytes, passage) => {
      // The answer of each step is lost the first time: the server has done it, the client does not know.
      const step = lastRequest.get(passage.number) ?? '';
      if (step === '' || seen.has(step)) return bytes;
      seen.add(step);
      passage.cut();
      return undefined;
    };
    const lastRequest = new Map<number, string>();
    network.relay.onRequest = (bytes, passage) => {
      // Asked again, it has another name.
      const text = bytes.toString('latin1').replace(/^graphkeep-request: .*\r\n/m, '');
      lastRequest.set(passage.number, /^(POST|DELETE) /.test(text) ? text : '');
      return bytes;
    };
    const result = await network.backup();
    assert.equal(result.attempts, 1);
    assert.ok(seen.size > 20, `${seen.size} answers were lost`);
    await network.assertRight(result);
    const metrics = (await ask(network.server.address, '/metrics')).body;
    assert.match(metrics, /^graphkeep_sessions 0$/m, 'no second session was opened');
  });

  for (const [what, compress] of [
    ['ranges', false],
    ['frames', true],
  ] as const) {
    test(`that damages bytes of ${what}: they are asked for again`, async (context) => {
      const network = await Network.start(context);
      let damaged = 0;
      network.relay.onAnswer = (bytes, passage) => {
        if (passage.answeredBytes < MIB || bytes.length < 1000 || damaged >= 4) return bytes;
        damaged += 1;
        bytes[bytes.length - 500]! ^= 1;
        return bytes;
      };
      const result = await network.backup({ compress });
      assert.equal(damaged, 4);
      if (!compress) assert.match(network.notices.join('\n'), /damaged or cut short/);
      await network.assertRight(result, compress);
    });
  }

  test('that brings nothing but damaged ranges: it is given up', async (context) => {
    const network = await Network.start(context);
    network.relay.onAnswer = (bytes) => {
      if (bytes.length > 10_000) bytes[bytes.length - 500]! ^= 1;
      return bytes;
    };
    await assert.rejects(network.backup(), failure('GK_CONNECTION_LOST', /damaged/));
    assert.deepEqual(namesIn(network.scene.target), []);
    await until(() => openFilesBelow(network.source).length === 0);
  });

  test('that swallows everything for a while: other connections are made', async (context) => {
    const network = await Network.start(context);
    // The first ones that have brought something: how many connections share the work is a matter of timing.
    const swallowing = new Set<number>();
    network.relay.onAnswer = (bytes, { number, answeredBytes }) => {
      if (answeredBytes > MIB / 4 && swallowing.size < 4) swallowing.add(number);
      return swallowing.has(number) ? undefined : bytes;
    };
    const result = await network.backup({}, 9_000);
    assert.match(network.notices.join('\n'), /aborted|nothing comes/);
    await network.assertRight(result);
  });

  test('that delivers a request late: it changes nothing any more', async (context) => {
    const network = await Network.start(context);
    let held: (() => void) | undefined;
    network.relay.onRequest = (bytes, passage) => {
      const isOpening = /^POST \S+\/groups\/\d+\/open /.test(bytes.toString('latin1'));
      if (held !== undefined || !isOpening) return bytes;
      const request = Buffer.from(bytes);
      // The client asks again over another connection; this one arrives when the group is being read.
      passage.cut();
      held = () => resend(network.server.address, request);
      return undefined;
    };
    network.relay.onAnswer = (bytes) => {
      if (bytes.includes('application/octet-stream')) held?.();
      return bytes;
    };
    const result = await network.backup();
    assert.notEqual(held, undefined);
    assert.equal(result.attempts, 1);
    await network.assertRight(result);
  });
});

function resend({ host, port }: Address, request: Buffer): void {
  const socket = connect(port, host);
  socket.on('error', () => undefined);
  socket.end(request);
}

describe('a server that goes away in the middle of a backup', () => {
  test('and comes back on the same port: the backup starts anew by itself, and is right', async (context) => {
    const network = await Network.start(context);
    let restarted: Promise<void> | undefined;
    network.relay.onAnswer = (bytes) => {
      if (bytes.includes('application/octet-stream')) restarted ??= network.restart();
      return bytes;
    };
    const result = await network.backup();
    await restarted;
    assert.equal(result.attempts, 2);
    assert.match(network.notices.join('\n'), /does not know this backup any more; the copy starts anew/);
    assert.equal(namesIn(network.scene.target).length, 1);
    await network.assertRight(result);
  });

  test('again and again: it is tried three times, then told', async (context) => {
    const network = await Network.start(context);
    let restarts = 0;
    let restarting = Promise.resolve();
    const opened = new Set<string>();
    network.relay.onAnswer = (bytes) => {
      const session = /"session":"(\w+)"/.exec(bytes.toString('latin1'))?.[1];
      if (session === undefined || opened.has(session)) return bytes;
      opened.add(session);
      restarts += 1;
      restarting = restarting.then(() => network.restart());
      return bytes;
    };
    await assert.rejects(network.backup(), failure('GK_SESSION_LOST', /does not know this backup/));
    await restarting;
    assert.equal(restarts, 3);
    assert.deepEqual(namesIn(network.scene.target), []);
  });

  test('and stays away: it is given up after the time agreed, at no more than that', async (context) => {
    const network = await Network.start(context);
    let closed: Promise<void> | undefined;
    network.relay.onAnswer = (bytes) => {
      if (bytes.includes('application/octet-stream')) closed ??= network.server.close();
      return bytes;
    };
    await assert.rejects(network.backup({}, 600), failure('GK_CONNECTION_LOST', /silent/));
    await closed;
    assert.deepEqual(namesIn(network.scene.target), []);
  });

  test('is closed while it opens a session, reads and sends: nothing stays open', async (context) => {
    const network = await Network.start(context);
    const stop = new AbortController();
    const connection = await network.connect();
    const backup = backupOver(connection, network.scene, { type: 'FULL', signal: stop.signal });
    await until(() => openFilesBelow(network.source).length > 0);
    await network.server.close();
    assert.deepEqual(openFilesBelow(network.source), []);
    stop.abort();
    await assert.rejects(backup, failure('GK_INTERRUPTED'));
  });
});

describe('a client that goes away', () => {
  test('leaves nothing behind when its session has expired', async (context) => {
    const network = await Network.start(context, { sessionTimeoutMs: 1000 });
    const { address } = network.server;
    const body = { database: 'neo4j', kind: 'snapshot', request: 'a' };
    const opened = JSON.parse((await ask(address, '/v1/sessions', { method: 'POST', body })).body) as {
      session: string;
    };
    const session = `/v1/sessions/${opened.session}`;
    await ask(address, `${session}/groups/0/open`, { method: 'POST', body: { step: 1, staged: false } });
    assert.notEqual(openFilesBelow(network.source).length, 0);
    await until(() => openFilesBelow(network.source).length === 0);
    const renewed = await ask(address, `${session}/renew`, { method: 'POST', body: {} });
    assert.deepEqual([renewed.status, /GK_SESSION_LOST/.test(renewed.body)], [410, true]);
    assert.match((await ask(address, '/metrics')).body, /^graphkeep_sessions_expired_total\{[^}]*\} 1$/m);
  });

  test('a slow one keeps its session by renewing it', async (context) => {
    const network = await Network.start(context, { sessionTimeoutMs: 1000 });
    // Longer than the timeout between two requests: a range is four times as long as what is written in a second.
    const result = await network.backup({ rateBytesPerSecond: 1.5 * MIB, compress: false });
    assert.equal(result.attempts, 1);
    await network.assertRight(result, false);
  });
});
