/**
 * The settings of the backup server and of the TLS between it and its clients: one table of names, and where values
 * come from. A file of our own, `graphkeep.conf`, since a Community server that finds `server.backup.*` in its
 * `neo4j.conf` refuses to start. What the values mean is told by `src/server/settings.ts` and `tlspolicy.ts`.
 */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { GraphkeepError, isErrno } from '../errors.ts';
import { SERVER_CONFIGURATION_BYTES_MAX } from '../limits.ts';
import { nearest } from '../neo4j/nearest.ts';
import { type Property, parseProperties } from '../neo4j/properties.ts';
import { BACKUP_PORT, isCommandValue } from '../neo4j/values.ts';
import {
  ANY_ACCESS_OF_OTHERS,
  readGuardedFile,
  refuseOpenMode,
  WRITABLE_BY_OTHERS,
} from '../storage/guardedfile.ts';
import { TLS_POLICY_PREFIX, TLS_POLICY_SUFFIXES } from './tlspolicy.ts';

export interface SettingDescription {
  readonly name: string;
  /** As it is written in a file; undefined when there is none. */
  readonly default: string | undefined;
  /** Names of older Neo4j, the first that is set counts. */
  readonly formerNames: readonly string[];
}

const own = (name: string, fallback?: string): SettingDescription => ({
  name: `graphkeep.server.${name}`,
  default: fallback,
  formerNames: [],
});

const TLS_DEFAULTS: Readonly<Record<(typeof TLS_POLICY_SUFFIXES)[number], string | undefined>> = {
  enabled: 'false',
  base_directory: 'certificates/backup',
  private_key: 'private.key',
  private_key_password: undefined,
  public_certificate: 'public.crt',
  trusted_dir: 'trusted',
  revoked_dir: 'revoked',
  verify_hostname: 'true',
  ciphers: undefined,
  tls_versions: 'TLSv1.2,TLSv1.3',
  client_auth: 'REQUIRE',
  trust_all: 'false',
};

/** Every setting that may stand in `graphkeep.conf`; `docs/server-settings.md` has one row for each. */
export const SETTINGS: readonly SettingDescription[] = [
  { name: 'server.backup.enabled', default: 'true', formerNames: ['dbms.backup.enabled'] },
  {
    name: 'server.backup.listen_address',
    default: `127.0.0.1:${BACKUP_PORT}`,
    formerNames: ['dbms.backup.listen_address', 'dbms.backup.address'],
  },
  { name: 'server.backup.advertised_address', default: undefined, formerNames: [] },
  ...TLS_POLICY_SUFFIXES.map((suffix) => ({
    name: `${TLS_POLICY_PREFIX}${suffix}`,
    default: TLS_DEFAULTS[suffix],
    formerNames: [],
  })),
  own('access_file'),
  own('monitoring_address'),
  own('session_timeout', '5m'),
  own('sessions_max', '32'),
  own('limit_rate'),
  own('cpu_share', '3'),
  own('audit_log'),
  own('staging_directory'),
  own('insecure', 'false'),
];

const PASSWORD = `${TLS_POLICY_PREFIX}private_key_password`;

export interface SettingSources {
  /** Of `--config`; it must exist. Otherwise `GRAPHKEEP_CONF`, otherwise `<home>/conf/graphkeep.conf` if it is there. */
  readonly file?: string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** By the name of the setting. */
  readonly flags: ReadonlyMap<string, string>;
  /** Of Neo4j; a client may have none. */
  readonly home?: string | undefined;
}

export interface SettingValues {
  /** Under today's names; only what was set. */
  readonly values: ReadonlyMap<string, string>;
  /** Which file, variable or option a value came from, for messages. */
  readonly origins: ReadonlyMap<string, string>;
  readonly file: string | undefined;
  /** What relative paths are relative to. */
  readonly baseFolder: string;
  /** For the user: old names, and what is ignored. */
  readonly notes: readonly string[];
}

interface Given {
  readonly key: string;
  readonly value: string;
  readonly origin: string;
}

/**
 * Flags before environment before file.
 * @throws GraphkeepError GK_CONFIG for an unknown, doubled or unusable setting, GK_USAGE for a password as a flag
 */
export async function readSettingValues(sources: SettingSources): Promise<SettingValues> {
  const { file, isNamed } = configurationFile(sources);
  if (sources.flags.has(PASSWORD)) {
    throw new GraphkeepError('GK_USAGE', `${PASSWORD} cannot be given on the command line`, {
      hint: 'every user of the machine could read it there; use graphkeep.conf or the environment',
    });
  }
  const fromFile = file === undefined ? undefined : await readFileSettings(file, isNamed);
  const values = new Map<string, string>();
  const origins = new Map<string, string>();
  const notes: string[] = [];
  const flags = [...sources.flags].map(([key, value]) => ({ key, value, origin: 'the command line' }));
  for (const source of [fromFile ?? [], environmentSettings(sources.environment), flags]) {
    for (const { key, value, origin } of currentNames(source, notes)) {
      // An empty value is the default, as in Neo4j; it also takes away what a file says.
      if (value.trim() === '') values.delete(key);
      else values.set(key, key === PASSWORD ? value : value.trim());
      origins.set(key, origin);
    }
  }
  const baseFolder = path.resolve(sources.home ?? (file === undefined ? '.' : path.dirname(file)));
  return { values, origins, file: fromFile === undefined ? undefined : file, baseFolder, notes };
}

function configurationFile(sources: SettingSources): { file: string | undefined; isNamed: boolean } {
  const named = sources.file ?? (sources.environment.GRAPHKEEP_CONF || undefined);
  if (named !== undefined) return { file: path.resolve(named), isNamed: true };
  const { home } = sources;
  return {
    file: home === undefined ? undefined : path.resolve(home, 'conf', 'graphkeep.conf'),
    isNamed: false,
  };
}

/** Undefined when the default file is not there. */
async function readFileSettings(file: string, isNamed: boolean): Promise<Given[] | undefined> {
  let text: string;
  try {
    const what = 'the configuration';
    const limits = { bytesMax: SERVER_CONFIGURATION_BYTES_MAX, forbiddenMode: WRITABLE_BY_OTHERS };
    text = (await readGuardedFile(file, { what, ...limits })).toString('utf8');
  } catch (error) {
    if (!isNamed && error instanceof GraphkeepError && isErrno(error.cause, 'ENOENT', 'ENOTDIR'))
      return undefined;
    throw error;
  }
  const properties = parse(text, file);
  const doubled = properties.find(
    ({ key }, index) => properties.findIndex((other) => other.key === key) < index,
  );
  if (doubled !== undefined) {
    throw new GraphkeepError('GK_CONFIG', `${doubled.key} stands several times in ${file}`, {
      hint: 'keep one of the lines',
    });
  }
  if (properties.some(({ key, value }) => key === PASSWORD && value !== '')) {
    const what = `${file} holds the password of a private key and`;
    refuseOpenMode((await stat(file)).mode, ANY_ACCESS_OF_OTHERS, what, file);
  }
  return properties.map(({ key, value }) => {
    requireKnown(key, key, file);
    refuseCommand(key, value, file);
    return { key, value, origin: file };
  });
}

function parse(text: string, file: string): Property[] {
  try {
    return parseProperties(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new GraphkeepError('GK_CONFIG', `${file}: ${error.message}`, { cause: error });
  }
}

const KNOWN_NAMES: readonly string[] = SETTINGS.flatMap(({ name, formerNames }) => [name, ...formerNames]);

/** A typo in a setting that protects something must not pass, so no unknown name does. */
function requireKnown(key: string, written: string, origin: string): void {
  if (KNOWN_NAMES.includes(key)) return;
  const close = nearest(key, KNOWN_NAMES);
  const inNeo4j = 'this file takes the settings of the backup server only; see docs/server-settings.md';
  throw new GraphkeepError('GK_CONFIG', `unknown setting ${written} in ${origin}`, {
    hint: close === undefined ? inNeo4j : `did you mean ${written === key ? close : environmentName(close)}?`,
  });
}

function refuseCommand(key: string, value: string, origin: string): void {
  if (!isCommandValue(value)) return;
  throw new GraphkeepError(
    'GK_CONFIG',
    `${key} in ${origin} is a command, and graphkeep runs no commands of a configuration file`,
    { hint: 'write the value itself' },
  );
}

const ENVIRONMENT_PREFIX = 'GRAPHKEEP_';
/** Other variables that begin with `GRAPHKEEP_` are no settings. Any case, so that a wrong one is refused. */
const ENVIRONMENT_SETTING = /^GRAPHKEEP_(server|dbms|graphkeep)_/i;

/** `server.backup.listen_address` → `GRAPHKEEP_server_backup_listen__address`, as Neo4j's Docker image does. */
export function environmentName(key: string): string {
  return ENVIRONMENT_PREFIX + key.replaceAll('_', '__').replaceAll('.', '_');
}

function environmentSettings(environment: SettingSources['environment']): Given[] {
  const given: Given[] = [];
  for (const [variable, value] of Object.entries(environment)) {
    if (value === undefined || !ENVIRONMENT_SETTING.test(variable)) continue;
    const key = variable
      .slice(ENVIRONMENT_PREFIX.length)
      .replace(/__|_/g, (underscores) => (underscores === '__' ? '_' : '.'));
    requireKnown(key, variable, 'the environment');
    given.push({ key, value, origin: `the environment (${variable})` });
  }
  return given;
}

/** Of one source, an old name stands for the new one unless that is there as well. */
function currentNames(source: readonly Given[], notes: string[]): Given[] {
  const isGiven = (name: string): boolean => source.some(({ key }) => key === name);
  return source.flatMap((given) => {
    const setting = SETTINGS.find(({ formerNames }) => formerNames.includes(given.key));
    if (setting === undefined) return [given];
    const earlier = setting.formerNames.slice(0, setting.formerNames.indexOf(given.key));
    const winner = [setting.name, ...earlier].find(isGiven);
    if (winner !== undefined) {
      notes.push(`${given.key} in ${given.origin} has no effect: ${winner} is set as well`);
      return [];
    }
    notes.push(`${given.key} in ${given.origin} is the old name of ${setting.name}`);
    return [{ ...given, key: setting.name }];
  });
}
