/** `backup validate`: reads every byte of artifacts and says whether each is whole. */
import path from 'node:path';
import type { Command } from 'commander';
import { ERROR_TABLE, GraphkeepError } from '../errors.ts';
import type { ValidateResult } from '../operations/types.ts';
import { type CliContext, type CommandOutcome, isVerbose, writeLine } from './context.ts';
import {
  addCommonOptions,
  choiceOption,
  parseLocalPath,
  pathOption,
  refusedOption,
  usageError,
} from './options.ts';
import { isFolder } from './paths.ts';
import { errorFields, renderError, renderJson, renderTable } from './render.ts';
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

Exit status: 0 when every artifact is valid, 65 when one is not.
`;

export function addBackupValidate(parent: Command, context: CliContext, outcome: CommandOutcome): void {
  const command = parent
    .command('validate')
    .summary('Prove that artifacts are whole')
    .description(
      'Reads artifacts from end to end: container, size and hash of every file in it, and the log without a gap.',
    )
    .argument('[backup-path...]', 'files or folders')
    .addOption(pathOption('--from-path <folder>', 'Folder whose artifacts are checked'))
    .option('--database <database>', 'Only the artifacts of this database')
    .addOption(choiceOption('--format', 'Form of the output', ['TABULAR', 'JSON'], 'TABULAR'))
    .addOption(
      refusedOption('--additional-config', 'no configuration is read: an artifact describes itself'),
    );
  addCommonOptions(command).addHelpText('after', EXAMPLES);
  command.action(async (paths: string[], options: ValidateCommandOptions) => {
    const given = paths.map((value) => parseLocalPath('<backup-path>', value));
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
  const files = new Set<string>();
  for (const item of given) {
    for (const file of await artifactFiles(path.resolve(item), options.database)) files.add(file);
  }
  const { validateArtifact } = await import('../operations/validate.ts');
  const items = [...files].map(
    (file): WorkItem<ValidateResult> => ({
      subject: path.basename(file),
      async run({ signal, progress }) {
        try {
          return await validateArtifact(file, { signal, listener: progress });
        } catch (error) {
          return damagedResult(file, error);
        }
      },
    }),
  );
  const summary = await workThrough(items, {
    context,
    talk: !json,
    verbose: isVerbose(options, context),
    doing: 'validate the artifact',
    // No print: verdicts and errors come together in a table at the end.
  });
  if (json) context.stdout.write(renderJson(jsonSummary(summary, [...files])));
  else printTable(summary, isVerbose(options, context), context);
  return validateExitStatus(summary);
}

/** A file that is no artifact at all is an answer to the question, not a failure to ask it. */
function damagedResult(file: string, error: unknown): ValidateResult {
  if (!(error instanceof GraphkeepError) || error.code !== 'GK_ARTIFACT_CORRUPT') throw error;
  return {
    path: file,
    database: undefined,
    valid: false,
    problems: [error.message],
    warnings: [],
    memberCount: 0,
    memberBytes: 0,
    transactionsChecked: 0n,
    lowestTransaction: undefined,
    highestTransaction: undefined,
  };
}

/** Unreadable files of a folder stay in the list, whatever `--database` says: nobody knows whose they are. */
async function artifactFiles(given: string, database: string | undefined): Promise<string[]> {
  if (!(await isFolder(given, 'the path'))) return [given];
  const { inspectArtifacts } = await import('../operations/inspect.ts');
  const { artifacts, unreadable } = await inspectArtifacts(given);
  const wanted = database?.toLowerCase();
  const chosen = artifacts.filter(
    (artifact) => wanted === undefined || artifact.database.toLowerCase() === wanted,
  );
  const files = [...chosen, ...unreadable].map((artifact) => artifact.path).sort();
  if (files.length === 0) {
    const whose = database === undefined ? '' : ` of database '${database}'`;
    throw new GraphkeepError('GK_NOT_FOUND', `no artifact${whose} in ${given}`);
  }
  return files;
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

/** `files` in the order of the outcomes. */
function jsonSummary(
  summary: WorkSummary<ValidateResult>,
  files: readonly string[],
): Record<string, unknown> {
  const artifacts = summary.outcomes.map(({ result, error }, index) => ({
    ...(result ?? { path: files[index], valid: false }),
    ...(error === undefined ? {} : { error: errorFields(error) }),
  }));
  return { valid: artifacts.every((artifact) => artifact.valid), artifacts };
}

function validateExitStatus(summary: WorkSummary<ValidateResult>): number {
  const invalid = summary.outcomes.some((outcome) => outcome.result?.valid === false);
  return invalid ? ERROR_TABLE.GK_ARTIFACT_CORRUPT.exitStatus : summary.exitStatus;
}
