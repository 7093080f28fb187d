import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FormatError } from '../../../src/formats/formaterror.ts';
import {
  findZipDirectory,
  findZipEntry,
  parseJarManifest,
  unpackZipEntry,
  ZIP_LOCAL_HEADER_BYTES,
  zipContentOffset,
} from '../../../src/formats/zip.ts';
import { makeJar } from '../../fixtures/installations.ts';

const NAME = 'META-INF/MANIFEST.MF';
const TEXT = 'Manifest-Version: 1.0\r\nBundle-Version: 7.8\r\n';

function manifestOf(jar: Buffer): string | undefined {
  const place = findZipDirectory(jar);
  assert.ok(place !== undefined);
  const entry = findZipEntry(jar.subarray(place.offset, place.offset + place.bytes), NAME);
  if (entry === undefined) return undefined;
  const header = jar.subarray(entry.headerOffset, entry.headerOffset + ZIP_LOCAL_HEADER_BYTES);
  const start = entry.headerOffset + zipContentOffset(header);
  return unpackZipEntry(entry, jar.subarray(start, start + entry.storedBytes)).toString();
}

describe('a zip file', () => {
  test('gives its manifest, packed or not', () => {
    assert.equal(manifestOf(makeJar(TEXT)), TEXT);
    assert.equal(manifestOf(makeJar(TEXT, 'stored')), TEXT);
  });

  test('has its end record before a comment', () => {
    const jar = makeJar(TEXT);
    jar.writeUInt16LE(5, jar.length - 2);
    assert.equal(manifestOf(Buffer.concat([jar, Buffer.from('hello')])), TEXT);
    assert.equal(findZipDirectory(Buffer.concat([jar, Buffer.from('hell')])), undefined);
  });

  test('of another kind, or none, is told apart', () => {
    assert.equal(findZipDirectory(Buffer.alloc(0)), undefined);
    assert.equal(findZipDirectory(Buffer.alloc(100)), undefined);
    assert.throws(() => findZipEntry(Buffer.alloc(50), NAME), FormatError);
    assert.throws(() => zipContentOffset(Buffer.alloc(30)), FormatError);
  });

  test('does not unpack to more than it says', () => {
    const jar = makeJar('a'.repeat(100_000));
    const place = findZipDirectory(jar)!;
    const entry = findZipEntry(jar.subarray(place.offset), NAME)!;
    const start = entry.headerOffset + ZIP_LOCAL_HEADER_BYTES + NAME.length;
    const stored = jar.subarray(start, start + entry.storedBytes);
    assert.throws(() => unpackZipEntry({ ...entry, bytes: 10 }, stored), FormatError);
    assert.throws(() => unpackZipEntry({ ...entry, method: 12 }, stored), FormatError);
  });
});

test('long values of a manifest go on behind a blank, and sections end', () => {
  const attributes = parseJarManifest('A: one\r\n two\r\nB: 2\r\n\r\nName: x\r\nC: 3\r\n');
  assert.deepEqual(
    [...attributes],
    [
      ['A', 'onetwo'],
      ['B', '2'],
    ],
  );
});
