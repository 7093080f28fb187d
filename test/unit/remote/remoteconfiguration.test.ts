import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { RANGE_BYTES } from '../../../src/limits.ts';
import { openInstallation } from '../../../src/neo4j/installation.ts';
import { readConfiguration } from '../../../src/operations/configuration.ts';
import { writeConfigurationArtifact } from '../../../src/operations/configurationbackup.ts';
import { BackupServer } from '../../../src/server/backupserver.ts';
import { readServerSettings } from '../../../src/server/settings.ts';
import { makeDatabase } from '../../fixtures/database.ts';
import { makeHome } from '../../fixtures/installations.ts';
import { askServer, layOutServer, tokenLine } from '../../fixtures/served.ts';
import { makeFolder, namesIn, temporaryFolder } from '../../fixtures/workspace.ts';
import { cli } from '../cli/harness.ts';

const ALLOWED = 'gk_allowed';
const FORBIDDEN = 'gk_forbidden';

interface Setup {
  readonly home: string;
  readonly backups: string;
  readonly port: number;
  readonly tokenFile: (token: string) => string;
}

async function serve(context: TestContext): Promise<Setup> {
  const root = temporaryFolder(context);
  const home = makeHome(join(root, 'home'));
  makeDatabase(makeFolder(home, 'data'), '5.26');
  const access = [tokenLine('all', ALLOWED, '*', 'configuration'), tokenLine('few', FORBIDDEN, '*')];
  const file = await layOutServer(root, { access });
  const settings = await readServerSettings({ file, environment: {}, flags: new Map() });
  const installation = await openInstallation({ home, environment: {} });
  const server = await BackupServer.start({ settings, installation, log: { write: () => true } });
  context.after(() => server.close());
  const tokenFile = (token: string): string => {
    const path = join(root, token);
    writeFileSync(path, token, { mode: 0o600 });
    return path;
  };
  return { home, backups: makeFolder(root, 'backups'), port: server.address.port, tokenFile };
}

function backup({ port, backups, tokenFile }: Setup, token: string, ...more: string[]) {
  const from = [`--from=127.0.0.1:${port}`, `--token-file=${tokenFile(token)}`, `--to-path=${backups}`];
  return cli(['dbms', 'backup', ...from, '--include-metadata=none', '--format=json', ...more]);
}

describe('the configuration through a backup server', () => {
  for (const plugins of [false, true]) {
    test(`is the one that the host itself would take, ${plugins ? 'jars' : 'no jars'} included`, async (context) => {
      const setup = await serve(context);
      // Longer than a range of the protocol, and no multiple of anything.
      writeFileSync(join(setup.home, 'plugins/large.jar'), Buffer.alloc(RANGE_BYTES + 12_345, 'jar'));
      const run = await backup(setup, ALLOWED, `--include-plugins=${plugins}`);
      assert.equal(run.exitStatus, 0, run.stdout);
      const taken = namesIn(setup.backups).find((name) => name.endsWith('.tar'))!;
      const installation = await openInstallation({ home: setup.home, environment: {} });
      const content = await readConfiguration({ installation, includePlugins: plugins });
      const local = await writeConfigurationArtifact(content, {
        targetDirectory: makeFolder(setup.home, 'local'),
      });
      // The two differ in their time, and in what follows from it.
      const [remote, here] = [join(setup.backups, taken), local.artifactPath].map((path) => {
        const bytes = readFileSync(path);
        return bytes.subarray(bytes.indexOf('configuration/neo4j.conf\0'));
      });
      assert.equal(remote!.equals(here!), true);
      assert.equal(remote!.includes('large.jar\0'), plugins);
      const members = (JSON.parse(run.stdout) as { backups: { manifest?: { members: unknown } }[] })
        .backups[1]?.manifest;
      assert.deepEqual(members?.members, content.manifest.members);
    });
  }

  test('is refused to who may only read databases', async (context) => {
    const setup = await serve(context);
    const run = await backup(setup, FORBIDDEN);
    assert.equal(run.exitStatus, 1);
    const [database, configuration] = (
      JSON.parse(run.stdout) as { backups: { ok: boolean; error?: { code: string; message: string } }[] }
    ).backups;
    assert.equal(database?.ok, true, run.stdout);
    assert.equal(configuration?.error?.code, 'GK_UNAUTHORIZED');
    assert.match(configuration?.error?.message ?? '', /few may not read the configuration/);
    const ranged = {
      headers: { range: 'bytes=0-3' },
      path: '/v1/configuration/plugins/words.jar',
      port: setup.port,
    };
    assert.equal((await askServer({ ...ranged, token: FORBIDDEN })).status, 403);
    assert.equal((await askServer({ ...ranged, token: ALLOWED })).status, 206);
    assert.equal((await askServer(ranged)).status, 401);
  });

  test('gives no other file than a plugin', async (context) => {
    const { port } = await serve(context);
    const paths = [
      '../conf/neo4j.conf',
      '/etc/passwd',
      'README.txt',
      '..',
      'none.jar',
      '../plugins/words.jar',
    ];
    for (const path of paths) {
      const answer = await askServer({
        port,
        token: ALLOWED,
        headers: { range: 'bytes=0-3' },
        path: `/v1/configuration/plugins/${encodeURIComponent(path)}`,
      });
      assert.equal(answer.status, 404, path);
    }
    const beyond = { port, token: ALLOWED, path: '/v1/configuration/plugins/words.jar' };
    assert.equal((await askServer({ ...beyond, headers: { range: 'bytes=0-100000' } })).status, 400);
    assert.equal((await askServer(beyond)).status, 400);
  });
});
