/** The category `dbms`: commands on a whole Neo4j. */
import type { Command } from 'commander';
import type { CliContext, CommandOutcome } from './context.ts';
import { addDbmsBackup } from './dbms-backup.ts';
import { addDbmsRestore } from './dbms-restore.ts';

const EXAMPLES = `
Examples:
  $ graphkeep dbms backup --neo4j-home=/var/lib/neo4j --to-path=/backups
  $ graphkeep dbms restore --neo4j-home=/var/lib/neo4j --from-path=/backups --overwrite-destination
`;

export function addDbms(program: Command, context: CliContext, outcome: CommandOutcome): void {
  const dbms = program.command('dbms').description('Work on a whole Neo4j: databases, users, configuration');
  addDbmsBackup(dbms, context, outcome);
  addDbmsRestore(dbms, context, outcome);
  dbms.addHelpText('after', EXAMPLES);
}
