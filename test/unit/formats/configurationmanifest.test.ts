import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { layoutOf, manifestBytesOf } from '../../../src/formats/configuration/archive.ts';
import {
  type ConfigurationManifest,
  parseManifest,
  writeManifest,
} from '../../../src/formats/configuration/manifest.ts';
import { FormatError } from '../../../src/formats/formaterror.ts';

const HASH = 'ab'.repeat(32);
const MANIFEST: ConfigurationManifest = {
  program: 'graphkeep 1.0.0',
  time: '2026-08-07T16:05:37.000Z',
  host: 'db1',
  neo4j: { version: '5.26.30', edition: 'community' },
  members: [
    {
      place: 'configuration',
      path: 'neo4j.conf',
      role: 'configuration',
      bytes: 10,
      sha256: HASH,
      mode: 0o640,
    },
    { place: 'policy.bolt', path: 'trusted/a.crt', role: 'certificate', bytes: 0, sha256: HASH, mode: 0o644 },
    {
      place: 'license.gds.enterprise.license_file',
      path: 'l',
      role: 'license',
      bytes: 3,
      sha256: HASH,
      mode: 0o600,
    },
  ],
  plugins: [{ file: 'a.jar', title: 't', version: '1', bytes: 5, sha256: HASH, included: false }],
  leftOut: [{ file: 'certificates/private.key', reason: 'privateKey' }],
  secretSettings: ['a.password'],
};

describe('the manifest of a configuration', () => {
  test('is read as it was written', () => {
    assert.deepEqual(parseManifest(writeManifest(MANIFEST)), MANIFEST);
    const { neo4j, ...bare } = { ...MANIFEST, members: [], plugins: [], leftOut: [], secretSettings: [] };
    assert.deepEqual(parseManifest(writeManifest(bare)), bare);
  });

  const refused = (
    name: string,
    change: (fields: Record<string, unknown>) => void,
    message: RegExp,
  ): void => {
    test(`is refused: ${name}`, () => {
      const fields = JSON.parse(writeManifest(MANIFEST).toString()) as Record<string, unknown>;
      change(fields);
      assert.throws(
        () => parseManifest(Buffer.from(JSON.stringify(fields))),
        (error) => {
          assert.ok(error instanceof FormatError);
          assert.match(error.message, message);
          return true;
        },
      );
    });
  };
  const member = (fields: Record<string, unknown>) => ({ ...MANIFEST.members[0], ...fields });
  const membersOf = (fields: Record<string, unknown>) => (document: Record<string, unknown>) => {
    document.members = [member(fields)];
  };

  for (const path of [
    '../neo4j.conf',
    'a/../../b',
    '/etc/passwd',
    '',
    '.',
    'a//b',
    './a',
    'a\\b',
    'a\nb',
    'a\0b',
  ]) {
    refused(`a member ${JSON.stringify(path)}`, membersOf({ path }), /path/);
  }
  for (const place of [
    '',
    'home',
    '../configuration',
    'policy.',
    'policy./x',
    'policy.a/b',
    'Configuration',
  ]) {
    refused(`the place ${JSON.stringify(place)}`, membersOf({ place }), /place/);
  }
  refused('a mode with more than nine bits', membersOf({ mode: 0o4755 }), /number/);
  refused('a negative size', membersOf({ bytes: -1 }), /number/);
  refused('a size that is no whole number', membersOf({ bytes: 1.5 }), /number/);
  refused('a hash that is none', membersOf({ sha256: HASH.toUpperCase() }), /hash/);
  refused('a role that is none', membersOf({ role: 'program' }), /role/);
  refused(
    'a plugin in a folder',
    (fields) => {
      fields.plugins = [{ ...MANIFEST.plugins[0], file: 'a/b.jar' }];
    },
    /folder/,
  );
  refused(
    'a plugin above its folder',
    (fields) => {
      fields.plugins = [{ ...MANIFEST.plugins[0], file: '..' }];
    },
    /path/,
  );
  refused(
    'one file twice',
    (fields) => {
      fields.members = [member({}), member({})];
    },
    /twice/,
  );
  refused(
    'another format',
    (fields) => {
      fields.format = 'tar';
    },
    /format/,
  );
  refused(
    'a later version',
    (fields) => {
      fields.version = 2;
    },
    /version 2/,
  );
  refused(
    'a version that is no text',
    (fields) => {
      fields.version = { toString: false };
    },
    /version \{"toString":false\}/,
  );
  refused(
    'no time',
    (fields) => {
      fields.time = 'yesterday';
    },
    /time/,
  );
  refused(
    'text that a terminal would obey',
    (fields) => {
      fields.host = 'db1\u001b[2J';
    },
    /text as host/,
  );
  refused(
    'no list',
    (fields) => {
      fields.members = {};
    },
    /list/,
  );

  test('is refused when it is no JSON or no object', () => {
    for (const text of ['', '{', 'null', '[]', '7']) {
      assert.throws(() => parseManifest(Buffer.from(text)), FormatError, text);
    }
  });
});

describe('the layout of the archive', () => {
  test('is a tar: whole blocks, each member behind its header', () => {
    const bytes = writeManifest(MANIFEST);
    const { head, members, totalBytes } = layoutOf(bytes, MANIFEST);
    assert.equal(manifestBytesOf(head.subarray(0, 512)), bytes.length);
    assert.deepEqual(
      members.map(({ contentOffset }) => contentOffset - head.length),
      [512, 512 + 512 + 512, 512 + 512 + 512 + 512],
    );
    assert.equal(totalBytes, head.length + 5 * 512 + 1024);
  });

  test('of something else is told', () => {
    assert.throws(() => manifestBytesOf(Buffer.alloc(512)), FormatError);
    assert.throws(() => manifestBytesOf(Buffer.alloc(100, 1)), FormatError);
  });
});
