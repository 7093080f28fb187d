/** Several servers of one store: each gives a part, and one that is not of the same history gives none for good. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { backupFrom } from '../../../src/operations/backup.ts';
import type { BackupOptions, BackupResult } from '../../../src/operations/types.ts';
import { validateArtifact } from '../../../src/operations/validate.ts';
import { requireCovered } from '../../../src/remote/lanes.ts';
import { remoteSource } from '../../../src/remote/remotesource.ts';
import { ChainScene, diverged, GrowingDatabase, historyOf, membersOf } from '../../fixtures/chains.ts';
import { ask, connectTo, Relay, serve } from '../../fixtures/network.ts';
import { noise } from '../../fixtures/random.ts';
import { failure, makeFolder } from '../../fixtures/workspace.ts';

const LINE = '2026.08';
const NODES = 'neostore.nodestore.db';
/** Several frames and ranges. */
const NODES_BYTES = 12 * 1024 * 1024;

function enlarge(database: GrowingDatabase, seed = 1): void {
  writeFileSync(join(database.folders.storeDirectory, NODES), noise(NODES_BYTES, seed));
}

class Servers {
  readonly scene: ChainScene;
  readonly notices: string[] = [];
  readonly #context: TestContext;

  constructor(context: TestContext) {
    this.#context = context;
    this.scene = new ChainScene(context, LINE);
    enlarge(this.scene.database);
  }

  /** A server of a database of its own, beside that of the scene. */
  async serveOther(shape: { history?: Parameters<typeof diverged>[0]; last: bigint; checkpoint?: bigint }) {
    const root = makeFolder(this.scene.root, 'other');
    const database = new GrowingDatabase(
      root,
      shape.history ?? historyOf(LINE),
      shape.last,
      shape.checkpoint,
    );
    enlarge(database, 2);
    return serve(this.#context, root);
  }

  serveScene() {
    return serve(this.#context, join(this.scene.root, 'source'));
  }

  async backup(
    first: { address: { host: string; port: number } },
    other: { address: { host: string; port: number } },
    more: Partial<BackupOptions> = {},
    inactivityMs = 20_000,
  ): Promise<BackupResult> {
    const connection = await connectTo(this.#context, first.address);
    const others = [await connectTo(this.#context, other.address, { inactivityMs })];
    const source = remoteSource(connection, 'neo4j', others, (message) => void this.notices.push(message));
    const listener = { progress: () => {}, notice: (text: string) => void this.notices.push(text) };
    return backupFrom(source, this.scene.optionsFor({ type: 'FULL', listener, ...more }));
  }
}

async function sentBy({ address }: { address: { host: string; port: number } }): Promise<number> {
  const { body } = await ask(address, '/metrics');
  return Number(/^graphkeep_sent_bytes_total\{database="neo4j"\} (\d+)$/m.exec(body)?.[1] ?? 0);
}

describe('servers of the same store', () => {
  for (const compress of [true, false]) {
    test(`each gives a part, and the whole is right (compress: ${compress})`, async (context) => {
      const servers = new Servers(context);
      const [first, other] = [await servers.serveScene(), await servers.serveScene()];
      const { artifactPath } = await servers.backup(first, other, { compress });
      const got = await membersOf(artifactPath);
      const nodes = readFileSync(join(servers.scene.database.folders.storeDirectory, NODES));
      assert.equal(got.get(NODES)!.equals(nodes), true);
      assert.deepEqual((await validateArtifact(artifactPath)).problems, []);
      assert.deepEqual(servers.notices, []);
      assert.ok((await sentBy(other)) > NODES_BYTES / 3, 'the second one gave a good part');
      assert.ok((await sentBy(first)) < (NODES_BYTES * 3) / 4, 'the first one did not give all');
    });
  }

  test('one of another store, or with an older checkpoint, is told and done without', async (context) => {
    const servers = new Servers(context);
    servers.scene.database.checkpoint(15n);
    const first = await servers.serveScene();
    const older = await servers.serveOther({ last: 20n, checkpoint: 10n });
    await servers.backup(first, older);
    assert.match(
      servers.notices.join('\n'),
      /is not used for neo4j: its last checkpoint is at transaction 10, before 15/,
    );
    assert.equal(await sentBy(older), 0);
  });

  test('one that is ahead, or has another history, spoils no backup', async (context) => {
    const servers = new Servers(context);
    const nodes = readFileSync(join(servers.scene.database.folders.storeDirectory, NODES));
    const first = await servers.serveScene();
    const others = [
      { shape: { last: 25n }, at: 25 },
      { shape: { history: diverged(historyOf(LINE), 18n), last: 19n }, at: 19 },
    ];
    for (const { shape, at } of others) {
      const other = await servers.serveOther(shape);
      const { artifactPath, attempts } = await servers.backup(first, other);
      assert.equal(attempts, 2);
      assert.match(
        servers.notices.join('\n'),
        new RegExp(
          `is at transaction ${at}, which the log of the first server does not hold; the copy starts anew`,
        ),
      );
      assert.equal((await membersOf(artifactPath)).get(NODES)!.equals(nodes), true);
      await other.close();
    }
  });

  test('one that is behind, with the same history, helps', async (context) => {
    const servers = new Servers(context);
    const first = await servers.serveScene();
    const behind = await servers.serveOther({ last: 17n });
    const { artifactPath } = await servers.backup(first, behind);
    assert.deepEqual((await validateArtifact(artifactPath)).problems, []);
    assert.ok((await sentBy(behind)) > 0);
  });

  test('one that goes away after it gave a part: its part is not trusted', async (context) => {
    const servers = new Servers(context);
    const first = await servers.serveScene();
    const other = await servers.serveScene();
    const relay = await Relay.start(context, () => other.address);
    let isGone = false;
    relay.onAnswer = (bytes, passage) => {
      if (bytes.length > 10_000) isGone = true;
      if (!isGone) return bytes;
      passage.cut();
      return undefined;
    };
    const { artifactPath } = await servers.backup(first, relay, { compress: false }, 300);
    const nodes = readFileSync(join(servers.scene.database.folders.storeDirectory, NODES));
    assert.equal((await membersOf(artifactPath)).get(NODES)!.equals(nodes), true);
  });
});

test('what a further server did must be in the log of the first', async () => {
  const end = { logVersion: 0n, offsetBytes: 128n };
  const tail = (highestAppendIndex: bigint, highestChecksum: number) => ({
    ...{ appendIndexBefore: 1n, latestCommitMillis: 0n, transactions: 1n, end },
    ...{ highestAppendIndex, highestChecksum },
  });
  const holds = async (mark: { appendIndex: bigint; checksum: number }) => mark.checksum === 7;
  const lane = (own: ReturnType<typeof tail> | undefined) => ({ address: 'other:6362', tail: own });
  await requireCovered(lane(undefined), tail(9n, 1), holds);
  await requireCovered(lane(tail(9n, 1)), tail(9n, 1), holds);
  await requireCovered(lane(tail(8n, 7)), tail(9n, 1), holds);
  for (const wrong of [tail(9n, 2), tail(8n, 6), tail(10n, 7)]) {
    await assert.rejects(requireCovered(lane(wrong), tail(9n, 1), holds), failure('GK_SOURCE_MOVED'));
  }
});
