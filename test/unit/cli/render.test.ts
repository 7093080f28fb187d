import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { renderArtifacts, selectArtifacts } from '../../../src/cli/backup-inspect.ts';
import { jsonInfo, renderInfo } from '../../../src/cli/database-info.ts';
import {
  formatBytes,
  formatDuration,
  renderError,
  renderJson,
  renderTable,
} from '../../../src/cli/render.ts';
import { asGraphkeepError, GraphkeepError } from '../../../src/errors.ts';
import { artifact } from './harness.ts';

describe('table of artifacts', () => {
  test('columns, order and alignment of neo4j-admin backup inspect', () => {
    const other = artifact({
      path: '/backups/sys-2024-10-07T16-05-37.backup',
      database: 'system',
      recovered: false,
    });
    const lines = renderArtifacts([artifact(), other]).split('\n');
    const id = '7dcb1d0c-4374-4062-b46b-1c6ab9a2be41';
    assert.deepEqual(lines, [
      `|                                             FILE | DATABASE |                          DATABASE ID |          TIME (UTC) | FULL | COMPRESSED | LOWEST TX | HIGHEST TX | STORE ID HASH | RECOVERED |`,
      `| file:///backups/neo4j-2024-10-07T16-05-37.backup |    neo4j | ${id} | 2024-10-07T16:05:37 | true |       true |         1 |          3 |    -116350002 |      true |`,
      `|   file:///backups/sys-2024-10-07T16-05-37.backup |   system | ${id} | 2024-10-07T16:05:37 | true |       true |         1 |          3 |    -116350002 |     false |`,
      '',
    ]);
  });

  test('an empty table is its header', () => assert.equal(renderTable(['A', 'B'], []), '| A | B |\n'));
});

const at = (minute: number) => new Date(Date.UTC(2026, 0, 1, 0, minute));
const full1 = artifact({ path: '/b/1', time: at(1), highestTransaction: 10n });
const diff2 = artifact({
  path: '/b/2',
  time: at(2),
  full: false,
  lowestTransaction: 11n,
  highestTransaction: 20n,
});
const empty3 = artifact({
  path: '/b/3',
  time: at(3),
  full: false,
  lowestTransaction: 0n,
  highestTransaction: 0n,
});
const diff4 = artifact({
  path: '/b/4',
  time: at(4),
  full: false,
  lowestTransaction: 21n,
  highestTransaction: 30n,
});
const system5 = artifact({ path: '/b/5', time: at(5), database: 'system', databaseId: 'other' });
const all = [system5, full1, empty3, diff4, diff2];
const paths = (list: readonly { path: string }[]) => list.map((item) => item.path);

describe('selection of artifacts', () => {
  test('newest first per database, empty ones left out', () => {
    assert.deepEqual(paths(selectArtifacts(all, { json: false })), ['/b/4', '/b/2', '/b/1', '/b/5']);
    const withEmpty = selectArtifacts(all, { json: false, empty: true, database: 'NEO4J' });
    assert.deepEqual(paths(withEmpty), ['/b/4', '/b/3', '/b/2', '/b/1']);
  });

  test('--latest-backup is one per database', () => {
    assert.deepEqual(paths(selectArtifacts(all, { json: false, latestBackup: true })), ['/b/4', '/b/5']);
  });
});

describe('database info', () => {
  const info = {
    databaseName: 'neo4j',
    inUse: true,
    storeFormat: 'record-aligned-1.1',
    storeFormatIntroduced: '5.0.0',
    lastCommittedTransaction: 2n ** 60n,
    recoveryRequired: undefined,
  };

  test('labels are padded to 30 characters', () => {
    assert.equal(
      renderInfo(info),
      [
        'Database name:                neo4j',
        'Database in use:              true',
        'Store format version:         record-aligned-1.1',
        'Store format introduced in:   5.0.0',
        'Last committed transaction id:1152921504606846976',
        '',
      ].join('\n'),
    );
  });

  test('JSON has all keys, and strings or null only', () => {
    assert.deepEqual(jsonInfo(info), {
      databaseName: 'neo4j',
      inUse: 'true',
      storeFormat: 'record-aligned-1.1',
      storeFormatIntroduced: '5.0.0',
      storeFormatSuperseded: null,
      lastCommittedTransaction: '1152921504606846976',
      recoveryRequired: null,
    });
  });
});

describe('figures', () => {
  test('bytes', () => {
    assert.deepEqual(
      [0, 1023, 1024, 1536, 1024 ** 2 - 1, 484 * 1024 ** 2, 1.3 * 1024 ** 3, 2 ** 53].map(formatBytes),
      ['0 B', '1023 B', '1.0 KiB', '1.5 KiB', '1.0 MiB', '484 MiB', '1.3 GiB', '8.0 PiB'],
    );
  });
  test('durations', () => {
    assert.deepEqual([0, 850, 12_340, 245_000, 3_599_600, 7_800_000].map(formatDuration), [
      '0 ms',
      '850 ms',
      '12.3 s',
      '4 min 05 s',
      '1 h 00 min',
      '2 h 10 min',
    ]);
  });
  test('transaction ids in JSON are exact', () => {
    assert.equal(
      renderJson({ a: 5n, b: 2n ** 53n, c: -(2n ** 63n) }).replaceAll(/\s/g, ''),
      '{"a":5,"b":"9007199254740992","c":"-9223372036854775808"}',
    );
  });
});

describe('errors', () => {
  test('message, hint and causes', () => {
    const cause = new Error('inner');
    const error = new GraphkeepError('GK_IO', 'could not read', { hint: 'look', cause });
    assert.equal(renderError(error, { verbose: false }), 'error: could not read\nhint: look\n');
    assert.equal(
      renderError(error, { verbose: false, subject: 'neo4j' }),
      'error: neo4j: could not read\nhint: look\n',
    );
    assert.match(renderError(error, { verbose: true }), /caused by: Error: inner/);
  });

  test('a circle of causes ends', () => {
    const error = new GraphkeepError('GK_IO', 'x');
    error.cause = error;
    assert.ok(renderError(error, { verbose: true }).length < 100_000);
  });

  test('errors of the system keep their meaning, others are defects', () => {
    const full = Object.assign(new Error('no space'), { code: 'ENOSPC', syscall: 'write' });
    assert.equal(asGraphkeepError(full, 'x').code, 'GK_NO_SPACE');
    assert.equal(asGraphkeepError(new TypeError('oops'), 'x').code, 'GK_INTERNAL');
    assert.equal(asGraphkeepError(new DOMException('stop', 'AbortError'), 'x').code, 'GK_INTERRUPTED');
  });
});
