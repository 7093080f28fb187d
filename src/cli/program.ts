/**
 * The command tree and one run of it: arguments in, exit status out. It owns the parsing rules that hold for all
 * commands and the way errors leave the program. It does not touch the process, so tests run it as a function.
 */
import { type Command, CommanderError } from 'commander';
import { asGraphkeepError, GraphkeepError } from '../errors.ts';
import { closeStores } from '../storage/places.ts';
import { attachBooleanValues, expandArgumentFiles } from './arguments.ts';
import type { CliContext, CommandOutcome } from './context.ts';
import { emptyProgram } from './emptyprogram.ts';
import { isLegacyCommandLine } from './legacy-commandline.ts';
import { EXIT_FAILED } from './legacy-options.ts';
import { BooleanOption } from './options.ts';
import { errorFields, renderError, renderJson } from './render.ts';

/** Runs one command line. Never throws: what goes wrong is rendered and becomes the exit status. */
export async function runCli(argumentList: readonly string[], context: CliContext): Promise<number> {
  const outcome: CommandOutcome = { exitStatus: 0 };
  let isLegacy = false;
  try {
    const expanded = expandArgumentFiles(argumentList);
    isLegacy = isLegacyCommandLine(expanded);
    await parse(expanded, context, outcome, await builderFor(expanded, isLegacy));
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
  build: Build,
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

type Build = (context: CliContext, outcome: CommandOutcome) => Command;

/**
 * What a command line needs of the tree. To load all of it takes longer than `backup inspect` works, which scripts run
 * again and again. The command lines of 3.x and 4.x have a tree of their own: some of their words are others today.
 */
async function builderFor(argumentList: readonly string[], isLegacy: boolean): Promise<Build> {
  if (isLegacy) {
    const { addLegacyCommands } = await import('./legacy.ts');
    return (context, outcome) => {
      const program = emptyProgram(context);
      addLegacyCommands(program, context, outcome);
      return program;
    };
  }
  if (argumentList[0] === 'backup' && argumentList[1] === 'inspect') {
    const { addBackupInspect } = await import('./backup-inspect.ts');
    return (context, outcome) => {
      const program = emptyProgram(context);
      addBackupInspect(program.command('backup'), context, outcome);
      return program;
    };
  }
  return (await import('./tree.ts')).buildProgram;
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
