/** `check-consistency`, as in 3.x and 4.x, and the check that a backup of that form ends with. */
import path from 'node:path';
import { type Command, Option } from 'commander';
import { GraphkeepError } from '../errors.ts';
import { CHECK_MEMORY_BYTES_MIN } from '../limits.ts';
import { isDatabaseName, normalizeDatabaseName } from '../neo4j/glob.ts';
import { type Installation, openInstallation } from '../neo4j/installation.ts';
import type { StockNeo4j } from '../neo4j/stock.ts';
import type { ConsistencyResult } from '../operations/consistency.ts';
import { type CliContext, type CommandOutcome, isVerbose, writeLine } from './context.ts';
import { addLegacyOptions, ignoredSwitch, legacyStatus, memoryBytes, noteIgnored } from './legacy-options.ts';
import { booleanOption, pathOption, usageError } from './options.ts';
import { isFolder, requireFolder } from './paths.ts';
import { type WorkContext, workThrough } from './work.ts';

/** What of a database is checked. */
export interface PartsOption {
  readonly checkGraph: boolean;
  readonly checkIndexes: boolean;
  readonly checkPropertyOwners: boolean;
}

/** @throws GK_NOT_FOUND when no Neo4j is there that could check, or no Java */
export async function findCheckingNeo4j(
  { home }: Installation,
  { environment }: CliContext,
): Promise<StockNeo4j> {
  const { findStockNeo4j } = await import('../neo4j/stock.ts');
  const stock = home === undefined ? undefined : await findStockNeo4j(home, environment);
  if (stock !== undefined) return stock;
  throw new GraphkeepError('GK_NOT_FOUND', `there is no installed Neo4j in ${home} that could run this`, {
    hint: 'give --neo4j-home=<folder of the installation>, the one that has the folder lib',
  });
}

export interface CheckRequest {
  /** A directory backup. */
  readonly directory: string;
  readonly database: string;
  readonly stock: StockNeo4j;
  readonly reportDirectory: string;
  readonly pagecache?: string | undefined;
  readonly parts: PartsOption;
  readonly verbose: boolean;
  readonly context: CliContext;
  readonly work: WorkContext;
}

export async function runCheck(request: CheckRequest): Promise<ConsistencyResult> {
  const { directory, database, stock, reportDirectory, pagecache, parts, verbose, context, work } = request;
  const { checkConsistency } = await import('../operations/consistency.ts');
  const onOutput = verbose ? (text: string) => context.stderr.write(text) : undefined;
  return checkConsistency(
    { directory },
    {
      stock,
      database,
      scratchDirectory: path.dirname(directory),
      reportDirectory,
      ...parts,
      ...(pagecache === undefined ? {} : { pagecache, maxOffHeapMemory: memoryForCheck(pagecache) }),
      onOutput,
      signal: work.signal,
      listener: work.progress,
    },
  );
}

/** The old tools began with 8m; the check of today does not. */
function memoryForCheck(pagecache: string): string {
  return String(Math.max(memoryBytes(pagecache), CHECK_MEMORY_BYTES_MIN));
}

interface CheckArguments extends PartsOption {
  database?: string;
  backup?: string;
  reportDir?: string;
  neo4jHome?: string;
  additionalConfig?: string;
  verbose: boolean;
}

const EXAMPLES = `
Examples:
  $ graphkeep check-consistency --backup=/backups/graph.db-backup --neo4j-home=/var/lib/neo4j
  $ graphkeep check-consistency --database=neo4j --report-dir=/var/log/neo4j-checks

A backup is checked in a copy beside it, which Neo4j recovers first; a database must be stopped. Exit
status: 0 consistent, 1 anything else; a report says what is inconsistent.
`;

export function addLegacyCheck(program: Command, context: CliContext, outcome: CommandOutcome): void {
  const noStore = 'Neo4j 5 and later have no such store';
  const command = program
    .command('check-consistency')
    .description('Checks a stopped database or a directory backup with the stock tool, as in 3.x and 4.x.')
    .addOption(new Option('--database <database>', 'Database of the installation'))
    .addOption(pathOption('--backup <folder>', 'Directory backup'))
    .addOption(
      pathOption('--report-dir <folder>', 'Folder for the report (default: beside the backup, or .)'),
    )
    .addOption(booleanOption('--check-graph', 'Check nodes, relationships, properties, types, tokens', true))
    .addOption(booleanOption('--check-indexes', 'Check indexes', true))
    .addOption(booleanOption('--check-property-owners', 'Check ownership of properties; costly', false))
    .addOption(ignoredSwitch('--check-label-scan-store', noStore))
    .addOption(ignoredSwitch('--check-index-structure', 'it is part of --check-indexes'));
  addLegacyOptions(command).addHelpText('after', EXAMPLES);
  command.action(async (options: CheckArguments) => {
    noteIgnored(command, context);
    outcome.exitStatus = await runCheckCommand(options, context);
  });
}

async function runCheckCommand(options: CheckArguments, context: CliContext): Promise<number> {
  if ((options.database === undefined) === (options.backup === undefined)) {
    throw usageError('either --database or --backup is to be given', 'give one of the two');
  }
  const installation = await openInstallation({
    home: options.neo4jHome,
    additionalConfig: options.additionalConfig,
    command: 'check',
    environment: context.environment,
  });
  const verbose = isVerbose(options, context);
  const subject = options.backup ?? options.database ?? '';
  const run = (work: WorkContext): Promise<{ consistent: boolean; reportPath: string | undefined }> =>
    options.backup === undefined
      ? checkStopped(subject, installation, options, work, context)
      : checkBackup(subject, installation, options, work, context);
  const doing = 'check the consistency';
  const summary = await workThrough([{ subject, run }], {
    context,
    talk: true,
    verbose,
    doing,
    print: () => {},
  });
  const result = summary.outcomes[0]?.result;
  if (result === undefined) return legacyStatus(summary.exitStatus);
  if (result.consistent) {
    writeLine(context.stdout, 'No inconsistencies found.');
    return 0;
  }
  writeLine(context.stderr, `Inconsistencies found. See '${result.reportPath ?? 'no report'}' for details.`);
  return 1;
}

async function checkBackup(
  backup: string,
  installation: Installation,
  options: CheckArguments,
  work: WorkContext,
  context: CliContext,
): Promise<ConsistencyResult> {
  const directory = await requireFolder(backup, 'the folder of --backup', 'name a directory backup');
  await refuseUnlessDatabase(directory);
  const stock = await findCheckingNeo4j(installation, context);
  const name = path.basename(directory).toLowerCase();
  const reportDirectory = path.resolve(options.reportDir ?? path.dirname(directory));
  const { checkGraph, checkIndexes, checkPropertyOwners } = options;
  return runCheck({
    directory,
    // `system` is recovered in another way than all others, whose names do not matter.
    database: isDatabaseName(name) ? name : installation.defaultDatabase,
    stock,
    reportDirectory,
    parts: { checkGraph, checkIndexes, checkPropertyOwners },
    verbose: isVerbose(options, context),
    context,
    work,
  });
}

export async function isDirectoryBackup(directory: string): Promise<boolean> {
  try {
    return !(await isFolder(path.join(directory, 'neostore'), directory));
  } catch (error) {
    if (error instanceof GraphkeepError && error.code === 'GK_NOT_FOUND') return false;
    throw error;
  }
}

async function refuseUnlessDatabase(directory: string): Promise<void> {
  if (await isDirectoryBackup(directory)) return;
  throw new GraphkeepError('GK_NOT_FOUND', `${directory} is not a backup`, {
    hint: 'a directory backup has a file neostore; artifacts are checked with: graphkeep backup validate',
  });
}

async function checkStopped(
  database: string,
  installation: Installation,
  options: CheckArguments,
  work: WorkContext,
  context: CliContext,
): Promise<{ consistent: boolean; reportPath: string | undefined }> {
  const folders = installation.folders(normalizeDatabaseName(database));
  const stock = await findCheckingNeo4j(installation, context);
  const { checkDatabase } = await import('../neo4j/stock.ts');
  const { tmpdir } = await import('node:os');
  const { checkGraph, checkIndexes, checkPropertyOwners } = options;
  return checkDatabase(stock, folders, {
    scratchDirectory: tmpdir(),
    reportDirectory: path.resolve(options.reportDir ?? '.'),
    checkGraph,
    checkIndexes,
    checkPropertyOwners,
    onOutput: isVerbose(options, context) ? (text) => context.stderr.write(text) : undefined,
    signal: work.signal,
  });
}
