/** `restore` and `prepare-restore`, as in 3.x and 4.x: directories or artifacts → databases. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { type Command, Option } from 'commander';
import { GraphkeepError } from '../errors.ts';
import { normalizeDatabaseName } from '../neo4j/glob.ts';
import { type Installation, installationFromPaths, openInstallation } from '../neo4j/installation.ts';
import type { RestoreResult } from '../operations/types.ts';
import { type CliContext, type CommandOutcome, isVerbose, writeLine } from './context.ts';
import { isDirectoryBackup } from './legacy-check.ts';
import {
  addLegacyOptions,
  ignoredSwitch,
  legacyStatus,
  noteIgnored,
  requireOption,
} from './legacy-options.ts';
import { booleanOption, nameOf, parseLocalPath, pathOption, usageError } from './options.ts';
import { isFolder } from './paths.ts';
import { type WorkContext, type WorkItem, workThrough } from './work.ts';

interface RestoreArguments {
  from?: string[];
  database?: string;
  force: boolean;
  move: boolean;
  toDataDirectory?: string;
  toDataTxDirectory?: string;
  neo4jHome?: string;
  additionalConfig?: string;
  verbose: boolean;
}

const PATHS_MAX = 1000;
/** At the end of the name of an artifact: what comes before it is the name of the database. */
const ARTIFACT_NAME = /-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.backup$/;

const RESTORE_EXAMPLES = `
Examples:
  $ graphkeep restore --from=/backups/graph.db-backup --database=neo4j --force --neo4j-home=/var/lib/neo4j
  $ graphkeep restore --from=/backups/neo4j,/backups/system --force                                    as in 4.2

Each path is a directory backup, an artifact, or a folder of artifacts. Neo4j must be stopped. Exit status: 0
done, 1 anything else; the existing database is then as it was.
`;

const PREPARE_EXAMPLES = `
Examples:
  $ graphkeep prepare-restore --target=/backups/neo4j,/backups/system

There is nothing to prepare: Neo4j recovers a restored database at its first start. The paths are looked at.
`;

function pathList(flags: string, description: string): Option {
  const name = nameOf(flags);
  return new Option(flags, description).argParser((value: string) => {
    const paths = value.split(',').map((part) => path.resolve(parseLocalPath(name, part)));
    if (paths.length > PATHS_MAX) throw usageError(`${name} names more than ${PATHS_MAX} paths`);
    return paths;
  });
}

export function addLegacyRestore(program: Command, context: CliContext, outcome: CommandOutcome): void {
  const command = program
    .command('restore')
    .description('Restores directory backups or artifacts into the Neo4j on this host, as in 3.x and 4.x.')
    .addOption(pathList('--from <path>', 'Directory backup; 4.2 and later: a comma list of them'))
    .addOption(
      new Option('--database <database>', 'Name of the restored database (default: of the directory)'),
    )
    .addOption(booleanOption('--force', 'Replace an existing database', false))
    .addOption(booleanOption('--move', 'Remove the directory backup once it is restored', false))
    .addOption(
      pathOption('--to-data-directory <folder>', 'Folder of the databases, instead of the configured'),
    )
    .addOption(pathOption('--to-data-tx-directory <folder>', 'Folder of their transaction logs'));
  addLegacyOptions(command).addHelpText('after', RESTORE_EXAMPLES);
  command.action(async (options: RestoreArguments) => {
    noteIgnored(command, context);
    outcome.exitStatus = await runRestore(options, context);
  });
}

async function runRestore(options: RestoreArguments, context: CliContext): Promise<number> {
  const from = requireOption(options.from, 'from');
  if (from.length > 1 && options.database !== undefined) {
    throw usageError('--database goes with one path for --from', 'leave it out: each keeps its name');
  }
  if (from.length > 1 && options.toDataDirectory !== undefined) {
    throw usageError('--to-data-directory goes with one path for --from');
  }
  const installation = await openTarget(options, context);
  const items = from.map(
    (source): WorkItem<RestoreResult> => ({
      subject: source,
      run: (work) => restoreOne(source, options, installation, work),
    }),
  );
  const summary = await workThrough(items, {
    context,
    talk: true,
    verbose: isVerbose(options, context),
    doing: 'restore the database',
    print: (result) => tell(result, installation, context),
  });
  return legacyStatus(summary.exitStatus);
}

/** 4.x allows each of the two alone. */
async function openTarget(options: RestoreArguments, context: CliContext): Promise<Installation> {
  const { toDataDirectory, toDataTxDirectory } = options;
  const needsConfiguration = toDataDirectory === undefined || toDataTxDirectory === undefined;
  if (!needsConfiguration) return installationFromPaths(toDataDirectory, toDataTxDirectory);
  const installation = await openInstallation({
    home: options.neo4jHome,
    additionalConfig: options.additionalConfig,
    command: 'restore',
    environment: context.environment,
  });
  if (toDataDirectory === undefined && toDataTxDirectory === undefined) return installation;
  const { databasesRoot, transactionsRoot, defaultDatabase } = installation;
  const given = installationFromPaths(
    toDataDirectory ?? databasesRoot,
    toDataTxDirectory ?? transactionsRoot,
  );
  return { ...given, defaultDatabase };
}

async function restoreOne(
  source: string,
  options: RestoreArguments,
  installation: Installation,
  { signal, progress }: WorkContext,
): Promise<RestoreResult> {
  const isDirectory = await isFolder(source, 'the path of --from');
  const target = installation.folders(targetName(source, options));
  const common = {
    target,
    overwriteDestination: options.force,
    ...(installation.scriptsRoot === undefined ? {} : { scriptsDirectory: installation.scriptsRoot }),
    signal,
    listener: progress,
  };
  if (!isDirectory || !(await isDirectoryBackup(source))) {
    return restoreArtifact(source, isDirectory, options, common);
  }
  const { restoreFromDirectory } = await import('../operations/directoryrestore.ts');
  const scratchDirectory = nearestFolder(installation.databasesRoot);
  return restoreFromDirectory({ ...common, directory: source, scratchDirectory, move: options.move });
}

async function restoreArtifact(
  source: string,
  isDirectory: boolean,
  options: RestoreArguments,
  common: Omit<Parameters<typeof import('../operations/restore.ts').restoreDatabase>[0], 'artifactPath'>,
): Promise<RestoreResult> {
  if (options.move) throw usageError('--move is for directory backups', 'leave it out for artifacts');
  const { restoreDatabase } = await import('../operations/restore.ts');
  return restoreDatabase({ ...common, artifactPath: source }).catch((error: unknown) => {
    if (!(error instanceof GraphkeepError)) throw error;
    if (error.code === 'GK_TARGET_EXISTS') {
      const { message: exists } = error;
      throw new GraphkeepError(error.code, exists, { hint: 'give --force to replace it', cause: error });
    }
    if (!isDirectory || error.code !== 'GK_NOT_FOUND') throw error;
    const message = `${source} is not a backup: it holds neither a database nor artifacts`;
    throw new GraphkeepError('GK_NOT_FOUND', message, { cause: error });
  });
}

function targetName(source: string, options: RestoreArguments): string {
  const name = options.database ?? path.basename(source).replace(ARTIFACT_NAME, '');
  return normalizeDatabaseName(name);
}

/** On the disk of the databases, where the restored one needs its room anyway. */
export function nearestFolder(folder: string): string {
  let nearest = folder;
  while (!existsSync(nearest)) nearest = path.dirname(nearest);
  return nearest === folder ? path.dirname(folder) : nearest;
}

function tell(result: RestoreResult, installation: Installation, context: CliContext): void {
  const { database, artifactPath, highestTransaction } = result;
  writeLine(
    context.stdout,
    `Restored database '${database}' from '${artifactPath}', up to transaction ${highestTransaction}.`,
  );
  if (result.metadataScriptPath !== undefined) {
    writeLine(
      context.stderr,
      `note: users and roles are to be applied by hand: ${result.metadataScriptPath}`,
    );
  }
  tellHowToOpen(database, installation, context);
}

/** Of a database that a server of Community would not serve as it is configured. */
export function tellHowToOpen(database: string, installation: Installation, context: CliContext): void {
  if (database === 'system' || database === installation.defaultDatabase) return;
  const setting = `initial.dbms.default_database=${database}`;
  writeLine(context.stderr, `note: Neo4j Community opens it with ${setting}; Enterprise: CREATE DATABASE`);
}

export function addLegacyPrepareRestore(
  program: Command,
  context: CliContext,
  outcome: CommandOutcome,
): void {
  const command = program
    .command('prepare-restore')
    .description('Looks at directory backups; there is nothing to prepare.')
    .addOption(pathList('--target <path>', 'Directory backup, or a comma list of them'))
    .addOption(ignoredSwitch('--parallel-recovery', 'nothing is recovered before the first start'));
  addLegacyOptions(command).addHelpText('after', PREPARE_EXAMPLES);
  command.action(async (options: { target?: string[] }) => {
    noteIgnored(command, context);
    for (const target of requireOption(options.target, 'target')) {
      const isBackup = (await isFolder(target, 'the path of --target')) && (await isDirectoryBackup(target));
      if (!isBackup) throw new GraphkeepError('GK_NOT_FOUND', `${target} is not a directory backup`);
      writeLine(
        context.stderr,
        `note: nothing to prepare in ${target}: Neo4j recovers it at its first start`,
      );
    }
    outcome.exitStatus = 0;
  });
}
