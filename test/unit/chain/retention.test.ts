import assert from 'node:assert/strict';
import { basename } from 'node:path';
import { describe, test } from 'node:test';
import {
  parseAge,
  planRetention,
  type RetentionOptions,
  type RetentionPlan,
  type RetentionPolicy,
} from '../../../src/chain/retention.ts';
import type { ArtifactSummary } from '../../../src/chain/summary.ts';
import { failure } from '../../fixtures/workspace.ts';

const NOW = new Date('2026-11-21T12:00:00Z');

/** `F 1-10 @2026-11-01T00`: kind, range and time; a differential follows the transaction before its first. */
function artifact(name: string, text: string, more: Partial<ArtifactSummary> = {}): ArtifactSummary {
  const [, kind, low, high, time] = /^([FDE]) (\d+)-(\d+) @(\S+)$/.exec(text)!;
  const isEmpty = kind === 'E';
  const mark = BigInt(low!) - (isEmpty ? 0n : 1n);
  return {
    path: `/backups/${name}`,
    bytes: 1000,
    database: 'neo4j',
    databaseId: '7dcb1d0c-4374-4062-b46b-1c6ab9a2be41',
    time: new Date(`${time!.length === 10 ? `${time}T00` : time}:00:00Z`),
    full: kind === 'F',
    compressed: true,
    recovered: false,
    lowestTransaction: isEmpty ? 0n : BigInt(low!),
    highestTransaction: isEmpty ? 0n : BigInt(high!),
    storeIdHash: 1,
    storeKey: '1:2:record:aligned',
    container: 'BZV2',
    indexed: true,
    highestChecksum: Number(high),
    ...(kind === 'F' ? {} : { parent: { appendIndex: mark, checksum: Number(mark) } }),
    ...more,
  };
}

function folder(
  files: Record<string, string | [string, Partial<ArtifactSummary>]>,
): Record<string, ArtifactSummary> {
  return Object.fromEntries(
    Object.entries(files).map(([name, file]) => [
      name,
      typeof file === 'string' ? artifact(name, file) : artifact(name, ...file),
    ]),
  );
}

const namesOf = (artifacts: readonly ArtifactSummary[]): string[] =>
  artifacts.map(({ path }) => basename(path));
const keptNames = (plan: RetentionPlan): string[] => namesOf(plan.kept.map((kept) => kept.artifact)).sort();
const reasonsOf = (plan: RetentionPlan, name: string): readonly string[] =>
  plan.kept.find((kept) => basename(kept.artifact.path) === name)?.reasons ?? [];

function plan(
  files: Parameters<typeof folder>[0],
  policy: RetentionPolicy,
  options: RetentionOptions = {},
): RetentionPlan {
  const result = planRetention(Object.values(folder(files)), policy, NOW, options);
  const all = [...keptNames(result), ...namesOf(result.removed)].sort();
  assert.deepEqual(all, Object.keys(files).sort(), 'each artifact is in exactly one list');
  for (const { reasons } of result.kept) assert.ok(reasons.length > 0);
  return result;
}

describe('ages', () => {
  const age = (years: number, months: number, days: number, hours: number) => ({
    years,
    months,
    days,
    hours,
  });
  const CASES: [string, ReturnType<typeof age>][] = [
    ['30d', age(0, 0, 30, 0)],
    ['12h', age(0, 0, 0, 12)],
    ['2w', age(0, 0, 14, 0)],
    ['6m', age(0, 6, 0, 0)],
    ['1y5m7d2h', age(1, 5, 7, 2)],
    ['2h1w3d', age(0, 0, 10, 2)],
  ];
  for (const [text, expected] of CASES) test(text, () => assert.deepEqual(parseAge(text), expected));
  for (const text of [
    '',
    '30',
    'd',
    '0d',
    '-1d',
    '1.5d',
    '1d1d',
    '1d ',
    '1D',
    '99999999d',
    '1000001d',
    '1s',
  ]) {
    test(`'${text}' is none`, () => assert.throws(() => parseAge(text), failure('GK_USAGE')));
  }
});

describe('policies that are refused', () => {
  const CASES: RetentionPolicy[] = [
    {},
    { last: 0, daily: 0 },
    { last: -1 },
    { last: -1, daily: 1 },
    { daily: 1.5 },
    { daily: Number.NaN },
    { last: 1_000_001 },
  ];
  for (const policy of CASES) {
    test(JSON.stringify(policy), () => {
      assert.throws(() => planRetention([], policy, NOW), failure('GK_USAGE'));
    });
  }
});

describe('rules', () => {
  const DAYS = {
    a: 'F 1-1 @2024-12-29', // Sunday, week 52 of 2024
    b: 'F 1-2 @2024-12-30', // Monday, week 1 of 2025
    c: 'F 1-3 @2025-01-05', // Sunday, week 1 of 2025
    d: 'F 1-4 @2025-01-06T08',
    e: 'F 1-5 @2025-01-06T09',
    f: 'F 1-6 @2025-02-28',
    g: 'F 1-7 @2025-03-31',
  } as const;
  const CASES: [RetentionPolicy, string][] = [
    [{ last: 1 }, 'g'],
    [{ last: 3 }, 'efg'],
    [{ last: 99 }, 'abcdefg'],
    [{ hourly: 4 }, 'defg'],
    [{ daily: 3 }, 'efg'],
    [{ weekly: 3 }, 'efg'],
    [{ weekly: 4 }, 'cefg'],
    [{ weekly: 5 }, 'acefg'],
    [{ monthly: 3 }, 'efg'],
    [{ monthly: 4 }, 'befg'],
    [{ yearly: 2 }, 'bg'],
    [{ last: 1, yearly: 2 }, 'bg'],
    [{ within: parseAge('31d') }, 'fg'],
    [{ within: parseAge('30d') }, 'g'],
    // The 31st less a month is the last of February, not the 3rd of March.
    [{ within: parseAge('1m') }, 'fg'],
    [{ within: parseAge('2m3w4d') }, 'defg'],
    [{ within: parseAge('1000000y') }, 'abcdefg'],
  ];
  for (const [policy, expected] of CASES) {
    test(`${JSON.stringify(policy)} keeps ${expected}`, () => {
      assert.equal(keptNames(plan(DAYS, policy)).join(''), expected);
    });
  }

  test('reasons name the rule and the period', () => {
    const result = plan(DAYS, { last: 1, hourly: 1, daily: 1, weekly: 4, monthly: 1, yearly: 1 });
    const reasons = ['last 1', 'hourly 2025-03-31T00', 'daily 2025-03-31', 'weekly 2025-W14'];
    const more = ['monthly 2025-03', 'yearly 2025', 'newest complete chain'];
    assert.deepEqual(reasonsOf(result, 'g'), [...reasons, ...more]);
    assert.deepEqual(reasonsOf(result, 'c'), ['weekly 2025-W01']);
  });

  test('an age counts from the newest artifact, so that time alone removes nothing', () => {
    const old = { a: 'F 1-1 @2020-01-01', b: 'F 1-2 @2020-01-20', c: 'F 1-3 @2020-01-30' };
    assert.deepEqual(keptNames(plan(old, { within: parseAge('12d') })), ['b', 'c']);
  });

  test('the stores that a database had in turn share one calendar', () => {
    const replaced = { databaseId: 'another', storeKey: '9:9:record:aligned' };
    const files = {
      a: 'F 1-10 @2026-11-01',
      b: 'D 11-20 @2026-11-02',
      c: ['F 1-5 @2026-11-03', replaced] as [string, Partial<ArtifactSummary>],
      d: ['D 6-9 @2026-11-04', replaced] as [string, Partial<ArtifactSummary>],
    };
    assert.deepEqual(keptNames(plan(files, { last: 2 })), ['c', 'd']);
    assert.deepEqual(keptNames(plan(files, { last: 3 })), ['a', 'b', 'c', 'd']);
  });
});

describe('chains', () => {
  const CHAIN = {
    f1: 'F 1-10 @2026-11-01',
    d2: 'D 11-20 @2026-11-02',
    d3: 'D 21-30 @2026-11-03',
    f4: 'F 1-40 @2026-11-04',
    d5: 'D 41-50 @2026-11-05',
  } as const;

  test('what a kept differential is built on stays', () => {
    const result = plan(CHAIN, { daily: 3 });
    assert.deepEqual(keptNames(result), ['d2', 'd3', 'd5', 'f1', 'f4']);
    assert.deepEqual(reasonsOf(result, 'f1'), ['needed by d3']);
    assert.deepEqual(reasonsOf(result, 'd2'), ['needed by d3']);
  });

  test('dependents are deleted first', () => {
    const result = plan(CHAIN, { last: 1 });
    assert.deepEqual(namesOf(result.removed), ['d3', 'd2', 'f1']);
  });

  test('the newest complete chain stays, although every rule falls on something else', () => {
    const files = { ...CHAIN, o6: 'D 61-70 @2026-11-06', o7: 'D 71-80 @2026-11-07' };
    const result = plan(files, { last: 1 });
    assert.deepEqual(reasonsOf(result, 'd5'), ['last 1', 'newest complete chain']);
    assert.deepEqual(namesOf(result.orphans).sort(), ['o6', 'o7']);
  });

  test('of two ways to a point, the one that adds less', () => {
    const files = {
      ...CHAIN,
      copy: 'D 11-20 @2026-11-02T01',
      long1: 'D 11-15 @2026-11-02T02',
      long2: 'D 16-20 @2026-11-02T03',
    };
    const result = plan(files, { daily: 3 });
    const middle = keptNames(result).filter((name) => /d2|copy|long/.test(name));
    assert.equal(middle.length, 1);
    assert.doesNotMatch(middle[0]!, /long/);
    const within = plan({ ...files, long2: 'D 16-20 @2026-11-02T23' }, { daily: 4 });
    assert.deepEqual(
      keptNames(within).filter((name) => /d2|copy|long/.test(name)),
      ['long1', 'long2'],
    );
  });
});

test('what another store ended with is followed by nothing, whatever its numbers', () => {
  for (const other of [{ storeKey: '9:9:record:aligned' }, { databaseId: 'another' }]) {
    const files: Parameters<typeof folder>[0] = {
      f1: 'F 1-10 @2026-11-01',
      o2: ['D 11-20 @2026-11-02', other],
      o3: ['D 5-30 @2026-11-03', other],
      f4: 'F 1-40 @2026-11-04',
    };
    const result = plan(files, { last: 1 }, { isProven: () => true });
    assert.deepEqual(namesOf(result.orphans).sort(), ['o2', 'o3']);
    assert.deepEqual(namesOf(result.removed), ['f1']);
  }
});

test('what is kept anyway costs nothing', () => {
  const files = { f1: 'F 1-10 @2026-11-01', again: 'F 1-10 @2026-11-02T01', d2: 'D 11-20 @2026-11-02T02' };
  assert.deepEqual(keptNames(plan(files, { daily: 2 })), ['d2', 'f1']);
});

describe('overlaps', () => {
  // As in the manual: the differential goes on past a full one that was taken in between.
  const OVERLAP = {
    f1: 'F 1-10 @2026-11-01',
    d2: 'D 11-20 @2026-11-02',
    f3: 'F 1-40 @2026-11-03',
    d4: 'D 21-50 @2026-11-04',
  } as const;

  test('the exact chain stays', () => {
    const result = plan(OVERLAP, { last: 2 });
    assert.deepEqual(keptNames(result), ['d2', 'd4', 'f1', 'f3']);
  });

  test('a joint that was proven is as good as an exact one', () => {
    const result = plan(OVERLAP, { last: 2 }, { isProven: () => true });
    assert.deepEqual(keptNames(result), ['d4', 'f3']);
    assert.deepEqual(namesOf(result.removed), ['d2', 'f1']);
  });

  test('without an exact chain the overlapping one stays, and takes no place of a sure one', () => {
    const { f3, d4, f1 } = OVERLAP;
    const result = plan({ f1, f3, d4 }, { last: 1 });
    assert.deepEqual(reasonsOf(result, 'd4'), ['last 1']);
    assert.deepEqual(reasonsOf(result, 'f3'), ['last 1', 'newest complete chain', 'needed by d4']);
    assert.deepEqual(namesOf(result.removed), ['f1']);
  });

  test('the full one inside goes after the differential, whatever their times', () => {
    const later = { ...OVERLAP, f3: 'F 1-40 @2026-11-04T12', f5: 'F 1-60 @2026-11-05' };
    const order = namesOf(plan(later, { last: 1 }).removed);
    assert.ok(order.indexOf('d4') < order.indexOf('f3'), order.join());
  });

  test('what an overlap leads to is no way for an exact chain, although it is kept', () => {
    const files = {
      f1: 'F 1-10 @2026-11-01',
      d2: 'D 11-20 @2026-11-02',
      f3: 'F 1-18 @2026-11-03',
      x4: 'D 15-20 @2026-11-04',
      d5: 'D 21-30 @2026-11-05',
    };
    assert.deepEqual(keptNames(plan(files, { last: 2 })), ['d2', 'd5', 'f1', 'f3', 'x4']);
  });

  test('a full one of another tool in the range hides none of ours', () => {
    const foreign: [string, Partial<ArtifactSummary>] = ['F 1-30 @2026-11-03', { indexed: false }];
    const { highestChecksum: _checksum, ...unknown } = artifact('x', foreign[0], foreign[1]);
    const { f3, d4 } = folder({ f3: OVERLAP.f3, d4: OVERLAP.d4 });
    const result = planRetention([unknown, f3!, d4!], { last: 1 }, NOW);
    assert.deepEqual(keptNames(result), ['d4', 'f3', 'x']);
    assert.deepEqual(result.orphans, []);
  });
});

describe('what no policy judges', () => {
  const BASE = { f1: 'F 1-10 @2026-11-01', f2: 'F 1-20 @2026-11-02' } as const;

  test('artifacts of other tools stay and are not counted', () => {
    const result = plan({ ...BASE, x: ['F 1-30 @2026-11-03', { indexed: false }] }, { last: 1 });
    assert.deepEqual(keptNames(result), ['f2', 'x']);
    assert.deepEqual(reasonsOf(result, 'x'), ['written by another tool']);
  });

  test('a time in the future or none at all: kept with its chain, and not counted', () => {
    const files = { ...BASE, x: 'D 11-15 @2027-01-01' };
    assert.deepEqual(keptNames(plan(files, { last: 1 })), ['f1', 'f2', 'x']);
    const result = planRetention(
      [...Object.values(folder(BASE)), { ...artifact('y', 'D 11-15 @2026-11-03'), time: undefined }],
      { last: 1 },
      NOW,
    );
    assert.deepEqual(keptNames(result), ['f1', 'f2', 'y']);
    assert.deepEqual(reasonsOf(result, 'y'), ['its time is not known']);
  });

  test('orphans go only on request, dependents first', () => {
    const files = { ...BASE, o1: 'D 31-40 @2026-11-03', o2: 'D 41-50 @2026-11-04', e: 'E 50-50 @2026-11-05' };
    assert.deepEqual(keptNames(plan(files, { last: 1 })), ['e', 'f2', 'o1', 'o2']);
    const result = plan(files, { last: 1 }, { removeOrphans: true });
    assert.deepEqual(keptNames(result), ['f2']);
    const order = namesOf(result.removed).filter((name) => name !== 'f1');
    assert.deepEqual(order, ['e', 'o2', 'o1']);
  });

  test('numbers that make a circle end nothing and keep nothing else', () => {
    const ring = (name: string, mark: bigint, high: string) => ({
      ...artifact(name, `D ${high}-${high} @2026-11-03`),
      parent: { appendIndex: mark, checksum: Number(mark) },
    });
    const files = [...Object.values(folder(BASE)), ring('r1', 60n, '70'), ring('r2', 70n, '60')];
    const result = planRetention(files, { last: 1 }, NOW, { removeOrphans: true });
    assert.deepEqual(namesOf(result.removed).sort(), ['f1', 'r1', 'r2']);
  });
});

describe('empty differentials', () => {
  const FILES = {
    f1: 'F 1-10 @2026-11-01',
    e1: 'E 10-10 @2026-11-01T01',
    e2: 'E 10-10 @2026-11-01T02',
    d2: 'D 11-20 @2026-11-02',
    e3: 'E 20-20 @2026-11-02T01',
    e4: 'E 20-20 @2026-11-02T02',
    f5: 'F 1-30 @2026-11-03',
  } as const;

  test('of each kept artifact the newest one stays, of a chosen point as of what is only needed', () => {
    const result = plan(FILES, { last: 2 });
    assert.deepEqual(keptNames(result), ['d2', 'e2', 'e4', 'f1', 'f5']);
    assert.deepEqual(reasonsOf(result, 'e2'), ['follows f1']);
    assert.deepEqual(namesOf(result.removed).sort(), ['e1', 'e3']);
  });

  test('a day of an idle server is one file', () => {
    const files: Parameters<typeof folder>[0] = { f1: FILES.f1 };
    for (let hour = 10; hour < 24; hour += 1) files[`e${hour}`] = `E 10-10 @2026-11-01T${hour}`;
    assert.deepEqual(keptNames(plan(files, { within: parseAge('1y') })), ['e23', 'f1']);
  });

  test('two artifacts that end with one transaction share one', () => {
    const files = { ...FILES, f6: 'F 1-20 @2026-11-04' };
    const result = plan(files, { last: 3 });
    assert.deepEqual(
      keptNames(result).filter((name) => name.startsWith('e')),
      ['e2', 'e4'],
    );
  });

  test('they go with what they follow, and before it', () => {
    const order = namesOf(plan(FILES, { last: 1 }).removed);
    assert.deepEqual(order.slice(0, 4).sort(), ['e1', 'e2', 'e3', 'e4']);
    assert.deepEqual(order.slice(-2), ['d2', 'f1']);
  });

  test('they are no points', () => {
    assert.deepEqual(keptNames(plan({ f1: FILES.f1, e1: FILES.e1, f5: FILES.f5 }, { daily: 1 })), ['f5']);
  });
});

test('a folder with tens of thousands of differentials', () => {
  const files: ArtifactSummary[] = [];
  for (let index = 0; index < 20_000; index += 1) {
    const time = new Date(NOW.getTime() - (20_000 - index) * 900_000);
    const kind = index % 672 === 0 ? `F 1-${index + 1}` : `D ${index + 1}-${index + 1}`;
    files.push({ ...artifact(`a${index}`, `${kind} @2026-01-01`), time });
  }
  const { kept, removed } = planRetention(files, { within: parseAge('30d'), monthly: 12 }, NOW);
  assert.equal(kept.length + removed.length, files.length);
  assert.ok(kept.length < 12 * 672);
});
