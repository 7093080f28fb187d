/** `backup validate`: reads artifacts and configurations to their end, and says whether each is whole and how they fit. */
import path from 'node:path';
import type { Command } from 'commander';
import { ERROR_TABLE, GraphkeepError } from '../errors.ts';
import { listConfigurationArtifacts } from '../operations/configurationnames.ts';
import type { ConfigurationVerdict } from '../operations/configurationvalidate.ts';
import type { ArtifactSummary, ChainVerdict, ValidateResult } from '../operations/types.ts';
import { resolvePath } from '../storage/places.ts';
import { type CliContext, type CommandOutcome, isVerbose, writeLine } from './context.ts';
import { addIdentityOption } from './encryptionoptions.ts';
import { isConfigurationArtifact } from './inspectconfiguration.ts';
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
what can still be restored. So are its configurations, unless --database is given. Exit status: 0 when all is
well, 65 when an artifact or a configuration is damaged, 85 when a chain is broken.
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
  const selected: SelectedFiles = { files: new Set(), configurations: new Set(), listed: [] };
  for (const item of given) await selectFiles(resolvePath(item), options.database, selected);
  const { endsToWatch, judgeChains, validateArtifact } = await import('../operations/validate.ts');
  const { validateConfiguration } = await import('../operations/configurationvalidate.ts');
  const watched = endsToWatch(selected.listed);
  const artifactItems = [...selected.files].map(
    (file): WorkItem<Verdict> => ({
      subject: path.basename(file),
      run: async ({ signal, progress }) => ({
        artifact: await validateArtifact(file, { signal, listener: progress, watched }),
      }),
    }),
  );
  const configurationItems = [...selected.configurations].map(
    (file): WorkItem<Verdict> => ({
      subject: path.basename(file),
      run: async ({ signal }) => ({ configuration: await validateConfiguration(file, signal) }),
    }),
  );
  const summary = await workThrough([...artifactItems, ...configurationItems], {
    context,
    talk: !json,
    verbose: isVerbose(options, context),
    doing: 'validate the artifact',
    // No print: verdicts and errors come together in a table at the end.
  });
  const chains = judgeChains(selected.listed, artifactsOf(summary));
  if (json) context.stdout.write(renderJson(jsonSummary(summary, selected, chains)));
  else {
    printArtifacts(summary, context);
    printConfigurations(summary, context);
    printErrors(summary, isVerbose(options, context), context);
    if (chains.length > 0) context.stdout.write(`\n${renderChains(chains)}`);
  }
  return validateExitStatus(summary, chains);
}

type Verdict = { readonly artifact: ValidateResult } | { readonly configuration: ConfigurationVerdict };

function artifactsOf({ outcomes }: WorkSummary<Verdict>): ValidateResult[] {
  return outcomes.flatMap(({ result }) =>
    result !== undefined && 'artifact' in result ? result.artifact : [],
  );
}

function configurationsOf({ outcomes }: WorkSummary<Verdict>): ConfigurationVerdict[] {
  return outcomes.flatMap(({ result }) =>
    result !== undefined && 'configuration' in result ? result.configuration : [],
  );
}

interface SelectedFiles {
  readonly files: Set<string>;
  readonly configurations: Set<string>;
  /** Artifacts of folders: only of these it is known what else there is, so only they are judged as chains. */
  readonly listed: ArtifactSummary[];
}

/** Unreadable files of a folder stay in the list, whatever `--database` says: nobody knows whose they are. */
async function selectFiles(
  given: string,
  database: string | undefined,
  { files, configurations, listed }: SelectedFiles,
): Promise<void> {
  if (!(await isFolder(given, 'the path'))) {
    (isConfigurationArtifact(given) ? configurations : files).add(given);
    return;
  }
  const { inspectArtifacts } = await import('../operations/inspect.ts');
  const { artifacts, unreadable } = await inspectArtifacts(given, { isFile: false });
  const wanted = database?.toLowerCase();
  const chosen = artifacts.filter(
    (artifact) => wanted === undefined || artifact.database.toLowerCase() === wanted,
  );
  const paths = [...chosen, ...unreadable].map((artifact) => artifact.path).sort();
  const beside = database === undefined ? await listConfigurationArtifacts(given) : [];
  if (paths.length + beside.length === 0) {
    const whose = database === undefined ? '' : ` of database '${database}'`;
    throw new GraphkeepError('GK_NOT_FOUND', `no artifact${whose} in ${given}`);
  }
  for (const file of paths) files.add(file);
  for (const file of beside) configurations.add(file);
  listed.push(...chosen);
}

function printArtifacts(summary: WorkSummary<Verdict>, context: CliContext): void {
  const results = artifactsOf(summary);
  const rows = results.map((result) => [result.database ?? '?', result.path, statusOf(result)]);
  if (rows.length > 0) context.stdout.write(renderTable(['DATABASE', 'PATH', 'STATUS'], rows));
  for (const result of results) {
    for (const problem of result.problems.slice(1)) writeLine(context.stdout, `${result.path}: ${problem}`);
    for (const warning of result.warnings) writeLine(context.stderr, `note: ${result.path}: ${warning}`);
  }
}

function printConfigurations(summary: WorkSummary<Verdict>, context: CliContext): void {
  const rows = configurationsOf(summary).map((result) => [
    String(result.memberCount),
    result.path,
    statusOf(result),
  ]);
  const separator = artifactsOf(summary).length > 0 ? '\n' : '';
  if (rows.length > 0)
    context.stdout.write(`${separator}${renderTable(['FILES', 'CONFIGURATION', 'STATUS'], rows)}`);
}

function statusOf({ valid, problems }: Pick<ValidateResult, 'valid' | 'problems'>): string {
  return valid ? 'OK' : (problems[0] ?? 'not valid');
}

function printErrors(summary: WorkSummary<Verdict>, verbose: boolean, { stderr }: CliContext): void {
  for (const { subject, error } of summary.outcomes) {
    if (error !== undefined) stderr.write(renderError(error, { verbose, subject }));
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

/** The outcomes are in the order of the files, those of configurations behind those of artifacts. */
function jsonSummary(
  { outcomes }: WorkSummary<Verdict>,
  selected: SelectedFiles,
  chains: readonly ChainVerdict[],
): Record<string, unknown> {
  const paths = [...selected.files, ...selected.configurations];
  const rows = outcomes.map(({ result, error }, index) => ({
    ...(result === undefined ? { path: paths[index], valid: false } : jsonOf(result)),
    ...(error === undefined ? {} : { error: errorFields(error) }),
  }));
  const valid = [...rows, ...chains].every((judged) => judged.valid);
  const artifacts = rows.slice(0, selected.files.size);
  return { valid, artifacts, configurations: rows.slice(selected.files.size), chains };
}

function jsonOf(verdict: Verdict): ConfigurationVerdict | ReturnType<typeof jsonResult> {
  return 'artifact' in verdict ? jsonResult(verdict.artifact) : verdict.configuration;
}

function jsonResult({
  summary,
  seenChecksums,
  ...shown
}: ValidateResult): Omit<ValidateResult, 'seenChecksums'> {
  return shown;
}

/** Damage comes before a gap: a gap may be on purpose, and damage never is. */
function validateExitStatus(summary: WorkSummary<Verdict>, chains: readonly ChainVerdict[]): number {
  const damaged = [...artifactsOf(summary), ...configurationsOf(summary)].some(({ valid }) => !valid);
  if (damaged) return ERROR_TABLE.GK_ARTIFACT_CORRUPT.exitStatus;
  if (summary.exitStatus !== 0) return summary.exitStatus;
  const broken = chains.some((chain) => !chain.valid);
  return broken ? ERROR_TABLE.GK_CHAIN_BROKEN.exitStatus : 0;
}
