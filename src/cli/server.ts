/** `server`: settings → the backup server beside a Neo4j, until a signal ends it. */
import { once } from 'node:events';
import { type Command, Option } from 'commander';
import { type Installation, installationFromPaths, openInstallation } from '../neo4j/installation.ts';
import type { BackupServer as RunningServer } from '../server/backupserver.ts';
import { refuseBesidePaths } from './backupsource.ts';
import { type CliContext, type CommandOutcome, writeLine } from './context.ts';
import { addCommonOptions, addInstallationOptions, pathOption, requirePair } from './options.ts';

interface ServerCommandOptions {
  config?: string;
  neo4jHome?: string;
  additionalConfig?: string;
  fromPathData?: string;
  fromPathTxn?: string;
  listenAddress?: string;
  accessFile?: string;
  monitoringAddress?: string;
  auditLog?: string;
  limitRate?: string;
  cpuShare?: string;
  insecure?: boolean;
}

const EXAMPLES = `
Examples:
  $ graphkeep server --neo4j-home=/var/lib/neo4j                     on 127.0.0.1:6362, for clients of this host
  $ graphkeep server --config=/etc/graphkeep/graphkeep.conf         with TLS: dbms.ssl.policy.backup.*
  $ graphkeep server token nightly --databases=neo4j,system         a token, and its line for the access file

Settings come from options, then from the environment (GRAPHKEEP_server_backup_listen__address), then from
graphkeep.conf; docs/server-settings.md lists them. SIGHUP reads certificates and the access file anew.
SIGTERM and Ctrl-C end the server; backups under way fail and can be run again.
`;

const TOKEN_EXAMPLES = `
Examples:
  $ graphkeep server token nightly
  $ graphkeep server token nightly --databases=neo4j,system
`;

/** Options that are settings by a shorter name. */
const SETTING_OPTIONS = [
  ['--listen-address <host:port>', 'listenAddress', 'server.backup.listen_address'],
  ['--monitoring-address <host:port>', 'monitoringAddress', 'graphkeep.server.monitoring_address'],
  ['--access-file <file>', 'accessFile', 'graphkeep.server.access_file'],
  ['--audit-log <file>', 'auditLog', 'graphkeep.server.audit_log'],
  ['--limit-rate <rate>', 'limitRate', 'graphkeep.server.limit_rate'],
  ['--cpu-share <percent>', 'cpuShare', 'graphkeep.server.cpu_share'],
] as const satisfies readonly (readonly [flags: string, key: keyof ServerCommandOptions, setting: string])[];

export function addServer(parent: Command, context: CliContext, outcome: CommandOutcome): void {
  const command = parent
    .command('server')
    .summary('Serve backups of the Neo4j on this host over the network')
    .description(
      'Serves backups of the databases of a Neo4j on this host, or on a volume of this host, to other hosts.',
    )
    .addOption(
      pathOption('--config <file>', 'Settings (default: graphkeep.conf in the conf folder of Neo4j)'),
    )
    .addOption(
      pathOption('--from-path-data <folder>', 'Folder that holds the databases, instead of a Neo4j home'),
    )
    .addOption(pathOption('--from-path-txn <folder>', 'Folder that holds their transaction logs'))
    .addOption(
      new Option('--insecure', 'Listen beyond this machine although anybody could copy the databases'),
    );
  for (const [flags, , setting] of SETTING_OPTIONS) command.option(flags, `Sets ${setting}`);
  addInstallationOptions(command);
  addCommonOptions(command).addHelpText('after', EXAMPLES);
  command.action(async (options: ServerCommandOptions) => {
    outcome.exitStatus = await runServer(options, context);
  });
  addToken(command, context);
}

function addToken(server: Command, context: CliContext): void {
  const command = server
    .command('token')
    .summary('Make a token for a client')
    .description(
      'Prints a new token and the line that lets its bearer in. The token is shown once and kept nowhere.',
    )
    .argument('<name>', 'whom it is for, as the audit log will name it')
    .addOption(
      new Option('--databases <patterns>', 'Databases that it may read, parted by commas').default('*'),
    );
  addCommonOptions(command).addHelpText('after', TOKEN_EXAMPLES);
  command.action(async (name: string, { databases }: { databases: string }) => {
    const { generateToken } = await import('../server/access.ts');
    const { token, line } = generateToken(name, databases);
    writeLine(context.stdout, `token                 ${token}`);
    writeLine(context.stdout, `line of access file   ${line}`);
    writeLine(
      context.stderr,
      'keep the token in a file of mode 0600 on the client, and name that with --token-file',
    );
  });
}

async function runServer(options: ServerCommandOptions, context: CliContext): Promise<number> {
  const { readServerSettings } = await import('../server/settings.ts');
  const installation = await openServed(options, context);
  const settings = await readServerSettings({
    file: options.config,
    environment: context.environment,
    flags: flagsOf(options),
    home: installation.home,
  });
  for (const note of settings.notes) writeLine(context.stderr, note);
  if (!settings.enabled) {
    writeLine(context.stderr, 'server.backup.enabled is false: nothing is served');
    return 0;
  }
  const { startPinThread } = await import('../hotcopy/pinthread.ts');
  context.lowerPriority(await startPinThread());
  const { BackupServer } = await import('../server/backupserver.ts');
  let server: RunningServer | undefined;
  // Before it listens: who sees it listen may send a signal.
  const watch = context.watchSignals(() => void server?.reload());
  try {
    server = await BackupServer.start({ settings, installation, log: context.stderr });
    if (!watch.signal.aborted) await once(watch.signal, 'abort');
  } finally {
    await server?.close();
    watch.stop();
  }
  return 0;
}

function flagsOf(options: ServerCommandOptions): Map<string, string> {
  const flags = SETTING_OPTIONS.flatMap(([, key, setting]): [string, string][] => {
    const value = options[key];
    return value === undefined ? [] : [[setting, value]];
  });
  if (options.insecure === true) flags.push(['graphkeep.server.insecure', 'true']);
  return new Map(flags);
}

async function openServed(options: ServerCommandOptions, context: CliContext): Promise<Installation> {
  const byPath = requirePair(
    { ...options },
    ['fromPathData', '--from-path-data'],
    ['fromPathTxn', '--from-path-txn'],
  );
  if (byPath) {
    refuseBesidePaths(options, '--from-path-data');
    return installationFromPaths(options.fromPathData ?? '', options.fromPathTxn ?? '');
  }
  return openInstallation({
    home: options.neo4jHome,
    additionalConfig: options.additionalConfig,
    command: 'backup',
    environment: context.environment,
  });
}
