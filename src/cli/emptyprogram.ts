/** The program without a command: its name, its help, and where its words go. */
import { Command, type Option } from 'commander';
import { VERSION } from '../version.ts';
import type { CliContext } from './context.ts';
import { BooleanOption } from './options.ts';

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

const HELP_COLUMNS_DEFAULT = 110;

export function emptyProgram(context: CliContext): Command {
  return new Command('graphkeep')
    .description('Online backup and restore for Neo4j, Community Edition included.')
    .version(VERSION, '-V, --version', 'Print the version')
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

/** Only what a reader needs: a switch shows its values in its name already, and presets explain nothing. */
function describeOption(option: Option): string {
  const facts: string[] = [];
  if (!(option instanceof BooleanOption) && option.argChoices !== undefined) {
    facts.push(`one of ${option.argChoices.join(', ')}`);
  }
  if (option.defaultValue !== undefined) facts.push(`default: ${String(option.defaultValue)}`);
  return facts.length === 0 ? option.description : `${option.description} (${facts.join('; ')})`;
}
