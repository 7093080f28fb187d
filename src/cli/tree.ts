/** Every command of this version, in one tree. */
import type { Command } from 'commander';
import { addAggregateBackup, addBackupAggregate } from './backup-aggregate.ts';
import { addBackupCopy } from './backup-copy.ts';
import { addBackupExpire } from './backup-expire.ts';
import { addBackupInspect } from './backup-inspect.ts';
import { addBackupValidate } from './backup-validate.ts';
import { addCompletion } from './completion.ts';
import type { CliContext, CommandOutcome } from './context.ts';
import { addDatabaseBackup } from './database-backup.ts';
import { addDatabaseInfo } from './database-info.ts';
import { addDatabaseRestore } from './database-restore.ts';
import { addDbms } from './dbms.ts';
import { emptyProgram } from './emptyprogram.ts';
import { addServer } from './server.ts';

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
  $ graphkeep backup copy /backups s3://offsite/backups
  $ graphkeep backup expire /backups --keep-daily=7 --keep-weekly=4
`;

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
  addBackupCopy(backup, context, outcome);
  addBackupExpire(backup, context, outcome);
  backup.addHelpText('after', BACKUP_EXAMPLES);
  addDbms(program, context, outcome);
  addServer(program, context, outcome);
  addCompletion(program, context);
  return program;
}
