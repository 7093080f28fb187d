/** `dbms restore`: a folder of artifacts → configuration, plugins and databases of a new machine. */
import type { Command } from 'commander';
import type { ConfigurationRestore } from '../operations/configurationrestore.ts';
import type { DbmsRestorePlan } from '../operations/dbmsrestore.ts';
import type { RestorePlan, RestoreResult } from '../operations/types.ts';
import { CONFIGURATION_SUBJECT } from './backupconfiguration.ts';
import { type CliContext, type CommandOutcome, isVerbose, writeLine } from './context.ts';
import { parseUntil } from './database-restore.ts';
import { renderConfigurationPlan, renderConfigurationRestore } from './dbmsreport.ts';
import { addIdentityOption } from './encryptionoptions.ts';
import {
  addCommonOptions,
  booleanOption,
  choiceOption,
  pathOption,
  placeOption,
  usageError,
} from './options.ts';
import { requireFolder } from './paths.ts';
import { countOf, formatBytes, formatDuration, formatTime } from './render.ts';
import { addStoreOptions } from './storeoptions.ts';
import { type WorkItem, workAndReport } from './work.ts';

interface DbmsRestoreOptions {
  fromPath?: string;
  neo4jHome?: string;
  overwriteDestination: boolean;
  restoreUntil?: Date;
  includeConfiguration: boolean;
  includePlugins: boolean;
  dryRun: boolean;
  format?: string;
  verbose: boolean;
}

const EXAMPLES = `
Examples:
  $ graphkeep dbms restore --from-path=/backups --neo4j-home=/var/lib/neo4j --dry-run    only the plan
  $ graphkeep dbms restore --from-path=/backups --neo4j-home=/var/lib/neo4j
  $ graphkeep dbms restore --from-path=/backups --neo4j-home=/var/lib/neo4j --overwrite-destination
  $ graphkeep dbms restore --from-path=s3://example-backups/neo4j --neo4j-home=/var/lib/neo4j
  $ graphkeep dbms restore --from-path=/backups --neo4j-home=/var/lib/neo4j --restore-until='2026-08-07 16:05:00'

Neo4j must be installed there (its program files), and stopped. An installation comes with settings of its
own, which differ from the restored ones: --overwrite-destination replaces them, and keeps the old ones in a
folder configuration.before-<time> of the home. When a part fails, the others are done all the same; give
the command again with --overwrite-destination, and do not start Neo4j before it ends with 0.
`;

export function addDbmsRestore(parent: Command, context: CliContext, outcome: CommandOutcome): void {
  const command = parent
    .command('restore')
    .summary('Make a new machine out of a folder of artifacts')
    .description('Restores configuration, plugins and every database, system with its users included.')
    .addOption(
      placeOption('--from-path <folder>', "Folder that 'dbms backup' wrote to, or s3://, gs://, azb://"),
    )
    .addOption(pathOption('--neo4j-home <folder>', 'Home folder of the new Neo4j (default: $NEO4J_HOME)'))
    .addOption(
      booleanOption('--overwrite-destination', 'Replace databases and files that are there already', false),
    )
    .option(
      '--restore-until <time>',
      "'yyyy-MM-dd HH:mm:ss' (UTC): only what was committed before",
      parseUntilTime,
    )
    .addOption(booleanOption('--include-configuration', 'Restore settings, certificates and licenses', true))
    .addOption(booleanOption('--include-plugins', 'Restore the jars of plugins that were backed up', true))
    .addOption(booleanOption('--dry-run', 'Only say what would be restored, after all checks', false))
    .addOption(choiceOption('--format', 'Form of the output', ['TEXT', 'JSON'], 'TEXT'));
  addStoreOptions(command, context);
  addIdentityOption(command, context);
  addCommonOptions(command).addHelpText('after', EXAMPLES);
  command.action(async (options: DbmsRestoreOptions) => {
    outcome.exitStatus = await runDbmsRestore(options, context);
  });
}

/** A transaction number means another moment in each database. */
function parseUntilTime(value: string): Date {
  const until = parseUntil(value);
  if ('time' in until) return until.time;
  throw usageError(
    '--restore-until takes a time here: each database counts its own transactions',
    "write a time in UTC such as '2026-08-07 16:05:37', or restore the databases one by one",
  );
}

async function runDbmsRestore(options: DbmsRestoreOptions, context: CliContext): Promise<number> {
  if (options.fromPath === undefined)
    throw usageError('--from-path is missing', 'give --from-path=<folder>, where the backups are');
  const folder = await requireFolder(options.fromPath, 'the folder of --from-path', 'check the path');
  const json = options.format === 'JSON';
  const { planDbmsRestore } = await import('../operations/dbmsrestore.ts');
  const notices: string[] = [];
  const plan = await planDbmsRestore({
    ...options,
    folder,
    home: options.neo4jHome,
    environment: context.environment,
    ...(options.restoreUntil === undefined ? {} : { untilTime: options.restoreUntil }),
    listener: { progress: () => undefined, notice: (text) => notices.push(text) },
  });
  const report = { context, json, verbose: isVerbose(options, context) };
  if (options.dryRun) return reportPlan(plan, notices, report);
  const status = await workAndReport(withNotices(itemsOf(plan, options), notices), {
    ...report,
    doing: 'restore',
    done: 'parts restored',
    jsonKey: 'restores',
    render: renderPart,
  });
  if (!json) writeLine(context.stderr, lastWords(plan, status));
  return status;
}

/** What was noticed before the first item, told with it: in a JSON document there is no other place for it. */
function withNotices<Result>(
  items: readonly WorkItem<Result>[],
  notices: readonly string[],
): WorkItem<Result>[] {
  return items.map((item, number) => ({
    ...item,
    run: (work) => {
      if (number === 0) for (const notice of notices) work.progress.notice(notice);
      return item.run(work);
    },
  }));
}

interface Reporting {
  readonly context: CliContext;
  readonly json: boolean;
  readonly verbose: boolean;
}

type Restored = (RestoreResult & { kind: 'database' }) | ConfigurationRestore;

/** The configuration last: a Neo4j that is started too early has none of the settings, and is not reached by anybody. */
function itemsOf(plan: DbmsRestorePlan, options: DbmsRestoreOptions): WorkItem<Restored>[] {
  const { databases, installation, configuration, home } = plan;
  const hasSystem = databases.some(({ name }) => name === 'system');
  const items = databases.map(
    ({ name, request }): WorkItem<Restored> => ({
      subject: name,
      async run({ signal, progress }) {
        const { restoreDatabase } = await import('../operations/restore.ts');
        const result = await restoreDatabase({
          ...request,
          target: installation.folders(name),
          overwriteDestination: options.overwriteDestination,
          withoutMetadataScript: hasSystem,
          ...(installation.scriptsRoot === undefined ? {} : { scriptsDirectory: installation.scriptsRoot }),
          signal,
          listener: progress,
        });
        return { kind: 'database', ...result };
      },
    }),
  );
  if (configuration === undefined) return items;
  const item: WorkItem<Restored> = {
    subject: CONFIGURATION_SUBJECT,
    async run({ signal, progress }) {
      const { applyConfiguration } = await import('../operations/configurationrestore.ts');
      return applyConfiguration(configuration, home, { signal, listener: progress });
    },
  };
  return [...items, item];
}

function renderPart(result: Restored): string {
  if (result.kind === 'configuration') return renderConfigurationRestore(result);
  const { database, target, memberBytes, highestTransaction, replacedExisting, durationMs } = result;
  const facts = `${formatBytes(memberBytes)}, up to transaction ${highestTransaction}, ${formatDuration(durationMs)}`;
  const script =
    result.metadataScriptPath === undefined ? '' : `\n  users, roles  ${result.metadataScriptPath}`;
  return `Restored database '${database}' to ${target.storeDirectory}${replacedExisting ? ' (replaced)' : ''}: ${facts}${script}\n`;
}

function lastWords({ configuration }: DbmsRestorePlan, status: number): string {
  if (status !== 0) return 'do not start Neo4j yet: give the command again with --overwrite-destination';
  const missingKeys = configuration?.keys.filter(({ present }) => !present).length ?? 0;
  const missingPlugins = configuration?.plugins.filter(({ state }) => state === 'missing').length ?? 0;
  const steps = [
    ...(missingKeys === 0 ? [] : [`put back ${countOf(missingKeys, 'private key')}`]),
    ...(missingPlugins === 0 ? [] : [`install ${countOf(missingPlugins, 'plugin')}`]),
    'start Neo4j',
  ];
  return `next: ${steps.join(', ')}`;
}

type Planned =
  | (RestorePlan & { kind: 'database'; target: string })
  | { kind: 'configuration'; plan: NonNullable<DbmsRestorePlan['configuration']> };

/** Of each database the chain, whose differential artifacts are read and proven for it. */
async function reportPlan(
  plan: DbmsRestorePlan,
  notices: readonly string[],
  report: Reporting,
): Promise<number> {
  const items = plan.databases.map(
    ({ name, request }): WorkItem<Planned> => ({
      subject: name,
      async run({ signal, progress }) {
        const { planRestore } = await import('../operations/plan.ts');
        const planned = await planRestore({ ...request, signal, listener: progress });
        return { kind: 'database', target: plan.installation.folders(name).storeDirectory, ...planned };
      },
    }),
  );
  const { configuration } = plan;
  const item: WorkItem<Planned> | undefined = configuration && {
    subject: CONFIGURATION_SUBJECT,
    run: async () => ({ kind: 'configuration', plan: configuration }),
  };
  return workAndReport(withNotices(item === undefined ? items : [...items, item], notices), {
    ...report,
    doing: 'plan the restore',
    done: 'parts planned',
    jsonKey: 'plans',
    render: renderPlanned,
  });
}

function renderPlanned(planned: Planned): string {
  if (planned.kind === 'configuration') return renderConfigurationPlan(planned.plan);
  const { database, target, artifacts, endTransaction, endTime, neededBytes } = planned;
  return (
    `Would restore database '${database}' to ${target}: ${countOf(artifacts.length, 'artifact')}, ` +
    `up to transaction ${endTransaction} of ${formatTime(endTime)} UTC, needs ${formatBytes(neededBytes)}\n`
  );
}
