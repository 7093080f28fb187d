/** Several backup servers of one client: which one a database is taken from, and what becomes of one that is down. */
import assert from 'node:assert/strict';
import { renameSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Address } from '../../../src/neo4j/values.ts';
import { backupFrom } from '../../../src/operations/backup.ts';
import { RemoteServers, type SelectedRemote, sourceOf } from '../../../src/remote/servers.ts';
import type { BackupServer } from '../../../src/server/backupserver.ts';
import { makeDatabase } from '../../fixtures/database.ts';
import { serve } from '../../fixtures/network.ts';
import { failure, makeFolder, temporaryFolder } from '../../fixtures/workspace.ts';

/** A server of databases with these names. */
async function serverOf(context: TestContext, names: readonly string[]): Promise<BackupServer> {
  const root = temporaryFolder(context);
  for (const name of names) {
    makeDatabase(join(root, name), '5.26');
    for (const kind of ['databases', 'transactions']) {
      makeFolder(root, kind);
      renameSync(join(root, name, kind, 'neo4j'), join(root, kind, name));
    }
  }
  return serve(context, root);
}

async function deadAddress(): Promise<Address> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return { host: '127.0.0.1', port };
}

async function connect(context: TestContext, addresses: readonly Address[]) {
  const notices: string[] = [];
  const onNotice = (message: string): void => void notices.push(message);
  const servers = await RemoteServers.connect({ addresses, inactivityMs: 2000, onNotice });
  context.after(() => servers.close());
  return { servers, notices };
}

/** Name and port of what was selected. */
function chosen(selected: readonly SelectedRemote[]): (readonly [string, string])[] {
  return selected.map((one) => [one.name, 'error' in one ? one.error.code : one.connection.address]);
}

test('a database is taken from the first server that has it; patterns match what any of them has', async (context) => {
  const first = await serverOf(context, ['alpha', 'shared']);
  const second = await serverOf(context, ['beta', 'shared']);
  const { servers, notices } = await connect(context, [first.address, second.address]);
  const [one, two] = [first, second].map(({ address }) => `127.0.0.1:${address.port}`);
  assert.deepEqual(chosen(servers.select(['*'])), [
    ['alpha', one],
    ['beta', two],
    ['shared', one],
  ]);
  assert.deepEqual(chosen(servers.select(['Beta', 'sha*', 'none', 'x*'])), [
    ['beta', two],
    ['shared', one],
    ['none', one],
    ['x*', 'GK_NOT_FOUND'],
  ]);
  assert.deepEqual(notices, []);
  const [beta] = servers.select(['beta']);
  assert.ok(beta !== undefined && 'connection' in beta);
  const targetDirectory = makeFolder(temporaryFolder(context));
  const options = { compress: true, compressionLevel: 1, keepFailed: false, type: 'FULL' } as const;
  assert.equal((await backupFrom(sourceOf(beta), { targetDirectory, ...options })).database, 'beta');
});

test('one that is down is told and passed over, wherever it stands in the list', async (context) => {
  const dead = await deadAddress();
  const alive = await serverOf(context, ['alpha']);
  for (const addresses of [
    [dead, alive.address],
    [alive.address, dead],
  ]) {
    const { servers, notices } = await connect(context, addresses);
    assert.deepEqual(chosen(servers.select(['*'])), [['alpha', `127.0.0.1:${alive.address.port}`]]);
    assert.equal(notices.length, 1);
    assert.match(notices[0]!, new RegExp(`:${dead.port}: nothing listens there .* it is passed over`));
  }
});

test('all of them down: what the first one failed with', async (context) => {
  const [dead, deader] = [await deadAddress(), await deadAddress()];
  const refused = connect(context, [dead, deader]);
  await assert.rejects(refused, failure('GK_UNREACHABLE', new RegExp(`:${dead.port}`)));
});
