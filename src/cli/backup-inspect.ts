/** `backup inspect`: the headers of artifacts as a table or as JSON. Also what `backup --inspect-path` prints. */
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Command } from 'commander';
import { GraphkeepError } from '../errors.ts';
import type { ArtifactSummary, InspectResult } from '../operations/types.ts';
import { type CliContext, type CommandOutcome, writeLine } from './context.ts';
import {
  addCommonOptions,
  booleanOption,
  choiceOption,
  parseLocalPath,
  refusedOption,
  usageError,
} from './options.ts';
import { isFolder } from './paths.ts';
import { renderJson, renderTable } from './render.ts';

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
  addCommonOptions(command).addHelpText('after', EXAMPLES);
  command.action(async (backupPath: string, options: InspectCommandOptions) => {
    if (options.latestBackup && options.latestChain) {
      throw usageError('--latest-backup and --latest-chain exclude each other');
    }
    if (options.showMetadata === true) {
      writeLine(context.stderr, 'note: --show-metadata has no effect, as in neo4j-admin since 2025.07');
    }
    const view = { ...options, json: options.format === 'JSON' };
    outcome.exitStatus = await printInspection(parseLocalPath('<backup-path>', backupPath), view, context);
  });
}

export async function printInspection(
  backupPath: string,
  view: InspectionView,
  context: CliContext,
): Promise<number> {
  const { inspectArtifacts } = await import('../operations/inspect.ts');
  const absolutePath = path.resolve(backupPath);
  await isFolder(absolutePath, 'the path');
  const result = await inspectArtifacts(absolutePath);
  const shown = selectArtifacts(result.artifacts, view, absolutePath);
  if (view.json) {
    context.stdout.write(renderJson({ artifacts: shown.map(jsonRow), unreadable: result.unreadable }));
  } else {
    context.stdout.write(renderArtifacts(shown));
    printUnreadable(result, context);
  }
  return 0;
}

function printUnreadable(result: InspectResult, context: CliContext): void {
  for (const { path: file, message } of result.unreadable) {
    writeLine(context.stderr, `note: ${file} is left out: ${message}`);
  }
}

/** Newest first per database; names, not numbers, order what has the same second. */
export function selectArtifacts(
  artifacts: readonly ArtifactSummary[],
  view: InspectionView,
  givenPath: string,
): ArtifactSummary[] {
  const wanted = view.database?.toLowerCase();
  const sorted = artifacts
    .filter((artifact) => wanted === undefined || artifact.database.toLowerCase() === wanted)
    .toSorted(compareArtifacts);
  if (view.latestChain === true) return latestChain(sorted, wanted, givenPath);
  const listed = sorted.filter((artifact) => view.empty === true || !isEmptyDifferential(artifact));
  return view.latestBackup === true ? newestOfEach(listed) : listed;
}

function compareArtifacts(first: ArtifactSummary, second: ArtifactSummary): number {
  return (
    compareText(first.database, second.database) ||
    (second.time?.getTime() ?? 0) - (first.time?.getTime() ?? 0) ||
    Number(second.highestTransaction - first.highestTransaction) ||
    compareText(second.path, first.path)
  );
}

function compareText(first: string, second: string): number {
  return first < second ? -1 : first > second ? 1 : 0;
}

function isEmptyDifferential(artifact: ArtifactSummary): boolean {
  return !artifact.full && artifact.lowestTransaction === 0n && artifact.highestTransaction === 0n;
}

function newestOfEach(sorted: readonly ArtifactSummary[]): ArtifactSummary[] {
  const seen = new Set<string>();
  return sorted.filter(({ database }) => !seen.has(database) && seen.add(database));
}

/**
 * From the newest artifact back to its full one, where each joins the one before it. Reading a chain that has a gap
 * as far as the gap would look like a chain that can be restored, so it is an error.
 */
function latestChain(
  sorted: readonly ArtifactSummary[],
  wanted: string | undefined,
  givenPath: string,
): ArtifactSummary[] {
  const isFile = sorted.some((artifact) => path.resolve(artifact.path) === givenPath);
  if (wanted === undefined && !isFile) {
    throw usageError(
      '--latest-chain in a folder needs --database',
      'give --database=<database>, or the path of a file',
    );
  }
  const candidates = sorted.filter((artifact) => !isEmptyDifferential(artifact));
  const chain: ArtifactSummary[] = [];
  for (const artifact of candidates) {
    const child = chain.at(-1);
    if (child !== undefined && !isParent(artifact, child)) continue;
    chain.push(artifact);
    if (artifact.full) return chain;
  }
  if (chain.length === 0) return chain;
  throw new GraphkeepError(
    'GK_NOT_FOUND',
    `the chain of ${chain.at(-1)?.path} is not complete: its parent is missing`,
  );
}

/** The full one may overlap the differential that follows it; differentials join without gap or overlap. */
function isParent(parent: ArtifactSummary, child: ArtifactSummary): boolean {
  if (parent.databaseId !== child.databaseId || parent.storeIdHash !== child.storeIdHash) return false;
  const joint = child.lowestTransaction - 1n;
  return parent.full
    ? parent.highestTransaction >= joint && parent.highestTransaction <= child.highestTransaction
    : parent.highestTransaction === joint;
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

export function renderArtifacts(artifacts: readonly ArtifactSummary[]): string {
  return renderTable(COLUMNS, artifacts.map(tableRow));
}

function tableRow(artifact: ArtifactSummary): string[] {
  return [
    pathToFileURL(artifact.path).href,
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

function jsonRow(artifact: ArtifactSummary): Record<string, unknown> {
  return {
    file: pathToFileURL(artifact.path).href,
    ...artifact,
    time: artifact.time === undefined ? null : formatTime(artifact.time),
  };
}

/** Whole seconds without zone, as `neo4j-admin` prints them; the column says that it is UTC. */
export function formatTime(time: Date | undefined): string {
  if (time === undefined) return 'unknown';
  return time.toISOString().slice(0, 'yyyy-MM-ddTHH:mm:ss'.length);
}
