import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { LogEntryError, NEED_MORE, skipCommand } from '../../../src/formats/txlog/commands.ts';
import { fixture, LINES, type Line, LOG_FIXTURE, transactionsOf } from '../../fixtures/lines.ts';

const KNOWN = [1, 2, 3, 4, 5, 8, 9, 16, 17, 18, 19, 20, 22, 23, 24, 25, 26, 27];
/** A kernel upgrade writes it; the fixtures have none. */
const META_DATA = 19;

interface Command {
  readonly code: number;
  /** From the code byte to the last byte of the payload. */
  readonly bytes: Buffer;
}

/** Every command of a fixture, each ended by the header of the entry that follows it. */
function commandsOf(line: Line): Command[] {
  const log = fixture(line, LOG_FIXTURE);
  const commands: Command[] = [];
  for (const { startBytes, endBytes } of transactionsOf(log)) {
    let offset = startBytes + (line === '5.26' ? 34 : 38);
    while (log[offset + 1] === 3) {
      const end = skipCommand(log, offset + 2, log.length);
      assert.ok(end > offset + 2 && end <= endBytes);
      assert.equal(log[end], log[startBytes], 'the next entry begins with the same kernel version');
      commands.push({ code: log[offset + 2]!, bytes: log.subarray(offset + 2, end) });
      offset = end;
    }
    assert.equal(log[offset + 1], 5, 'after the last command comes the commit');
    assert.equal(offset + 22, endBytes);
  }
  return commands;
}

for (const line of LINES) {
  describe(`commands of ${line}`, () => {
    const commands = commandsOf(line);

    test('the fixture holds every kind that Community writes', () => {
      const kinds = [...new Set(commands.map((command) => command.code))].sort((left, right) => left - right);
      assert.deepEqual(
        kinds,
        KNOWN.filter((code) => code !== META_DATA),
      );
    });

    test('cut at any byte, each command asks for more', () => {
      const seen = new Map<number, number>();
      for (const { code, bytes } of commands) {
        const count = seen.get(code) ?? 0;
        seen.set(code, count + 1);
        if (count >= 5) continue;
        for (let end = 0; end < bytes.length; end++) {
          assert.equal(skipCommand(bytes, 0, end), NEED_MORE, `command ${code} cut at ${end}`);
        }
        assert.equal(skipCommand(bytes, 0, bytes.length), bytes.length);
      }
    });

    test('bytes behind a command do not change where it ends', () => {
      for (const { bytes } of commands) {
        const followed = Buffer.concat([Buffer.alloc(3, 0xff), bytes, Buffer.alloc(50, 0xff)]);
        assert.equal(skipCommand(followed, 3, followed.length), 3 + bytes.length);
      }
    });
  });
}

test('a kernel upgrade has a fixed size', () => {
  const bytes = Buffer.concat([Buffer.of(META_DATA), Buffer.alloc(26, 1)]);
  assert.equal(skipCommand(bytes, 0, bytes.length), 27);
  assert.equal(skipCommand(bytes, 0, 26), NEED_MORE);
});

test('every code that Community does not write is refused', () => {
  for (let code = 0; code < 256; code++) {
    if (KNOWN.includes(code)) continue;
    assert.throws(() => skipCommand(Buffer.of(code, 0, 0, 0), 0, 4), LogEntryError, `command ${code}`);
  }
});

describe('records with a secondary unit are 8 bytes longer', () => {
  for (const [what, code, flags, bytes] of [
    ['node not in use', 22, 0x08, 1 + 8 + 1 + 8 + 4],
    ['node in use', 22, 0x09, 1 + 8 + 1 + 25 + 8 + 4],
    ['relationship not in use', 26, 0x08, 1 + 8 + 1 + 4 + 8],
    ['relationship in use', 26, 0x09, 1 + 8 + 1 + 61 + 8],
  ] as const) {
    test(what, () => {
      const command = Buffer.alloc(200);
      command[0] = code;
      command[9] = flags;
      assert.equal(skipCommand(command, 0, command.length), bytes);
    });
  }
});

/** `i64 id, u8 hasRule, two records not in use`, then the map of a schema rule. */
function schemaRule(map: Buffer): Buffer {
  return Buffer.concat([Buffer.of(18), Buffer.alloc(8), Buffer.of(1, 0, 0), map]);
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}

function ruleWithValue(...value: Buffer[]): Buffer {
  return schemaRule(Buffer.concat([int32(1), int32(1), Buffer.from('k'), ...value]));
}

describe('schema rules', () => {
  for (const [what, value] of [
    ['true', Buffer.of(0)],
    ['a byte', Buffer.of(3, 9)],
    ['a long', Buffer.concat([Buffer.of(6), Buffer.alloc(8)])],
    ['a double', Buffer.concat([Buffer.of(8), Buffer.alloc(8)])],
    ['a text', Buffer.concat([Buffer.of(9), int32(5), Buffer.from('hello')])],
    ['a char', Buffer.concat([Buffer.of(10), Buffer.alloc(4)])],
    ['booleans', Buffer.concat([Buffer.of(11), int32(3), Buffer.of(2, 1, 0, 1)])],
    ['longs', Buffer.concat([Buffer.of(11), int32(2), Buffer.of(6), Buffer.alloc(16)])],
    ['texts', Buffer.concat([Buffer.of(11), int32(2), Buffer.of(9), int32(1), Buffer.from('a'), int32(0)])],
    ['no longs', Buffer.concat([Buffer.of(11), int32(0), Buffer.of(6)])],
  ] as const) {
    test(`${what} is skipped to its end`, () => {
      const rule = ruleWithValue(value);
      assert.equal(
        skipCommand(Buffer.concat([rule, Buffer.alloc(9, 0xff)]), 0, rule.length + 9),
        rule.length,
      );
      for (let end = 0; end < rule.length; end++) assert.equal(skipCommand(rule, 0, end), NEED_MORE);
    });
  }

  test('a value of an unknown type is refused', () => {
    for (const type of [12, 100, 255]) {
      assert.throws(() => skipCommand(ruleWithValue(Buffer.of(type)), 0, 100), LogEntryError);
    }
  });
});

/** What a damaged log may claim. None of it may take memory or time. */
describe('absurd lengths', () => {
  const manyAre = 0x7fffffff;
  const dynamic = Buffer.concat([Buffer.alloc(12), Buffer.of(1), int32(manyAre), Buffer.alloc(8)]);
  const cases: [string, Buffer, typeof NEED_MORE | 'refused'][] = [
    ['label records without end', Buffer.concat([Buffer.of(22), Buffer.alloc(9), int32(manyAre)]), NEED_MORE],
    [
      'a negative count of label records',
      Buffer.concat([Buffer.of(22), Buffer.alloc(9), int32(-1)]),
      'refused',
    ],
    ['a record of 2 GiB', Buffer.concat([Buffer.of(22), Buffer.alloc(9), int32(1), dynamic]), NEED_MORE],
    [
      'a record of negative length',
      Buffer.concat([
        Buffer.of(22),
        Buffer.alloc(9),
        int32(1),
        Buffer.alloc(12),
        Buffer.of(1),
        int32(-9),
        Buffer.alloc(8),
      ]),
      'refused',
    ],
    [
      'property blocks of an odd size',
      Buffer.concat([Buffer.of(24), Buffer.alloc(8 + 25), Buffer.of(1, 7), Buffer.alloc(20)]),
      'refused',
    ],
    ['a rule with 2^31 keys', schemaRule(int32(manyAre)), NEED_MORE],
    ['a rule of negative size', schemaRule(int32(-5)), 'refused'],
    ['a key of 2 GiB', schemaRule(Buffer.concat([int32(1), int32(manyAre)])), NEED_MORE],
    ['a key of negative length', schemaRule(Buffer.concat([int32(1), int32(-2)])), 'refused'],
    ['an array of 2^31 longs', ruleWithValue(Buffer.of(11), int32(manyAre), Buffer.of(6)), NEED_MORE],
    ['an array of negative length', ruleWithValue(Buffer.of(11), int32(-1), Buffer.of(6)), 'refused'],
    [
      'an array of values without bytes',
      ruleWithValue(Buffer.of(11), int32(manyAre), Buffer.of(0)),
      'refused',
    ],
    [
      'arrays in arrays',
      ruleWithValue(
        Buffer.of(11),
        Buffer.concat(Array.from({ length: 200_000 }, () => Buffer.concat([int32(1), Buffer.of(11)]))),
      ),
      'refused',
    ],
  ];
  for (const [what, bytes, expected] of cases) {
    // Counts from the file must not decide how long it takes: the limit is for a loop that does not end.
    test(what, { timeout: 20_000 }, () => {
      const padded = Buffer.concat([bytes, Buffer.alloc(64)]);
      const skip = (): number => skipCommand(padded, 0, padded.length);
      if (expected === 'refused') assert.throws(skip, LogEntryError);
      else assert.equal(skip(), NEED_MORE);
    });
  }

  test('noise behind any code: an end inside the bytes, a wish for more, or a refusal', () => {
    fc.assert(
      fc.property(fc.constantFrom(...KNOWN), fc.uint8Array({ maxLength: 400 }), (code, noise) => {
        const bytes = Buffer.concat([Buffer.of(code), noise]);
        try {
          const end = skipCommand(bytes, 0, bytes.length);
          assert.ok(end === NEED_MORE || (end > 0 && end <= bytes.length), `end ${end} of ${bytes.length}`);
        } catch (error) {
          assert.ok(error instanceof LogEntryError, String(error));
        }
      }),
      { numRuns: 2000 },
    );
  });
});
