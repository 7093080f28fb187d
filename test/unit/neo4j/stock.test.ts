import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { DatabaseFolders } from '../../../src/neo4j/folders.ts';
import {
  type CheckOptions,
  checkDatabase,
  findStockNeo4j,
  recoverDatabase,
  runStockTool,
  type StockNeo4j,
} from '../../../src/neo4j/stock.ts';
import { libraryDirectories } from '../../../src/neo4j/stockinstallation.ts';
import { startGuarded } from '../../../src/neo4j/stockprocess.ts';
import { failure, makeFolder, temporaryFolder } from '../../fixtures/workspace.ts';

const LOCKS_MODULE = fileURLToPath(new URL('../../../src/storage/locks.ts', import.meta.url));
const STOCK_MODULE = fileURLToPath(new URL('../../../src/neo4j/stock.ts', import.meta.url));

function fakeHome(folder: string, ...jars: string[]): string {
  const library = makeFolder(folder, 'home', 'lib');
  for (const jar of jars) writeFileSync(join(library, jar), '');
  return join(folder, 'home');
}

/** A JAVA_HOME whose `java` is a shell script; `-version` answers the given version. */
function fakeJava(folder: string, version: string, body = ''): string {
  const bin = makeFolder(folder, 'java', 'bin');
  const answer = version === '' ? 'echo nothing' : `echo 'openjdk version "${version}" 2025-01-01' >&2`;
  const script = `#!/bin/sh\nif [ "$1" = -version ]; then ${answer}; exit 0; fi\n${body}\n`;
  writeFileSync(join(bin, 'java'), script);
  chmodSync(join(bin, 'java'), 0o755);
  return join(folder, 'java');
}

async function fakeStock(context: TestContext, body: string): Promise<{ stock: StockNeo4j; folder: string }> {
  const folder = temporaryFolder(context);
  const home = fakeHome(folder, 'neo4j-kernel-5.26.30.jar');
  const environment = { PATH: process.env.PATH, JAVA_HOME: fakeJava(folder, '17.0.1', body), MARK: folder };
  const stock = await findStockNeo4j(home, environment);
  assert.ok(stock !== undefined);
  return { stock, folder };
}

function fakeDatabase(folder: string, name = 'neo4j'): DatabaseFolders {
  return {
    name,
    storeDirectory: makeFolder(folder, 'data', 'databases', name),
    logDirectory: makeFolder(folder, 'data', 'transactions', name),
  };
}

async function contentOf(path: string): Promise<string> {
  while (!existsSync(path) || readFileSync(path, 'utf8') === '') await sleep(10);
  return readFileSync(path, 'utf8').trim();
}

function isAlive(processId: number): boolean {
  try {
    // A process that nobody waits for any more, a zombie, is a number without a process.
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${processId}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

async function untilGone(processId: number): Promise<void> {
  while (isAlive(processId)) await sleep(10);
}

describe('finding the stock Neo4j', () => {
  test('a home without jars has none', async (context) => {
    const folder = temporaryFolder(context);
    assert.equal(await findStockNeo4j(folder, {}), undefined);
    assert.equal(await findStockNeo4j(fakeHome(folder, 'other-1.0.0.jar'), {}), undefined);
  });

  const versions: [jar: string, version: string, mainClass: string][] = [
    ['neo4j-kernel-5.26.30.jar', '5.26.30', 'org.neo4j.server.CommunityEntryPoint'],
    ['neo4j-server-5.26.0.jar', '5.26.0', 'org.neo4j.server.CommunityEntryPoint'],
    ['neo4j-kernel-2026.08.1.jar', '2026.08.1', 'org.neo4j.server.Neo4jCommunity'],
  ];
  for (const [jar, version, mainClass] of versions) {
    test(`${jar} is version ${version}`, async (context) => {
      const folder = temporaryFolder(context);
      const home = fakeHome(folder, jar, 'neo4j-kernel-api-1.2.3.jar', 'neo4j-common-9.9.9.jar');
      const stock = await findStockNeo4j(home, { JAVA_HOME: fakeJava(folder, '21.0.2') });
      assert.equal(stock?.version, version);
      assert.equal(stock?.serverMainClass, mainClass);
      assert.equal(stock?.classPath, join(home, 'lib', '*'));
      assert.equal(stock?.java, join(folder, 'java/bin/java'));
      assert.equal(stock?.javaMajor, 21);
    });
  }

  test('the main class is the one that the jar has, whatever the version says', async (context) => {
    const folder = temporaryFolder(context);
    const home = fakeHome(folder, 'neo4j-kernel-2025.01.0.jar');
    const name = 'org/neo4j/server/CommunityEntryPoint.class';
    writeFileSync(join(home, 'lib/neo4j-2025.01.0.jar'), `PK..${name}..`);
    const stock = await findStockNeo4j(home, { JAVA_HOME: fakeJava(folder, '21') });
    assert.equal(stock?.serverMainClass, 'org.neo4j.server.CommunityEntryPoint');
  });

  test('a half-done upgrade and a version before 5 are refused', async (context) => {
    const folder = temporaryFolder(context);
    const two = fakeHome(folder, 'neo4j-kernel-5.26.30.jar', 'neo4j-kernel-5.26.31.jar');
    await assert.rejects(findStockNeo4j(two, {}), failure('GK_UNSUPPORTED', /5\.26\.30 and 5\.26\.31/));
    const old = fakeHome(join(folder, 'old'), 'neo4j-kernel-4.4.40.jar');
    await assert.rejects(findStockNeo4j(old, {}), failure('GK_UNSUPPORTED', /4\.4\.40/));
  });

  test('the packages keep the jars elsewhere', () => {
    assert.deepEqual(libraryDirectories('/var/lib/neo4j'), ['/var/lib/neo4j/lib', '/usr/share/neo4j/lib']);
    assert.deepEqual(libraryDirectories('/opt/neo4j'), ['/opt/neo4j/lib']);
  });
});

describe('the Java of the stock Neo4j', () => {
  const cases: [neo4j: string, java: string, fits: boolean][] = [
    ['5.26.30', '17.0.15', true],
    ['5.26.30', '21', true],
    ['5.26.30', '1.8.0_402', false],
    ['5.26.30', '11.0.20', false],
    ['5.26.30', '25', false],
    ['2026.08.1', '17.0.15', false],
    ['2026.08.1', '21.0.4', true],
    ['2026.08.1', '25.0.1', true],
    ['2026.08.1', '', false],
  ];
  for (const [neo4j, java, fits] of cases) {
    test(`${java === '' ? 'no version' : java} ${fits ? 'runs' : 'does not run'} ${neo4j}`, async (context) => {
      const folder = temporaryFolder(context);
      const home = fakeHome(folder, `neo4j-kernel-${neo4j}.jar`);
      const found = findStockNeo4j(home, { JAVA_HOME: fakeJava(folder, java), PATH: process.env.PATH });
      if (fits) assert.equal((await found)?.javaMajor, Number.parseInt(java, 10));
      else await assert.rejects(found, failure('GK_NOT_FOUND', /the Java in JAVA_HOME/));
    });
  }

  test('is looked for in PATH without JAVA_HOME', async (context) => {
    const folder = temporaryFolder(context);
    const home = fakeHome(folder, 'neo4j-kernel-5.26.30.jar');
    const PATH = `${fakeJava(folder, '17')}/bin:${process.env.PATH}`;
    assert.equal((await findStockNeo4j(home, { PATH }))?.java, 'java');
    const nowhere = findStockNeo4j(home, { PATH: folder });
    await assert.rejects(nowhere, failure('GK_NOT_FOUND', /no Java that starts in PATH/));
  });

  test('JAVA_HOME without a Java says what is needed', async (context) => {
    const folder = temporaryFolder(context);
    const home = fakeHome(folder, 'neo4j-kernel-5.26.30.jar');
    await assert.rejects(findStockNeo4j(home, { JAVA_HOME: folder }), (error: Error & { hint?: string }) => {
      assert.match(error.message, /no Java that starts in JAVA_HOME/);
      assert.match(error.hint ?? '', /Java 17 or 21/);
      return failure('GK_NOT_FOUND')(error);
    });
  });
});

/** A server: leaves what it was started with, says what the test wants said, and that it is up, and waits. */
const SERVER = `
for argument in "$@"; do case "$argument" in --home-dir=*) home="\${argument#--home-dir=}";; esac; done
echo "$@" > "$MARK/arguments"
cp "$home/conf/neo4j.conf" "$MARK/conf"
ls "$home/data/databases" "$home/data/transactions" > "$MARK/databases"
cat "$MARK/boot.log" >> "$home/logs/debug.log"
trap 'cat "$MARK/shutdown.log" >> "$home/logs/debug.log"; exit 0' TERM
echo '2026-01-01 00:00:00.000+0000 INFO  Started.' >> "$home/logs/neo4j.log"
while :; do sleep 0.05; done`;

interface ServerWords {
  readonly boot?: string;
  readonly shutdown?: string;
}

async function fakeServer(context: TestContext, words: ServerWords): ReturnType<typeof fakeStock> {
  const made = await fakeStock(context, SERVER);
  writeFileSync(join(made.folder, 'boot.log'), words.boot ?? '');
  writeFileSync(join(made.folder, 'shutdown.log'), words.shutdown ?? '');
  return made;
}

const checkpoint = (reason: string, name: string, transaction: number): string =>
  `2026-01-01 00:00:00.000+0000 INFO  [o.n.k.i.t.l.c.CheckPointerImpl] [${name}/69612d34] Checkpoint triggered by ` +
  `"${reason}" @ txId: ${transaction}, append index: ${transaction} checkpoint completed in 58ms.\n`;

/** As 2026 writes the same line. */
const asJson = (line: string): string =>
  `${JSON.stringify({ time: '2026-01-01', message: line.slice(line.indexOf('[neo4j/')) })}\n`;

const notStarted = (name: string, cause: string): string =>
  `2026-01-01 00:00:00.000+0000 ERROR [o.n.d.d.DatabaseLifecycles] Failed to start DatabaseId{46c0d686[${name}]}\n` +
  `java.lang.RuntimeException: ${cause}\n\tat org.neo4j.Some.where(Some.java:1)\nCaused by: deeper\n` +
  '2026-01-01 00:00:00.000+0000 INFO  another entry\n';

describe('recovering', () => {
  for (const [form, write] of [
    ['text', (line: string) => line],
    ['JSON', asJson],
  ] as const) {
    test(`a server that comes up is shut down, and what it says in ${form} is the result`, async (context) => {
      const { stock, folder } = await fakeServer(context, {
        boot: write(checkpoint('Recovery completed.', 'neo4j', 41)),
        shutdown: write(checkpoint('Database shutdown', 'neo4j', 43)),
      });
      const scratchDirectory = makeFolder(folder, 'scratch');
      const result = await recoverDatabase(stock, fakeDatabase(folder), { scratchDirectory });
      assert.deepEqual(result, { recoveredTransaction: 41n, lastTransaction: 43n });
      assert.deepEqual(readdirSync(scratchDirectory), []);
    });
  }

  test('the server is small, listens on nothing and has this database only', async (context) => {
    const shutdown = checkpoint('Database shutdown', 'a.b-c', 7);
    const { stock, folder } = await fakeServer(context, { shutdown });
    const options = { scratchDirectory: folder, pagecache: '8m', defaultDatabase: 'other' };
    const result = await recoverDatabase(stock, fakeDatabase(folder, 'a.b-c'), options);
    assert.deepEqual(result, { recoveredTransaction: undefined, lastTransaction: 7n });
    const settings = readFileSync(join(folder, 'conf'), 'utf8');
    for (const setting of [
      'initial.dbms.default_database=a.b-c',
      'server.bolt.enabled=false',
      'server.http.enabled=false',
      'server.https.enabled=false',
      'server.memory.pagecache.size=8m',
    ]) {
      assert.ok(settings.split('\n').includes(setting), setting);
    }
    assert.match(readFileSync(join(folder, 'arguments'), 'utf8'), /^-Xmx512m .*CommunityEntryPoint/);
    assert.equal(readFileSync(join(folder, 'databases'), 'utf8').match(/^a\.b-c$/gm)?.length, 2);
  });

  test('HEAP_SIZE is the largest heap, and system keeps its default database', async (context) => {
    const shutdown = checkpoint('Database shutdown', 'system', 7);
    const { stock, folder } = await fakeServer(context, { shutdown });
    const large = { ...stock, environment: { ...stock.environment, HEAP_SIZE: '3g' } };
    const options = { scratchDirectory: folder, defaultDatabase: 'movies' };
    await recoverDatabase(large, fakeDatabase(folder, 'system'), options);
    assert.match(readFileSync(join(folder, 'arguments'), 'utf8'), /^-Xmx3g /);
    assert.match(readFileSync(join(folder, 'conf'), 'utf8'), /^initial\.dbms\.default_database=movies$/m);
  });

  test('"Started." does not count when the database did not start', async (context) => {
    const boot = notStarted('neo4j', 'Error reading transaction logs, recovery not possible.');
    const { stock, folder } = await fakeServer(context, { boot });
    const recovery = recoverDatabase(stock, fakeDatabase(folder), { scratchDirectory: folder });
    await assert.rejects(recovery, (error: Error) => {
      assert.doesNotMatch(error.message, /Some\.java|another entry/);
      return failure('GK_STORE_DAMAGED', /recovery not possible\.\n {2}Caused by: deeper$/)(error);
    });
  });

  test('a database that did not start for another reason is not called damaged', async (context) => {
    const { stock, folder } = await fakeServer(context, { boot: notStarted('neo4j', 'Out of memory') });
    const recovery = recoverDatabase(stock, fakeDatabase(folder), { scratchDirectory: folder });
    await assert.rejects(recovery, failure('GK_STOCK_FAILED', /Out of memory/));
  });

  test('the failure and the checkpoint of another database do not count', async (context) => {
    const { stock, folder } = await fakeServer(context, {
      boot: notStarted('a-b', 'recovery not possible'),
      shutdown: checkpoint('Database shutdown', 'a-b', 7),
    });
    const recovery = recoverDatabase(stock, fakeDatabase(folder, 'a.b'), { scratchDirectory: folder });
    await assert.rejects(recovery, failure('GK_STOCK_FAILED', /ended with 0 without a checkpoint/));
  });

  test('a server that gives up at once is quoted', async (context) => {
    const { stock, folder } = await fakeStock(context, 'echo "Invalid maximum heap size"; exit 1');
    const scratchDirectory = makeFolder(folder, 'scratch');
    const recovery = recoverDatabase(stock, fakeDatabase(folder), { scratchDirectory });
    await assert.rejects(recovery, failure('GK_STOCK_FAILED', /ended with 1 .*\n {2}Invalid maximum heap/));
    assert.deepEqual(readdirSync(scratchDirectory), []);
  });

  test('a Java that has gone since is said to be missing', async (context) => {
    const { stock, folder } = await fakeStock(context, '');
    const gone = { ...stock, java: join(folder, 'gone') };
    const recovery = recoverDatabase(gone, fakeDatabase(folder), { scratchDirectory: folder });
    await assert.rejects(recovery, failure('GK_STOCK_FAILED', /ended with 127 .*gone/s));
    const tool = runStockTool(gone, ['database', 'info'], { home: folder });
    await assert.rejects(tool, failure('GK_STOCK_FAILED', /database info ended with 127/));
  });

  test('nothing is started for a database that is missing or in use', async (context) => {
    const { stock, folder } = await fakeStock(context, 'touch "$MARK/started"');
    const database = fakeDatabase(folder);
    const options = { scratchDirectory: folder };
    const missing = { ...database, logDirectory: join(folder, 'nothing') };
    await assert.rejects(recoverDatabase(stock, missing, options), failure('GK_NOT_FOUND', /nothing/));
    const holder = await lockFromAnotherProcess(context, join(database.storeDirectory, 'database_lock'));
    await assert.rejects(recoverDatabase(stock, database, options), failure('GK_IN_USE'));
    holder.kill('SIGKILL');
    assert.equal(existsSync(join(folder, 'started')), false);
  });
});

async function lockFromAnotherProcess(context: TestContext, path: string): Promise<ChildProcess> {
  const script = `const { tryLock } = await import(${JSON.stringify(LOCKS_MODULE)});
    tryLock(process.argv[1], { create: true });
    console.log('held');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  context.after(() => child.kill('SIGKILL'));
  await once(child.stdout!, 'data');
  return child;
}

describe('an interruption', () => {
  test('ends the process and leaves nothing', async (context) => {
    const { stock, folder } = await fakeStock(
      context,
      'trap "exit 143" TERM; echo $$ > "$MARK/pid"\nwhile :; do sleep 0.05; done',
    );
    const scratchDirectory = makeFolder(folder, 'scratch');
    const controller = new AbortController();
    const recovery = recoverDatabase(stock, fakeDatabase(folder), {
      scratchDirectory,
      signal: controller.signal,
    });
    const rejected = assert.rejects(recovery, failure('GK_INTERRUPTED'));
    const processId = Number(await contentOf(join(folder, 'pid')));
    controller.abort();
    await rejected;
    assert.equal(isAlive(processId), false);
    assert.deepEqual(readdirSync(scratchDirectory), []);
  });

  test('before the start starts nothing', async (context) => {
    const { stock, folder } = await fakeStock(context, 'touch "$MARK/started"');
    const signal = AbortSignal.abort();
    const database = fakeDatabase(folder);
    const options = { scratchDirectory: folder, reportDirectory: folder, signal };
    await assert.rejects(recoverDatabase(stock, database, options), failure('GK_INTERRUPTED'));
    await assert.rejects(checkDatabase(stock, database, options), failure('GK_INTERRUPTED'));
    assert.equal(existsSync(join(folder, 'started')), false);
  });

  test('that is not obeyed becomes a kill', async (context) => {
    const { stock, folder } = await fakeStock(
      context,
      'trap "" TERM; echo $$ > "$MARK/pid"\nwhile :; do sleep 0.05; done',
    );
    const controller = new AbortController();
    const { environment } = stock;
    const options = { environment, output: () => {}, signal: controller.signal, graceMs: 100 };
    const child = startGuarded(stock.java, [], options);
    const processId = Number(await contentOf(join(folder, 'pid')));
    controller.abort();
    assert.deepEqual(await child.ended, { exitStatus: undefined, signal: 'SIGKILL' });
    assert.equal(isAlive(processId), false);
  });

  for (const [how, signal] of [
    ['is killed', 'SIGKILL'],
    ['exits', 'SIGUSR2'],
  ] as const) {
    test(`a process ends when the program that started it ${how}`, async (context) => {
      const { stock, folder } = await fakeStock(
        context,
        'echo $$ > "$MARK/pid"\nwhile :; do sleep 0.05; done',
      );
      const script = `const { runStockTool } = await import(${JSON.stringify(STOCK_MODULE)});
        process.on('SIGUSR2', () => process.exit(3));
        await runStockTool(${JSON.stringify(stock)}, [], { home: '/' });`;
      const parent = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'inherit' });
      context.after(() => parent.kill('SIGKILL'));
      const processId = Number(await contentOf(join(folder, 'pid')));
      context.after(() => isAlive(processId) && process.kill(processId, 'SIGKILL'));
      parent.kill(signal);
      await once(parent, 'exit');
      await untilGone(processId);
    });
  }
});

describe('checking', () => {
  const check = async (context: TestContext, body: string, options: Partial<CheckOptions> = {}) => {
    const { stock, folder } = await fakeStock(context, `echo "$@" > "$MARK/arguments"\n${body}`);
    const scratchDirectory = makeFolder(folder, 'scratch');
    const reportDirectory = join(folder, 'reports');
    const result = await checkDatabase(stock, fakeDatabase(folder), {
      scratchDirectory,
      reportDirectory,
      ...options,
    });
    assert.deepEqual(readdirSync(scratchDirectory), []);
    const words = readFileSync(join(folder, 'arguments'), 'utf8').trim();
    return { result, words: words.slice(words.indexOf(' org.neo4j.cli')), reportDirectory };
  };

  test('nothing found', async (context) => {
    const pieces: string[] = [];
    const onOutput = (text: string): void => void pieces.push(text);
    const { result, words, reportDirectory } = await check(context, 'echo fine; echo too >&2', { onOutput });
    assert.equal(result.consistent, true);
    assert.equal(result.reportPath, undefined);
    assert.deepEqual(result.output.trim().split('\n').sort(), ['fine', 'too']);
    assert.equal(pieces.join(''), result.output);
    assert.equal(words, ` org.neo4j.cli.AdminTool database check --report-path=${reportDirectory} neo4j`);
  });

  test('every option is passed on', async (context) => {
    const { words } = await check(context, '', {
      checkGraph: true,
      checkIndexes: false,
      checkCounts: false,
      checkPropertyOwners: true,
      maxOffHeapMemory: '50%',
      threads: 2,
    });
    for (const word of [
      '--check-graph=true',
      '--check-indexes=false',
      '--check-counts=false',
      '--check-property-owners=true',
      '--max-off-heap-memory=50%',
      '--threads=2',
    ]) {
      assert.ok(words.split(' ').includes(word), word);
    }
  });

  test('something found', async (context) => {
    const body = `report="$MARK/reports/inconsistencies-2026-01-01.00.00.00.report"; echo bad > "$report"
echo "Inconsistencies found. See '$report' for details."; exit 1`;
    const { result, reportDirectory } = await check(context, body);
    assert.equal(result.consistent, false);
    assert.equal(result.reportPath, join(reportDirectory, 'inconsistencies-2026-01-01.00.00.00.report'));
  });

  test('something found, and no report could be written', async (context) => {
    const body = `echo "Inconsistencies found. See '/nowhere/a.report' for details."; exit 1`;
    const { result } = await check(context, body);
    assert.equal(result.consistent, false);
    assert.equal(result.reportPath, undefined);
  });

  test('a check that could not be run has found nothing', async (context) => {
    const body = `echo 'Active logical log detected, this might be a source of inconsistencies.'; exit 1`;
    await assert.rejects(
      check(context, body),
      failure('GK_STOCK_FAILED', /^neo4j-admin database check neo4j ended with 1:\n {2}Active logical log/),
    );
  });

  test('a check that was killed has found nothing', async (context) => {
    await assert.rejects(check(context, 'kill -KILL $$'), failure('GK_STOCK_FAILED', /ended by SIGKILL/));
  });
});

test('a tool gets its home, and any exit status is a result', async (context) => {
  const { stock, folder } = await fakeStock(context, 'echo "$NEO4J_HOME $NEO4J_CONF"; exit 64');
  const ran = await runStockTool(stock, ['database', 'info'], { home: '/opt/neo4j' });
  assert.deepEqual(ran, { exitStatus: 64, output: '/opt/neo4j /opt/neo4j/conf\n' });
  const options = { home: '/opt/neo4j', configurationDirectory: folder };
  assert.equal((await runStockTool(stock, [], options)).output, `/opt/neo4j ${folder}\n`);
});

describe('the streams of a tool', () => {
  const BODY = `
if { true <&3; } 2>/dev/null; then echo 'the launch is still open' >&2; fi
echo talk >&2
cat`;

  test('are its input and its bytes, each given to it; what it says is the output', async (context) => {
    const { stock, folder } = await fakeStock(context, BODY);
    writeFileSync(join(folder, 'input'), Buffer.from([0, 0xff, 10, 13]));
    const input = openSync(join(folder, 'input'), 'r');
    const bytesOutput = openSync(join(folder, 'output'), 'w');
    const ran = await runStockTool(stock, [], { home: folder, input, bytesOutput });
    closeSync(input);
    closeSync(bytesOutput);
    assert.deepEqual(ran, { exitStatus: 0, output: 'talk\n' });
    assert.deepEqual(readFileSync(join(folder, 'output')), Buffer.from([0, 0xff, 10, 13]));
  });

  test('are nothing to read, and one output, when none is given', async (context) => {
    const { stock, folder } = await fakeStock(context, `${BODY}; echo more`);
    const { output } = await runStockTool(stock, [], { home: folder });
    assert.deepEqual(output.trim().split('\n').sort(), ['more', 'talk']);
  });
});
