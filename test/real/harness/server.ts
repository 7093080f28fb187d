import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access, mkdir, open, readFile, stat, statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import neo4j, { type Driver } from 'neo4j-driver';
import { freePort } from '../../fixtures/ports.ts';
import { type Distribution, ensureDistribution, type Line } from './distribution.ts';

const MEMORY_FILE_SYSTEM = '/dev/shm';
const MEMORY_FILE_SYSTEM_MINIMUM_BYTES = 4 * 1024 ** 3;

/** Folder for homes: a memory file system when there is room, as the load is then not held up by fsync. */
export async function scratchRoot(): Promise<string> {
  try {
    await access(MEMORY_FILE_SYSTEM, constants.W_OK | constants.X_OK);
    const facts = await statfs(MEMORY_FILE_SYSTEM);
    if (facts.bavail * facts.bsize >= MEMORY_FILE_SYSTEM_MINIMUM_BYTES) {
      return MEMORY_FILE_SYSTEM;
    }
  } catch {
    // No such file system here (macOS, locked-down container): use the ordinary folder.
  }
  return tmpdir();
}

export type StoreFormat = 'aligned' | 'standard';

export type HomeOptions = {
  readonly line: Line;
  /** Folder of the home; is made when it does not exist. */
  readonly dir: string;
  readonly format?: StoreFormat;
  /** Tiny page cache, constant checkpoints, quick log rotation and pruning: all that makes a copy hard. */
  readonly harsh?: boolean;
  /** Settings that override the ones written by default. */
  readonly extraConf?: Readonly<Record<string, string>>;
  /** A fixed Bolt port instead of a free one. */
  readonly boltPort?: number;
};

export type Home = {
  readonly line: Line;
  readonly dir: string;
  readonly boltPort: number;
  readonly boltUri: string;
  readonly databaseFolder: string;
  readonly transactionsFolder: string;
  readonly configurationFolder: string;
};

const HARSH_CONF: Readonly<Record<string, string>> = {
  'server.memory.pagecache.size': '10m',
  'db.checkpoint.interval.time': '1s',
  'db.checkpoint.interval.tx': '50',
  'db.tx_log.rotation.size': '256k',
  'db.tx_log.rotation.retention_policy': 'keep_none',
};

function homeOf(line: Line, dir: string, boltPort: number): Home {
  return {
    line,
    dir,
    boltPort,
    boltUri: `bolt://127.0.0.1:${boltPort}`,
    databaseFolder: join(dir, 'data/databases/neo4j'),
    transactionsFolder: join(dir, 'data/transactions/neo4j'),
    configurationFolder: join(dir, 'conf'),
  };
}

/** Writes `conf/neo4j.conf`; existing data in the home stays as it is. */
export async function createHome(options: HomeOptions): Promise<Home> {
  const home = homeOf(options.line, options.dir, options.boltPort ?? (await freePort()));
  const settings: Record<string, string> = {
    'server.default_listen_address': '127.0.0.1',
    'server.bolt.listen_address': `127.0.0.1:${home.boltPort}`,
    'server.http.enabled': 'false',
    'server.https.enabled': 'false',
    'dbms.security.auth_enabled': 'false',
    'dbms.usage_report.enabled': 'false',
    'db.format': options.format ?? 'aligned',
    'server.memory.pagecache.size': '64m',
    'db.logs.query.enabled': 'OFF',
    // A clean stop waits this long for each Bolt connector, by default five seconds.
    'internal.server.bolt.thread_pool_shutdown_wait_time': '100ms',
    ...(options.harsh === true ? HARSH_CONF : {}),
    ...options.extraConf,
  };
  for (const folder of ['conf', 'data', 'logs', 'import', 'plugins', 'licenses', 'run']) {
    await mkdir(join(options.dir, folder), { recursive: true });
  }
  const text = Object.entries(settings)
    .map(([name, value]) => `${name}=${value}\n`)
    .join('');
  await writeFile(join(home.configurationFolder, 'neo4j.conf'), text);
  return home;
}

const liveProcesses = new Set<ChildProcess>();
let exitHandlersInstalled = false;

/** A test runner that dies must not leave Java processes behind. */
export function killOnExit(child: ChildProcess): void {
  if (!exitHandlersInstalled) {
    exitHandlersInstalled = true;
    const killAll = (): void => {
      for (const process of liveProcesses) {
        process.kill('SIGKILL');
      }
    };
    process.once('exit', killAll);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.once(signal, () => {
        killAll();
        // Listener is gone now (`once`): the second delivery ends the process the ordinary way.
        process.kill(process.pid, signal);
      });
    }
  }
  liveProcesses.add(child);
  child.once('exit', () => liveProcesses.delete(child));
}

export type StartOptions = {
  readonly timeoutMs?: number;
  /** Added after the default JVM flags. */
  readonly javaFlags?: readonly string[];
  /** Must answer before the server counts as started; `neo4j` when absent. */
  readonly database?: string;
};

export type ExitFacts = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

export type Server = {
  readonly home: Home;
  readonly pid: number;
  readonly boltUri: string;
  readonly bootMs: number;
  /** One driver for the life of the server; closed by `stop` and `kill`. */
  readonly driver: Driver;
  /** Resolves when the process has ended, for whatever reason. */
  readonly exited: Promise<ExitFacts>;
  /** SIGTERM: shutdown with a checkpoint. Fails when the server does not end with success. */
  stop(timeoutMs?: number): Promise<void>;
  /** SIGKILL: a crash. */
  kill(): Promise<void>;
  /** Everything the server wrote to its log since this start. */
  log(): Promise<string>;
  [Symbol.asyncDispose](): Promise<void>;
};

const START_MS_MAX = 120_000;
const SERVER_JVM_FLAGS: readonly string[] = ['-Xmx512m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1'];

async function readFrom(path: string, offsetBytes: number): Promise<string> {
  try {
    const whole = await readFile(path);
    return whole.subarray(Math.min(offsetBytes, whole.length)).toString('utf8');
  } catch {
    return '';
  }
}

async function waitUntilReady(
  home: Home,
  driver: Driver,
  readLog: () => Promise<string>,
  hasExited: () => boolean,
  { timeoutMs = START_MS_MAX, database = 'neo4j' }: StartOptions,
): Promise<void> {
  const deadlineMs = Date.now() + timeoutMs;
  let lastProblem = 'the log has no line "Started."';
  while (Date.now() < deadlineMs) {
    if (hasExited()) {
      throw new Error(`Neo4j ${home.line} ended before it was ready.\n${(await readLog()).slice(-6000)}`);
    }
    const log = await readLog();
    if (/Started\.\s*$/m.test(log)) {
      try {
        await driver.executeQuery('RETURN 1', {}, { database });
        return;
      } catch (error) {
        lastProblem = String(error);
      }
    }
    await delay(50);
  }
  throw new Error(
    `Neo4j ${home.line} was not ready after ${timeoutMs} ms: ${lastProblem}\n${(await readLog()).slice(-6000)}`,
  );
}

/** Starts the real server of the home's line and waits until a Bolt query on its default database answers. */
export async function startServer(home: Home, options: StartOptions = {}): Promise<Server> {
  const distribution: Distribution = await ensureDistribution(home.line);
  const startMs = performance.now();
  const logFile = join(home.dir, 'logs/neo4j.log');
  const logOffsetBytes = await stat(logFile).then(
    (facts) => facts.size,
    () => 0,
  );
  const consoleFile = await open(join(home.dir, 'logs/console.log'), 'a');
  let child: ChildProcess;
  try {
    child = spawn(
      distribution.java,
      [
        ...SERVER_JVM_FLAGS,
        ...distribution.javaFlags,
        ...(options.javaFlags ?? []),
        '-cp',
        distribution.classPath,
        distribution.serverMainClass,
        `--home-dir=${home.dir}`,
        `--config-dir=${home.configurationFolder}`,
      ],
      { stdio: ['ignore', consoleFile.fd, consoleFile.fd], cwd: home.dir },
    );
  } finally {
    // The child holds its own copy of the descriptor.
    await consoleFile.close();
  }
  killOnExit(child);
  let ended: ExitFacts | undefined;
  const exited = new Promise<ExitFacts>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      ended = { code, signal };
      resolve(ended);
    });
  });
  exited.catch(() => undefined);
  const readLog = async (): Promise<string> => {
    const log = await readFrom(logFile, logOffsetBytes);
    // A server that dies before its logging is up only writes to the console.
    return log === '' ? readFrom(join(home.dir, 'logs/console.log'), 0) : log;
  };
  const driver = neo4j.driver(home.boltUri, neo4j.auth.basic('neo4j', 'neo4j'), {
    encrypted: false,
    maxConnectionPoolSize: 100,
    connectionTimeout: 5_000,
    disableLosslessIntegers: true,
  });
  try {
    await waitUntilReady(home, driver, readLog, () => ended !== undefined, options);
  } catch (error) {
    child.kill('SIGKILL');
    await driver.close();
    throw error;
  }
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
    await driver.close();
  };
  return {
    home,
    pid: child.pid ?? -1,
    boltUri: home.boltUri,
    bootMs: performance.now() - startMs,
    driver,
    exited,
    async stop(timeoutMs = 120_000): Promise<void> {
      // Open connections would hold up the shutdown.
      await driver.close();
      child.kill('SIGTERM');
      const timer = new AbortController();
      const facts = await Promise.race([
        exited,
        delay(timeoutMs, undefined, { signal: timer.signal, ref: false }).catch(() => undefined),
      ]);
      timer.abort();
      if (facts === undefined) {
        child.kill('SIGKILL');
        throw new Error(`Neo4j ${home.line} did not stop within ${timeoutMs} ms`);
      }
      // Java answers SIGTERM with 143 after its shutdown hooks ran; older launchers give 0.
      if (facts.code !== 0 && facts.code !== 143) {
        throw new Error(
          `Neo4j ${home.line} stopped with code ${facts.code}, signal ${facts.signal}\n${(await readLog()).slice(-4000)}`,
        );
      }
    },
    kill,
    log: readLog,
    async [Symbol.asyncDispose](): Promise<void> {
      if (ended === undefined) {
        await kill();
      } else {
        await driver.close();
      }
    },
  };
}

/** The server stands still meanwhile (SIGSTOP): what is done beside it is quick, and its data does not grow. */
export async function whileStopped<Result>(
  { pid }: Pick<Server, 'pid'>,
  work: () => Promise<Result>,
): Promise<Result> {
  process.kill(pid, 'SIGSTOP');
  try {
    return await work();
  } finally {
    process.kill(pid, 'SIGCONT');
  }
}
