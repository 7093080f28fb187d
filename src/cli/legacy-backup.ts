/** `backup --backup-dir …`, as in 3.x and 4.x: options → one directory backup for each database, and its check. */
import path from 'node:path';
import { type Command, Option } from 'commander';
import { asGraphkeepError, GraphkeepError } from '../errors.ts';
import { isPattern, normalizeDatabaseName } from '../neo4j/glob.ts';
import { type Installation, openInstallation, selectDatabases } from '../neo4j/installation.ts';
import type { DirectoryBackupEvent, DirectoryBackupResult } from '../operations/directorybackup.ts';
import { type CliContext, type CommandOutcome, isVerbose, writeLine } from './context.ts';
import { findCheckingNeo4j, type PartsOption, runCheck } from './legacy-check.ts';
import {
  addLegacyOptions,
  choiceIgnored,
  EXIT_FAILED,
  EXIT_OK,
  EXIT_SIGNALS_FROM,
  fromAddressOption,
  ignoredSwitch,
  isGiven,
  memoryOption,
  noteIgnored,
  requireOption,
  timeoutOption,
} from './legacy-options.ts';
import { booleanOption, pathOption, usageError } from './options.ts';
import { requireFolder } from './paths.ts';
import { renderError } from './render.ts';
import { type WorkContext, type WorkItem, workThrough } from './work.ts';

/** The backup was taken. */
const EXIT_CHECK_FAILED = 2;
const EXIT_INCONSISTENT = 3;

interface BackupArguments {
  backupDir?: string;
  name?: string;
  database?: string;
  fallbackToFull: boolean;
  checkConsistency: boolean;
  prepareRestore?: boolean;
  pagecache?: string;
  ccGraph: boolean;
  ccIndexes: boolean;
  ccPropertyOwners: boolean;
  ccReportDir?: string;
  checkGraph: boolean;
  checkIndexes: boolean;
  checkPropertyOwners: boolean;
  reportDir?: string;
  neo4jHome?: string;
  additionalConfig?: string;
  verbose: boolean;
}

const EXAMPLES = `
Examples:
  $ graphkeep backup --backup-dir=/backups --name=graph.db-backup --neo4j-home=/var/lib/neo4j      as in 3.x
  $ graphkeep backup --backup-dir=/backups --database='*' --check-consistency=false                as in 4.x

The first backup is a full one, later ones add what is new. Exit status: 0 done, 1 the backup failed, 2 it was
taken and the check could not be run, 3 it was taken and is inconsistent. Artifacts, chains and point-in-time
restore come with: graphkeep database backup
`;

export function addLegacyBackup(program: Command, context: CliContext, outcome: CommandOutcome): void {
  const command = program
    .command('backup')
    .description(
      'Backs up a database of the Neo4j on this host into a directory, as neo4j-admin 3.x and 4.x did.',
    )
    .addOption(pathOption('--backup-dir <folder>', 'Existing folder for the directory backups'))
    .addOption(new Option('--name <name>', 'Name of the directory (3.x); of the default database'))
    .addOption(
      new Option('--database <database>', 'Database, and name of the directory (4.x); globs allowed'),
    )
    .addOption(fromAddressOption())
    .addOption(
      booleanOption('--fallback-to-full', 'Where no incremental one is possible: take a full one', true),
    );
  addCheckOptions(command);
  addIgnoredOptions(command);
  addLegacyOptions(command).addHelpText('after', EXAMPLES);
  command.action(async (options: BackupArguments) => {
    noteIgnored(command, context);
    outcome.exitStatus = await runBackup(options, command, context);
  });
}

const CHECK_CONSISTENCY = booleanOption('--check-consistency', 'Check the backup with the stock tool', true);

function addCheckOptions(command: Command): void {
  command
    .addOption(CHECK_CONSISTENCY)
    .addOption(booleanOption('--cc-graph', 'Check nodes, relationships, properties, types and tokens', true))
    .addOption(booleanOption('--cc-indexes', 'Check indexes', true))
    .addOption(booleanOption('--cc-property-owners', 'Check ownership of properties; costly', false))
    .addOption(pathOption('--cc-report-dir <folder>', 'Folder for the report (default: that of the backups)'))
    .addOption(booleanOption('--check-graph', 'As --cc-graph (4.x)', true))
    .addOption(booleanOption('--check-indexes', 'As --cc-indexes (4.x)', true))
    .addOption(booleanOption('--check-property-owners', 'As --cc-property-owners (4.x)', false))
    .addOption(pathOption('--report-dir <folder>', 'As --cc-report-dir (4.x)'))
    .addOption(memoryOption('--pagecache', 'Page cache of the recovery before the check, and of the check'));
}

function addIgnoredOptions(command: Command): void {
  const noRecovery = 'nothing is recovered during a backup; Neo4j does that at the first start';
  const noStore = 'Neo4j 5 and later have no such store';
  command
    .addOption(choiceIgnored('--protocol', ['any', 'catchup', 'common'], 'there is no network in between'))
    .addOption(timeoutOption('there is no network in between'))
    .addOption(ignoredSwitch('--cc-label-scan-store', noStore))
    .addOption(ignoredSwitch('--check-label-scan-store', noStore))
    .addOption(ignoredSwitch('--check-index-structure', 'it is part of --check-indexes'))
    .addOption(ignoredSwitch('--prepare-restore', noRecovery))
    .addOption(ignoredSwitch('--parallel-recovery', noRecovery))
    .addOption(
      choiceIgnored(
        '--include-metadata',
        ['all', 'users', 'roles', 'none'],
        'users and roles are in the database system; back it up as well',
      ),
    );
}

async function runBackup(options: BackupArguments, command: Command, context: CliContext): Promise<number> {
  const backupDir = requireOption(options.backupDir, 'backup-dir');
  const backupDirectory = await requireFolder(backupDir, 'the folder of --backup-dir', 'create it first');
  const installation = await openInstallation({
    home: options.neo4jHome,
    additionalConfig: options.additionalConfig,
    command: 'backup',
    environment: context.environment,
  });
  const chosen = await chooseDatabases(options, installation);
  const { startPinThread } = await import('../hotcopy/pinthread.ts');
  context.lowerPriority(await startPinThread());
  const run = new BackupRun(
    options,
    backupDirectory,
    installation,
    isGiven(command, CHECK_CONSISTENCY),
    context,
  );
  const items = chosen.map(
    ({ database, name, error }): WorkItem<number> => ({
      subject: database,
      async run(work) {
        if (error !== undefined) throw error;
        return run.backUp(database, name, work);
      },
    }),
  );
  const verbose = isVerbose(options, context);
  const doing = 'back up the database';
  const summary = await workThrough(items, { context, talk: true, verbose, doing, print: () => {} });
  if (summary.exitStatus >= EXIT_SIGNALS_FROM) return summary.exitStatus;
  const statuses = summary.outcomes.map(({ result }) => result ?? EXIT_FAILED);
  const worst = Math.max(...statuses);
  return statuses.length === 1 || worst === EXIT_OK ? worst : EXIT_FAILED;
}

interface Chosen {
  readonly database: string;
  /** Of the directory. */
  readonly name: string;
  readonly error?: GraphkeepError;
}

/** 3.x servers have one database, and the directory is called anything; from 4.0 it is called as the database. */
async function chooseDatabases(options: BackupArguments, installation: Installation): Promise<Chosen[]> {
  const { name } = options;
  if (name === undefined) {
    const selected = await selectDatabases(installation, [options.database ?? installation.defaultDatabase]);
    return selected.map(({ name: database, error }) => ({
      database,
      name: database,
      ...(error && { error }),
    }));
  }
  const database = options.database ?? installation.defaultDatabase;
  if (isPattern(database)) {
    throw usageError('--name and a pattern for --database exclude each other', 'leave out --name');
  }
  return [{ database: normalizeDatabaseName(database), name }];
}

/** What is the same for every database of one command line. */
class BackupRun {
  readonly #options: BackupArguments;
  readonly #backupDirectory: string;
  readonly #installation: Installation;
  readonly #checkWasAskedFor: boolean;
  readonly #context: CliContext;

  constructor(
    options: BackupArguments,
    backupDirectory: string,
    installation: Installation,
    checkWasAskedFor: boolean,
    context: CliContext,
  ) {
    this.#options = options;
    this.#backupDirectory = backupDirectory;
    this.#installation = installation;
    this.#checkWasAskedFor = checkWasAskedFor;
    this.#context = context;
  }

  /** @returns the exit status for this database */
  async backUp(database: string, name: string, work: WorkContext): Promise<number> {
    const { backupToDirectory } = await import('../operations/directorybackup.ts');
    const result = await backupToDirectory(this.#installation.folders(database), {
      backupDirectory: this.#backupDirectory,
      name,
      fallbackToFull: this.#options.fallbackToFull,
      signal: work.signal,
      listener: work.progress,
      onEvent: (event) => this.#say(eventLine(event), work),
    });
    this.#tell(result, work);
    const status = await this.#checkIfWanted(result.path, database, work);
    if (status === EXIT_OK) this.#say('Backup complete.', work);
    return status;
  }

  #say(line: string, { progress }: WorkContext): void {
    progress.finish();
    writeLine(this.#context.stdout, line);
  }

  #tell(
    { kind, highestTransaction, lowestTransaction, leftOut }: DirectoryBackupResult,
    work: WorkContext,
  ): void {
    if (leftOut.length > 0) work.progress.notice(`Neo4j will rebuild ${leftOut.join(', ')}`);
    if (kind === 'full') return;
    const nothing = highestTransaction === 0n;
    const range = nothing ? 'nothing has happened since' : `${lowestTransaction} to ${highestTransaction}`;
    work.progress.notice(`transactions: ${range}`);
  }

  async #checkIfWanted(directory: string, database: string, work: WorkContext): Promise<number> {
    // As in 4.3: what is not prepared for a restore cannot be checked.
    const isWanted = this.#options.checkConsistency && this.#options.prepareRestore !== false;
    if (!isWanted) return EXIT_OK;
    try {
      const stock = await findCheckingNeo4j(this.#installation, this.#context).catch((error: unknown) => {
        if (this.#checkWasAskedFor || !(error instanceof GraphkeepError)) throw error;
        work.progress.notice(`the backup is not checked: ${error.message}`);
        return undefined;
      });
      if (stock === undefined) return EXIT_OK;
      this.#say('Doing consistency check...', work);
      return await this.#check(directory, database, stock, work);
    } catch (error) {
      if (work.signal.aborted) throw error;
      return this.#checkFailed(asGraphkeepError(error, 'check the backup'), work);
    }
  }

  async #check(
    directory: string,
    database: string,
    stock: Awaited<ReturnType<typeof findCheckingNeo4j>>,
    work: WorkContext,
  ): Promise<number> {
    const { ccReportDir, reportDir, pagecache } = this.#options;
    const { consistent, reportPath } = await runCheck({
      directory,
      database,
      stock,
      reportDirectory: path.resolve(ccReportDir ?? reportDir ?? this.#backupDirectory),
      pagecache,
      parts: this.#parts(),
      verbose: isVerbose(this.#options, this.#context),
      context: this.#context,
      work,
    });
    if (consistent) return EXIT_OK;
    work.progress.finish();
    writeLine(this.#context.stderr, `Inconsistencies found. See '${reportPath ?? 'no report'}' for details.`);
    return EXIT_INCONSISTENT;
  }

  #parts(): PartsOption {
    const { ccGraph, ccIndexes, ccPropertyOwners, checkGraph, checkIndexes, checkPropertyOwners } =
      this.#options;
    return {
      checkGraph: ccGraph && checkGraph,
      checkIndexes: ccIndexes && checkIndexes,
      checkPropertyOwners: ccPropertyOwners || checkPropertyOwners,
    };
  }

  /** What is too damaged to be checked is not a check that could not be run. */
  #checkFailed(error: GraphkeepError, work: WorkContext): number {
    work.progress.finish();
    const isDamaged = error.code === 'GK_STORE_DAMAGED' || error.code === 'GK_ARTIFACT_CORRUPT';
    const what = isDamaged ? 'the backup was taken and is damaged' : 'the backup was taken and not checked';
    const named = new GraphkeepError(error.code, `${what}: ${error.message}`, {
      hint: error.hint,
      cause: error,
    });
    const verbose = isVerbose(this.#options, this.#context);
    this.#context.stderr.write(renderError(named, { verbose }));
    return isDamaged ? EXIT_INCONSISTENT : EXIT_CHECK_FAILED;
  }
}

/** The lines of 3.3, which scripts look for. */
function eventLine(event: DirectoryBackupEvent): string {
  if (event.kind === 'renamed') return `Old backup renamed to '${path.basename(event.to)}'.`;
  return event.kind === 'full'
    ? 'Doing full backup...'
    : 'Destination is not empty, doing incremental backup...';
}
