/** Which artifacts build on which, by their summaries alone. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  artifactsOf,
  type Chain,
  chainFrom,
  chainsTo,
  follows,
  groupArtifacts,
  overlaps,
  surveyChains,
  tipOf,
} from '../../../src/chain/chains.ts';
import type { ArtifactSummary } from '../../../src/chain/summary.ts';
import { summaryOfText, textsOf } from '../../fixtures/summaries.ts';

/** One artifact a minute; the last one is the newest. In the order in which groups are given: newest first. */
function artifacts(...texts: string[]): ArtifactSummary[] {
  return texts.map((text, minute) => summaryOfText(text, minute)).toReversed();
}

const texts = (chain: Chain): string => textsOf(artifactsOf(chain)).join(' ');
const pick = (group: readonly ArtifactSummary[], text: string): ArtifactSummary =>
  group[textsOf(group).indexOf(text)]!;

describe('follows', () => {
  const cases: [differential: string, artifact: string, expected: boolean, why: string][] = [
    ['D11-20', 'F10', true, 'number and checksum fit'],
    ['D21-30', 'D11-20', true, 'a differential can be followed as well'],
    ['E20', 'D11-20', true, 'and by an empty one'],
    ['D12-20', 'F10', false, 'a transaction is missing'],
    ['D10-20', 'F10', false, 'it begins earlier: that is an overlap'],
    ['D11b-20', 'F10', false, 'the number is the same, the transaction is not'],
    ['D11-20', 'F10b', false, 'nor the other way round'],
    ['D21-30', 'E20', false, 'an empty one is no parent'],
    ['F20', 'F10', false, 'a full one follows nothing'],
  ];
  for (const [differential, artifact, expected, why] of cases) {
    test(`${differential} ${expected ? 'does' : 'does not'} follow ${artifact}: ${why}`, () => {
      assert.equal(follows(summaryOfText(differential, 2), summaryOfText(artifact, 1)), expected);
    });
  }

  test('nothing follows an artifact of another tool, and one of another tool follows nothing', () => {
    const foreign = summaryOfText('F10', 1);
    delete (foreign as { highestChecksum?: number }).highestChecksum;
    assert.equal(follows(summaryOfText('D11-20', 2), foreign), false);
    assert.equal(overlaps(summaryOfText('D9-20', 2), foreign), false);
    const strange = summaryOfText('D11-20', 2);
    delete (strange as { parent?: object }).parent;
    assert.equal(follows(strange, summaryOfText('F10', 1)), false);
    assert.equal(overlaps(strange, summaryOfText('F15', 1)), false);
  });

  test('an empty one whose numbers are those of another does not become its parent', () => {
    // Numbers 0 and 0, and a parent that says it follows transaction 0.
    assert.equal(follows(summaryOfText('D1-5', 2), summaryOfText('E0', 1)), false);
  });
});

describe('overlaps', () => {
  const cases: [differential: string, full: string, expected: boolean, why: string][] = [
    ['D11-30', 'F20', true, 'the end lies inside'],
    ['D11-20', 'F20', true, 'the end is its end'],
    ['D11-30', 'F11', true, 'the end is its first one'],
    ['D11b-30b', 'F20', true, 'whether the history is the same, no summary says'],
    ['D11-30', 'F10', false, 'it follows it'],
    ['D11-30', 'F9', false, 'there is a gap'],
    ['D11-30', 'F31', false, 'the full one goes further'],
    ['D11-30', 'D11-20', false, 'only full ones are overlapped'],
    ['E20', 'F30', false, 'an empty one holds nothing'],
  ];
  for (const [differential, full, expected, why] of cases) {
    test(`${differential} ${expected ? 'does' : 'does not'} overlap ${full}: ${why}`, () => {
      assert.equal(overlaps(summaryOfText(differential, 2), summaryOfText(full, 1)), expected);
    });
  }
});

describe('groups', () => {
  test('are of one database and one store; the letters of the name do not count', () => {
    const all = [
      summaryOfText('F1', 1),
      summaryOfText('F2', 2, { database: 'system' }),
      summaryOfText('F3', 3, { storeKey: 'other' }),
      summaryOfText('F4', 4, { databaseId: 'other' }),
      summaryOfText('D2-5', 5, { database: 'Neo4j' }),
    ];
    const groups = groupArtifacts(all).map(({ artifacts: members }) => textsOf(members).sort().join(' '));
    assert.deepEqual(groups.toSorted(), ['D2-5 F1', 'F2', 'F3', 'F4']);
    for (const { database, databaseId, storeKey, artifacts: members } of groupArtifacts(all)) {
      const fits = members.every((one) => one.databaseId === databaseId && one.storeKey === storeKey);
      assert.ok(fits && members.some((one) => one.database === database));
    }
  });

  test('come newest first within a database, and so do their artifacts', () => {
    const old = [summaryOfText('F1', 1), summaryOfText('D2-5', 2)];
    const young = [summaryOfText('F3', 3, { storeKey: 'b' }), summaryOfText('D4-5', 9, { storeKey: 'b' })];
    const groups = groupArtifacts([...old, ...young]);
    assert.deepEqual(
      groups.map((group) => textsOf(group.artifacts).join(' ')),
      ['D4-5 F3', 'D2-5 F1'],
    );
  });

  test('are newest first, too, when the name was written with other letters', () => {
    const all = [summaryOfText('F1', 1, { database: 'Neo4j' }), summaryOfText('D2-5', 2)];
    assert.deepEqual(textsOf(groupArtifacts(all)[0]!.artifacts), ['D2-5', 'F1']);
  });

  test('of artifacts of one second: the one that reaches further is the newer', () => {
    const all = [summaryOfText('E5', 1), summaryOfText('D2-5', 1), summaryOfText('F1', 1)];
    assert.deepEqual(textsOf(groupArtifacts(all)[0]!.artifacts), ['D2-5', 'F1', 'E5']);
  });
});

describe('chains that lead to an artifact', () => {
  const chainsOf = (group: readonly ArtifactSummary[], tip: string): string[] =>
    chainsTo(pick(group, tip), group).map(texts);

  test('one after the other, empty ones left out', () => {
    const group = artifacts('F10', 'D11-20', 'E20', 'D21-30', 'E30', 'D31-40');
    assert.deepEqual(chainsOf(group, 'D31-40'), ['F10 D11-20 D21-30 D31-40']);
    assert.deepEqual(chainsOf(group, 'D21-30'), ['F10 D11-20 D21-30']);
    assert.deepEqual(chainsOf(group, 'F10'), ['F10']);
    const chain = chainsTo(pick(group, 'D21-30'), group)[0]!;
    assert.equal(tipOf(chain), pick(group, 'D21-30'));
    assert.equal(tipOf({ full: chain.full, differentials: [] }), chain.full);
  });

  test('the one with the least to replay first', () => {
    const group = artifacts('F10', 'D11-20', 'D21-30', 'F30', 'F35', 'D31-40');
    const [first, second, ...others] = chainsOf(group, 'D31-40');
    assert.deepEqual([first, second], ['F35 D31-40', 'F30 D31-40']);
    // D21-30 holds nothing that F30 does not: were it damaged, nobody should have to care.
    assert.equal(others.at(-1), 'F10 D11-20 D21-30 D31-40');
  });

  test('of two full ones of one reach, the newer first', () => {
    const [old, young] = [summaryOfText('F30', 1), summaryOfText('F30', 2)];
    const tip = summaryOfText('D31-40', 3);
    const chains = chainsTo(tip, [old, tip, young]);
    assert.deepEqual(
      chains.map(({ full }) => full),
      [young, old],
    );
  });

  test('an overlap is only at the beginning of a chain', () => {
    // Whatever ends inside D11-25 does not lead on to it.
    const group = artifacts('F5', 'D6-15', 'D11-25', 'D26-30');
    assert.deepEqual(chainsOf(group, 'D26-30'), []);
    const whole = artifacts('F5', 'D6-15', 'F12', 'D11-25', 'D26-30');
    assert.deepEqual(chainsOf(whole, 'D26-30'), ['F12 D11-25 D26-30']);
  });

  test('the documented example of --prefer-diff-as-parent', () => {
    const group = artifacts('F10', 'D11-20', 'D21-30', 'E30', 'F40', 'D31-50', 'D41-50');
    assert.deepEqual(chainsOf(group, 'D31-50'), ['F40 D31-50', 'F10 D11-20 D21-30 D31-50']);
    assert.deepEqual(chainsOf(group, 'D41-50'), ['F40 D41-50']);
  });

  test('none over a gap, and none over another history', () => {
    assert.deepEqual(chainsOf(artifacts('F10', 'D12-20'), 'D12-20'), []);
    assert.deepEqual(chainsOf(artifacts('F10', 'D11-20', 'D22-30'), 'D22-30'), []);
    assert.deepEqual(chainsOf(artifacts('F10', 'D11-20', 'D21b-30b'), 'D21b-30b'), []);
    assert.deepEqual(chainsOf(artifacts('D11-20'), 'D11-20'), []);
  });

  test('a branch leads back to where the histories part', () => {
    const group = artifacts('F10', 'D11-20', 'D21-30', 'D21-28b', 'D29b-35b');
    assert.deepEqual(chainsOf(group, 'D29b-35b'), ['F10 D11-20 D21-28b D29b-35b']);
    assert.deepEqual(chainsOf(group, 'D21-30'), ['F10 D11-20 D21-30']);
  });

  test('copies of one artifact make no more than one chain each, and never one with both', () => {
    const copies = [summaryOfText('D11-20', 1), summaryOfText('D11-20', 2)];
    const [full, tip] = [summaryOfText('F10', 0), summaryOfText('D21-30', 3)];
    const chains = chainsTo(tip, [tip, ...copies, full]);
    assert.deepEqual(chains.map(texts), ['F10 D11-20 D21-30', 'F10 D11-20 D21-30']);
    assert.equal(new Set(chains.map(({ differentials }) => differentials[0])).size, 2);
    // Twenty times two ways would be a million chains.
    const doubled = Array.from({ length: 20 }, (_, number) => `D${number * 10 + 11}-${number * 10 + 20}`);
    const group = artifacts('F10', ...doubled, ...doubled, 'D211-220');
    const all = chainsTo(pick(group, 'D211-220'), group);
    assert.ok(all.length >= 1 && all.length <= 2 * doubled.length, `${all.length} chains`);
    for (const chain of all) assert.equal(chain.differentials.length, 21);
  });

  test('numbers that go round in a circle lead nowhere, and end', () => {
    const circle = [
      summaryOfText('D11-20', 1, { parent: { appendIndex: 30n, checksum: 30 } }),
      summaryOfText('D21-30', 2),
      summaryOfText('F5', 0),
    ];
    assert.deepEqual(chainsTo(circle[1]!, circle), []);
    assert.deepEqual(chainsTo(circle[0]!, circle), []);
    const itself = summaryOfText('D11-20', 1, { parent: { appendIndex: 20n, checksum: 20 } });
    assert.deepEqual(chainsTo(itself, [itself]), []);
    assert.deepEqual(texts(chainFrom(circle[2]!, circle)), 'F5');
  });

  test('twenty thousand differentials, whichever order they come in', () => {
    const count = 20_000;
    const chain = Array.from({ length: count }, (_, number) =>
      summaryOfText(`D${number + 11}-${number + 11}`, number),
    );
    const full = summaryOfText('F10', -1);
    for (const group of [
      [full, ...chain],
      [...chain.toReversed(), full],
    ]) {
      const found = chainsTo(chain.at(-1)!, group);
      assert.equal(found.length, 1);
      assert.equal(found[0]!.differentials.length, count);
      assert.equal(found[0]!.differentials[0], chain[0]);
      const forward = chainFrom(full, group);
      assert.equal(tipOf(forward), chain.at(-1));
      assert.equal(forward.differentials.length, count);
    }
  });
});

describe('the chain from a full artifact', () => {
  const chainOf = (group: readonly ArtifactSummary[], full: string): string =>
    texts(chainFrom(pick(group, full), group));

  test('goes as far as it leads', () => {
    const group = artifacts('F10', 'D11-20', 'E20', 'D21-30', 'D32-40');
    assert.equal(chainOf(group, 'F10'), 'F10 D11-20 D21-30');
    assert.equal(chainOf(artifacts('F10', 'E10', 'D12-20'), 'F10'), 'F10');
  });

  test('of two branches, to where the newest artifact is', () => {
    const reset = artifacts('F10', 'D11-20', 'D21-30', 'D31-40', 'D21-25b');
    assert.equal(chainOf(reset, 'F10'), 'F10 D11-20 D21-25b');
    const longer = artifacts('F10', 'D11-20', 'D21-25b', 'D21-30', 'D31-40');
    assert.equal(chainOf(longer, 'F10'), 'F10 D11-20 D21-30 D31-40');
  });

  test('of a full one taken in between: each leads to the same end', () => {
    const group = artifacts('F10', 'D11-20', 'F25', 'D21-30', 'D31-40');
    assert.equal(chainOf(group, 'F10'), 'F10 D11-20 D21-30 D31-40');
    assert.equal(chainOf(group, 'F25'), 'F25 D21-30 D31-40');
  });

  test('does not go through an artifact that no chain holds', () => {
    const group = artifacts('F10', 'D9-12', 'D11-20', 'D13-15');
    assert.equal(chainOf(group, 'F10'), 'F10 D9-12 D13-15');
  });
});

describe('survey of a group', () => {
  const survey = (group: readonly ArtifactSummary[]): { chains: string[]; orphans: string[] } => {
    const { chains, orphans } = surveyChains(group);
    return { chains: chains.map(texts), orphans: textsOf(orphans) };
  };

  test('one chain for each full one, newest first, and what nothing leads to', () => {
    const group = artifacts('F10', 'D11-20', 'E20', 'D22-30', 'D31-40', 'E40', 'F45', 'D46-50');
    assert.deepEqual(survey(group), {
      chains: ['F45 D46-50', 'F10 D11-20'],
      orphans: ['D31-40', 'D22-30'],
    });
  });

  test('nothing of nothing', () => assert.deepEqual(survey([]), { chains: [], orphans: [] }));

  test('a folder of differentials only', () => {
    assert.deepEqual(survey(artifacts('D11-20', 'D21-30', 'E30')), {
      chains: [],
      orphans: ['D21-30', 'D11-20'],
    });
  });

  test('a branch that is not the newest is no orphan', () => {
    const group = artifacts('F10', 'D11-20', 'D21-30', 'D21-25b');
    assert.deepEqual(survey(group), { chains: ['F10 D11-20 D21-25b'], orphans: [] });
  });

  test('twenty thousand differentials: the work does not grow with their square', () => {
    const few = counted(longChain(400));
    surveyChains(few.group);
    // Counted instead of timed; the square of 400 is 160,000.
    assert.ok(few.reads() < 400 * 60, `${few.reads()} looks at 402 artifacts`);
    const many = longChain(20_000);
    const { chains, orphans } = surveyChains(many);
    assert.deepEqual(textsOf(orphans), ['D20100-20100']);
    assert.equal(chains[0]!.differentials.length, 20_000);
    assert.equal(groupArtifacts(many)[0]!.artifacts.length, 20_002);
  });
});

/** A full artifact, `count` differentials of one transaction, and behind a gap one that nothing leads to. */
function longChain(count: number): ArtifactSummary[] {
  const chain = Array.from({ length: count }, (_, number) =>
    summaryOfText(`D${number + 11}-${number + 11}`, number),
  );
  const lost = summaryOfText(`D${count + 100}-${count + 100}`, count);
  return [lost, ...chain.toReversed(), summaryOfText('F10', -1)];
}

/** The same artifacts, which count how often somebody asks what they follow or where they end. */
function counted(artifacts: readonly ArtifactSummary[]): {
  group: ArtifactSummary[];
  reads: () => number;
} {
  let reads = 0;
  const asked = ['parent', 'highestTransaction', 'full'];
  const group = artifacts.map(
    (artifact) =>
      new Proxy(artifact, {
        get(target, property, receiver) {
          if (asked.includes(String(property))) reads += 1;
          return Reflect.get(target, property, receiver);
        },
      }),
  );
  return { group, reads: () => reads };
}
