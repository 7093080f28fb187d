import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { ContinuityCheck } from '../../../src/chain/continuity.ts';
import type { StoreId } from '../../../src/formats/storeid.ts';
import { LOG_HEADER_BYTES } from '../../../src/formats/txlog/header.ts';
import type { LogTransaction } from '../../../src/formats/txlog/transactions.ts';
import { type Fence, readFence } from '../../../src/hotcopy/fence.ts';
import { LogPins } from '../../../src/hotcopy/logpins.ts';
import { readTail, type Tail, tailStartOf } from '../../../src/hotcopy/tail.ts';
import { MIB } from '../../../src/limits.ts';
import { fixture, LINES, type Line, LOG_FIXTURE, storeIdOf, transactionsOf } from '../../fixtures/lines.ts';
import { checkpointAfter, type LogFile, logHeader, splitLog, transactionIn } from '../../fixtures/logs.ts';
import { failure, temporaryFolder } from '../../fixtures/workspace.ts';

/** Last transaction of the fixtures. */
const HIGHEST = 41n;

interface Log {
  readonly folder: string;
  readonly files: readonly LogFile[];
  path(version: number): string;
  put(version: number, bytes: Buffer): void;
  /** Pins and reads what is in the folder now. */
  tail(storeId?: StoreId): Promise<Tail>;
}

/** A log folder with the fixture's log, cut after some transactions, and a checkpoint after one of them. */
function makeLog(
  context: TestContext,
  line: Line,
  after: readonly bigint[],
  fenceAt: bigint,
  zeroTail = 0,
): Log {
  const folder = temporaryFolder(context);
  const files = splitLog(line, after, zeroTail);
  const path = (version: number): string => join(folder, `neostore.transaction.db.${version}`);
  for (const file of files) writeFileSync(join(folder, file.name), file.bytes);
  writeFileSync(join(folder, 'checkpoint.0'), checkpointAfter(line, fenceAt, files));
  return {
    folder,
    files,
    path,
    put: (version, bytes) => writeFileSync(path(version), bytes),
    tail: (storeId = storeIdOf(line)) => readTailOf(folder, storeId),
  };
}

async function readTailOf(folder: string, storeId: StoreId, signal?: AbortSignal): Promise<Tail> {
  const fence: Fence = await readFence(folder);
  const pins = new LogPins(folder, fence.checkpoint.position.logVersion);
  await pins.refresh();
  try {
    return await readTail(pins.pinned(), tailStartOf(fence), storeId, signal);
  } finally {
    await pins.close();
  }
}

const shape = (tail: Tail): [bigint, number][] => tail.files.map((file) => [file.version, file.endBytes]);

for (const line of LINES) {
  describe(`tail of ${line}`, () => {
    const all = transactionsOf(fixture(line, LOG_FIXTURE));
    const last = all.at(-1)!;

    test('of one file, from every fence', async (context) => {
      for (const fenceAt of [2n, 3n, 20n, 40n, 41n]) {
        const log = makeLog(context, line, [], fenceAt, 10_000);
        const tail = await log.tail();
        assert.equal(tail.highestAppendIndex, HIGHEST);
        assert.equal(tail.highestChecksum, last.checksum);
        assert.equal(tail.transactions, HIGHEST - fenceAt);
        assert.deepEqual(shape(tail), [[0n, last.endBytes]], 'without its zeros');
      }
    });

    test('of several files, from a fence in any of them', async (context) => {
      for (const fenceAt of [5n, 10n, 15n, 20n, 35n]) {
        const log = makeLog(context, line, [10n, 20n, 30n], fenceAt, 5000);
        const tail = await log.tail();
        assert.equal(tail.highestAppendIndex, HIGHEST);
        assert.equal(tail.transactions, HIGHEST - fenceAt);
        const first = log.files.find((file) => fenceAt <= file.last)!.version;
        const expected = log.files
          .filter((file) => file.version >= first)
          .map((file) => [file.version, file.bytes.length - (file.version === 3n ? 5000 : 0)]);
        assert.deepEqual(shape(tail), expected);
      }
    });

    test('a finished file with zeros behind it is cut: Neo4j would refuse it', async (context) => {
      const log = makeLog(context, line, [20n], 5n);
      const finished = log.files[0]!.bytes;
      log.put(0, Buffer.concat([finished, Buffer.alloc(777)]));
      const tail = await log.tail();
      assert.deepEqual(shape(tail)[0], [0n, finished.length]);
      assert.equal(tail.highestAppendIndex, HIGHEST);
    });

    test('a file that rotation has made and not begun does not count', async (context) => {
      const log = makeLog(context, line, [20n], 5n);
      for (const unbegun of [
        Buffer.alloc(0),
        Buffer.alloc(60),
        Buffer.alloc(LOG_HEADER_BYTES),
        Buffer.alloc(9000),
      ]) {
        log.put(2, unbegun);
        const tail = await log.tail();
        assert.deepEqual(
          shape(tail).map(([version]) => version),
          [0n, 1n],
        );
        assert.equal(tail.highestAppendIndex, HIGHEST);
      }
    });

    test('a file that holds only its header counts', async (context) => {
      const log = makeLog(context, line, [20n], 5n);
      log.put(2, Buffer.concat([logHeader(line, 2n, HIGHEST), Buffer.alloc(3000)]));
      assert.deepEqual(shape(await log.tail())[2], [2n, LOG_HEADER_BYTES]);
    });

    test('torn in its last transaction, it ends before that', async (context) => {
      const log = makeLog(context, line, [20n], 5n);
      const { bytes } = log.files[1]!;
      const second = transactionsOf(bytes);
      const { startBytes, endBytes } = second.at(-1)!;
      for (let cut = startBytes; cut < endBytes - 4; cut += 23) {
        for (const tail of [0, 4000]) {
          log.put(1, Buffer.concat([bytes.subarray(0, cut), Buffer.alloc(tail)]));
          const { highestAppendIndex, highestChecksum, files } = await log.tail();
          assert.equal(highestAppendIndex, HIGHEST - 1n, `cut at ${cut}`);
          assert.equal(highestChecksum, second.at(-2)!.checksum);
          assert.equal(files.at(-1)!.endBytes, startBytes);
        }
      }
    });
  });
}

/** What must fail, and not be read as a log that simply ends earlier. */
describe('a log that is not whole', { concurrency: true }, () => {
  const line: Line = '5.26';
  const refused: [string, (log: Log) => void, Parameters<typeof failure>[0]][] = [
    ['a file in the middle is gone', (log) => rmSync(log.path(1)), 'GK_SOURCE_MOVED'],
    ['the file of the fence is gone', (log) => rmSync(log.path(0)), 'GK_SOURCE_MOVED'],
    [
      'all files are gone',
      (log) => {
        for (const version of [0, 1, 2]) rmSync(log.path(version));
      },
      'GK_SOURCE_MOVED',
    ],
    [
      'a finished file ends one transaction too early',
      (log) => {
        const { bytes } = log.files[1]!;
        log.put(1, bytes.subarray(0, transactionsOf(bytes).at(-1)!.startBytes));
      },
      'GK_STORE_DAMAGED',
    ],
    [
      'a finished file ends inside a transaction',
      (log) => log.put(1, log.files[1]!.bytes.subarray(0, -30)),
      'GK_STORE_DAMAGED',
    ],
    [
      'a transaction in the middle is missing',
      (log) => {
        const { bytes } = log.files[2]!;
        const { startBytes, endBytes } = transactionsOf(bytes)[2]!;
        log.put(2, Buffer.concat([bytes.subarray(0, startBytes), bytes.subarray(endBytes)]));
      },
      'GK_STORE_DAMAGED',
    ],
    [
      'a transaction is there twice',
      (log) => {
        const { bytes } = log.files[2]!;
        const { startBytes, endBytes } = transactionsOf(bytes)[2]!;
        log.put(2, Buffer.concat([bytes.subarray(0, endBytes), bytes.subarray(startBytes)]));
      },
      'GK_STORE_DAMAGED',
    ],
    [
      'a bit is flipped in the middle',
      (log) => {
        const bytes = Buffer.from(log.files[2]!.bytes);
        bytes[transactionsOf(bytes)[1]!.startBytes + 60]! ^= 8;
        log.put(2, bytes);
      },
      'GK_STORE_DAMAGED',
    ],
    [
      'garbage follows the last transaction',
      (log) => log.put(2, Buffer.concat([log.files[2]!.bytes, Buffer.from('garbage')])),
      'GK_STORE_DAMAGED',
    ],
    [
      'garbage follows after zeros',
      (log) => log.put(2, Buffer.concat([log.files[2]!.bytes, Buffer.alloc(9000), Buffer.of(1)])),
      'GK_STORE_DAMAGED',
    ],
    [
      'the log goes on behind a gap of many megabytes',
      (log) => {
        const { bytes } = log.files[2]!;
        log.put(2, Buffer.concat([bytes, Buffer.alloc(40 * MIB), Buffer.alloc(MIB, 7)]));
      },
      'GK_STORE_DAMAGED',
    ],
    [
      'garbage follows a torn transaction',
      (log) => {
        const bytes = log.files[2]!.bytes;
        log.put(2, Buffer.concat([bytes.subarray(0, -10), Buffer.alloc(5000), Buffer.of(9)]));
      },
      'GK_STORE_DAMAGED',
    ],
    [
      'garbage follows a finished file',
      (log) => log.put(1, Buffer.concat([log.files[1]!.bytes, Buffer.alloc(10), Buffer.of(3)])),
      'GK_STORE_DAMAGED',
    ],
    [
      'half a transaction follows a finished file',
      (log) => {
        const { bytes } = log.files[2]!;
        const half = bytes.subarray(LOG_HEADER_BYTES, LOG_HEADER_BYTES + 50);
        log.put(1, Buffer.concat([log.files[1]!.bytes, half]));
      },
      'GK_STORE_DAMAGED',
    ],
    [
      'a header names another version',
      (log) =>
        log.put(1, Buffer.concat([logHeader(line, 7n, 10n), log.files[1]!.bytes.subarray(LOG_HEADER_BYTES)])),
      'GK_STORE_DAMAGED',
    ],
    [
      'a header follows another transaction',
      (log) =>
        log.put(1, Buffer.concat([logHeader(line, 1n, 9n), log.files[1]!.bytes.subarray(LOG_HEADER_BYTES)])),
      'GK_STORE_DAMAGED',
    ],
    [
      'a header is of a format with envelopes',
      (log) => {
        const bytes = Buffer.from(log.files[1]!.bytes);
        bytes[0] = 10;
        log.put(1, bytes);
      },
      'GK_UNSUPPORTED',
    ],
    [
      'the header of a file in the middle is lost',
      (log) => {
        const bytes = Buffer.from(log.files[1]!.bytes);
        log.put(1, bytes.fill(0, 0, LOG_HEADER_BYTES));
      },
      'GK_STORE_DAMAGED',
    ],
    [
      'the header of the newest file is lost, its transactions are not',
      (log) => {
        const bytes = Buffer.from(log.files[2]!.bytes);
        log.put(2, bytes.fill(0, 0, LOG_HEADER_BYTES));
      },
      'GK_STORE_DAMAGED',
    ],
    ['a file in the middle is empty', (log) => log.put(1, Buffer.alloc(0)), 'GK_STORE_DAMAGED'],
  ];
  for (const [what, damage, code] of refused) {
    test(what, async (context) => {
      const log = makeLog(context, line, [10n, 25n], 5n);
      assert.equal((await log.tail()).highestAppendIndex, HIGHEST);
      damage(log);
      await assert.rejects(log.tail(), failure(code));
    });
  }

  test('the files belong to another store', async (context) => {
    const log = makeLog(context, line, [10n], 5n);
    await assert.rejects(log.tail(storeIdOf('2026.08')), failure('GK_STORE_DAMAGED', /another store/));
  });

  test('the transaction of the fence is another one than the checkpoint names', async (context) => {
    const log = makeLog(context, line, [10n], 10n);
    // The checkpoint of transaction 10 beside a log that says that it ends at 9.
    const { bytes } = log.files[0]!;
    const short = bytes.subarray(0, transactionsOf(bytes).at(-1)!.startBytes);
    log.put(0, short);
    rmSync(log.path(1));
    await assert.rejects(log.tail(), failure('GK_STORE_DAMAGED'));
  });

  test('its checkpoint names a transaction behind its position: the log must reach that very one', async (context) => {
    const log = makeLog(context, line, [], 15n);
    const { bytes } = log.files[0]!;
    const endOf = (index: bigint): number => transactionIn(bytes, index).endBytes;
    // As under concurrent commits: position after 10, last transaction 15.
    writeFileSync(join(log.folder, 'checkpoint.0'), checkpointAfter(line, 10n, log.files, 15n));
    const tail = await log.tail();
    assert.deepEqual([tail.highestAppendIndex, tail.transactions], [HIGHEST, HIGHEST - 10n]);
    for (const [end, code] of [
      [15n, undefined],
      [14n, 'GK_STORE_DAMAGED'],
      [11n, 'GK_STORE_DAMAGED'],
      [10n, 'GK_STORE_DAMAGED'],
    ] as const) {
      log.put(0, Buffer.concat([bytes.subarray(0, endOf(end)), Buffer.alloc(500)]));
      if (code === undefined) assert.equal((await log.tail()).highestAppendIndex, end);
      else await assert.rejects(log.tail(), failure(code), `ends at ${end}`);
    }
  });

  test('it is cut behind the fence: the empty tail of an idle server looks the same', async (context) => {
    const log = makeLog(context, line, [], 30n);
    const { bytes } = log.files[0]!;
    const { startBytes, endBytes } = transactionsOf(bytes).find(
      (candidate) => candidate.appendIndex === 30n,
    )!;
    log.put(0, Buffer.concat([bytes.subarray(0, endBytes), Buffer.alloc(100)]));
    assert.equal((await log.tail()).highestAppendIndex, 30n);
    log.put(0, Buffer.concat([bytes.subarray(0, startBytes), Buffer.alloc(endBytes - startBytes + 100)]));
    await assert.rejects(log.tail(), failure('GK_STORE_DAMAGED'));
  });

  test('an abort ends the scan', async (context) => {
    const log = makeLog(context, line, [], 3n);
    const reading = readTailOf(log.folder, storeIdOf(line), AbortSignal.abort());
    await assert.rejects(reading, failure('GK_INTERRUPTED'));
  });
});

/** A handle behind which something happens right after it was read for the first time. */
function happeningAfterRead(handle: FileHandle, happen: () => void): FileHandle {
  let happened = false;
  const read = async (buffer: Buffer, offset: number, length: number, position: number) => {
    const result = await handle.read(buffer, offset, length, position);
    if (!happened) happen();
    happened = true;
    return result;
  };
  return Object.assign(Object.create(handle) as FileHandle, { read });
}

test('a new log file that is begun while the tail is read is taken', async (context) => {
  const log = makeLog(context, '2026.08', [10n, 25n], 5n);
  const fence = await readFence(log.folder);
  const read = async (bytes: Buffer): Promise<Tail> => {
    log.put(2, Buffer.alloc(bytes.length));
    const pins = new LogPins(log.folder, 0n);
    await pins.refresh();
    const begun = pins.pinned().map((pin) => {
      if (pin.version !== 2n) return pin;
      return { ...pin, handle: happeningAfterRead(pin.handle, () => log.put(2, bytes)) };
    });
    return readTail(begun, tailStartOf(fence), storeIdOf('2026.08')).finally(() => pins.close());
  };
  const { bytes } = log.files[2]!;
  assert.equal((await read(bytes)).highestAppendIndex, HIGHEST);
  assert.equal((await read(bytes.subarray(0, LOG_HEADER_BYTES))).highestAppendIndex, 25n);
  const headless = Buffer.from(bytes).fill(0, 0, LOG_HEADER_BYTES);
  await assert.rejects(read(headless), failure('GK_STORE_DAMAGED', /does not begin with the header/));
});

test('a transaction that is finished while the tail is read is taken', async (context) => {
  const log = makeLog(context, '2026.08', [], 20n);
  const { bytes } = log.files[0]!;
  const { startBytes, endBytes } = transactionsOf(bytes).at(-1)!;
  // Half of it is there, then zeros, then something that a writer has put down out of order: not the end yet.
  const half = Buffer.concat([bytes, Buffer.alloc(100)]);
  half.fill(0, startBytes + 40, endBytes - 20);
  log.put(0, half);
  const reading = log.tail();
  setTimeout(() => log.put(0, Buffer.concat([bytes, Buffer.alloc(100)])), 100);
  assert.equal((await reading).highestAppendIndex, HIGHEST);
});

describe('continuity', () => {
  const transaction = (appendIndex: bigint, checksum: number, previousChecksum?: number): LogTransaction => ({
    transactionId: appendIndex,
    appendIndex,
    commitTimeMillis: 1n,
    checksum,
    previousChecksum,
    kernelVersion: 20,
    startBytes: 0,
    endBytes: 0,
  });

  test('counts what follows', () => {
    const check = new ContinuityCheck({ appendIndex: 5n, checksum: 55, commitTimeMillis: 0n });
    assert.deepEqual([check.appendIndex, check.checksum, check.count], [5n, 55, 0n]);
    check.accept(transaction(6n, 66, 55));
    check.accept(transaction(7n, 77));
    assert.deepEqual([check.appendIndex, check.checksum, check.count], [7n, 77, 2n]);
  });

  test('refuses a gap, a repetition, and another predecessor', () => {
    const next = (): ContinuityCheck => {
      const check = new ContinuityCheck({ appendIndex: 5n, checksum: 55, commitTimeMillis: 0n });
      check.accept(transaction(6n, 66));
      return check;
    };
    assert.throws(() => next().accept(transaction(8n, 88)), failure('GK_STORE_DAMAGED', /gap/));
    assert.throws(() => next().accept(transaction(6n, 66)), failure('GK_STORE_DAMAGED'));
    assert.throws(() => next().accept(transaction(7n, 77, 65)), failure('GK_STORE_DAMAGED', /after/));
    const first = new ContinuityCheck({ appendIndex: 5n, checksum: 55, commitTimeMillis: 0n });
    assert.throws(() => first.accept(transaction(7n, 77)), failure('GK_STORE_DAMAGED', /gap/));
  });

  test('may begin before the transaction that the checkpoint names, but must pass that very one', () => {
    const check = new ContinuityCheck({ appendIndex: 5n, checksum: 55, commitTimeMillis: 0n });
    check.accept(transaction(4n, 44));
    assert.throws(() => check.requireFence(), failure('GK_STORE_DAMAGED', /before 5/));
    assert.throws(() => check.accept(transaction(5n, 54)), failure('GK_STORE_DAMAGED', /another one/));
    const right = new ContinuityCheck({ appendIndex: 5n, checksum: 55, commitTimeMillis: 0n });
    right.accept(transaction(4n, 44));
    right.accept(transaction(5n, 55));
    right.requireFence();
  });

  test('right behind the fence it must follow the transaction that the checkpoint names', () => {
    const check = new ContinuityCheck({ appendIndex: 5n, checksum: 55, commitTimeMillis: 0n });
    assert.throws(() => check.accept(transaction(6n, 66, 54)), failure('GK_STORE_DAMAGED'));
  });
});
