/** Differential backups of a log that grows, rotates, is pruned or set back: what is taken, and why a full one is. */
import assert from 'node:assert/strict';
import { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, test } from 'node:test';
import { summaryOf } from '../../../src/chain/catalogue.ts';
import type { GraphkeepError } from '../../../src/errors.ts';
import { LOG_HEADER_BYTES } from '../../../src/formats/txlog/header.ts';
import { LogAfter } from '../../../src/hotcopy/logafter.ts';
import type { BackupResult, FullBecause, ProgressListener } from '../../../src/operations/types.ts';
import { validateArtifact } from '../../../src/operations/validate.ts';
import {
  bytesOf,
  ChainScene,
  diverged,
  FIRST,
  GrowingDatabase,
  historyOf,
  logMember,
  markAt,
  membersOf,
  putForeignArtifact,
  readLogFiles,
  transactionAt,
  withCommitTimes,
} from '../../fixtures/chains.ts';
import { LINES, type Line } from '../../fixtures/lines.ts';
import { logHeader } from '../../fixtures/logs.ts';
import { failure, namesIn, openFilesBelow } from '../../fixtures/workspace.ts';

const rangeOf = ({ lowestTransaction, highestTransaction }: BackupResult): [bigint, bigint] => [
  lowestTransaction,
  highestTransaction,
];

/** Whole by itself, and with exactly these log files in it. */
async function assertLog(path: string, expected: ReadonlyMap<string, Buffer>): Promise<void> {
  const { valid, problems } = await validateArtifact(path);
  assert.deepEqual([valid, problems], [true, []]);
  const members = await membersOf(path);
  assert.deepEqual([...members.keys()], [...expected.keys()]);
  for (const [name, bytes] of expected) assert.equal(members.get(name)!.equals(bytes), true, name);
}

for (const line of LINES) {
  const history = historyOf(line);
  const logOf = (version: bigint, from: bigint, to: bigint) => logMember(history, version, from, to);

  describe(`differential backup of ${line}`, () => {
    test('AUTO takes a full one first, then what is new since the newest', async (context) => {
      const scene = new ChainScene(context, line);
      const full = await scene.backup();
      assert.deepEqual([full.kind, full.fullBecause?.reason, rangeOf(full)], ['full', 'noChain', [1n, 20n]]);
      const first = await scene.backupAt(27n, 'AUTO', { compress: false });
      assert.equal((await summaryOf(first.artifactPath)).container, 'BTV2');
      assert.deepEqual(
        [first.kind, first.parentPath, first.fullBecause, rangeOf(first)],
        ['differential', full.artifactPath, undefined, [21n, 27n]],
      );
      assert.deepEqual([first.memberCount, first.transactionsAfterFence, first.attempts], [1, 7n, 1]);
      assert.equal(first.storeBytes, 0);
      assert.equal(first.logBytes, LOG_HEADER_BYTES + bytesOf(history, 21n, 27n).length);
      const second = await scene.backupAt(28n, 'DIFF');
      assert.deepEqual([second.parentPath, rangeOf(second)], [first.artifactPath, [28n, 28n]]);
      await assertLog(first.artifactPath, new Map([logOf(0n, 21n, 27n)]));
      await assertLog(second.artifactPath, new Map([logOf(0n, 28n, 28n)]));
      const again = await scene.backup('FULL');
      assert.deepEqual([again.kind, again.fullBecause, rangeOf(again)], ['full', undefined, [1n, 28n]]);
      assert.deepEqual(openFilesBelow(scene.root), []);
    });

    test('its head and index say what it follows and where it ends', async (context) => {
      // The latest commit is in the parent: commit times need not ascend.
      const late = withCommitTimes(history, (index) => (index === 18n ? 1_900_000_000_000n : undefined));
      const scene = new ChainScene(context, line, { history: late });
      await scene.backup();
      scene.database.rotate();
      const { artifactPath, artifactBytes } = await scene.backupAt(27n);
      const summary = await summaryOf(artifactPath);
      const { full, recovered, indexed, bytes, parent, end, highestChecksum, latestCommit } = summary;
      assert.deepEqual([full, recovered, indexed, bytes], [false, false, true, artifactBytes]);
      assert.deepEqual(parent, markAt(late, 20n));
      assert.equal(highestChecksum, markAt(late, 27n).checksum);
      assert.equal(latestCommit?.getTime(), 1_900_000_000_000);
      const endBytes = LOG_HEADER_BYTES + bytesOf(history, 21n, 27n).length;
      assert.deepEqual(end, { logVersion: 1n, offsetBytes: BigInt(endBytes) });
    });

    test('several log files stay several, each as it is', async (context) => {
      const scene = new ChainScene(context, line);
      await scene.backup();
      for (const last of [24n, 30n, 33n]) {
        scene.database.appendTo(last);
        scene.database.rotate();
      }
      const { artifactPath } = await scene.backupAt(35n);
      await assertLog(
        artifactPath,
        new Map([logOf(0n, 21n, 24n), logOf(1n, 25n, 30n), logOf(2n, 31n, 33n), logOf(3n, 34n, 35n)]),
      );
    });

    test('rotation right at the end of the parent: the old file is not in it', async (context) => {
      const scene = new ChainScene(context, line);
      await scene.backup();
      scene.database.rotate();
      // The next file as rotation makes it, before the server has written its header.
      writeFileSync(scene.database.pathOf(2n), Buffer.alloc(9000));
      const empty = await scene.backup('DIFF');
      assert.deepEqual(rangeOf(empty), [0n, 0n], 'a header alone is nothing new');
      const offsetBytes = BigInt(LOG_HEADER_BYTES + bytesOf(history, FIRST, 20n).length);
      assert.deepEqual((await summaryOf(empty.artifactPath)).end, { logVersion: 0n, offsetBytes });
      const { artifactPath } = await scene.backupAt(27n, 'DIFF');
      await assertLog(artifactPath, new Map([logOf(1n, 21n, 27n)]));
    });

    test('nothing new: an empty one, which is no parent', async (context) => {
      const scene = new ChainScene(context, line);
      const full = await scene.backup();
      const empty = await scene.backup('DIFF');
      assert.deepEqual(
        [empty.kind, empty.parentPath, rangeOf(empty), empty.memberCount, empty.transactionsAfterFence],
        ['differential', full.artifactPath, [0n, 0n], 0, 0n],
      );
      const { parent, highestChecksum } = await summaryOf(empty.artifactPath);
      const { checksum } = transactionAt(history, 20n);
      assert.deepEqual([parent, highestChecksum], [{ appendIndex: 20n, checksum }, checksum]);
      await assertLog(empty.artifactPath, new Map());
      const next = await scene.backupAt(22n, 'DIFF');
      assert.deepEqual([next.parentPath, rangeOf(next)], [full.artifactPath, [21n, 22n]]);
    });

    test('what is committed between the search and the reading is in it', async (context) => {
      const { database } = new ChainScene(context, line);
      const log = await LogAfter.open(database.folders);
      try {
        const mark = markAt(history, 20n);
        const search = await log.find(mark, undefined);
        assert.ok(search.status === 'found');
        database.rotate();
        database.appendTo(27n);
        const tail = await log.readFrom(mark, search.position, 0n);
        assert.deepEqual([tail.highestAppendIndex, tail.transactions], [27n, 7n]);
      } finally {
        await log.close();
      }
    });

    test('--prefer-diff-as-parent goes on behind the newest differential', async (context) => {
      const scene = new ChainScene(context, line);
      await scene.backup();
      const differential = await scene.backupAt(25n, 'DIFF');
      await scene.backup('DIFF');
      const full = await scene.backupAt(30n, 'FULL');
      scene.database.appendTo(35n);
      const preferred = await scene.backup('DIFF', { preferDifferentialAsParent: true });
      assert.deepEqual([preferred.parentPath, rangeOf(preferred)], [differential.artifactPath, [26n, 35n]]);
      rmSync(preferred.artifactPath);
      const usual = await scene.backup('DIFF');
      assert.deepEqual([usual.parentPath, rangeOf(usual)], [full.artifactPath, [31n, 35n]]);
    });

    test('--prefer-diff-as-parent without a differential that can be followed: as usual', async (context) => {
      const scene = new ChainScene(context, line);
      const first = await scene.backup();
      const prefer = { preferDifferentialAsParent: true };
      const differential = await scene.backupAt(25n, 'DIFF', prefer);
      assert.equal(differential.parentPath, first.artifactPath);
      scene.database.rotate();
      scene.database.appendTo(30n);
      scene.database.rotate();
      scene.database.checkpoint(28n);
      const full = await scene.backup('FULL');
      scene.database.appendTo(35n);
      // What the full one ends with is in the second file: the first one can go, and with it the differential's end.
      rmSync(scene.database.pathOf(0n));
      rmSync(first.artifactPath);
      const next = await scene.backup('DIFF', prefer);
      assert.deepEqual([next.parentPath, rangeOf(next)], [full.artifactPath, [31n, 35n]]);
    });

    test('of a restored server, whose log lies elsewhere', async (context) => {
      for (const [previous, version] of [
        [10n, 0n],
        [10n, 7n],
        [12n, 3n],
      ] as const) {
        const scene = new ChainScene(context, line);
        const full = await scene.backup();
        scene.database.rebase(previous, version);
        const first = await scene.backupAt(27n, 'DIFF');
        assert.deepEqual([first.parentPath, rangeOf(first)], [full.artifactPath, [21n, 27n]]);
        await assertLog(first.artifactPath, new Map([logOf(version, 21n, 27n)]));
        // Now two files begin before the parent's last transaction, and two after the first of them.
        rmSync(first.artifactPath);
        scene.database.setBack(15n, history);
        for (const last of [15n, 24n]) {
          scene.database.appendTo(last);
          scene.database.rotate();
        }
        const second = await scene.backupAt(30n, 'DIFF');
        const files = new Map([logOf(version + 1n, 21n, 24n), logOf(version + 2n, 25n, 30n)]);
        await assertLog(second.artifactPath, files);
        context.mock.timers.reset();
      }
    });

    test('a transaction that is half written is left to the next one', async (context) => {
      const scene = new ChainScene(context, line);
      await scene.backup();
      scene.database.appendTo(25n);
      const next = transactionAt(history, 26n).bytes;
      for (let bytes = 1; bytes < next.length - 4; bytes += 17) {
        for (const zeros of [0, 3000]) {
          scene.database.tear(Buffer.concat([next.subarray(0, bytes), Buffer.alloc(zeros)]));
          const { artifactPath } = await scene.backup('DIFF');
          await assertLog(artifactPath, new Map([logOf(0n, 21n, 25n)]));
          rmSync(artifactPath);
        }
      }
      const { artifactPath } = await scene.backupAt(26n, 'DIFF');
      await assertLog(artifactPath, new Map([logOf(0n, 21n, 26n)]));
    });

    test('a transaction that is finished while it is read is in it', async (context) => {
      const scene = new ChainScene(context, line);
      await scene.backup();
      scene.database.appendTo(25n);
      // Pages reach the file in any order: the end of a transaction may be there before its middle.
      const holed = Buffer.from(transactionAt(history, 26n).bytes);
      holed.fill(0, 60, 80);
      scene.database.tear(holed);
      setTimeout(() => scene.database.appendTo(26n), 60);
      const { artifactPath } = await scene.backup('DIFF');
      await assertLog(artifactPath, new Map([logOf(0n, 21n, 26n)]));
    });
  });

  describe(`why a full one of ${line} is taken`, () => {
    /** AUTO takes a full one and says why; DIFF refuses, unless it may fall back. */
    async function assertFull(
      scene: ChainScene,
      reason: FullBecause['reason'],
      message: RegExp,
      database: GrowingDatabase = scene.database,
    ): Promise<void> {
      const before = namesIn(scene.target);
      await assert.rejects(
        scene.backup('DIFF', {}, database),
        failure('GK_NO_PARENT', new RegExp(`^no differential backup is possible: .*${message.source}`, 's')),
      );
      assert.deepEqual(namesIn(scene.target), before, 'nothing is published');
      const notices: string[] = [];
      const listener: ProgressListener = { progress: () => {}, notice: (text) => notices.push(text) };
      for (const options of [{ type: 'DIFF', fallbackToFull: true }, { type: 'AUTO' }] as const) {
        const { type, ...more } = options;
        const full = await scene.backup(type, { ...more, listener }, database);
        assert.deepEqual([full.kind, full.parentPath], ['full', undefined]);
        assert.equal(full.fullBecause?.reason, reason);
        assert.match(full.fullBecause.message, message);
        assert.equal((await validateArtifact(full.artifactPath)).valid, true);
        rmSync(full.artifactPath);
      }
      const said = notices.filter(
        (text) => text.startsWith('a full backup is taken: ') && message.test(text),
      );
      assert.equal(said.length, reason === 'noChain' ? 0 : 2, notices.join());
      assert.deepEqual(openFilesBelow(scene.root), []);
    }

    test('noChain: no artifact of the database', async (context) => {
      const scene = new ChainScene(context, line);
      const folders = { ...scene.database.folders, name: 'other' };
      await scene.backup('FULL', {}, Object.assign(Object.create(scene.database), { folders }));
      await assertFull(scene, 'noChain', /no artifact of neo4j/);
    });

    test('otherStore: the database was created anew', async (context) => {
      const scene = new ChainScene(context, line);
      const other = LINES.find((candidate) => candidate !== line)!;
      await scene.backup('FULL');
      const created = new GrowingDatabase(join(scene.root, 'created'), historyOf(other), 30n);
      await assertFull(scene, 'otherStore', /another store/, created);
    });

    test('foreign: the newest is of another tool', async (context) => {
      const scene = new ChainScene(context, line);
      await scene.backup();
      const path = join(scene.target, 'foreign.backup');
      putForeignArtifact(path, line, 20n, new Date(Date.now() + 5000));
      await assertFull(scene, 'foreign', /foreign\.backup was written by another tool/);
    });

    test('chainBroken: no full one leads to the newest', async (context) => {
      const scene = new ChainScene(context, line);
      const full = await scene.backup();
      await scene.backupAt(25n);
      rmSync(full.artifactPath);
      await assertFull(scene, 'chainBroken', /no full artifact leads to/);
    });

    test('pruned: the log begins behind what is new', async (context) => {
      const scene = new ChainScene(context, line);
      await scene.backup();
      scene.database.appendTo(25n);
      scene.database.rotate();
      scene.database.appendTo(30n);
      scene.database.prune(1n);
      scene.database.checkpoint(28n);
      await assertFull(scene, 'pruned', /ends with transaction 20, and .* pruned its log up to 25/);
    });

    test('diverged: set back, to before the parent and past it again', async (context) => {
      const scene = new ChainScene(context, line);
      await scene.backupAt(25n);
      scene.database.setBack(22n, diverged(history, 23n));
      await assertFull(scene, 'diverged', /transaction 25/);
      scene.database.rotate();
      await assertFull(scene, 'diverged', /transaction 25/);
      scene.database.appendTo(30n);
      await assertFull(scene, 'diverged', /transaction 25, which the log .* does not hold: it was set back/);
    });

    test('diverged: the very last transaction of the parent is another one', async (context) => {
      const scene = new ChainScene(context, line);
      await scene.backupAt(25n);
      scene.database.setBack(24n, diverged(history, 25n));
      // In 5.26 what follows names another one before it; here nothing follows.
      scene.database.appendTo(25n);
      await assertFull(scene, 'diverged', /transaction 25/);
    });
  });

  test(`${line}: the parent's file is gone, and the next one begins right behind it`, async (context) => {
    const scene = new ChainScene(context, line);
    const full = await scene.backup();
    scene.database.rotate();
    scene.database.appendTo(27n);
    scene.database.prune(1n);
    scene.database.checkpoint(22n);
    const next = await scene.backup('AUTO');
    if (line === '2026.08') {
      // Nothing in this log says which transaction 20 it follows.
      assert.equal(next.fullBecause?.reason, 'pruned');
      assert.match(next.fullBecause.message, /pruned its log up to 20/);
      return;
    }
    assert.deepEqual([next.parentPath, rangeOf(next)], [full.artifactPath, [21n, 27n]]);
    await assertLog(next.artifactPath, new Map([logOf(1n, 21n, 27n)]));
  });

  test(`${line}: a file that begins right behind the parent's number, in another history`, async (context) => {
    const scene = new ChainScene(context, line);
    await scene.backup();
    scene.database.setBack(18n, diverged(history, 19n));
    scene.database.appendTo(20n);
    scene.database.rotate();
    scene.database.appendTo(27n);
    scene.database.prune(1n);
    scene.database.checkpoint(22n);
    const next = await scene.backup('AUTO');
    assert.equal(next.fullBecause?.reason, line === '5.26' ? 'diverged' : 'pruned');
  });

  describe(`a differential backup of ${line} that fails publishes nothing and leaves nothing`, () => {
    const flip = (path: string, place: number): void => {
      const bytes = readFileSync(path);
      bytes[place]! ^= 1;
      writeFileSync(path, bytes);
    };
    const put = (path: string, previous: bigint, content: Buffer, of: Line = line): void => {
      const version = BigInt(/\d+$/.exec(path)![0]);
      writeFileSync(path, Buffer.concat([logHeader(of, version, previous), content]));
    };
    const all = (from: bigint, to: bigint): Buffer => bytesOf(history, from, to);
    const other: Line = line === '5.26' ? '2026.08' : '5.26';

    /** The parent ends with 20; then file 0 goes on to 25, file 1 to 30 and file 2 to 33. */
    type Damage = (first: string, second: string) => void;
    const cases: [string, Damage, RegExp, GraphkeepError['code']?][] = [
      [
        'a damaged transaction',
        (_first, second) => flip(second, LOG_HEADER_BYTES + 40),
        /transaction\.db\.1 cannot be read/,
      ],
      [
        'a finished file that ends inside a transaction',
        (first) => truncateSync(first, readFileSync(first).length - 9),
        /transaction\.db\.0/,
      ],
      [
        'a transaction that is missing between two files',
        (_first, second) => put(second, 26n, all(27n, 30n)),
        /follows transaction 26/,
      ],
      [
        'a transaction that is missing right behind the parent',
        (first) => put(first, 1n, Buffer.concat([all(2n, 20n), all(22n, 25n)])),
        /gap|not written after/,
      ],
      [
        'a next file that repeats what the parent holds already',
        (first, second) => {
          put(first, 1n, all(2n, 20n));
          put(second, 17n, all(18n, 30n));
        },
        /goes on with transaction 18 after 20/,
      ],
      ['a log of another store', (_first, second) => put(second, 25n, all(26n, 30n), other), /another store/],
      [
        'a log file in between is gone, and stays gone',
        (_first, second) => rmSync(second),
        /log file 1 was pruned/,
        'GK_SOURCE_MOVED',
      ],
    ];
    for (const [what, damage, message, code = 'GK_STORE_DAMAGED'] of cases) {
      test(what, async (context) => {
        const scene = new ChainScene(context, line);
        const { database, target } = scene;
        const full = await scene.backup();
        for (const last of [25n, 30n]) {
          database.appendTo(last);
          database.rotate();
        }
        database.appendTo(33n);
        damage(database.pathOf(0n), database.pathOf(1n));
        for (const type of ['DIFF', 'AUTO'] as const) {
          await assert.rejects(scene.backup(type, { fallbackToFull: true }), failure(code, message));
        }
        assert.deepEqual(namesIn(target), [basename(full.artifactPath)]);
        assert.deepEqual(openFilesBelow(scene.root), []);
      });
    }

    test('it is interrupted, whenever that is', async (context) => {
      const scene = new ChainScene(context, line);
      await scene.backup();
      for (const last of [24n, 30n, 33n]) {
        scene.database.appendTo(last);
        scene.database.rotate();
      }
      const before = namesIn(scene.target);
      const run = (stopAt: number): Promise<BackupResult> => {
        const stop = new AbortController();
        let reports = 0;
        let done = 0;
        const progress: ProgressListener['progress'] = ({ doneBytes, totalBytes }) => {
          assert.ok(done <= doneBytes && doneBytes <= totalBytes, 'it never goes back');
          done = doneBytes;
          reports += 1;
          if (reports === stopAt) stop.abort();
        };
        if (stopAt === 0) stop.abort();
        const listener = { progress, notice: (text: string) => assert.fail(text) };
        return scene.backup('DIFF', { signal: stop.signal, listener });
      };
      // One report for each log file.
      for (const stopAt of [0, 1, 2, 3]) {
        await assert.rejects(run(stopAt), failure('GK_INTERRUPTED'), `report ${stopAt}`);
        assert.deepEqual(namesIn(scene.target), before);
        assert.deepEqual(openFilesBelow(scene.root), []);
      }
      assert.equal((await run(4)).highestTransaction, 33n);
    });
  });

  test(`${line}: a server that overtakes the backup is tried again`, async (context) => {
    const scene = new ChainScene(context, line);
    await scene.backup();
    for (const last of [24n, 30n]) {
      scene.database.appendTo(last);
      scene.database.rotate();
    }
    scene.database.appendTo(35n);
    rmSync(scene.database.pathOf(1n));
    const notices: string[] = [];
    const notice = (text: string): void => {
      notices.push(text);
      scene.database.appendTo(36n);
    };
    const result = await scene.backup('DIFF', { listener: { progress: () => {}, notice } });
    assert.deepEqual([result.attempts, rangeOf(result)], [2, [21n, 36n]]);
    assert.match(notices.join(), /log file 1 was pruned .*; the copy starts anew/);
    assert.equal(readLogFiles(await membersOf(result.artifactPath)).length, 3);
    assert.deepEqual(openFilesBelow(scene.root), []);
  });
}

test('a damaged artifact in the folder is passed over with a notice', async (context) => {
  const scene = new ChainScene(context, '5.26');
  const full = await scene.backup();
  const damaged = await scene.backupAt(25n);
  truncateSync(damaged.artifactPath, 100);
  const notices: string[] = [];
  const listener: ProgressListener = { progress: () => {}, notice: (text) => notices.push(text) };
  const next = await scene.backup('DIFF', { listener });
  assert.deepEqual([next.parentPath, rangeOf(next)], [full.artifactPath, [21n, 25n]]);
  assert.match(notices.join(), /is passed over/);
});
