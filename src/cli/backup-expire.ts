/** `backup expire`: what a retention policy keeps and removes, as a table or as JSON; removes only with `--confirm`. */
import path from 'node:path';
import { type Command, Option } from 'commander';
import type { RetentionPolicy } from '../chain/retention.ts';
import { asGraphkeepError, type GraphkeepError } from '../errors.ts';
import { parseDurationMs } from '../neo4j/values.ts';
import type { ExpireDatabaseResult, ExpireOptions, ExpireResult } from '../operations/expire.ts';
import type { ArtifactSummary } from '../operations/types.ts';
import type { UploadFacts } from '../storage/objects/store.ts';
import { urlOf } from '../storage/places.ts';
import { CONFIGURATION_SUBJECT } from './backupconfiguration.ts';
import { type CliContext, type CommandOutcome, isVerbose, writeLine } from './context.ts';
import { addIdentityOption } from './encryptionoptions.ts';
import {
  addCommonOptions,
  booleanOption,
  choiceOption,
  parsePlace,
  placeOption,
  refusedOption,
  usageError,
} from './options.ts';
import { requireFolder } from './paths.ts';
import { createProgress } from './progress.ts';
import {
  countOf,
  errorFields,
  formatBytes,
  formatTime,
  renderError,
  renderJson,
  renderTable,
} from './render.ts';
import { addStoreOptions } from './storeoptions.ts';
import { exitStatusOf } from './work.ts';

interface ExpireCommandOptions {
  fromPath?: string;
  database?: string;
  keepLast?: number;
  keepHourly?: number;
  keepDaily?: number;
  keepWeekly?: number;
  keepMonthly?: number;
  keepYearly?: number;
  keepWithin?: string;
  dryRun?: boolean;
  confirm: boolean;
  sizeDropPercent: number;
  allowSmaller: boolean;
  removeOrphans: boolean;
  verify: boolean;
  cleanup?: number;
  format?: string;
  verbose: boolean;
}

const EXAMPLES = `
Examples:
  $ graphkeep backup expire /backups --keep-daily=7 --keep-weekly=4 --keep-monthly=12
  $ graphkeep backup expire /backups --keep-within=30d --database=neo4j --confirm
  $ graphkeep backup expire --from-path=/backups --keep-last=10 --format=JSON

Nothing is removed without --confirm. What a kept artifact builds on is kept as well, and so is the newest
complete chain, whatever the policy says. Configurations of 'dbms backup' stay as long as an artifact that they lie
next to; with --database all of them do. Exit status: 80 while a backup writes to the folder, 88 when the
newest full artifact is suspiciously small.
`;

export function addBackupExpire(parent: Command, context: CliContext, outcome: CommandOutcome): void {
  const command = parent
    .command('expire')
    .summary('Remove artifacts that a retention policy does not keep')
    .description(
      'Lists what a retention policy keeps and removes, per database, and with --confirm removes it. Chains stay whole.',
    )
    .argument('[backup-path]', 'folder of the artifacts')
    .addOption(placeOption('--from-path <folder>', 'The same, as an option'))
    .option('--database <database>', "Only this database, or those that fit a pattern such as 'n*'")
    .addOption(countOption('--keep-last', 'Keep the newest n artifacts'))
    .addOption(
      countOption('--keep-hourly', 'Keep the newest artifact of each of the last n hours that have one'),
    )
    .addOption(countOption('--keep-daily', 'The same for days'))
    .addOption(countOption('--keep-weekly', 'The same for weeks, which begin on Monday'))
    .addOption(countOption('--keep-monthly', 'The same for months'))
    .addOption(countOption('--keep-yearly', 'The same for years'))
    .option(
      '--keep-within <age>',
      'Keep all that are at most so much older than the newest: 30d, 12h, 2w, 6m, 1y5m',
    )
    .addOption(booleanOption('--confirm', 'Remove them; otherwise only say what would be removed', false))
    .addOption(booleanOption('--dry-run', 'Only say what would be removed; this is the default', true))
    .addOption(
      percentOption('--size-drop-percent', 'Refuse when the newest full artifact is smaller by more', 50),
    )
    .addOption(
      booleanOption('--allow-smaller', 'Act although the newest full artifact is so much smaller', false),
    )
    .addOption(
      booleanOption(
        '--remove-orphans',
        'Remove differential artifacts whose chain is incomplete as well',
        false,
      ),
    )
    .addOption(booleanOption('--verify', 'Read the newest full artifact from end to end before', false))
    .addOption(
      new Option(
        '--cleanup <age>',
        'In an object store: remove uploads that killed backups left, if they are older, e.g. 7d',
      ).argParser(parseCleanup),
    )
    .addOption(choiceOption('--format', 'Form of the output', ['TABULAR', 'JSON'], 'TABULAR'))
    .addOption(
      refusedOption('--additional-config', 'no configuration is read: an artifact describes itself'),
    );
  addStoreOptions(command, context);
  addIdentityOption(command, context);
  addCommonOptions(command).addHelpText('after', EXAMPLES);
  command.action(async (backupPath: string | undefined, options: ExpireCommandOptions) => {
    const given = givenFolder(backupPath, options);
    refuseContradiction(command.getOptionValueSource('dryRun') === 'cli', options);
    outcome.exitStatus = await runExpire(given, options, context);
  });
}

function countOption(name: string, description: string): Option {
  return new Option(`${name} <n>`, description).argParser((value: string) => parseCount(name, value));
}

function percentOption(name: string, description: string, defaultValue: number): Option {
  return new Option(`${name} <percent>`, description)
    .argParser((value: string) => parseCount(name, value))
    .default(defaultValue);
}

function parseCleanup(value: string): number {
  const ageMs = parseDurationMs(value);
  if (ageMs === undefined) throw usageError(`--cleanup takes an age such as 7d or 12h, not '${value}'`);
  return ageMs;
}

/** Its bounds are the operation's. */
function parseCount(name: string, value: string): number {
  if (!/^\d{1,9}$/.test(value)) throw usageError(`${name} takes a whole number, not '${value}'`);
  return Number(value);
}

function givenFolder(backupPath: string | undefined, options: ExpireCommandOptions): string {
  const given = [options.fromPath, backupPath].filter((value) => value !== undefined);
  if (given.length !== 1) {
    const problem = given.length === 0 ? 'no folder is given' : 'two folders are given';
    throw usageError(problem, 'give one folder, as an argument or with --from-path=<folder>');
  }
  return options.fromPath ?? parsePlace('<backup-path>', given[0]!);
}

/** Who says both, or neither with emphasis, must say which: a guess would be wrong in the direction that deletes. */
function refuseContradiction(isDryRunGiven: boolean, { confirm, dryRun }: ExpireCommandOptions): void {
  if (!isDryRunGiven || dryRun !== confirm) return;
  if (confirm) throw usageError('--dry-run and --confirm exclude each other');
  throw usageError(
    '--dry-run=false does not remove anything by itself',
    'give --confirm to remove artifacts',
  );
}

async function runExpire(given: string, options: ExpireCommandOptions, context: CliContext): Promise<number> {
  const { checkPolicy, parseAge } = await import('../chain/retention.ts');
  const { keepWithin } = options;
  const policy = policyOf(options, keepWithin === undefined ? undefined : parseAge(keepWithin));
  checkPolicy(policy);
  const folder = await requireFolder(given, 'the path', 'give the folder that holds the artifacts');
  const { expireArtifacts } = await import('../operations/expire.ts');
  const json = options.format === 'JSON';
  const watch = context.watchSignals();
  const progress = createProgress({ stream: context.stderr, enabled: !json, label: path.basename(folder) });
  const { confirm, sizeDropPercent, allowSmaller, removeOrphans, verify, database } = options;
  const what: ExpireOptions = {
    directory: folder,
    ...(database === undefined ? {} : { database }),
    ...{ policy, confirm, sizeDropPercent, allowSmaller, removeOrphans, verify },
    signal: watch.signal,
    listener: progress,
  };
  try {
    const result = await expireArtifacts(what);
    const leftovers = await cleanUp(what, options.cleanup);
    progress.finish();
    const failedStatus = exitStatusOf(result.databases) || (result.configurations.error?.exitStatus ?? 0);
    const status = failedStatus === 0 ? 0 : (watch.exitStatus() ?? failedStatus);
    const found = leftovers === undefined ? {} : { leftovers };
    if (json) context.stdout.write(renderJson({ ...jsonDocument(result, status), ...found }));
    else {
      printResult(result, options, context);
      for (const upload of leftovers ?? []) printLeftover(upload, confirm, context);
    }
    return status;
  } catch (error) {
    progress.finish();
    const exitStatus = watch.exitStatus();
    if (exitStatus === undefined) throw error;
    return reportInterruption(asGraphkeepError(error, 'apply the policy'), exitStatus, options, context);
  } finally {
    watch.stop();
  }
}

async function cleanUp(
  what: ExpireOptions,
  olderThanMs: number | undefined,
): Promise<UploadFacts[] | undefined> {
  if (olderThanMs === undefined) return undefined;
  const { cleanUpLeftovers } = await import('../operations/leftovers.ts');
  return cleanUpLeftovers({ ...what, olderThanMs });
}

function printLeftover({ key, started }: UploadFacts, isRemoved: boolean, context: CliContext): void {
  const what = isRemoved ? 'was removed' : 'would be removed';
  writeLine(context.stdout, `upload of ${key}, begun ${formatTime(started)}, never completed: ${what}`);
}

/** By a signal, before anything was removed: each signal has an exit status of its own. */
function reportInterruption(
  error: GraphkeepError,
  exitStatus: number,
  options: ExpireCommandOptions,
  context: CliContext,
): number {
  if (options.format === 'JSON') {
    context.stdout.write(renderJson({ error: { ...errorFields(error), exitStatus } }));
  }
  context.stderr.write(renderError(error, { verbose: isVerbose(options, context) }));
  return exitStatus;
}

function policyOf(options: ExpireCommandOptions, within: RetentionPolicy['within']): RetentionPolicy {
  return {
    last: options.keepLast ?? 0,
    hourly: options.keepHourly ?? 0,
    daily: options.keepDaily ?? 0,
    weekly: options.keepWeekly ?? 0,
    monthly: options.keepMonthly ?? 0,
    yearly: options.keepYearly ?? 0,
    ...(within === undefined ? {} : { within }),
  };
}

interface Row {
  readonly artifact: ArtifactSummary;
  readonly action: 'keep' | 'remove';
  /** It is gone. */
  readonly removed: boolean;
  readonly reasons: readonly string[];
}

/** Newest first, whatever happens to them. */
function rowsOf(database: ExpireDatabaseResult): Row[] {
  const orphans = new Set(database.orphans);
  const gone = new Set(database.removed);
  const kept = database.kept.map(
    ({ artifact, reasons }): Row => ({ artifact, action: 'keep', removed: false, reasons }),
  );
  const planned = database.planned.map(
    (artifact): Row => ({
      artifact,
      action: 'remove',
      removed: gone.has(artifact),
      reasons: [orphans.has(artifact) ? 'no chain leads to it' : 'no rule keeps it'],
    }),
  );
  const ageOf = ({ artifact }: Row): number => artifact.time?.getTime() ?? 0;
  return [...kept, ...planned].sort((left, right) => ageOf(right) - ageOf(left));
}

const COLUMNS = ['FILE', 'DATABASE', 'TIME (UTC)', 'KIND', 'TRANSACTIONS', 'SIZE', 'ACTION', 'WHY'] as const;

function printResult(result: ExpireResult, options: ExpireCommandOptions, context: CliContext): void {
  const rows = result.databases.flatMap(rowsOf);
  context.stdout.write(renderTable(COLUMNS, rows.map(tableRow)));
  for (const { path: file, message } of result.unreadable) {
    writeLine(context.stderr, `note: ${file} is left alone: ${message}`);
  }
  for (const database of result.databases) printSummary(database, result.confirmed, options, context);
  printConfigurations(result, options, context);
}

/** No rows of the table, which is of databases. */
function printConfigurations(
  { configurations, confirmed }: ExpireResult,
  options: ExpireCommandOptions,
  context: CliContext,
): void {
  const { planned, removed, error } = configurations;
  const gone = new Set(removed);
  for (const file of confirmed ? removed : planned) {
    const what = gone.has(file) ? 'was removed' : 'would be removed';
    writeLine(context.stdout, `${path.basename(file)}: ${what}, no kept artifact lies next to it`);
  }
  if (error === undefined) return;
  const verbose = isVerbose(options, context);
  context.stderr.write(renderError(error, { verbose, subject: CONFIGURATION_SUBJECT }));
}

function tableRow({ artifact, action, removed, reasons }: Row): string[] {
  const { lowestTransaction, highestTransaction } = artifact;
  const kind = kindOf(artifact);
  return [
    path.basename(artifact.path),
    artifact.database,
    formatTime(artifact.time),
    kind,
    kind === 'empty' ? '-' : `${lowestTransaction}-${highestTransaction}`,
    formatBytes(artifact.bytes),
    removed ? 'removed' : action,
    reasons.join(', '),
  ];
}

function kindOf({ full, lowestTransaction, highestTransaction }: ArtifactSummary): string {
  if (full) return 'full';
  return lowestTransaction === 0n && highestTransaction === 0n ? 'empty' : 'differential';
}

function printSummary(
  result: ExpireDatabaseResult,
  confirmed: boolean,
  options: ExpireCommandOptions,
  context: CliContext,
): void {
  const { database, kept, planned, removed, orphans, warnings, error } = result;
  const { stderr } = context;
  for (const warning of warnings) writeLine(stderr, `note: ${database}: ${warning}`);
  if (orphans.length > 0 && !options.removeOrphans) {
    writeLine(
      stderr,
      `note: ${database}: no chain leads to ${countOf(orphans.length, 'artifact')}; --remove-orphans removes such`,
    );
  }
  const size = formatBytes(bytesOf(confirmed ? removed : planned));
  const stays = `${countOf(kept.length, 'artifact')} kept`;
  const goes = confirmed
    ? `${removed.length} removed, ${size} freed`
    : `${planned.length} would be removed, ${size}${planned.length === 0 ? '' : '; --confirm removes them'}`;
  writeLine(stderr, `${database}: ${stays}, ${goes}`);
  if (error !== undefined) {
    stderr.write(renderError(error, { verbose: isVerbose(options, context), subject: database }));
  }
}

function bytesOf(artifacts: readonly ArtifactSummary[]): number {
  return artifacts.reduce((sum, { bytes }) => sum + bytes, 0);
}

function jsonDocument(result: ExpireResult, exitStatus: number): Record<string, unknown> {
  return {
    confirmed: result.confirmed,
    databases: result.databases.map(jsonDatabase),
    configurations: jsonConfigurations(result.configurations),
    unreadable: result.unreadable,
    ...errorOfDocument(result, exitStatus),
  };
}

function jsonConfigurations({ error, ...paths }: ExpireResult['configurations']): Record<string, unknown> {
  return { ok: error === undefined, ...(error === undefined ? {} : { error: errorFields(error) }), ...paths };
}

function errorOfDocument({ databases, configurations }: ExpireResult, exitStatus: number): object {
  const failed = databases.flatMap(({ error }) => error ?? []);
  if (failed.length > 0) return { error: documentError(failed, databases.length, exitStatus) };
  const { error } = configurations;
  return error === undefined ? {} : { error: { ...errorFields(error), exitStatus } };
}

function jsonDatabase(result: ExpireDatabaseResult): Record<string, unknown> {
  const { database, kept, planned, removed, orphans, warnings, error } = result;
  return {
    database,
    ok: error === undefined,
    ...(error === undefined ? {} : { error: errorFields(error) }),
    keptCount: kept.length,
    plannedCount: planned.length,
    plannedBytes: bytesOf(planned),
    removedCount: removed.length,
    freedBytes: bytesOf(removed),
    orphanCount: orphans.length,
    artifacts: rowsOf(result).map(jsonRow),
    notices: warnings,
  };
}

function jsonRow({ artifact, action, removed, reasons }: Row): Record<string, unknown> {
  const { path: file, bytes, time, lowestTransaction, highestTransaction } = artifact;
  return {
    file: urlOf(file),
    path: file,
    time: time === undefined ? null : formatTime(time),
    kind: kindOf(artifact),
    ...{ lowestTransaction, highestTransaction, bytes, action, removed, reasons },
  };
}

/** What the exit status stands for: of one database its own error, of several that some failed. */
function documentError(
  failed: readonly GraphkeepError[],
  databaseCount: number,
  exitStatus: number,
): Record<string, unknown> {
  if (databaseCount === 1) return { ...errorFields(failed[0]!), exitStatus };
  const hint = 'see the error of each database';
  return { code: 'GK_FAILED', message: `${failed.length} of ${databaseCount} failed`, hint, exitStatus };
}
