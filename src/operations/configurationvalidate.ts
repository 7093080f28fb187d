/** `backup validate` of a configuration: its manifest, and every file in it by its hash. */
import { ConfigurationArtifact } from '../artifact/configurationfile.ts';
import { GraphkeepError } from '../errors.ts';

export interface ConfigurationVerdict {
  readonly path: string;
  readonly valid: boolean;
  /** Each says what and where; empty when valid. */
  readonly problems: readonly string[];
  /** What the manifest names; 0 when it cannot be read. */
  readonly memberCount: number;
  readonly memberBytes: number;
}

/** Reads every byte. Damage is a result, not an error; errors are what kept the file from being read. */
export async function validateConfiguration(
  path: string,
  signal?: AbortSignal,
): Promise<ConfigurationVerdict> {
  let artifact: ConfigurationArtifact | undefined;
  try {
    artifact = await ConfigurationArtifact.open(path);
    await artifact.verify(signal);
    return verdictOf(path, artifact, []);
  } catch (error) {
    if (!(error instanceof GraphkeepError) || error.code !== 'GK_ARTIFACT_CORRUPT') throw error;
    return verdictOf(path, artifact, [error.message]);
  } finally {
    await artifact?.close();
  }
}

function verdictOf(
  path: string,
  artifact: ConfigurationArtifact | undefined,
  problems: readonly string[],
): ConfigurationVerdict {
  const members = artifact?.manifest.members ?? [];
  const memberBytes = members.reduce((sum, { bytes }) => sum + bytes, 0);
  return { path, valid: problems.length === 0, problems, memberCount: members.length, memberBytes };
}
