/** Files that change while the process runs: the newest that can be used is used, and the rest is told. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import os from 'node:os';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { GraphkeepError } from '../../../src/errors.ts';
import { Reloaded, TlsWatch } from '../../../src/remote/reload.ts';
import { type Certificates, layOutPolicy, makeCertificates } from '../../fixtures/certificates.ts';
import { policy } from '../../fixtures/tlsservers.ts';
import { failure, temporaryFolder } from '../../fixtures/workspace.ts';

/** So long that only the tests look. */
const NEVER_MS = 3_600_000;

async function watching(context: TestContext, load?: () => Promise<string>) {
  const file = join(temporaryFolder(context), 'file');
  writeFileSync(file, 'first');
  const changes: string[] = [];
  const errors: string[] = [];
  let loads = 0;
  const reloaded = await Reloaded.start<string>({
    load: async () => {
      loads += 1;
      return load === undefined ? readFile(file, 'utf8') : load();
    },
    files: [file],
    onChange: (value) => changes.push(value),
    onError: ({ message }) => errors.push(message),
    intervalMs: NEVER_MS,
  });
  context.after(() => reloaded.close());
  return { file, reloaded, changes, errors, loads: () => loads };
}

describe('what is reloaded', () => {
  test('is not read again as long as nothing changes', async (context) => {
    const { reloaded, loads, changes } = await watching(context);
    assert.deepEqual([await reloaded.check(), await reloaded.check()], [false, false]);
    assert.deepEqual([loads(), changes], [1, []]);
  });

  test('is the newest after a write, a rename, and an exchange of a link', async (context) => {
    const { file, reloaded, changes } = await watching(context);
    writeFileSync(file, 'other');
    assert.equal(await reloaded.check(), true);
    writeFileSync(`${file}.new`, 'third');
    renameSync(`${file}.new`, file);
    assert.equal(await reloaded.check(), true);
    for (const name of ['one', 'two']) {
      mkdirSync(`${file}.${name}`);
      writeFileSync(join(`${file}.${name}`, 'file'), name);
    }
    rmSync(file);
    symlinkSync(join(`${file}.one`, 'file'), file);
    await reloaded.check();
    symlinkSync(join(`${file}.two`, 'file'), `${file}.link`);
    renameSync(`${file}.link`, file);
    await reloaded.check();
    assert.equal(reloaded.value, 'two');
    assert.deepEqual(changes, ['other', 'third', 'one', 'two']);
  });

  test('stays as it was when the new one does not load; that is told once, until it does', async (context) => {
    let broken: string | undefined;
    const { file, reloaded, changes, errors } = await watching(context, async () => {
      if (broken === undefined) return 'good';
      throw new GraphkeepError('GK_CONFIG', broken);
    });
    broken = 'bad';
    writeFileSync(file, 'changed');
    assert.deepEqual([await reloaded.check(), await reloaded.check()], [false, false]);
    assert.equal(reloaded.value, 'good');
    assert.equal(reloaded.error?.message, 'bad');
    broken = 'worse';
    await reloaded.check();
    assert.deepEqual(errors, ['bad', 'worse']);
    broken = undefined;
    assert.equal(await reloaded.check(), true, 'tried again although the file is the same');
    assert.equal(reloaded.error, undefined);
    assert.deepEqual(changes, ['good']);
  });

  test('sees a change that happens while it loads', async (context) => {
    const file = join(temporaryFolder(context), 'file');
    writeFileSync(file, 'first');
    let during: (() => void) | undefined = () => writeFileSync(file, 'second, longer');
    const load = async (): Promise<string> => {
      const text = await readFile(file, 'utf8');
      during?.();
      during = undefined;
      return text;
    };
    const reloaded = await Reloaded.start({ load, files: [file], intervalMs: NEVER_MS });
    context.after(() => reloaded.close());
    assert.equal(reloaded.value, 'first');
    assert.equal(await reloaded.check(), true);
    assert.equal(reloaded.value, 'second, longer');
  });

  test('is looked at by itself, and not any more after close', async (context) => {
    const file = join(temporaryFolder(context), 'file');
    writeFileSync(file, 'first');
    const { promise, resolve } = Promise.withResolvers<string>();
    const load = (): Promise<string> => readFile(file, 'utf8');
    const reloaded = await Reloaded.start({ load, files: [file], onChange: resolve, intervalMs: 5 });
    writeFileSync(file, 'other');
    const alive = setInterval(() => undefined, 1000); // the watch itself keeps no process alive
    assert.equal(await promise, 'other');
    clearInterval(alive);
    reloaded.close();
    writeFileSync(file, 'after the end');
    assert.equal(await reloaded.check(), false);
    assert.equal(reloaded.value, 'other');
  });

  test('is looked at anew by whoever asks, also while a look is under way', async (context) => {
    const { file, reloaded } = await watching(context);
    const underWay = reloaded.check();
    await new Promise((resolve) => setImmediate(resolve));
    writeFileSync(file, 'other');
    await Promise.all([underWay, reloaded.check()]);
    assert.equal(reloaded.value, 'other');
  });

  test('stays as it was when the new one cannot be put to use', async (context) => {
    const file = join(temporaryFolder(context), 'file');
    writeFileSync(file, 'first');
    const onChange = (): void => {
      throw new Error('not with me');
    };
    const load = (): Promise<string> => readFile(file, 'utf8');
    const reloaded = await Reloaded.start({ load, files: [file], onChange, intervalMs: NEVER_MS });
    context.after(() => reloaded.close());
    writeFileSync(file, 'other');
    assert.equal(await reloaded.check(), false);
    assert.equal(reloaded.value, 'first');
    assert.match(reloaded.error?.message ?? '', /not with me/);
  });

  test('does not start with what cannot be loaded', async () => {
    const load = (): Promise<string> => Promise.reject(new GraphkeepError('GK_CONFIG', 'bad'));
    await assert.rejects(
      Reloaded.start({ load, files: [], intervalMs: NEVER_MS }),
      failure('GK_CONFIG', /bad/),
    );
  });
});

describe('TlsWatch', () => {
  let made: Certificates;
  const folder = mkdtempSync(join(os.tmpdir(), 'graphkeep-watch-'));
  before(async () => {
    made = await makeCertificates(folder);
  });
  after(() => rmSync(folder, { recursive: true }));

  test('keeps the old pair while only one half of the new one is there', async (context) => {
    const home = temporaryFolder(context);
    const base = await layOutPolicy(home, { own: made.server, trusted: [made.authority.certificate] });
    const errors: GraphkeepError[] = [];
    const onError = (error: GraphkeepError): unknown => errors.push(error);
    const watch = await TlsWatch.start(policy(home), { intervalMs: NEVER_MS, onError });
    context.after(() => watch.close());
    const first = watch.material;
    await layOutPolicy(home, { own: { ...made.renewedServer, key: made.server.key } });
    assert.equal(await watch.check(), false);
    assert.equal(watch.material, first);
    assert.match(watch.error?.message ?? '', /does not belong to/);
    await layOutPolicy(home, { own: made.renewedServer });
    assert.equal(await watch.check(), true);
    assert.notEqual(watch.material, first);
    assert.equal(watch.error, undefined);
    assert.equal(errors.length, 1);
    assert.ok(watch.material.files.includes(join(base, 'trusted')));
  });

  test('sees files that are added to and taken from the folders', async (context) => {
    const home = temporaryFolder(context);
    const base = await layOutPolicy(home, { own: made.server, trusted: [made.authority.certificate] });
    const watch = await TlsWatch.start(policy(home), { intervalMs: NEVER_MS });
    context.after(() => watch.close());
    await layOutPolicy(home, { revoked: [made.revocationList] });
    assert.equal(await watch.check(), true);
    assert.equal((watch.material.secureContext.crl as string[]).length, 1);
    rmSync(join(base, 'revoked'), { recursive: true });
    assert.equal(await watch.check(), true);
    assert.equal(watch.material.secureContext.crl, undefined);
    writeFileSync(join(base, 'trusted', 'authority.crt'), await readFile(made.otherAuthority.certificate));
    assert.equal(await watch.check(), true, 'a file that is written in its place');
    rmSync(join(base, 'trusted', 'authority.crt'));
    assert.equal(await watch.check(), false);
    assert.match(watch.error?.message ?? '', /no certificate in/);
  });
});
