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
    .addOption(settingOption('--listen-address <host:port>', 'server.backup.listen_address'))
    .addOption(settingOption('--monitoring-address <host:port>', 'graphkeep.server.monitoring_address'))
    .addOption(settingOption('--access-file <file>', 'graphkeep.server.access_file'))
    .addOption(settingOption('--audit-log <file>', 'graphkeep.server.audit_log'))
    .addOption(settingOption('--limit-rate <rate>', 'graphkeep.server.limit_rate'))
    .addOption(
      new Option('--insecure', 'Listen beyond this machine although anybody could copy the databases'),
    );
  addInstallationOptions(command);
  addCommonOptions(command).addHelpText('after', EXAMPLES);
  command.action(async (options: ServerCommandOptions) => {
    outcome.exitStatus = await runServer(options, context);
  });
  addToken(command, context);
}

function settingOption(flags: string, setting: string): Option {
  return new Option(flags, `Sets ${setting}`);
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
  context.lowerPriority();
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
  const flags = new Map<string, string>();
  const set = (name: string, value: string | undefined): void => {
    if (value !== undefined) flags.set(name, value);
  };
  set('server.backup.listen_address', options.listenAddress);
  set('graphkeep.server.monitoring_address', options.monitoringAddress);
  set('graphkeep.server.access_file', options.accessFile);
  set('graphkeep.server.audit_log', options.auditLog);
  set('graphkeep.server.limit_rate', options.limitRate);
  set('graphkeep.server.insecure', options.insecure === true ? 'true' : undefined);
  return flags;
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
