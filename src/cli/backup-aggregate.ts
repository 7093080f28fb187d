/** `backup aggregate` and its old name `database aggregate-backup`: chains, folded into one artifact each. */
import path from 'node:path';
import type { Command } from 'commander';
import { GraphkeepError } from '../errors.ts';
import { databaseMatcher } from '../neo4j/glob.ts';
import type { StockNeo4j } from '../neo4j/stock.ts';
import type { AggregateResult, ChainRequest } from '../operations/types.ts';
import { resolvePath } from '../storage/places.ts';
import { type CliContext, type CommandOutcome, isVerbose, writeLine } from './context.ts';
import { addEncryptionOptions } from './encryptionoptions.ts';
import {
  addCommonOptions,
  booleanOption,
  choiceOption,
  pathOption,
  placeOption,
  refusedOption,
  refusedSwitch,
  usageError,
} from './options.ts';
import { isFolder } from './paths.ts';
import { countOf, formatDuration } from './render.ts';
import { addWritableStoreOptions } from './storeoptions.ts';
import { type WorkItem, workAndReport } from './work.ts';

interface AggregateCommandOptions {
  fromPath?: string;
  keepOldBackup: boolean;
  engine: string;
  neo4jHome?: string;
  pagecache?: string;
  tempPath?: string;
  format?: string;
  verbose: boolean;
}

const COMPRESSION_LEVEL = 1;

const examplesOf = (command: string): string => `
Examples:
  $ graphkeep ${command} --from-path=/backups neo4j
  $ graphkeep ${command} --from-path=/backups '*' --keep-old-backup
  $ graphkeep ${command} --from-path=/backups/neo4j-2026-08-07T16-05-37.backup

The newest chain of each database becomes one full artifact, beside the old ones; then the old ones are
removed, unless --keep-old-backup is given: without them only the newest state can be restored, no earlier
transaction or moment. With a Neo4j installation at hand (--neo4j-home or NEO4J_HOME) the result is recovered
by it, on a scratch copy.
`;

export function addBackupAggregate(parent: Command, context: CliContext, outcome: CommandOutcome): void {
  addAggregate(parent.command('aggregate'), 'backup aggregate', context, outcome);
}

/** The name that `neo4j-admin` had for it before 2025. */
export function addAggregateBackup(parent: Command, context: CliContext, outcome: CommandOutcome): void {
  addAggregate(parent.command('aggregate-backup'), 'database aggregate-backup', context, outcome);
}

function addAggregate(command: Command, name: string, context: CliContext, outcome: CommandOutcome): void {
  command
    .summary('Fold a chain into one full artifact')
    .description('Folds a full artifact and its differential ones into one full artifact, without a server.')
    .argument('[database]', "name or quoted pattern such as 'n*'; not with a file")
    .addOption(placeOption('--from-path <path>', 'Folder of artifacts, or the artifact that ends the chain'))
    .addOption(booleanOption('--keep-old-backup', 'Keep the artifacts that the result replaces', false))
    .addOption(
      choiceOption(
        '--engine',
        'Who recovers the result: NEO4J, NONE, or AUTO for Neo4j where one is installed',
        ['AUTO', 'NEO4J', 'NONE'],
        'AUTO',
      ),
    )
    .addOption(pathOption('--neo4j-home <folder>', 'Neo4j that recovers the result (default: $NEO4J_HOME)'))
    .option('--pagecache <size>', 'Page cache of the recovering Neo4j, e.g. 512m')
    .addOption(pathOption('--temp-path <folder>', 'Where the database is unpacked for recovery'))
    .addOption(choiceOption('--format', 'Form of the output', ['TEXT', 'JSON'], 'TEXT'))
    .addOption(
      refusedSwitch('--parallel-recovery', 'recovery is done by Neo4j Community, which has no such mode'),
    )
    .addOption(
      refusedOption('--additional-config', 'no configuration is read: an artifact describes itself'),
    );
  addWritableStoreOptions(command, context, (given) => [given.opts<AggregateCommandOptions>().fromPath]);
  addEncryptionOptions(command, context);
  addCommonOptions(command).addHelpText('after', examplesOf(name));
  command.action(async (database: string | undefined, options: AggregateCommandOptions) => {
    outcome.exitStatus = await runAggregate(database, options, context);
  });
}

async function runAggregate(
  database: string | undefined,
  options: AggregateCommandOptions,
  context: CliContext,
): Promise<number> {
  if (options.fromPath === undefined) {
    throw usageError('--from-path is missing', 'give --from-path=<folder or artifact>');
  }
  const fromPath = resolvePath(options.fromPath);
  const requests = await requestsFor(fromPath, database);
  const stock = await chooseEngine(options, context);
  const json = options.format === 'JSON';
  if (!options.keepOldBackup && !json) {
    writeLine(
      context.stderr,
      'note: only the newest state can be restored afterwards; give --keep-old-backup to keep earlier moments',
    );
  }
  context.lowerPriority();
  const items = requests.map(
    ({ subject, request }): WorkItem<AggregateResult> => ({
      subject,
      async run({ signal, progress }) {
        const { aggregateChain } = await import('../operations/aggregate.ts');
        return await aggregateChain({
          ...request,
          compress: true,
          compressionLevel: COMPRESSION_LEVEL,
          keepFailed: false,
          keepOldBackup: options.keepOldBackup,
          ...(stock === undefined ? {} : { stock }),
          ...(options.tempPath === undefined ? {} : { temporaryDirectory: path.resolve(options.tempPath) }),
          ...(options.pagecache === undefined ? {} : { pagecache: options.pagecache }),
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
    doing: 'aggregate the chain',
    done: 'chains aggregated',
    jsonKey: 'aggregations',
    render: renderAggregate,
  });
}

/** One request per database: a pattern may match several, and one that fails does not keep the others from it. */
async function requestsFor(
  fromPath: string,
  database: string | undefined,
): Promise<{ subject: string; request: ChainRequest }[]> {
  if (!(await isFolder(fromPath, 'the path of --from-path'))) {
    if (database === undefined)
      return [{ subject: path.basename(fromPath), request: { artifactPath: fromPath } }];
    return [{ subject: database, request: { artifactPath: fromPath, sourceDatabase: database } }];
  }
  const { inspectArtifacts } = await import('../operations/inspect.ts');
  const inspected = await inspectArtifacts(fromPath, { isFile: false });
  const { artifacts } = inspected;
  const names = [...new Set(artifacts.map((artifact) => artifact.database))].sort();
  const matches = database === undefined ? () => true : databaseMatcher(database);
  const chosen = names.filter(matches);
  if (chosen.length === 0) {
    const whose = database === undefined ? '' : ` of database '${database}'`;
    const { refuseUnopened } = await import('../operations/plan.ts');
    refuseUnopened(inspected, `no artifact${whose} in ${fromPath} can be opened`);
    throw new GraphkeepError('GK_NOT_FOUND', `no artifact${whose} in ${fromPath}`, {
      hint: 'run: graphkeep backup inspect <folder>',
    });
  }
  if (database === undefined && chosen.length > 1) {
    throw usageError(
      `the folder ${fromPath} holds artifacts of several databases: ${names.join(', ')}`,
      "give the name of one, or '*' for all",
    );
  }
  return chosen.map((name) => ({ subject: name, request: { artifactPath: fromPath, sourceDatabase: name } }));
}

/** AUTO uses a Neo4j that is there and can run; asked for by name, what keeps it from running is an error. */
async function chooseEngine(
  options: AggregateCommandOptions,
  context: CliContext,
): Promise<StockNeo4j | undefined> {
  if (options.engine === 'NONE') return undefined;
  const home = options.neo4jHome ?? context.environment.NEO4J_HOME;
  const { findStockNeo4j } = await import('../neo4j/stock.ts');
  const stock =
    home === undefined || home === '' ? undefined : await findStockNeo4j(home, context.environment);
  if (stock !== undefined || options.engine === 'AUTO') return stock;
  throw usageError(
    '--engine=neo4j needs a Neo4j installation, and none was found',
    'give --neo4j-home=<folder>, one that has a folder lib',
  );
}

function renderAggregate(result: AggregateResult): string {
  const file = path.basename(result.artifactPath);
  if (!result.aggregated)
    return `Nothing to aggregate for database '${result.database}': ${file} is all there is.\n`;
  const kept = result.inputs.length - result.removed.length;
  const lines = [
    `Aggregated ${countOf(result.inputs.length, 'artifact')} of database '${result.database}' into '${file}', ` +
      `took ${Math.round(result.durationMs)}ms.`,
    `  file          ${result.artifactPath}`,
    `  transactions  ${result.lowestTransaction} to ${result.highestTransaction}`,
    `  recovered     ${result.recovered ? 'yes' : 'no: Neo4j replays the log at the first start'}`,
    `  old ones      ${result.removed.length} removed, ${kept} kept`,
    `  time          ${formatDuration(result.durationMs)}`,
  ];
  return `${lines.join('\n')}\n`;
}
