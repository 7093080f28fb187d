/** Backups through a real backup server are those that are taken beside the files, byte by byte. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { backupFrom } from '../../../src/operations/backup.ts';
import type { BackupOptions, BackupResult } from '../../../src/operations/types.ts';
import { validateArtifact } from '../../../src/operations/validate.ts';
import type { Connection } from '../../../src/remote/connection.ts';
import { remoteSource } from '../../../src/remote/remotesource.ts';
import { ChainScene, diverged, historyOf, type SceneShape } from '../../fixtures/chains.ts';
import { LINES, type Line } from '../../fixtures/lines.ts';
import { connectTo, serve } from '../../fixtures/network.ts';
import { failure, makeFolder, namesIn, openFilesBelow } from '../../fixtures/workspace.ts';

/** The same database backed up from its files and over the network, into a folder each, at the same moments. */
class Twins {
  readonly scene: ChainScene;
  readonly remoteTarget: string;
  readonly connection: Connection;
  readonly #notices: string[] = [];

  private constructor(scene: ChainScene, connection: Connection) {
    this.scene = scene;
    this.connection = connection;
    this.remoteTarget = makeFolder(scene.root, 'remote');
  }

  static async start(context: TestContext, line: Line, shape: SceneShape = {}): Promise<Twins> {
    const scene = new ChainScene(context, line, shape);
    const server = await serve(context, join(scene.root, 'source'));
    return new Twins(scene, await connectTo(context, server.address));
  }

  get notices(): readonly string[] {
    return this.#notices;
  }

  /** Local first; the clock stands still in between, so that the times are the same, too. */
  async backup(
    type: BackupOptions['type'] = 'AUTO',
    more: Partial<BackupOptions> = {},
  ): Promise<[local: BackupResult, remote: BackupResult]> {
    const local = await this.scene.backup(type, more);
    const listener = { progress: () => {}, notice: (text: string) => void this.#notices.push(text) };
    const options = { type, targetDirectory: this.remoteTarget, listener, ...more };
    const source = remoteSource(this.connection, 'neo4j');
    return [local, await backupFrom(source, this.scene.optionsFor(options))];
  }

  async assertSame(local: BackupResult, remote: BackupResult): Promise<void> {
    const [expected, got] = [local, remote].map(({ artifactPath }) => readFileSync(artifactPath));
    assert.equal(got!.equals(expected!), true, 'the artifacts have the same bytes');
    const reasons = [local, remote].map(({ fullBecause, kind }) => [kind, fullBecause?.reason]);
    assert.deepEqual(reasons[1], reasons[0]);
    assert.deepEqual((await validateArtifact(remote.artifactPath)).problems, []);
  }
}

for (const line of LINES) {
  describe(`a backup of ${line} over the network`, () => {
    test('full, differential, empty and uncompressed ones have the bytes of the local ones', async (context) => {
      const twins = await Twins.start(context, line);
      await twins.assertSame(...(await twins.backup()));
      twins.scene.database.appendTo(27n);
      const [local, remote] = await twins.backup('DIFF');
      assert.equal(remote.kind, 'differential');
      await twins.assertSame(local, remote);
      const empty = await twins.backup('AUTO');
      assert.deepEqual([empty[1].lowestTransaction, empty[1].highestTransaction], [0n, 0n]);
      await twins.assertSame(...empty);
      twins.scene.database.appendTo(30n);
      twins.scene.database.rotate();
      twins.scene.database.appendTo(35n);
      await twins.assertSame(...(await twins.backup('AUTO', { compress: false })));
      await twins.assertSame(...(await twins.backup('FULL')));
      twins.scene.database.appendTo(38n);
      await twins.assertSame(...(await twins.backup('AUTO', { preferDifferentialAsParent: true })));
      assert.deepEqual(openFilesBelow(join(twins.scene.root, 'source')), [], 'nothing is held any more');
    });

    test('pruned and set back: a full one, for the same reason', async (context) => {
      const twins = await Twins.start(context, line);
      await twins.backup();
      twins.scene.database.appendTo(25n);
      twins.scene.database.rotate();
      twins.scene.database.appendTo(30n);
      twins.scene.database.checkpoint(28n);
      twins.scene.database.prune(1n);
      const pruned = await twins.backup();
      assert.equal(pruned[1].fullBecause?.reason, 'pruned');
      await twins.assertSame(...pruned);
      await assert.rejects(
        twins.backup('DIFF', {
          fallbackToFull: false,
          targetDirectory: makeFolder(twins.scene.root, 'none'),
        }),
        failure('GK_NO_PARENT'),
      );
      twins.scene.restart({ history: historyOf(line) });
      await twins.scene.backup();
      twins.scene.database.setBack(15n, diverged(historyOf(line), 16n));
      twins.scene.database.appendTo(25n);
      const fresh = makeFolder(twins.scene.root, 'fresh');
      const source = remoteSource(twins.connection, 'neo4j');
      const remote = await backupFrom(source, twins.scene.optionsFor({ type: 'AUTO' }));
      assert.equal(remote.fullBecause?.reason, 'diverged');
      assert.deepEqual(namesIn(fresh), []);
    });

    test('an idle wait between two frames, a rate limit on this side: it changes nothing', async (context) => {
      const twins = await Twins.start(context, line);
      await twins.assertSame(...(await twins.backup('FULL', { rateBytesPerSecond: 4_000_000 })));
    });
  });
}

test('what cannot be backed up is refused with the code that it has beside the files', async (context) => {
  const twins = await Twins.start(context, '5.26');
  const missing = backupFrom(remoteSource(twins.connection, 'other'), twins.scene.optionsFor());
  await assert.rejects(missing, failure('GK_NOT_FOUND'));
  assert.deepEqual(namesIn(twins.scene.target), []);
});

test('an interrupted backup leaves no artifact and no session', async (context) => {
  const scene = new ChainScene(context, '5.26');
  const server = await serve(context, join(scene.root, 'source'));
  const connection = await connectTo(context, server.address);
  const stop = new AbortController();
  let seen: string[] = [];
  const listener = {
    progress: () => {
      seen = openFilesBelow(join(scene.root, 'source', 'transactions'));
      stop.abort();
    },
    notice: () => {},
  };
  const backup = backupFrom(
    remoteSource(connection, 'neo4j'),
    scene.optionsFor({ type: 'FULL', listener, signal: stop.signal }),
  );
  await assert.rejects(backup, failure('GK_INTERRUPTED'));
  assert.notEqual(seen.length, 0, 'the log was pinned');
  assert.deepEqual(openFilesBelow(join(scene.root, 'source')), []);
  assert.deepEqual(namesIn(scene.target), []);
});
