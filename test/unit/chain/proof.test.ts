/** What is proven of a chain before it is relied on, and which bytes of its differentials are to be restored. */
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { summaryOf } from '../../../src/chain/catalogue.ts';
import { type ProofOptions, type ProvenChain, proveChain } from '../../../src/chain/proof.ts';
import type { ArtifactSummary, TransactionMark } from '../../../src/chain/summary.ts';
import type { ErrorCode } from '../../../src/errors.ts';
import { LOG_HEADER_BYTES } from '../../../src/formats/txlog/header.ts';
import { validateArtifact } from '../../../src/operations/validate.ts';
import {
  bytesOf,
  diverged,
  type History,
  historyOf,
  logMember,
  markAt,
  transactionAt,
  withCommitTimes,
  writeDifferential,
} from '../../fixtures/chains.ts';
import { LINES } from '../../fixtures/lines.ts';
import { logHeader } from '../../fixtures/logs.ts';
import { summaryOfText } from '../../fixtures/summaries.ts';
import { failure, openFilesBelow, temporaryFolder } from '../../fixtures/workspace.ts';

/** A full artifact that ends with a transaction: its summary is all that the proof of what follows it needs. */
function fullAt(history: History, last: bigint): ArtifactSummary {
  return summaryOfText(`F${last}`, 0, {
    highestChecksum: transactionAt(history, last).checksum,
    latestCommit: new Date(Number(transactionAt(history, last).commitTimeMillis)),
  });
}

type Members = readonly (readonly [name: string, bytes: Buffer])[];

interface Workbench {
  readonly folder: string;
  write(parent: TransactionMark, members: Members, end: TransactionMark): Promise<ArtifactSummary>;
  /** One log member, from the transaction after `after` to `last`. */
  differential(after: bigint, last: bigint, of?: History): Promise<ArtifactSummary>;
  prove(full: bigint, differentials: ArtifactSummary[], options?: ProofOptions): Promise<ProvenChain>;
  refuses(run: Promise<ProvenChain>, code: ErrorCode, message: RegExp): Promise<void>;
}

function workbench(context: TestContext, history: History): Workbench {
  const folder = temporaryFolder(context);
  let number = 0;
  const write: Workbench['write'] = async (parent, members, end) => {
    number += 1;
    return summaryOf(
      await writeDifferential(join(folder, `${number}.backup`), history.line, { parent, members, end }),
    );
  };
  return {
    folder,
    write,
    differential: (after, last, of = history) =>
      write(markAt(of, after), [logMember(of, 3n, after + 1n, last)], markAt(of, last)),
    prove: (full, differentials, options) =>
      proveChain({ full: fullAt(history, full), differentials }, options),
    async refuses(run, code, message) {
      await assert.rejects(run, failure(code, message));
      assert.deepEqual(openFilesBelow(folder), []);
    },
  };
}

/** The transactions that the pieces hold, read from the artifacts' members as they were written. */
function rangesOf({ pieces }: ProvenChain): [before: bigint, bytes: number][] {
  return pieces.map(({ previousAppendIndex, startBytes, endBytes }) => [
    previousAppendIndex,
    endBytes - startBytes,
  ]);
}

for (const line of LINES) {
  const history = historyOf(line);
  const bytesFrom = (from: bigint, to: bigint): number => bytesOf(history, from, to).length;

  describe(`proof of a chain of ${line}`, () => {
    test('a full one alone is what its header says', async (context) => {
      const { prove } = workbench(context, history);
      const proven = await prove(20n, []);
      assert.deepEqual([proven.end, proven.pieces, proven.wasCut], [markAt(history, 20n), [], false]);
      assert.equal(proven.latestCommitMillis, transactionAt(history, 20n).commitTimeMillis);
      assert.equal(proven.kernelVersion, undefined);
    });

    test('two differentials, one of them with two files', async (context) => {
      const { prove, differential, write } = workbench(context, history);
      const members = [logMember(history, 0n, 21n, 24n), logMember(history, 1n, 25n, 27n)];
      const first = await write(markAt(history, 20n), members, markAt(history, 27n));
      const second = await differential(27n, 30n);
      let bytesRead = 0;
      const onBytes = (bytes: number): void => {
        bytesRead += bytes;
      };
      const proven = await prove(20n, [first, second], { onBytes });
      assert.deepEqual(rangesOf(proven), [
        [20n, bytesFrom(21n, 24n)],
        [24n, bytesFrom(25n, 27n)],
        [27n, bytesFrom(28n, 30n)],
      ]);
      assert.deepEqual(
        proven.pieces.map(({ artifactPath, memberPath }) => [artifactPath, memberPath]),
        [
          [first.path, 'neostore.transaction.db.0'],
          [first.path, 'neostore.transaction.db.1'],
          [second.path, 'neostore.transaction.db.3'],
        ],
      );
      for (const piece of proven.pieces) assert.equal(piece.startBytes, LOG_HEADER_BYTES);
      assert.equal(proven.pieces[1]!.header.equals(logHeader(line, 1n, 24n)), true);
      assert.deepEqual([proven.end, proven.wasCut], [markAt(history, 30n), false]);
      assert.equal(proven.kernelVersion, line === '5.26' ? 20 : 32);
      assert.ok(bytesRead > bytesFrom(21n, 30n));
    });

    test('an overlap: what the full one holds is left out', async (context) => {
      const { prove, differential } = workbench(context, history);
      const overlapping = await differential(10n, 27n);
      const { pieces, end } = await prove(20n, [overlapping, await differential(27n, 30n)]);
      assert.deepEqual(end, markAt(history, 30n));
      assert.equal(pieces[0]!.startBytes, LOG_HEADER_BYTES + bytesFrom(11n, 20n));
      assert.equal(pieces[0]!.previousAppendIndex, 20n);
      const inside = await prove(27n, [overlapping]);
      assert.deepEqual([inside.pieces, inside.end], [[], markAt(history, 27n)]);
    });

    test('an overlap with another history is refuted', async (context) => {
      const { prove, refuses, differential } = workbench(context, history);
      for (const from of [15n, 20n]) {
        const other = await differential(10n, 27n, diverged(history, from));
        await refuses(
          prove(20n, [other]),
          'GK_CHAIN_BROKEN',
          /does not continue .* transaction 20 .* another/,
        );
        assert.equal((await validateArtifact(other.path)).valid, true, 'the artifact itself is whole');
      }
      // The same up to the end of the full one, and another one after it: that is no contradiction.
      const later = await differential(10n, 27n, diverged(history, 21n));
      assert.equal((await prove(20n, [later])).end.appendIndex, 27n);
    });

    test('a joint holds by number and checksum, and only the first may overlap', async (context) => {
      const { prove, refuses, differential } = workbench(context, history);
      const first = await differential(20n, 27n);
      const other = diverged(history, 27n);
      const follows = /follows another transaction/;
      await refuses(prove(19n, [first]), 'GK_CHAIN_BROKEN', follows);
      await refuses(prove(20n, [first, await differential(28n, 30n)]), 'GK_CHAIN_BROKEN', follows);
      await refuses(prove(20n, [first, await differential(25n, 30n)]), 'GK_CHAIN_BROKEN', follows);
      await refuses(prove(20n, [first, await differential(27n, 30n, other)]), 'GK_CHAIN_BROKEN', follows);
      const wrongFull = await differential(20n, 27n, diverged(history, 20n));
      await refuses(prove(20n, [wrongFull]), 'GK_CHAIN_BROKEN', follows);
    });

    test('the log must say what the index says of its parent', async (context) => {
      const { prove, refuses, write } = workbench(context, history);
      // It says that it follows 20, and begins with 22, or repeats 19.
      for (const from of [22n, 19n]) {
        const liar = await write(
          markAt(history, 20n),
          [logMember(history, 0n, from, 27n)],
          markAt(history, 27n),
        );
        if (from === 22n) await refuses(prove(20n, [liar]), 'GK_CHAIN_BROKEN', /gap|not written after/);
        assert.equal((await validateArtifact(liar.path)).valid, false, `from ${from}`);
      }
    });

    test('the log must end with what header and index say', async (context) => {
      const { prove, refuses, write } = workbench(context, history);
      const members = [logMember(history, 0n, 21n, 26n)];
      const tooShort = await write(markAt(history, 20n), members, markAt(history, 27n));
      await refuses(prove(20n, [tooShort]), 'GK_ARTIFACT_CORRUPT', /ends with transaction 26, .* says 27/);
      const another = await write(markAt(history, 20n), members, { appendIndex: 26n, checksum: 5 });
      await refuses(prove(20n, [another]), 'GK_ARTIFACT_CORRUPT', /ends with transaction 26/);
      const nothing = await write(markAt(history, 20n), [], markAt(history, 26n));
      await refuses(prove(20n, [nothing]), 'GK_ARTIFACT_CORRUPT', /ends with transaction 20/);
      const inside = await write(
        markAt(history, 10n),
        [logMember(history, 0n, 11n, 15n)],
        markAt(history, 26n),
      );
      await refuses(prove(20n, [inside]), 'GK_CHAIN_BROKEN', /ends at transaction 15, before 20/);
      for (const { path } of [tooShort, another, nothing, inside]) {
        assert.equal((await validateArtifact(path)).valid, false);
      }
    });

    test('a log with a hole, or of two histories, is refused here and by validate', async (context) => {
      const { prove, refuses, write } = workbench(context, history);
      const ends = [markAt(history, 20n), markAt(history, 27n)] as const;
      const hole = [logMember(history, 0n, 21n, 23n), logMember(history, 1n, 25n, 27n)];
      const holed = await write(ends[0], hole, ends[1]);
      await refuses(prove(20n, [holed]), 'GK_CHAIN_BROKEN', /from transaction 23 to 25: there is a gap/);
      assert.equal((await validateArtifact(holed.path)).valid, false);
      if (line === '2026.08') return; // its transactions do not name the one before them
      const patched = [logMember(diverged(history, 23n), 0n, 21n, 23n), logMember(history, 1n, 24n, 27n)];
      const mixed = await write(ends[0], patched, ends[1]);
      await refuses(prove(20n, [mixed]), 'GK_CHAIN_BROKEN', /transaction 24 was not written after/);
      assert.equal((await validateArtifact(mixed.path)).valid, false, 'validate, two files');
      const header = logHeader(line, 0n, 20n);
      const parts = [header, bytesOf(diverged(history, 23n), 21n, 23n), bytesOf(history, 24n, 27n)];
      const joined = await write(ends[0], [['neostore.transaction.db.0', Buffer.concat(parts)]], ends[1]);
      await refuses(prove(20n, [joined]), 'GK_CHAIN_BROKEN', /transaction 24 was not written after/);
      assert.equal((await validateArtifact(joined.path)).valid, false, 'validate, one file');
    });

    test('what no differential holds is refused', async (context) => {
      const { prove, refuses, write } = workbench(context, history);
      const ends = [markAt(history, 20n), markAt(history, 27n)] as const;
      const [name, log] = logMember(history, 0n, 21n, 27n);
      const cases: [Members, RegExp][] = [
        [[[name, Buffer.concat([log, Buffer.alloc(50)])]], /zeros behind/],
        [[[name, Buffer.concat([log, Buffer.of(1)])]], /inside a transaction/],
        [[[name, log.subarray(0, -5)]], /inside a transaction/],
        [[[name, log.subarray(0, 60)]], /shorter than its header/],
        [[['neostore.transaction.db.1', log]], /does not begin with its header/],
        [
          [
            [name, log],
            ['neostore', Buffer.alloc(100)],
          ],
          /holds neostore/,
        ],
      ];
      for (const [members, message] of cases) {
        const strange = await write(ends[0], members, ends[1]);
        await refuses(prove(20n, [strange]), 'GK_ARTIFACT_CORRUPT', message);
        assert.equal((await validateArtifact(strange.path)).valid, false, String(message));
      }
    });

    test('a file that is another one by now is refused', async (context) => {
      const { prove, refuses, differential } = workbench(context, history);
      const first = await differential(20n, 27n);
      const replaced = [
        { ...first, bytes: first.bytes + 1 },
        { ...first, highestTransaction: 28n },
        { ...first, highestChecksum: 1 },
      ];
      for (const summary of replaced) {
        await refuses(prove(20n, [summary]), 'GK_CHAIN_BROKEN', /was replaced/);
      }
      rmSync(first.path);
      await refuses(prove(20n, [first]), 'GK_NOT_FOUND', /1\.backup/);
    });

    test('it is interrupted', async (context) => {
      const { prove, refuses, differential } = workbench(context, history);
      const run = prove(20n, [await differential(20n, 27n)], { signal: AbortSignal.abort() });
      await refuses(run, 'GK_INTERRUPTED', /interrupted/);
    });
  });

  describe(`the cut of a chain of ${line}`, () => {
    test('before every transaction', async (context) => {
      const { prove, differential, write } = workbench(context, history);
      const members = [logMember(history, 0n, 11n, 24n), logMember(history, 1n, 25n, 27n)];
      const first = await write(markAt(history, 10n), members, markAt(history, 27n));
      const chain = [first, await differential(27n, 30n)];
      for (let transaction = 1n; transaction <= 32n; transaction += 1n) {
        const { end, wasCut, pieces } = await prove(20n, chain, { until: { transaction } });
        const expected = transaction <= 21n ? 20n : transaction > 30n ? 30n : transaction - 1n;
        assert.deepEqual(end, markAt(history, expected), `until ${transaction}`);
        assert.equal(wasCut, transaction <= 30n);
        const bytes = pieces.reduce((sum, { startBytes, endBytes }) => sum + endBytes - startBytes, 0);
        assert.equal(bytes, bytesFrom(21n, expected), `until ${transaction}`);
      }
    });

    test('before the first transaction that is not earlier than a moment, whatever comes after it', async (context) => {
      // 23 and 25 were committed at the moment or later; 24 and 26 before it, and yet they lie behind.
      const times = new Map([
        [21n, 1000n],
        [22n, 3000n],
        [23n, 5000n],
        [24n, 2000n],
        [25n, 6000n],
        [26n, 2500n],
      ]);
      const timed = withCommitTimes(history, (appendIndex) => times.get(appendIndex) ?? 500n);
      const { prove, differential } = workbench(context, timed);
      const chain = [await differential(20n, 23n), await differential(23n, 26n)];
      const cases: [untilMillis: number, end: bigint, latest: bigint][] = [
        [0, 20n, 500n],
        [1000, 20n, 500n],
        [1001, 21n, 1000n],
        [3000, 21n, 1000n],
        [3001, 22n, 3000n],
        [5000, 22n, 3000n],
        [5001, 24n, 5000n],
        [6000, 24n, 5000n],
        [6001, 26n, 6000n],
      ];
      for (const [millis, end, latest] of cases) {
        const proven = await prove(20n, chain, { until: { time: new Date(millis) } });
        assert.deepEqual(proven.end, markAt(timed, end), `until ${millis}`);
        assert.equal(proven.latestCommitMillis, latest, `until ${millis}`);
        assert.equal(proven.wasCut, end < 26n);
      }
    });

    test('never goes below the end of the full one: its pages hold that', async (context) => {
      const { prove, differential } = workbench(context, history);
      const overlapping = [await differential(10n, 27n)];
      for (const until of [{ transaction: 12n }, { time: new Date(0) }]) {
        const { end, pieces, wasCut } = await prove(20n, overlapping, { until });
        assert.deepEqual([end, pieces, wasCut], [markAt(history, 20n), [], true]);
      }
    });

    test('damage behind it is found in the artifact that is cut, and later ones are not read', async (context) => {
      const { prove, refuses, differential } = workbench(context, history);
      const [first, second] = [await differential(20n, 27n), await differential(27n, 30n)];
      writeFileSync(second.path, 'gone');
      const { end } = await prove(20n, [first, second], { until: { transaction: 25n } });
      assert.equal(end.appendIndex, 24n);
      const bytes = readFileSync(first.path);
      bytes[bytes.length >> 1]! ^= 4;
      writeFileSync(first.path, bytes);
      const run = prove(20n, [first], { until: { transaction: 21n } });
      await refuses(run, 'GK_ARTIFACT_CORRUPT', /1\.backup/);
    });
  });
}
