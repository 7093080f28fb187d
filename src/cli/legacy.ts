/**
 * The commands of `neo4j-admin` 3.x and 4.x. Their words are those of the old tools, and so are their exit statuses;
 * everything below is that of the commands of today. Loaded only when one of them was given.
 */
import type { Command } from 'commander';
import type { CliContext, CommandOutcome } from './context.ts';
import { addLegacyBackup } from './legacy-backup.ts';
import { addLegacyCheck } from './legacy-check.ts';
import { addLegacyCopy } from './legacy-copy.ts';
import { addLegacyDump, addLegacyLoad } from './legacy-dump.ts';
import { addLegacyPrepareRestore, addLegacyRestore } from './legacy-restore.ts';

export function addLegacyCommands(program: Command, context: CliContext, outcome: CommandOutcome): void {
  addLegacyBackup(program, context, outcome);
  addLegacyRestore(program, context, outcome);
  addLegacyCheck(program, context, outcome);
  addLegacyDump(program, context, outcome);
  addLegacyLoad(program, context, outcome);
  addLegacyCopy(program, context, outcome);
  addLegacyPrepareRestore(program, context, outcome);
}
