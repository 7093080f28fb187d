/** Which chain leads to a transaction, a moment or the end, and what is said when none does. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  type ArtifactGroup,
  artifactsOf,
  type Chain,
  chainFrom,
  groupArtifacts,
} from '../../../src/chain/chains.ts';
import { chainsForRestore, windowOf } from '../../../src/chain/plan.ts';
import type { Until } from '../../../src/chain/proof.ts';
import type { ArtifactSummary } from '../../../src/chain/summary.ts';
import { foreignSummary, minuteOf, summaryOfText, textsOf } from '../../fixtures/summaries.ts';
import { failure } from '../../fixtures/workspace.ts';

type Given = string | ArtifactSummary;

/** One artifact every ten minutes, in which it last saw a commit five seconds before; later ones are newer. */
function groupOf(...given: Given[]): ArtifactGroup {
  const artifacts = given.map((one, number) =>
    typeof one === 'string' ? summaryOfText(one, number * 10) : one,
  );
  const groups = groupArtifacts(artifacts);
  assert.equal(groups.length, 1);
  return groups[0]!;
}

const texts = (chain: Chain): string => textsOf(artifactsOf(chain)).join(' ');
const find = (group: ArtifactGroup, text: string): ArtifactSummary =>
  group.artifacts[textsOf(group.artifacts).indexOf(text)]!;

/** What is tried first, then what is tried when a joint of that turns out to be none. */
function plans(group: ArtifactGroup, until?: Until, tip?: string): string[] {
  const chains = chainsForRestore(group, until, tip === undefined ? undefined : find(group, tip));
  return [...new Set(chains.map(texts))];
}

const before = (transaction: number): Until => ({ transaction: BigInt(transaction) });
const at = (minute: number, seconds = 0): Until => ({
  time: new Date(minuteOf(minute).getTime() + seconds * 1000),
});

describe('the window of a chain', () => {
  const windowFrom = (group: ArtifactGroup, full: string): unknown[] => {
    const chain = chainFrom(find(group, full), group.artifacts);
    const { from, to, fromTime, toTime } = windowOf(chain, group.artifacts);
    return [from, to, fromTime, toTime];
  };
  const commitOf = (minute: number): Date => new Date(minuteOf(minute).getTime() - 5000);

  test('goes from the end of the full one to the end of the last', () => {
    const group = groupOf('F10', 'D11-20', 'D21-30');
    assert.deepEqual(windowFrom(group, 'F10'), [10n, 30n, commitOf(0), minuteOf(20)]);
  });

  test('of a full one alone', () => {
    assert.deepEqual(windowFrom(groupOf('F10'), 'F10'), [10n, 10n, commitOf(0), minuteOf(0)]);
  });

  test('is extended in time by empty ones behind its end, and only by these', () => {
    assert.deepEqual(windowFrom(groupOf('F10', 'E10', 'E10'), 'F10').at(-1), minuteOf(20));
    assert.deepEqual(windowFrom(groupOf('F10', 'D11-20', 'E20'), 'F10').at(-1), minuteOf(20));
    assert.deepEqual(windowFrom(groupOf('F10', 'E10', 'D11-20'), 'F10').at(-1), minuteOf(20));
    assert.deepEqual(windowFrom(groupOf('F10', 'D11-20', 'E10'), 'F10').at(-1), minuteOf(10));
    assert.deepEqual(windowFrom(groupOf('F10', 'D11-20', 'E20b'), 'F10').at(-1), minuteOf(10));
  });

  test('does not know times that no header has', () => {
    const full = { ...foreignSummary('F10', 0), time: undefined };
    assert.deepEqual(windowFrom(groupOf(full), 'F10'), [10n, 10n, undefined, undefined]);
  });
});

describe('a restore of everything', () => {
  test('leads to the newest artifact that holds something', () => {
    assert.deepEqual(plans(groupOf('F10', 'D11-20', 'E20')), ['F10 D11-20']);
    assert.deepEqual(plans(groupOf('F10', 'D11-20', 'F20')), ['F20']);
    assert.deepEqual(plans(groupOf('F10', 'D11-20', 'D21-30', 'D21-25b')), ['F10 D11-20 D21-25b']);
  });

  test('takes the shortest way first, and an overlap only as long as it may be one', () => {
    const group = groupOf('F10', 'D11-20', 'F25', 'D21-30');
    assert.deepEqual(plans(group), ['F25 D21-30', 'F10 D11-20 D21-30']);
  });

  test('to a given artifact ends there', () => {
    const group = groupOf('F10', 'D11-20', 'D21-30', 'F30');
    assert.deepEqual(plans(group, undefined, 'D11-20'), ['F10 D11-20']);
    assert.deepEqual(plans(group, undefined, 'F10'), ['F10']);
  });

  test('does not take what is older when nothing leads to the newest', () => {
    const group = groupOf('F10', 'D11-20', 'D22-30');
    const expected = failure(
      'GK_CHAIN_BROKEN',
      /no full artifact leads to .*D22-30.*transaction 21 is missing/,
    );
    assert.throws(
      () => chainsForRestore(group, undefined),
      (error: { hint: string }) => expected(error) && /D11-20/.test(error.hint),
    );
    assert.throws(
      () => chainsForRestore(groupOf('D11-20'), undefined),
      failure('GK_CHAIN_BROKEN', /transaction 10/),
    );
  });

  test('is refused where there is nothing but empty ones', () => {
    assert.throws(
      () => chainsForRestore(groupOf('E10'), undefined),
      failure('GK_NOT_FOUND', /nothing to restore of database neo4j/),
    );
  });

  test('is refused for a differential of another tool', () => {
    const group = groupOf('F10', foreignSummary('D11-20', 10));
    assert.throws(() => chainsForRestore(group, undefined), failure('GK_UNSUPPORTED', /another tool/));
  });
});

describe('a restore until a transaction', () => {
  const group = groupOf('F10', 'D11-20', 'D21-30', 'F30', 'D31-40');

  test('takes only what it needs', () => {
    assert.deepEqual(plans(group, before(41))[0], 'F30 D31-40');
    assert.deepEqual(plans(group, before(32))[0], 'F30 D31-40');
    assert.deepEqual(plans(group, before(31))[0], 'F30');
    assert.deepEqual(plans(group, before(30))[0], 'F10 D11-20 D21-30');
    assert.deepEqual(plans(group, before(22))[0], 'F10 D11-20 D21-30');
    assert.deepEqual(plans(group, before(21))[0], 'F10 D11-20');
    assert.deepEqual(plans(group, before(12))[0], 'F10 D11-20');
    assert.deepEqual(plans(group, before(11))[0], 'F10');
  });

  test('never takes a full artifact that goes beyond it', () => {
    for (let transaction = 1; transaction <= 45; transaction++) {
      let chains: Chain[] = [];
      try {
        chains = chainsForRestore(group, before(transaction));
      } catch {
        assert.ok(transaction < 11 || transaction > 41, `${transaction} can be had`);
      }
      for (const { full } of chains) assert.ok(full.highestTransaction < BigInt(transaction));
    }
  });

  test('before the first and after the last: both are named', () => {
    for (const transaction of [1, 10, 42, 1000]) {
      assert.throws(
        () => chainsForRestore(group, before(transaction)),
        failure('GK_OUT_OF_WINDOW', new RegExp(`before transaction ${transaction}; .* from 11 to 41`)),
      );
    }
  });

  test('of a given artifact: only the chains that end with it', () => {
    assert.deepEqual(plans(group, before(25), 'D21-30'), ['F10 D11-20 D21-30']);
    assert.throws(
      () => chainsForRestore(group, before(32), find(group, 'D21-30')),
      failure('GK_OUT_OF_WINDOW', /D21-30.* from 11 to 31/),
    );
    assert.throws(
      () => chainsForRestore(group, before(12), find(group, 'F10')),
      failure('GK_OUT_OF_WINDOW', /F10.* from 11 to 11/),
    );
  });

  test('of two histories: the newest one', () => {
    const branches = groupOf('F10', 'D11-20', 'D21-30', 'D21-25b');
    assert.deepEqual(plans(branches, before(24))[0], 'F10 D11-20 D21-25b');
    assert.deepEqual(plans(branches, before(28))[0], 'F10 D11-20 D21-30');
  });

  test('a chain that nothing is needed of but its full one holds it, too', () => {
    assert.deepEqual(plans(groupOf('F10', 'D11-20', 'F25', 'D21-30'), before(26)), [
      'F25',
      'F10 D11-20 D21-30',
    ]);
  });

  test('of another tool, a full artifact can be had to its own end', () => {
    const alone = groupOf(foreignSummary('F10', 0));
    assert.deepEqual(plans(alone, before(11)), ['F10']);
    assert.throws(() => chainsForRestore(alone, before(10)), failure('GK_OUT_OF_WINDOW', /from 11 to 11/));
  });

  test('nothing leads anywhere', () => {
    const orphan = groupOf('D11-20');
    assert.throws(() => chainsForRestore(orphan, before(15)), failure('GK_CHAIN_BROKEN', /transaction 10/));
  });
});

describe('where the clock of the server was set back', () => {
  test('an artifact that others follow is not the newest state, whatever its time says', () => {
    const future = summaryOfText('F20', 600);
    const group = groupOf('F10', 'D11-20', future, 'D21-25', 'D26-30');
    assert.deepEqual(plans(group)[0], 'F20 D21-25 D26-30');
  });
});

describe('a restore until a moment', () => {
  const group = groupOf('F10', 'D11-20', 'E20', 'F20', 'D21-30', 'E30');

  test('takes the newest full one whose last commit was before it', () => {
    assert.deepEqual(plans(group, at(50))[0], 'F20 D21-30');
    assert.deepEqual(plans(group, at(30))[0], 'F20 D21-30');
    assert.deepEqual(plans(group, at(29))[0]?.split(' ')[0], 'F10');
    assert.deepEqual(plans(group, at(0))[0]?.split(' ')[0], 'F10');
  });

  test('a full one is not taken when another artifact knows of a later commit before its end', () => {
    // The clock of the server was set back behind transaction 15, and the fence of F20 lies behind that.
    const late = summaryOfText('D11-15', 10, { latestCommit: minuteOf(45) });
    const skewed = groupOf('F10', late, 'D16-20', 'F20', 'D21-30', 'E30');
    assert.deepEqual(plans(skewed, at(44)), ['F10 D11-15 D16-20 D21-30']);
  });

  test('the last commit of the full one itself is out of reach, the moment after it is not', () => {
    const alone = groupOf('F10');
    assert.throws(() => chainsForRestore(alone, at(0, -5)), failure('GK_OUT_OF_WINDOW'));
    assert.deepEqual(plans(alone, at(0, -4)), ['F10']);
    assert.deepEqual(plans(alone, at(0)), ['F10']);
    assert.throws(() => chainsForRestore(alone, at(0, 1)), failure('GK_OUT_OF_WINDOW'));
  });

  test('an empty one says that nothing happened until then', () => {
    const idle = groupOf('F10', 'D11-20', 'E20');
    assert.deepEqual(plans(idle, at(20)), ['F10 D11-20']);
    assert.throws(() => chainsForRestore(idle, at(20, 1)), failure('GK_OUT_OF_WINDOW'));
  });

  test('before the first and after the last: both are named', () => {
    for (const until of [at(-60), at(51)]) {
      assert.throws(
        () => chainsForRestore(group, until),
        failure(
          'GK_OUT_OF_WINDOW',
          /the moment 2026-01-01 1\d:\d\d:00 UTC; .* from just after 2026-01-01 11:59:55 UTC to 2026-01-01 12:50:00 UTC/,
        ),
      );
    }
  });

  test('the latest moment is that of the newest artifact, wherever its transactions end', () => {
    // Set back: the newer history has not come as far yet as the older one.
    const branches = groupOf('F10', 'D11-20', 'D21-30', 'D21-25b');
    assert.throws(
      () => chainsForRestore(branches, at(60)),
      failure('GK_OUT_OF_WINDOW', /to 2026-01-01 12:30:00 UTC/),
    );
  });

  test('the earliest moment is known although an artifact of another tool has none', () => {
    const mixed = groupOf(foreignSummary('F5', 0), 'F10', 'D11-20');
    assert.throws(
      () => chainsForRestore(mixed, at(60)),
      failure('GK_OUT_OF_WINDOW', /from just after 2026-01-01 12:09:55 UTC/),
    );
  });
});

describe('many differentials', () => {
  const count = 20_000;
  const chainOf = (length: number): ArtifactGroup => {
    const differentials = Array.from({ length }, (_, number) =>
      summaryOfText(`D${number + 11}-${number + 11}`, number),
    );
    return groupArtifacts([summaryOfText('F10', -1), ...differentials])[0]!;
  };

  test('to the end, in one chain', () => {
    const chains = chainsForRestore(chainOf(count), undefined);
    assert.equal(chains.length, 1);
    assert.equal(chains[0]!.differentials.length, count);
  });

  test('a target in the middle is reached by one chain, not by one for each artifact behind it', () => {
    const chains = chainsForRestore(chainOf(300), before(50));
    assert.deepEqual(chains.length, 1, 'whoever tries them one after the other tries the same again');
    const [chain] = chainsForRestore(chainOf(count), before(50));
    assert.equal(chain!.differentials.length, 39);
    const [timed] = chainsForRestore(chainOf(count), { time: new Date(minuteOf(100).getTime() - 5000) });
    assert.equal(timed!.full.highestTransaction, 10n);
    assert.throws(() => chainsForRestore(chainOf(count), before(5)), failure('GK_OUT_OF_WINDOW', /from 11/));
  });
});
