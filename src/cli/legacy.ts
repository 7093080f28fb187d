/**
 * The command line of `neo4j-admin` 3.x and 4.x: which command lines are meant, and their commands. Their words are
 * those of the old tools, and so are their exit statuses; everything below is that of the commands of today.
 */
import type { Command } from 'commander';
import type { CliContext, CommandOutcome } from './context.ts';
import { addLegacyBackup } from './legacy-backup.ts';
import { addLegacyCheck } from './legacy-check.ts';
import { addLegacyCopy, addLegacyDump, addLegacyLoad } from './legacy-dump.ts';
import { EXIT_FAILED } from './legacy-options.ts';
import { addLegacyPrepareRestore, addLegacyRestore } from './legacy-restore.ts';

/** Whatever went wrong, bad arguments included. */
export const LEGACY_EXIT_FAILED = EXIT_FAILED;

/** At the top level, where the commands of today have groups. */
const OLD_COMMANDS: readonly string[] = [
  'restore',
  'check-consistency',
  'dump',
  'load',
  'copy',
  'prepare-restore',
];
/** Behind `backup`, which is a group today, an option without which no old backup was possible, or that one alone had. */
const OLD_BACKUP_OPTION =
  /^--(backup-dir|name|database|from|fallback-to-full|check-consistency|cc-[a-z-]+)(=|$)/;

export function isLegacyCommandLine(argumentList: readonly string[]): boolean {
  const [command = '', next = ''] = argumentList;
  if (OLD_COMMANDS.includes(command)) return true;
  return (
    command === 'backup' && next.startsWith('-') && argumentList.some((word) => OLD_BACKUP_OPTION.test(word))
  );
}

export function addLegacyCommands(program: Command, context: CliContext, outcome: CommandOutcome): void {
  addLegacyBackup(program, context, outcome);
  addLegacyRestore(program, context, outcome);
  addLegacyCheck(program, context, outcome);
  addLegacyDump(program, context, outcome);
  addLegacyLoad(program, context, outcome);
  addLegacyCopy(program);
  addLegacyPrepareRestore(program, context, outcome);
}
