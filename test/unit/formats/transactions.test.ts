import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { crc32c } from '@node-rs/crc32';
import fc from 'fast-check';
import { LOG_HEADER_BYTES } from '../../../src/formats/txlog/header.ts';
import { type LogTransaction, TransactionParser } from '../../../src/formats/txlog/transactions.ts';
import { fixture, LINES, LOG_FIXTURE, transactionsOf } from '../../fixtures/lines.ts';
import { randomNumbers } from '../../fixtures/random.ts';

interface Reading {
  readonly transactions: LogTransaction[];
  readonly status: string;
  readonly insideTransaction: boolean;
  readonly offsetBytes: number;
}

/** Reads a log in windows of the given sizes (over and over), larger ones only where a command needs it. */
function readInPieces(log: Buffer, sizes: readonly number[]): Reading {
  const transactions: LogTransaction[] = [];
  const parser = new TransactionParser(LOG_HEADER_BYTES, (transaction) => transactions.push(transaction));
  let size = sizes[0]!;
  for (let piece = 0; ; piece++) {
    const from = parser.offsetBytes;
    const step = parser.parse(log.subarray(from, from + size));
    const isLast = from + size >= log.length;
    if (step.status !== 'more' || isLast) {
      const { offsetBytes, insideTransaction } = parser;
      return { transactions, status: step.status, offsetBytes, insideTransaction };
    }
    assert.equal(parser.offsetBytes, from + step.consumedBytes);
    size = step.consumedBytes === 0 ? size * 2 : sizes[piece % sizes.length]!;
  }
}

const readWhole = (log: Buffer): Reading => readInPieces(log, [log.length]);

for (const line of LINES) {
  describe(`transactions of ${line}`, () => {
    const log = fixture(line, LOG_FIXTURE);
    const all = transactionsOf(log);

    test('all of the fixture: ids and places follow each other', () => {
      assert.equal(all.length, 40);
      for (const [number, transaction] of all.entries()) {
        assert.equal(transaction.appendIndex, BigInt(number + 2));
        assert.equal(transaction.transactionId, transaction.appendIndex);
        assert.equal(transaction.startBytes, all[number - 1]?.endBytes ?? LOG_HEADER_BYTES);
        assert.equal(transaction.kernelVersion, line === '5.26' ? 20 : 32);
        assert.ok(transaction.commitTimeMillis > 1_700_000_000_000n);
      }
      assert.equal(all.at(-1)!.endBytes, log.length);
    });

    test('5.26 names the transaction before each, 2026.08 does not', () => {
      for (const [number, transaction] of all.entries()) {
        const previous = number === 0 ? 0xdead5eed : all[number - 1]!.checksum;
        assert.equal(transaction.previousChecksum, line === '5.26' ? previous : undefined);
      }
    });

    test('in pieces of any size they are the same', () => {
      fc.assert(
        fc.property(fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 20 }), (sizes) => {
          const reading = readInPieces(log, sizes);
          assert.deepEqual(reading.transactions, all);
          assert.equal(reading.offsetBytes, log.length);
        }),
        { numRuns: 60 },
      );
      assert.deepEqual(readInPieces(log, [1]).transactions, all);
    });

    test('zeros after the last one are the end; nothing at all asks for more', () => {
      const ended = readWhole(Buffer.concat([log, Buffer.alloc(1000)]));
      assert.equal(ended.status, 'end');
      assert.equal(ended.offsetBytes, log.length);
      assert.deepEqual(ended.transactions, all);
      assert.equal(readWhole(log).status, 'more');
      assert.equal(readWhole(log).insideTransaction, false);
    });

    test('cut at every byte of the last transaction: exactly those before it', () => {
      const last = all.at(-1)!;
      for (let cut = last.startBytes; cut < last.endBytes; cut++) {
        const short = readWhole(log.subarray(0, cut));
        assert.deepEqual(short.transactions, all.slice(0, -1), `cut at ${cut}`);
        assert.equal(short.status, 'more');
        const zeroed = Buffer.concat([log.subarray(0, cut), Buffer.alloc(last.endBytes - cut + 100)]);
        if (zeroed.subarray(0, log.length).equals(log)) continue;
        assert.deepEqual(readWhole(zeroed).transactions, all.slice(0, -1), `zeros from ${cut}`);
        assert.equal(
          readWhole(zeroed).status,
          cut < last.startBytes + 1 ? 'end' : 'torn',
          `zeros from ${cut}`,
        );
      }
    });

    test('a flipped bit is never read over: the transactions before it, and none after', () => {
      const next = randomNumbers(20261121);
      const last = all.at(-1)!;
      const places = Array.from(
        { length: 1500 },
        () => LOG_HEADER_BYTES + next(log.length - LOG_HEADER_BYTES),
      );
      for (let place = last.startBytes; place < last.endBytes; place++) places.push(place);
      for (const place of places) {
        const damaged = Buffer.from(log);
        const bit = next(8);
        damaged[place]! ^= 1 << bit;
        const reading = readWhole(damaged);
        const before = all.filter((transaction) => transaction.endBytes <= place);
        const where = `bit ${bit} of byte ${place}`;
        assert.deepEqual(reading.transactions, before, where);
        // A length that grew may ask for bytes behind the end; a version byte that became zero looks like an end.
        if (reading.status === 'more') assert.equal(reading.insideTransaction, true, where);
        else if (reading.status === 'end') assert.equal(damaged[reading.offsetBytes], 0, where);
        else assert.equal(reading.status, 'torn', where);
      }
    });
  });
}

/** A transaction without commands, in the layout of a kernel version. */
function emptyTransaction(
  kernelVersion: number,
  options: { additional?: number; appendIndex?: bigint } = {},
): Buffer {
  const additional = options.additional ?? 0;
  const fields: Buffer[] = [Buffer.of(kernelVersion, 1), int64(1n), int64(6n)];
  if (kernelVersion < 22) fields.push(int32(0x1234));
  if (kernelVersion >= 17) fields.push(int64(options.appendIndex ?? 7n));
  if (kernelVersion >= 30) fields.push(int64(-1n));
  fields.push(int32(additional), Buffer.alloc(Math.max(0, Math.min(additional, 100)), 0xee));
  fields.push(Buffer.of(kernelVersion, 5), int64(8n), int64(99n));
  const body = Buffer.concat(fields);
  return Buffer.concat([body, int32(crc32c(body) | 0)]);
}

function int64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(value);
  return bytes;
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}

function parse(content: Buffer): Reading {
  return readWhole(Buffer.concat([Buffer.alloc(LOG_HEADER_BYTES), content]));
}

describe('layouts of the start entry', () => {
  for (const [kernelVersion, expected] of [
    [5, { appendIndex: 8n, previousChecksum: 0x1234 }],
    [16, { appendIndex: 8n, previousChecksum: 0x1234 }],
    [17, { appendIndex: 7n, previousChecksum: 0x1234 }],
    [21, { appendIndex: 7n, previousChecksum: 0x1234 }],
    [22, { appendIndex: 7n, previousChecksum: undefined }],
    [29, { appendIndex: 7n, previousChecksum: undefined }],
    [30, { appendIndex: 7n, previousChecksum: undefined }],
    [32, { appendIndex: 7n, previousChecksum: undefined }],
  ] as const) {
    test(`kernel version ${kernelVersion}`, () => {
      const bytes = emptyTransaction(kernelVersion);
      const { transactions } = parse(bytes);
      assert.equal(transactions.length, 1);
      const { appendIndex, previousChecksum, transactionId, commitTimeMillis, endBytes } = transactions[0]!;
      assert.deepEqual({ appendIndex, previousChecksum }, expected);
      assert.equal(transactionId, 8n);
      assert.equal(commitTimeMillis, 99n);
      assert.equal(endBytes, LOG_HEADER_BYTES + bytes.length);
    });
  }

  test('an additional header has at most 8 bytes', () => {
    for (let additional = 0; additional <= 8; additional++) {
      assert.equal(parse(emptyTransaction(20, { additional })).transactions.length, 1, `${additional} bytes`);
    }
    for (const additional of [9, 100, 0x7fffffff, -1]) {
      const reading = parse(emptyTransaction(20, { additional }));
      assert.equal(reading.status, 'torn', `${additional} bytes`);
      assert.equal(reading.transactions.length, 0);
    }
  });
});

describe('entries where none may be', () => {
  const start = emptyTransaction(20).subarray(0, 34);
  const commit = emptyTransaction(20).subarray(34);
  const nodeCount = Buffer.concat([Buffer.of(20, 3, 17), Buffer.alloc(12)]);
  const otherNodeCount = Buffer.concat([Buffer.of(21, 3, 17), Buffer.alloc(12)]);
  /** Start, command and commit as a transaction that is good but for what the entries are. */
  const withChecksum = (...entries: [Buffer, Buffer, Buffer]): Buffer => {
    const body = Buffer.concat(entries).subarray(0, -4);
    return Buffer.concat([body, int32(crc32c(body) | 0)]);
  };
  for (const [what, bytes] of [
    ['a commit without a start', commit],
    ['a command without a start', nodeCount],
    ['a start in a transaction', Buffer.concat([start, start])],
    ['an entry of another type', Buffer.concat([start, Buffer.of(20, 9)])],
    ['a rollback', Buffer.concat([Buffer.of(20, 12), Buffer.alloc(28)])],
    ['an unknown kernel version', emptyTransaction(33)],
    ['a kernel version before 5.0', emptyTransaction(4)],
    ['another kernel version inside', withChecksum(start, otherNodeCount, commit)],
    ['an unknown command', Buffer.concat([start, Buffer.of(20, 3, 28), Buffer.alloc(40)])],
    ['zeros inside', Buffer.concat([start, nodeCount, Buffer.alloc(40)])],
  ] as const) {
    test(what, () => {
      const reading = parse(bytes);
      assert.equal(reading.status, 'torn');
      assert.equal(reading.transactions.length, 0);
    });
  }

  test('with a command between start and commit it is whole: the cases above fail for their reason', () => {
    assert.equal(parse(withChecksum(start, nodeCount, commit)).transactions.length, 1);
  });

  test('noise neither throws nor reads a transaction', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 3000 }), fc.boolean(), (noise, inside) => {
        const content = Buffer.concat([inside ? start : Buffer.alloc(0), Buffer.from(noise)]);
        assert.equal(parse(content).transactions.length, 0);
      }),
      { numRuns: 500 },
    );
  });
});
