/** Settings of the server: where values come from, what they may be, and when it refuses to listen. */
import assert from 'node:assert/strict';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, test } from 'node:test';
import { isLoopback } from '../../../src/neo4j/values.ts';
import { environmentName, SETTINGS, type SettingSources } from '../../../src/remote/configuration.ts';
import { readServerSettings, refuseUnsafe, type ServerSettings } from '../../../src/server/settings.ts';
import { failure, makeFolder, temporaryFolder } from '../../fixtures/workspace.ts';

const HOME = '/var/lib/neo4j-that-is-not-there';

function read(
  values: Record<string, string> = {},
  more: Partial<SettingSources> = {},
): Promise<ServerSettings> {
  return readServerSettings({ environment: {}, home: HOME, flags: new Map(Object.entries(values)), ...more });
}

describe('where a value comes from', () => {
  test('the defaults hold without a file', async () => {
    const settings = await read();
    assert.deepEqual(
      { ...settings, tls: settings.tls.clientAuth },
      {
        enabled: true,
        listenAddress: { host: '127.0.0.1', port: 6362 },
        tls: 'REQUIRE',
        insecure: false,
        sessionTimeoutMs: 300_000,
        sessionsMax: 32,
        cpuSharePercent: 3,
        notes: [],
      },
    );
  });

  test('the table of defaults is what happens without them', async () => {
    const given = SETTINGS.flatMap(({ name, default: value }) =>
      value === undefined ? [] : [[name, value]],
    );
    const explicit = await read(Object.fromEntries(given) as Record<string, string>);
    const implicit = await read();
    const comparable = (settings: ServerSettings): unknown => ({
      ...settings,
      tls: { ...settings.tls, given: '' },
    });
    assert.deepEqual(comparable(explicit), comparable(implicit));
  });

  test('flags before environment before file', async (context) => {
    const file = join(temporaryFolder(context), 'graphkeep.conf');
    const lines = ['sessions_max=1', 'limit_rate=1k', 'session_timeout=1s'];
    writeFileSync(file, lines.map((line) => `graphkeep.server.${line}\n`).join(''));
    const environment = {
      GRAPHKEEP_graphkeep_server_sessions__max: '2',
      GRAPHKEEP_graphkeep_server_limit__rate: '2k',
      GRAPHKEEP_FAULT_SEED: '1',
      GRAPHKEEP_TOKEN: 'x',
    };
    const flags = new Map([['graphkeep.server.sessions_max', '3']]);
    const settings = await readServerSettings({ file, environment, flags, home: HOME });
    assert.equal(settings.sessionsMax, 3);
    assert.equal(settings.rateBytesPerSecond, 2048);
    assert.equal(settings.sessionTimeoutMs, 1000);
    assert.equal(settings.configurationFile, file);
  });

  test('the file is that of --config, of GRAPHKEEP_CONF, or the one of the home folder', async (context) => {
    const home = temporaryFolder(context);
    const write = (name: string, sessions: number): string => {
      const file = join(makeFolder(home, 'conf'), name);
      writeFileSync(file, `graphkeep.server.sessions_max=${sessions}\n`);
      return file;
    };
    write('graphkeep.conf', 1);
    const environment = { GRAPHKEEP_CONF: write('environment.conf', 2) };
    const file = write('given.conf', 3);
    assert.equal((await read({}, { home })).sessionsMax, 1);
    assert.equal((await read({}, { home, environment })).sessionsMax, 2);
    assert.equal((await read({}, { home, environment, file })).sessionsMax, 3);
    assert.equal((await read({}, { home: undefined })).sessionsMax, 32);
    await assert.rejects(read({}, { home, file: join(home, 'missing') }), failure('GK_NOT_FOUND', /missing/));
    const wrong = { GRAPHKEEP_CONF: join(home, 'missing') };
    await assert.rejects(read({}, { environment: wrong }), failure('GK_NOT_FOUND', /missing/));
  });

  test('an empty value is the default, and takes away what the file says', async (context) => {
    const file = join(temporaryFolder(context), 'graphkeep.conf');
    writeFileSync(file, 'graphkeep.server.sessions_max=5\n');
    const environment = { GRAPHKEEP_graphkeep_server_sessions__max: '' };
    assert.equal((await read({}, { file, environment })).sessionsMax, 32);
  });

  test('old names are accepted with a note, and the range of ports of 3.x', async () => {
    const settings = await read({
      'dbms.backup.enabled': 'false',
      'dbms.backup.address': '10.0.0.1:6372-6382',
    });
    assert.equal(settings.enabled, false);
    assert.deepEqual(settings.listenAddress, { host: '10.0.0.1', port: 6372 });
    assert.equal(settings.notes.length, 2);
    assert.match(
      settings.notes.join('\n'),
      /dbms\.backup\.address .* old name of server\.backup\.listen_address/,
    );
  });

  test('beside the new name an old one has no effect', async () => {
    const settings = await read({
      'server.backup.listen_address': ':1',
      'dbms.backup.listen_address': ':2',
      'dbms.backup.address': ':3',
    });
    assert.equal(settings.listenAddress.port, 1);
    assert.match(settings.notes.join('\n'), /dbms\.backup\.address .* has no effect/);
  });

  test('paths are relative to the home folder, or to the file', async (context) => {
    const folder = temporaryFolder(context);
    const file = join(folder, 'graphkeep.conf');
    writeFileSync(file, 'graphkeep.server.access_file=conf/access\n');
    assert.equal((await read({}, { file })).accessFile, join(HOME, 'conf/access'));
    assert.equal((await read({}, { file, home: undefined })).accessFile, join(folder, 'conf/access'));
    assert.equal((await read()).tls.privateKey, join(HOME, 'certificates/backup/private.key'));
  });
});

describe('what is refused', () => {
  const unknown: readonly [string, RegExp][] = [
    ['server.backup.listen_adress=:1', /did you mean server\.backup\.listen_address\?/],
    ['dbms.ssl.policy.backup.client_atuh=REQUIRE', /did you mean dbms\.ssl\.policy\.backup\.client_auth\?/],
    ['graphkeep.server.acess_file=x', /did you mean graphkeep\.server\.access_file\?/],
    ['server.memory.heap.max_size=1g', /settings of the backup server only/],
  ];
  for (const [line, hint] of unknown) {
    test(`the unknown ${line}`, async (context) => {
      const file = join(temporaryFolder(context), 'graphkeep.conf');
      writeFileSync(file, `${line}\n`);
      await assert.rejects(read({}, { file }), (error: Error & { hint: string }) => {
        assert.match(error.message, /unknown setting/);
        assert.match(error.hint, hint);
        return failure('GK_CONFIG')(error);
      });
    });
  }

  test('an unknown name or a wrong case in the environment', async () => {
    for (const variable of ['GRAPHKEEP_server_backup_listen_address', 'GRAPHKEEP_SERVER_BACKUP_ENABLED']) {
      const reading = read({}, { environment: { [variable]: 'x' } });
      await assert.rejects(reading, failure('GK_CONFIG', new RegExp(`unknown setting ${variable}`)));
    }
  });

  const wrong: readonly [string, string][] = [
    ['server.backup.enabled', 'yes'],
    ['server.backup.listen_address', 'a:b:c'],
    ['server.backup.listen_address', ':65536'],
    ['graphkeep.server.session_timeout', '5 minutes'],
    ['graphkeep.server.session_timeout', '0s'],
    ['graphkeep.server.session_timeout', '25h'],
    ['graphkeep.server.sessions_max', '0'],
    ['graphkeep.server.sessions_max', '1001'],
    ['graphkeep.server.limit_rate', '0'],
    ['graphkeep.server.limit_rate', 'fast'],
    ['graphkeep.server.cpu_share', '0'],
    ['graphkeep.server.cpu_share', '101'],
    ['graphkeep.server.cpu_share', '3.5'],
    ['graphkeep.server.insecure', '1'],
    ['graphkeep.server.monitoring_address', '[localhost]:1'],
  ];
  for (const [name, value] of wrong) {
    test(`${name}=${value}`, async () => {
      await assert.rejects(read({ [name]: value }), failure('GK_CONFIG', new RegExp(`${name}=`)));
    });
  }

  test('a setting that stands twice, a command, a file that others can write', async (context) => {
    const file = join(temporaryFolder(context), 'graphkeep.conf');
    writeFileSync(file, 'server.backup.enabled=true\nserver.backup.enabled=false\n');
    await assert.rejects(read({}, { file }), failure('GK_CONFIG', /several times/));
    writeFileSync(file, 'dbms.ssl.policy.backup.private_key_password=$(cat secret)\n', { mode: 0o600 });
    chmodSync(file, 0o600);
    await assert.rejects(read({}, { file }), failure('GK_CONFIG', /is a command/));
    writeFileSync(file, 'server.backup.enabled=true\n');
    chmodSync(file, 0o666);
    await assert.rejects(read({}, { file }), failure('GK_CONFIG', /can be written by others/));
  });

  test('a password on the command line, or in a file that others can read', async (context) => {
    const name = 'dbms.ssl.policy.backup.private_key_password';
    await assert.rejects(read({ [name]: 'secret' }), failure('GK_USAGE', /command line/));
    const file = join(temporaryFolder(context), 'graphkeep.conf');
    writeFileSync(file, `${name}=secret \n`);
    chmodSync(file, 0o644);
    await assert.rejects(
      read({}, { file }),
      failure('GK_CONFIG', /password .* read by others \(mode 0644\)/),
    );
    chmodSync(file, 0o640);
    assert.equal((await read({}, { file })).tls.privateKeyPassword, 'secret ');
    const environment = { [environmentName(name)]: 'other' };
    assert.equal((await read({}, { environment })).tls.privateKeyPassword, 'other');
  });
});

describe('addresses', () => {
  test('the advertised one takes what is missing from the listen address', async () => {
    const advertised = async (value: string): Promise<unknown> =>
      (await read({ 'server.backup.listen_address': '0.0.0.0:1', 'server.backup.advertised_address': value }))
        .advertisedAddress;
    assert.deepEqual(await advertised('db.example.com'), { host: 'db.example.com', port: 1 });
    assert.deepEqual(await advertised('db.example.com:0'), { host: 'db.example.com', port: 1 });
    assert.deepEqual(await advertised(':2'), { host: '0.0.0.0', port: 2 });
    assert.equal(await advertised(''), undefined);
  });

  test('loopback is what cannot be reached from elsewhere', () => {
    for (const host of [
      '127.0.0.1',
      '127.8.9.10',
      '::1',
      '0:0:0:0:0:0:0:1',
      'localhost',
      '::ffff:127.0.0.1',
    ]) {
      assert.equal(isLoopback(host), true, host);
    }
    const beyond = [
      '0.0.0.0',
      '::',
      '10.0.0.1',
      '128.0.0.1',
      '::2',
      'localhost.example.com',
      '127.0.0.1.nip.io',
    ];
    for (const host of [...beyond, '::ffff:10.0.0.1', 'db', '']) assert.equal(isLoopback(host), false, host);
  });
});

describe('listening beyond loopback', () => {
  const beyond = { 'server.backup.listen_address': '0.0.0.0:6362' };
  const tls = { 'dbms.ssl.policy.backup.enabled': 'true' };
  const setting = (name: string, value: string) => ({ [`dbms.ssl.policy.backup.${name}`]: value });
  const tokens = { hasTokens: true, hasCertificates: false };
  const names = { hasTokens: false, hasCertificates: true };

  const refused: readonly [string, Record<string, string>, typeof tokens | undefined, RegExp][] = [
    ['without anything', {}, undefined, /without TLS and an access file/],
    ['with tokens but no TLS', {}, tokens, /without TLS a token can be read/],
    ['with client_auth=NONE', { ...tls, ...setting('client_auth', 'NONE') }, undefined, /client_auth=NONE/],
    ['with client_auth=OPTIONAL', { ...tls, ...setting('client_auth', 'OPTIONAL') }, undefined, /=OPTIONAL/],
    ['with trust_all', { ...tls, ...setting('trust_all', 'true') }, undefined, /trust_all/],
    ['with a policy that is not enabled', setting('client_auth', 'REQUIRE'), undefined, /without TLS/],
  ];
  for (const [what, values, access, reason] of refused) {
    test(`is refused ${what}, and with --insecure warned of`, async () => {
      const settings = await read({ ...beyond, ...values });
      assert.throws(() => refuseUnsafe(settings, access), failure('GK_CONFIG', reason));
      const [warning, ...more] = refuseUnsafe({ ...settings, insecure: true }, access);
      assert.match(warning ?? '', reason);
      assert.deepEqual(more, []);
      const loopback = { ...settings, listenAddress: { host: '127.0.0.1', port: 6362 } };
      assert.deepEqual(refuseUnsafe(loopback, access), []);
    });
  }

  const allowed: readonly [string, Record<string, string>, typeof tokens | undefined][] = [
    ['mutual TLS', tls, undefined],
    ['TLS and tokens', { ...tls, ...setting('client_auth', 'NONE') }, tokens],
    ['TLS and names of certificates', { ...tls, ...setting('client_auth', 'OPTIONAL') }, names],
    ['trust_all and tokens', { ...tls, ...setting('trust_all', 'true') }, tokens],
  ];
  for (const [what, values, access] of allowed) {
    test(`is allowed with ${what}`, async () => {
      assert.deepEqual(refuseUnsafe(await read({ ...beyond, ...values }), access), []);
    });
  }

  test('is meant by every address but loopback', async () => {
    for (const address of [
      '0.0.0.0:6362',
      '[::]:6362',
      'backup.example.com',
      '192.168.1.1:1',
      'localhost.:1',
    ]) {
      const settings = await read({ 'server.backup.listen_address': address });
      assert.throws(
        () => refuseUnsafe(settings, undefined),
        failure('GK_CONFIG', /beyond this machine/),
        address,
      );
    }
  });

  test('names of certificates without TLS that checks them are refused on loopback too', async () => {
    const lists: Record<string, string>[] = [
      {},
      { ...tls, ...setting('client_auth', 'NONE') },
      { ...tls, ...setting('trust_all', 'true') },
    ];
    for (const values of lists) {
      const settings = { ...(await read(values)), insecure: true };
      assert.throws(() => refuseUnsafe(settings, names), failure('GK_CONFIG', /no certificate is checked/));
    }
    assert.deepEqual(refuseUnsafe(await read(tls), names), []);
  });

  test('monitoring beyond loopback is warned of', async () => {
    const settings = await read({ 'graphkeep.server.monitoring_address': '0.0.0.0' });
    assert.deepEqual(settings.monitoringAddress, { host: '0.0.0.0', port: 6363 });
    assert.match(refuseUnsafe(settings, undefined).join(), /0\.0\.0\.0:6363/);
  });
});

describe('docs/server-settings.md', () => {
  const text = readFileSync(resolve(import.meta.dirname, '../../../docs/server-settings.md'), 'utf8');
  const rows = text
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.split('|').map((cell) => cell.trim()));

  for (const setting of SETTINGS) {
    test(`has ${setting.name} with its default and old names`, () => {
      const row = rows.find((cells) => cells[1] === `\`${setting.name}\``);
      assert.ok(row !== undefined, 'no row');
      assert.equal(row[2], setting.default === undefined ? 'none' : `\`${setting.default}\``);
      for (const former of setting.formerNames) assert.ok(row[4]!.includes(`\`${former}\``), former);
    });
  }

  test('has no other', () => {
    const known = new Set(SETTINGS.map(({ name }) => `\`${name}\``));
    assert.deepEqual(
      rows.map((cells) => cells[1]).filter((name) => !known.has(name!)),
      [],
    );
  });

  test('shows the form of the environment as it is', () => {
    assert.ok(text.includes(`\`${environmentName('server.backup.listen_address')}\``));
  });
});
