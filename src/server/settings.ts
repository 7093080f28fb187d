/**
 * The settings of `graphkeep server`, read and judged as a whole. Where the values come from is told by
 * `src/remote/configuration.ts`; every setting is described in `docs/server-settings.md`.
 */
import path from 'node:path';
import { GraphkeepError } from '../errors.ts';
import {
  CPU_SHARE_DEFAULT,
  SERVER_SESSIONS_DEFAULT,
  SERVER_SESSIONS_MAX,
  SESSION_TIMEOUT_MS_DEFAULT,
  SESSION_TIMEOUT_MS_MAX,
  SESSION_TIMEOUT_MS_MIN,
} from '../limits.ts';
import {
  type Address,
  BACKUP_PORT,
  formatAddress,
  isLoopback,
  parseAddress,
  parseBooleanWord,
  parseDurationMs,
  parsePercent,
  parseRate,
} from '../neo4j/values.ts';
import { readSettingValues, type SettingSources, type SettingValues } from '../remote/configuration.ts';
import { TLS_POLICY_PREFIX, type TlsPolicySettings, tlsPolicySettings } from '../remote/tlspolicy.ts';

export interface ServerSettings {
  readonly enabled: boolean;
  readonly listenAddress: Address;
  readonly advertisedAddress?: Address;
  readonly tls: TlsPolicySettings;
  readonly accessFile?: string;
  readonly insecure: boolean;
  readonly monitoringAddress?: Address;
  readonly sessionTimeoutMs: number;
  readonly sessionsMax: number;
  readonly rateBytesPerSecond?: number;
  /** Percent of all processors that backups take at any rate; 100: as much as they get. */
  readonly cpuSharePercent: number;
  readonly auditLog?: string;
  readonly stagingDirectory?: string;
  /** The `graphkeep.conf` that was read, if there is one. */
  readonly configurationFile?: string;
  /** For the user, one line each. */
  readonly notes: readonly string[];
}

/** Of `/health`, `/ready` and `/metrics`, when the setting names no port. */
export const MONITORING_PORT = 6363;
const LOOPBACK = '127.0.0.1';

/** @throws GraphkeepError GK_CONFIG naming the setting and where it was found */
export async function readServerSettings(sources: SettingSources): Promise<ServerSettings> {
  const read = new SettingReader(await readSettingValues(sources));
  const { baseFolder, file, values, notes } = read.source;
  const listenAddress = read.listenAddress();
  return {
    enabled: read.flag('server.backup.enabled') ?? true,
    listenAddress,
    ...optional('advertisedAddress', read.advertisedAddress(listenAddress)),
    tls: tlsPolicySettings(values, baseFolder),
    ...optional('accessFile', read.path('graphkeep.server.access_file')),
    insecure: read.flag('graphkeep.server.insecure') ?? false,
    ...optional(
      'monitoringAddress',
      read.address('graphkeep.server.monitoring_address', { host: LOOPBACK, port: MONITORING_PORT }),
    ),
    sessionTimeoutMs: read.sessionTimeoutMs() ?? SESSION_TIMEOUT_MS_DEFAULT,
    sessionsMax: read.sessionsMax() ?? SERVER_SESSIONS_DEFAULT,
    ...optional('rateBytesPerSecond', read.rate()),
    cpuSharePercent: read.cpuShare() ?? CPU_SHARE_DEFAULT,
    ...optional('auditLog', read.path('graphkeep.server.audit_log')),
    ...optional('stagingDirectory', read.path('graphkeep.server.staging_directory')),
    ...optional('configurationFile', file),
    notes,
  };
}

/** A property that is either there with a value or not there at all. */
function optional<Name extends string, Value>(
  name: Name,
  value: Value | undefined,
): { readonly [key in Name]?: Value } {
  return value === undefined ? {} : ({ [name]: value } as { [key in Name]: Value });
}

class SettingReader {
  readonly source: SettingValues;

  constructor(source: SettingValues) {
    this.source = source;
  }

  flag(name: string): boolean | undefined {
    return this.#parsed(name, parseBooleanWord, 'true or false');
  }

  path(name: string): string | undefined {
    return this.#parsed(name, (text) => path.resolve(this.source.baseFolder, text), 'a path');
  }

  address(name: string, fallback: Address): Address | undefined {
    return this.#parsed(name, (text) => parseAddress(text, fallback), 'an address such as 127.0.0.1:6362');
  }

  listenAddress(): Address {
    const fallback = { host: LOOPBACK, port: BACKUP_PORT };
    // 3.x took a range of ports, `127.0.0.1:6362-6372`, and the first free one; ours is always the first.
    const parse = (text: string): Address | undefined =>
      parseAddress(text.replace(/(:\d+)-\d+$/, '$1'), fallback);
    return (
      this.#parsed('server.backup.listen_address', parse, 'an address such as 127.0.0.1:6362') ?? fallback
    );
  }

  advertisedAddress(listenAddress: Address): Address | undefined {
    const advertised = this.address('server.backup.advertised_address', listenAddress);
    // Port 0 is how Neo4j writes "the one that is listened on".
    return advertised?.port === 0 ? { host: advertised.host, port: listenAddress.port } : advertised;
  }

  sessionTimeoutMs(): number | undefined {
    const parse = (text: string): number | undefined =>
      within(parseDurationMs(text), SESSION_TIMEOUT_MS_MIN, SESSION_TIMEOUT_MS_MAX);
    return this.#parsed('graphkeep.server.session_timeout', parse, 'a time from 1s to 24h, such as 5m');
  }

  sessionsMax(): number | undefined {
    const parse = (text: string): number | undefined =>
      /^\d{1,6}$/.test(text) ? within(Number(text), 1, SERVER_SESSIONS_MAX) : undefined;
    return this.#parsed('graphkeep.server.sessions_max', parse, `a number from 1 to ${SERVER_SESSIONS_MAX}`);
  }

  rate(): number | undefined {
    return this.#parsed('graphkeep.server.limit_rate', parseRate, 'a size per second such as 50M');
  }

  cpuShare(): number | undefined {
    return this.#parsed('graphkeep.server.cpu_share', parsePercent, 'a percentage from 1 to 100');
  }

  #parsed<Value>(name: string, parse: (text: string) => Value | undefined, shape: string): Value | undefined {
    const text = this.source.values.get(name);
    if (text === undefined) return undefined;
    const value = parse(text);
    if (value !== undefined) return value;
    const origin = this.source.origins.get(name) ?? 'the configuration';
    throw new GraphkeepError('GK_CONFIG', `${name}=${text} in ${origin} is not possible: it takes ${shape}`, {
      hint: `correct ${name}`,
    });
  }
}

function within(value: number | undefined, least: number, most: number): number | undefined {
  return value !== undefined && value >= least && value <= most ? value : undefined;
}

/** What `refuseUnsafe` must know of the access list. */
export interface AccessFacts {
  readonly hasTokens: boolean;
  readonly hasCertificates: boolean;
}

/**
 * A backup is every byte of a database, passwords included, so who listens beyond this machine must know whom he
 * answers: by client certificates, or by tokens or certificate names over TLS. A token over plain HTTP protects nothing:
 * whoever sees one request has it. `insecure` insists.
 * @param access of the access file, undefined when there is none
 * @returns warnings, to be printed at every start
 * @throws GraphkeepError GK_CONFIG naming what to set
 */
export function refuseUnsafe(settings: ServerSettings, access: AccessFacts | undefined): readonly string[] {
  refuseUnprovenNames(settings, access);
  const warnings: string[] = [];
  const { monitoringAddress: monitoring } = settings;
  if (monitoring !== undefined && !isLoopback(monitoring.host)) {
    warnings.push(
      `${formatAddress(monitoring)} tells the names of databases and figures of backups to anybody, unencrypted`,
    );
  }
  const where = formatAddress(settings.listenAddress);
  const problem = isLoopback(settings.listenAddress.host) ? undefined : whyUnsafe(settings, access);
  if (problem === undefined) return warnings;
  if (settings.insecure) {
    return [...warnings, `listening on ${where} although ${problem} (graphkeep.server.insecure)`];
  }
  throw new GraphkeepError('GK_CONFIG', `refusing to listen on ${where}, beyond this machine: ${problem}`, {
    hint:
      `set ${TLS_POLICY_PREFIX}enabled=true with client_auth=REQUIRE or graphkeep.server.access_file, ` +
      'listen on 127.0.0.1, or insist with --insecure',
  });
}

function whyUnsafe({ tls }: ServerSettings, access: AccessFacts | undefined): string | undefined {
  const everybody = 'anybody who reaches it could copy every database';
  if (!tls.enabled) {
    if (access === undefined) return `without TLS and an access file ${everybody}`;
    return 'without TLS a token can be read by anybody on the way, and all data with it';
  }
  if (access?.hasTokens) return undefined;
  if (tls.trustAll) return `with trust_all no certificate proves anything, so ${everybody}`;
  if (access !== undefined || tls.clientAuth === 'REQUIRE') return undefined;
  return `with client_auth=${tls.clientAuth} and no access file ${everybody}`;
}

/** On loopback as well: whoever writes names of certificates into the access file relies on them. */
function refuseUnprovenNames({ tls }: ServerSettings, access: AccessFacts | undefined): void {
  if (!access?.hasCertificates) return;
  const setting = tls.enabled ? 'trust_all=true' : 'enabled=false';
  if (tls.enabled && !tls.trustAll && tls.clientAuth !== 'NONE') return;
  const key = tls.enabled && !tls.trustAll ? 'client_auth=NONE' : setting;
  throw new GraphkeepError(
    'GK_CONFIG',
    `the access file names certificates, but with ${TLS_POLICY_PREFIX}${key} no certificate is checked`,
    { hint: `set ${TLS_POLICY_PREFIX}client_auth=REQUIRE or OPTIONAL, or use tokens` },
  );
}
