/** Artifacts in S3 under a key of one's own (SSE-C): needed for everything, and never told. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, type TestContext, test } from 'node:test';
import { inspect } from 'node:util';
import { readCustomerKey } from '../../src/storage/objects/customerkey.ts';
import { openObjectStore } from '../../src/storage/objects/open.ts';
import { makeDatabase } from '../fixtures/database.ts';
import { makeHome } from '../fixtures/installations.ts';
import { failure, makeFolder, temporaryFolder } from '../fixtures/workspace.ts';
import { type CliRun, cli } from '../unit/cli/harness.ts';
import { startKeyKeeper } from './keykeeper.ts';
import { HUGE, sendHuge } from './suitehuge.ts';
import { all, readAll, withEnvironment } from './suitetools.ts';
import { startVersity } from './versity.ts';

const ABSENT = { ifAbsent: true } as const;

function keyFile(context: TestContext, content: Buffer | string, mode = 0o600): string {
  const file = join(temporaryFolder(context), 'customer.key');
  writeFileSync(file, content);
  chmodSync(file, mode);
  return file;
}

describe('a key of one’s own in S3', async () => {
  const running = await startVersity();
  if ('skip' in running) {
    test('a key of one’s own', { skip: running.skip }, () => undefined);
    return;
  }
  const direct = running.direct.s3!;
  const keeper = await startKeyKeeper(direct.endpoint!);
  after(async () => {
    await keeper.proxy.stop();
    await running.stop();
  });
  const run = (line: string[]): Promise<CliRun> =>
    withEnvironment(running.environment, () => cli([...line, `--s3-endpoint=${keeper.proxy.url}`]));

  test('a backup is written, read, validated and restored with it, and not without; it is never told', async (context) => {
    const key = randomBytes(32);
    const option = `--server-side-encryption=customer:${keyFile(context, key)}`;
    const other = `--server-side-encryption=customer:${keyFile(context, randomBytes(32))}`;
    const root = temporaryFolder(context);
    const home = makeHome(join(root, 'home'));
    makeDatabase(makeFolder(home, 'data'), '5.26');
    const target = 's3://backups/customer';
    const backup = [
      ...['database', 'backup', `--neo4j-home=${home}`, `--to-path=${target}`, '--include-metadata=none'],
      ...['--include-configuration', 'neo4j'],
    ];
    const output: string[] = [];
    const expect = async (exitStatus: number, line: string[]): Promise<CliRun> => {
      const result = await run([...line, '--verbose']);
      assert.equal(result.exitStatus, exitStatus, `${line.join(' ')}: ${result.stderr}`);
      output.push(result.stdout, result.stderr);
      return result;
    };
    await expect(0, [...backup, option]);
    await expect(0, [...backup, option]);
    const objects = [...keeper.written].filter(([path]) => path.startsWith('/backups/customer/'));
    assert.ok(objects.filter(([path]) => path.endsWith('.backup')).length === 2, objects.join('\n'));
    for (const [path, used] of objects) assert.equal(used, key.toString('base64'), path);

    const listed = await expect(0, ['backup', 'inspect', target, option]);
    assert.equal(listed.stdout.split('\n').filter((line) => line.includes('.backup |')).length, 1);
    await expect(0, ['backup', 'validate', target, option]);
    const fresh = makeHome(join(root, 'new'), { 'lib/neo4j-kernel-5.26.30.jar': '' });
    await expect(0, ['dbms', 'restore', `--from-path=${target}`, `--neo4j-home=${fresh}`, option]);
    await expect(0, ['backup', 'expire', target, '--keep-last=1', '--confirm', option]);
    for (const wrong of [[], [other]]) {
      const shown = await expect(0, ['backup', 'inspect', target, ...wrong]);
      assert.match(shown.stderr, /\.backup is left out: could not read/);
    }
    for (const secret of [key.toString('base64'), key.toString('hex'), key.toString('latin1')])
      assert.ok(!output.join('\n').includes(secret));
  });

  test('a huge object is put together with it', async () => {
    const customerKey = randomBytes(32);
    const s3 = { ...direct, endpoint: keeper.proxy.url, customerKey };
    const store = await openObjectStore('s3://backups/huge-customer', { s3, uploads: HUGE });
    const { upload, whole } = await sendHuge(store, 'x');
    assert.equal(await upload.complete(7, ABSENT), true);
    const used = [...keeper.written].filter(([path]) => path.startsWith('/backups/huge-customer/'));
    assert.equal(used.length, 6, 'the whole, its four sections, and what a copy is tried with');
    for (const [path, key] of used) assert.equal(key, customerKey.toString('base64'), path);
    assert.ok((await readAll(store, 'x')).equals(whole));
    assert.deepEqual(await all(store.listUploads('')), []);
    store.close();
  });

  test('a store that does not know it is refused before anything is left in the clear', async () => {
    const customerKey = randomBytes(32);
    const s3 = { ...direct, customerKey };
    const store = await openObjectStore('s3://backups/ignored', { s3 });
    await assert.rejects(store.put('lease', Buffer.from('x'), ABSENT), failure('GK_UNSUPPORTED', /encrypts/));
    await assert.rejects(store.beginUpload('x.backup', {}), failure('GK_UNSUPPORTED', /encrypts/));
    const byStore = { encryption: { by: 'store' } } as const;
    const plain = await openObjectStore('s3://backups/ignored', { s3: direct });
    await assert.rejects(plain.beginUpload('x.backup', byStore), failure('GK_UNSUPPORTED', /encrypts/));
    await assert.rejects(
      plain.put('x', Buffer.from('x'), { ...byStore, ...ABSENT }),
      failure('GK_UNSUPPORTED'),
    );
    assert.deepEqual([...(await all(plain.list(''))), ...(await all(plain.listUploads('')))], []);
    store.close();
    plain.close();
  });

  test('it goes to no other store, and over no network that others hear', async () => {
    const s3 = { customerKey: randomBytes(32) };
    for (const url of ['gs://backups/x', 'azb://account/backups/x'])
      await assert.rejects(openObjectStore(url, { s3 }), failure('GK_UNSUPPORTED', /s3:\/\/ only/));
    const endpoint = 'http://s3.example.com:9000';
    await assert.rejects(
      openObjectStore('s3://backups', { s3: { ...s3, endpoint } }),
      failure('GK_CONFIG', /not over http/),
    );
  });

  test('an error of the SDK does not carry it', async () => {
    const customerKey = randomBytes(32);
    const store = await openObjectStore('s3://backups/told', {
      s3: { ...direct, endpoint: keeper.proxy.url, customerKey },
    });
    const text = customerKey.toString('base64');
    const body = `<Error><Code>InvalidArgument</Code><Message>the key ${text} is none</Message></Error>`;
    keeper.proxy.break(9, { kind: 'answer', status: 400, body });
    await assert.rejects(store.put('x', Buffer.from('x'), ABSENT), (error) => {
      assert.ok(!inspect(error, { depth: 12, showHidden: true }).includes(text));
      return failure('GK_IO')(error);
    });
    keeper.proxy.heal();
    store.close();
  });
});

describe('the file of the key', () => {
  test('32 bytes as they are, or in base64', async (context) => {
    const key = randomBytes(32);
    assert.deepEqual(await readCustomerKey(keyFile(context, key)), key);
    assert.deepEqual(await readCustomerKey(keyFile(context, `${key.toString('base64')}\n`)), key);
  });

  test('anything else is refused, and not repeated', async (context) => {
    for (const content of [
      '',
      'planted',
      Buffer.alloc(33, 'planted'),
      Buffer.alloc(31),
      Buffer.alloc(5000),
    ]) {
      await assert.rejects(readCustomerKey(keyFile(context, content)), (error) => {
        assert.doesNotMatch(String(error), /planted/);
        return failure('GK_CONFIG')(error);
      });
    }
    const open = keyFile(context, randomBytes(32), 0o644);
    await assert.rejects(readCustomerKey(open), failure('GK_CONFIG', /read by others/));
    await assert.rejects(readCustomerKey(`${open}.none`), failure('GK_NOT_FOUND'));
  });

  test('the option takes a file and repeats nothing', async () => {
    const planted = randomBytes(32).toString('base64');
    const written = await cli(['backup', 'inspect', 's3://b/x', `--server-side-encryption=${planted}`]);
    assert.equal(written.exitStatus, 64);
    assert.ok(!written.stderr.includes(planted), written.stderr);
    const kms = await cli(['backup', 'inspect', 's3://b/x', '--server-side-encryption=kms']);
    assert.equal(kms.exitStatus, 64);
    assert.match(kms.stderr, /this command writes none/);
  });
});
