/**
 * The command tree and one run of it: arguments in, exit status out. It owns the parsing rules that hold for all
 * commands and the way errors leave the program. It does not touch the process, so tests run it as a function.
 */
import { readFileSync } from 'node:fs';
import { Command, CommanderError, type Option } from 'commander';
import { asGraphkeepError, GraphkeepError } from '../errors.ts';
import { closeStores } from '../storage/places.ts';
import { attachBooleanValues, expandArgumentFiles } from './arguments.ts';
import { addAggregateBackup, addBackupAggregate } from './backup-aggregate.ts';
import { addBackupExpire } from './backup-expire.ts';
import { addBackupInspect } from './backup-inspect.ts';
import { addBackupValidate } from './backup-validate.ts';
import { addCompletion } from './completion.ts';
import type { CliContext, CommandOutcome } from './context.ts';
import { addDatabaseBackup } from './database-backup.ts';
import { addDatabaseInfo } from './database-info.ts';
import { addDatabaseRestore } from './database-restore.ts';
import { addDbms } from './dbms.ts';
import { isLegacyCommandLine } from './legacy-commandline.ts';
import { EXIT_FAILED } from './legacy-options.ts';
import { BooleanOption } from './options.ts';
import { errorFields, renderError, renderJson } from './render.ts';
import { addServer } from './server.ts';

const EXAMPLES = `
Examples:
  $ graphkeep database backup --neo4j-home=/var/lib/neo4j --to-path=/backups neo4j
  $ graphkeep backup inspect /backups
  $ graphkeep database restore --neo4j-home=/var/lib/neo4j --from-path=/backups --overwrite-destination neo4j

Those of neo4j-admin 3.x and 4.x, too: backup --backup-dir, restore, check-consistency, dump, load, copy.
Arguments can be read from a file: graphkeep @/etc/graphkeep/nightly.args
Exit status: 0 when all went well; 64 bad usage, 65 damaged artifact, 66 not found, 80 database in use, 81 no
space left; the documentation lists all. Environment: NEO4J_HOME, NEO4J_CONF, NEO4J_DEBUG.
`;

const DATABASE_EXAMPLES = `
Examples:
  $ graphkeep database backup --neo4j-home=/var/lib/neo4j --to-path=/backups neo4j
  $ graphkeep database restore --neo4j-home=/var/lib/neo4j --from-path=/backups --overwrite-destination neo4j
  $ graphkeep database info --neo4j-home=/var/lib/neo4j
`;

const BACKUP_EXAMPLES = `
Examples:
  $ graphkeep backup inspect /backups
  $ graphkeep backup validate --from-path=/backups --database=neo4j
  $ graphkeep backup expire /backups --keep-daily=7 --keep-weekly=4
`;

const HELP_COLUMNS_DEFAULT = 110;

/** Runs one command line. Never throws: what goes wrong is rendered and becomes the exit status. */
export async function runCli(argumentList: readonly string[], context: CliContext): Promise<number> {
  const outcome: CommandOutcome = { exitStatus: 0 };
  let isLegacy = false;
  try {
    const expanded = expandArgumentFiles(argumentList);
    isLegacy = isLegacyCommandLine(expanded);
    await parse(expanded, context, outcome, isLegacy ? await legacyBuilder() : buildProgram);
    await closeStores();
    return outcome.exitStatus;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    // The whole help was printed already, because a command is missing.
    if (error instanceof CommanderError && error.code === 'commander.help') return usageStatus();
    const status = reportError(commandLineError(error), argumentList, context);
    return isLegacy ? EXIT_FAILED : status;
  } finally {
    await closeStores();
  }
}

async function parse(
  argumentList: readonly string[],
  context: CliContext,
  outcome: CommandOutcome,
  build: typeof buildProgram,
): Promise<void> {
  const program = build(context, outcome);
  const attached = attachBooleanValues(argumentList, booleanOptionsOf(program));
  try {
    await program.parseAsync(attached, { from: 'user' });
  } catch (error) {
    const flag = unknownFlagWithValue(error);
    if (flag === undefined) throw error;
    // The parser looks for names like `--to-pth=/x`, value included, and finds none: ask again without the value.
    // No command can run meanwhile, since the option stays unknown.
    const bare = attached.map((argument) => (argument === flag ? (flag.split('=')[0] ?? flag) : argument));
    await build(context, outcome).parseAsync(bare, { from: 'user' });
  }
}

function unknownFlagWithValue(error: unknown): string | undefined {
  if (!(error instanceof CommanderError) || error.code !== 'commander.unknownOption') return undefined;
  return /unknown option '(--[^=']+=.*)'/s.exec(error.message)?.[1];
}

/** The command lines of 3.x and 4.x have a tree of their own: some of their words are others today. */
async function legacyBuilder(): Promise<typeof buildProgram> {
  const { addLegacyCommands } = await import('./legacy.ts');
  return (context, outcome) => {
    const program = emptyProgram(context);
    addLegacyCommands(program, context, outcome);
    return program;
  };
}

function emptyProgram(context: CliContext): Command {
  return new Command('graphkeep')
    .description('Online backup and restore for Neo4j, Community Edition included.')
    .version(readVersion(), '-V, --version', 'Print the version')
    .helpOption('-h, --help', 'Print this help')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.stdout.write(text),
      writeErr: (text) => context.stderr.write(text),
      getOutHelpWidth: () => context.stdout.columns ?? HELP_COLUMNS_DEFAULT,
      getErrHelpWidth: () => context.stderr.columns ?? HELP_COLUMNS_DEFAULT,
      // Errors are rendered once, at the end, in one form for all of them.
      outputError: () => undefined,
    })
    .configureHelp({ optionDescription: describeOption })
    .addHelpText('after', EXAMPLES);
}

export function buildProgram(context: CliContext, outcome: CommandOutcome): Command {
  const program = emptyProgram(context);
  const database = program.command('database').description('Work on the databases of a Neo4j on this host');
  addDatabaseBackup(database, context, outcome);
  addDatabaseRestore(database, context, outcome);
  addDatabaseInfo(database, context, outcome);
  addAggregateBackup(database, context, outcome);
  database.addHelpText('after', DATABASE_EXAMPLES);
  const backup = program.command('backup').description('Work on artifacts');
  addBackupInspect(backup, context, outcome);
  addBackupValidate(backup, context, outcome);
  addBackupAggregate(backup, context, outcome);
  addBackupExpire(backup, context, outcome);
  backup.addHelpText('after', BACKUP_EXAMPLES);
  addDbms(program, context, outcome);
  addServer(program, context, outcome);
  addCompletion(program, context);
  return program;
}

/** Only what a reader needs: a switch shows its values in its name already, and presets explain nothing. */
function describeOption(option: Option): string {
  const facts: string[] = [];
  if (!(option instanceof BooleanOption) && option.argChoices !== undefined) {
    facts.push(`one of ${option.argChoices.join(', ')}`);
  }
  if (option.defaultValue !== undefined) facts.push(`default: ${String(option.defaultValue)}`);
  return facts.length === 0 ? option.description : `${option.description} (${facts.join('; ')})`;
}

function booleanOptionsOf(command: Command): Set<string> {
  const names = new Set<string>();
  for (const option of command.options) {
    if (option instanceof BooleanOption && option.long !== undefined && option.long !== null)
      names.add(option.long);
  }
  for (const child of command.commands) {
    for (const name of booleanOptionsOf(child)) names.add(name);
  }
  return names;
}

/** What the parser found wrong, with its "did you mean" as the hint. */
function commandLineError(error: unknown): GraphkeepError {
  if (!(error instanceof CommanderError)) return asGraphkeepError(error, 'finish the command');
  const [message = '', ...more] = error.message.replace(/^error: /, '').split('\n');
  const suggestion = more.join(' ').replace(/^\((.*)\)$/, '$1');
  return new GraphkeepError(
    'GK_USAGE',
    message,
    suggestion === '' ? {} : { hint: suggestion.replace(/^D/, 'd') },
  );
}

function reportError(error: GraphkeepError, argumentList: readonly string[], context: CliContext): number {
  if (wantsJson(argumentList)) context.stdout.write(renderJson({ error: errorFields(error) }));
  const debug = context.environment.NEO4J_DEBUG !== undefined;
  const verbose = debug || argumentList.some((argument) => /^--verbose(=true)?$/i.test(argument));
  context.stderr.write(renderError(error, { verbose }));
  return error.exitStatus;
}

/** Asked of the raw arguments, since an error in parsing must come out in the form that was asked for as well. */
function wantsJson(argumentList: readonly string[]): boolean {
  return argumentList.some((argument, index) => {
    if (/^--format=json$/i.test(argument)) return true;
    return argument.toLowerCase() === 'json' && argumentList[index - 1] === '--format';
  });
}

function usageStatus(): number {
  return new GraphkeepError('GK_USAGE', '').exitStatus;
}

/** The same two levels up from `src/cli` and from `dist/cli`. */
function readVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  const hasVersion = typeof manifest === 'object' && manifest !== null && 'version' in manifest;
  return hasVersion ? String(manifest.version) : 'unknown';
}
