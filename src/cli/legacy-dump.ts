/** `dump`, `load` and `copy`, as in 3.x and 4.x. The first two are done by the stock tool of the installation. */
import { rename, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
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

The stock tool of the installation does it; Neo4j must be stopped. Exit status: 0 done, 1 anything else.
`;

const LOAD_EXAMPLES = `
Examples:
  $ graphkeep load --from=/dumps/neo4j.dump --database=neo4j --force --neo4j-home=/var/lib/neo4j
  $ graphkeep load --from=/dumps/neo4j.dump --info

The stock tool of the installation does it; Neo4j must be stopped. Exit status: 0 done, 1 anything else.
`;

const COPY_EXAMPLES = `
Examples:
  $ graphkeep copy --from-database=neo4j --to-database=copy

It is refused: Neo4j Community has no stock copy that graphkeep could run. Exit status: 1.
`;

export function addLegacyDump(program: Command, context: CliContext, outcome: CommandOutcome): void {
  const command = program
    .command('dump')
    .description('Dumps a stopped database with the stock tool, as in 3.x and 4.x.')
    .addOption(new Option('--database <database>', 'Database (default: the default database)'))
    .addOption(new Option('--to <path>', 'File to be written, or folder for <database>.dump'));
  addLegacyOptions(command).addHelpText('after', DUMP_EXAMPLES);
  command.action(async (options: DumpArguments) => {
    noteIgnored(command, context);
    const to = requirePath(options.to, 'to', '--to-stdout');
    outcome.exitStatus = await withTool('dump', options, context, (tool) => dump(tool, to));
  });
}

export function addLegacyLoad(program: Command, context: CliContext, outcome: CommandOutcome): void {
  const command = program
    .command('load')
    .description('Loads a dump into a stopped database with the stock tool, as in 3.x and 4.x.')
    .addOption(new Option('--from <file>', 'Dump'))
    .addOption(new Option('--database <database>', 'Database (default: the default database)'))
    .addOption(booleanOption('--force', 'Replace an existing database', false))
    .addOption(booleanOption('--info', 'Only say what the dump holds', false));
  addLegacyOptions(command).addHelpText('after', LOAD_EXAMPLES);
  command.action(async (options: LoadArguments) => {
    noteIgnored(command, context);
    const from = requirePath(options.from, 'from', '--from-stdin');
    outcome.exitStatus = await withTool('load', options, context, (tool) => load(tool, from, options));
  });
}

export function addLegacyCopy(program: Command): void {
  program
    .command('copy')
    .description('Refused: there is no stock copy in Neo4j Community, and graphkeep has none of its own.')
    .allowUnknownOption()
    .allowExcessArguments()
    .argument('[arguments...]')
    .addHelpText('after', COPY_EXAMPLES)
    .action(() => {
      throw new GraphkeepError('GK_UNSUPPORTED', 'copy is refused: Neo4j Community has no tool for it', {
        hint: 'for a copy as it is: graphkeep backup, then graphkeep restore under another name',
      });
    });
}

/** `-` stands for a stream, whose bytes do not pass through graphkeep. */
function requirePath(given: string | undefined, name: string, stockOption: string): string {
  const value = requireOption(given, name);
  if (value === '-') {
    throw usageError(
      `--${name}=- is refused: graphkeep passes on no binary stream`,
      `use the stock tool itself: neo4j-admin database dump|load ${stockOption}`,
    );
  }
  return path.resolve(parseLocalPath(`--${name}`, value));
}

interface Tool {
  readonly database: string;
  /** @throws GK_STOCK_FAILED unless it ends with 0 */
  run(args: readonly string[]): Promise<void>;
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
    run: async (args) => {
      const { exitStatus, output } = await runStockTool(stock, [...args, ...extra], {
        home,
        configurationDirectory: findConfigurationDirectory(home, context.environment),
        signal,
        onOutput: (text) => context.stdout.write(text),
      });
      if (exitStatus === 0) return;
      const lastLine = output.trimEnd().split('\n').at(-1);
      throw new GraphkeepError('GK_STOCK_FAILED', `neo4j-admin ended with ${exitStatus}: ${lastLine}`);
    },
  };
}

/** The stock tool of today writes `<database>.dump` into a folder; a file is got out of one beside it. */
async function dump({ database, run }: Tool, to: string): Promise<void> {
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
async function load({ database, run }: Tool, from: string, options: LoadArguments): Promise<void> {
  if (await isFolder(from, 'the dump')) {
    throw usageError('--from takes a file, not a folder', `give the dump itself, e.g. ${database}.dump`);
  }
  const { withScratch } = await import('../operations/scratch.ts');
  await withScratch(tmpdir(), SCRATCH_PREFIX, async (folder) => {
    await symlink(from, path.join(folder, `${database}.dump`));
    const mode = options.info ? '--info' : `--overwrite-destination=${options.force}`;
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
