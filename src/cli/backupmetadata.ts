/** The options of `database backup` that are about users and roles, and what they come to for one database. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { type Command, Option } from 'commander';
import { type ErrorCode, GraphkeepError } from '../errors.ts';
import type { Installation } from '../neo4j/installation.ts';
import type { MetadataChoice, MetadataScript } from '../operations/metadata.ts';
import type { RemoteDatabase } from '../remote/servers.ts';
import { pathOption, usageError } from './options.ts';
import type { WorkContext } from './work.ts';

export interface MetadataOptions {
  /** undefined when it was not given: all that can be had. */
  includeMetadata?: MetadataChoice | 'none';
  boltAddress?: string;
  boltUser?: string;
  boltPasswordFile?: string;
}

const SYSTEM_DATABASE = 'system';
const DEFAULT_USER = 'neo4j';

export function addMetadataOptions(command: Command): Command {
  return command
    .addOption(includeMetadataOption())
    .option('--bolt-address <address>', 'Where roles are asked for (Enterprise), e.g. bolt://localhost:7687')
    .option('--bolt-user <name>', `User who asks for them (default: ${DEFAULT_USER})`)
    .addOption(pathOption('--bolt-password-file <file>', 'File that holds the password of that user'));
}

function includeMetadataOption(): Option {
  return new Option(
    '--include-metadata <what>',
    'Users and roles for the artifact: all, users, users=<name>[,<name>], roles or none (default: all)',
  ).argParser(parseChoice);
}

export function parseChoice(value: string): MetadataChoice | 'none' {
  const kind = value.toLowerCase();
  if (kind === 'none') return kind;
  if (kind === 'all' || kind === 'users' || kind === 'roles') return { kind };
  if (kind.startsWith('users=')) {
    const names = value.slice('users='.length).split(',');
    if (names.every((name) => name !== '')) return { kind: 'users', names };
  }
  throw usageError(
    `--include-metadata=${value} is not possible`,
    'possible values: all, users, users=<name>[,<name>], roles, none',
  );
}

/** Two of the three alone say nothing, and a choice without roles asks nobody. @throws GK_USAGE */
export function checkMetadataOptions({
  includeMetadata,
  remoteAddressResolution,
  ...bolt
}: MetadataOptions & { remoteAddressResolution?: boolean }): void {
  // Then Bolt is asked for something else.
  if (remoteAddressResolution) return;
  const { boltAddress, boltUser, boltPasswordFile } = bolt;
  if (boltAddress === undefined) {
    if (boltUser === undefined && boltPasswordFile === undefined) return;
    throw usageError('--bolt-user and --bolt-password-file need --bolt-address');
  }
  if (boltPasswordFile === undefined) throw usageError('--bolt-address needs --bolt-password-file');
  if (includeMetadata === 'none')
    throw usageError('--bolt-address and --include-metadata=none exclude each other');
}

/** What only means that there are no users to be had; a full disk or an interruption is told as it is. */
const DEGRADING: readonly ErrorCode[] = [
  'GK_NOT_FOUND',
  'GK_UNSUPPORTED',
  'GK_STORE_DAMAGED',
  'GK_SOURCE_MOVED',
  'GK_NO_PERMISSION',
  'GK_UNAUTHORIZED',
];

/** The script of a Neo4j on this host for the artifact of one database; undefined when it gets none. */
export function readLocalMetadata(
  installation: Installation,
  database: string,
  options: MetadataOptions & { readonly temporaryDirectory: string },
  work: WorkContext,
): Promise<MetadataScript | undefined> {
  return readUnlessNone(database, options, work, async (include) => {
    const system = installation.folders(SYSTEM_DATABASE);
    if (!existsSync(path.join(system.storeDirectory, 'neostore'))) {
      throw new GraphkeepError(
        'GK_NOT_FOUND',
        `there is no database system in ${installation.databasesRoot}`,
      );
    }
    const bolt = boltAccess(options);
    const { readMetadataScript } = await import('../operations/metadata.ts');
    return await readMetadataScript({
      system,
      database,
      include,
      temporaryDirectory: options.temporaryDirectory,
      ...(bolt === undefined ? {} : { bolt }),
      signal: work.signal,
      listener: work.progress,
    });
  });
}

/** The same of the Neo4j beside a backup server, which makes the script. A Bolt address is for other questions there. */
export function readRemoteMetadata(
  database: RemoteDatabase,
  { includeMetadata }: MetadataOptions,
  work: WorkContext,
): Promise<MetadataScript | undefined> {
  const options = includeMetadata === undefined ? {} : { includeMetadata };
  return readUnlessNone(database.name, options, work, async (include) => {
    const { fetchMetadata } = await import('../remote/servers.ts');
    return fetchMetadata(database, include, work.signal);
  });
}

/** What was not asked for in so many words is no reason for a backup to fail: then it is a note. */
async function readUnlessNone(
  database: string,
  options: MetadataOptions,
  { progress }: WorkContext,
  read: (include: MetadataChoice) => Promise<MetadataScript>,
): Promise<MetadataScript | undefined> {
  const { includeMetadata, boltAddress } = options;
  if (includeMetadata === 'none') return undefined;
  if (database === SYSTEM_DATABASE) {
    if (includeMetadata !== undefined)
      progress.notice('the artifact of system holds users and roles themselves');
    return undefined;
  }
  try {
    return await read(includeMetadata ?? { kind: 'all' });
  } catch (error) {
    const isWanted = includeMetadata !== undefined || boltAddress !== undefined;
    if (isWanted || !(error instanceof GraphkeepError) || !DEGRADING.includes(error.code)) throw error;
    progress.notice(`the artifact carries no users: ${error.message}`);
    return undefined;
  }
}

export function boltAccess({ boltAddress, boltUser, boltPasswordFile }: MetadataOptions) {
  if (boltAddress === undefined || boltPasswordFile === undefined) return undefined;
  return { address: boltAddress, user: boltUser ?? DEFAULT_USER, passwordFile: boltPasswordFile };
}

/** A line of the report. */
export function metadataLine({ userCount, roleCount }: { userCount: number; roleCount: number }): string {
  const roles = roleCount === 0 ? '' : ` and ${roleCount} role${roleCount === 1 ? '' : 's'}`;
  return `  metadata      ${userCount} user${userCount === 1 ? '' : 's'}${roles}; the artifact holds password hashes`;
}
