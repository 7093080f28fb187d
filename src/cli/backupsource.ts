/** Where `database backup` takes databases from: the files of this host, or the backup servers of `--from`. */
import type { ConfigurationContent } from '../artifact/configurationfile.ts';
import { encryptsArtifacts } from '../artifact/encryption.ts';
import type { BackupSource } from '../hotcopy/source.ts';
import {
  type Installation,
  installationFromPaths,
  openInstallation,
  selectDatabases,
} from '../neo4j/installation.ts';
import { formatAddress } from '../neo4j/values.ts';
import type { MetadataScript } from '../operations/metadata.ts';
import type { BackupReport } from '../remote/protocol.ts';
import type { RemoteDatabase } from '../remote/servers.ts';
import { boltAccess, type MetadataOptions, readLocalMetadata, readRemoteMetadata } from './backupmetadata.ts';
import { type CliContext, writeLine } from './context.ts';
import { requirePair, usageError } from './options.ts';
import { connectToServers, type RemoteOptions, refuseWithoutServers } from './remoteoptions.ts';
import type { WorkContext } from './work.ts';

const BOLT_PORT = 7687;

export interface SourceOptions extends RemoteOptions, MetadataOptions {
  fromPathData?: string;
  fromPathTxn?: string;
  additionalConfig?: string;
}

/** One database of the command line. */
export interface SelectedSource {
  readonly name: string;
  /** @throws what keeps this one from being backed up; the others are still done */
  open(): Promise<BackupSource>;
  readMetadata(work: WorkContext): Promise<MetadataScript | undefined>;
  /** What came of it, for the metrics of a backup server. */
  report(report: BackupReport): Promise<void>;
}

export interface Sources {
  /** undefined for backup servers without `--neo4j-home`. */
  readonly installation: Installation | undefined;
  readonly selected: readonly SelectedSource[];
  readConfiguration(includePlugins: boolean, signal: AbortSignal): Promise<ConfigurationContent>;
  close(): void;
}

/** @throws GK_USAGE, GK_NOT_FOUND, …, and what keeps the only server from answering */
export async function openSources(
  names: readonly string[],
  options: SourceOptions & { readonly temporaryDirectory: string },
  context: CliContext,
  talk: boolean,
): Promise<Sources> {
  refuseWithoutServers(options);
  return options.from === undefined
    ? localSources(names, options, context)
    : remoteSources(names, options, context, talk);
}

async function localSources(
  names: readonly string[],
  options: SourceOptions & { readonly temporaryDirectory: string },
  context: CliContext,
): Promise<Sources> {
  const installation = await openLocal(options, context);
  const selected = (await selectDatabases(installation, names)).map(
    ({ name, error }): SelectedSource => ({
      name,
      open: async () => {
        if (error !== undefined) throw error;
        const { localSource } = await import('../hotcopy/source.ts');
        return localSource(installation.folders(name));
      },
      readMetadata: (work) => readLocalMetadata(installation, name, options, work),
      report: async () => undefined,
    }),
  );
  const readConfiguration: Sources['readConfiguration'] = async (includePlugins, signal) => {
    const local = await import('../operations/configuration.ts');
    return local.readConfiguration({
      installation,
      includePlugins,
      includePrivateKeys: encryptsArtifacts(),
      signal,
    });
  };
  return { installation, selected, readConfiguration, close: () => undefined };
}

async function remoteSources(
  names: readonly string[],
  options: SourceOptions,
  context: CliContext,
  talk: boolean,
): Promise<Sources> {
  refuseBesideFrom(options);
  const onNotice = oncePerMessage((message) => talk && writeLine(context.stderr, message));
  const bolt = options.remoteAddressResolution ? boltOfServers(options) : undefined;
  const servers = await connectToServers(options, context, { bolt, onNotice });
  const remote = await import('../remote/servers.ts');
  const installation =
    options.neo4jHome === undefined ? undefined : await openInstallation(placesOf(options, context));
  const required = (database: RemoteDatabase | Error): RemoteDatabase => {
    if (database instanceof Error) throw database;
    return database;
  };
  const selected = servers.select(names).map((chosen): SelectedSource => {
    const database = 'error' in chosen ? chosen.error : chosen;
    return {
      name: chosen.name,
      open: async () => remote.sourceOf(required(database), options.parallelDownload ? onNotice : undefined),
      readMetadata: (work) => readRemoteMetadata(required(database), options, work),
      report: async (report) => {
        if (!(database instanceof Error)) await remote.reportBackup(database, report);
      },
    };
  });
  const readConfiguration: Sources['readConfiguration'] = async (includePlugins, signal) => {
    const { fetchConfiguration } = await import('../remote/remoteconfiguration.ts');
    return fetchConfiguration(servers.first, includePlugins, signal);
  };
  return { installation, selected, readConfiguration, close: () => servers.close() };
}

/** Beside the backup server there is a Neo4j, most often on its usual port. */
function boltOfServers(options: SourceOptions) {
  const host = options.from?.[0]?.host ?? 'localhost';
  const bolt = boltAccess({
    ...options,
    boltAddress: options.boltAddress ?? formatAddress({ host, port: BOLT_PORT }),
  });
  if (bolt !== undefined) return bolt;
  throw usageError(
    '--remote-address-resolution needs --bolt-password-file',
    'and --bolt-user, unless it is neo4j',
  );
}

/** A connection that is tried again every few seconds is one piece of news. */
function oncePerMessage(tell: (message: string) => unknown): (message: string) => void {
  let last = '';
  return (message) => {
    if (message !== last) tell(message);
    last = message;
  };
}

function refuseBesideFrom(options: SourceOptions): void {
  const { fromPathData, fromPathTxn, additionalConfig } = options;
  const other =
    fromPathData !== undefined || fromPathTxn !== undefined
      ? '--from-path-data and --from-path-txn'
      : undefined;
  if (other !== undefined) throw usageError(`--from and ${other} exclude each other`);
  if (options.boltAddress !== undefined && !options.remoteAddressResolution) {
    throw usageError(
      '--from and --bolt-address exclude each other: roles are not asked for beside a backup server',
      'add --remote-address-resolution if Neo4j is to say where the databases live',
    );
  }
  if (additionalConfig !== undefined) {
    throw usageError(
      '--from and --additional-config exclude each other: use --config for the TLS of this side',
    );
  }
}

async function openLocal(options: SourceOptions, context: CliContext): Promise<Installation> {
  const byPath = requirePair(
    { ...options },
    ['fromPathData', '--from-path-data'],
    ['fromPathTxn', '--from-path-txn'],
  );
  if (!byPath) return openInstallation(placesOf(options, context));
  refuseBesidePaths(options, '--from-path-data');
  return installationFromPaths(options.fromPathData ?? '', options.fromPathTxn ?? '');
}

function placesOf(options: SourceOptions, context: CliContext) {
  const { neo4jHome: home, additionalConfig } = options;
  return { home, additionalConfig, command: 'backup', environment: context.environment };
}

/** Two answers to "which folders" contradict each other; neither is silently taken. */
export function refuseBesidePaths(
  options: { neo4jHome?: string; additionalConfig?: string },
  pathOptionName: string,
): void {
  if (options.neo4jHome !== undefined)
    throw usageError(`--neo4j-home and ${pathOptionName} exclude each other`);
  if (options.additionalConfig !== undefined) {
    throw usageError(
      `--additional-config and ${pathOptionName} exclude each other: no configuration is read then`,
    );
  }
}
