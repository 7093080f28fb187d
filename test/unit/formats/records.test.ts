import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { FormatError } from '../../../src/formats/formaterror.ts';
import {
  parseDynamic,
  parsePropertyKey,
  parseSchema,
  parseToken,
} from '../../../src/formats/records/dynamic.ts';
import { NO_ID, parseGroup, parseNode, parseRelationship } from '../../../src/formats/records/graph.ts';
import { parseDynamicLabels, parseLabelField } from '../../../src/formats/records/labels.ts';
import { firstIdOf, pageLayout, parseDynamicHeader } from '../../../src/formats/records/layout.ts';
import { parseProperty, splitWords } from '../../../src/formats/records/property.ts';
import { decodeArray, decodeInlineValue, dynamicReferenceOf } from '../../../src/formats/records/values.ts';
import { readImages, type StoreRecords } from '../../../src/formats/txlog/images.ts';
import { TransactionParser } from '../../../src/formats/txlog/transactions.ts';
import { fixture, LINES, LOG_FIXTURE } from '../../fixtures/lines.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

/** Numbers above 2^32 have high bits in other bytes of the record, which no small store has. */
describe('records with all their bits', () => {
  test('node', () => {
    // header: in use, relationship high 0b101, property high 0b1010
    assert.deepEqual(parseNode(hex('ab 00000001 00000002 00000003 10 01'), 0), {
      inUse: true,
      dense: true,
      firstRelationship: 5 * 2 ** 32 + 1,
      firstProperty: 10 * 2 ** 32 + 2,
      labelField: 0x10 * 2 ** 32 + 3,
    });
    const empty = parseNode(hex('01 ffffffff ffffffff 00000000 00 00'), 0);
    assert.deepEqual([empty.firstRelationship, empty.firstProperty], [NO_ID, NO_ID]);
  });

  test('relationship', () => {
    const typeAndHigh = (0x1234 | (1 << 16) | (2 << 19) | (3 << 22) | (4 << 25) | (5 << 28)) >>> 0;
    const bytes = hex(
      `b7 00000001 00000002 ${typeAndHigh.toString(16).padStart(8, '0')} 00000003 00000004 00000005 00000006 00000007 01`,
    );
    assert.deepEqual(parseRelationship(bytes, 0), {
      inUse: true,
      startNode: 3 * 2 ** 32 + 1,
      endNode: 5 * 2 ** 32 + 2,
      type: 0x1234,
      startPrevious: 4 * 2 ** 32 + 3,
      startNext: 3 * 2 ** 32 + 4,
      endPrevious: 2 * 2 ** 32 + 5,
      endNext: 1 * 2 ** 32 + 6,
      firstProperty: 11 * 2 ** 32 + 7,
      firstInStartChain: true,
      firstInEndChain: false,
    });
  });

  test('group', () => {
    // header: in use, next high 1, outgoing high 2; second: incoming high 3, loop high 4
    assert.deepEqual(parseGroup(hex('23 46 0009 00000001 00000002 00000003 00000004 00000005 06'), 0), {
      inUse: true,
      type: 9,
      nextGroup: 2 ** 32 + 1,
      firstOutgoing: 2 * 2 ** 32 + 2,
      firstIncoming: 3 * 2 ** 32 + 3,
      firstLoop: 4 * 2 ** 32 + 4,
      owningNode: 6 * 2 ** 32 + 5,
    });
  });

  test('property: references, and words in the order of the record', () => {
    const words = '0000000015000007 0000000011000008 0000000000000000 ffffffffffffffff';
    const record = parseProperty(hex(`21 00000001 00000002 ${words}`), 0);
    assert.deepEqual([record.inUse, record.previous, record.next], [true, 2 * 2 ** 32 + 1, 2 ** 32 + 2]);
    assert.deepEqual(
      record.values.map(({ keyId, type }) => [keyId, type]),
      [
        [7, 5],
        [8, 1],
      ],
    );
    assert.deepEqual(record.values.map(decodeInlineValue), [1, true]);
    assert.equal(parseProperty(Buffer.alloc(41), 0).inUse, false);
  });

  test('a value that overruns its record is refused', () => {
    const duration = (6n << 28n) | (14n << 24n);
    assert.throws(() => splitWords([duration, 0n]), FormatError);
    assert.throws(() => splitWords([(31n << 28n) | (11n << 24n)]), /codec 31/);
    assert.throws(() => splitWords([(15n << 28n) | (14n << 24n)]), /kind 15/);
  });

  test('labels inline, up to seven', () => {
    const width = 5n;
    const field = Number(
      (7n << 36n) |
        [1n, 2n, 3n, 4n, 5n, 6n, 31n].reduce((bits, id, at) => bits | (id << (BigInt(at) * width)), 0n),
    );
    assert.deepEqual(parseLabelField(field), { labelIds: [1, 2, 3, 4, 5, 6, 31] });
    assert.deepEqual(parseLabelField(0), { labelIds: [] });
    assert.deepEqual(parseLabelField(2 ** 39 + 77), { dynamicId: 77 });
    assert.deepEqual(parseDynamicLabels([9n, 1n, 2n], 9), [1, 2]);
    assert.throws(() => parseDynamicLabels([8n, 1n], 9), /belong to node 8/);
    assert.throws(() => parseDynamicLabels('text', 9), /no array/);
  });
});

describe('dynamic records', () => {
  const body = (length: number): string => 'ab'.repeat(length);

  test('the last piece', () => {
    const record = parseDynamic(hex(`90 000003 ffffffff ${body(56)}`), 0, 64);
    assert.deepEqual(record, { inUse: true, isStart: false, next: NO_ID, data: hex('ababab') });
  });

  test('a full piece with another one behind it, by 36 bits', () => {
    const { isStart, next, data } = parseDynamic(hex(`13 000038 00000005 ${body(56)}`), 0, 64);
    assert.deepEqual([isStart, next, data.length], [true, 3 * 2 ** 32 + 5, 56]);
  });

  test('longer than the record, or not full and not the last: refused', () => {
    assert.throws(() => parseDynamic(hex(`10 000039 ffffffff ${body(56)}`), 0, 64), /57 bytes/);
    assert.throws(() => parseDynamic(hex(`10 000003 00000005 ${body(56)}`), 0, 64), /not full/);
  });

  test('one that is not in use has no content', () => {
    const record = parseDynamic(hex(`00 ffffff 00000005 ${body(56)}`), 0, 64);
    assert.deepEqual([record.inUse, record.next, record.data.length], [false, NO_ID, 0]);
  });
});

test('tokens and schema rules', () => {
  assert.deepEqual(parseToken(hex('03 00000007'), 0), { inUse: true, internal: true, nameId: 7 });
  assert.deepEqual(parsePropertyKey(hex('01 00000000 00000007'), 0), {
    inUse: true,
    internal: false,
    nameId: 7,
  });
  assert.deepEqual(parseSchema(hex('03 00000000000009'), 0), { inUse: true, firstProperty: 9 });
  assert.deepEqual(parseSchema(hex('01 00000000000009'), 0), { inUse: true, firstProperty: NO_ID });
});

test('where records lie', () => {
  assert.deepEqual(pageLayout('aligned', 15), { recordBytes: 15, recordsPerPage: 546, pageBytes: 8192 });
  assert.deepEqual(pageLayout('standard', 15), { recordBytes: 15, recordsPerPage: 546, pageBytes: 8190 });
  assert.throws(() => pageLayout('block', 15), /block/);
  assert.deepEqual(
    [firstIdOf('nodes'), firstIdOf('properties'), firstIdOf('strings'), firstIdOf('groups')],
    [0, 0, 1, 1],
  );
  assert.equal(parseDynamicHeader(hex('00000080')), 128);
  assert.equal(parseDynamicHeader(hex('00000000')), undefined);
  assert.throws(() => parseDynamicHeader(hex('7fffffff')), FormatError);
  assert.throws(() => parseDynamicHeader(hex('80000000')), FormatError);
});

describe('values', () => {
  test('where a long string or array lies', () => {
    const word = (type: bigint): bigint => (0x123456789n << 28n) | (type << 24n) | 1n;
    assert.deepEqual(dynamicReferenceOf({ keyId: 1, type: 9, words: [word(9n)] }), {
      store: 'strings',
      firstId: 0x123456789,
    });
    assert.deepEqual(dynamicReferenceOf({ keyId: 1, type: 10, words: [word(10n)] }), {
      store: 'arrays',
      firstId: 0x123456789,
    });
    assert.equal(dynamicReferenceOf({ keyId: 1, type: 5, words: [word(5n)] }), undefined);
  });

  test('small integers keep their sign', () => {
    const inline = (type: bigint, bits: bigint) =>
      decodeInlineValue({
        keyId: 0,
        type: Number(type),
        words: [(type << 24n) | (BigInt.asUintN(36, bits) << 28n)],
      });
    assert.equal(inline(2n, -3n), -3);
    assert.equal(inline(3n, -300n), -300);
    assert.equal(inline(5n, -70_000n), -70_000);
    assert.equal(inline(4n, 0xe4n), 'ä');
    assert.equal(inline(7n, 0x3fc00000n), 1.5);
  });

  test('arrays that lie about their lengths are refused', () => {
    assert.throws(() => decodeArray(hex('09 7fffffff')), FormatError);
    assert.throws(() => decodeArray(hex('09 00000001 00000009 61')), FormatError);
    assert.throws(() => decodeArray(hex('06 08')), FormatError);
    assert.throws(() => decodeArray(hex('06 08 00 01')), FormatError);
    assert.throws(() => decodeArray(hex('06 08 41 01')), FormatError);
  });

  test('whatever the bytes are, decoding ends with a value or says what is wrong', () => {
    const mayRefuse = (work: () => unknown): void => {
      try {
        work();
      } catch (error) {
        assert.ok(error instanceof FormatError, String(error));
      }
    };
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) =>
        mayRefuse(() => decodeArray(Buffer.from(bytes))),
      ),
      { numRuns: 2000 },
    );
    fc.assert(
      fc.property(
        fc.array(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { minLength: 4, maxLength: 4 }),
        (words) => mayRefuse(() => splitWords(words).map(decodeInlineValue)),
      ),
      { numRuns: 5000 },
    );
  });
});

/** Commands as the server wrote them. */
function commandsOf(log: Buffer): Buffer[] {
  const commands: Buffer[] = [];
  const parser = new TransactionParser(
    128,
    () => {},
    (command) => commands.push(Buffer.from(command)),
  );
  assert.notEqual(parser.parse(log.subarray(128)).status, 'torn');
  return commands;
}

describe('images', () => {
  for (const line of LINES) {
    test(`every command of a log of ${line} is read to its last byte`, () => {
      const stores = new Set<keyof StoreRecords>();
      const codes = new Set<number>();
      for (const command of commandsOf(fixture(line, LOG_FIXTURE))) {
        codes.add(command[0]!);
        readImages(command, (store) => stores.add(store));
        // One byte less, and something is missing: so every byte was read. Maps of schema rules are passed over.
        if (command[0] === 18 || [16, 17, 19, 20].includes(command[0]!)) continue;
        assert.throws(() => readImages(command.subarray(0, -1), () => {}), FormatError);
      }
      assert.ok(codes.size > 12, [...codes].join());
      // All but that of arrays, of which this log has none; the engine's fixtures have some.
      assert.equal(stores.size, 13, [...stores].join());
    });
  }

  test('whatever a command holds, reading it ends', () => {
    const commands = commandsOf(fixture('2026.08', LOG_FIXTURE));
    fc.assert(
      fc.property(
        fc.constantFrom(...commands),
        fc.array(fc.record({ at: fc.nat(), byte: fc.nat(255) }), { minLength: 1, maxLength: 8 }),
        (command, changes) => {
          const bytes = Buffer.from(command);
          for (const { at, byte } of changes) bytes[at % bytes.length] = byte;
          try {
            readImages(bytes, () => {});
          } catch (error) {
            assert.ok(error instanceof FormatError, String(error));
          }
        },
      ),
      { numRuns: 5000 },
    );
  });
});
