/** Which command lines are those of `neo4j-admin` 3.x and 4.x. Asked at every start, so that it loads nothing. */

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
