/**
 * What only Neo4j itself can do with a database, done by the Neo4j that is installed: recovery, by a server that
 * listens on nothing, and the consistency check, by its own tool. Both run in a home of their own, in which links lead
 * to the two folders of the one database: no other database, setting or plugin of the installation takes part.
 *
 * A server that says "Started." has not necessarily started its databases, and none of its exit statuses tells:
 * so what counts is what it wrote about the database into its log.
 */
import { mkdir, mkdtemp, open, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { GraphkeepError, isErrno, throwIfAborted, wrapSystemError } from '../errors.ts';
import {
  STOCK_OUTPUT_CHARACTERS_MAX,
  STOCK_SERVER_HEAP,
  STOCK_SERVER_PAGE_CACHE,
  STOCK_START_POLL_MS,
} from '../limits.ts';
import { isLocked } from '../storage/locks.ts';
import type { DatabaseFolders } from './folders.ts';
import type { StockNeo4j } from './stockinstallation.ts';
import { checkpointsOf, hasStarted, lastLines, readLog, startFailureOf } from './stocklog.ts';
import { type GuardedProcess, type ProcessEnd, startGuarded } from './stockprocess.ts';

export { type Environment, findStockNeo4j, type StockNeo4j } from './stockinstallation.ts';

const ADMIN_TOOL = 'org.neo4j.cli.AdminTool';
/** What a shell gives for a command that it cannot run; no tool of Neo4j ends with these. */
const CANNOT_BE_RUN = [126, 127];
const SYSTEM_DATABASE = 'system';
const DEFAULT_DATABASE = 'neo4j';

interface StockOptions {
  /** An existing folder; what is made in it is removed again. It needs room for a small home, not for the database. */
  readonly scratchDirectory: string;
  /** Aborted: the Java process is ended, the scratch home removed, and GK_INTERRUPTED thrown. */
  readonly signal?: AbortSignal | undefined;
}

export interface RecoverOptions extends StockOptions {
  /** As in `server.memory.pagecache.size`, e.g. `512m`. */
  readonly pagecache?: string | undefined;
  /**
   * `initial.dbms.default_database` of the home that the database is from. It matters for `system` only: a server with
   * another default database than the one that `system` knows writes two transactions into it.
   */
  readonly defaultDatabase?: string | undefined;
}

export interface RecoveryResult {
  /** Where recovery ended; undefined when none was needed. */
  readonly recoveredTransaction: bigint | undefined;
  /** Of the checkpoint at the end. Greater than `recoveredTransaction` if the server wrote something of its own. */
  readonly lastTransaction: bigint;
}

/**
 * Recovers a database in place: afterwards it ends with a checkpoint behind its last transaction, and its log is kept
 * whole. Indexes that recovery leaves to be built are built by the next server. The proof that the last transaction is
 * the expected one is the caller's, who must hold no lock of this database: the server takes it. New files belong to
 * the user that runs graphkeep.
 * @throws GK_NOT_FOUND, GK_IN_USE when somebody has the database open, GK_STORE_DAMAGED when Neo4j finds that it cannot
 * be recovered, GK_STOCK_FAILED for any other end, GK_INTERRUPTED
 */
export async function recoverDatabase(
  stock: StockNeo4j,
  folders: DatabaseFolders,
  options: RecoverOptions,
): Promise<RecoveryResult> {
  const configuration = recoveryConfiguration(folders, options);
  return withScratchHome(folders, options, configuration, async (home) => {
    const end = await runServer(stock, home, options.signal);
    throwIfAborted(options.signal);
    return readRecovery(folders, home, end);
  });
}

/** No door is open, nothing is sent anywhere, and nothing is thrown away: neither data nor log. */
function recoveryConfiguration(folders: DatabaseFolders, options: RecoverOptions): string {
  const defaultDatabase =
    folders.name === SYSTEM_DATABASE ? (options.defaultDatabase ?? DEFAULT_DATABASE) : folders.name;
  const settings: Readonly<Record<string, string>> = {
    'initial.dbms.default_database': defaultDatabase,
    'server.bolt.enabled': 'false',
    'server.http.enabled': 'false',
    'server.https.enabled': 'false',
    // With it on, a `system` without users would get the first one.
    'dbms.security.auth_enabled': 'false',
    'dbms.usage_report.enabled': 'false',
    'server.memory.pagecache.size': options.pagecache ?? STOCK_SERVER_PAGE_CACHE,
    'db.tx_log.rotation.retention_policy': 'keep_all',
    'db.tx_log.preallocate': 'false',
    'db.index_sampling.background_enabled': 'false',
  };
  return Object.entries(settings)
    .map(([name, value]) => `${name}=${value}\n`)
    .join('');
}

/** Starts the server, waits until it is up or has given up, and lets it shut down. */
async function runServer(
  stock: StockNeo4j,
  home: string,
  signal: AbortSignal | undefined,
): Promise<ProcessEnd> {
  const output = await open(consoleFile(home), 'w').catch((error: unknown) => {
    throw wrapSystemError(error, `create ${consoleFile(home)}`);
  });
  let server: GuardedProcess;
  try {
    server = startGuarded(stock.java, serverArguments(stock, home), {
      environment: { ...stock.environment, NEO4J_HOME: home, NEO4J_CONF: join(home, 'conf') },
      output: output.fd,
      signal,
    });
  } finally {
    await output.close(); // the server has a descriptor of its own
  }
  try {
    while (!server.hasEnded() && !hasStarted(await readLog(serverLog(home)))) {
      await sleep(STOCK_START_POLL_MS);
    }
    server.terminate();
    return await server.ended;
  } finally {
    await server.stop();
  }
}

function serverArguments(stock: StockNeo4j, home: string): string[] {
  return [
    ...javaArguments(stock, STOCK_SERVER_HEAP),
    stock.serverMainClass,
    `--home-dir=${home}`,
    `--config-dir=${join(home, 'conf')}`,
  ];
}

/** `HEAP_SIZE` is the largest heap, as for `neo4j-admin`. Without either Java decides, which it does by the memory. */
function javaArguments(stock: StockNeo4j, defaultHeap?: string): string[] {
  const heap = stock.environment.HEAP_SIZE?.trim() || defaultHeap;
  return [...(heap === undefined ? [] : [`-Xmx${heap}`]), ...stock.javaFlags, '-cp', stock.classPath];
}

const serverLog = (home: string): string => join(home, 'logs/neo4j.log');
const consoleFile = (home: string): string => join(home, 'logs/console.log');

async function readRecovery(
  folders: DatabaseFolders,
  home: string,
  end: ProcessEnd,
): Promise<RecoveryResult> {
  const log = await readLog(join(home, 'logs/debug.log'));
  const failure = startFailureOf(log, folders.name);
  if (failure !== undefined) throw databaseNotStarted(folders, failure);
  const { recovered, shutdown } = checkpointsOf(log, folders.name);
  // SIGTERM gives 0 with the main classes of today, and 143 where nothing catches it.
  const clean = end.exitStatus === 0 || end.exitStatus === 143;
  if (shutdown === undefined || !clean) throw await serverFailed(folders, home, end);
  return { recoveredTransaction: recovered, lastTransaction: shutdown };
}

/** Neo4j calls many things a failure to start; these words mean that the files themselves are wrong. */
const DAMAGE = /recovery (is )?not possible|checksum|corrupt/i;

function databaseNotStarted(folders: DatabaseFolders, failure: string): GraphkeepError {
  const code = DAMAGE.test(failure) ? 'GK_STORE_DAMAGED' : 'GK_STOCK_FAILED';
  const shown = lastLines(failure, 'first');
  return new GraphkeepError(code, `Neo4j cannot recover ${folders.storeDirectory}:\n${shown}`);
}

async function serverFailed(
  folders: DatabaseFolders,
  home: string,
  end: ProcessEnd,
): Promise<GraphkeepError> {
  const shown = lastLines((await readLog(consoleFile(home))) + (await readLog(serverLog(home))));
  const what = `the Neo4j that was to recover ${folders.storeDirectory} ${describeEnd(end)}`;
  return new GraphkeepError('GK_STOCK_FAILED', `${what} without a checkpoint of it:\n${shown}`);
}

function describeEnd({ exitStatus, signal }: ProcessEnd): string {
  return exitStatus === undefined
    ? `was ended by ${signal ?? 'an unknown cause'}`
    : `ended with ${exitStatus}`;
}

export interface StockToolOptions {
  /** NEO4J_HOME of the tool; its `conf` is NEO4J_CONF. */
  readonly home: string;
  readonly configurationDirectory?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Gets the output as it comes, in pieces of any length. */
  readonly onOutput?: ((text: string) => void) | undefined;
  /** Standard input of the tool, an open file: the dump that it loads. */
  readonly input?: number | undefined;
  /** Gets standard output of the tool, an open file: the dump that it writes. What it says is its standard error then. */
  readonly bytesOutput?: number | undefined;
}

export interface StockToolResult {
  readonly exitStatus: number;
  /** Standard output, unless it went elsewhere, and standard error as they came; of more than 1 MiB the end. */
  readonly output: string;
}

/**
 * Runs `neo4j-admin` with arguments such as `['database', 'check', 'neo4j']`.
 * @throws GK_STOCK_FAILED when it could not be started or was killed; GK_INTERRUPTED. Any exit status is a result.
 */
export async function runStockTool(
  stock: StockNeo4j,
  args: readonly string[],
  options: StockToolOptions,
): Promise<StockToolResult> {
  let output = '';
  const tool = startGuarded(stock.java, [...javaArguments(stock), ADMIN_TOOL, ...args], {
    environment: {
      ...stock.environment,
      NEO4J_HOME: options.home,
      NEO4J_CONF: options.configurationDirectory ?? join(options.home, 'conf'),
    },
    output: (text) => {
      output = (output + text).slice(-STOCK_OUTPUT_CHARACTERS_MAX);
      options.onOutput?.(text);
    },
    input: options.input,
    bytesOutput: options.bytesOutput,
    signal: options.signal,
  });
  const end = await tool.ended;
  throwIfAborted(options.signal);
  const { exitStatus } = end;
  if (exitStatus === undefined || CANNOT_BE_RUN.includes(exitStatus)) {
    throw toolFailed(args, describeEnd(end), output);
  }
  return { exitStatus, output };
}

function toolFailed(args: readonly string[], what: string, output: string): GraphkeepError {
  const command = args.filter((word) => !word.startsWith('-')).join(' ');
  return new GraphkeepError('GK_STOCK_FAILED', `neo4j-admin ${command} ${what}:\n${lastLines(output)}`);
}

export interface CheckOptions extends StockOptions {
  /** Where a report is written when something is found; made when it does not exist. */
  readonly reportDirectory: string;
  /** Neo4j's own defaults where absent: graph, indexes and counts are checked, property owners are not. */
  readonly checkGraph?: boolean | undefined;
  readonly checkIndexes?: boolean | undefined;
  readonly checkCounts?: boolean | undefined;
  readonly checkPropertyOwners?: boolean | undefined;
  /** Bytes, `20G`, or a share of the free memory such as `50%`; Neo4j's default is `90%`. */
  readonly maxOffHeapMemory?: string | undefined;
  readonly threads?: number | undefined;
  readonly onOutput?: ((text: string) => void) | undefined;
}

export interface CheckResult {
  readonly consistent: boolean;
  /** Names everything that was found; undefined when nothing was, or when the report could not be written. */
  readonly reportPath: string | undefined;
  readonly output: string;
}

/**
 * Runs the stock consistency check on a recovered database, which it does not change.
 * @throws GK_NOT_FOUND, GK_IN_USE, GK_STOCK_FAILED when the check could not be run (not recovered, contradicting
 * options, …), GK_INTERRUPTED. Inconsistencies are a result.
 */
export async function checkDatabase(
  stock: StockNeo4j,
  folders: DatabaseFolders,
  options: CheckOptions,
): Promise<CheckResult> {
  const reportDirectory = resolve(options.reportDirectory);
  await mkdir(reportDirectory, { recursive: true }).catch((error: unknown) => {
    throw wrapSystemError(error, `create ${reportDirectory}`);
  });
  return withScratchHome(folders, options, '', async (home) => {
    const args = ['database', 'check', ...checkArguments(options, reportDirectory), folders.name];
    const { signal, onOutput } = options;
    const { exitStatus, output } = await runStockTool(stock, args, { home, signal, onOutput });
    if (exitStatus === 0) return { consistent: true, reportPath: undefined, output };
    // The same exit status stands for inconsistencies and for a check that could not be run.
    const found = /^Inconsistencies found\. See '(.+)' for details/m.exec(output);
    if (found === null) throw toolFailed(args, `ended with ${exitStatus}`, output);
    const reportPath = found[1]!;
    return { consistent: false, reportPath: (await exists(reportPath)) ? reportPath : undefined, output };
  });
}

function checkArguments(options: CheckOptions, reportDirectory: string): string[] {
  const given: Readonly<Record<string, string | number | boolean | undefined>> = {
    'report-path': reportDirectory,
    'check-graph': options.checkGraph,
    'check-indexes': options.checkIndexes,
    'check-counts': options.checkCounts,
    'check-property-owners': options.checkPropertyOwners,
    'max-off-heap-memory': options.maxOffHeapMemory,
    threads: options.threads,
  };
  return Object.entries(given).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name}=${value}`],
  );
}

/** Neo4j follows links to the folders of a database, so the home needs neither a copy of it nor a path option. */
async function withScratchHome<Result>(
  folders: DatabaseFolders,
  options: StockOptions,
  configuration: string,
  work: (home: string) => Promise<Result>,
): Promise<Result> {
  throwIfAborted(options.signal);
  await refuseUnusable(folders);
  const home = await mkdtemp(join(resolve(options.scratchDirectory), 'graphkeep-stock-')).catch(
    (error: unknown) => {
      throw wrapSystemError(error, `create a folder in ${options.scratchDirectory}`);
    },
  );
  try {
    await fillScratchHome(home, folders, configuration).catch((error: unknown) => {
      throw wrapSystemError(error, `prepare ${home}`);
    });
    return await work(home);
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}

async function fillScratchHome(home: string, folders: DatabaseFolders, configuration: string): Promise<void> {
  for (const folder of ['conf', 'logs', 'data/databases', 'data/transactions']) {
    await mkdir(join(home, folder), { recursive: true });
  }
  await symlink(resolve(folders.storeDirectory), join(home, 'data/databases', folders.name));
  await symlink(resolve(folders.logDirectory), join(home, 'data/transactions', folders.name));
  await writeFile(join(home, 'conf/neo4j.conf'), configuration);
}

async function refuseUnusable(folders: DatabaseFolders): Promise<void> {
  for (const directory of [folders.storeDirectory, folders.logDirectory]) {
    if (!(await exists(directory)))
      throw new GraphkeepError('GK_NOT_FOUND', `there is no folder ${directory}`);
  }
  if (!isLocked(join(folders.storeDirectory, 'database_lock'))) return;
  throw new GraphkeepError('GK_IN_USE', `a running Neo4j uses ${folders.storeDirectory}`);
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return false;
    throw wrapSystemError(error, `look at ${path}`);
  }
}
