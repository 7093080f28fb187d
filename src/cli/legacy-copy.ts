/** `copy`, as in 4.x, where it copies a whole database. What filters or rewrites one is refused. */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { type Command, Option } from 'commander';
import { wrapSystemError } from '../errors.ts';
import type { DatabaseFolders } from '../neo4j/folders.ts';
import { normalizeDatabaseName } from '../neo4j/glob.ts';
import { type Installation, openInstallation } from '../neo4j/installation.ts';
import type { CopyResult } from '../operations/copy.ts';
import { type CliContext, type CommandOutcome, isVerbose, writeLine } from './context.ts';
import {
  addLegacyOptions,
  ignored,
  ignoredSwitch,
  legacyStatus,
  memoryOption,
  noteIgnored,
  requireOption,
} from './legacy-options.ts';
import { nearestFolder, tellHowToOpen } from './legacy-restore.ts';
import { parseChoice, pathOption, refusal, refusedOption, refusedSwitch, usageError } from './options.ts';
import { requireFolder } from './paths.ts';
import { type WorkContext, workThrough } from './work.ts';

interface CopyArguments {
  fromDatabase?: string;
  fromPath?: string;
  fromPathTx?: string;
  toDatabase?: string;
  neo4jHome?: string;
  additionalConfig?: string;
  verbose: boolean;
}

const EXAMPLES = `
Examples:
  $ graphkeep copy --from-database=neo4j --to-database=copy --neo4j-home=/var/lib/neo4j
  $ graphkeep copy --from-path=/backups/graph.db-backup --to-database=copy --neo4j-home=/var/lib/neo4j

The copy is the same store under another name: all ids stay, nothing is compacted, and nothing inconsistent is
dropped. Options that filter or rewrite are refused. Neo4j must be stopped, and the copy must not exist yet,
--force or not. Exit status: 0 done, 1 anything else; then there is no copy.
`;

const NOT_REWRITTEN = 'graphkeep copies a database as it is, and rewrites nothing';
const INSTEAD = 'copy without it, then change the copy with Cypher';

/** By the names of the manual; any other option is unknown and refused as well. */
const FILTERS: readonly string[] = [
  '--copy-only-node-properties',
  '--copy-only-nodes-with-labels',
  '--copy-only-relationship-properties',
  '--copy-only-relationships-with-types',
  '--delete-nodes-with-labels',
  '--ignore-nodes-with-labels',
  '--ignore-relationships-with-types',
  '--skip-labels',
  '--skip-node-properties',
  '--skip-properties',
  '--skip-relationship-properties',
];

const FORMATS: readonly string[] = ['same', 'standard', 'high_limit', 'aligned', 'block'];

export function addLegacyCopy(program: Command, context: CliContext, outcome: CommandOutcome): void {
  const command = program
    .command('copy')
    .description('Copies a whole database at rest under another name, as in 4.x; it is not rewritten.')
    .addOption(new Option('--from-database <database>', 'Database of the installation'))
    .addOption(pathOption('--from-path <folder>', 'Folder of a database, or a directory backup'))
    .addOption(pathOption('--from-path-tx <folder>', 'Folder of its transaction log (default: the same)'))
    .addOption(new Option('--to-database <database>', 'Name of the copy'))
    .addOption(formatOption())
    .addOption(
      ignoredSwitch('--force', 'what cannot be proven is never copied, and what exists is never replaced'),
    );
  for (const name of ['--from-pagecache', '--to-pagecache']) {
    command.addOption(ignored(memoryOption(name, ''), 'no page cache is used'));
  }
  for (const name of FILTERS) command.addOption(refusedOption(name, NOT_REWRITTEN, INSTEAD));
  command.addOption(refusedSwitch('--compact-node-store', NOT_REWRITTEN, 'leave out --compact-node-store'));
  addLegacyOptions(command).addHelpText('after', EXAMPLES);
  command.action(async (options: CopyArguments) => {
    noteIgnored(command, context);
    outcome.exitStatus = await runCopy(options, context);
  });
}

function formatOption(): Option {
  return new Option('--to-format <format>', 'Only same: the format stays').argParser((value: string) => {
    const format = parseChoice('--to-format', value, FORMATS);
    if (format === 'same') return format;
    throw refusal(`--to-format=${value}`, NOT_REWRITTEN, 'leave it out, or use neo4j-admin database migrate');
  });
}

async function runCopy(options: CopyArguments, context: CliContext): Promise<number> {
  const { fromDatabase, fromPath, fromPathTx } = options;
  if ((fromDatabase === undefined) === (fromPath === undefined)) {
    throw usageError('either --from-database or --from-path is to be given', 'give one of the two');
  }
  if (fromPathTx !== undefined && fromPath === undefined) {
    throw usageError('--from-path-tx goes with --from-path', 'leave it out: --from-database finds the log');
  }
  const name = normalizeDatabaseName(requireOption(options.toDatabase, 'to-database'));
  const installation = await openHome(options, context);
  const source = await findSource(options, context);
  const target = installation.folders(name);
  context.lowerPriority();
  const subject = target.name;
  const run = (work: WorkContext): Promise<CopyResult> => copy(source, target, installation, work);
  const summary = await workThrough([{ subject, run }], {
    context,
    talk: true,
    verbose: isVerbose(options, context),
    doing: 'copy the database',
    print: (result) => tell(result, source, installation, context),
  });
  return legacyStatus(summary.exitStatus);
}

function openHome(options: CopyArguments, { environment }: CliContext): Promise<Installation> {
  const { neo4jHome: home, additionalConfig } = options;
  return openInstallation({ home, additionalConfig, command: 'copy', environment });
}

async function findSource(options: CopyArguments, context: CliContext): Promise<DatabaseFolders> {
  const { fromDatabase, fromPath, fromPathTx } = options;
  if (fromDatabase !== undefined) return (await openHome(options, context)).folders(fromDatabase);
  const hint = 'give the folder of one database';
  const storeDirectory = await requireFolder(fromPath ?? '', 'the path of --from-path', hint);
  const name = path.basename(storeDirectory);
  if (fromPathTx !== undefined) {
    const logDirectory = await requireFolder(fromPathTx, 'the path of --from-path-tx', hint);
    return { name, storeDirectory, logDirectory };
  }
  await requireLog(storeDirectory);
  return { name, storeDirectory, logDirectory: storeDirectory };
}

/** A folder of a server has its log elsewhere: better said here than found to be a damaged database. */
async function requireLog(directory: string): Promise<void> {
  const names = await readdir(directory).catch((error: unknown) => {
    throw wrapSystemError(error, `list ${directory}`);
  });
  if (names.some((name) => name.startsWith('neostore.transaction.db.'))) return;
  const hint = 'give --from-path-tx=<folder>, e.g. data/transactions/neo4j';
  throw usageError(`there is no transaction log in ${directory}`, hint);
}

async function copy(
  source: DatabaseFolders,
  target: DatabaseFolders,
  installation: Installation,
  { signal, progress }: WorkContext,
): Promise<CopyResult> {
  const { copyDatabase } = await import('../operations/copy.ts');
  const scratchDirectory = nearestFolder(installation.databasesRoot);
  return copyDatabase({ source, target, scratchDirectory, signal, listener: progress });
}

function tell(
  { target, highestTransaction, leftOut }: CopyResult,
  source: DatabaseFolders,
  installation: Installation,
  context: CliContext,
): void {
  const what = `Copied database '${source.name}' to '${target.name}'`;
  writeLine(context.stdout, `${what}, up to transaction ${highestTransaction}.`);
  if (leftOut.length > 0) writeLine(context.stderr, `note: Neo4j will rebuild ${leftOut.join(', ')}`);
  tellHowToOpen(target.name, installation, context);
}
