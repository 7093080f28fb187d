/** Two S3 in one run, each named by a profile in its URL: one bucket name, one folder, other endpoints and other keys. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, type TestContext, test } from 'node:test';
import { openObjectStore } from '../../src/storage/objects/open.ts';
import { makeDatabase } from '../fixtures/database.ts';
import { makeHome } from '../fixtures/installations.ts';
import { makeFolder, temporaryFolder } from '../fixtures/workspace.ts';
import { cli } from '../unit/cli/harness.ts';
import type { RunningStore } from './servers.ts';
import { all, keysOf, readAll, withEnvironment } from './suitetools.ts';
import { startVersityWith } from './versity.ts';

const ONSITE = { accessKeyId: 'onsite-test-access', secretAccessKey: 'planted-secret-Of-The-Onsite-4721' };
const CLOUD = { accessKeyId: 'cloud-test-access', secretAccessKey: 'planted-secret-Of-The-Cloud-4722' };
const CROSSED = { ...CLOUD, secretAccessKey: ONSITE.secretAccessKey };
const NOBODY = { accessKeyId: 'nobody-test-access', secretAccessKey: 'planted-secret-Of-Nobody-4723' };

const keyLines = (name: string, { accessKeyId, secretAccessKey }: typeof ONSITE): string =>
  `[${name}]\naws_access_key_id = ${accessKeyId}\naws_secret_access_key = ${secretAccessKey}\n`;

describe('two S3 in one run', async () => {
  const [onsite, cloud] = [await startVersityWith(ONSITE), await startVersityWith(CLOUD)];
  if ('skip' in onsite || 'skip' in cloud) {
    test('two S3', { skip: 'skip' in onsite ? onsite.skip : 'one server did not start' }, () => undefined);
    for (const server of [onsite, cloud]) if (!('skip' in server)) await server.stop();
    return;
  }
  after(async () => {
    await onsite.stop();
    await cloud.stop();
  });

  const endpoints = [onsite.direct.s3?.endpoint, cloud.direct.s3?.endpoint];

  /** Everything else that the run could take leads nowhere. */
  function environmentOf(context: TestContext): Record<string, string> {
    const folder = temporaryFolder(context);
    const files = {
      AWS_CONFIG_FILE: join(folder, 'config'),
      AWS_SHARED_CREDENTIALS_FILE: join(folder, 'keys'),
    };
    const [onsiteUrl, cloudUrl] = endpoints;
    const configuration = [
      `[profile onsite]\nregion = us-east-1\nservices = onsite\n`,
      `[services onsite]\ns3 =\n  endpoint_url = ${onsiteUrl}\n`,
      `[profile cloud]\nregion = us-east-1\nendpoint_url = ${cloudUrl}\n`,
      `[profile crossed]\nregion = us-east-1\nendpoint_url = ${cloudUrl}\n`,
    ];
    writeFileSync(files.AWS_CONFIG_FILE, configuration.join(''));
    const keys = [keyLines('onsite', ONSITE), keyLines('cloud', CLOUD), keyLines('crossed', CROSSED)];
    writeFileSync(files.AWS_SHARED_CREDENTIALS_FILE, keys.join(''));
    return {
      ...files,
      AWS_PROFILE: 'nobody',
      AWS_ACCESS_KEY_ID: NOBODY.accessKeyId,
      AWS_SECRET_ACCESS_KEY: NOBODY.secretAccessKey,
      AWS_ENDPOINT_URL: 'http://127.0.0.1:9',
      AWS_REGION: 'eu-nowhere-1',
    };
  }

  interface Scene {
    /** Runs a command line, which ends with this status and tells no secret. */
    run(exitStatus: number, ...line: string[]): Promise<string>;
    readonly home: string;
  }

  function sceneOf(context: TestContext): Scene {
    const environment = environmentOf(context);
    const home = makeHome(join(temporaryFolder(context), 'home'));
    makeDatabase(makeFolder(home, 'data'), '5.26');
    const run = async (exitStatus: number, ...line: string[]): Promise<string> => {
      const result = await withEnvironment(environment, () => cli([...line, '--verbose']));
      const output = result.stdout + result.stderr;
      assert.equal(result.exitStatus, exitStatus, `${line.join(' ')}: ${output}`);
      assert.doesNotMatch(output, /planted-secret/);
      return output;
    };
    return { run, home };
  }

  const backupTo = (home: string, ...folders: string[]): string[] => [
    ...[
      'database',
      'backup',
      `--neo4j-home=${home}`,
      '--include-metadata=none',
      '--s3-endpoint=http://127.0.0.1:9',
    ],
    ...folders.map((folder) => `--to-path=${folder}`),
    'neo4j',
  ];

  /** Its own view, without any profile. */
  async function contentOf(server: RunningStore, folder: string): Promise<Record<string, string>> {
    const store = await openObjectStore(`s3://backups/${folder}`, server.direct);
    try {
      assert.deepEqual(await all(store.listUploads('')), []);
      const content: Record<string, string> = {};
      for (const key of await keysOf(store)) content[key] = (await readAll(store, key)).toString('base64');
      return content;
    } finally {
      store.close();
    }
  }

  test('one backup goes to both, and a differential follows it in both', async (context) => {
    const { run, home } = sceneOf(context);
    const folders = ['s3://onsite@backups/both', 's3://cloud@backups/both'];
    const full = await run(0, ...backupTo(home, ...folders));
    for (const folder of folders) assert.ok(full.includes(`${folder}/neo4j-`), full);
    const next = await run(0, ...backupTo(home, ...folders), '--type=DIFF');
    assert.match(next, /differential/);
    const [here, there] = [await contentOf(onsite, 'both'), await contentOf(cloud, 'both')];
    assert.equal(Object.keys(here).length, 2);
    assert.deepEqual(here, there);
    for (const folder of folders) {
      assert.ok((await run(0, 'backup', 'inspect', folder)).includes(`${folder}/neo4j-`));
      await run(0, 'backup', 'validate', folder);
    }
  });

  test('a copy goes from one to the other, is found there again, and is restored', async (context) => {
    const { run, home } = sceneOf(context);
    const [from, to] = ['s3://onsite@backups/copied', 's3://cloud@backups/copied'];
    await run(0, ...backupTo(home, from));
    await run(0, ...backupTo(home, from), '--type=DIFF');
    assert.deepEqual(await contentOf(cloud, 'copied'), {});
    const copied = await run(0, 'backup', 'copy', from, to);
    assert.equal(copied.split(`${to}/neo4j-`).length, 3, copied);
    const content = await contentOf(onsite, 'copied');
    assert.equal(Object.keys(content).length, 2);
    assert.deepEqual(await contentOf(cloud, 'copied'), content);
    const again = await run(0, 'backup', 'copy', from, to, '--verify=FULL');
    assert.match(again, /there already .*every byte proven/);
    const newest = Object.keys(content).sort().at(-1)!;
    const other = 's3://cloud@backups/chain';
    await run(0, 'backup', 'copy', `${from}/${newest}`, other, '--latest-chain');
    assert.deepEqual(await contentOf(cloud, 'chain'), content);
    const fresh = makeHome(join(temporaryFolder(context), 'fresh'));
    const restored = await run(
      0,
      ...['database', 'restore', `--from-path=${other}/${newest}`, `--neo4j-home=${fresh}`, 'neo4j'],
    );
    assert.match(restored, /Restored database 'neo4j'/);
  });

  test('what is removed in one stays in the other', async (context) => {
    const { run, home } = sceneOf(context);
    const folders = ['s3://onsite@backups/expired', 's3://cloud@backups/expired'];
    for (let count = 0; count < 2; count++) await run(0, ...backupTo(home, ...folders), '--type=FULL');
    await run(0, 'backup', 'expire', folders[1]!, '--keep-last=1', '--confirm');
    const [here, there] = [await contentOf(onsite, 'expired'), await contentOf(cloud, 'expired')];
    assert.deepEqual([Object.keys(here).length, Object.keys(there).length], [2, 1]);
    await run(0, 'backup', 'copy', ...folders);
    assert.deepEqual(await contentOf(cloud, 'expired'), here);
  });

  test('the keys of one are of no use in the other, and the place is named', async (context) => {
    const { run, home } = sceneOf(context);
    const places = ['s3://onsite@backups/refused', 's3://crossed@backups/refused'];
    const refused = await run(77, ...backupTo(home, ...places));
    assert.ok(refused.includes(places[1]!), refused);
    assert.deepEqual(await contentOf(onsite, 'refused'), {});
    const any = await run(0, ...backupTo(home, ...places), '--require=ANY');
    assert.ok(any.includes(`${places[1]} does not get this backup`), any);
    assert.equal(Object.keys(await contentOf(onsite, 'refused')).length, 1);
  });

  test('a profile that is not there, or a password: nothing is begun', async (context) => {
    const { run, home } = sceneOf(context);
    const missing = await run(
      78,
      ...backupTo(home, 's3://onsite@backups/begun', 's3://nowhere@backups/begun'),
    );
    assert.match(missing, /there is no profile nowhere of AWS, neither in \S+config nor in \S+keys/);
    assert.deepEqual(await contentOf(onsite, 'begun'), {});
    const key = `s3://${ONSITE.accessKeyId}:${ONSITE.secretAccessKey}@backups/begun`;
    assert.match(await run(64, 'backup', 'copy', 's3://onsite@backups/begun', key), /a password or a port/);
    assert.match(await run(64, ...backupTo(home, key)), /a password or a port/);
  });
});
