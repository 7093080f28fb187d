/**
 * Publishes the configuration of an installation as an artifact of its own, beside those of the databases: under a name
 * that nobody takes for a database, readable by its owner only, and read back and proven before it gets that name.
 */
import { join } from 'node:path';
import {
  ConfigurationArtifact,
  type ConfigurationContent,
  configurationBytes,
} from '../artifact/configurationfile.ts';
import { encryptsArtifacts } from '../artifact/encryption.ts';
import { SealedSink } from '../artifact/sealedsink.ts';
import { throwIfAborted } from '../errors.ts';
import type { ConfigurationManifest } from '../formats/configuration/manifest.ts';
import { filesIn, joinPath } from '../storage/places.ts';
import { beginFile, publishUnderFreeName, requireDirectory } from './artifactfile.ts';
import type { OperationContext } from './types.ts';

const PREFIX = 'configuration-';
const SUFFIX = '.tar';
const PARTIAL_NAME = 'configuration.tar';

export interface ConfigurationBackup {
  readonly kind: 'configuration';
  readonly artifactPath: string;
  readonly artifactBytes: number;
  readonly manifest: ConfigurationManifest;
  readonly durationMs: number;
}

export interface PublishOptions extends OperationContext {
  /** An existing folder. */
  readonly targetDirectory: string;
}

/** @throws GK_SOURCE_MOVED when a file changed while it was read */
export function writeConfigurationArtifact(
  content: ConfigurationContent,
  options: PublishOptions,
): Promise<ConfigurationBackup> {
  return publishConfiguration(configurationBytes(content, options.signal), options);
}

/** Bytes of an artifact, made here or by a backup server: nothing is published that does not prove itself. */
export async function publishConfiguration(
  pieces: AsyncIterable<Buffer>,
  { targetDirectory, signal }: PublishOptions,
): Promise<ConfigurationBackup> {
  const startedMs = performance.now();
  await requireDirectory(targetDirectory);
  const { publication, lock } = await beginFile(targetDirectory, PARTIAL_NAME);
  try {
    const sealed = encryptsArtifacts() ? await SealedSink.begin(publication) : undefined;
    for await (const piece of pieces) {
      throwIfAborted(signal);
      await (sealed ?? publication).append(piece);
    }
    await sealed?.finish();
    const manifest = await proveArtifact(publication.partialPath, signal);
    const pathOf = (time: string): string => join(targetDirectory, `${PREFIX}${time}${SUFFIX}`);
    const artifactPath = await publishUnderFreeName(publication, pathOf, Date.parse(manifest.time), signal);
    const durationMs = Math.round(performance.now() - startedMs);
    return { kind: 'configuration', artifactPath, artifactBytes: publication.bytes, manifest, durationMs };
  } catch (error) {
    await publication.discard();
    throw error;
  } finally {
    lock?.release();
  }
}

async function proveArtifact(path: string, signal: AbortSignal | undefined): Promise<ConfigurationManifest> {
  const artifact = await ConfigurationArtifact.open(path);
  try {
    await artifact.verify(signal);
    return artifact.manifest;
  } finally {
    await artifact.close();
  }
}

/** Paths of the configuration artifacts of a folder, the newest first, by the times in their names. */
export async function listConfigurationArtifacts(directory: string): Promise<string[]> {
  return (await filesIn(directory))
    .filter((name) => timeOfName(name) !== undefined)
    .sort()
    .map((name) => joinPath(directory, name))
    .reverse();
}

/** `2026-11-21T12-43-07` of `configuration-2026-11-21T12-43-07.tar`. */
export function timeOfName(name: string): string | undefined {
  return /^configuration-(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d)\.tar$/.exec(name)?.[1];
}
