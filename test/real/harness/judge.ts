import { AssertionError } from 'node:assert';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Distribution, ensureDistribution, type Line } from './distribution.ts';
import { ACCOUNTS, EXPECTED_SUM, NOTE_ARCHIVE_AGE, NOTE_KEEP, OPENING_BALANCE, SETTLE_AGE } from './load.ts';
import { killOnExit } from './server.ts';

const JUDGE_SOURCE = fileURLToPath(new URL('./Judge.java', import.meta.url));

/** Embedded databases leave threads and buffers behind; a fresh JVM now and then keeps that bounded. */
const JUDGEMENTS_PER_JVM = 50;

export type IndexVerdict = {
  readonly name: string;
  readonly type: 'RANGE' | 'TEXT' | 'POINT' | 'FULLTEXT' | 'VECTOR' | 'LOOKUP';
  readonly stateAtOpen: 'ONLINE' | 'POPULATING' | 'FAILED';
  readonly state: 'ONLINE' | 'POPULATING' | 'FAILED';
  readonly matchesScan: boolean;
};

export type Verdict = {
  readonly opened: boolean;
  /** Why the database did not open. */
  readonly error?: string;
  readonly accounts?: number;
  readonly sum?: number;
  readonly transfers?: number;
  readonly halfTransfers?: number;
  readonly halfBatches?: number;
  readonly gaps?: number;
  readonly duplicates?: number;
  readonly maxSequenceByWriter: ReadonlyMap<number, number>;
  readonly lastTransactionId?: number;
  readonly indexes: readonly IndexVerdict[];
  /** Log lines of indexes that the start had to build again (also those already ONLINE when looked at). */
  readonly populationsAtOpen: readonly string[];
  /** The start ran a recovery. Always so for a copy of a running database. */
  readonly recovered: boolean;
  /** Result of the stock consistency check; undefined when it was not asked for or could not be run. */
  readonly consistent?: boolean;
  readonly reportText?: string;
  /** Everything that is wrong with data and indexes, the first few of each kind. */
  readonly problems: readonly string[];
  readonly problemCounts: Readonly<Record<string, number>>;
  readonly timings: Readonly<Record<string, number>>;
  /** Acknowledged sequence numbers that the caller asked for and that are not there. */
  readonly lost: readonly string[];
};

export type JudgeOptions = {
  /** Highest sequence number per writer that must be there (acknowledged before the end of the backup). */
  readonly expectAcknowledged?: ReadonlyMap<number, number>;
  /** Highest sequence number per writer that may be there (a point-in-time restore). */
  readonly expectAtMost?: ReadonlyMap<number, number>;
  /** False for a database that `prepareSchema` and `startLoad` did not make: only indexes and stock check. */
  readonly loadInvariants?: boolean;
  readonly consistencyCheck?: boolean;
  readonly timeoutMs?: number;
};

export type Judge = {
  readonly line: Line;
  /** Opens the home (recovery and all) and judges it. The home is changed by that: judge a copy to keep it. */
  judge(homeDir: string, options?: JudgeOptions): Promise<Verdict>;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

type RawVerdict = Omit<Partial<Verdict>, 'maxSequenceByWriter'> & {
  readonly opened: boolean;
  readonly maxSequenceByWriter?: Readonly<Record<string, number>>;
};

type JudgeProcess = {
  readonly child: ChildProcess;
  readonly lines: Interface;
  readonly nextLine: () => Promise<string>;
  readonly errorText: () => string;
  judgements: number;
};

function startJudgeProcess(distribution: Distribution): JudgeProcess {
  const child = spawn(
    distribution.java,
    [
      '-Xmx1500m',
      '-XX:+UseSerialGC',
      '-XX:TieredStopAtLevel=1',
      ...distribution.javaFlags,
      '-Dfile.encoding=UTF-8',
      '-cp',
      distribution.classPath,
      JUDGE_SOURCE,
    ],
    { stdio: ['pipe', 'pipe', 'pipe'] },
  );
  killOnExit(child);
  // A write to a JVM that just died must not end the test runner.
  child.stdin.on('error', () => undefined);
  let errorText = '';
  child.stderr.setEncoding('utf8');
  child.stderr.on('data', (text: string) => {
    errorText = (errorText + text).slice(-20_000);
  });
  const lines = createInterface({ input: child.stdout });
  const arrived: string[] = [];
  const waiting: { resolve: (line: string) => void; reject: (error: Error) => void }[] = [];
  let ended: Error | undefined;
  lines.on('line', (line) => {
    const waiter = waiting.shift();
    if (waiter === undefined) {
      arrived.push(line);
    } else {
      waiter.resolve(line);
    }
  });
  const end = (error: Error): void => {
    ended = error;
    for (const waiter of waiting.splice(0)) {
      waiter.reject(error);
    }
  };
  child.once('error', end);
  child.once('close', (code, signal) => {
    end(new Error(`The judge JVM ended with code ${code}, signal ${signal}\n${errorText}`));
  });
  return {
    child,
    lines,
    judgements: 0,
    errorText: () => errorText,
    nextLine: () =>
      new Promise((resolve, reject) => {
        const line = arrived.shift();
        if (line !== undefined) {
          resolve(line);
        } else if (ended !== undefined) {
          reject(ended);
        } else {
          waiting.push({ resolve, reject });
        }
      }),
  };
}

async function endJudgeProcess(judge: JudgeProcess): Promise<void> {
  if (judge.child.exitCode !== null || judge.child.signalCode !== null) {
    return;
  }
  const exited = new Promise<void>((resolve) => {
    judge.child.once('exit', () => resolve());
  });
  judge.child.kill('SIGKILL');
  await exited;
}

function lostSequences(maximums: ReadonlyMap<number, number>, options: JudgeOptions): readonly string[] {
  const lost: string[] = [];
  for (const [writer, sequence] of options.expectAcknowledged ?? []) {
    const found = maximums.get(writer) ?? 0;
    if (found < sequence) {
      lost.push(`writer ${writer}: ${sequence} was acknowledged, the database ends at ${found}`);
    }
  }
  for (const [writer, sequence] of options.expectAtMost ?? []) {
    const found = maximums.get(writer) ?? 0;
    if (found > sequence) {
      lost.push(`writer ${writer}: nothing after ${sequence} may be there, the database ends at ${found}`);
    }
  }
  return lost;
}

/** Starts the judge's JVM of a line. One judgement at a time; further ones wait in line. */
export async function createJudge(line: Line): Promise<Judge> {
  const distribution = await ensureDistribution(line);
  let current: JudgeProcess | undefined;
  let queue: Promise<unknown> = Promise.resolve();

  const ready = async (): Promise<JudgeProcess> => {
    if (current !== undefined && current.judgements >= JUDGEMENTS_PER_JVM) {
      await endJudgeProcess(current);
      current = undefined;
    }
    if (current === undefined || current.child.exitCode !== null || current.child.signalCode !== null) {
      const started = startJudgeProcess(distribution);
      await started.nextLine();
      current = started;
    }
    return current;
  };

  const judgeNow = async (homeDir: string, options: JudgeOptions): Promise<Verdict> => {
    const process = await ready();
    process.judgements += 1;
    const timeoutMs = options.timeoutMs ?? 300_000;
    const request = {
      home: homeDir,
      openTimeoutMs: 120_000,
      indexTimeoutMs: 120_000,
      loadInvariants: options.loadInvariants ?? true,
      consistencyCheck: options.consistencyCheck ?? true,
      openingBalance: OPENING_BALANCE,
      settleAge: SETTLE_AGE,
      noteKeep: NOTE_KEEP,
      noteArchiveAge: NOTE_ARCHIVE_AGE,
    };
    const text = Object.entries(request)
      .map(([name, value]) => `${name}=${value}`)
      .join('\t');
    const timer = new AbortController();
    let raw: RawVerdict;
    try {
      process.child.stdin?.write(`${text}\n`);
      const answer = await Promise.race([
        process.nextLine(),
        delay(timeoutMs, undefined, { signal: timer.signal }).then(() => {
          throw new Error(`The judgement did not end within ${timeoutMs} ms\n${process.errorText()}`);
        }),
      ]);
      raw = JSON.parse(answer) as RawVerdict;
    } catch (error) {
      // A database that hangs or kills its JVM is a finding about the database, so it is a verdict.
      await endJudgeProcess(process);
      current = undefined;
      raw = { opened: false, error: String(error) };
    } finally {
      timer.abort();
    }
    const maxSequenceByWriter = new Map(
      Object.entries(raw.maxSequenceByWriter ?? {}).map(([writer, sequence]) => [Number(writer), sequence]),
    );
    return {
      indexes: [],
      populationsAtOpen: [],
      recovered: false,
      problems: [],
      problemCounts: {},
      timings: {},
      ...raw,
      maxSequenceByWriter,
      lost: raw.opened ? lostSequences(maxSequenceByWriter, options) : [],
    };
  };

  const close = async (): Promise<void> => {
    await queue;
    if (current !== undefined) {
      await endJudgeProcess(current);
      current = undefined;
    }
  };
  await ready();
  return {
    line,
    judge(homeDir, options = {}): Promise<Verdict> {
      const result = queue.then(() => judgeNow(homeDir, options));
      queue = result.catch(() => undefined);
      return result;
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

export type VerdictExpectation = {
  /** Checked again here, for a verdict that was made without `expectAcknowledged`. */
  readonly acknowledgedBefore?: ReadonlyMap<number, number>;
  /** Indexes may be built again at start, for a restore that leaves index folders out. */
  readonly mayPopulate?: boolean;
  /** As in the judgement: false when the data is not the load's. */
  readonly loadInvariants?: boolean;
  readonly consistencyCheck?: boolean;
};

/** Gives a list of everything that is wrong; empty for a right database. */
export function complaintsOf(verdict: Verdict, expectation: VerdictExpectation = {}): readonly string[] {
  if (!verdict.opened) {
    return [`the database did not open: ${verdict.error ?? 'no reason given'}`];
  }
  const complaints: string[] = [];
  if (expectation.loadInvariants ?? true) {
    if (verdict.accounts !== ACCOUNTS) {
      complaints.push(`${verdict.accounts} accounts instead of ${ACCOUNTS}`);
    }
    if (verdict.sum !== EXPECTED_SUM) {
      complaints.push(`the sum of the balances is ${verdict.sum} instead of ${EXPECTED_SUM}`);
    }
  }
  const lost =
    expectation.acknowledgedBefore === undefined
      ? []
      : lostSequences(verdict.maxSequenceByWriter, { expectAcknowledged: expectation.acknowledgedBefore });
  complaints.push(...new Set([...verdict.lost, ...lost]));
  for (const index of verdict.indexes) {
    if (index.state !== 'ONLINE') {
      complaints.push(`index ${index.name} (${index.type}) is ${index.state}`);
    } else if (index.stateAtOpen !== 'ONLINE' && expectation.mayPopulate !== true) {
      complaints.push(`index ${index.name} (${index.type}) was ${index.stateAtOpen} at the start`);
    }
    if (!index.matchesScan) {
      complaints.push(`index ${index.name} (${index.type}) does not answer like a scan`);
    }
  }
  if (expectation.mayPopulate !== true) {
    complaints.push(...verdict.populationsAtOpen.map((text) => `built again at the start: ${text}`));
  }
  complaints.push(...verdict.problems);
  for (const [kind, count] of Object.entries(verdict.problemCounts)) {
    complaints.push(`in all ${count} problems of the kind "${kind}"`);
  }
  if ((expectation.consistencyCheck ?? true) && verdict.consistent !== true) {
    complaints.push(`the stock consistency check is not clean: ${verdict.reportText ?? 'it was not run'}`);
  }
  return complaints;
}

/** Throws an AssertionError that lists everything wrong with the judged database. */
export function assertVerdict(verdict: Verdict, expectation: VerdictExpectation = {}): void {
  const complaints = complaintsOf(verdict, expectation);
  if (complaints.length > 0) {
    throw new AssertionError({
      message: `The database is not right:\n- ${complaints.join('\n- ')}`,
      actual: complaints,
      expected: [],
      operator: 'assertVerdict',
    });
  }
}

export type ToolResult = { readonly exitCode: number; readonly stdout: string; readonly stderr: string };

/** Runs the stock `neo4j-admin` of a line on a home, such as `['database', 'check', 'neo4j']`. */
export async function runStockTool(
  line: Line,
  home: { readonly dir: string } | string,
  args: readonly string[],
  options: { readonly timeoutMs?: number } = {},
): Promise<ToolResult> {
  const distribution = await ensureDistribution(line);
  const dir = typeof home === 'string' ? home : home.dir;
  return new Promise((resolve, reject) => {
    const child = execFile(
      distribution.java,
      [
        '-Xmx512m',
        '-XX:+UseSerialGC',
        '-XX:TieredStopAtLevel=1',
        ...distribution.javaFlags,
        '-cp',
        distribution.classPath,
        'org.neo4j.cli.AdminTool',
        ...args,
      ],
      {
        cwd: dir,
        env: { ...process.env, NEO4J_HOME: dir, NEO4J_CONF: join(dir, 'conf') },
        maxBuffer: 256 * 1024 * 1024,
        timeout: options.timeoutMs ?? 300_000,
        killSignal: 'SIGKILL',
      },
      (error, stdout, stderr) => {
        if (error === null) {
          resolve({ exitCode: 0, stdout, stderr });
        } else if (typeof error.code === 'number') {
          resolve({ exitCode: error.code, stdout, stderr });
        } else {
          reject(error);
        }
      },
    );
    killOnExit(child);
  });
}
