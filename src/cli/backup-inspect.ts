/** `backup inspect`: the headers of artifacts as a table or as JSON. Also what `backup --inspect-path` prints. */
import path from 'node:path';
import type { Command } from 'commander';
import { isEmptyDifferential, newestFirst } from '../chain/summary.ts';
import type { ArtifactSummary, ChainOverview, InspectResult } from '../operations/types.ts';
import { resolvePath, urlOf } from '../storage/places.ts';
import { type CliContext, type CommandOutcome, writeLine } from './context.ts';
import { addIdentityOption } from './encryptionoptions.ts';
import {
  isConfigurationArtifact,
  printConfiguration,
  printConfigurationsOf,
} from './inspectconfiguration.ts';
import {
  addCommonOptions,
  booleanOption,
  choiceOption,
  parsePlace,
  refusedOption,
  usageError,
} from './options.ts';
import { isFolder } from './paths.ts';
import { formatTime, renderJson, renderTable } from './render.ts';
import { addStoreOptions } from './storeoptions.ts';

interface InspectCommandOptions {
  latestBackup: boolean;
  latestChain: boolean;
  database?: string;
  empty: boolean;
  showMetadata?: boolean;
  format?: string;
  verbose: boolean;
}

export interface InspectionView {
  readonly json: boolean;
  readonly database?: string | undefined;
  readonly latestBackup?: boolean;
  readonly latestChain?: boolean;
  readonly empty?: boolean;
}

const EXAMPLES = `
Examples:
  $ graphkeep backup inspect /backups
  $ graphkeep backup inspect /backups --latest-backup --database=neo4j
  $ graphkeep backup inspect /backups/neo4j-2026-08-07T16-05-37.backup --format=JSON

Encrypted artifacts are listed with --identity, or by what they say themselves if they were written with
--clear-header, which proves nothing.
Only the headers are read; whether the content is whole is the question of 'graphkeep backup validate'.
`;

export function addBackupInspect(parent: Command, context: CliContext, outcome: CommandOutcome): void {
  const command = parent
    .command('inspect')
    .summary('List artifacts and what they hold')
    .description(
      'Lists the artifacts in a folder, or one file: database, time, kind and range of transactions.',
    )
    .argument('<backup-path>', 'folder or file')
    .addOption(booleanOption('--latest-backup', 'Only the newest artifact of each database', false))
    .addOption(
      booleanOption('--latest-chain', 'Only the chain that ends at the newest artifact or given file', false),
    )
    .option('--database <database>', 'Only the artifacts of this database')
    .addOption(booleanOption('--empty', 'List empty differential artifacts as well', false))
    .addOption(choiceOption('--format', 'Form of the output', ['TABULAR', 'JSON'], 'TABULAR'))
    .addOption(booleanOption('--show-metadata', '', false).hideHelp())
    .addOption(
      refusedOption('--additional-config', 'no configuration is read: an artifact describes itself'),
    );
  addStoreOptions(command, context);
  addIdentityOption(command, context);
  addCommonOptions(command).addHelpText('after', EXAMPLES);
  command.action(async (backupPath: string, options: InspectCommandOptions) => {
    if (options.latestBackup && options.latestChain) {
      throw usageError('--latest-backup and --latest-chain exclude each other');
    }
    if (options.showMetadata === true) {
      writeLine(context.stderr, 'note: --show-metadata has no effect, as in neo4j-admin since 2025.07');
    }
    const view = { ...options, json: options.format === 'JSON' };
    outcome.exitStatus = await printInspection(parsePlace('<backup-path>', backupPath), view, context);
  });
}

export async function printInspection(
  backupPath: string,
  view: InspectionView,
  context: CliContext,
): Promise<number> {
  const { inspectArtifacts, inspectLatestChain } = await import('../operations/inspect.ts');
  const absolutePath = resolvePath(backupPath);
  const isFile = !(await isFolder(absolutePath, 'the path'));
  if (isFile && isConfigurationArtifact(absolutePath))
    return printConfiguration(absolutePath, view.json, context);
  if (view.latestChain === true) {
    const artifacts = await inspectLatestChain(absolutePath, view.database, { isFile });
    printResult({ artifacts, unreadable: [], chains: [] }, view, context);
    return 0;
  }
  const { artifacts, unreadable, chains } = await inspectArtifacts(absolutePath, {
    isFile,
    sealed: 'withSealed',
  });
  const shown = {
    artifacts: selectArtifacts(artifacts, view),
    unreadable,
    chains: view.latestBackup === true ? [] : chains.filter((chain) => isWanted(chain, view)),
  };
  printResult(shown, view, context);
  const wholeFolder = !isFile && !view.json && view.latestBackup !== true && view.database === undefined;
  if (wholeFolder) await printConfigurationsOf(absolutePath, context);
  return 0;
}

function printResult(result: InspectResult, view: InspectionView, context: CliContext): void {
  if (view.json) {
    const { artifacts, ...rest } = result;
    context.stdout.write(renderJson({ artifacts: artifacts.map(jsonRow), ...rest }));
    return;
  }
  context.stdout.write(renderArtifacts(result.artifacts));
  for (const chain of result.chains) writeLine(context.stdout, renderChain(chain));
  printUnreadable(result, context);
}

/** No table row: who reads the table by its bars is not to take this for an artifact. */
export function renderChain({ database, artifacts, restorable }: ChainOverview): string {
  const { from, to, fromTime, toTime } = restorable;
  const first = path.basename(artifacts[0] ?? '');
  const range = from === to ? `to transaction ${to}` : `to any transaction from ${from} to ${to}`;
  const time = `${formatTime(fromTime)} to ${formatTime(toTime)} UTC`;
  return `${database}: ${first} and ${artifacts.length - 1} after it can be restored ${range}, ${time}`;
}

function isWanted({ database }: { database: string }, view: InspectionView): boolean {
  return view.database === undefined || database.toLowerCase() === view.database.toLowerCase();
}

function printUnreadable(result: InspectResult, context: CliContext): void {
  for (const { path: file, code, message } of result.unreadable) {
    const hint = code === 'GK_KEY_MISSING' ? '; give --identity=<file>' : '';
    writeLine(context.stderr, `note: ${file} is left out: ${message}${hint}`);
  }
}

/** Newest first per database. Empty differentials only if they were asked for. */
export function selectArtifacts(
  artifacts: readonly ArtifactSummary[],
  view: InspectionView,
): ArtifactSummary[] {
  const listed = artifacts
    .filter((artifact) => isWanted(artifact, view))
    .filter((artifact) => view.empty === true || !isEmptyDifferential(artifact))
    .toSorted(newestFirst);
  return view.latestBackup === true ? newestOfEach(listed) : listed;
}

function newestOfEach(sorted: readonly ArtifactSummary[]): ArtifactSummary[] {
  const seen = new Set<string>();
  return sorted.filter(({ database }) => !seen.has(database) && seen.add(database));
}

const COLUMNS = [
  'FILE',
  'DATABASE',
  'DATABASE ID',
  'TIME (UTC)',
  'FULL',
  'COMPRESSED',
  'LOWEST TX',
  'HIGHEST TX',
  'STORE ID HASH',
  'RECOVERED',
] as const;

/** The columns of neo4j-admin, and one more where something is encrypted. */
export function renderArtifacts(artifacts: readonly ArtifactSummary[]): string {
  if (artifacts.every(({ encrypted }) => encrypted === undefined))
    return renderTable(COLUMNS, artifacts.map(tableRow));
  const rows = artifacts.map((artifact) => [...tableRow(artifact), ENCRYPTED[artifact.encrypted ?? 'no']]);
  return renderTable([...COLUMNS, 'ENCRYPTED'], rows);
}

const ENCRYPTED = { no: 'false', opened: 'true', sealed: 'true, not proven' } as const;

function tableRow(artifact: ArtifactSummary): string[] {
  return [
    urlOf(artifact.path),
    artifact.database,
    artifact.databaseId,
    formatTime(artifact.time),
    String(artifact.full),
    String(artifact.compressed),
    String(artifact.lowestTransaction),
    String(artifact.highestTransaction),
    String(artifact.storeIdHash),
    String(artifact.recovered),
  ];
}

function jsonRow({
  time,
  latestCommit,
  end,
  storeKey,
  ...artifact
}: ArtifactSummary): Record<string, unknown> {
  return {
    file: urlOf(artifact.path),
    ...artifact,
    time: time === undefined ? null : formatTime(time),
    ...(latestCommit === undefined ? {} : { latestCommit: latestCommit.toISOString() }),
  };
}
