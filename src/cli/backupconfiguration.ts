/** The options of backups that are about the configuration of a Neo4j, and what one artifact of it comes to. */
import path from 'node:path';
import type { Command } from 'commander';
import type { LeftOutFile } from '../formats/configuration/manifest.ts';
import type { ConfigurationBackup } from '../operations/configurationbackup.ts';
import type { TargetOptions } from '../operations/types.ts';
import type { Sources } from './backupsource.ts';
import { type CliContext, writeLine } from './context.ts';
import { booleanOption, usageError } from './options.ts';
import { countOf, formatBytes, placeLines } from './render.ts';
import type { WorkItem } from './work.ts';

export interface ConfigurationOptions {
  includeConfiguration?: boolean;
  includePlugins?: boolean;
  fromPathData?: string;
}

/** What a report calls it among the databases. */
export const CONFIGURATION_SUBJECT = 'configuration';

export function addIncludePlugins(command: Command): Command {
  return command.addOption(
    booleanOption(
      '--include-plugins',
      'Take the jars of the plugins as well, not only names, versions and hashes',
      false,
    ),
  );
}

export function addConfigurationOptions(command: Command): Command {
  command.addOption(
    booleanOption(
      '--include-configuration',
      'Take settings, certificates, licenses and the list of plugins, too: one more file',
      false,
    ),
  );
  return addIncludePlugins(command);
}

/** @throws GK_USAGE for options that contradict each other */
export function checkConfigurationOptions(options: ConfigurationOptions): void {
  if (options.includeConfiguration === true) {
    if (options.fromPathData === undefined) return;
    throw usageError('--include-configuration needs --neo4j-home instead of --from-path-data');
  }
  if (options.includePlugins === true)
    throw usageError('--include-plugins needs --include-configuration', 'give both, or none');
}

export function configurationItem(
  sources: Sources,
  { includePlugins }: ConfigurationOptions,
  targets: TargetOptions,
  { context, talk }: { context: CliContext; talk: boolean },
): WorkItem<ConfigurationBackup> {
  return {
    subject: CONFIGURATION_SUBJECT,
    async run({ signal, progress }) {
      if (talk) writeLine(context.stderr, 'Doing backup of the configuration...');
      const content = await sources.readConfiguration(includePlugins === true, signal);
      const { writeConfigurationArtifact } = await import('../operations/configurationbackup.ts');
      return await writeConfigurationArtifact(content, { ...targets, signal, listener: progress });
    },
  };
}

export function renderConfiguration(result: ConfigurationBackup): string {
  const file = path.basename(result.artifactPath);
  return [
    `Finished artifact creation '${file}' for the configuration, took ${result.durationMs}ms.`,
    ...placeLines(result),
    `  size          ${formatBytes(result.artifactBytes)} for ${countOf(result.manifest.members.length, 'file')}`,
    ...detailsOf(result),
    '',
  ].join('\n');
}

/** What somebody who relies on this artifact should know of it. */
export function detailsOf({ manifest }: Pick<ConfigurationBackup, 'manifest'>): string[] {
  const { plugins, leftOut, secretSettings } = manifest;
  const lines: string[] = [];
  for (const { file, version, included } of plugins) {
    const name = version === undefined ? file : `${file}, version ${version}`;
    lines.push(`  plugin        ${name}: ${included ? 'taken' : 'only its hash was taken'}`);
  }
  const keys = leftOut.filter(({ reason }) => reason === 'privateKey');
  for (const { file } of keys)
    lines.push(`  left out      ${file}: a private key; keep it in a safe place yourself`);
  for (const { file, reason } of leftOut) {
    if (reason !== 'privateKey') lines.push(`  left out      ${file}: ${REASONS[reason]}`);
  }
  if (secretSettings.length > 0)
    lines.push(`  secrets       the file holds the values of ${secretSettings.join(', ')}`);
  return lines;
}

const REASONS: Readonly<Record<Exclude<LeftOutFile['reason'], 'privateKey'>, string>> = {
  link: 'a link that leads out of its folder, or to none of its files',
  outside: 'it lies in none of the folders that are taken',
  special: 'neither a file nor a folder',
};
