/** `database backup --check-consistency`: what the installed Neo4j thinks of the artifact that was just taken. */
import path from 'node:path';
import { GraphkeepError } from '../errors.ts';
import type { Installation } from '../neo4j/installation.ts';
import type { BackupResult } from '../operations/types.ts';
import type { CliContext } from './context.ts';
import { usageError } from './options.ts';
import { requireFolder } from './paths.ts';
import type { Afterwards, WorkContext } from './work.ts';

export interface CheckedBackup extends BackupResult {
  /** How many users and roles the artifact carries in its head. */
  readonly metadata?: { readonly userCount: number; readonly roleCount: number };
  readonly consistency?: {
    readonly consistent: boolean;
    readonly reportPath: string | undefined;
    readonly durationMs: number;
  };
}

interface CheckPlaces {
  readonly reportPath?: string;
  readonly tempPath?: string;
}

/** Asks for all that the check needs before the backup begins: hours later would be too late to say that it lacks. */
export async function prepareCheck(
  installation: Installation | undefined,
  targetDirectory: string,
  places: CheckPlaces,
  context: CliContext,
): Promise<(result: CheckedBackup, context: WorkContext) => Promise<Afterwards<CheckedBackup>>> {
  const home = installation?.home;
  const { findStockNeo4j } = await import('../neo4j/stock.ts');
  const stock = home === undefined ? undefined : await findStockNeo4j(home, context.environment);
  if (stock === undefined) {
    throw usageError(
      '--check-consistency needs the jars of a Neo4j, and none was found',
      'give --neo4j-home=<folder>, one that has a folder lib, or check the artifact elsewhere',
    );
  }
  const scratchDirectory =
    places.tempPath === undefined
      ? targetDirectory
      : await requireFolder(places.tempPath, 'the folder of --temp-path', 'create the folder first');
  const reportDirectory = path.resolve(places.reportPath ?? targetDirectory);
  return async (result, { signal, progress }) => {
    const { checkConsistency } = await import('../operations/consistency.ts');
    const { consistent, reportPath, durationMs } = await checkConsistency(
      { chain: { artifactPath: result.artifactPath } },
      {
        stock,
        database: result.database,
        scratchDirectory,
        reportDirectory,
        signal,
        listener: progress,
      },
    );
    const checked = { ...result, consistency: { consistent, reportPath, durationMs } };
    return consistent ? { result: checked } : { result: checked, error: inconsistent(result, reportPath) };
  };
}

function inconsistent({ artifactPath }: BackupResult, reportPath: string | undefined): GraphkeepError {
  const report = reportPath === undefined ? '' : `: see ${reportPath}`;
  return new GraphkeepError('GK_INCONSISTENT', `Neo4j finds ${artifactPath} inconsistent${report}`);
}
