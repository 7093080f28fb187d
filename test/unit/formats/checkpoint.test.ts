import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FormatError } from '../../../src/formats/formaterror.ts';
import {
  type Checkpoint,
  lastCheckpoint,
  parseCheckpoint,
  renameTransaction,
} from '../../../src/formats/txlog/checkpoint.ts';
import { LOG_HEADER_BYTES } from '../../../src/formats/txlog/header.ts';
import { UnsupportedKernelVersionError } from '../../../src/formats/txlog/kernelversion.ts';
import {
  CHECKPOINT_FIXTURE,
  fixture,
  LINES,
  LOG_FIXTURE,
  storeIdOf,
  transactionsOf,
} from '../../fixtures/lines.ts';
import { sealed } from '../../fixtures/logs.ts';

const ENTRY_BYTES = { '5.26': 232, '2026.08': 486 } as const;
const ENTRIES = { '5.26': 4, '2026.08': 5 } as const;

function allCheckpoints(file: Buffer): Checkpoint[] {
  const found: Checkpoint[] = [];
  for (let offset = LOG_HEADER_BYTES; ; ) {
    const next = parseCheckpoint(file, offset);
    if (next === undefined) return found;
    found.push(next);
    offset = next.endBytes;
  }
}

for (const line of LINES) {
  describe(`checkpoints of ${line}`, () => {
    const file = fixture(line, CHECKPOINT_FIXTURE);
    const entries = allCheckpoints(file);

    test('every entry names a transaction of the log, its end, and the store', () => {
      assert.equal(entries.length, ENTRIES[line]);
      const transactions = transactionsOf(fixture(line, LOG_FIXTURE));
      for (const [number, entry] of entries.entries()) {
        assert.equal(entry.startBytes, LOG_HEADER_BYTES + number * ENTRY_BYTES[line]);
        assert.equal(entry.endBytes - entry.startBytes, ENTRY_BYTES[line]);
        assert.deepEqual(entry.storeId, storeIdOf(line));
        const named = transactions.find((candidate) => candidate.appendIndex === entry.appendIndex)!;
        assert.equal(entry.transactionId, named.transactionId);
        assert.equal(entry.transactionChecksum, named.checksum);
        assert.equal(entry.transactionCommitTimeMillis, named.commitTimeMillis);
        assert.deepEqual(entry.position, { logVersion: 0n, offsetBytes: BigInt(named.endBytes) });
        assert.equal(entry.positionAppendIndex, named.appendIndex);
        assert.match(entry.reason, /^Checkpoint triggered by "/);
        assert.ok(entry.timeMillis >= entry.transactionCommitTimeMillis);
      }
    });

    test('the last one counts, with and without a tail of zeros', () => {
      assert.deepEqual(lastCheckpoint(file), entries.at(-1));
      assert.deepEqual(lastCheckpoint(Buffer.concat([file, Buffer.alloc(10_000)])), entries.at(-1));
    });

    test('another transaction can be named, and nothing else changes', () => {
      const [earlier, last] = entries.slice(-2) as [Checkpoint, Checkpoint];
      const named = {
        transactionId: 70n,
        appendIndex: 77n,
        kernelVersion: earlier.kernelVersion,
        checksum: 0xfedc_ba98,
        commitTimeMillis: 2n ** 41n,
      };
      const renamed = renameTransaction(file, last, named);
      assert.deepEqual(allCheckpoints(renamed).slice(0, -1), entries.slice(0, -1));
      assert.deepEqual(lastCheckpoint(renamed), {
        ...last,
        transactionId: 70n,
        appendIndex: 77n,
        transactionChecksum: 0xfedc_ba98,
        transactionCommitTimeMillis: 2n ** 41n,
      });
      const back = renameTransaction(renamed, last, {
        transactionId: last.transactionId,
        appendIndex: last.appendIndex,
        kernelVersion: last.kernelVersion,
        checksum: last.transactionChecksum,
        commitTimeMillis: last.transactionCommitTimeMillis,
      });
      assert.equal(back.equals(file), true);
    });

    test('a file without an entry has none', () => {
      assert.equal(lastCheckpoint(file.subarray(0, LOG_HEADER_BYTES)), undefined);
    });

    test('torn at any byte of the last entry: the one before counts', () => {
      const { startBytes, endBytes } = entries.at(-1)!;
      for (let cut = startBytes; cut < endBytes; cut++) {
        assert.deepEqual(lastCheckpoint(file.subarray(0, cut)), entries.at(-2), `cut at ${cut}`);
        const zeroed = Buffer.concat([file.subarray(0, cut), Buffer.alloc(endBytes - cut + 500)]);
        // A cut inside the zero bytes that end an entry changes nothing.
        const expected = zeroed.subarray(0, endBytes).equals(file) ? entries.at(-1) : entries.at(-2);
        assert.deepEqual(lastCheckpoint(zeroed), expected, `zeros from ${cut}`);
      }
    });

    test('a flipped bit is never accepted, at any place of an entry', () => {
      const { startBytes, endBytes } = entries.at(-1)!;
      for (let offset = startBytes; offset < endBytes; offset++) {
        for (let bit = 0; bit < 8; bit++) {
          const other = Buffer.from(file);
          other[offset]! ^= 1 << bit;
          try {
            assert.deepEqual(lastCheckpoint(other), entries.at(-2), `bit ${bit} of byte ${offset}`);
          } catch (error) {
            // Only the version byte may make it unreadable as a whole.
            assert.ok(error instanceof UnsupportedKernelVersionError && offset === startBytes, String(error));
          }
        }
      }
    });

    test('an entry of an unknown kernel version is refused, even where an older entry could be read', () => {
      const { startBytes, endBytes } = entries.at(-1)!;
      for (const version of [1, 4, 33, 127, 254]) {
        const other = Buffer.from(file);
        other[startBytes] = version;
        sealed(other.subarray(startBytes, endBytes));
        assert.throws(() => lastCheckpoint(other), UnsupportedKernelVersionError, `version ${version}`);
      }
    });

    test('a right checksum does not make an impossible entry good', () => {
      const { startBytes, endBytes } = entries.at(-1)!;
      const wrongType = Buffer.from(file);
      wrongType[startBytes + 1] = 7;
      sealed(wrongType.subarray(startBytes, endBytes));
      assert.throws(() => parseCheckpoint(wrongType, startBytes), FormatError);
      const longReason = Buffer.from(file);
      longReason.writeUInt16LE(0xffff, startBytes + 151);
      assert.notDeepEqual(longReason, file);
      sealed(longReason.subarray(startBytes, endBytes));
      assert.throws(() => parseCheckpoint(longReason, startBytes), /reason overruns/);
    });
  });
}
