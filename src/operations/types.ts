/**
 * What every operation takes and gives, without a terminal in sight: the CLI renders these, a program reads them.
 * Positions, transaction ids and append indexes are `bigint`; byte counts of files are `number` (below 2^53).
 */
import type { Catalogue } from '../chain/catalogue.ts';
import type { RestorableWindow } from '../chain/plan.ts';
import type { Until } from '../chain/proof.ts';
import type { ArtifactSummary } from '../chain/summary.ts';
import type { ErrorCode } from '../errors.ts';
import type { IndexMember } from '../formats/artifact/index.ts';
import type { DatabaseFolders } from '../neo4j/folders.ts';
import type { StockNeo4j } from '../neo4j/stock.ts';
import type { ProcessorShare } from './processorshare.ts';

export type { ArtifactSummary, DatabaseFolders };

/** Long work reports through this; calls are frequent (each chunk) and must return at once. */
export interface ProgressListener {
  /** `totalBytes` may grow while the log of a busy server grows. */
  progress(event: { phase: string; doneBytes: number; totalBytes: number }): void;
  /** A fact that the user should know and that is not a failure, e.g. an index that was left out. */
  notice(text: string): void;
}

export interface OperationContext {
  readonly signal?: AbortSignal;
  readonly listener?: ProgressListener;
}

/** How an artifact is written. */
export interface ArtifactForm {
  readonly compress: boolean;
  /** zstd level 1–19; ignored when `compress` is false. */
  readonly compressionLevel: number;
  /** Keep the unpublished file of a failed backup, under a name that no command takes for an artifact. */
  readonly keepFailed: boolean;
}

export type BackupType = 'AUTO' | 'DIFF' | 'FULL';

/** Where an artifact is brought to. */
export interface TargetOptions extends OperationContext {
  /** An existing folder, or the URL of one in a store. */
  readonly targetDirectory: string;
  /** Further ones that get the same artifact in the same run. */
  readonly alsoTo?: readonly string[];
  /** `all`, the default: the backup fails when one of them does. `any`: one that fails is left out, and reported. */
  readonly require?: 'all' | 'any';
}

export interface BackupOptions extends ArtifactForm, TargetOptions {
  /** AUTO: differential where the folder holds something to follow, full otherwise. */
  readonly type: BackupType;
  /** With DIFF: take a full one where a differential is not possible, instead of failing. */
  readonly fallbackToFull?: boolean;
  /** Follow the newest differential even if a newer full artifact is there. */
  readonly preferDifferentialAsParent?: boolean;
  /** Upper bound of the rate at which files are read; none when absent. */
  readonly rateBytesPerSecond?: number;
  /** What the backup takes of busy processors; as much as it gets when absent. */
  readonly processorShare?: ProcessorShare;
  /** Where an index is copied aside before it is encrypted, one at a time; the temporary folder when absent. */
  readonly stagingDirectory?: string;
  /** Script of users and roles that the artifact carries in its head (metadata.ts); a secret. */
  readonly metadataScript?: string;
}

/** A full backup that may stand for an earlier moment: of a database that was restored and recovered for it. */
export interface FullBackupOptions extends Omit<BackupOptions, 'type'> {
  /** Epoch seconds that the artifact is to carry; now when absent. */
  readonly timeSeconds?: bigint;
}

/** Why a full backup was taken although a differential one was allowed. `reason` is stable, `message` is for people. */
export interface FullBecause {
  readonly reason:
    | 'noChain'
    | 'encrypted'
    | 'otherStore'
    | 'foreign'
    | 'chainBroken'
    | 'pruned'
    | 'diverged'
    | 'placesDiffer';
  readonly message: string;
}

/** An artifact that was just written. */
export interface ArtifactBackup {
  readonly artifactPath: string;
  readonly artifactBytes: number;
  readonly members: readonly IndexMember[];
  /** 0 and 0 in an empty differential. */
  readonly lowestTransaction: bigint;
  readonly highestTransaction: bigint;
  /** Transactions that recovery will replay; of a differential, all that are in it. */
  readonly transactionsAfterFence: bigint;
  /** Files that Neo4j rebuilds by itself and that could not be copied from one moment. */
  readonly leftOut: readonly string[];
}

/** What became of one of several places. */
export interface PlaceResult {
  readonly directory: string;
  /** Absent where the artifact is not. */
  readonly artifactPath?: string;
  readonly artifactBytes?: number;
  /** Why it is not there. */
  readonly error?: { readonly code: ErrorCode; readonly message: string };
}

export interface BackupResult extends Omit<ArtifactBackup, 'members'> {
  readonly database: string;
  readonly kind: 'full' | 'differential';
  /** Bytes of the members as they are restored. */
  readonly memberBytes: number;
  readonly memberCount: number;
  readonly storeBytes: number;
  readonly logBytes: number;
  /** The artifact that a differential follows. */
  readonly parentPath?: string;
  /** Set when AUTO, or DIFF with fallback, took a full backup. */
  readonly fullBecause?: FullBecause;
  /** Of a backup to several places, in the order in which they were given. */
  readonly places?: readonly PlaceResult[];
  readonly durationMs: number;
  /** Times the copy began anew because the server overtook it. */
  readonly attempts: number;
}

/** What is to be restored. */
export interface ChainRequest extends OperationContext {
  /** An artifact, whose chain is looked for in its folder, or a folder of artifacts. */
  readonly artifactPath: string;
  /** Artifacts that the chain is to be found among, instead of all in the folder of `artifactPath`. */
  readonly among?: readonly string[];
  /** What the folder `artifactPath` holds, where it was read already: each reading of a store costs two requests a file. */
  readonly catalogue?: Catalogue;
  /** Which database, when the folder holds several. */
  readonly sourceDatabase?: string;
  /** The first transaction, or the moment, that is not to be restored any more. */
  readonly until?: Until;
}

/** What a restore would do. */
export interface RestorePlan {
  readonly database: string;
  readonly databaseId: string;
  /** The full artifact first. */
  readonly artifacts: readonly ArtifactSummary[];
  readonly window: RestorableWindow;
  /** The last transaction that is restored, and the latest commit up to it. */
  readonly endTransaction: bigint;
  readonly endTime: Date | undefined;
  /** Free space that the restore needs; the old database stays until the new one is complete. */
  readonly neededBytes: number;
  /** Restorable by this release of Neo4j or a later one. */
  readonly neo4jVersion: string;
}

export interface RestoreOptions extends ChainRequest {
  readonly target: DatabaseFolders;
  readonly overwriteDestination: boolean;
  /** `server.directories.script.root`; `scripts` beside the databases folder when absent. */
  readonly scriptsDirectory?: string;
  /** Of a database that is restored together with `system`, which has the users themselves. */
  readonly withoutMetadataScript?: boolean;
}

export interface RestoreResult {
  readonly database: string;
  /** The full artifact. */
  readonly artifactPath: string;
  /** What was restored on top of it, in order. */
  readonly differentialPaths: readonly string[];
  readonly target: DatabaseFolders;
  readonly memberBytes: number;
  readonly memberCount: number;
  readonly highestTransaction: bigint;
  readonly replacedExisting: boolean;
  /** false for artifacts of other tools, which carry no hashes of their members. */
  readonly verifiedByHash: boolean;
  /** Where the RBAC script of the artifact was written, when it holds one. */
  readonly metadataScriptPath?: string;
  readonly durationMs: number;
}

/** What a chain can be restored to, by the headers of its artifacts. */
export interface ChainOverview {
  readonly database: string;
  readonly databaseId: string;
  /** Paths, the full artifact first. */
  readonly artifacts: readonly string[];
  readonly restorable: RestorableWindow;
}

export interface InspectResult extends Catalogue {
  /** One for each full artifact of a folder. */
  readonly chains: readonly ChainOverview[];
}

/** A whole chain: a result that was cut would claim to know what happened up to the time of its newest artifact. */
export interface AggregateOptions extends Omit<ChainRequest, 'until'>, ArtifactForm {
  /** Keep the artifacts of the chain: without them only the end of the chain can be restored. */
  readonly keepOldBackup: boolean;
  /** Recovers the result, so that its first start is short; without one it stays unrecovered. */
  readonly stock?: StockNeo4j;
  /** Where the database is unpacked for recovery; a folder beside the artifacts when absent. */
  readonly temporaryDirectory?: string;
  /** Page cache of the recovering Neo4j, e.g. `512m`. */
  readonly pagecache?: string;
  /** How long to wait for others who use the folder; a default of the lease when absent. */
  readonly leaseWaitMs?: number;
}

export interface AggregateResult {
  readonly database: string;
  readonly artifactPath: string;
  /** What was folded, the full artifact first. */
  readonly inputs: readonly string[];
  readonly lowestTransaction: bigint;
  readonly highestTransaction: bigint;
  readonly recovered: boolean;
  /** false when there was nothing to fold: `artifactPath` is then the full artifact as it was. */
  readonly aggregated: boolean;
  readonly removed: readonly string[];
  readonly durationMs: number;
}

export interface ValidateResult {
  readonly path: string;
  readonly database: string | undefined;
  readonly valid: boolean;
  /** Each says what and where; empty when valid. */
  readonly problems: readonly string[];
  /** What could not be proven, e.g. members of an artifact that another tool wrote. */
  readonly warnings: readonly string[];
  readonly memberCount: number;
  readonly memberBytes: number;
  readonly transactionsChecked: bigint;
  readonly lowestTransaction: bigint | undefined;
  readonly highestTransaction: bigint | undefined;
  /** Absent when the file is no artifact. */
  readonly summary?: ArtifactSummary;
  /** Checksums of watched transactions, by append index. */
  readonly seenChecksums: ReadonlyMap<bigint, number>;
}

/** How artifacts fit together: those of one full artifact, or one differential that nothing leads to. */
export interface ChainVerdict {
  readonly database: string;
  readonly databaseId: string;
  /** Paths, the full artifact first. */
  readonly artifacts: readonly string[];
  readonly valid: boolean;
  readonly problems: readonly string[];
  /** What can be restored all the same: of a broken chain, up to where it breaks. */
  readonly restorable?: RestorableWindow;
}

/** One database of an installation, as `neo4j-admin database info` reports it. */
export interface DatabaseInfo {
  readonly databaseName: string;
  readonly inUse: boolean;
  /** e.g. `record-aligned-1.1`; undefined when it could not be read. */
  readonly storeFormat: string | undefined;
  /** Neo4j version that introduced the format. */
  readonly storeFormatIntroduced: string | undefined;
  readonly lastCommittedTransaction: bigint | undefined;
  readonly recoveryRequired: boolean | undefined;
}
