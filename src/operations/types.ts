/**
 * What every operation takes and gives, without a terminal in sight: the CLI renders these, a program reads them.
 * Positions, transaction ids and append indexes are `bigint`; byte counts of files are `number` (below 2^53).
 */
import type { ErrorCode } from '../errors.ts';
import type { DatabaseFolders } from '../neo4j/folders.ts';

export type { DatabaseFolders };

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

export interface BackupOptions extends OperationContext {
  /** An existing directory. */
  readonly targetDirectory: string;
  readonly compress: boolean;
  /** zstd level 1–19; ignored when `compress` is false. */
  readonly compressionLevel: number;
  /** Keep the unpublished file of a failed backup, under a name that no command takes for an artifact. */
  readonly keepFailed: boolean;
  /** Upper bound of the rate at which files are read; none when absent. */
  readonly rateBytesPerSecond?: number;
}

export interface BackupResult {
  readonly database: string;
  readonly artifactPath: string;
  readonly artifactBytes: number;
  /** Bytes of the members as they are restored. */
  readonly memberBytes: number;
  readonly memberCount: number;
  readonly storeBytes: number;
  readonly logBytes: number;
  readonly lowestTransaction: bigint;
  readonly highestTransaction: bigint;
  /** Transactions that recovery will replay at the first start. */
  readonly transactionsAfterFence: bigint;
  readonly durationMs: number;
  /** Times the copy began anew because the server overtook it. */
  readonly attempts: number;
  /** Files that Neo4j rebuilds by itself and that could not be copied from one moment. */
  readonly leftOut: readonly string[];
}

export interface RestoreOptions extends OperationContext {
  readonly artifactPath: string;
  readonly target: DatabaseFolders;
  readonly overwriteDestination: boolean;
  /** `server.directories.script.root`; `scripts` beside the databases folder when absent. */
  readonly scriptsDirectory?: string;
}

export interface RestoreResult {
  readonly database: string;
  readonly artifactPath: string;
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

/** One row of `backup inspect`: the header of an artifact. */
export interface ArtifactSummary {
  readonly path: string;
  readonly bytes: number;
  readonly database: string;
  readonly databaseId: string;
  /** UTC, whole seconds; undefined when the header holds a time that no calendar has. */
  readonly time: Date | undefined;
  readonly full: boolean;
  readonly compressed: boolean;
  readonly recovered: boolean;
  readonly lowestTransaction: bigint;
  readonly highestTransaction: bigint;
  readonly storeIdHash: number;
  /** Container of the file: BTV1, BTV2, BZV1, BZV2, BZV3. */
  readonly container: string;
  /** Written by graphkeep, so that members, sizes and hashes are known. */
  readonly indexed: boolean;
  readonly memberCount?: number;
  readonly memberBytes?: number;
}

export interface InspectResult {
  readonly artifacts: readonly ArtifactSummary[];
  /** Files named `.backup` that are none; inspect of a folder goes on without them. */
  readonly unreadable: readonly { path: string; code: ErrorCode; message: string }[];
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
