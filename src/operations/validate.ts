/**
 * `backup validate`: proves that artifacts can be restored, without a server. Every byte is read: container, frames, tar,
 * sizes and hashes of the members, and the log (artifactproof.ts); then whether the artifacts fit together.
 */
import { readCheckpointMembers, readMembers } from '../artifact/members.ts';
import { type Artifact, corruptOnFormatError, openArtifact } from '../artifact/reader.ts';
import { describeArtifact } from '../chain/catalogue.ts';
import { artifactsOf, type Chain, follows, groupArtifacts, surveyChains } from '../chain/chains.ts';
import { newestCheckpoint } from '../chain/checkpoints.ts';
import { windowOf } from '../chain/plan.ts';
import { type ArtifactSummary, isEmptyDifferential } from '../chain/summary.ts';
import { type ErrorCode, GraphkeepError } from '../errors.ts';
import type { ReadableFile } from '../storage/local.ts';
import { ArtifactProof } from './artifactproof.ts';
import { byteProgress } from './byteprogress.ts';
import type { ChainVerdict, OperationContext, ValidateResult } from './types.ts';
import { fullBytesOf } from './unpack.ts';

export interface ValidateOptions extends OperationContext {
  /** Append indexes whose checksums are to be noted, where the log of the artifact holds them. */
  readonly watched?: ReadonlySet<bigint>;
}

/** Validates one artifact. Damage is a result, not an error; errors are what kept the file from being read. */
export async function validateArtifact(path: string, options: ValidateOptions = {}): Promise<ValidateResult> {
  let artifact: Artifact | undefined;
  let proof: ArtifactProof | undefined;
  try {
    artifact = await openArtifact(path);
    proof = await proveArtifact(artifact, options);
    return resultOf(path, artifact, proof, []);
  } catch (error) {
    if (!(error instanceof GraphkeepError) || !DAMAGE_CODES.includes(error.code)) throw error;
    return resultOf(path, artifact, proof, [error.message]);
  } finally {
    await artifact?.file.close();
  }
}

/** What the walk of a log throws for a live database is damage of the artifact here. */
const DAMAGE_CODES: readonly ErrorCode[] = ['GK_ARTIFACT_CORRUPT', 'GK_STORE_DAMAGED'];

export interface ProofOptions extends ValidateOptions {
  /** Name of the work for the listener. */
  readonly phase?: string;
  /** The same file, for the pass over all of its bytes: whoever copies them sees them there. */
  readonly through?: ReadableFile;
}

/** Reads and proves every byte. @throws GK_ARTIFACT_CORRUPT, GK_STORE_DAMAGED */
export async function proveArtifact(artifact: Artifact, options: ProofOptions): Promise<ArtifactProof> {
  const { file, descriptor, index } = artifact;
  const { phase = 'validating', through = file } = options;
  const checkpoints = descriptor.full
    ? await readCheckpointMembers(artifact, { signal: options.signal })
    : new Map<string, Buffer>();
  const fence = await corruptOnFormatError(file.path, async () => newestCheckpoint(checkpoints));
  const proof = new ArtifactProof(descriptor, fence, options.watched);
  const onBytes = byteProgress(options.listener, phase, fullBytesOf(artifact));
  await readMembers({ ...artifact, file: through }, proof, { signal: options.signal, onBytes });
  await corruptOnFormatError(file.path, async () => {
    if (descriptor.full) proof.concludeFull(index);
    else if (index !== undefined) proof.concludeDifferential(index);
  });
  return proof;
}

function resultOf(
  path: string,
  artifact: Artifact | undefined,
  proof: ArtifactProof | undefined,
  problems: readonly string[],
): ValidateResult {
  return {
    path,
    database: artifact?.descriptor.databaseName,
    valid: problems.length === 0,
    problems,
    warnings: artifact === undefined ? [] : warningsOf(artifact),
    memberCount: proof?.memberCount ?? 0,
    memberBytes: proof?.memberBytes ?? 0,
    transactionsChecked: proof?.transactions ?? 0n,
    lowestTransaction: artifact?.descriptor.lowestAppendIndex,
    highestTransaction: artifact?.descriptor.highestAppendIndex,
    ...(artifact === undefined ? {} : { summary: describeArtifact(artifact) }),
    seenChecksums: proof?.seen ?? new Map(),
  };
}

function warningsOf(artifact: Artifact): string[] {
  const warnings: string[] = [];
  if (artifact.index === undefined) {
    warnings.push('written by another tool: its members carry no hashes that could be compared');
    if (!artifact.descriptor.full)
      warnings.push('a differential artifact of another tool: its log was not judged, only its bytes');
  }
  return warnings;
}

/** Ends of the full artifacts: a differential that overlaps one must hold the very same transaction. */
export function endsToWatch(artifacts: readonly ArtifactSummary[]): Set<bigint> {
  return new Set(artifacts.filter(({ full }) => full).map(({ highestTransaction }) => highestTransaction));
}

/**
 * Judges how validated artifacts fit together: one verdict for each full artifact, with what can still be restored, and one
 * for the differentials that nothing leads to.
 * @param artifacts all that are there, damaged ones included
 */
export function judgeChains(
  artifacts: readonly ArtifactSummary[],
  results: readonly ValidateResult[],
): ChainVerdict[] {
  const byPath = new Map(results.map((result) => [result.path, result]));
  return groupArtifacts(artifacts).flatMap((group) => {
    const { chains, orphans } = surveyChains(group.artifacts);
    const judged = chains.map((chain) => judge(chain, byPath));
    const covered = new Set(judged.flatMap(({ good }) => good));
    const verdicts = judged.map((each) => verdictOf(each, covered, group.artifacts));
    return [...verdicts, ...orphans.map((orphan) => orphanVerdict(orphan, group.artifacts))];
  });
}

interface JudgedChain {
  readonly chain: Chain;
  /** Up to where it holds. */
  readonly good: readonly ArtifactSummary[];
  readonly damage: string | undefined;
  readonly refutedJoint: string | undefined;
}

function judge(chain: Chain, results: ReadonlyMap<string, ValidateResult>): JudgedChain {
  const good: ArtifactSummary[] = [];
  for (const artifact of artifactsOf(chain)) {
    const result = results.get(artifact.path);
    const damage = result === undefined ? `${artifact.path} could not be read` : result.problems[0];
    const refutedJoint = jointProblem(artifact, chain.full, good, results);
    if (damage !== undefined || refutedJoint !== undefined) return { chain, good, damage, refutedJoint };
    good.push(artifact);
  }
  return { chain, good, damage: undefined, refutedJoint: undefined };
}

/**
 * An overlap that turned out to be none is no fault when all that it seemed to join is on another chain that holds: so it is
 * after a server was set back.
 */
function verdictOf(
  { chain, good, damage, refutedJoint }: JudgedChain,
  covered: ReadonlySet<ArtifactSummary>,
  group: readonly ArtifactSummary[],
): ChainVerdict {
  const rest = artifactsOf(chain).slice(good.length);
  const isElsewhere = damage === undefined && rest.every((artifact) => covered.has(artifact));
  const problem = isElsewhere ? undefined : (damage ?? refutedJoint);
  const [full, ...differentials] = good;
  return {
    database: chain.full.database,
    databaseId: chain.full.databaseId,
    artifacts: (isElsewhere ? good : artifactsOf(chain)).map(({ path }) => path),
    valid: problem === undefined,
    problems: problem === undefined ? [] : [problem],
    ...(full === undefined ? {} : { restorable: windowOf({ full, differentials }, group) }),
  };
}

/** The first differential may begin before the end of its full one; then it must have that very end inside. */
function jointProblem(
  artifact: ArtifactSummary,
  full: ArtifactSummary,
  before: readonly ArtifactSummary[],
  results: ReadonlyMap<string, ValidateResult>,
): string | undefined {
  const previous = before.at(-1);
  if (previous === undefined || follows(artifact, previous)) return undefined;
  const seen = results.get(artifact.path)?.seenChecksums.get(full.highestTransaction);
  if (seen === full.highestChecksum) return undefined;
  return (
    `${artifact.path} holds another transaction ${full.highestTransaction} than ${full.path}: ` +
    'they are of two histories'
  );
}

function orphanVerdict(orphan: ArtifactSummary, group: readonly ArtifactSummary[]): ChainVerdict {
  const { parent } = orphan;
  const sameNumber = group.filter(
    (artifact) => !isEmptyDifferential(artifact) && artifact.highestTransaction === parent?.appendIndex,
  );
  const problem =
    sameNumber.length === 0 || sameNumber.some((artifact) => follows(orphan, artifact))
      ? `a gap: no full artifact leads to ${orphan.path}, which begins after transaction ${parent?.appendIndex}`
      : `${orphan.path} follows another transaction ${parent?.appendIndex} than ${sameNumber[0]!.path} ` +
        'ends with: the server was set back between them';
  return {
    database: orphan.database,
    databaseId: orphan.databaseId,
    artifacts: [orphan.path],
    valid: false,
    problems: [problem],
  };
}
