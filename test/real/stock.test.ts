/**
 * The installed Neo4j at work for graphkeep: recovery of what was backed up under load, and the stock check. What it
 * must not do is as important: write a transaction of its own, or say that all is well where it is not.
 */
import assert from 'node:assert/strict';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { DatabaseFolders } from '../../src/neo4j/folders.ts';
import { checkDatabase, findStockNeo4j, recoverDatabase, type StockNeo4j } from '../../src/neo4j/stock.ts';
import { backupDatabase } from '../../src/operations/backup.ts';
import { readDatabaseInfo } from '../../src/operations/info.ts';
import { restoreDatabase } from '../../src/operations/restore.ts';
import { failure, namesIn } from '../fixtures/workspace.ts';
import { foldersOf } from './cycle.ts';
import { damageRelationship } from './damage.ts';
import { ensureDistribution, LINES, type Line } from './harness/distribution.ts';
import { prepareSchema, startLoad } from './harness/load.ts';
import { createHome, type Home, scratchRoot, startServer } from './harness/server.ts';
import { AT_FULL_SPEED, runProgram } from './program.ts';

const CHECK_MEMORY = '64m';
/** The processes are short, so that starting them is most of the work. */
const QUICK_START = '-XX:+UseSerialGC -XX:TieredStopAtLevel=1';

for (const line of LINES) {
  describe(`the stock Neo4j ${line}`, () => {
    let scratch: string;
    let stock: StockNeo4j;
    let restored: Home;
    let unrecoveredCopy: DatabaseFolders;

    before(async () => {
      scratch = await mkdtemp(join(await scratchRoot(), 'graphkeep-stock-test-'));
      stock = await stockOf(line, scratch);
      restored = await createHome({ line, dir: join(scratch, 'restored') });
      await restoreFromLoad(line, scratch, restored);
      unrecoveredCopy = await copyOf(foldersOf(restored), join(scratch, 'unrecovered'));
    });
    after(() => rm(scratch, { recursive: true, force: true }));

    for (const name of ['neo4j', 'system']) {
      test(`recovers ${name} to its last transaction, and writes none of its own`, async () => {
        const folders = foldersOf(restored, name);
        const unrecovered = await readDatabaseInfo(folders);
        assert.equal(unrecovered.recoveryRequired, true);
        const result = await recoverDatabase(stock, folders, { scratchDirectory: scratch });
        assert.equal(result.recoveredTransaction, unrecovered.lastCommittedTransaction);
        assert.equal(result.lastTransaction, unrecovered.lastCommittedTransaction);
        const recovered = await readDatabaseInfo(folders);
        assert.equal(recovered.recoveryRequired, false);
        assert.equal(recovered.lastCommittedTransaction, unrecovered.lastCommittedTransaction);
      });
    }

    test('finds the recovered database consistent', async () => {
      const folders = foldersOf(restored);
      const reportDirectory = join(scratch, 'no-reports');
      const before = await namesAndSizes(folders);
      const result = await check(folders, reportDirectory);
      assert.equal(result.consistent, true, result.output);
      assert.deepEqual(await readdir(reportDirectory), []);
      assert.deepEqual(await namesAndSizes(folders), before);
    });

    test('finds a damaged record, and names the report', async () => {
      const damaged = await copyOf(foldersOf(restored), join(scratch, 'damaged'));
      await damageRelationship(join(damaged.storeDirectory, 'neostore.relationshipstore.db'));
      const reportDirectory = join(scratch, 'reports');
      const result = await check(damaged, reportDirectory);
      assert.equal(result.consistent, false, result.output);
      assert.deepEqual(
        [result.reportPath],
        (await readdir(reportDirectory)).map((name) => join(reportDirectory, name)),
      );
      assert.match(await readFile(result.reportPath!, 'utf8'), /ERROR/);
    });

    test('a log that was lost is damage, although the server starts', async () => {
      const lost = await copyOf(foldersOf(restored), join(scratch, 'lost'));
      await rm(join(lost.logDirectory, 'neostore.transaction.db.0'));
      const recovery = recoverDatabase(stock, lost, { scratchDirectory: scratch });
      await assert.rejects(recovery, failure('GK_STORE_DAMAGED', /recovery not possible/));
    });

    test('a check of a database that is not recovered could not be run', async () => {
      const reportDirectory = join(scratch, 'none');
      const unrecovered = check(unrecoveredCopy, reportDirectory);
      await assert.rejects(unrecovered, failure('GK_STOCK_FAILED', /ended with 1:\n.*recover/s));
      assert.deepEqual(await readdir(reportDirectory), []);
    });

    test('a backup that does not pass its check has a status of its own, and is kept beside its report', async () => {
      const home = await createHome({ line, dir: join(scratch, 'checked') });
      await cp(foldersOf(restored).storeDirectory, foldersOf(home).storeDirectory, { recursive: true });
      await cp(foldersOf(restored).logDirectory, foldersOf(home).logDirectory, { recursive: true });
      await damageRelationship(join(foldersOf(home).storeDirectory, 'neostore.relationshipstore.db'));
      await symlink(stock.libraryDirectory, join(home.dir, 'lib'));
      const target = join(home.dir, 'backups');
      await mkdir(target);
      const run = await runProgram(
        [
          'database',
          'backup',
          `--neo4j-home=${home.dir}`,
          `--to-path=${target}`,
          '--check-consistency',
          AT_FULL_SPEED,
        ],
        { JAVA_HOME: (await ensureDistribution(line)).javaHome },
      );
      assert.equal(run.status, 87, run.stdout + run.stderr);
      assert.match(run.stdout, /check {9}NOT CONSISTENT/);
      const names = namesIn(target).map((name) => /\.(backup|report)$/.exec(name)?.[1]);
      assert.deepEqual(names.sort(), ['backup', 'report']);
    });

    test('nothing is left in the scratch folder', async () => {
      const left = (await readdir(scratch)).filter((name) => name.startsWith('graphkeep-stock-'));
      assert.deepEqual(left, []);
    });

    const check = (folders: DatabaseFolders, reportDirectory: string): ReturnType<typeof checkDatabase> =>
      checkDatabase(stock, folders, {
        scratchDirectory: scratch,
        reportDirectory,
        maxOffHeapMemory: CHECK_MEMORY,
        threads: 1,
      });
  });
}

/** An installation as a user has it, whose jars are those of the distribution. */
async function stockOf(line: Line, scratch: string): Promise<StockNeo4j> {
  const distribution = await ensureDistribution(line);
  const home = join(scratch, 'installation');
  await mkdir(home);
  await symlink(distribution.libraryFolder, join(home, 'lib'));
  const environment = {
    ...process.env,
    JAVA_HOME: distribution.javaHome,
    JAVA_TOOL_OPTIONS: QUICK_START,
  };
  const stock = await findStockNeo4j(home, environment);
  assert.equal(stock?.version, distribution.version);
  assert.equal(stock?.serverMainClass, distribution.serverMainClass);
  return stock!;
}

/** Both databases of a server under load, restored and not recovered yet. */
async function restoreFromLoad(line: Line, scratch: string, target: Home): Promise<void> {
  await using server = await startServer(await createHome({ line, dir: join(scratch, 'source') }));
  await prepareSchema(server, { lucene: false });
  const load = startLoad(server, { writers: 4, vector: false });
  await load.waitForMore(200);
  const artifacts = join(scratch, 'artifacts');
  await mkdir(artifacts);
  for (const name of ['neo4j', 'system']) {
    const { artifactPath } = await backupDatabase(foldersOf(server.home, name), {
      targetDirectory: artifacts,
      type: 'FULL',
      compress: true,
      compressionLevel: 1,
      keepFailed: false,
    });
    await restoreDatabase({ artifactPath, target: foldersOf(target, name), overwriteDestination: false });
  }
  await load.stop();
}

async function copyOf(source: DatabaseFolders, directory: string): Promise<DatabaseFolders> {
  const copy: DatabaseFolders = {
    name: source.name,
    storeDirectory: join(directory, 'store'),
    logDirectory: join(directory, 'log'),
  };
  await cp(source.storeDirectory, copy.storeDirectory, { recursive: true });
  await cp(source.logDirectory, copy.logDirectory, { recursive: true });
  return copy;
}

async function namesAndSizes({ storeDirectory, logDirectory }: DatabaseFolders): Promise<string[]> {
  const found: string[] = [];
  for (const directory of [storeDirectory, logDirectory]) {
    const entries = await readdir(directory, { recursive: true, withFileTypes: true });
    for (const entry of entries.filter((each) => each.isFile())) {
      const content = await readFile(join(entry.parentPath, entry.name));
      found.push(`${join(entry.parentPath, entry.name)}: ${content.length}`);
    }
  }
  return found.sort();
}
