/**
 * From paths to a proven chain: which artifacts are restored or aggregated, in what order, up to where. Everything is
 * decided and checked here before anything of the target is touched.
 */
import { basename, dirname } from 'node:path';
import { readCheckpointMembers } from '../artifact/members.ts';
import { openArtifact } from '../artifact/reader.ts';
import { assembledBytes } from '../chain/assemble.ts';
import { type Catalogue, catalogueOf, readCatalogue, summaryOf } from '../chain/catalogue.ts';
import { type ArtifactGroup, artifactsOf, type Chain, follows, groupArtifacts } from '../chain/chains.ts';
import { newestCheckpoint } from '../chain/checkpoints.ts';
import { chainsForRestore, windowOf } from '../chain/plan.ts';
import { type ProvenChain, proveChain } from '../chain/proof.ts';
import { type ArtifactSummary, isEmptyDifferential, newestFirst } from '../chain/summary.ts';
import { type ErrorCode, GraphkeepError } from '../errors.ts';
import { kernelVersionName } from '../formats/txlog/kernelversion.ts';
import { isFileAt } from '../storage/places.ts';
import { formatTime } from './artifactfile.ts';
import { byteProgress } from './byteprogress.ts';
import type { ChainRequest, RestorePlan } from './types.ts';

export interface ChosenChain extends ProvenChain {
  readonly group: ArtifactGroup;
}

const OTHER_CHAIN_MAY_HOLD: readonly ErrorCode[] = ['GK_CHAIN_BROKEN', 'GK_ARTIFACT_CORRUPT'];
const OTHER_STORE_MAY_REACH: readonly ErrorCode[] = ['GK_OUT_OF_WINDOW', 'GK_CHAIN_BROKEN'];

/** Finds the chain and proves its differentials; the full artifact proves itself while it is unpacked. */
export async function chooseChain(request: ChainRequest): Promise<ChosenChain> {
  const { group, chains } = await findChains(request);
  let firstError: unknown;
  for (const chain of chains) {
    try {
      const proven = await prove(chain, request);
      return { ...proven, group };
    } catch (error) {
      // An overlap is known by numbers only until its log was read; then a chain without it may still hold.
      if (!(error instanceof GraphkeepError) || !OTHER_CHAIN_MAY_HOLD.includes(error.code)) throw error;
      firstError ??= error;
      if (chain !== chains.at(-1)) request.listener?.notice(`another chain is tried: ${error.message}`);
    }
  }
  throw firstError;
}

async function prove(chain: Chain, request: ChainRequest): Promise<ProvenChain> {
  const totalBytes = chain.differentials.reduce((sum, { memberBytes }) => sum + (memberBytes ?? 0), 0);
  const proven = await proveChain(chain, {
    until: request.until,
    signal: request.signal,
    onBytes: byteProgress(request.listener, 'checking the chain', totalBytes),
  });
  const { until } = request;
  if (until === undefined || !('transaction' in until)) return proven;
  if (proven.end.appendIndex === until.transaction - 1n) return proven;
  throw new GraphkeepError(
    'GK_CHAIN_BROKEN',
    `the chain ends with transaction ${proven.end.appendIndex}, not with ${until.transaction - 1n}`,
  );
}

async function findChains(request: ChainRequest): Promise<{ group: ArtifactGroup; chains: Chain[] }> {
  const isFolder = request.catalogue !== undefined || !(await isFileAt(request.artifactPath));
  if (!isFolder) return chainsOfFile(request);
  const catalogue = request.catalogue ?? (await readCatalogue(request.artifactPath, request.signal));
  const groups = groupsToChooseFrom(catalogue, request);
  if (request.until === undefined) refuseNewerUnreadable(catalogue, groups[0]!);
  let firstError: unknown;
  // The newest store of that name; an earlier one only when a moment is asked for that lies in its time.
  for (const group of request.until === undefined ? groups.slice(0, 1) : groups) {
    try {
      return { group, chains: chainsForRestore(group, request.until) };
    } catch (error) {
      if (!(error instanceof GraphkeepError) || !OTHER_STORE_MAY_REACH.includes(error.code)) throw error;
      firstError ??= error;
    }
  }
  throw firstError;
}

async function chainsOfFile(request: ChainRequest): Promise<{ group: ArtifactGroup; chains: Chain[] }> {
  const { artifactPath, sourceDatabase, until, among, signal } = request;
  const artifact = await summaryOf(artifactPath);
  if (sourceDatabase !== undefined && sourceDatabase.toLowerCase() !== artifact.database.toLowerCase()) {
    throw new GraphkeepError(
      'GK_NOT_FOUND',
      `${artifactPath} holds database '${artifact.database}', not '${sourceDatabase}'`,
    );
  }
  if (artifact.full && until === undefined && among === undefined) {
    const chain: Chain = { full: artifact, differentials: [] };
    return { group: groupArtifacts([artifact])[0]!, chains: [chain] };
  }
  const others =
    among === undefined
      ? readCatalogue(dirname(artifactPath), signal)
      : catalogueOf(
          among.map((path) => ({ path })),
          signal,
        );
  const artifacts = (await others).artifacts.filter(({ path }) => path !== artifact.path);
  const group = groupArtifacts([artifact, ...artifacts]).find((candidate) =>
    candidate.artifacts.includes(artifact),
  )!;
  const chains = chainsForRestore(group, until, tipFor(artifact, group));
  if (among !== undefined && until === undefined) refuseUnused([artifact, ...artifacts], chains);
  return { group, chains };
}

/** Whoever names artifacts one by one means all of them; one that would be left out is a mistake. */
function refuseUnused(given: readonly ArtifactSummary[], chains: readonly Chain[]): void {
  const used = new Set(chains.flatMap(artifactsOf));
  const unused = given.find((artifact) => !used.has(artifact) && !isEmptyDifferential(artifact));
  if (unused === undefined) return;
  throw new GraphkeepError('GK_USAGE', `${unused.path} does not belong to one chain with the others`, {
    hint: 'name the artifacts of one chain, or only its last one, or the folder',
  });
}

/** An empty differential leads to where its parent leads. */
function tipFor(artifact: ArtifactSummary, group: ArtifactGroup): ArtifactSummary {
  if (!isEmptyDifferential(artifact)) return artifact;
  const parent = group.artifacts.find((candidate) => follows(artifact, candidate));
  if (parent !== undefined) return parent;
  throw new GraphkeepError(
    'GK_CHAIN_BROKEN',
    `${artifact.path} is empty, and the artifact that it follows is missing: transaction ${artifact.parent?.appendIndex}`,
  );
}

/**
 * A file that cannot be read and, by its name, is newer than all that can: without it an older state would be restored as
 * if it were the newest. Whoever wants that state names its artifact.
 */
function refuseNewerUnreadable({ unreadable }: Catalogue, group: ArtifactGroup): void {
  const newest = group.artifacts[0]!;
  // Times in names sort like times.
  const newestTime = formatTime(newest.time ?? new Date(0));
  const lost = unreadable.find(({ path }) => (timeInName(path, group.database) ?? '') > newestTime);
  if (lost === undefined) return;
  const code = lost.code === 'GK_KEY_MISSING' ? lost.code : 'GK_ARTIFACT_CORRUPT';
  throw new GraphkeepError(code, `the newest artifact cannot be read: ${lost.message}`, {
    hint: `to go back to what can be read, give the path ${newest.path}`,
  });
}

/** `2026-11-21T12-43-07` of `neo4j-2026-11-21T12-43-07.backup`, when it is an artifact of that database. */
function timeInName(path: string, database: string): string | undefined {
  const name = basename(path);
  if (!name.startsWith(`${database}-`)) return undefined;
  return /^(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d)\.backup$/.exec(name.slice(database.length + 1))?.[1];
}

/** Without a name the folder must leave no choice. */
function groupsToChooseFrom(catalogue: Catalogue, request: ChainRequest): ArtifactGroup[] {
  const { artifactPath: folder, sourceDatabase } = request;
  for (const { path, message } of catalogue.unreadable) {
    request.listener?.notice(`${path} is passed over: ${message}`);
  }
  const names = [...new Set(catalogue.artifacts.map((artifact) => artifact.database))].sort();
  const database = sourceDatabase ?? (names.length === 1 ? names[0] : undefined);
  if (database === undefined && names.length > 1) {
    throw new GraphkeepError(
      'GK_USAGE',
      `the folder ${folder} holds artifacts of several databases: ${names.join(', ')}`,
      {
        hint: 'give the name of the database, or --source-database=<database>',
      },
    );
  }
  const groups = groupArtifacts(catalogue.artifacts).filter(
    (group) => group.database.toLowerCase() === database?.toLowerCase(),
  );
  if (groups.length > 0) return groups.toSorted(byNewestTime);
  const whose = database === undefined ? '' : ` of database '${database}'`;
  refuseUnopened(catalogue, `no artifact${whose} in ${folder} can be opened`);
  throw new GraphkeepError('GK_NOT_FOUND', `no artifact${whose} in ${folder}`, {
    hint: 'run: graphkeep backup inspect <folder>',
  });
}

/** @throws GK_KEY_MISSING when a file is encrypted and no key opened it */
export function refuseUnopened({ unreadable }: Catalogue, message: string): void {
  const encrypted = unreadable.find(({ code }) => code === 'GK_KEY_MISSING');
  if (encrypted !== undefined) throw new GraphkeepError(encrypted.code, `${message}: ${encrypted.message}`);
}

function byNewestTime(left: ArtifactGroup, right: ArtifactGroup): number {
  const timeOf = (group: ArtifactGroup): number => group.artifacts[0]?.time?.getTime() ?? 0;
  return timeOf(right) - timeOf(left);
}

/** What a restore would do. Reads and proves the differentials, and of the full artifact its head and its checkpoint. */
export async function planRestore(request: ChainRequest): Promise<RestorePlan> {
  const chosen = await chooseChain(request);
  const { full } = chosen.chain;
  const kernelVersion = Math.max(await kernelVersionOfFull(full.path, request), chosen.kernelVersion ?? 0);
  return {
    database: full.database,
    databaseId: full.databaseId,
    artifacts: artifactsOf(chosen.chain),
    window: windowOf(chosen.chain, chosen.group.artifacts),
    endTransaction: chosen.end.appendIndex,
    endTime: chosen.latestCommitMillis === 0n ? undefined : new Date(Number(chosen.latestCommitMillis)),
    neededBytes: (full.memberBytes ?? full.bytes) + assembledBytes(chosen.pieces),
    neo4jVersion: kernelVersionName(kernelVersion),
  };
}

async function kernelVersionOfFull(path: string, request: ChainRequest): Promise<number> {
  const artifact = await openArtifact(path);
  try {
    const checkpoint = newestCheckpoint(await readCheckpointMembers(artifact, { signal: request.signal }));
    return checkpoint?.kernelVersion ?? 0;
  } finally {
    await artifact.file.close();
  }
}

/** One database of those that paths hold, as a request for its chain. */
export interface DatabaseSource extends Pick<ChainRequest, 'artifactPath' | 'among' | 'catalogue'> {
  readonly database: string;
}

/**
 * Which databases a list of paths holds. A folder stands for one database; of several files of one database, each must
 * belong to one chain, and the newest says where it leads.
 */
export async function databasesOf(
  paths: readonly string[],
  sourceDatabase: string | undefined,
): Promise<DatabaseSource[]> {
  const [first] = paths;
  if (first !== undefined && paths.length === 1 && !(await isFileAt(first))) {
    const catalogue = await readCatalogue(first);
    const [group] = groupsToChooseFrom(catalogue, {
      artifactPath: first,
      ...(sourceDatabase && { sourceDatabase }),
    });
    return [{ database: group!.database, artifactPath: first, catalogue }];
  }
  const artifacts = await Promise.all(paths.map((path) => summaryOf(path)));
  const names = new Set(artifacts.map(({ database }) => database.toLowerCase()));
  return [...names].map((name) => {
    const own = artifacts.filter(({ database }) => database.toLowerCase() === name).toSorted(newestFirst);
    const newest = own.find((artifact) => !isEmptyDifferential(artifact)) ?? own[0]!;
    const among = own.length === 1 ? {} : { among: own.map(({ path }) => path) };
    return { database: newest.database, artifactPath: newest.path, ...among };
  });
}
