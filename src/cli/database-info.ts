/** `database info`: what lies in the folders of an installation, running or not. */
import path from 'node:path';
import type { Command } from 'commander';
import { isPattern } from '../neo4j/glob.ts';
import {
  type Installation,
  installationFromPaths,
  openInstallation,
  selectDatabases,
} from '../neo4j/installation.ts';
import type { DatabaseInfo } from '../operations/types.ts';
import { type CliContext, type CommandOutcome, isVerbose } from './context.ts';
import { addCommonOptions, addInstallationOptions, choiceOption, pathOption, usageError } from './options.ts';
import { renderError, renderJson } from './render.ts';
import { type WorkItem, workThrough } from './work.ts';

interface InfoCommandOptions {
  fromPath?: string;
  neo4jHome?: string;
  additionalConfig?: string;
  format?: string;
  verbose: boolean;
}

/** Width of the labels in `neo4j-admin database info`; scripts cut there. */
const LABEL_WIDTH = 30;

const EXAMPLES = `
Examples:
  $ graphkeep database info --neo4j-home=/var/lib/neo4j
  $ graphkeep database info --format=json neo4j
  $ graphkeep database info --from-path=/data/databases '*'
`;

export function addDatabaseInfo(parent: Command, context: CliContext, outcome: CommandOutcome): void {
  const command = parent
    .command('info')
    .summary('Show format and state of databases')
    .description('Shows store format, last transaction and state of the databases of the Neo4j on this host.')
    .argument('[database]', "name, or quoted pattern such as 'n*' (default: *)")
    .addOption(pathOption('--from-path <folder>', 'Folder that holds the databases, instead of a Neo4j home'))
    .addOption(choiceOption('--format', 'Form of the output', ['text', 'json'], 'text'));
  addInstallationOptions(command);
  addCommonOptions(command).addHelpText('after', EXAMPLES);
  command.action(async (database: string | undefined, options: InfoCommandOptions) => {
    outcome.exitStatus = await runInfo(database ?? '*', options, context);
  });
}

async function runInfo(database: string, options: InfoCommandOptions, context: CliContext): Promise<number> {
  const installation = await openInspected(options, context);
  const selected = await selectDatabases(installation, [database]);
  const { readDatabaseInfo } = await import('../operations/info.ts');
  const items = selected.map(
    ({ name, error }): WorkItem<DatabaseInfo> => ({
      subject: name,
      async run({ signal }) {
        if (error !== undefined) throw error;
        return await readDatabaseInfo(installation.folders(name), { signal });
      },
    }),
  );
  const json = options.format === 'json';
  const summary = await workThrough(items, {
    context,
    talk: !json,
    verbose: isVerbose(options, context),
    doing: 'read the database',
  });
  const found = summary.outcomes.flatMap((outcome) => outcome.result ?? []);
  const failures = summary.outcomes.filter((outcome) => outcome.error !== undefined);
  const only = failures.length === 1 && found.length === 0 ? failures[0]?.error : undefined;
  if (json && only !== undefined) throw only;
  if (json) {
    const documents = found.map(jsonInfo);
    context.stdout.write(renderJson(isPattern(database) ? documents : documents[0]));
  } else context.stdout.write(found.map(renderInfo).join('\n'));
  for (const { subject, error } of failures) {
    if (error !== undefined)
      context.stderr.write(renderError(error, { verbose: isVerbose(options, context), subject }));
  }
  return summary.exitStatus;
}

/** With `--from-path`, logs are looked for where they are by default: in `transactions` beside the databases. */
async function openInspected(options: InfoCommandOptions, context: CliContext): Promise<Installation> {
  const { fromPath, neo4jHome, additionalConfig } = options;
  if (fromPath === undefined) {
    return await openInstallation({ home: neo4jHome, additionalConfig, environment: context.environment });
  }
  if (neo4jHome === undefined && additionalConfig === undefined) {
    return installationFromPaths(fromPath, path.join(path.resolve(fromPath), '..', 'transactions'));
  }
  throw usageError('--from-path excludes --neo4j-home and --additional-config', 'give one of them');
}

export function renderInfo(info: DatabaseInfo): string {
  const lines: [string, string | undefined][] = [
    ['Database name', info.databaseName],
    ['Database in use', String(info.inUse)],
    ['Store format version', info.storeFormat],
    ['Store format introduced in', info.storeFormatIntroduced],
    ['Last committed transaction id', info.lastCommittedTransaction?.toString()],
    ['Store needs recovery', info.recoveryRequired?.toString()],
  ];
  return lines
    .filter(([, value]) => value !== undefined)
    .map(([label, value]) => `${`${label}:`.padEnd(LABEL_WIDTH)}${value}\n`)
    .join('');
}

/** All values are strings or null, as `neo4j-admin` gives them. */
export function jsonInfo(info: DatabaseInfo): Record<string, string | null> {
  return {
    databaseName: info.databaseName,
    inUse: String(info.inUse),
    storeFormat: info.storeFormat ?? null,
    storeFormatIntroduced: info.storeFormatIntroduced ?? null,
    storeFormatSuperseded: null,
    lastCommittedTransaction: info.lastCommittedTransaction?.toString() ?? null,
    recoveryRequired: info.recoveryRequired?.toString() ?? null,
  };
}
