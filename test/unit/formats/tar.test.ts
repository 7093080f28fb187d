import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { FormatError } from '../../../src/formats/formaterror.ts';
import {
  parsePaxRecords,
  parseTarHeader,
  safeMemberPath,
  TAR_BLOCK_BYTES,
  TAR_END_BYTES,
  tarPadding,
  writeTarHeader,
} from '../../../src/formats/tar.ts';
import { filesBelow, makeFolder, temporaryFolder } from '../../fixtures/workspace.ts';

const hasTar = spawnSync('tar', ['--version']).status === 0;
const needsTar = hasTar ? {} : { skip: 'there is no tar program here' };

/** Names as store files have them, and some that are longer or not ASCII. */
const step = fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,40}$/).filter((name) => !/^\.+$/.test(name));
const path = fc
  .oneof(
    fc.array(step, { minLength: 1, maxLength: 5 }).map((steps) => steps.join('/')),
    fc.constant('schema/index/größe-1.0/7/öäü'),
  )
  .filter((candidate) => Buffer.byteLength(candidate) < 200);

function archive(files: ReadonlyMap<string, Buffer>): Buffer {
  const parts: Buffer[] = [];
  for (const [name, content] of files) {
    parts.push(writeTarHeader(name, content.length), content, Buffer.alloc(tarPadding(content.length)));
  }
  return Buffer.concat([...parts, Buffer.alloc(TAR_END_BYTES)]);
}

describe('tar headers', () => {
  test('what is written is read back', () => {
    fc.assert(
      fc.property(path, fc.nat({ max: Number.MAX_SAFE_INTEGER }), (name, bytes) => {
        fc.pre(fits(name));
        const header = writeTarHeader(name, bytes);
        assert.equal(header.length, TAR_BLOCK_BYTES);
        assert.deepEqual(parseTarHeader(header), { path: name, bytes, type: 'file' });
      }),
      { numRuns: 500 },
    );
  });

  test('sizes around the end of eleven octal digits', () => {
    for (const bytes of [0, 1, 0o77777777777, 0o77777777777 + 1, 9 * 1024 ** 3, Number.MAX_SAFE_INTEGER]) {
      assert.equal(parseTarHeader(writeTarHeader('a', bytes))!.bytes, bytes);
    }
  });

  test('a size above what can be counted is refused', () => {
    const header = writeTarHeader('a', 9 * 1024 ** 3);
    header.writeBigUInt64BE(2n ** 60n, 128);
    assert.throws(() => parseTarHeader(withChecksum(header)), /impossible size/);
  });

  test('every flipped bit is found by the checksum', () => {
    const header = writeTarHeader('neostore.nodestore.db', 123456);
    for (let bit = 0; bit < TAR_BLOCK_BYTES * 8; bit++) {
      const other = Buffer.from(header);
      other[bit >> 3]! ^= 1 << (bit & 7);
      try {
        // The blank behind the checksum and the case of nothing at all carry no information.
        assert.deepEqual(parseTarHeader(other), parseTarHeader(header), `bit ${bit}`);
        assert.ok(bit >> 3 >= 148 && bit >> 3 < 156, `bit ${bit} was accepted`);
      } catch (error) {
        assert.ok(error instanceof FormatError, `bit ${bit}: ${String(error)}`);
      }
    }
  });

  test('zeros end an archive; half a block is an error', () => {
    assert.equal(parseTarHeader(Buffer.alloc(TAR_BLOCK_BYTES)), undefined);
    assert.throws(() => parseTarHeader(Buffer.alloc(TAR_BLOCK_BYTES - 1)), FormatError);
  });

  test('a path that does not fit is refused, not cut', () => {
    assert.throws(() => writeTarHeader('a'.repeat(101), 1), /too long/);
    assert.throws(() => writeTarHeader(`${'d/'.repeat(100)}${'a'.repeat(100)}`, 1), /too long/);
    assert.equal(parseTarHeader(writeTarHeader('a'.repeat(100), 1))!.path, 'a'.repeat(100));
  });

  test('the padding fills the block', () => {
    fc.assert(
      fc.property(fc.nat({ max: 2 ** 45 }), (bytes) => {
        assert.equal((bytes + tarPadding(bytes)) % TAR_BLOCK_BYTES, 0);
        assert.ok(tarPadding(bytes) < TAR_BLOCK_BYTES);
      }),
    );
  });
});

function fits(name: string): boolean {
  try {
    writeTarHeader(name, 0);
    return true;
  } catch {
    return false;
  }
}

function withChecksum(header: Buffer): Buffer {
  header.fill(0x20, 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return header;
}

describe('the tar program', needsTar, () => {
  test('unpacks what is written', (context) => {
    const folder = temporaryFolder(context);
    const files = new Map<string, Buffer>([
      ['neostore', Buffer.alloc(8192, 1)],
      ['empty', Buffer.alloc(0)],
      ['schema/index/range-1.0/3/index-3', Buffer.alloc(513, 2)],
      [`${'deep/'.repeat(25)}file`, Buffer.from('x')],
    ]);
    writeFileSync(join(folder, 'archive.tar'), archive(files));
    const out = makeFolder(folder, 'out');
    execFileSync('tar', ['-xf', join(folder, 'archive.tar'), '-C', out], { stdio: 'pipe' });
    const unpacked = filesBelow(out);
    for (const [name, content] of files) assert.deepEqual(unpacked.get(name), content, name);
    const listing = execFileSync('tar', ['-tvf', join(folder, 'archive.tar')], { encoding: 'utf8' });
    assert.equal(listing.trim().split('\n').length, files.size);
    assert.match(listing, /^-rw------- 0\/0 +8192 2000-01-01/m);
  });

  test('reads the size of a file of more than 8 GiB', (context) => {
    const folder = temporaryFolder(context);
    const bytes = 9 * 1024 ** 3 + 7;
    writeFileSync(join(folder, 'archive.tar'), writeTarHeader('big', bytes));
    const { stdout } = spawnSync('tar', ['-tvf', join(folder, 'archive.tar')], { encoding: 'utf8' });
    assert.match(stdout, new RegExp(` ${bytes} .* big`));
  });

  for (const format of ['ustar', 'pax', 'gnu']) {
    test(`writes ${format} archives that are read`, (context) => {
      const folder = temporaryFolder(context);
      makeFolder(folder, 'in/schema/index');
      const long = format === 'ustar' ? 'short' : `long-${'n'.repeat(150)}`;
      writeFileSync(join(folder, 'in/schema/index', long), 'content');
      const archivePath = join(folder, 'archive.tar');
      execFileSync('tar', [`--format=${format}`, '-cf', archivePath, '-C', join(folder, 'in'), 'schema']);
      const entries = readEntries(readFileSync(archivePath));
      assert.deepEqual(entries.at(-1), { path: `schema/index/${long}`, bytes: 7, type: 'file' });
      assert.equal(entries[0]!.type, 'directory');
    });
  }
});

/** All entries with the names that extension headers give them. */
function readEntries(bytes: Buffer): { path: string; bytes: number; type: string }[] {
  const entries: { path: string; bytes: number; type: string }[] = [];
  let longPath: string | undefined;
  for (let offset = 0; ; ) {
    const header = parseTarHeader(bytes, offset);
    if (header === undefined) return entries;
    const content = bytes.subarray(offset + TAR_BLOCK_BYTES, offset + TAR_BLOCK_BYTES + header.bytes);
    if (header.type === 'paxHeader') longPath = parsePaxRecords(content).path;
    else if (header.type === 'gnuLongName') longPath = content.toString('utf8').replace(/\0.*$/s, '');
    else {
      entries.push({ ...header, path: longPath ?? header.path });
      longPath = undefined;
    }
    offset += TAR_BLOCK_BYTES + header.bytes + tarPadding(header.bytes);
  }
}

describe('pax records', () => {
  const recordOf = (text: string): Buffer => {
    const body = ` ${text}\n`;
    let length = Buffer.byteLength(body) + 1;
    while (String(length).length + Buffer.byteLength(body) !== length) length++;
    return Buffer.from(`${length}${body}`);
  };

  test('path and size among others', () => {
    const content = Buffer.concat(['mtime=1.5', 'path=a/b=c', 'size=9999999999', 'x=y'].map(recordOf));
    assert.deepEqual(parsePaxRecords(content), { path: 'a/b=c', bytes: 9999999999 });
    assert.deepEqual(parsePaxRecords(Buffer.alloc(0)), {});
  });

  test('records of impossible length are refused', () => {
    for (const content of [
      '999 path=a\n',
      '0 path=a\n',
      '-5 path=a\n',
      'x path=a\n',
      '9path=a\n',
      '2 a=b\n',
    ]) {
      assert.throws(() => parsePaxRecords(Buffer.from(content)), FormatError, content);
    }
  });

  test('a size that is no count of bytes is refused', () => {
    for (const size of ['-1', 'NaN', '1e400', '', '99999999999999999999']) {
      assert.throws(() => parsePaxRecords(recordOf(`size=${size}`)), FormatError, size);
    }
  });

  test('noise is read or refused, in no time', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => {
        try {
          parsePaxRecords(Buffer.from(noise));
        } catch (error) {
          assert.ok(error instanceof FormatError, String(error));
        }
      }),
    );
  });
});

describe('member paths', () => {
  test('stay below their root', () => {
    assert.equal(safeMemberPath('./neostore'), 'neostore');
    assert.equal(safeMemberPath('schema//index/./x'), 'schema/index/x');
    assert.equal(safeMemberPath('a..b/..c'), 'a..b/..c');
  });

  test('that would leave it are refused', () => {
    const escaping = [
      '..',
      '../x',
      'a/../../x',
      'a/..',
      '/etc/passwd',
      '//x',
      'a\\..\\b',
      'a\0b',
      '',
      '.',
      './',
      '/',
    ];
    for (const candidate of [...escaping, 'a/'.repeat(3000)]) {
      assert.throws(() => safeMemberPath(candidate), FormatError, JSON.stringify(candidate.slice(0, 20)));
    }
  });

  test('whatever is accepted has no step that leads up, and is not absolute', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom('..', '.', '', 'a', '/', '\\', '\0', '...')), (steps) => {
        let result: string;
        try {
          result = safeMemberPath(steps.join('/'));
        } catch (error) {
          assert.ok(error instanceof FormatError);
          return;
        }
        assert.equal(result.startsWith('/'), false);
        for (const one of result.split('/')) assert.ok(!['', '.', '..'].includes(one), result);
      }),
      { numRuns: 1000 },
    );
  });
});
