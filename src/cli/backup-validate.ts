/** `backup validate`: reads every byte of artifacts and says whether each is whole and how they fit together. */
import path from 'node:path';
import type { Command } from 'commander';
import { ERROR_TABLE, GraphkeepError } from '../errors.ts';
import type { ArtifactSummary, ChainVerdict, ValidateResult } from '../operations/types.ts';
import { resolvePath } from '../storage/places.ts';
import { type CliContext, type CommandOutcome, isVerbose, writeLine } from './context.ts';
import { addIdentityOption } from './encryptionoptions.ts';
import {
  addCommonOptions,
  choiceOption,
  parsePlace,
  placeOption,
  refusedOption,
  usageError,
} from './options.ts';
import { isFolder } from './paths.ts';
import { errorFields, renderError, renderJson, renderTable } from './render.ts';
import { addStoreOptions } from './storeoptions.ts';
import { type WorkItem, type WorkSummary, workThrough } from './work.ts';

interface ValidateCommandOptions {
  fromPath?: string;
  database?: string;
  format?: string;
  verbose: boolean;
}

const EXAMPLES = `
Examples:
  $ graphkeep backup validate /backups/neo4j-2026-08-07T16-05-37.backup
  $ graphkeep backup validate --from-path=/backups --database=neo4j
  $ graphkeep backup validate /backups --format=JSON

Of a folder, the chains are judged as well: whether every differential artifact has what it builds on, and
what can still be restored. Exit status: 0 when all is well, 65 when an artifact is damaged, 85 when a chain
is broken.
`;

export function addBackupValidate(parent: Command, context: CliContext, outcome: CommandOutcome): void {
  const command = parent
    .command('validate')
    .summary('Prove that artifacts are whole and fit together')
    .description(
      'Reads artifacts from end to end: container, size and hash of every file in it, and the log without a gap.',
    )
    .argument('[backup-path...]', 'files or folders')
    .addOption(placeOption('--from-path <folder>', 'Folder whose artifacts are checked'))
    .option('--database <database>', 'Only the artifacts of this database')
    .addOption(choiceOption('--format', 'Form of the output', ['TABULAR', 'JSON'], 'TABULAR'))
    .addOption(
      refusedOption('--additional-config', 'no configuration is read: an artifact describes itself'),
    );
  addStoreOptions(command, context);
  addIdentityOption(command, context);
  addCommonOptions(command).addHelpText('after', EXAMPLES);
  command.action(async (paths: string[], options: ValidateCommandOptions) => {
    const given = paths.map((value) => parsePlace('<backup-path>', value));
    if (options.fromPath !== undefined) given.push(options.fromPath);
    if (given.length === 0)
      throw usageError('no artifact is given', 'give a file or folder, or --from-path=<folder>');
    outcome.exitStatus = await runValidate(given, options, context);
  });
}

async function runValidate(
  given: readonly string[],
  options: ValidateCommandOptions,
  context: CliContext,
): Promise<number> {
  const json = options.format === 'JSON';
  const selected: SelectedFiles = { files: new Set(), listed: [] };
  for (const item of given) await selectFiles(resolvePath(item), options.database, selected);
  const { endsToWatch, judgeChains, validateArtifact } = await import('../operations/validate.ts');
  const watched = endsToWatch(selected.listed);
  const files = [...selected.files];
  const items = files.map(
    (file): WorkItem<ValidateResult> => ({
      subject: path.basename(file),
      run: ({ signal, progress }) => validateArtifact(file, { signal, listener: progress, watched }),
    }),
  );
  const summary = await workThrough(items, {
    context,
    talk: !json,
    verbose: isVerbose(options, context),
    doing: 'validate the artifact',
    // No print: verdicts and errors come together in a table at the end.
  });
  const results = summary.outcomes.flatMap((outcome) => outcome.result ?? []);
  const chains = judgeChains(selected.listed, results);
  if (json) context.stdout.write(renderJson(jsonSummary(summary, files, chains)));
  else {
    printTable(summary, isVerbose(options, context), context);
    if (chains.length > 0) context.stdout.write(`\n${renderChains(chains)}`);
  }
  return validateExitStatus(summary, chains);
}

interface SelectedFiles {
  readonly files: Set<string>;
  /** Artifacts of folders: only of these it is known what else there is, so only they are judged as chains. */
  readonly listed: ArtifactSummary[];
}

/** Unreadable files of a folder stay in the list, whatever `--database` says: nobody knows whose they are. */
async function selectFiles(
  given: string,
  database: string | undefined,
  { files, listed }: SelectedFiles,
): Promise<void> {
  if (!(await isFolder(given, 'the path'))) {
    files.add(given);
    return;
  }
  const { inspectArtifacts } = await import('../operations/inspect.ts');
  const { artifacts, unreadable } = await inspectArtifacts(given, { isFile: false });
  const wanted = database?.toLowerCase();
  const chosen = artifacts.filter(
    (artifact) => wanted === undefined || artifact.database.toLowerCase() === wanted,
  );
  const paths = [...chosen, ...unreadable].map((artifact) => artifact.path).sort();
  if (paths.length === 0) {
    const whose = database === undefined ? '' : ` of database '${database}'`;
    throw new GraphkeepError('GK_NOT_FOUND', `no artifact${whose} in ${given}`);
  }
  for (const file of paths) files.add(file);
  listed.push(...chosen);
}

function printTable(summary: WorkSummary<ValidateResult>, verbose: boolean, context: CliContext): void {
  const results = summary.outcomes.flatMap((outcome) => outcome.result ?? []);
  const rows = results.map((result) => [
    result.database ?? '?',
    result.path,
    result.valid ? 'OK' : (result.problems[0] ?? 'not valid'),
  ]);
  if (rows.length > 0) context.stdout.write(renderTable(['DATABASE', 'PATH', 'STATUS'], rows));
  for (const result of results) {
    for (const problem of result.problems.slice(1)) writeLine(context.stdout, `${result.path}: ${problem}`);
    for (const warning of result.warnings) writeLine(context.stderr, `note: ${result.path}: ${warning}`);
  }
  for (const { subject, error } of summary.outcomes) {
    if (error !== undefined) context.stderr.write(renderError(error, { verbose, subject }));
  }
}

const CHAIN_COLUMNS = ['DATABASE', 'CHAIN', 'ARTIFACTS', 'RESTORABLE TX', 'STATUS'];

function renderChains(chains: readonly ChainVerdict[]): string {
  const rows = chains.map((chain) => [
    chain.database,
    path.basename(chain.artifacts[0] ?? ''),
    String(chain.artifacts.length),
    chain.restorable === undefined ? 'nothing' : `${chain.restorable.from} to ${chain.restorable.to}`,
    chain.problems[0] ?? 'OK',
  ]);
  return renderTable(CHAIN_COLUMNS, rows);
}

/** `files` in the order of the outcomes. */
function jsonSummary(
  summary: WorkSummary<ValidateResult>,
  files: readonly string[],
  chains: readonly ChainVerdict[],
): Record<string, unknown> {
  const artifacts = summary.outcomes.map(({ result, error }, index) => ({
    ...(result === undefined ? { path: files[index], valid: false } : jsonResult(result)),
    ...(error === undefined ? {} : { error: errorFields(error) }),
  }));
  const valid = [...artifacts, ...chains].every((judged) => judged.valid);
  return { valid, artifacts, chains };
}

function jsonResult({
  summary,
  seenChecksums,
  ...shown
}: ValidateResult): Omit<ValidateResult, 'seenChecksums'> {
  return shown;
}

/** Damage comes before a gap: a gap may be on purpose, and damage never is. */
function validateExitStatus(summary: WorkSummary<ValidateResult>, chains: readonly ChainVerdict[]): number {
  const damaged = summary.outcomes.some((outcome) => outcome.result?.valid === false);
  if (damaged) return ERROR_TABLE.GK_ARTIFACT_CORRUPT.exitStatus;
  if (summary.exitStatus !== 0) return summary.exitStatus;
  const broken = chains.some((chain) => !chain.valid);
  return broken ? ERROR_TABLE.GK_CHAIN_BROKEN.exitStatus : 0;
}
