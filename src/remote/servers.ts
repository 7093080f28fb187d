/**
 * The backup servers of `--from`, in the order in which they were named: who answers, which databases each has, and which
 * one a database is taken from. One that is down is told and passed over.
 */
import { asGraphkeepError, GraphkeepError } from '../errors.ts';
import type { BackupSource } from '../hotcopy/source.ts';
import { SESSION_CLOSE_MS_MAX } from '../limits.ts';
import { databaseMatcher, isPattern, normalizeDatabaseName } from '../neo4j/glob.ts';
import type { DatabaseHosts } from '../neo4j/topology.ts';
import type { Address } from '../neo4j/values.ts';
import { Connection, type ConnectionOptions } from './connection.ts';
import {
  type BackupReport,
  type MetadataAnswer,
  type MetadataInclude,
  PROTOCOL_VERSION,
  parseMetadata,
} from './protocol.ts';
import { listRemoteDatabases, remoteSource } from './remotesource.ts';

export interface ServersOptions extends Omit<ConnectionOptions, 'host' | 'port'> {
  readonly addresses: readonly Address[];
  readonly signal?: AbortSignal;
  /** Which of the hosts a database is to be taken from, the best first; the order of the addresses where it says nothing. */
  readonly hosts?: DatabaseHosts;
  /** Told of a server that is passed over. */
  readonly onNotice: (message: string) => void;
}

/** A database and the server that it is taken from. */
export interface RemoteDatabase {
  readonly name: string;
  readonly connection: Connection;
  /** Further servers that list a database of that name. */
  readonly others: readonly Connection[];
}

export type SelectedRemote = RemoteDatabase | { readonly name: string; readonly error: GraphkeepError };

interface Server {
  readonly host: string;
  readonly connection: Connection;
  readonly databases: ReadonlySet<string>;
}

export class RemoteServers {
  readonly #servers: readonly Server[];
  readonly #hosts: DatabaseHosts;

  private constructor(servers: readonly Server[], hosts: DatabaseHosts) {
    this.#servers = servers;
    this.#hosts = hosts;
  }

  /** @throws what the first server failed with, when none answers */
  static async connect({
    addresses,
    hosts,
    onNotice,
    signal,
    ...options
  }: ServersOptions): Promise<RemoteServers> {
    const servers: Server[] = [];
    let failure: GraphkeepError | undefined;
    for (const address of addresses) {
      const connection = new Connection({ ...options, ...address });
      try {
        await connection.greet(signal);
        const databases = new Set(await listRemoteDatabases(connection, signal));
        servers.push({ host: address.host, connection, databases });
      } catch (error) {
        connection.close();
        const cause = asGraphkeepError(error, `talk to ${connection.address}`);
        if (cause.code === 'GK_INTERRUPTED') throw cause;
        if (addresses.length > 1) onNotice(`${cause.message}; it is passed over`);
        failure ??= cause;
      }
    }
    if (servers.length === 0) throw failure ?? new GraphkeepError('GK_USAGE', 'no backup server is named');
    return new RemoteServers(servers, hosts ?? new Map());
  }

  /**
   * Names and patterns → databases, each once, in the order asked; patterns match what any of the servers has. A plain name
   * that none lists is asked of the first, which then says whether it is missing or not allowed.
   */
  select(requested: readonly string[]): SelectedRemote[] {
    const selected = new Map<string, SelectedRemote>();
    for (const text of requested) {
      const names = isPattern(text) ? this.#matching(text) : [normalizeDatabaseName(text)];
      for (const name of names) selected.set(name, this.#placeOf(name));
      if (names.length === 0) selected.set(text, { name: text, error: this.#nothingMatches(text) });
    }
    return [...selected.values()];
  }

  /** What belongs to a host and not to a database is asked of this one. */
  get first(): Connection {
    return this.#servers[0]!.connection;
  }

  close(): void {
    for (const { connection } of this.#servers) connection.close();
  }

  #matching(pattern: string): string[] {
    const matches = databaseMatcher(pattern);
    const names = this.#servers.flatMap(({ databases }) => [...databases].filter(matches));
    return [...new Set(names)].sort();
  }

  #placeOf(name: string): RemoteDatabase {
    const having = this.#servers.filter(({ databases }) => databases.has(name));
    const preferred = this.#hosts.get(name) ?? [];
    const byHost = preferred.flatMap((host) => having.find((server) => server.host === host) ?? []);
    const { connection } = byHost[0] ?? having[0] ?? this.#servers[0]!;
    const others = having.map((server) => server.connection).filter((other) => other !== connection);
    return { name, connection, others };
  }

  #nothingMatches(pattern: string): GraphkeepError {
    const addresses = this.#servers.map(({ connection }) => connection.address).join(', ');
    return new GraphkeepError(
      'GK_NOT_FOUND',
      `no database that may be read there matches '${pattern}' on ${addresses}`,
    );
  }
}

/** @param parallel told of further servers that cannot help; undefined to take everything from one */
export function sourceOf(
  { connection, name, others }: RemoteDatabase,
  parallel?: (message: string) => void,
): BackupSource {
  return remoteSource(connection, name, parallel === undefined ? [] : others, parallel);
}

/** Users and roles for the artifact of a database, made by the server. @throws GK_UNAUTHORIZED, GK_NOT_FOUND, … */
export async function fetchMetadata(
  { connection, name }: RemoteDatabase,
  include: MetadataInclude,
  signal?: AbortSignal,
): Promise<MetadataAnswer> {
  const path = `/${PROTOCOL_VERSION}/databases/${encodeURIComponent(name)}/metadata`;
  return parseMetadata(await connection.request('POST', path, include, signal));
}

/** What came of a backup, for the metrics of the server. A report that gets lost takes nothing back. */
export async function reportBackup(
  { connection, name }: RemoteDatabase,
  report: BackupReport,
): Promise<void> {
  const signal = AbortSignal.timeout(SESSION_CLOSE_MS_MAX);
  const path = `/${PROTOCOL_VERSION}/databases/${encodeURIComponent(name)}/reports`;
  await connection.request('POST', path, report, signal).catch(() => undefined);
}
