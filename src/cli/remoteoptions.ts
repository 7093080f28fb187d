/** The options of a command that talks to backup servers, and the connection that they come to. */
import { type Command, Option } from 'commander';
import { GraphkeepError } from '../errors.ts';
import { INACTIVITY_MS_DEFAULT, TOKEN_CHARACTERS_MAX } from '../limits.ts';
import type { BoltAccess } from '../neo4j/bolt.ts';
import type { DatabaseHosts } from '../neo4j/topology.ts';
import { type Address, BACKUP_PORT, isLoopback, parseAddress, parseDurationMs } from '../neo4j/values.ts';
import type { RemoteServers } from '../remote/servers.ts';
import type { CliContext } from './context.ts';
import { booleanOption, pathOption, usageError } from './options.ts';

export interface RemoteOptions {
  from?: readonly Address[];
  config?: string;
  tokenFile?: string;
  inactivityTimeout?: number;
  insecure?: boolean;
  remoteAddressResolution?: boolean;
  parallelDownload?: boolean;
  neo4jHome?: string;
}

const ADDRESSES_MAX = 64;

export function addRemoteOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        '--from <addresses>',
        `Backup servers, <host>:<port>[,<host>:<port>]: instead of the files of this host (port: ${BACKUP_PORT})`,
      ).argParser(parseFrom),
    )
    .addOption(
      pathOption(
        '--config <file>',
        'graphkeep.conf with the TLS policy dbms.ssl.policy.backup.* of this side',
      ),
    )
    .addOption(pathOption('--token-file <file>', 'File that holds the token for the backup servers'))
    .addOption(
      new Option(
        '--inactivity-timeout <time>',
        'Give up when nothing came for this long, e.g. 90s (default: 5m)',
      ).argParser(parseInactivity),
    )
    .addOption(
      booleanOption(
        '--parallel-download',
        'Fetch parts of a full backup from all servers that hold the same store',
        false,
      ),
    )
    .addOption(
      booleanOption(
        '--remote-address-resolution',
        'Ask Neo4j over Bolt on which hosts the databases live, and prefer secondaries',
        false,
      ),
    )
    .addOption(new Option('--insecure', 'Send the token although nothing is encrypted'));
}

function parseFrom(value: string): Address[] {
  const addresses = value.split(',').map((text) => {
    const address = parseAddress(text.trim(), { host: 'localhost', port: BACKUP_PORT });
    if (address === undefined) {
      throw usageError(`--from names no address: '${text}'`, 'write --from=<host>:<port>[,<host>:<port>]');
    }
    return address;
  });
  if (addresses.length > ADDRESSES_MAX) throw usageError(`--from takes at most ${ADDRESSES_MAX} addresses`);
  return addresses;
}

function parseInactivity(value: string): number {
  const milliseconds = parseDurationMs(value);
  if (milliseconds === undefined || milliseconds < 1)
    throw usageError(`--inactivity-timeout takes a time such as 90s or 5m, not '${value}'`);
  return milliseconds;
}

/** What only makes sense with a server must not be silently ignored. @throws GK_USAGE */
export function refuseWithoutServers(options: RemoteOptions): void {
  if (options.from !== undefined) return;
  const given = (
    [
      ['--token-file', options.tokenFile],
      ['--inactivity-timeout', options.inactivityTimeout],
      ['--insecure', options.insecure],
      ['--config', options.config],
      ['--parallel-download', options.parallelDownload || undefined],
      ['--remote-address-resolution', options.remoteAddressResolution || undefined],
    ] as const
  ).find(([, value]) => value !== undefined);
  if (given !== undefined) throw usageError(`${given[0]} is for backup servers, and --from is missing`);
}

/** @param bolt asks where the databases live, instead of taking the addresses of `--from` */
export async function connectToServers(
  options: RemoteOptions,
  context: CliContext,
  { bolt, onNotice }: { bolt: BoltAccess | undefined; onNotice: (message: string) => void },
): Promise<RemoteServers> {
  const { addresses, hosts } = await placesOf(options.from ?? [], bolt);
  const { RemoteServers } = await import('../remote/servers.ts');
  const tls = await readTls(options, context);
  const token = await readToken(options.tokenFile);
  const exposed = addresses.find(({ host }) => !isLoopback(host));
  if (token !== undefined && tls === undefined && exposed !== undefined && options.insecure !== true) {
    throw new GraphkeepError('GK_CONFIG', `the token would be sent to ${exposed.host} unencrypted`, {
      hint: 'set dbms.ssl.policy.backup.enabled=true in the file of --config, or insist with --insecure',
    });
  }
  return RemoteServers.connect({
    addresses,
    hosts,
    onNotice,
    onRetry: onNotice,
    inactivityMs: options.inactivityTimeout ?? INACTIVITY_MS_DEFAULT,
    ...(tls === undefined ? {} : { tls }),
    ...(token === undefined ? {} : { token }),
  });
}

interface Places {
  readonly addresses: readonly Address[];
  readonly hosts: DatabaseHosts;
}

async function placesOf(from: readonly Address[], bolt: BoltAccess | undefined): Promise<Places> {
  const asked = from[0];
  if (bolt === undefined || asked === undefined) return { addresses: from, hosts: new Map() };
  const { askForHosts } = await import('../neo4j/topology.ts');
  const told = await askForHosts(bolt);
  // A server that calls itself localhost means the host on which it was asked.
  const reachable = (host: string): string => (isLoopback(host) ? asked.host : host);
  const hosts = new Map([...told].map(([name, names]) => [name, names.map(reachable)]));
  const addresses = [...new Set([...hosts.values()].flat())].map((host) => ({ host, port: asked.port }));
  return { addresses: addresses.length === 0 ? from : addresses, hosts };
}

async function readTls(options: RemoteOptions, context: CliContext) {
  const { readSettingValues } = await import('../remote/configuration.ts');
  const { tlsPolicySettings } = await import('../remote/tlspolicy.ts');
  const { values, baseFolder } = await readSettingValues({
    file: options.config,
    environment: context.environment,
    flags: new Map(),
    home: options.neo4jHome,
  });
  const settings = tlsPolicySettings(values, baseFolder);
  if (!settings.enabled) return undefined;
  const { loadTlsPolicy } = await import('../remote/tlsmaterial.ts');
  return loadTlsPolicy(settings, 'client');
}

async function readToken(file: string | undefined): Promise<string | undefined> {
  if (file === undefined) return undefined;
  const { ANY_ACCESS_OF_OTHERS, readGuardedFile } = await import('../storage/guardedfile.ts');
  const content = await readGuardedFile(file, {
    what: 'the token file',
    bytesMax: TOKEN_CHARACTERS_MAX,
    forbiddenMode: ANY_ACCESS_OF_OTHERS,
  });
  const token = content.toString('utf8').trim();
  if (/^[A-Za-z0-9._~+/=-]+$/.test(token)) return token;
  throw new GraphkeepError('GK_CONFIG', `${file} holds no token`, {
    hint: 'make one with: graphkeep server token <name>',
  });
}
