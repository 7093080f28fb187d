/**
 * Publishes the configuration of an installation as an artifact of its own, beside those of the databases: under a name
 * that nobody takes for a database, in a folder readable by its owner only, and proven before it gets that name.
 */
import { join } from 'node:path';
import {
  ConfigurationArtifact,
  type ConfigurationContent,
  configurationBytes,
} from '../artifact/configurationfile.ts';
import { proveConfiguration } from '../artifact/configurationproof.ts';
import { encryptsArtifacts } from '../artifact/encryption.ts';
import { corruptOnFormatError } from '../artifact/reader.ts';
import { SealedSink } from '../artifact/sealedsink.ts';
import type { ArtifactSink } from '../artifact/writer.ts';
import { throwIfAborted } from '../errors.ts';
import type { ConfigurationManifest } from '../formats/configuration/manifest.ts';
import type { Publication } from '../storage/local.ts';
import { ObjectPublication } from '../storage/objects/publication.ts';
import { isStoreUrl } from '../storage/places.ts';
import { beginObject, publishObject, publishUnderFreeName, requireDirectory } from './artifactfile.ts';
import { configurationName } from './configurationnames.ts';
import { beginFile } from './partialfile.ts';
import type { OperationContext } from './types.ts';

const PARTIAL_NAME = 'configuration.tar';

export interface ConfigurationBackup {
  readonly kind: 'configuration';
  readonly artifactPath: string;
  readonly artifactBytes: number;
  readonly manifest: ConfigurationManifest;
  readonly durationMs: number;
}

export interface PublishOptions extends OperationContext {
  /** An existing folder, or the URL of one in a store. */
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
  const { publication, lock } = isStoreUrl(targetDirectory)
    ? { publication: await beginObject(targetDirectory, configurationName, { signal }), lock: undefined }
    : await beginFile(targetDirectory, PARTIAL_NAME);
  try {
    const sealed = encryptsArtifacts() ? await SealedSink.begin(publication) : undefined;
    // On its way already: what was sent to a store cannot be read back before it has its name.
    const manifest = await corruptOnFormatError(publication.partialPath, () =>
      proveConfiguration(appended(pieces, sealed ?? publication, signal)),
    );
    await sealed?.finish();
    const artifactPath =
      publication instanceof ObjectPublication
        ? await publishObject(publication, targetDirectory, signal)
        : await publishFile(publication, targetDirectory, manifest, signal);
    const durationMs = Math.round(performance.now() - startedMs);
    return { kind: 'configuration', artifactPath, artifactBytes: publication.bytes, manifest, durationMs };
  } catch (error) {
    await publication.discard();
    throw error;
  } finally {
    lock?.release();
  }
}

async function* appended(
  pieces: AsyncIterable<Buffer>,
  publication: Pick<ArtifactSink, 'append'>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer, void> {
  for await (const piece of pieces) {
    throwIfAborted(signal);
    await publication.append(piece);
    yield piece;
  }
}

/** What is on the disk is read back, too: between us and it there are a file system and a cable. */
async function publishFile(
  publication: Publication,
  targetDirectory: string,
  manifest: ConfigurationManifest,
  signal: AbortSignal | undefined,
): Promise<string> {
  const artifact = await ConfigurationArtifact.open(publication.partialPath);
  try {
    await artifact.verify(signal);
  } finally {
    await artifact.close();
  }
  const pathOf = (time: string): string => join(targetDirectory, configurationName(time));
  return publishUnderFreeName(publication, pathOf, Date.parse(manifest.time), signal);
}
