/**
 * One turn of the main job: back up a running server, restore into a fresh home, judge the result. The tests run it a
 * few times, the soak hundreds of times.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readFence } from '../../src/hotcopy/fence.ts';
import { backupDatabase } from '../../src/operations/backup.ts';
import { readDatabaseInfo } from '../../src/operations/info.ts';
import { restoreDatabase } from '../../src/operations/restore.ts';
import type { BackupResult, DatabaseFolders } from '../../src/operations/types.ts';
import { validateArtifact } from '../../src/operations/validate.ts';
import { assertVerdict, type Judge, type Verdict } from './harness/judge.ts';
import type { Load } from './harness/load.ts';
import { createHome, type Home, type Server, whileStopped } from './harness/server.ts';

export function foldersOf(home: Home, name = 'neo4j'): DatabaseFolders {
  return {
    name,
    storeDirectory: join(home.databaseFolder, '..', name),
    logDirectory: join(home.transactionsFolder, '..', name),
  };
}

export interface CycleOptions {
  readonly home: Home;
  readonly judge: Judge;
  readonly scratch: string;
  readonly load?: Load;
  /** Stopped (SIGSTOP) while the result is judged, so that judging is quick and the data does not grow meanwhile. */
  readonly server?: Server;
  /** Slows the copy down, so that checkpoints, rotations and pruning fall into it. */
  readonly rateBytesPerSecond?: number;
  readonly compress?: boolean;
  /** Told of each piece that was copied; may hurt the server. */
  readonly onProgress?: (doneBytes: number, phase: string) => void;
  /** false for a database without the load's data. */
  readonly loadInvariants?: boolean;
}

export interface CycleResult {
  readonly backup: BackupResult;
  readonly verdict: Verdict;
  /** Newer checkpoints than the fence when the copy ended, and log files gone by then. */
  readonly checkpointsDuringCopy: boolean;
  readonly prunedDuringCopy: boolean;
}

/** @throws AssertionError that lists everything wrong with the restored database */
export async function runCycle(options: CycleOptions): Promise<CycleResult> {
  const folder = join(options.scratch, `cycle-${process.pid}-${Date.now()}`);
  const artifacts = join(folder, 'artifacts');
  await mkdir(artifacts, { recursive: true });
  try {
    return await backupRestoreJudge(options, folder, artifacts);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function backupRestoreJudge(
  options: CycleOptions,
  folder: string,
  artifacts: string,
): Promise<CycleResult> {
  const source = foldersOf(options.home);
  const before = await newestNames(source.logDirectory);
  let acknowledged = new Map<number, number>();
  const backup = await backupDatabase(source, {
    targetDirectory: artifacts,
    compress: options.compress ?? true,
    compressionLevel: 1,
    keepFailed: false,
    type: 'FULL',
    ...(options.rateBytesPerSecond === undefined ? {} : { rateBytesPerSecond: options.rateBytesPerSecond }),
    listener: {
      progress: ({ doneBytes, phase }) => {
        options.onProgress?.(doneBytes, phase);
        if (phase === 'reading the log' && acknowledged.size === 0) {
          acknowledged = options.load?.snapshotAcknowledged() ?? new Map();
        }
      },
      notice: () => {},
    },
  });
  const after = await newestNames(source.logDirectory);
  const judged = (): Promise<Verdict> => restoreAndJudge(options, folder, backup, acknowledged);
  const verdict = await (options.server === undefined ? judged() : whileStopped(options.server, judged));
  return {
    backup,
    verdict,
    checkpointsDuringCopy: after.checkpoint !== before.checkpoint,
    prunedDuringCopy: after.oldestLog > before.oldestLog,
  };
}

async function restoreAndJudge(
  options: CycleOptions,
  folder: string,
  backup: BackupResult,
  acknowledged: ReadonlyMap<number, number>,
): Promise<Verdict> {
  const validation = await validateArtifact(backup.artifactPath);
  if (!validation.valid) throw new Error(`the artifact is not valid: ${validation.problems.join('; ')}`);
  const restored = await createHome({ line: options.home.line, dir: join(folder, 'home') });
  await restoreDatabase({
    artifactPath: backup.artifactPath,
    target: foldersOf(restored),
    overwriteDestination: false,
  });
  const loadInvariants = options.loadInvariants ?? true;
  const verdict = await options.judge.judge(restored.dir, {
    expectAcknowledged: acknowledged,
    loadInvariants,
  });
  assertVerdict(verdict, {
    acknowledgedBefore: acknowledged,
    mayPopulate: backup.leftOut.length > 0,
    loadInvariants,
  });
  if (verdict.lastTransactionId !== Number(backup.highestTransaction)) {
    throw new Error(
      `the restored database ends at ${verdict.lastTransactionId}, the artifact says ${backup.highestTransaction}`,
    );
  }
  return verdict;
}

/** Enough of the transaction folder to tell whether the server moved on during a copy. */
async function newestNames(directory: string): Promise<{ checkpoint: string; oldestLog: number }> {
  const names = await readdir(directory);
  const logs = names.flatMap((name) => {
    const match = /^neostore\.transaction\.db\.(\d+)$/.exec(name);
    return match === null ? [] : [Number(match[1])];
  });
  const fence = await readFence(directory);
  return { checkpoint: `${fence.fileName}:${fence.checkpoint.endBytes}`, oldestLog: Math.min(...logs) };
}

/** Until the server has written a checkpoint behind its last transaction: nothing is left to replay. */
export async function untilCheckpointed(home: Home): Promise<void> {
  for (let attempt = 0; attempt < 300; attempt++) {
    if ((await readDatabaseInfo(foldersOf(home))).recoveryRequired === false) return;
    await sleep(100);
  }
  throw new Error('the idle server wrote no checkpoint');
}
