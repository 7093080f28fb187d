/** Sizes, times and addresses as they are written in settings and options, and the closest known name. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { nearest } from '../../../src/neo4j/nearest.ts';
import {
  formatAddress,
  parseAddress,
  parseBooleanWord,
  parseDurationMs,
  parseRate,
  parseSize,
} from '../../../src/neo4j/values.ts';

function table<Value>(parse: (text: string) => Value, cases: Readonly<Record<string, Value>>): void {
  for (const [text, value] of Object.entries(cases)) assert.deepEqual(parse(text), value, text);
}

describe('values', () => {
  test('sizes count by 1024', () => {
    table(parseSize, { '0': 0, '4096': 4096, '1k': 1024, '10MiB': 10_485_760, '1.5GiB': 1_610_612_736 });
    table(parseSize, { '2t': 2 * 1024 ** 4, '1kb': 1024, '5B': 5 });
    for (const text of ['', 'k', '-1', '1x', '1 M', '1e3', '0x10', '999999999999t', '1.5.5']) {
      assert.equal(parseSize(text), undefined, text);
    }
    table(parseRate, { '50M': 52_428_800, '5T': undefined, '0': undefined });
  });

  test('times have units, and are seconds without', () => {
    table(parseDurationMs, {
      '5m': 300_000,
      '30s': 30_000,
      '500ms': 500,
      '1h30m': 5_400_000,
      '1d': 86_400_000,
    });
    table(parseDurationMs, { '7': 7000, '0s': 0 });
    for (const text of ['', 'm', '5 m', '-1s', '1.5h', '5M', '1w']) {
      assert.equal(parseDurationMs(text), undefined, text);
    }
  });

  test('words for yes and no are true and false', () => {
    table(parseBooleanWord, { true: true, False: false, yes: undefined, '1': undefined, '': undefined });
  });

  test('addresses take what is missing from elsewhere', () => {
    const fallback = { host: '127.0.0.1', port: 6362 };
    table((text) => parseAddress(text, fallback), {
      'db.example.com:1': { host: 'db.example.com', port: 1 },
      DB: { host: 'db', port: 6362 },
      ':7': { host: '127.0.0.1', port: 7 },
      '0.0.0.0:0': { host: '0.0.0.0', port: 0 },
      '[::1]:6372': { host: '::1', port: 6372 },
      '[::1]': { host: '::1', port: 6362 },
      '::1': { host: '::1', port: 6362 },
      '::': { host: '::', port: 6362 },
    });
    for (const text of [
      '',
      'a:b',
      'a:1:2',
      'a:65536',
      '[localhost]:1',
      '[]:1',
      'a b',
      'http://a',
      'a/b',
      'a@b:1',
    ]) {
      assert.equal(parseAddress(text, fallback), undefined, text);
    }
    assert.equal(formatAddress({ host: '::1', port: 1 }), '[::1]:1');
    assert.equal(formatAddress({ host: 'db', port: 1 }), 'db:1');
  });

  test('a typo is met by the closest name, and anything else by none', () => {
    const known = ['client_auth', 'ciphers', 'trusted_dir'];
    assert.equal(nearest('client_atuh', known), 'client_auth');
    assert.equal(nearest('Trusted_Dir', known), 'trusted_dir');
    assert.equal(nearest('memory', known), undefined);
    assert.equal(nearest('ci', known), undefined);
  });
});
