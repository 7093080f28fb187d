/**
 * Publishes the configuration of an installation as an artifact of its own, beside those of the databases: under a name
 * that nobody takes for a database, in a folder readable by its owner only, and proven before it gets that name.
 */
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
import { type ArtifactPublication, beginPublication, publishAt } from './artifactfile.ts';
import { BackupPlaces } from './backupplaces.ts';
import { configurationName } from './configurationnames.ts';
import type { PlaceResult, TargetOptions } from './types.ts';

const PARTIAL_NAME = 'configuration.tar';

export interface ConfigurationBackup {
  readonly kind: 'configuration';
  readonly artifactPath: string;
  readonly artifactBytes: number;
  readonly manifest: ConfigurationManifest;
  /** Of a backup to several places, in the order in which they were given. */
  readonly places?: readonly PlaceResult[];
  readonly durationMs: number;
}

/** @throws GK_SOURCE_MOVED when a file changed while it was read */
export function writeConfigurationArtifact(
  content: ConfigurationContent,
  options: TargetOptions,
): Promise<ConfigurationBackup> {
  return publishConfiguration(configurationBytes(content, options.signal), options);
}

/** Bytes of an artifact, made here or by a backup server: nothing is published that does not prove itself. */
export async function publishConfiguration(
  pieces: AsyncIterable<Buffer>,
  options: TargetOptions,
): Promise<ConfigurationBackup> {
  const startedMs = performance.now();
  const places = await BackupPlaces.open(options);
  try {
    const artifact = await publishIn(places, pieces, options);
    const durationMs = Math.round(performance.now() - startedMs);
    const result = { kind: 'configuration', ...artifact, durationMs } as const;
    return places.areSeveral ? { ...result, places: places.results } : result;
  } finally {
    places.release();
  }
}

async function publishIn(
  places: BackupPlaces,
  pieces: AsyncIterable<Buffer>,
  { targetDirectory, signal }: TargetOptions,
): Promise<Pick<ConfigurationBackup, 'artifactPath' | 'artifactBytes' | 'manifest'>> {
  const nameFor = configurationName;
  const destination = { targetDirectory, places, nameFor, partialName: PARTIAL_NAME, signal };
  const { publication, lock } = await beginPublication(destination);
  try {
    const manifest = await sendProven(pieces, publication, signal);
    const prove = (path: string): Promise<void> => readBack(path, signal);
    const startMs = Date.parse(manifest.time);
    const artifactPath = await publishAt(publication, destination, { startMs, prove });
    return { artifactPath, artifactBytes: publication.bytes, manifest };
  } catch (error) {
    await publication.discard();
    throw error;
  } finally {
    lock?.release();
  }
}

/** Proven on its way already: what was sent to a store cannot be read back before it has its name. */
async function sendProven(
  pieces: AsyncIterable<Buffer>,
  publication: ArtifactPublication,
  signal: AbortSignal | undefined,
): Promise<ConfigurationManifest> {
  const sealed = encryptsArtifacts() ? await SealedSink.begin(publication) : undefined;
  const passing = appended(pieces, sealed ?? publication, signal);
  const manifest = await corruptOnFormatError('the configuration as it arrived', () =>
    proveConfiguration(passing),
  );
  await sealed?.finish();
  return manifest;
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

/** What is on a disk is read back, too: between us and it there are a file system and a cable. */
async function readBack(partialPath: string, signal: AbortSignal | undefined): Promise<void> {
  const artifact = await ConfigurationArtifact.open(partialPath);
  try {
    await artifact.verify(signal);
  } finally {
    await artifact.close();
  }
}
