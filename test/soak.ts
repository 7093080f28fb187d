/**
 * `npm run soak -- [--backups=N] [--neo4j=5.26|2026.08] [--chains]`: the main job over and over under the harshest load;
 * with `--chains`, differential backups of one long chain, restored to its end or to a random transaction.
 * Every backup is restored, started and judged; the first wrong one ends the soak with its reasons.
 * `--readings=N` reads nothing but the log, as full and as differential backups do, of a server that commits and takes
 * checkpoints without a pause: what happens once in thousands of backups, in minutes.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { laterAtPosition } from '../src/formats/txlog/checkpoint.ts';
import { readFence } from '../src/hotcopy/fence.ts';
import { LogAfter } from '../src/hotcopy/logafter.ts';
import { openLocalSnapshot } from '../src/hotcopy/snapshot.ts';
import type { TailFacts } from '../src/hotcopy/tail.ts';
import type { DatabaseFolders } from '../src/neo4j/folders.ts';
import { randomNumbers } from './fixtures/random.ts';
import { KEEPING_LOGS, runChainCycle } from './real/chaincycle.ts';
import { type CycleResult, foldersOf, runCycle } from './real/cycle.ts';
import { LINES, type Line } from './real/harness/distribution.ts';
import { createJudge } from './real/harness/judge.ts';
import { prepareSchema, startLoad } from './real/harness/load.ts';
import { createHome, type StoreFormat, scratchRoot, startServer } from './real/harness/server.ts';

const BACKUPS_DEFAULT = 200;
/** A fresh server now and then: stores stay small, and a start is part of what is tested. */
const BACKUPS_PER_SERVER = 10;
/** Keeps the data small, so that most of the time goes into backups and not into judging them. */
const WRITER_PAUSE_MS = 25;
const RATES_BYTES_PER_SECOND = [4_000_000, 16_000_000, 64_000_000, undefined];

interface Tally {
  backups: number;
  withCheckpoint: number;
  withPruning: number;
  restarts: number;
  indexesLeftOut: number;
}

async function soakLine(line: Line, backups: number): Promise<Tally> {
  const tally: Tally = { backups: 0, withCheckpoint: 0, withPruning: 0, restarts: 0, indexesLeftOut: 0 };
  await using judge = await createJudge(line);
  for (let round = 0; tally.backups < backups; round++) {
    const format: StoreFormat = round % 2 === 0 ? 'aligned' : 'standard';
    const count = Math.min(BACKUPS_PER_SERVER, backups - tally.backups);
    await soakServer(
      line,
      format,
      round % 4 < 2,
      count,
      (result) => {
        tally.backups++;
        tally.withCheckpoint += Number(result.checkpointsDuringCopy);
        tally.withPruning += Number(result.prunedDuringCopy);
        tally.restarts += Number(result.backup.attempts > 1);
        tally.indexesLeftOut += result.backup.leftOut.length;
        console.log(describe(line, format, tally.backups, result));
      },
      judge,
    );
  }
  return tally;
}

async function soakServer(
  line: Line,
  format: StoreFormat,
  lucene: boolean,
  count: number,
  onResult: (result: CycleResult) => void,
  judge: Awaited<ReturnType<typeof createJudge>>,
): Promise<void> {
  const root = await scratchRoot();
  await mkdir(root, { recursive: true });
  const scratch = await mkdtemp(join(root, 'graphkeep-soak-'));
  try {
    const home = await createHome({ line, dir: join(scratch, 'source'), format, harsh: true });
    await using server = await startServer(home);
    await prepareSchema(server, { lucene });
    const load = startLoad(server, { writers: 8, vector: lucene, pauseMs: WRITER_PAUSE_MS });
    await load.waitForMore(500);
    for (let number = 0; number < count; number++) {
      const rateBytesPerSecond = RATES_BYTES_PER_SECOND[number % RATES_BYTES_PER_SECOND.length];
      const compress = number % 3 !== 2;
      onResult(
        await runCycle({
          home,
          judge,
          scratch,
          load,
          server,
          compress,
          ...(rateBytesPerSecond === undefined ? {} : { rateBytesPerSecond }),
        }),
      );
    }
    await load.stop();
    if (load.errors.length > 0) throw load.errors[0];
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** One server, one folder of artifacts, one long chain with full artifacts in between. */
async function soakChains(line: Line, backups: number): Promise<string> {
  await using judge = await createJudge(line);
  const scratch = await mkdtemp(join(await scratchRoot(), 'graphkeep-soak-'));
  const random = randomNumbers(backups);
  let [cuts, differentials] = [0, 0];
  try {
    const artifacts = join(scratch, 'artifacts');
    await mkdir(artifacts);
    const home = await createHome({ line, dir: join(scratch, 'source'), ...KEEPING_LOGS });
    await using server = await startServer(home);
    await prepareSchema(server, { lucene: true });
    const load = startLoad(server, { writers: 8, vector: line !== '5.26', pauseMs: WRITER_PAUSE_MS });
    await load.waitForMore(500);
    for (let number = 0; number < backups; number++) {
      const result = await runChainCycle({ home, server, load, judge, scratch, artifacts, number, random });
      cuts += Number(result.wasCut);
      differentials += Number(result.backup.kind === 'differential');
      console.log(
        `${line} ${result.backup.kind} ${number + 1}: right, ${result.wasCut ? 'cut' : 'restored'} at ${result.restoredTo}, ` +
          `${result.differentials} differentials, ${result.backup.artifactBytes} bytes, ${result.backup.durationMs} ms`,
      );
      await load.waitForMore(30);
    }
    await load.stop();
    if (load.errors.length > 0) throw load.errors[0];
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
  return `${backups} of ${backups} right, ${differentials} of them differential; ${cuts} restored to a random transaction`;
}

/** Thousands of transactions a second, each in a log that rotates at once and with a checkpoint soon behind it. */
const RESTLESS = {
  harsh: true,
  extraConf: {
    'db.checkpoint.interval.tx': '1',
    'db.checkpoint.interval.time': '1ms',
    'db.tx_log.rotation.retention_policy': '20 files',
  },
};
const RESTLESS_LOAD =
  'UNWIND range(1, 1000000000) AS x CALL (x) { CREATE (:X {k: x}) } IN 8 CONCURRENT TRANSACTIONS OF 1 ROW';

/** Each reading as a full backup's last step, and from the end of the one before as a differential. */
async function soakReadings(line: Line, readings: number): Promise<string> {
  const scratch = await mkdtemp(join(await scratchRoot(), 'graphkeep-soak-'));
  try {
    const home = await createHome({ line, dir: join(scratch, 'source'), ...RESTLESS });
    await using server = await startServer(home);
    let ended: unknown;
    const session = server.driver.session({ database: 'neo4j' });
    session.run(RESTLESS_LOAD).catch((error: unknown) => {
      ended = error;
    });
    let [transactions, earlierNames, pruned] = [0n, 0, 0];
    let before: TailFacts | undefined;
    for (let number = 0; number < readings; number++) {
      if (ended !== undefined) throw ended;
      const { checkpoint } = await readFence(home.transactionsFolder);
      earlierNames += Number(laterAtPosition(checkpoint) !== undefined);
      const followed = before === undefined ? undefined : await readAfter(foldersOf(home), before);
      pruned += Number(before !== undefined && followed === undefined);
      transactions += followed?.transactions ?? 0n;
      before = await readEnd(foldersOf(home));
    }
    return (
      `${readings} of ${readings} readings right, ${transactions} transactions followed; ${pruned} times the log was ` +
      `pruned first; ${earlierNames} checkpoints named a transaction before their position`
    );
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function readEnd(folders: DatabaseFolders): Promise<TailFacts> {
  const snapshot = await openLocalSnapshot(folders);
  try {
    const tail = await snapshot.takeTail();
    for (const { bytes, read } of await snapshot.finalMembers()) await read(Buffer.alloc(bytes), 0);
    return tail;
  } finally {
    await snapshot.close();
  }
}

/** @returns undefined when the log after it was pruned */
async function readAfter(folders: DatabaseFolders, end: TailFacts): Promise<TailFacts | undefined> {
  const mark = { appendIndex: end.highestAppendIndex, checksum: end.highestChecksum };
  const log = await LogAfter.open(folders);
  try {
    const found = await log.find(mark, end.end);
    if (found.status === 'diverged') throw new Error(`transaction ${mark.appendIndex} is another one`);
    if (found.status === 'pruned') return undefined;
    return await log.readFrom(mark, found.position, end.latestCommitMillis);
  } finally {
    await log.close();
  }
}

function describe(line: Line, format: StoreFormat, number: number, { backup, verdict }: CycleResult): string {
  const facts = [
    `${line} ${format} backup ${number}: right`,
    `${(backup.memberBytes / 1e6).toFixed(1)} MB`,
    `${backup.durationMs} ms`,
    `tx ${backup.highestTransaction}`,
    `${backup.transactionsAfterFence} replayed`,
    `${verdict.transfers} transfers`,
  ];
  if (backup.attempts > 1) facts.push(`${backup.attempts} attempts`);
  if (backup.leftOut.length > 0) facts.push(`left out ${backup.leftOut.join(' ')}`);
  return facts.join(', ');
}

const { values } = parseArgs({
  options: {
    backups: { type: 'string' },
    neo4j: { type: 'string' },
    chains: { type: 'boolean' },
    readings: { type: 'string' },
  },
});
const backups = Number(values.backups ?? BACKUPS_DEFAULT);
const lines = values.neo4j === undefined ? LINES : LINES.filter((line) => line === values.neo4j);
for (const line of lines) {
  const started = Date.now();
  if (values.chains === true || values.readings !== undefined) {
    const tally =
      values.readings === undefined
        ? await soakChains(line, backups)
        : await soakReadings(line, Number(values.readings));
    console.log(`${line}: ${tally} in ${((Date.now() - started) / 60_000).toFixed(1)} min`);
    continue;
  }
  const tally = await soakLine(line, backups);
  const minutes = ((Date.now() - started) / 60_000).toFixed(1);
  console.log(
    `${line}: ${tally.backups} of ${tally.backups} backups right in ${minutes} min; a checkpoint fell into ` +
      `${tally.withCheckpoint}, pruning into ${tally.withPruning}; ${tally.restarts} began anew; ` +
      `${tally.indexesLeftOut} indexes left out`,
  );
}
