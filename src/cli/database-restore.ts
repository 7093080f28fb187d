/** `database restore`: options → which artifact goes to which database → one restore each. */
import path from 'node:path';
import { type Command, Option } from 'commander';
import { GraphkeepError } from '../errors.ts';
import { normalizeDatabaseName } from '../neo4j/glob.ts';
import { type Installation, installationFromPaths, openInstallation } from '../neo4j/installation.ts';
import type { ArtifactSummary, RestoreResult } from '../operations/types.ts';
import { selectArtifacts } from './backup-inspect.ts';
import { type CliContext, type CommandOutcome, isVerbose } from './context.ts';
import { refuseBesidePaths } from './database-backup.ts';
import {
  addCommonOptions,
  addInstallationOptions,
  booleanOption,
  choiceOption,
  parseLocalPath,
  pathOption,
  refusedOption,
  requirePair,
  usageError,
} from './options.ts';
import { isFolder } from './paths.ts';
import { countOf, formatBytes, formatDuration } from './render.ts';
import { printJsonSummary, printSeveralSummary, type WorkItem, workThrough } from './work.ts';

interface RestoreCommandOptions {
  fromPath?: string[];
  overwriteDestination: boolean;
  sourceDatabase?: string;
  toPathData?: string;
  toPathTxn?: string;
  neo4jHome?: string;
  additionalConfig?: string;
  format?: string;
  verbose: boolean;
}

/** One artifact and the name of the database that it becomes. */
interface RestorePair {
  readonly artifactPath: string;
  readonly database: string;
}

const ARTIFACTS_MAX = 1000;

const EXAMPLES = `
Examples:
  $ graphkeep database restore --neo4j-home=/var/lib/neo4j --from-path=/backups/neo4j-2026-08-07T16-05-37.backup
  $ graphkeep database restore --from-path=/backups --overwrite-destination neo4j    newest full artifact of neo4j
  $ graphkeep database restore --from-path=/backups --source-database=neo4j copy     under another name
  $ graphkeep database restore --from-path=/backups/a.backup,/backups/b.backup       several at once

The target database must not be in use: stop Neo4j first. An existing database stays as it is unless
--overwrite-destination is given, and then until the new one is complete and verified.
`;

export function addDatabaseRestore(parent: Command, context: CliContext, outcome: CommandOutcome): void {
  const command = parent
    .command('restore')
    .summary('Restore databases from artifacts')
    .description('Restores databases of the Neo4j on this host from full artifacts, while it is stopped.')
    .argument('[database]', 'name of the restored database (default: the name in the artifact)')
    .addOption(fromPathOption())
    .addOption(booleanOption('--overwrite-destination', 'Replace the database when it exists', false))
    .option('--source-database <database>', 'Database to take when the folder holds artifacts of several')
    .addOption(
      pathOption('--to-path-data <folder>', 'Folder that holds the databases, instead of a Neo4j home'),
    )
    .addOption(pathOption('--to-path-txn <folder>', 'Folder that holds their transaction logs'))
    .addOption(choiceOption('--format', 'Form of the output', ['TEXT', 'JSON'], 'TEXT'))
    .addOption(
      refusedOption(
        '--restore-until',
        'a full artifact can only be restored to its end; differential ones come with a later version',
        'restore an artifact that was taken before the moment you want',
      ),
    )
    .addOption(
      refusedOption('--temp-path', 'nothing is staged elsewhere: the new files are written beside the old'),
    );
  addInstallationOptions(command);
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
    const paths = value.split(',').map((part) => parseLocalPath('--from-path', part));
    if (paths.length > ARTIFACTS_MAX)
      throw usageError(`--from-path names more than ${ARTIFACTS_MAX} artifacts`);
    return paths;
  });
}

async function runRestore(
  database: string | undefined,
  options: RestoreCommandOptions,
  context: CliContext,
): Promise<number> {
  const json = options.format === 'JSON';
  const fromPaths = requireFromPath(options.fromPath, database);
  const target = database === undefined ? undefined : normalizeDatabaseName(database);
  const installation = await openTarget(options, fromPaths, context);
  const pairs: RestorePair[] = [];
  for (const fromPath of fromPaths) {
    pairs.push(await choosePair(path.resolve(fromPath), target, options.sourceDatabase));
  }
  refuseSameTarget(pairs);
  const items = pairs.map(
    (pair): WorkItem<RestoreResult> => ({
      subject: pair.database,
      async run({ signal, progress }) {
        const { restoreDatabase } = await import('../operations/restore.ts');
        return await restoreDatabase({
          artifactPath: pair.artifactPath,
          target: installation.folders(pair.database),
          overwriteDestination: options.overwriteDestination,
          ...(installation.scriptsRoot === undefined ? {} : { scriptsDirectory: installation.scriptsRoot }),
          signal,
          listener: progress,
        });
      },
    }),
  );
  const summary = await workThrough(items, {
    context,
    talk: !json,
    verbose: isVerbose(options, context),
    doing: 'restore the database',
    print: json ? undefined : (result) => context.stdout.write(renderRestore(result, installation)),
  });
  if (json) printJsonSummary(context, 'restores', summary);
  else printSeveralSummary(context, summary, 'databases restored');
  return summary.exitStatus;
}

function requireFromPath(fromPaths: string[] | undefined, database: string | undefined): string[] {
  if (fromPaths === undefined)
    throw usageError('--from-path is missing', 'give --from-path=<artifact or folder>');
  if (fromPaths.length > 1 && database !== undefined) {
    throw usageError(
      `one name, '${database}', cannot be given to ${fromPaths.length} artifacts`,
      'leave out the name: each is restored under the name it carries',
    );
  }
  return fromPaths;
}

async function openTarget(
  options: RestoreCommandOptions,
  fromPaths: readonly string[],
  context: CliContext,
): Promise<Installation> {
  const byPath = requirePair(
    { ...options },
    ['toPathData', '--to-path-data'],
    ['toPathTxn', '--to-path-txn'],
  );
  if (!byPath) {
    return await openInstallation({
      home: options.neo4jHome,
      additionalConfig: options.additionalConfig,
      command: 'restore',
      environment: context.environment,
    });
  }
  refuseBesidePaths(options, '--to-path-data');
  if (fromPaths.length > 1) throw usageError('--to-path-data works with one artifact only');
  return installationFromPaths(options.toPathData ?? '', options.toPathTxn ?? '');
}

async function choosePair(
  fromPath: string,
  target: string | undefined,
  sourceDatabase: string | undefined,
): Promise<RestorePair> {
  const folder = await isFolder(fromPath, 'the path of --from-path');
  const { inspectArtifacts } = await import('../operations/inspect.ts');
  const { artifacts } = await inspectArtifacts(fromPath);
  const artifact = folder
    ? chooseInFolder(artifacts, fromPath, sourceDatabase ?? target)
    : checkGivenFile(artifacts[0], fromPath, sourceDatabase);
  return { artifactPath: artifact.path, database: target ?? normalizeDatabaseName(artifact.database) };
}

/** The newest full artifact of the database; without a name the folder must leave no choice. */
export function chooseInFolder(
  artifacts: readonly ArtifactSummary[],
  folder: string,
  wanted: string | undefined,
): ArtifactSummary {
  const names = [...new Set(artifacts.map((artifact) => artifact.database))].sort();
  const database = wanted ?? (names.length === 1 ? names[0] : undefined);
  if (database === undefined && names.length > 1) {
    throw usageError(
      `the folder ${folder} holds artifacts of several databases: ${names.join(', ')}`,
      'give the name of the database, or --source-database=<database>',
    );
  }
  const ofDatabase = selectArtifacts(artifacts, { json: false, database }, folder);
  const newest = ofDatabase.find((artifact) => artifact.full);
  if (newest === undefined) {
    const whose = database === undefined ? '' : ` of database '${database}'`;
    throw new GraphkeepError('GK_NOT_FOUND', `no full artifact${whose} in ${folder}`, {
      hint: 'run: graphkeep backup inspect <folder>',
    });
  }
  if (ofDatabase[0] !== newest && ofDatabase[0] !== undefined) throw newerDifferential(ofDatabase[0], newest);
  return newest;
}

/** Taking the older full one in silence would lose what the newer differential holds. */
function newerDifferential(differential: ArtifactSummary, full: ArtifactSummary): GraphkeepError {
  return new GraphkeepError(
    'GK_UNSUPPORTED',
    `the newest artifact ${differential.path} is a differential one, which this version cannot restore`,
    { hint: `to restore the older full one instead, give its path: ${full.path}` },
  );
}

function checkGivenFile(
  artifact: ArtifactSummary | undefined,
  file: string,
  sourceDatabase: string | undefined,
): ArtifactSummary {
  if (artifact === undefined) throw new GraphkeepError('GK_ARTIFACT_CORRUPT', `not an artifact: ${file}`);
  if (!artifact.full) {
    throw new GraphkeepError(
      'GK_UNSUPPORTED',
      `a differential artifact cannot be restored in this version: ${file}`,
      {
        hint: 'restore the full artifact of its chain',
      },
    );
  }
  if (sourceDatabase !== undefined && sourceDatabase.toLowerCase() !== artifact.database.toLowerCase()) {
    throw new GraphkeepError(
      'GK_NOT_FOUND',
      `${file} holds database '${artifact.database}', not '${sourceDatabase}'`,
    );
  }
  return artifact;
}

function refuseSameTarget(pairs: readonly RestorePair[]): void {
  const seen = new Map<string, string>();
  for (const { database, artifactPath } of pairs) {
    const other = seen.get(database);
    if (other !== undefined) {
      throw usageError(
        `${other} and ${artifactPath} both hold database '${database}'`,
        'restore one of them',
      );
    }
    seen.set(database, artifactPath);
  }
}

function renderRestore(result: RestoreResult, installation: Installation): string {
  const lines = [
    `Restored database '${result.database}' from '${path.basename(result.artifactPath)}', took ${Math.round(result.durationMs)}ms.`,
    `  folder        ${result.target.storeDirectory}${result.replacedExisting ? ' (replaced)' : ''}`,
    `  size          ${formatBytes(result.memberBytes)} in ${countOf(result.memberCount, 'file')}, ` +
      (result.verifiedByHash ? 'each verified by its hash' : 'without hashes to verify them by'),
    `  time          ${formatDuration(result.durationMs)}`,
    `  transactions  up to ${result.highestTransaction}`,
    `  next          ${nextStep(result.database, installation)}`,
  ];
  if (result.metadataScriptPath !== undefined) {
    lines.push(
      `  users, roles  to be applied by hand with cypher-shell -d system: ${result.metadataScriptPath}`,
    );
  }
  return `${lines.join('\n')}\n`;
}

/** Community serves one database beside system; a restored one of another name would just lie there unseen. */
function nextStep(database: string, installation: Installation): string {
  if (database === 'system' || database === installation.defaultDatabase) return 'start Neo4j';
  return `set initial.dbms.default_database=${database} and start Neo4j (Enterprise: CREATE DATABASE)`;
}
