/** What `backup inspect` says about a configuration artifact. */
import path from 'node:path';
import { listConfigurationArtifacts, timeOfName } from '../operations/configurationnames.ts';
import { type CliContext, writeLine } from './context.ts';
import { countOf, renderJson, renderTable } from './render.ts';

export function isConfigurationArtifact(file: string): boolean {
  return timeOfName(path.basename(file)) !== undefined;
}

/** One of them, by its manifest, whose own hash is checked. */
export async function printConfiguration(
  file: string,
  json: boolean,
  { stdout }: CliContext,
): Promise<number> {
  const { ConfigurationArtifact } = await import('../artifact/configurationfile.ts');
  const { detailsOf } = await import('./backupconfiguration.ts');
  const artifact = await ConfigurationArtifact.open(file);
  await artifact.close();
  const { manifest, bytes } = artifact;
  if (json) {
    stdout.write(renderJson({ configuration: { file, bytes, ...manifest } }));
    return 0;
  }
  const { version, edition } = manifest.neo4j ?? { version: 'not known', edition: 'not known' };
  const rows = manifest.members.map((member) => [
    `${member.place}/${member.path}`,
    member.role,
    String(member.bytes),
    member.sha256,
  ]);
  stdout.write(
    `Configuration of Neo4j ${version} (${edition}) on ${manifest.host}, taken at ${manifest.time}\n`,
  );
  stdout.write(renderTable(['FILE', 'ROLE', 'BYTES', 'SHA-256'], rows));
  for (const line of detailsOf({ manifest })) writeLine(stdout, line);
  return 0;
}

/** No table row: the table is of databases. */
export async function printConfigurationsOf(folder: string, { stdout }: CliContext): Promise<void> {
  const [newest, ...others] = await listConfigurationArtifacts(folder);
  if (newest === undefined) return;
  writeLine(
    stdout,
    `configuration: ${countOf(others.length + 1, 'file')}, the newest is ${path.basename(newest)}`,
  );
}
