/** `database backup`: options → which databases of which installation → one artifact each. */
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Command, Option } from 'commander';
import { asGraphkeepError } from '../errors.ts';
import type { ConfigurationBackup } from '../operations/configurationbackup.ts';
import type { BackupOptions, BackupType, TargetOptions } from '../operations/types.ts';
import { isStoreUrl, resolvePath } from '../storage/places.ts';
import { printInspection } from './backup-inspect.ts';
import { type CheckedBackup, prepareCheck } from './backupcheck.ts';
import {
  addConfigurationOptions,
  addIncludePlugins,
  type ConfigurationOptions,
  checkConfigurationOptions,
  configurationItem,
  renderConfiguration,
} from './backupconfiguration.ts';
import { addMetadataOptions, checkMetadataOptions, metadataLine } from './backupmetadata.ts';
import { openSources, type SelectedSource, type SourceOptions } from './backupsource.ts';
import { type CliContext, type CommandOutcome, isVerbose, writeLine } from './context.ts';
import { addEncryptionOptions } from './encryptionoptions.ts';
import {
  addCommonOptions,
  addInstallationOptions,
  booleanOption,
  choiceOption,
  cpuShareOption,
  pathOption,
  placeOption,
  placesOption,
  rateOption,
  refusal,
  refusedOption,
  refusedSwitch,
  usageError,
} from './options.ts';
import { requireFolder } from './paths.ts';
import { addRemoteOptions } from './remoteoptions.ts';
import { countOf, formatBytes, formatDuration, placeLines } from './render.ts';
import { addWritableStoreOptions } from './storeoptions.ts';
import { type WorkContext, type WorkItem, workAndReport } from './work.ts';

export interface BackupCommandOptions extends SourceOptions, ConfigurationOptions {
  toPath?: string[];
  require?: 'ALL' | 'ANY';
  inspectPath?: string;
  type: BackupType;
  preferDiffAsParent: boolean;
  fallbackToFull: boolean;
  compress: boolean;
  compressionLevel?: number;
  keepFailed: boolean;
  limitRate?: number;
  cpuShare: number;
  checkConsistency: boolean;
  reportPath?: string;
  tempPath?: string;
  encryptTo?: readonly string[];
  format?: string;
  verbose: boolean;
}

/** What one item of a run comes to. */
export type BackedUp = CheckedBackup | ConfigurationBackup;

const KINDS: Readonly<Record<BackupType, string>> = { AUTO: '', DIFF: 'differential ', FULL: 'full ' };
const CREATE_FIRST = 'create the folder first';
const COMPRESSION_LEVEL_DEFAULT = 1;
const COMPRESSION_LEVEL_MAX = 19;

const EXAMPLES = `
Examples:
  $ graphkeep database backup --neo4j-home=/var/lib/neo4j --to-path=/backups neo4j
  $ graphkeep database backup --to-path=/backups '*'            every database, system included
  $ graphkeep database backup --to-path=/backups --type=full    not only what is new since the last one
  $ graphkeep database backup --to-path=/backups neo4j system   with NEO4J_HOME set
  $ graphkeep database backup --from-path-data=/data/databases --from-path-txn=/data/transactions --to-path=/backups
  $ graphkeep database backup --to-path=/backups --include-metadata=users=anna,ben    not all users
  $ graphkeep database backup --neo4j-home=/var/lib/neo4j --to-path=/backups --include-configuration '*'
  $ graphkeep database backup --to-path=/backups --encrypt-to=age1…    only who has the private key can read it
  $ graphkeep database backup --inspect-path=/backups           what is there
  $ graphkeep database backup --to-path=/backups --to-path=s3://offsite/backups --require=any
  $ graphkeep database backup --to-path=s3://onsite@backups --to-path=s3://cloud@offsite    by profiles of the AWS files

An artifact carries the users of the server with their encrypted passwords, unless --include-metadata=none is
given; roles and privileges (Enterprise) as well when --bolt-address says where they are asked for.

Neo4j may run and be written to during the backup. While others use more than half of the processors' time,
the backup takes --cpu-share of it, or a fifth of what is idle when that is more, at a low priority;
--limit-rate spares the disks.

With several --to-path the database is read once. Without --require=any the backup fails, and is nowhere, when
one of them fails; with it, a place that fails is left out with a warning, and the exit status is 0 as long as
one has the backup.

Exit status: 0 when all went well; for one database
the status of its error (docs lists them), for several 1 when any failed.
`;

export function addDatabaseBackup(parent: Command, context: CliContext, outcome: CommandOutcome): void {
  const command = parent
    .command('backup')
    .summary('Back up databases of a running or stopped Neo4j')
    .description(
      'Backs up databases of the Neo4j on this host while it runs (or when it is stopped): one artifact each.',
    )
    .argument('[database...]', "names and quoted patterns such as 'n*' (default: neo4j)");
  addWritableStoreOptions(command, context, placesGiven);
  addEncryptionOptions(command, context);
  addBackupOptions(command, { wholeDbms: false }).addHelpText('after', EXAMPLES);
  command.action(async (names: string[], options: BackupCommandOptions) => {
    outcome.exitStatus = await runBackup(names, options, context);
  });
}

/** Where a command with these options writes. */
export function placesGiven(command: Command): readonly string[] {
  return command.opts<BackupCommandOptions>().toPath ?? [];
}

/** For all databases by name there are neither folders of databases nor anything to be inspected. */
export function addBackupOptions(command: Command, { wholeDbms }: { wholeDbms: boolean }): Command {
  if (!wholeDbms) addPathOptions(command);
  command
    .addOption(
      placesOption(
        '--to-path <folder>',
        'Existing folder for the artifacts, or s3://, gs://, azb://; several times for several copies at once',
      ),
    )
    .addOption(requireOption())
    .addOption(typeOption())
    .addOption(
      booleanOption(
        '--fallback-to-full',
        'With --type=DIFF: take a full one where no DIFF is possible',
        false,
      ),
    )
    .addOption(
      booleanOption(
        '--prefer-diff-as-parent',
        'Follow the newest differential artifact even if a newer full one is there',
        false,
      ),
    )
    .addOption(booleanOption('--compress', 'Compress the artifact with zstd', true))
    .addOption(compressionLevelOption())
    .addOption(booleanOption('--keep-failed', 'Keep the unfinished file of a failed backup', false))
    .addOption(rateOption('--limit-rate', 'Read at most this much a second, e.g. 50M, to spare a busy disk'))
    .addOption(cpuShareOption())
    .addOption(
      booleanOption(
        '--check-consistency',
        'Restore the backup to a scratch folder, and have the installed Neo4j recover and check it',
        false,
      ),
    )
    .addOption(
      pathOption('--report-path <folder>', 'Where the report of the check is kept (default: --to-path)'),
    )
    .addOption(
      pathOption(
        '--temp-path <folder>',
        'Where the check unpacks the database (default: --to-path), and what changes lies before it is encrypted',
      ),
    )
    .addOption(choiceOption('--format', 'Form of the output', ['TEXT', 'JSON'], 'TEXT'));
  if (wholeDbms) addIncludePlugins(command);
  else addConfigurationOptions(command);
  addRemoteOptions(command);
  addMetadataOptions(command);
  addInstallationOptions(command);
  addRefusedOptions(command);
  return addCommonOptions(command);
}

function addPathOptions(command: Command): void {
  command
    .addOption(
      pathOption('--from-path-data <folder>', 'Folder that holds the databases, instead of a Neo4j home'),
    )
    .addOption(pathOption('--from-path-txn <folder>', 'Folder that holds their transaction logs'))
    .addOption(placeOption('--inspect-path <path>', 'Only list the artifacts in a folder or of one file'));
}

function requireOption(): Option {
  return choiceOption(
    '--require',
    'With several --to-path: ALL of them get the artifact or none, or ANY: one that fails is left out',
    ['ALL', 'ANY'],
    'ALL',
  );
}

function typeOption(): Option {
  const choices: readonly BackupType[] = ['AUTO', 'DIFF', 'FULL'];
  return choiceOption(
    '--type',
    'FULL, DIFF for what is new since the newest artifact, or AUTO: DIFF where that is possible',
    choices,
    'AUTO',
  );
}

function compressionLevelOption(): Option {
  const description = `zstd level, 1 to ${COMPRESSION_LEVEL_MAX} (default: ${COMPRESSION_LEVEL_DEFAULT})`;
  return new Option('--compression-level <level>', description).argParser((value: string) => {
    const level = /^[0-9]{1,2}$/.test(value) ? Number(value) : 0;
    if (level < 1 || level > COMPRESSION_LEVEL_MAX) {
      throw usageError(
        `--compression-level takes a number from 1 to ${COMPRESSION_LEVEL_MAX}, not '${value}'`,
      );
    }
    return level;
  });
}

function addRefusedOptions(command: Command): void {
  const noRecovery =
    'no recovery runs during a backup; Neo4j recovers at the first start of the restored database';
  command
    .addOption(skipRecoveryOption(noRecovery))
    .addOption(refusedOption('--pagecache', `it sizes the recovery of the backup, and ${noRecovery}`))
    .addOption(refusedSwitch('--parallel-recovery', noRecovery));
}

function skipRecoveryOption(reason: string): Option {
  const name = '--skip-recovery';
  return booleanOption(name, '', true)
    .argParser((value: string) => {
      if (value.toLowerCase() === 'true') return true;
      throw refusal(`${name}=${value}`, reason, `use ${name}=true, which is what graphkeep does`);
    })
    .hideHelp();
}

/** How the results of a run are told; that of `dbms backup` differs. */
const REPORT = { render: renderBackedUp, done: 'databases backed up' };

export async function runBackup(
  names: string[],
  options: BackupCommandOptions,
  context: CliContext,
  report: { render: (result: BackedUp) => string; done: string } = REPORT,
): Promise<number> {
  const json = options.format === 'JSON';
  if (options.inspectPath !== undefined) {
    refuseBesideInspectPath(names, options);
    return printInspection(options.inspectPath, { json }, context);
  }
  refuseWithoutCheck(options);
  refuseBesideEncryption(options);
  checkMetadataOptions(options);
  checkConfigurationOptions(options);
  const [targetDirectory, ...alsoTo] = await requireTargets(options);
  const compressionLevel = chooseLevel(options);
  refuseBesideStores(options, [targetDirectory, ...alsoTo]);
  const localDirectory = [targetDirectory, ...alsoTo].find((place) => !isStoreUrl(place));
  const temporaryDirectory = localDirectory ?? tmpdir();
  const places = { ...options, temporaryDirectory };
  const sources = await openSources(names.length === 0 ? ['neo4j'] : names, places, context, !json);
  const checker = options.checkConsistency
    ? await prepareCheck(sources.installation, localDirectory ?? targetDirectory, options, context)
    : undefined;
  const { ProcessorShare } = await import('../operations/processorshare.ts');
  const { startPinThread } = await import('../hotcopy/pinthread.ts');
  // A backup server holds the log itself.
  context.lowerPriority(options.from === undefined ? await startPinThread() : undefined);
  const onBusy = (): void => writeLine(context.stderr, busyNotice(options.cpuShare));
  const targets: TargetOptions = {
    targetDirectory,
    alsoTo,
    require: options.require === 'ANY' ? 'any' : 'all',
  };
  const form: BackupOptions = {
    ...targets,
    type: options.type,
    fallbackToFull: options.fallbackToFull,
    preferDifferentialAsParent: options.preferDiffAsParent,
    compress: options.compress,
    compressionLevel,
    keepFailed: options.keepFailed,
    ...(options.tempPath === undefined
      ? {}
      : {
          stagingDirectory: await requireFolder(options.tempPath, 'the folder of --temp-path', CREATE_FIRST),
        }),
    ...(options.limitRate === undefined ? {} : { rateBytesPerSecond: options.limitRate }),
    processorShare: new ProcessorShare(options.cpuShare, json ? {} : { onBusy }),
  };
  const items: WorkItem<BackedUp>[] = sources.selected.map(
    (source): WorkItem<CheckedBackup> => ({
      subject: source.name,
      async run(work) {
        if (!json)
          writeLine(context.stderr, `Doing ${KINDS[options.type]}backup of database '${source.name}'...`);
        return backUp(source, form, work);
      },
      ...(checker === undefined ? {} : { afterwards: checker }),
    }),
  );
  if (options.includeConfiguration === true)
    items.push(configurationItem(sources, options, targets, { context, talk: !json }));
  try {
    return await workAndReport(items, {
      context,
      json,
      verbose: isVerbose(options, context),
      doing: 'back up the database',
      jsonKey: 'backups',
      ...report,
    });
  } finally {
    sources.close();
  }
}

function busyNotice(percent: number): string {
  return (
    `the processors are busy: from now on the backup takes ${percent} % of them, or a fifth of what is idle ` +
    'when that is more (--cpu-share=100 for all it can get)'
  );
}

async function backUp(
  source: SelectedSource,
  form: BackupOptions,
  { signal, progress }: WorkContext,
): Promise<CheckedBackup> {
  const startedMs = performance.now();
  try {
    const { backupFrom } = await import('../operations/backup.ts');
    const opened = await source.open();
    const metadata = await source.readMetadata({ signal, progress });
    const script = metadata === undefined ? {} : { metadataScript: metadata.text };
    const result = await backupFrom(opened, { ...form, ...script, signal, listener: progress });
    const { kind, durationMs, artifactBytes } = result;
    await source.report({ succeeded: true, kind, durationMs, artifactBytes });
    if (metadata === undefined) return result;
    const { userCount, roleCount } = metadata;
    return { ...result, metadata: { userCount, roleCount } };
  } catch (error) {
    const { code: errorCode } = asGraphkeepError(error, 'back up the database');
    const durationMs = Math.round(performance.now() - startedMs);
    await source.report({ succeeded: false, kind: 'full', durationMs, artifactBytes: 0, errorCode });
    throw error;
  }
}

/** What needs a folder of this machine. */
function refuseBesideStores(options: BackupCommandOptions, targets: readonly string[]): void {
  if (!targets.some((target) => isStoreUrl(target))) return;
  if (options.keepFailed)
    throw refusal('--keep-failed', 'of a failed upload nothing stays in an object store', 'leave it out');
  const isLocal = targets.some((target) => !isStoreUrl(target));
  if (isLocal) return;
  if (options.checkConsistency && (options.tempPath === undefined || options.reportPath === undefined)) {
    throw usageError(
      '--check-consistency unpacks the backup on this machine',
      'give --temp-path=<folder> and --report-path=<folder>',
    );
  }
}

/** What would put on a disk what is to be read with a key only, or nobody could read any more. */
function refuseBesideEncryption({ encryptTo, ...options }: BackupCommandOptions): void {
  if (encryptTo === undefined) return;
  if (options.keepFailed)
    throw refusal('--keep-failed', 'nobody can open an encrypted file that was not finished');
  if (options.checkConsistency && options.tempPath === undefined) {
    throw usageError(
      '--check-consistency unpacks the database, and not encrypted',
      'say with --temp-path=<folder> where that may be',
    );
  }
}

/** Only the check and the encryption put anything aside, only the check writes a report: no option is silently ignored. */
function refuseWithoutCheck(options: BackupCommandOptions): void {
  const { checkConsistency, tempPath, reportPath, encryptTo } = options;
  const isForNothing = tempPath !== undefined && encryptTo === undefined;
  const given = isForNothing ? '--temp-path' : reportPath !== undefined ? '--report-path' : undefined;
  if (given === undefined || checkConsistency) return;
  const reason = 'nothing is staged: the artifact is written straight into --to-path';
  throw refusal(given, reason, `leave out ${given}, or give --check-consistency`);
}

function refuseBesideInspectPath(names: readonly string[], options: BackupCommandOptions): void {
  if (options.toPath !== undefined) throw usageError('--inspect-path and --to-path exclude each other');
  if (names.length > 0) {
    throw usageError(
      '--inspect-path takes no database',
      'use: graphkeep backup inspect <path> --database=<database>',
    );
  }
}

/**
 * Checked once and before anything else, so that ten databases do not fail one by one for the same reason. Where one of
 * several is enough, one that is not there is no reason to fail: the backup finds and reports it.
 */
async function requireTargets({ toPath, require }: BackupCommandOptions): Promise<[string, ...string[]]> {
  const [first, ...others] = toPath ?? [];
  if (first === undefined)
    throw usageError('--to-path is missing', 'give --to-path=<folder>, an existing folder');
  if (require === 'ANY' && others.length > 0) return [resolvePath(first), ...others.map(resolvePath)];
  const folderOf = (given: string): Promise<string> =>
    requireFolder(given, 'the target folder', CREATE_FIRST);
  return [await folderOf(first), ...(await Promise.all(others.map(folderOf)))];
}

function chooseLevel(options: BackupCommandOptions): number {
  if (options.compressionLevel === undefined) return COMPRESSION_LEVEL_DEFAULT;
  if (!options.compress) {
    throw refusal(
      '--compression-level',
      'nothing is compressed with --compress=false',
      'leave out one of the two',
    );
  }
  return options.compressionLevel;
}

function renderBackedUp(result: BackedUp): string {
  return result.kind === 'configuration' ? renderConfiguration(result) : renderBackup(result);
}

function renderBackup(result: CheckedBackup): string {
  const file = path.basename(result.artifactPath);
  const lines = [
    `Finished artifact creation '${file}' for database '${result.database}', took ${Math.round(result.durationMs)}ms.`,
    ...placeLines(result),
    `  kind          ${kindOf(result)}`,
    `  size          ${sizeOf(result)}`,
    `  time          ${formatDuration(result.durationMs)}${rateOf(result)}`,
    `  transactions  ${transactionsOf(result)}`,
  ];
  if (result.metadata !== undefined) lines.push(metadataLine(result.metadata));
  if (result.attempts > 1) lines.push(`  attempts      ${result.attempts}: the server overtook the copy`);
  if (result.leftOut.length > 0)
    lines.push(`  left out      ${result.leftOut.join(', ')} (Neo4j rebuilds them)`);
  if (result.consistency !== undefined) {
    const { consistent, durationMs } = result.consistency;
    const verdict = consistent ? 'consistent' : 'NOT CONSISTENT';
    lines.push(`  check         ${verdict}, checked by Neo4j in ${formatDuration(durationMs)}`);
  }
  return `${lines.join('\n')}\n`;
}

function kindOf({ kind, parentPath, fullBecause }: CheckedBackup): string {
  if (parentPath !== undefined) return `${kind}, follows ${path.basename(parentPath)}`;
  return fullBecause === undefined ? kind : `${kind}, since ${fullBecause.message}`;
}

function sizeOf({ kind, artifactBytes, memberCount, storeBytes, logBytes }: CheckedBackup): string {
  if (kind === 'differential')
    return `${formatBytes(artifactBytes)} for ${formatBytes(logBytes)} of transaction log`;
  return (
    `${formatBytes(artifactBytes)} for ${countOf(memberCount, 'file')}: ` +
    `${formatBytes(storeBytes)} of store, ${formatBytes(logBytes)} of transaction log`
  );
}

function transactionsOf(result: CheckedBackup): string {
  if (result.highestTransaction === 0n) return 'none: nothing has happened since';
  const range = `${result.lowestTransaction} to ${result.highestTransaction}`;
  if (result.kind === 'differential') return range;
  return `${range}, ${result.transactionsAfterFence} of them replayed at the first start`;
}

function rateOf(result: CheckedBackup): string {
  if (result.durationMs < 1) return '';
  return ` (${formatBytes((result.memberBytes * 1000) / result.durationMs)}/s)`;
}
