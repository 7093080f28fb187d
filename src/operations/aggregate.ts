/**
 * `backup aggregate`: folds a chain into one full artifact, which restores faster, needs less space and is what stock tools
 * load. The artifacts that it replaces go only after the result was published and every byte of it validated.
 */
import { dirname } from 'node:path';
import { encryptsArtifacts } from '../artifact/encryption.ts';
import { fileVersionOf } from '../artifact/logmember.ts';
import { readStoredFrame } from '../artifact/membersource.ts';
import { withMetadataScript } from '../artifact/metadata.ts';
import { type Artifact, corruptOnFormatError, openArtifact } from '../artifact/reader.ts';
import type { ArtifactWriter, IndexFacts } from '../artifact/writer.ts';
import { assembledBytes, assembledLog } from '../chain/assemble.ts';
import { readCatalogue } from '../chain/catalogue.ts';
import { artifactsOf, chainsTo, groupArtifacts, isExact, tipOf } from '../chain/chains.ts';
import { windowOf } from '../chain/plan.ts';
import { refuseReplaced } from '../chain/proof.ts';
import { type ArtifactSummary, isEmptyDifferential } from '../chain/summary.ts';
import { GraphkeepError, wrapSystemError } from '../errors.ts';
import type { ArtifactIndex, IndexMember } from '../formats/artifact/index.ts';
import { readFence } from '../hotcopy/fence.ts';
import { localSource } from '../hotcopy/source.ts';
import { METADATA_STORE } from '../hotcopy/storefiles.ts';
import { foldersBelow } from '../neo4j/folders.ts';
import { recoverDatabase, type StockNeo4j } from '../neo4j/stock.ts';
import { acquireLease, type Lease, type LeaseOptions } from '../storage/lease.ts';
import { removeArtifact, removePath, syncFolder } from '../storage/places.ts';
import { VERSION } from '../version.ts';
import { ArtifactFile } from './artifactfile.ts';
import { byteProgress } from './byteprogress.ts';
import { newestMetadataScript } from './chainmetadata.ts';
import { takeFullBackup } from './fullbackup.ts';
import { type ChosenChain, chooseChain } from './plan.ts';
import { restoreChosen } from './restore.ts';
import { withScratch } from './scratch.ts';
import type { AggregateOptions, AggregateResult, ArtifactBackup, DatabaseFolders } from './types.ts';
import { validateArtifact } from './validate.ts';

const SCRATCH_PREFIX = '.graphkeep-aggregate-';

/** @throws GK_CHAIN_BROKEN, GK_ARTIFACT_CORRUPT, GK_UNSUPPORTED, GK_NO_SPACE, … The inputs are then as they were. */
export async function aggregateChain(options: AggregateOptions): Promise<AggregateResult> {
  const startedMs = performance.now();
  const chosen = await chooseChain(options);
  const { full } = chosen.chain;
  const facts = {
    database: full.database,
    inputs: artifactsOf(chosen.chain).map(({ path }) => path),
    lowestTransaction: 1n,
    highestTransaction: chosen.end.appendIndex,
  };
  const isDone = chosen.pieces.length === 0 && (full.recovered || options.stock === undefined);
  if (isDone) {
    const durationMs = Math.round(performance.now() - startedMs);
    return {
      ...facts,
      artifactPath: full.path,
      recovered: full.recovered,
      aggregated: false,
      removed: [],
      durationMs,
    };
  }
  refuseUnencrypted(chosen, options);
  const shared = await acquireLease(dirname(full.path), 'shared', leaseOptions(options));
  let written: ArtifactBackup;
  try {
    written =
      options.stock === undefined
        ? await writeFolded(chosen, options)
        : await writeRecovered(chosen, options, options.stock);
    await proveResult(written.artifactPath, chosen, options);
  } finally {
    shared.release();
  }
  const removed = options.keepOldBackup ? [] : await removeInputs(chosen, written.artifactPath, options);
  return {
    ...facts,
    artifactPath: written.artifactPath,
    recovered: options.stock !== undefined,
    aggregated: true,
    removed,
    durationMs: Math.round(performance.now() - startedMs),
  };
}

/** What was encrypted does not become plain because an option was forgotten, nor for a while beside the artifacts. */
function refuseUnencrypted({ chain }: ChosenChain, { stock, temporaryDirectory }: AggregateOptions): void {
  const encrypted = artifactsOf(chain).find((artifact) => artifact.encrypted !== undefined);
  if (encrypted === undefined) return;
  if (!encryptsArtifacts()) {
    throw new GraphkeepError('GK_USAGE', `${encrypted.path} is encrypted, and the result would not be`, {
      hint: 'say with --encrypt-to=<key|file> who is to open the result',
    });
  }
  if (stock !== undefined && temporaryDirectory === undefined) {
    throw new GraphkeepError('GK_USAGE', 'for its recovery the database is unpacked, and not encrypted', {
      hint: 'say with --temp-path=<folder> where that may be, or give --engine=none',
    });
  }
}

function leaseOptions({ signal, leaseWaitMs }: AggregateOptions): LeaseOptions {
  return {
    ...(signal === undefined ? {} : { signal }),
    ...(leaseWaitMs === undefined ? {} : { waitMs: leaseWaitMs }),
  };
}

/** The moment up to which the chain knows what happened, which the result keeps. */
function timeSecondsOf(chosen: ChosenChain): bigint {
  const { toTime } = windowOf(chosen.chain, chosen.group.artifacts);
  return BigInt(Math.floor((toTime?.getTime() ?? Date.now()) / 1000));
}

/** The store files as they are stored, the log of the full artifact, and behind it the log of the differentials. */
async function writeFolded(chosen: ChosenChain, options: AggregateOptions): Promise<ArtifactBackup> {
  const { full } = chosen.chain;
  const source = await openArtifact(full.path);
  try {
    refuseReplaced(source, full);
    const index = requireIndex(source);
    const expectedBytes = (full.memberBytes ?? 0) + assembledBytes(chosen.pieces);
    const onBytes = byteProgress(options.listener, 'aggregating', expectedBytes);
    const form = { ...options, compress: index.codec === 'zstd', targetDirectory: dirname(full.path) };
    const target = { ...form, database: full.database, bytesExpected: expectedBytes, onBytes };
    return await ArtifactFile.create(target, async (file) => {
      const timeSeconds = timeSecondsOf(chosen);
      const descriptor = {
        ...source.descriptor,
        timeSeconds,
        highestAppendIndex: chosen.end.appendIndex,
        recovered: false,
        compressed: form.compress,
        properties: withMetadataScript(
          source.descriptor.properties,
          await newestMetadataScript(chosen, options.artifactPath),
        ),
      };
      await file.writer.begin(descriptor);
      await copyMembers(file.writer, source, index, chosen, options);
      await file.finish(descriptor, indexFactsOf(chosen, index));
      const artifactPath = await file.publish(timeSeconds);
      return {
        artifactPath,
        artifactBytes: file.bytes,
        members: file.writer.members,
        lowestTransaction: 1n,
        highestTransaction: chosen.end.appendIndex,
        transactionsAfterFence: chosen.end.appendIndex - BigInt(index.fence?.appendIndex ?? 0),
        leftOut: index.leftOut,
      };
    });
  } finally {
    await source.file.close();
  }
}

function requireIndex({ index, file }: Artifact): ArtifactIndex {
  if (index !== undefined) return index;
  throw new GraphkeepError('GK_UNSUPPORTED', `${file.path} was written by another tool`, {
    hint: 'aggregate it with the tool that wrote it, or with --engine=neo4j',
  });
}

async function copyMembers(
  writer: ArtifactWriter,
  source: Artifact,
  index: ArtifactIndex,
  chosen: ChosenChain,
  options: AggregateOptions,
): Promise<void> {
  const copy = (member: IndexMember): Promise<void> =>
    writer.addStoredMember(member, (number) => storedFrame(source, index, number), options.signal);
  const isLast = ({ path, kind }: IndexMember): boolean => path === METADATA_STORE || kind === 'checkpoint';
  for (const member of index.members) if (!isLast(member)) await copy(member);
  // Log members stand in ascending order (docs/formats/artifact.md §1.2).
  const newestLog = index.members.findLast(({ kind }) => kind === 'log');
  const lastVersion = newestLog === undefined ? 0n : fileVersionOf(newestLog.path);
  for await (const logFile of assembledLog(chosen.pieces, lastVersion)) {
    await writer.addMember(logFile, options.signal);
  }
  for (const member of index.members) if (isLast(member)) await copy(member);
}

function storedFrame(
  source: Artifact,
  index: ArtifactIndex,
  number: number,
): Promise<{ stored: Buffer; rawBytes: number }> {
  return corruptOnFormatError(source.file.path, async () => ({
    stored: await readStoredFrame(source.file, index, number),
    rawBytes: index.frames[number]![2],
  }));
}

function indexFactsOf(chosen: ChosenChain, index: ArtifactIndex): IndexFacts {
  const { end } = tipOf(chosen.chain);
  return {
    writer: `graphkeep ${VERSION}`,
    ...(index.fence === undefined ? {} : { fence: index.fence }),
    end:
      end === undefined
        ? index.end
        : { logVersion: String(end.logVersion), offsetBytes: String(end.offsetBytes) },
    highestChecksum: chosen.end.checksum,
    latestCommitMillis: String(chosen.latestCommitMillis),
    leftOut: index.leftOut,
  };
}

/** Restores the chain beside the artifacts, has Neo4j recover it, and backs that up as a database at rest. */
async function writeRecovered(
  chosen: ChosenChain,
  options: AggregateOptions,
  stock: StockNeo4j,
): Promise<ArtifactBackup> {
  const { full } = chosen.chain;
  const targetDirectory = dirname(full.path);
  return withScratch(options.temporaryDirectory ?? targetDirectory, SCRATCH_PREFIX, async (scratch) => {
    const target = foldersBelow(scratch, full.database);
    await restoreChosen(chosen, { ...options, target, overwriteDestination: false });
    options.listener?.notice('Neo4j recovers the database, which takes as long as the log is long');
    await recoverDatabase(stock, target, {
      scratchDirectory: scratch,
      signal: options.signal,
      pagecache: options.pagecache,
    });
    await refuseChangedEnd(target, chosen);
    const timeSeconds = timeSecondsOf(chosen);
    const script = await newestMetadataScript(chosen, options.artifactPath);
    return takeFullBackup(localSource(target), {
      ...options,
      compress: full.compressed,
      targetDirectory,
      stagingDirectory: scratch,
      timeSeconds,
      ...(script === undefined ? {} : { metadataScript: script.toString('utf8') }),
    });
  });
}

/** A server that wrote transactions of its own would end the chain: later differentials follow the old end. */
async function refuseChangedEnd(target: DatabaseFolders, chosen: ChosenChain): Promise<void> {
  const { checkpoint } = await readFence(target.logDirectory);
  const isSame =
    checkpoint.appendIndex === chosen.end.appendIndex &&
    checkpoint.transactionChecksum === chosen.end.checksum;
  if (isSame) return;
  throw new GraphkeepError(
    'GK_STOCK_FAILED',
    `recovery ended with transaction ${checkpoint.appendIndex} instead of ${chosen.end.appendIndex}`,
    { hint: 'aggregate with --engine=none, which leaves recovery to the first start' },
  );
}

async function proveResult(path: string, chosen: ChosenChain, options: AggregateOptions): Promise<void> {
  const { valid, problems, highestTransaction } = await validateArtifact(path, options);
  if (valid && highestTransaction === chosen.end.appendIndex) return;
  await removePath(path);
  throw new GraphkeepError(
    'GK_ARTIFACT_CORRUPT',
    `the aggregated artifact was not right and was removed: ${problems[0] ?? 'it ends elsewhere'}`,
    { hint: 'run: graphkeep backup validate <folder>; the artifacts are as they were' },
  );
}

/**
 * Removes what the result replaces, the last differential first: whatever is left after a kill is a whole chain. What
 * another artifact still needs (one that a server wrote after it was set back) stays.
 */
async function removeInputs(
  chosen: ChosenChain,
  resultPath: string,
  options: AggregateOptions,
): Promise<string[]> {
  const directory = dirname(resultPath);
  const lease = await leaseOrNotice(directory, options);
  if (lease === undefined) return [];
  try {
    const { artifacts } = await readCatalogue(directory, options.signal);
    const group = groupArtifacts(artifacts).find(({ artifacts: all }) =>
      all.some(({ path }) => path === resultPath),
    );
    const inputs = new Set(artifactsOf(chosen.chain).map(({ path }) => path));
    const removable = withoutNeeded(group?.artifacts ?? [], inputs, resultPath);
    const removed: string[] = [];
    for (const { path } of artifactsOf(chosen.chain).toReversed()) {
      if (!removable.has(path) || path === resultPath) continue;
      await removeArtifact(path).catch((error: unknown) => {
        throw wrapSystemError(error, `remove ${path}`);
      });
      removed.push(path);
    }
    await syncFolder(directory);
    return removed;
  } finally {
    lease.release();
  }
}

/** The result is there and right: that somebody else uses the folder only means that the old ones go another time. */
async function leaseOrNotice(directory: string, options: AggregateOptions): Promise<Lease | undefined> {
  try {
    return await acquireLease(directory, 'exclusive', leaseOptions(options));
  } catch (error) {
    if (!(error instanceof GraphkeepError) || error.code !== 'GK_IN_USE') throw error;
    options.listener?.notice(`the old artifacts stay where they are: ${error.message}`);
    return undefined;
  }
}

/**
 * Of the inputs, those that no other artifact needs. An overlap is known by numbers only, and the result overlaps whatever
 * another history wrote under the same numbers: so what was sure before must be sure afterwards.
 */
function withoutNeeded(
  group: readonly ArtifactSummary[],
  inputs: ReadonlySet<string>,
  resultPath: string,
): Set<string> {
  const removable = new Set(inputs);
  const others = group.filter((artifact) => !inputs.has(artifact.path) && !isEmptyDifferential(artifact));
  for (const other of others) {
    const before = chainsTo(other, group);
    const needed = before.find(isExact) ?? before.find(({ full }) => full.path !== resultPath);
    if (needed === undefined) continue;
    const left = group.filter(({ path }) => !removable.has(path));
    const after = chainsTo(other, left).filter(
      (chain) => isExact(chain) || (!isExact(needed) && chain.full.path !== resultPath),
    );
    if (after.length === 0) for (const { path } of artifactsOf(needed)) removable.delete(path);
  }
  return removable;
}
