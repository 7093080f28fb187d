/** Encryption from the command line: keys that are taken and refused, and what each command says of encrypted artifacts. */
import assert from 'node:assert/strict';
import { chmodSync, cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { useEncryption } from '../../../src/artifact/encryption.ts';
import { isAge } from '../../../src/formats/age/header.ts';
import { type KeyPair, makeKey, writeIdentity } from '../../fixtures/age.ts';
import { makeDatabase } from '../../fixtures/database.ts';
import { KEY, makeHome } from '../../fixtures/installations.ts';
import { filesBelow, makeFolder, namesIn, temporaryFolder } from '../../fixtures/workspace.ts';
import { type CliRun, cli } from './harness.ts';

interface Setup {
  readonly root: string;
  readonly home: string;
  readonly backups: string;
  readonly key: KeyPair;
  readonly identity: string;
}

async function setUp(context: TestContext): Promise<Setup> {
  const root = temporaryFolder(context);
  const home = makeHome(join(root, 'home'));
  makeDatabase(makeFolder(home, 'data'), '5.26');
  const key = await makeKey();
  context.after(() => useEncryption({ recipients: [], identities: [], clearHeader: false }));
  return {
    root,
    home,
    backups: makeFolder(root, 'backups'),
    key,
    identity: writeIdentity(join(root, 'key'), key),
  };
}

function backup({ home, backups }: Setup, ...more: string[]): Promise<CliRun> {
  const places = [`--neo4j-home=${home}`, `--to-path=${backups}`, '--include-metadata=none'];
  return cli(['database', 'backup', ...places, ...more, 'neo4j']);
}

function onlyArtifact({ backups }: Setup): string {
  const [name, ...others] = namesIn(backups);
  assert.deepEqual(others, []);
  return join(backups, name!);
}

function succeeded(run: CliRun): CliRun {
  assert.equal(run.exitStatus, 0, run.stderr);
  return run;
}

describe('whom artifacts are encrypted for', () => {
  test('keys on the command line and of files, each of which opens the artifact', async (context) => {
    const setup = await setUp(context);
    const others = await Promise.all([makeKey(), makeKey()]);
    const file = join(setup.root, 'recipients.txt');
    writeFileSync(file, `# ops\n\n${others[0]!.recipient}\n  ${others[1]!.recipient}\n`);
    succeeded(await backup(setup, `--encrypt-to=${setup.key.recipient}`, `--encrypt-to=${file}`));
    const artifact = onlyArtifact(setup);
    assert.equal(isAge(readFileSync(artifact)), true);
    for (const [number, key] of [setup.key, ...others].entries()) {
      const identity = writeIdentity(join(setup.root, `id${number}`), key);
      succeeded(await cli(['backup', 'validate', artifact, `--identity=${identity}`]));
    }
  });

  test('post-quantum keys are taken, but not mixed with others', async (context) => {
    const setup = await setUp(context);
    const hybrid = await makeKey('hybrid');
    const mixed = await backup(
      setup,
      `--encrypt-to=${hybrid.recipient}`,
      `--encrypt-to=${setup.key.recipient}`,
    );
    assert.equal(mixed.exitStatus, 64);
    assert.match(mixed.stderr, /mixes post-quantum keys/);
    succeeded(await backup(setup, `--encrypt-to=${hybrid.recipient}`));
    const identity = writeIdentity(join(setup.root, 'pq'), hybrid);
    succeeded(await cli(['backup', 'validate', onlyArtifact(setup), `--identity=${identity}`]));
  });

  test('what is no public key of age is refused before anything is written, and a private one not repeated', async (context) => {
    const setup = await setUp(context);
    const { identity, recipient } = setup.key;
    const file = (content: string): string => {
      const path = join(setup.root, `keys-${content.length}`);
      writeFileSync(path, content);
      return path;
    };
    const refused: readonly (readonly [string, RegExp, number?])[] = [
      [identity, /is a private key/],
      [file(`${identity}\n`), /line 1, is a private key/],
      [file(`${recipient}\n${identity}\n`), /line 2, is a private key/],
      ['ssh-ed25519 AAAAC3Nza', /is an SSH key/],
      [file('ssh-rsa AAAAB3Nza me@here\n'), /line 1, is an SSH key/],
      [file('hello\n'), /line 1, is not a public key/],
      [file('# nobody\n'), /holds no public key/],
      [`${recipient.slice(0, -1)}${recipient.endsWith('q') ? 'p' : 'q'}`, /is not a public key of age/],
      [
        'age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t',
        /is not a public key of age/,
      ],
      [join(setup.root, 'nowhere'), /does not exist/, 66],
    ];
    for (const [value, message, status = 64] of refused) {
      const run = await backup(setup, `--encrypt-to=${value}`);
      assert.deepEqual([run.exitStatus, message.test(run.stderr)], [status, true], run.stderr);
      assert.ok(!`${run.stdout}${run.stderr}`.includes(identity.slice(16)), 'the private key is repeated');
    }
    const lonely = await backup(setup, '--clear-header');
    assert.deepEqual([lonely.exitStatus, /needs --encrypt-to/.test(lonely.stderr)], [64, true]);
    assert.deepEqual(namesIn(setup.backups), []);
  });

  test('a file of public keys that others can write is refused', async (context) => {
    const setup = await setUp(context);
    const file = join(setup.root, 'recipients.txt');
    writeFileSync(file, setup.key.recipient);
    chmodSync(file, 0o666);
    const run = await backup(setup, `--encrypt-to=${file}`);
    assert.deepEqual([run.exitStatus, /can be written by others/.test(run.stderr)], [78, true]);
  });
});

describe('what opens artifacts', () => {
  test('a file of the command line or of the environment, which others cannot read', async (context) => {
    const setup = await setUp(context);
    succeeded(await backup(setup, `--encrypt-to=${setup.key.recipient}`));
    const artifact = onlyArtifact(setup);
    succeeded(await cli(['backup', 'inspect', artifact, `--identity=${setup.identity}`]));
    succeeded(await cli(['backup', 'inspect', artifact], { GRAPHKEEP_IDENTITY: setup.identity }));
    chmodSync(setup.identity, 0o644);
    const open = await cli(['backup', 'inspect', artifact, `--identity=${setup.identity}`]);
    assert.deepEqual([open.exitStatus, /can be read by others/.test(open.stderr)], [78, true]);
  });

  test('a key itself, on the command line or in the environment, is refused and not repeated', async (context) => {
    const { backups, key } = await setUp(context);
    const runs = [
      await cli(['backup', 'inspect', backups, `--identity=${key.identity}`]),
      await cli(['backup', 'inspect', backups], { GRAPHKEEP_IDENTITY: key.identity }),
    ];
    for (const { exitStatus, stderr } of runs) {
      assert.deepEqual([exitStatus, /private key was given itself/.test(stderr)], [64, true], stderr);
      assert.ok(!stderr.includes(key.identity.slice(16, 30)));
    }
  });

  test('a file that holds no key of age is refused, and what is in it not repeated', async (context) => {
    const setup = await setUp(context);
    succeeded(await backup(setup, `--encrypt-to=${setup.key.recipient}`));
    const artifact = onlyArtifact(setup);
    const contents: readonly (readonly [string, RegExp])[] = [
      ['', /holds no private key/],
      ['-----BEGIN OPENSSH PRIVATE KEY-----\nabcdefgh\n', /a key of another kind/],
      ['-----BEGIN AGE ENCRYPTED FILE-----\nabcdefgh\n', /is encrypted itself/],
      ['age-encryption.org/v1\n-> scrypt abcdefgh 18\n', /is encrypted itself/],
      [`${setup.key.identity.slice(0, -1)}\n`, /line 1, is not a private key/],
      ['AGE-PLUGIN-YUBIKEY-1ABCDEFGH\n', /line 1, is not a private key/],
    ];
    for (const [content, message] of contents) {
      writeFileSync(setup.identity, content, { mode: 0o600 });
      const run = await cli(['backup', 'inspect', artifact, `--identity=${setup.identity}`]);
      assert.deepEqual([run.exitStatus, message.test(run.stderr)], [78, true], run.stderr);
      assert.ok(
        !/abcdefgh|ABCDEFGH/.test(run.stderr) && !run.stderr.includes(setup.key.identity.slice(16, 30)),
      );
    }
  });
});

describe('backup inspect', () => {
  test('without the key says what is left out, and fails where one file is named', async (context) => {
    const setup = await setUp(context);
    succeeded(await backup(setup, `--encrypt-to=${setup.key.recipient}`));
    const artifact = onlyArtifact(setup);
    const folder = succeeded(await cli(['backup', 'inspect', setup.backups]));
    assert.match(folder.stderr, new RegExp(`note: ${artifact} is left out: .*is encrypted.*--identity`));
    const file = await cli(['backup', 'inspect', artifact]);
    assert.equal(file.exitStatus, 96);
    assert.match(file.stderr, /is encrypted[\s\S]*--identity=<file>/);
  });

  test('marks what is encrypted, and what nobody has proven', async (context) => {
    const setup = await setUp(context);
    succeeded(await backup(setup, `--encrypt-to=${setup.key.recipient}`, '--clear-header'));
    const artifact = onlyArtifact(setup);
    const columns = async (...more: string[]) =>
      (await cli(['backup', 'inspect', artifact, ...more])).stdout
        .split('\n')
        .slice(0, 3)
        .map((line) => line.split('|').map((cell) => cell.trim()));
    const told = await columns();
    assert.ok(told.flat().includes('ENCRYPTED') && told.flat().includes('true, not proven'), told.join('\n'));
    const opened = await columns(`--identity=${setup.identity}`);
    assert.ok(!opened.flat().includes('true, not proven'));
    const json = async (...more: string[]) =>
      JSON.parse((await cli(['backup', 'inspect', artifact, '--format=json', ...more])).stdout).artifacts[0];
    const [sealed, known] = [await json(), await json(`--identity=${setup.identity}`)];
    assert.deepEqual([sealed.encrypted, known.encrypted], ['sealed', 'opened']);
    assert.deepEqual({ ...sealed, encrypted: 'opened' }, known);
  });

  test('backup validate judges nothing by what artifacts say in the clear', async (context) => {
    const setup = await setUp(context);
    succeeded(await backup(setup, `--encrypt-to=${setup.key.recipient}`, '--clear-header'));
    const locked = await cli(['backup', 'validate', setup.backups]);
    assert.deepEqual([locked.exitStatus, / OK /.test(locked.stdout)], [96, false], locked.stdout);
    const opened = succeeded(
      await cli(['backup', 'validate', setup.backups, `--identity=${setup.identity}`]),
    );
    assert.match(opened.stdout, / OK /);
    const aggregated = await cli([
      'backup',
      'aggregate',
      `--from-path=${setup.backups}`,
      '--engine=none',
      'neo4j',
    ]);
    assert.deepEqual([aggregated.exitStatus, /is encrypted/.test(aggregated.stderr)], [96, true]);
  });

  test('has no column more where nothing is encrypted', async (context) => {
    const setup = await setUp(context);
    succeeded(await backup(setup));
    assert.ok(!(await cli(['backup', 'inspect', setup.backups])).stdout.includes('ENCRYPTED'));
  });
});

describe('dbms backup and restore', () => {
  test('encrypt the configuration as well, which then holds the private keys', async (context) => {
    const setup = await setUp(context);
    const { storeDirectory, logDirectory } = makeDatabase(makeFolder(setup.home, 'data'), '5.26');
    cpSync(storeDirectory, join(storeDirectory, '../system'), { recursive: true });
    cpSync(logDirectory, join(logDirectory, '../system'), { recursive: true });
    const run = succeeded(
      await cli([
        'dbms',
        'backup',
        `--neo4j-home=${setup.home}`,
        `--to-path=${setup.backups}`,
        '--include-metadata=none',
        `--encrypt-to=${setup.key.recipient}`,
      ]),
    );
    assert.ok(!run.stdout.includes('a private key; keep it'), run.stdout);
    const artifacts = namesIn(setup.backups).filter((name) => !name.startsWith('.'));
    assert.equal(artifacts.length, 3);
    for (const name of artifacts) assert.ok(isAge(readFileSync(join(setup.backups, name))), name);

    const home = makeHome(join(setup.root, 'new'), { 'lib/neo4j-kernel-5.26.30.jar': '' });
    const restore = ['dbms', 'restore', `--neo4j-home=${home}`, `--from-path=${setup.backups}`];
    const locked = await cli(restore);
    assert.deepEqual([locked.exitStatus, /is encrypted/.test(locked.stderr)], [96, true], locked.stderr);
    succeeded(await cli([...restore, `--identity=${setup.identity}`]));
    assert.equal(readFileSync(join(home, 'certificates/bolt/private.key'), 'utf8'), KEY);
    const configuration = namesIn(setup.backups).find((name) => name.startsWith('configuration-'))!;
    const inspected = await cli(['backup', 'inspect', join(setup.backups, configuration)]);
    assert.equal(inspected.exitStatus, 96);
  });

  test('without encryption private keys stay where they are', async (context) => {
    const setup = await setUp(context);
    const run = succeeded(await backup(setup, '--include-configuration'));
    assert.match(run.stdout, /left out {6}certificates\/bolt\/private\.key/);
    for (const content of filesBelow(setup.backups).values()) assert.ok(!content.includes('PRIVATE KEY'));
  });
});

test('what would lie unencrypted beside the artifacts, or could be opened by nobody, is refused', async (context) => {
  const setup = await setUp(context);
  const to = `--encrypt-to=${setup.key.recipient}`;
  const failed = await backup(setup, to, '--keep-failed');
  assert.deepEqual([failed.exitStatus, /nobody can open/.test(failed.stderr)], [64, true]);
  const checked = await backup(setup, to, '--check-consistency');
  assert.deepEqual([checked.exitStatus, /not encrypted[\s\S]*--temp-path/.test(checked.stderr)], [64, true]);
  assert.deepEqual(namesIn(setup.backups), []);
});

test('--temp-path says where indexes lie before they are encrypted', async (context) => {
  const setup = await setUp(context);
  const to = `--encrypt-to=${setup.key.recipient}`;
  const nowhere = await backup(setup, to, `--temp-path=${join(setup.root, 'nowhere')}`);
  assert.equal(nowhere.exitStatus, 66);
  succeeded(await backup(setup, to, `--temp-path=${makeFolder(setup.root, 'scratch')}`));
  rmSync(setup.backups, { recursive: true });
  assert.equal(basename(setup.backups), 'backups');
});
