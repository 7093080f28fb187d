/**
 * Shows that the harness tells a right database from a wrong one. By hand:
 * `node test/real/harness/selftest.ts [line] [seconds]`
 */
import assert from 'node:assert/strict';
import { cp, mkdtemp, open, readdir, readFile, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { LINES, type Line } from './distribution.ts';
import { assertVerdict, complaintsOf, createJudge, type Judge, runStockTool, type Verdict } from './judge.ts';
import { prepareSchema, startLoad } from './load.ts';
import { createHome, type Home, type StoreFormat, scratchRoot, startServer } from './server.ts';

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

async function timed<Result>(name: string, action: () => Promise<Result>): Promise<Result> {
  const startMs = performance.now();
  const result = await action();
  say(`  ${name}: ${Math.round(performance.now() - startMs)} ms`);
  return result;
}

async function copyHome(home: Home, dir: string): Promise<void> {
  await rm(dir, { recursive: true, force: true });
  for (const part of ['conf', 'data']) {
    await cp(join(home.dir, part), join(dir, part), { recursive: true, verbatimSymlinks: true });
  }
}

function expectComplaint(verdict: Verdict, what: RegExp, name: string): void {
  const complaints = complaintsOf(verdict);
  const found = complaints.find((text) => what.test(text));
  assert.ok(
    found !== undefined,
    `${name}: expected a complaint like ${what}, got:\n${complaints.join('\n')}`,
  );
  say(
    `  ${name}: complains as it must (${complaints.length} lines): ${found.slice(0, 160).replaceAll('\n', ' ')}`,
  );
}

async function newestLog(transactionsFolder: string): Promise<string> {
  const names = (await readdir(transactionsFolder)).filter((name) =>
    /^neostore\.transaction\.db\.\d+$/.test(name),
  );
  const newest = names.sort((a, b) => Number(b.split('.').at(-1)) - Number(a.split('.').at(-1)))[0];
  assert.ok(newest !== undefined, 'there is no transaction log');
  return join(transactionsFolder, newest);
}

/** Used bytes of a log, as the rest of a preallocated file is zero. */
async function usedBytes(file: string): Promise<number> {
  const bytes = await readFile(file);
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) {
    end -= 1;
  }
  return end;
}

async function testLine(line: Line, format: StoreFormat, seconds: number, folder: string): Promise<void> {
  say(`${line}, ${format}`);
  const judge: Judge = await timed('start of the judge', () => createJudge(line));
  const copy = join(folder, `${line}-${format}-copy`);
  try {
    const home = await createHome({ line, dir: join(folder, `${line}-${format}`), format, harsh: true });
    const server = await startServer(home);
    say(`  boot: ${Math.round(server.bootMs)} ms`);
    await timed('schema', () => prepareSchema(server, { lucene: true }));
    const load = startLoad(server, { writers: 8 });
    await delay(seconds * 1_000);
    const acknowledged = await load.stop();
    const total = load.total();
    say(
      `  load: ${Math.round(total.transfersPerSecond)} transfers/s in ${Math.round(total.transactionsPerSecond)} ` +
        `transactions/s, ${total.transfers} in all, ${total.retries} repeated`,
    );
    assert.deepEqual(load.errors, []);
    await timed('stop', () => server.stop());

    await copyHome(home, copy);
    const good = await timed('judgement 1 (cold)', () =>
      judge.judge(copy, { expectAcknowledged: acknowledged }),
    );
    say(`  ${JSON.stringify(good.timings)}`);
    say(`  indexes: ${good.indexes.map((index) => `${index.name}=${index.type}`).join(' ')}`);
    assertVerdict(good, { acknowledgedBefore: acknowledged });
    assert.deepEqual(good.maxSequenceByWriter, acknowledged);
    assert.equal(good.recovered, false);
    await copyHome(home, copy);
    const again = await timed('judgement 2 (warm)', () =>
      judge.judge(copy, { expectAcknowledged: acknowledged }),
    );
    say(`  ${JSON.stringify(again.timings)}`);
    assertVerdict(again);

    // More than there is: the same as a copy that lost transactions.
    const wanted = new Map([...acknowledged].map(([writer, sequence]) => [writer, sequence + 1]));
    await copyHome(home, copy);
    const asked = await judge.judge(copy, { expectAcknowledged: wanted, consistencyCheck: false });
    expectComplaint(
      asked,
      /was acknowledged, the database ends at/,
      'acknowledged transfers that are not there',
    );

    // One page of relationship records is lost (a single record may be one that is not in use).
    await copyHome(home, copy);
    const store = await open(join(copy, 'data/databases/neo4j/neostore.relationshipstore.db'), 'r+');
    await store.write(Buffer.alloc(8_160), 0, 8_160, 8_192);
    await store.close();
    const torn = await judge.judge(copy);
    expectComplaint(torn, /^half/, 'lost relationship records');
    expectComplaint(torn, /stock consistency check is not clean/, 'lost relationship records');

    // A node record loses its properties.
    await copyHome(home, copy);
    const properties = await open(join(copy, 'data/databases/neo4j/neostore.propertystore.db'), 'r+');
    await properties.write(Buffer.alloc(41 * 20), 0, 41 * 20, format === 'aligned' ? 8_192 * 3 : 41 * 700);
    await properties.close();
    expectComplaint(await judge.judge(copy), /stock consistency check is not clean/, 'lost property records');

    // An index folder is left out: right in the end, but built again.
    await copyHome(home, copy);
    await rm(join(copy, 'data/databases/neo4j/schema'), { recursive: true });
    const rebuilt = await judge.judge(copy, { expectAcknowledged: acknowledged });
    expectComplaint(rebuilt, /POPULATING|built again/, 'index folders left out');
    assertVerdict(rebuilt, { mayPopulate: true });

    // No transaction log at all.
    await copyHome(home, copy);
    await rm(join(copy, 'data/transactions/neo4j'), { recursive: true });
    expectComplaint(await judge.judge(copy), /did not open/, 'no transaction logs');

    // A crash, and the end of the log is lost after it.
    // Without the harsh settings there is no checkpoint on the way, so that the start does not notice the loss.
    const calm = await createHome({ line, dir: home.dir, format });
    const second = await startServer(calm);
    const secondLoad = startLoad(second, { writers: 6, firstWriter: 101 });
    await secondLoad.waitForMore(600);
    const atKill = secondLoad.snapshotAcknowledged();
    await second.kill();
    await secondLoad.stop();
    assert.deepEqual(secondLoad.errors, []);
    const expected = new Map([...acknowledged, ...atKill]);
    await copyHome(home, copy);
    const crashed = await timed('judgement after SIGKILL', () =>
      judge.judge(copy, { expectAcknowledged: expected }),
    );
    assertVerdict(crashed);
    say(`  recovered: ${crashed.recovered}, last transaction ${crashed.lastTransactionId}`);
    await copyHome(home, copy);
    const log = await newestLog(join(copy, 'data/transactions/neo4j'));
    const used = await usedBytes(log);
    await truncate(log, Math.floor(used / 2));
    say(`  log cut from ${used} to ${Math.floor(used / 2)} bytes`);
    expectComplaint(
      await judge.judge(copy, { expectAcknowledged: expected }),
      /was acknowledged, the database ends at/,
      'log cut after a crash',
    );

    const third = await startServer(calm);
    await third.stop();
    const tool = await timed('stock check command', () =>
      runStockTool(line, home, ['database', 'check', 'neo4j']),
    );
    assert.equal(tool.exitCode, 0, tool.stderr);
  } finally {
    await judge.close();
  }
}

const lines = LINES.filter((line) => process.argv[2] === undefined || process.argv[2] === line);
const seconds = Number(process.argv[3] ?? 10);
const folder = await mkdtemp(join(await scratchRoot(), 'graphkeep-selftest-'));
try {
  for (const line of lines) {
    for (const format of ['aligned', 'standard'] as const) {
      await testLine(line, format, seconds, folder);
    }
  }
  say('all good');
} finally {
  await rm(folder, { recursive: true, force: true });
}
