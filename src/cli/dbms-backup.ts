/** `dbms backup`: all that a recovery needs in one go, with one report. */
import path from 'node:path';
import type { Command } from 'commander';
import { detailsOf } from './backupconfiguration.ts';
import type { CliContext, CommandOutcome } from './context.ts';
import {
  addBackupOptions,
  type BackedUp,
  type BackupCommandOptions,
  placesGiven,
  runBackup,
} from './database-backup.ts';
import { addEncryptionOptions } from './encryptionoptions.ts';
import { countOf, formatBytes, formatDuration, placeLines } from './render.ts';
import { addWritableStoreOptions } from './storeoptions.ts';

const EXAMPLES = `
Examples:
  $ graphkeep dbms backup --neo4j-home=/var/lib/neo4j --to-path=/backups
  $ graphkeep dbms backup --neo4j-home=/var/lib/neo4j --to-path=/backups --include-plugins    with the jars
  $ graphkeep dbms backup --neo4j-home=/var/lib/neo4j --to-path=/backups --format=json
  $ graphkeep dbms backup --neo4j-home=/var/lib/neo4j --to-path=s3://example-backups/neo4j
  $ graphkeep dbms backup --to-path=/backups --to-path=s3://offsite/backups --require=any    two copies at once

Every database, system with its users included, one artifact each; and one file with the settings,
certificates, licenses and the list of plugins. 'graphkeep dbms restore' makes a new machine of them.
Private keys are left out and named, unless the artifacts are encrypted: --encrypt-to=age1… Settings are
taken as they are, passwords in them included: keep the folder or bucket as safe as the server.

With several --to-path everything is read once, and each part comes into all of them or into none. With
--require=any a place that fails is left out of that part with a warning; the part counts as backed up as
long as one place has it.

Exit status: 0 when all went well, 1 when any part failed; the others are done all the same.
`;

export function addDbmsBackup(parent: Command, context: CliContext, outcome: CommandOutcome): void {
  const command = parent
    .command('backup')
    .summary('Back up all databases, users and the configuration')
    .description(
      'Backs up every database of a Neo4j while it runs, and all that a new machine needs besides.',
    );
  addWritableStoreOptions(command, context, placesGiven);
  addEncryptionOptions(command, context);
  addBackupOptions(command, { wholeDbms: true }).addHelpText('after', EXAMPLES);
  command.action(async (options: BackupCommandOptions) => {
    const all = { ...options, includeConfiguration: true };
    outcome.exitStatus = await runBackup(['*'], all, context, {
      render: renderPart,
      done: 'parts backed up',
    });
  });
}

const NAME_COLUMNS = 24;
const KIND_COLUMNS = 14;

/** One line for each part, so that the report of a night is read at a glance. */
function renderPart(result: BackedUp): string {
  const isConfiguration = result.kind === 'configuration';
  const name = isConfiguration ? 'configuration' : `database ${result.database}`;
  const what = isConfiguration
    ? `${countOf(result.manifest.members.length, 'file')}, ${countOf(result.manifest.plugins.length, 'plugin')}`
    : transactionsOf(result.highestTransaction);
  const kind = isConfiguration ? '' : result.kind;
  const facts = [formatBytes(result.artifactBytes), formatDuration(result.durationMs), what].join(', ');
  const line = `${name.padEnd(NAME_COLUMNS)} ${kind.padEnd(KIND_COLUMNS)} ${path.basename(result.artifactPath)}  ${facts}`;
  const places = result.places === undefined ? [] : placeLines(result);
  const details = isConfiguration ? detailsOf(result) : checkOf(result);
  return `${[line, ...places, ...details].join('\n')}\n`;
}

function transactionsOf(highest: bigint): string {
  return highest === 0n ? 'nothing has happened since' : `up to transaction ${highest}`;
}

function checkOf(result: Exclude<BackedUp, { kind: 'configuration' }>): string[] {
  if (result.consistency === undefined) return [];
  return [`  check         ${result.consistency.consistent ? 'consistent' : 'NOT CONSISTENT'}`];
}
