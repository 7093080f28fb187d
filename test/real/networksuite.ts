/**
 * Backups over networks that fail in every way, of a live Neo4j by a backup server in a process of its own; each one
 * restored and judged. Then what a server costs: a large database over a connection that is cut, and many clients.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openArtifact } from '../../src/artifact/reader.ts';
import { GIB, MIB, RANGE_BYTES_MAX, SESSION_RANGES_MAX } from '../../src/limits.ts';
import { backupDatabase, backupFrom } from '../../src/operations/backup.ts';
import { restoreDatabase } from '../../src/operations/restore.ts';
import type { BackupOptions } from '../../src/operations/types.ts';
import { validateArtifact } from '../../src/operations/validate.ts';
import { Connection } from '../../src/remote/connection.ts';
import { remoteSource } from '../../src/remote/remotesource.ts';
import { makeDatabase } from '../fixtures/database.ts';
import { freePort } from '../fixtures/ports.ts';
import { namesIn } from '../fixtures/workspace.ts';
import { foldersOf } from './cycle.ts';
import type { Line } from './harness/distribution.ts';
import { assertVerdict, createJudge, type Judge } from './harness/judge.ts';
import { type Load, prepareSchema, startLoad } from './harness/load.ts';
import {
  createHome,
  type Home,
  killOnExit,
  type Server,
  scratchRoot,
  startServer,
  whileStopped,
} from './harness/server.ts';
import { findToxiproxy, type HurtProxy, Toxiproxy } from './harness/toxiproxy.ts';
import { AT_FULL_SPEED, PROGRAM, runProgram } from './program.ts';

const found = await findToxiproxy();
const skip = 'skip' in found ? found.skip : false;
const WRITER_PAUSE_MS = 40;
/** So slow that what happens to the network happens during the backup. */
const RATE = '30M';
const STORE = 'neostore.propertystore.db';

/** `graphkeep server` as a user starts it. */
class ServerProcess {
  readonly port: number;
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
    this.pid = child.pid ?? -1;
    this.#exited = new Promise((resolve) => child.once('exit', resolve));
  }

  static async start(databases: string, transactions: string): Promise<ServerProcess> {
    const port = await freePort();
    const folders = [`--from-path-data=${databases}`, `--from-path-txn=${transactions}`];
    const args = ['server', ...folders, `--listen-address=127.0.0.1:${port}`, AT_FULL_SPEED];
    const child = spawn(PROGRAM, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    killOnExit(child);
    const started = new ServerProcess(child, port);
    await new Promise<void>((resolve, reject) => {
      let log = '';
      child.stderr!.on('data', (text) => {
        log = (log + String(text)).slice(-4000);
        if (/"listening"/.test(log)) resolve();
      });
      child.once('exit', () => reject(new Error(`the backup server ended: ${log}`)));
    });
    return started;
  }

  async metric(pattern: RegExp): Promise<number> {
    const text = await (await fetch(`http://127.0.0.1:${this.port}/metrics`)).text();
    return Number(pattern.exec(text)?.[1] ?? 0);
  }

  sentBytes(): Promise<number> {
    return this.metric(/^graphkeep_sent_bytes_total\{[^}]*\} (\S+)/m);
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGTERM');
    await this.#exited;
  }
}

export function defineNetworkTests(line: Line): void {
  describe(`a network between graphkeep and Neo4j ${line}`, { skip }, () => {
    const scene = { line } as Scene;
    before(async () => {
      scene.scratch = await mkdtemp(join(await scratchRoot(), 'graphkeep-network-'));
      scene.toxiproxy = await Toxiproxy.start('program' in found ? found.program : '');
    });
    after(async () => {
      await scene.toxiproxy.close();
      await rm(scene.scratch, { recursive: true, force: true });
    });
    defineUnderLoad(scene);
    if (line === '5.26') defineLarge(scene);
    if (line === '5.26') defineMany(scene);
  });
}

interface Scene {
  readonly line: Line;
  scratch: string;
  toxiproxy: Toxiproxy;
}

interface Live {
  judge: Judge;
  home: Home;
  neo4j: Server;
  load: Load;
  server: ServerProcess;
  proxy: HurtProxy;
  backups: number;
}

/** What happens to the network while a backup runs, until `isOver`. */
const TROUBLES: readonly (readonly [
  name: string,
  trouble: (proxy: HurtProxy, isOver: () => boolean) => Promise<void>,
])[] = [
  [
    'that resets every connection, again and again',
    async (proxy, isOver) => {
      for (let times = 0; times < 4 && !isOver(); times++) {
        await proxy.add({ type: 'reset_peer', attributes: { timeout: 0 } });
        await sleep(150);
        await proxy.heal();
        await sleep(300);
      }
    },
  ],
  [
    'that swallows everything for a while',
    async (proxy) => {
      await proxy.add({ type: 'timeout', attributes: { timeout: 0 } });
      await sleep(1500);
      await proxy.heal();
    },
  ],
  [
    'that is slow in both ways',
    async (proxy) => {
      await proxy.add({ type: 'latency', attributes: { latency: 30, jitter: 20 } });
      await proxy.add({ type: 'bandwidth', attributes: { rate: 8000 } });
    },
  ],
  [
    'that ends every connection after half a megabyte',
    (proxy) => proxy.add({ type: 'limit_data', attributes: { bytes: 500_000 } }),
  ],
  [
    'that is gone twice, and comes back',
    async (proxy) => {
      for (let times = 0; times < 2; times++) {
        await proxy.enable(false);
        await sleep(400);
        await proxy.enable(true);
        await sleep(400);
      }
    },
  ],
];

function defineUnderLoad(scene: Scene): void {
  describe('under load', () => {
    const live = { backups: 0 } as Live;
    before(async () => {
      live.judge = await createJudge(scene.line);
      live.home = await createHome({ line: scene.line, dir: join(scene.scratch, 'source'), harsh: true });
      live.neo4j = await startServer(live.home);
      await prepareSchema(live.neo4j, { lucene: true });
      live.load = startLoad(live.neo4j, {
        writers: 4,
        vector: scene.line !== '5.26',
        pauseMs: WRITER_PAUSE_MS,
      });
      await live.load.waitForMore(200);
      const { databaseFolder, transactionsFolder } = live.home;
      live.server = await ServerProcess.start(join(databaseFolder, '..'), join(transactionsFolder, '..'));
      live.proxy = await scene.toxiproxy.proxyTo(live.server.port);
    });
    after(async () => {
      await live.server.stop();
      await live.load.stop();
      await live.neo4j.kill();
      await live.judge.close();
    });
    // What a network does to the protocol is the same for both lines; the second sees what cuts most.
    const troubles = scene.line === '5.26' ? TROUBLES : [TROUBLES[0]!, TROUBLES[3]!];
    for (const [name, trouble] of troubles) {
      test(`a network ${name}`, () => backUpThrough(scene, live, trouble));
    }
    test('nothing is held any more when the backups are over', async () => {
      assert.equal(await live.server.metric(/^graphkeep_sessions (\d+)$/m), 0);
    });
  });
}

async function backUpThrough(scene: Scene, live: Live, trouble: (typeof TROUBLES)[number][1]): Promise<void> {
  const folder = join(scene.scratch, `backup-${live.backups++}`);
  const artifacts = join(folder, 'artifacts');
  await mkdir(artifacts, { recursive: true });
  await live.load.waitForMore(20);
  const acknowledged = live.load.snapshotAcknowledged();
  let isOver = false;
  const sentBefore = await live.server.sentBytes();
  const backup = runProgram([
    ...['database', 'backup', `--from=127.0.0.1:${live.proxy.port}`, `--to-path=${artifacts}`],
    AT_FULL_SPEED,
    ...[
      '--type=FULL',
      `--limit-rate=${RATE}`,
      '--include-metadata=none',
      '--inactivity-timeout=60s',
      'neo4j',
    ],
  ]).finally(() => {
    isOver = true;
  });
  while (!isOver && (await live.server.sentBytes()) === sentBefore) await sleep(20);
  await trouble(live.proxy, () => isOver);
  const { status, stderr } = await backup;
  await live.proxy.heal();
  assert.equal(status, 0, stderr);
  assert.equal(namesIn(artifacts).length, 1);
  await whileStopped(live.neo4j, () => restoreAndJudge(scene, live, folder, acknowledged));
  await rm(folder, { recursive: true });
}

async function restoreAndJudge(
  scene: Scene,
  live: Live,
  folder: string,
  acknowledged: ReadonlyMap<number, number>,
): Promise<void> {
  const [name] = namesIn(join(folder, 'artifacts'));
  const artifactPath = join(folder, 'artifacts', name!);
  const home = await createHome({ line: scene.line, dir: join(folder, 'home') });
  const target = foldersOf(home);
  const restored = await restoreDatabase({ artifactPath, target, overwriteDestination: false });
  // The stock check takes seconds; the network is the same for every file once one of them was proven.
  const consistencyCheck = live.backups === 1;
  const verdict = await live.judge.judge(home.dir, { expectAcknowledged: acknowledged, consistencyCheck });
  assertVerdict(verdict, { acknowledgedBefore: acknowledged, mayPopulate: true, consistencyCheck });
  assert.equal(verdict.lastTransactionId, Number(restored.highestTransaction));
}

const LARGE_BYTES = 2 * GIB;
const CUTS = 20;

function optionsFor(targetDirectory: string, more: Partial<BackupOptions> = {}): BackupOptions {
  return { targetDirectory, compress: true, compressionLevel: 1, keepFailed: false, type: 'FULL', ...more };
}

/** Ranges are compressed on their way: only what cannot be is as large for the network as it is on disk. */
async function fillWithNoise(path: string, bytes: number): Promise<void> {
  const block = randomBytes(16 * MIB);
  const file = await open(path, 'w');
  for (let written = 0; written < bytes; written += block.length) await file.write(block);
  await file.close();
}

function defineLarge(scene: Scene): void {
  test('a database of 2 GiB survives 20 cuts without starting over', async () => {
    const root = join(scene.scratch, 'large');
    const folders = makeDatabase(root, scene.line);
    await fillWithNoise(join(folders.storeDirectory, STORE), LARGE_BYTES);
    const artifacts = join(root, 'artifacts');
    await mkdir(artifacts);
    const server = await ServerProcess.start(join(root, 'databases'), join(root, 'transactions'));
    const proxy = await scene.toxiproxy.proxyTo(server.port);
    let isOver = false;
    const backup = runProgram([
      ...['database', 'backup', `--from=127.0.0.1:${proxy.port}`, `--to-path=${artifacts}`, '--format=json'],
      AT_FULL_SPEED,
      ...['--type=FULL', '--compress=false', '--include-metadata=none', 'neo4j'],
    ]).finally(() => {
      isOver = true;
    });
    let cuts = 0;
    while (cuts < CUTS && !isOver) {
      const due = ((cuts + 0.5) * LARGE_BYTES) / (CUTS + 1);
      if ((await server.sentBytes()) < due) await sleep(5);
      else {
        await proxy.cut();
        cuts += 1;
      }
    }
    const { status, stderr, stdout } = await backup;
    assert.equal(status, 0, stderr);
    assert.equal(cuts, CUTS, 'all cuts fell into the backup');
    const sent = await server.sentBytes();
    assert.ok(sent > LARGE_BYTES && sent < 1.2 * LARGE_BYTES, `${sent} bytes were sent`);
    const [result] = (JSON.parse(stdout) as { backups: { attempts?: number }[] }).backups;
    assert.ok((result?.attempts ?? 1) === 1);
    await server.stop();
    const artifact = join(artifacts, namesIn(artifacts)[0]!);
    assert.deepEqual((await validateArtifact(artifact)).problems, []);
    await rm(root, { recursive: true });
  });
}

/** Names, sizes and hashes. */
async function membersIn(artifactPath: string): Promise<unknown> {
  const { file, index } = await openArtifact(artifactPath);
  await file.close();
  assert.ok(index !== undefined);
  return index.members;
}

const CLIENTS = 16;
const SERVED_BYTES = 48 * MIB;
/** A process of Node.js that has loaded everything and held nothing yet, with room for what is not collected yet. */
const IDLE_BYTES = 200 * MIB;
const SLOW_KIB_PER_SECOND = 100;

function defineMany(scene: Scene): void {
  test('16 clients at once and a slow one: all are right, memory stays bounded, nobody waits for the slow one', async () => {
    const root = join(scene.scratch, 'many');
    const folders = makeDatabase(root, scene.line, { propertyStoreBytes: SERVED_BYTES });
    const server = await ServerProcess.start(join(root, 'databases'), join(root, 'transactions'));
    const proxy = await scene.toxiproxy.proxyTo(server.port);
    await proxy.add({ type: 'bandwidth', attributes: { rate: SLOW_KIB_PER_SECOND } });
    const targetOf = async (name: string): Promise<string> => {
      await mkdir(join(root, name));
      return join(root, name);
    };
    const local = await backupDatabase(folders, optionsFor(await targetOf('local')));
    const expected = await membersIn(local.artifactPath);
    const take = async (name: string, port: number, signal?: AbortSignal) => {
      const connection = new Connection({ host: '127.0.0.1', port, inactivityMs: 60_000 });
      const options = signal === undefined ? {} : { signal };
      const source = remoteSource(connection, 'neo4j');
      return backupFrom(source, optionsFor(await targetOf(name), options)).finally(() => connection.close());
    };
    const stop = new AbortController();
    let isSlowOver = false;
    const slow = take('slow', proxy.port, stop.signal)
      .catch(() => undefined)
      .finally(() => {
        isSlowOver = true;
      });
    while ((await server.sentBytes()) === 0) await sleep(10);
    const others = Array.from({ length: CLIENTS }, (_, number) => take(`client-${number}`, server.port));
    for (const { artifactPath } of await Promise.all(others)) {
      assert.deepEqual((await validateArtifact(artifactPath)).problems, []);
      assert.deepEqual(await membersIn(artifactPath), expected);
    }
    assert.equal(isSlowOver, false, 'the slow one is still at it');
    stop.abort();
    await slow;
    assert.deepEqual(namesIn(join(root, 'slow')), []);
    const status = await readFile(`/proc/${server.pid}/status`, 'utf8');
    const peakBytes = Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
    // A frame is in memory twice: as it was read, and compressed.
    const boundBytes = IDLE_BYTES + (CLIENTS + 1) * SESSION_RANGES_MAX * 2 * RANGE_BYTES_MAX;
    assert.ok(peakBytes < boundBytes, `${peakBytes} bytes of at most ${boundBytes}`);
    await server.stop();
    await rm(root, { recursive: true });
  });
}
