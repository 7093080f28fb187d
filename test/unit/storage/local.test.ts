import assert from 'node:assert/strict';
import {
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { GraphkeepError } from '../../../src/errors.ts';
import { MIB } from '../../../src/limits.ts';
import {
  FAILED_SUFFIX,
  openForReading,
  PARTIAL_SUFFIX,
  Publication,
  readFully,
  writeFully,
} from '../../../src/storage/local.ts';
import { noise } from '../../fixtures/random.ts';
import {
  failure,
  filesBelow,
  isRoot,
  makeFolder,
  smallFileSystem,
  temporaryFolder,
} from '../../fixtures/workspace.ts';

describe('publication', () => {
  test('nothing has a final name before it is published', async (context) => {
    const folder = temporaryFolder(context);
    const final = join(folder, 'neo4j.backup');
    const publication = await Publication.create(folder, 'neo4j.backup');
    await publication.append(Buffer.from('hello '));
    await publication.append(Buffer.from('world'));
    const [name, ...others] = readdirSync(folder);
    assert.deepEqual(others, []);
    assert.ok(name!.startsWith('.') && name!.endsWith(PARTIAL_SUFFIX), `${name} does not look unfinished`);
    assert.equal(join(folder, name!), publication.partialPath);
    assert.equal(publication.bytes, 11);
    assert.equal(await publication.publish(final), true);
    assert.deepEqual(readdirSync(folder), ['neo4j.backup']);
    assert.equal(readFileSync(final, 'utf8'), 'hello world');
    assert.equal(statSync(final).mode & 0o777, 0o600, 'only its owner may read a backup');
    assert.equal(statSync(final).nlink, 1);
  });

  test('a name that is taken stays as it is; another name can be tried', async (context) => {
    const folder = temporaryFolder(context);
    const taken = join(folder, 'taken');
    writeFileSync(taken, 'old');
    const dangling = join(folder, 'dangling');
    symlinkSync('/nowhere/at/all', dangling);
    const directory = makeFolder(folder, 'directory');
    const publication = await Publication.create(folder, 'x');
    await publication.append(Buffer.from('new'));
    for (const path of [taken, dangling, directory]) {
      assert.equal(await publication.publish(path), false, path);
      assert.equal(existsSync(publication.partialPath), true);
    }
    assert.equal(readFileSync(taken, 'utf8'), 'old');
    assert.equal(await publication.publish(join(folder, 'free')), true);
    assert.equal(readFileSync(join(folder, 'free'), 'utf8'), 'new');
    assert.deepEqual(readdirSync(folder).sort(), ['dangling', 'directory', 'free', 'taken']);
  });

  test('bytes that were taken back are gone, bytes that were patched are the new ones', async (context) => {
    const folder = temporaryFolder(context);
    const publication = await Publication.create(folder, 'x');
    await publication.append(Buffer.from('0123456789'));
    await publication.truncate(4);
    assert.equal(publication.bytes, 4);
    await publication.append(Buffer.from('ab'));
    await publication.patch(Buffer.from('XY'), 1);
    assert.equal(publication.bytes, 6);
    await publication.publish(join(folder, 'final'));
    assert.equal(readFileSync(join(folder, 'final'), 'utf8'), '0XY3ab');
  });

  test('discarded, it leaves nothing', async (context) => {
    const folder = temporaryFolder(context);
    const publication = await Publication.create(folder, 'x');
    await publication.append(noise(MIB, 1));
    assert.equal(await publication.discard(), undefined);
    assert.deepEqual(readdirSync(folder), []);
  });

  test('discarded after someone removed it, it does not fail', async (context) => {
    const folder = temporaryFolder(context);
    const publication = await Publication.create(folder, 'x');
    unlinkSync(publication.partialPath);
    await publication.discard();
  });

  test('kept, it has a name that says that it failed', async (context) => {
    const folder = temporaryFolder(context);
    const publication = await Publication.create(folder, 'x');
    await publication.append(Buffer.from('half'));
    const kept = await publication.discard(`x.backup${FAILED_SUFFIX}`);
    assert.equal(kept, join(folder, 'x.backup.failed'));
    assert.deepEqual(readdirSync(folder), ['x.backup.failed']);
    assert.equal(readFileSync(kept!, 'utf8'), 'half');
  });

  test('two of one name do not share a file', async (context) => {
    const folder = temporaryFolder(context);
    const first = await Publication.create(folder, 'x');
    const second = await Publication.create(folder, 'x');
    assert.notEqual(first.partialPath, second.partialPath);
    await first.discard();
    await second.discard();
  });

  test('a folder that is not there, or not writable, is an error that names it', async (context) => {
    const folder = temporaryFolder(context);
    await assert.rejects(
      Publication.create(join(folder, 'no'), 'x'),
      failure('GK_NOT_FOUND', /create a file in .*no/),
    );
    const file = join(folder, 'file');
    writeFileSync(file, '');
    await assert.rejects(Publication.create(file, 'x'), failure('GK_NOT_FOUND'));
    // Root may write everywhere but here.
    await assert.rejects(
      Publication.create(isRoot ? '/proc/self' : '/', 'x'),
      (error) => error instanceof GraphkeepError && ['GK_NO_PERMISSION', 'GK_NOT_FOUND'].includes(error.code),
    );
  });

  test('on a full disk: an error of its own, and nothing is left', async (context) => {
    const small = smallFileSystem(context, MIB);
    if ('skip' in small) return context.skip(small.skip);
    const publication = await Publication.create(small.folder, 'x');
    const fill = async (): Promise<void> => {
      for (let part = 0; part < 40; part++) await publication.append(noise(64 * 1024, part));
    };
    await assert.rejects(fill(), failure('GK_NO_SPACE', /write .*partial/));
    await publication.discard();
    assert.deepEqual(filesBelow(small.folder), new Map());
  });

  test('a final name on another disk is refused, and the file is not lost', async (context) => {
    const small = smallFileSystem(context, MIB);
    if ('skip' in small) return context.skip(small.skip);
    const folder = temporaryFolder(context);
    const publication = await Publication.create(folder, 'x');
    await assert.rejects(publication.publish(join(small.folder, 'final')), failure('GK_IO', /publish/));
    assert.equal(existsSync(publication.partialPath), true);
    await publication.discard();
  });
});

describe('reading', () => {
  test('at a position, up to the end and no further', async (context) => {
    const path = join(temporaryFolder(context), 'file');
    const content = noise(100_000, 3);
    writeFileSync(path, content);
    const file = await openForReading(path);
    assert.equal(file.bytes, content.length);
    const target = Buffer.alloc(1000);
    assert.equal(await file.read(target, 5), 1000);
    assert.equal(target.equals(content.subarray(5, 1005)), true);
    assert.equal(await file.read(target, 99_900), 100);
    assert.equal(target.subarray(0, 100).equals(content.subarray(99_900)), true);
    assert.equal(await file.read(target, 200_000), 0);
    await file.close();
  });

  test('what is no file is refused', async (context) => {
    const folder = temporaryFolder(context);
    await assert.rejects(openForReading(folder), failure('GK_NOT_FOUND', /not a file/));
    await assert.rejects(openForReading(join(folder, 'no')), failure('GK_NOT_FOUND'));
  });

  test('and writing continue where the system stopped', async (context) => {
    const path = join(temporaryFolder(context), 'file');
    const content = noise(3 * MIB, 9);
    const handle = await open(path, 'w+');
    // Files on a disk never stop short; a handle that does shows that nothing is dropped.
    const slow = {
      write: (bytes: Buffer, offset: number, length: number, position: number) =>
        handle.write(bytes, offset, Math.min(length, 700_001), position),
      read: (bytes: Buffer, offset: number, length: number, position: number) =>
        handle.read(bytes, offset, Math.min(length, 900_001), position),
    } as unknown as typeof handle;
    await writeFully(slow, content, 10, path);
    assert.equal(readFileSync(path).subarray(10).equals(content), true);
    const target = Buffer.alloc(content.length + 100);
    assert.equal(await readFully(slow, target, 10, path), content.length);
    assert.equal(target.subarray(0, content.length).equals(content), true);
    await handle.close();
  });
});
