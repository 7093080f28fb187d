import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FormatError } from '../../../src/formats/formaterror.ts';
import { writeStoreId } from '../../../src/formats/storeid.ts';
import {
  LOG_HEADER_BYTES,
  parseLogHeader,
  UnsupportedLogFormatError,
} from '../../../src/formats/txlog/header.ts';
import { CHECKPOINT_FIXTURE, fixture, LINES, LOG_FIXTURE, storeIdOf } from '../../fixtures/lines.ts';

function headerOf(formatByte: number, version: bigint): Buffer {
  const header = Buffer.alloc(LOG_HEADER_BYTES);
  header.writeBigUInt64BE((BigInt(formatByte) << 56n) | version);
  return header;
}

describe('log header', () => {
  for (const line of LINES) {
    test(`${line}: format 9, of the store`, () => {
      const log = parseLogHeader(fixture(line, LOG_FIXTURE))!;
      assert.deepEqual(log, {
        formatByte: 9,
        logVersion: 0n,
        previousAppendIndex: 1n,
        storeId: storeIdOf(line),
      });
      const checkpoint = parseLogHeader(fixture(line, CHECKPOINT_FIXTURE))!;
      assert.deepEqual(checkpoint, { ...log, previousAppendIndex: 0n });
    });
  }

  test('format 8 keeps its fields 8 bytes earlier', () => {
    const header = headerOf(8, 258n);
    header.writeBigInt64BE(77n, 8);
    writeStoreId(storeIdOf('5.26')).copy(header, 16);
    assert.deepEqual(parseLogHeader(header), {
      formatByte: 8,
      logVersion: 258n,
      previousAppendIndex: 77n,
      storeId: storeIdOf('5.26'),
    });
  });

  test('the version has 56 bits', () => {
    assert.equal(parseLogHeader(headerOf(9, 2n ** 56n - 1n))!.logVersion, 2n ** 56n - 1n);
  });

  test('a header without a store id has none', () => {
    assert.equal(parseLogHeader(headerOf(9, 1n))!.storeId, undefined);
  });

  test('every other format is refused by its name', () => {
    for (let formatByte = 0; formatByte < 256; formatByte++) {
      if (formatByte === 8 || formatByte === 9) continue;
      assert.throws(
        () => parseLogHeader(headerOf(formatByte, 3n)),
        (error) =>
          error instanceof UnsupportedLogFormatError &&
          error.formatByte === formatByte &&
          error.message.includes(`format ${formatByte} `),
        `format ${formatByte}`,
      );
    }
  });

  test('zeros are a file that was never written; too few bytes are an error', () => {
    assert.equal(parseLogHeader(Buffer.alloc(LOG_HEADER_BYTES)), undefined);
    assert.throws(() => parseLogHeader(Buffer.alloc(LOG_HEADER_BYTES - 1)), FormatError);
  });
});
