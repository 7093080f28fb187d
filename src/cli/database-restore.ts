/** `database restore`: options → which artifacts become which database → one restore each. */
import path from 'node:path';
import { type Command, Option } from 'commander';
import { normalizeDatabaseName } from '../neo4j/glob.ts';
import { type Installation, installationFromPaths, openInstallation } from '../neo4j/installation.ts';
import type { ChainRequest, RestorePlan, RestoreResult } from '../operations/types.ts';
import { resolvePath } from '../storage/places.ts';
import { refuseBesidePaths } from './backupsource.ts';
import { type CliContext, type CommandOutcome, isVerbose } from './context.ts';
import { addIdentityOption } from './encryptionoptions.ts';
import {
  addCommonOptions,
  addInstallationOptions,
  booleanOption,
  choiceOption,
  parsePlace,
  pathOption,
  refusedOption,
  requirePair,
  usageError,
} from './options.ts';
import { isFolder } from './paths.ts';
import { countOf, formatBytes, formatDuration, formatTime, renderTable } from './render.ts';
import { addStoreOptions } from './storeoptions.ts';
import { type WorkItem, workAndReport } from './work.ts';

interface RestoreCommandOptions {
  fromPath?: string[];
  overwriteDestination: boolean;
  sourceDatabase?: string;
  restoreUntil?: Until;
  dryRun: boolean;
  toPathData?: string;
  toPathTxn?: string;
  neo4jHome?: string;
  additionalConfig?: string;
  format?: string;
  verbose: boolean;
}

type Until = NonNullable<ChainRequest['until']>;

/** What is restored, and the name of the database that it becomes. */
interface RestorePair {
  readonly request: ChainRequest;
  readonly database: string;
}

const ARTIFACTS_MAX = 1000;

const EXAMPLES = `
Examples:
  $ graphkeep database restore --neo4j-home=/var/lib/neo4j --from-path=/backups/neo4j-2026-08-07T16-05-37.backup
  $ graphkeep database restore --from-path=/backups --overwrite-destination neo4j    newest state of neo4j
  $ graphkeep database restore --from-path=/backups --source-database=neo4j copy     under another name
  $ graphkeep database restore --from-path=/backups/a.backup,/backups/b.backup       several at once
  $ graphkeep database restore --from-path=/backups --restore-until='2026-08-07 16:05:00' --dry-run
  $ graphkeep database restore --from-path=/backups --restore-until=4711             up to transaction 4710

A differential artifact is restored with all that it builds on, which is looked for in its folder. The whole
chain is checked before anything of the target is touched. The target database must not be in use: stop Neo4j
first. An existing database stays as it is unless --overwrite-destination is given, and then until the new one
is complete and verified.
`;

export function addDatabaseRestore(parent: Command, context: CliContext, outcome: CommandOutcome): void {
  const command = parent
    .command('restore')
    .summary('Restore databases from artifacts, to the end or to a moment')
    .description(
      'Restores databases of the Neo4j on this host from artifacts, full and differential, while it is stopped.',
    )
    .argument('[database]', 'name of the restored database (default: the name in the artifact)')
    .addOption(fromPathOption())
    .addOption(booleanOption('--overwrite-destination', 'Replace the database when it exists', false))
    .option('--source-database <database>', 'Database to take when the folder holds artifacts of several')
    .addOption(
      pathOption('--to-path-data <folder>', 'Folder that holds the databases, instead of a Neo4j home'),
    )
    .addOption(pathOption('--to-path-txn <folder>', 'Folder that holds their transaction logs'))
    .addOption(choiceOption('--format', 'Form of the output', ['TEXT', 'JSON'], 'TEXT'))
    .addOption(restoreUntilOption())
    .addOption(booleanOption('--dry-run', 'Only say what would be restored, after checking the chain', false))
    .addOption(
      refusedOption('--temp-path', 'nothing is staged elsewhere: the new files are written beside the old'),
    );
  addInstallationOptions(command);
  addStoreOptions(command, context);
  addIdentityOption(command, context);
  addCommonOptions(command).addHelpText('after', EXAMPLES);
  command.action(async (database: string | undefined, options: RestoreCommandOptions) => {
    outcome.exitStatus = await runRestore(database, options, context);
  });
}

function fromPathOption(): Option {
  return new Option(
    '--from-path <path>',
    'Artifact, folder of artifacts, or a comma list of artifacts',
  ).argParser((value: string) => {
    const paths = value.split(',').map((part) => parsePlace('--from-path', part));
    if (paths.length > ARTIFACTS_MAX)
      throw usageError(`--from-path names more than ${ARTIFACTS_MAX} artifacts`);
    return paths;
  });
}

/** A number is a transaction, anything else a time; what is named is not restored any more. */
function restoreUntilOption(): Option {
  const description =
    "First transaction that is left out, or 'yyyy-MM-dd HH:mm:ss' (UTC): only what was committed before";
  return new Option('--restore-until <transaction|time>', description).argParser(parseUntil);
}

export function parseUntil(value: string): Until {
  if (/^\d{1,18}$/.test(value) && BigInt(value) > 0n) return { transaction: BigInt(value) };
  const text = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)$/.exec(value);
  const time = text === null ? undefined : new Date(`${text[1]}T${text[2]}Z`);
  // A day that no month has would become one of the next month.
  if (time !== undefined && formatTime(time) === `${text?.[1]}T${text?.[2]}`) return { time };
  throw usageError(
    `--restore-until=${value} is neither a transaction nor a time`,
    "write a number, or a time in UTC such as '2026-08-07 16:05:37'",
  );
}

async function runRestore(
  database: string | undefined,
  options: RestoreCommandOptions,
  context: CliContext,
): Promise<number> {
  const fromPaths = requireFromPath(options.fromPath);
  const byPath = toPathsGiven(options);
  const target = database === undefined ? undefined : normalizeDatabaseName(database);
  const pairs = await choosePairs(fromPaths, target, options);
  if (options.dryRun) return printPlans(pairs, options, context);
  if (byPath && pairs.length > 1) throw usageError('--to-path-data works with one database only');
  const installation = await openTarget(options, byPath, context);
  const json = options.format === 'JSON';
  const items = pairs.map(
    ({ request, database: name }): WorkItem<RestoreResult> => ({
      subject: name,
      async run({ signal, progress }) {
        const { restoreDatabase } = await import('../operations/restore.ts');
        return await restoreDatabase({
          ...request,
          target: installation.folders(name),
          overwriteDestination: options.overwriteDestination,
          ...(installation.scriptsRoot === undefined ? {} : { scriptsDirectory: installation.scriptsRoot }),
          signal,
          listener: progress,
        });
      },
    }),
  );
  return await workAndReport(items, {
    context,
    json,
    verbose: isVerbose(options, context),
    doing: 'restore the database',
    done: 'databases restored',
    jsonKey: 'restores',
    render: (result) => renderRestore(result, installation),
  });
}

/** The plan of each restore. Needs no installation: it is asked on any machine that sees the artifacts. */
async function printPlans(
  pairs: readonly RestorePair[],
  options: RestoreCommandOptions,
  context: CliContext,
): Promise<number> {
  const json = options.format === 'JSON';
  const items = pairs.map(
    ({ request, database }): WorkItem<RestorePlan & { target: string }> => ({
      subject: database,
      async run({ signal, progress }) {
        const { planRestore } = await import('../operations/plan.ts');
        return { target: database, ...(await planRestore({ ...request, signal, listener: progress })) };
      },
    }),
  );
  return await workAndReport(items, {
    context,
    json,
    verbose: isVerbose(options, context),
    doing: 'plan the restore',
    done: 'restores planned',
    jsonKey: 'plans',
    render: renderPlan,
  });
}

function requireFromPath(fromPaths: string[] | undefined): string[] {
  if (fromPaths === undefined)
    throw usageError('--from-path is missing', 'give --from-path=<artifact or folder>');
  return fromPaths.map((fromPath) => resolvePath(fromPath));
}

function toPathsGiven(options: RestoreCommandOptions): boolean {
  const byPath = requirePair(
    { ...options },
    ['toPathData', '--to-path-data'],
    ['toPathTxn', '--to-path-txn'],
  );
  if (byPath) refuseBesidePaths(options, '--to-path-data');
  return byPath;
}

async function openTarget(
  options: RestoreCommandOptions,
  byPath: boolean,
  context: CliContext,
): Promise<Installation> {
  if (byPath) return installationFromPaths(options.toPathData ?? '', options.toPathTxn ?? '');
  return await openInstallation({
    home: options.neo4jHome,
    additionalConfig: options.additionalConfig,
    command: 'restore',
    environment: context.environment,
  });
}

async function choosePairs(
  fromPaths: readonly string[],
  target: string | undefined,
  options: RestoreCommandOptions,
): Promise<RestorePair[]> {
  const until = options.restoreUntil === undefined ? {} : { until: options.restoreUntil };
  const inFolder = await folderDatabase(fromPaths, target);
  const wanted = options.sourceDatabase ?? inFolder;
  const sourceDatabase = wanted === undefined ? {} : { sourceDatabase: wanted };
  const { databasesOf } = await import('../operations/plan.ts');
  const sources = await databasesOf(fromPaths, wanted);
  if (sources.length > 1 && target !== undefined) {
    throw usageError(
      `one name, '${target}', cannot be given to ${sources.length} databases`,
      'leave out the name: each is restored under the name it carries',
    );
  }
  return sources.map(({ database, ...request }) => ({
    request: { ...request, ...sourceDatabase, ...until },
    database: target ?? normalizeDatabaseName(database),
  }));
}

/** `--from-path=<folder> neo4j` restores neo4j from a folder that may hold others; of a file it is the new name. */
async function folderDatabase(
  fromPaths: readonly string[],
  target: string | undefined,
): Promise<string | undefined> {
  let folders = 0;
  for (const fromPath of fromPaths) folders += Number(await isFolder(fromPath, 'the path of --from-path'));
  if (folders > 0 && fromPaths.length > 1)
    throw usageError('a list for --from-path names artifacts, not folders');
  return folders > 0 ? target : undefined;
}

function renderRestore(result: RestoreResult, installation: Installation): string {
  const lines = [
    `Restored database '${result.database}' from ${sourcesOf(result)}, took ${Math.round(result.durationMs)}ms.`,
    `  folder        ${result.target.storeDirectory}${result.replacedExisting ? ' (replaced)' : ''}`,
    `  size          ${formatBytes(result.memberBytes)} in ${countOf(result.memberCount, 'file')}, ` +
      (result.verifiedByHash ? 'each verified by its hash' : 'without hashes to verify them by'),
    `  time          ${formatDuration(result.durationMs)}`,
    `  transactions  up to ${result.highestTransaction}`,
    `  next          ${nextStep(result.database, installation)}`,
  ];
  if (result.metadataScriptPath !== undefined) {
    const { metadataScriptPath, database } = result;
    lines.push(
      `  users, roles  ${metadataScriptPath}`,
      '                to be applied by hand when Neo4j runs; it holds password hashes:',
      `                ${applyCommand(metadataScriptPath, database)}`,
    );
  }
  return `${lines.join('\n')}\n`;
}

/** As the manual has it. The names of databases and the default paths need no quotes beyond these. */
function applyCommand(scriptPath: string, database: string): string {
  return `cat ${shellWord(scriptPath)} | cypher-shell -u <user> -p <password> -a <address> -d system --param "database => '${database}'"`;
}

function shellWord(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function sourcesOf({ artifactPath, differentialPaths }: RestoreResult): string {
  const full = `'${path.basename(artifactPath)}'`;
  const last = differentialPaths.at(-1);
  if (last === undefined) return full;
  return `${full} and ${countOf(differentialPaths.length, 'differential artifact')} up to '${path.basename(last)}'`;
}

const PLAN_COLUMNS = ['FILE', 'KIND', 'TIME (UTC)', 'LOWEST TX', 'HIGHEST TX', 'SIZE'];

function renderPlan(plan: RestorePlan & { target: string }): string {
  const rows = plan.artifacts.map((artifact) => [
    path.basename(artifact.path),
    artifact.full ? 'full' : 'differential',
    formatTime(artifact.time),
    String(artifact.lowestTransaction),
    String(artifact.highestTransaction),
    formatBytes(artifact.bytes),
  ]);
  const { window } = plan;
  return [
    renderTable(PLAN_COLUMNS, rows).trimEnd(),
    `Would restore database '${plan.database}' as '${plan.target}'; the differential artifacts were read and fit together.`,
    `  transactions  up to ${plan.endTransaction}, the latest committed at ${formatTime(plan.endTime)} UTC`,
    `  could go to   any transaction from ${window.from} to ${window.to}`,
    `                any moment after ${formatTime(window.fromTime)} up to ${formatTime(window.toTime)} UTC`,
    `  needs         ${formatBytes(plan.neededBytes)} of free space, Neo4j ${plan.neo4jVersion} or later`,
    '',
  ].join('\n');
}

/** Community serves one database beside system; a restored one of another name would just lie there unseen. */
function nextStep(database: string, installation: Installation): string {
  if (database === 'system' || database === installation.defaultDatabase) return 'start Neo4j';
  return `set initial.dbms.default_database=${database} and start Neo4j (Enterprise: CREATE DATABASE)`;
}
