/**
 * One turn of a long chain: back up what is new (now and then all of it), restore to the end or to a random transaction,
 * and have the result judged. The soak runs it hundreds of times.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { backupDatabase } from '../../src/operations/backup.ts';
import { planRestore } from '../../src/operations/plan.ts';
import { restoreDatabase } from '../../src/operations/restore.ts';
import type { BackupResult } from '../../src/operations/types.ts';
import { foldersOf } from './cycle.ts';
import { assertVerdict, type Judge } from './harness/judge.ts';
import type { Load } from './harness/load.ts';
import { createHome, type Home, type Server, whileStopped } from './harness/server.ts';

/** Small log files, often rotated, checkpoints all the time; but kept, so that differentials are possible. */
export const KEEPING_LOGS = {
  harsh: true,
  extraConf: {
    'db.tx_log.rotation.retention_policy': '1 hours',
    // The least that Neo4j allows: a new checkpoint file every few seconds.
    'internal.db.checkpoint_log.rotation.size': '1k',
  },
};

export interface ChainCycleOptions {
  readonly home: Home;
  readonly server: Server;
  readonly load: Load;
  readonly judge: Judge;
  readonly scratch: string;
  /** Folder of the artifacts, which grows from turn to turn. */
  readonly artifacts: string;
  readonly number: number;
  /** A whole number below the one given. */
  readonly random: (below: number) => number;
}

export interface ChainCycleResult {
  readonly backup: BackupResult;
  readonly restoredTo: bigint;
  readonly wasCut: boolean;
  readonly differentials: number;
}

const FULL_EVERY = 9;

/** @throws AssertionError that lists everything wrong with the restored database */
export async function runChainCycle(options: ChainCycleOptions): Promise<ChainCycleResult> {
  const { home, server, load, number, random } = options;
  const acknowledged = load.snapshotAcknowledged();
  const backup = await backupDatabase(foldersOf(home), {
    targetDirectory: options.artifacts,
    type: number % FULL_EVERY === FULL_EVERY - 1 ? 'FULL' : 'AUTO',
    preferDifferentialAsParent: true,
    compress: number % 3 !== 2,
    compressionLevel: 1,
    keepFailed: false,
  });
  const { window } = await planRestore({ artifactPath: options.artifacts });
  const span = Number(window.to - window.from);
  const wasCut = number % 2 === 1 && span > 0;
  const until = { transaction: window.from + 1n + BigInt(random(span + 1)) };
  const restored = await createHome({ line: home.line, dir: join(options.scratch, 'restored') });
  const restoreAndJudge = async (): Promise<ChainCycleResult> => {
    const result = await restoreDatabase({
      artifactPath: options.artifacts,
      ...(wasCut ? { until } : {}),
      target: foldersOf(restored),
      overwriteDestination: false,
    });
    const expected = wasCut ? {} : { expectAcknowledged: acknowledged };
    const verdict = await options.judge.judge(restored.dir, expected);
    assertVerdict(verdict, wasCut ? {} : { acknowledgedBefore: acknowledged });
    const restoredTo = wasCut ? until.transaction - 1n : window.to;
    if (verdict.lastTransactionId !== Number(restoredTo)) {
      throw new Error(`the restored database ends at ${verdict.lastTransactionId}, not at ${restoredTo}`);
    }
    return { backup, restoredTo, wasCut, differentials: result.differentialPaths.length };
  };
  try {
    return await whileStopped(server, restoreAndJudge);
  } finally {
    await rm(restored.dir, { recursive: true, force: true });
  }
}
