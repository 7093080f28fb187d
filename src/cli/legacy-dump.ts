/** `dump` and `load`, as in 3.x and 4.x, done by the stock tool of the installation. */
import { rename, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { isatty } from 'node:tty';
import { type Command, Option } from 'commander';
import { GraphkeepError } from '../errors.ts';
import { normalizeDatabaseName } from '../neo4j/glob.ts';
import { findConfigurationDirectory, type Installation, openInstallation } from '../neo4j/installation.ts';
import { type CliContext, type CommandOutcome, isVerbose } from './context.ts';
import { findCheckingNeo4j } from './legacy-check.ts';
import { addLegacyOptions, legacyStatus, noteIgnored, requireOption } from './legacy-options.ts';
import { booleanOption, parseLocalPath, usageError } from './options.ts';
import { isFolder } from './paths.ts';
import { type WorkContext, workThrough } from './work.ts';

const SCRATCH_PREFIX = '.graphkeep-dump-';
/** In place of a path: standard output of `dump`, standard input of `load`. */
const STREAM = '-';

interface DumpArguments {
  database?: string;
  to?: string;
  neo4jHome?: string;
  additionalConfig?: string;
  verbose: boolean;
}

interface LoadArguments extends Omit<DumpArguments, 'to'> {
  from?: string;
  force: boolean;
  info: boolean;
}

const DUMP_EXAMPLES = `
Examples:
  $ graphkeep dump --database=neo4j --to=/dumps/neo4j.dump --neo4j-home=/var/lib/neo4j
  $ graphkeep dump --database=neo4j --to=/dumps
  $ graphkeep dump --database=neo4j --to=- > /dumps/neo4j.dump

The stock tool of the installation does it; Neo4j must be stopped. With --to=- the dump is all that comes on
standard output, and no whole one unless the status is 0. Exit status: 0 done, 1 anything else.
`;

const LOAD_EXAMPLES = `
Examples:
  $ graphkeep load --from=/dumps/neo4j.dump --database=neo4j --force --neo4j-home=/var/lib/neo4j
  $ graphkeep load --from=/dumps/neo4j.dump --info
  $ graphkeep load --from=- --database=neo4j --force < /dumps/neo4j.dump

The stock tool of the installation does it; Neo4j must be stopped. Exit status: 0 done, 1 anything else.
`;

export function addLegacyDump(program: Command, context: CliContext, outcome: CommandOutcome): void {
  const command = program
    .command('dump')
    .description('Dumps a stopped database with the stock tool, as in 3.x and 4.x.')
    .addOption(new Option('--database <database>', 'Database (default: the default database)'))
    .addOption(new Option('--to <path>', 'File to be written, folder for <database>.dump, or -'));
  addLegacyOptions(command).addHelpText('after', DUMP_EXAMPLES);
  command.action(async (options: DumpArguments) => {
    noteIgnored(command, context);
    const to = requirePath(options.to, 'to');
    if (to === STREAM) refuseTerminal(context.descriptors.output, '--to=- writes the dump', '> <file>');
    outcome.exitStatus = await withTool('dump', options, context, (tool) => dump(tool, to));
  });
}

export function addLegacyLoad(program: Command, context: CliContext, outcome: CommandOutcome): void {
  const command = program
    .command('load')
    .description('Loads a dump into a stopped database with the stock tool, as in 3.x and 4.x.')
    .addOption(new Option('--from <file>', 'Dump, or - for standard input'))
    .addOption(new Option('--database <database>', 'Database (default: the default database)'))
    .addOption(booleanOption('--force', 'Replace an existing database', false))
    .addOption(booleanOption('--info', 'Only say what the dump holds', false));
  addLegacyOptions(command).addHelpText('after', LOAD_EXAMPLES);
  command.action(async (options: LoadArguments) => {
    noteIgnored(command, context);
    const from = requirePath(options.from, 'from');
    if (from === STREAM) refuseTerminal(context.descriptors.input, '--from=- reads a dump', '< <file>');
    outcome.exitStatus = await withTool('load', options, context, (tool) => load(tool, from, options));
  });
}

function requirePath(given: string | undefined, name: string): string {
  const value = requireOption(given, name);
  return value === STREAM ? value : path.resolve(parseLocalPath(`--${name}`, value));
}

/** Bytes on a terminal help nobody, and nobody types a dump. */
function refuseTerminal(descriptor: number, what: string, redirection: string): void {
  if (!isatty(descriptor)) return;
  throw usageError(`${what}, and this is a terminal`, `use a pipe or a file: ${redirection}`);
}

/** Which of the streams of graphkeep the tool gets for itself. */
interface Streams {
  readonly input?: number;
  readonly bytesOutput?: number;
}

interface Tool {
  readonly database: string;
  readonly descriptors: CliContext['descriptors'];
  /** @throws GK_STOCK_FAILED unless it ends with 0 */
  run(args: readonly string[], streams?: Streams): Promise<void>;
}

async function withTool(
  command: 'dump' | 'load',
  options: DumpArguments,
  context: CliContext,
  work: (tool: Tool) => Promise<void>,
): Promise<number> {
  const installation = await openInstallation({
    home: options.neo4jHome,
    additionalConfig: options.additionalConfig,
    command,
    environment: context.environment,
  });
  const database = normalizeDatabaseName(options.database ?? installation.defaultDatabase);
  const run = async (workContext: WorkContext): Promise<void> =>
    work(await makeTool(database, installation, options, workContext, context));
  const verbose = isVerbose(options, context);
  const doing = `${command} the database`;
  const summary = await workThrough([{ subject: database, run }], {
    context,
    talk: true,
    verbose,
    doing,
    print: () => {},
  });
  return legacyStatus(summary.exitStatus);
}

async function makeTool(
  database: string,
  installation: Installation,
  options: DumpArguments,
  { signal }: WorkContext,
  context: CliContext,
): Promise<Tool> {
  const stock = await findCheckingNeo4j(installation, context);
  const { runStockTool } = await import('../neo4j/stock.ts');
  const home = installation.home ?? '';
  const additional = options.additionalConfig;
  const extra = additional === undefined ? [] : [`--additional-config=${path.resolve(additional)}`];
  return {
    database,
    descriptors: context.descriptors,
    run: async (args, streams = {}) => {
      // Where the dump goes, no word may go.
      const talk = streams.bytesOutput === undefined ? context.stdout : context.stderr;
      const { exitStatus, output } = await runStockTool(stock, [...args, ...extra], {
        home,
        configurationDirectory: findConfigurationDirectory(home, context.environment),
        signal,
        onOutput: (text) => talk.write(text),
        ...streams,
      });
      if (exitStatus === 0) return;
      const lastLine = output.trimEnd().split('\n').at(-1);
      throw new GraphkeepError('GK_STOCK_FAILED', `neo4j-admin ended with ${exitStatus}: ${lastLine}`);
    },
  };
}

/** The stock tool of today writes `<database>.dump` into a folder; a file is got out of one beside it. */
async function dump({ database, descriptors, run }: Tool, to: string): Promise<void> {
  if (to === STREAM) {
    return run(['database', 'dump', '--to-stdout', database], { bytesOutput: descriptors.output });
  }
  const toFolder = await isFolderIfAny(to);
  if (toFolder === true) return run(['database', 'dump', `--to-path=${to}`, database]);
  if (toFolder === false) {
    throw new GraphkeepError('GK_TARGET_EXISTS', `archive already exists: ${to}`, {
      hint: 'remove it, or give another --to',
    });
  }
  const { withScratch } = await import('../operations/scratch.ts');
  await withScratch(path.dirname(to), SCRATCH_PREFIX, async (folder) => {
    await run(['database', 'dump', `--to-path=${folder}`, database]);
    await rename(path.join(folder, `${database}.dump`), to);
  });
}

/** It looks for `<database>.dump` in a folder; a link of that name leads to the file. */
async function load(
  { database, descriptors, run }: Tool,
  from: string,
  options: LoadArguments,
): Promise<void> {
  const mode = options.info ? '--info' : `--overwrite-destination=${options.force}`;
  if (from === STREAM) {
    return run(['database', 'load', '--from-stdin', mode, database], { input: descriptors.input });
  }
  if (await isFolder(from, 'the dump')) {
    throw usageError('--from takes a file, not a folder', `give the dump itself, e.g. ${database}.dump`);
  }
  const { withScratch } = await import('../operations/scratch.ts');
  await withScratch(tmpdir(), SCRATCH_PREFIX, async (folder) => {
    await symlink(from, path.join(folder, `${database}.dump`));
    await run(['database', 'load', `--from-path=${folder}`, mode, database]);
  });
}

async function isFolderIfAny(target: string): Promise<boolean | undefined> {
  try {
    return await isFolder(target, 'the path of --to');
  } catch (error) {
    if (error instanceof GraphkeepError && error.code === 'GK_NOT_FOUND') return undefined;
    throw error;
  }
}
