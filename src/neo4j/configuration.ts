/**
 * The few settings of `neo4j.conf` that say where a database lies, read as Neo4j 5.26 and 2026 read them: same file
 * format, same precedence of files, same handling of doubled keys, same old names. Measured against the configuration
 * classes of both lines. It does not know the hundreds of other settings and does not judge them; it runs no command
 * of a `$(…)` value and refuses such a value where it is needed, since a guess would read the wrong folder.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { GraphkeepError, isErrno, wrapSystemError } from '../errors.ts';
import { MIB } from '../limits.ts';
import { type Property, parseProperties } from './properties.ts';
import { isCommandValue } from './values.ts';

/** A real `neo4j.conf` has some 40 KB; more than this is not one. */
export const CONFIGURATION_FILE_BYTES_MAX = MIB;
/** A folder given as configuration holds one file per setting. */
const CONFIGURATION_FOLDER_FILES_MAX = 10_000;

export interface Neo4jDirectories {
  readonly data: string;
  readonly databasesRoot: string;
  readonly transactionsRoot: string;
  readonly dumpsRoot: string;
  readonly scriptsRoot: string;
  readonly defaultDatabase: string;
}

export interface ConfigurationSources {
  readonly home: string;
  readonly configurationDirectory: string;
  /** `backup`, `restore`, … : the name inside `neo4j-admin-database-<command>.conf`. */
  readonly command?: string | undefined;
  readonly additionalConfig?: string | undefined;
}

/** Names of 4.x that Neo4j 5 and 2026 still take for the new one, unless the new one is set anywhere. */
const FORMER_NAMES: ReadonlyMap<string, string> = new Map([
  ['dbms.directories.data', 'server.directories.data'],
  ['dbms.directories.transaction.logs.root', 'server.directories.transaction.logs.root'],
  ['dbms.directories.dumps.root', 'server.directories.dumps.root'],
  ['dbms.directories.script.root', 'server.directories.script.root'],
  ['dbms.directories.certificates', 'server.directories.certificates'],
  ['dbms.directories.licenses', 'server.directories.licenses'],
  ['dbms.directories.plugins', 'server.directories.plugins'],
  ['unsupported.dbms.directories.databases.root', 'internal.server.directories.databases.root'],
  ['dbms.default_database', 'initial.dbms.default_database'],
  ['dbms.config.strict_validation', 'server.config.strict_validation.enabled'],
]);

const STRICT_VALIDATION = 'server.config.strict_validation.enabled';
const DUPLICATES_ALLOWED = 'internal.server.config.strict_validation.allow_duplicates.enabled';
/** The settings that may stand several times in one file: each adds an argument to the JVM. */
const REPEATABLE_SETTINGS: ReadonlySet<string> = new Set(['server.jvm.additional', 'dbms.jvm.additional']);

interface Setting {
  readonly value: string;
  readonly file: string;
}

interface Settings {
  readonly values: Map<string, Setting>;
  /** The last doubled key that was met; harmless when strict validation is off. */
  duplicate?: { key: string; file: string };
}

/** All settings as they are written, for those who look for other folders than those of databases. */
export interface SettingsReader {
  readonly names: readonly string[];
  /** The text; undefined when it is not set or a command. */
  plainText(key: string): string | undefined;
  /** @throws GK_CONFIG for a command, or a path that Neo4j would rewrite */
  directory(key: string, fallback: string, base: string): string;
}

/** @throws GraphkeepError GK_CONFIG when the files contradict themselves */
export async function readSettings(sources: ConfigurationSources): Promise<SettingsReader> {
  const settings = await readAll(sources);
  return {
    names: [...settings.values.keys()],
    plainText: (key) => {
      const setting = settings.values.get(key);
      return setting === undefined || isCommandValue(setting.value) ? undefined : setting.value;
    },
    directory: (key, fallback, base) => directory(settings, key, fallback, base),
  };
}

async function readAll(sources: ConfigurationSources): Promise<Settings> {
  const settings: Settings = { values: new Map() };
  for (const file of await configurationFiles(sources)) {
    await readInto(settings, file);
  }
  applyFormerNames(settings.values);
  refuseDuplicate(settings);
  return settings;
}

/** @throws GraphkeepError GK_CONFIG when the files contradict themselves or leave a directory unknown. */
export async function readDirectories(sources: ConfigurationSources): Promise<Neo4jDirectories> {
  const settings = await readAll(sources);
  const data = directory(settings, 'server.directories.data', 'data', sources.home);
  return {
    data,
    databasesRoot: directory(settings, 'internal.server.directories.databases.root', 'databases', data),
    transactionsRoot: directory(settings, 'server.directories.transaction.logs.root', 'transactions', data),
    dumpsRoot: directory(settings, 'server.directories.dumps.root', 'dumps', data),
    scriptsRoot: directory(settings, 'server.directories.script.root', 'scripts', data),
    defaultDatabase: plainValue(settings, 'initial.dbms.default_database', 'neo4j').toLowerCase(),
  };
}

/** Lowest precedence first. Only `--additional-config` has to exist: the user named it. */
async function configurationFiles(sources: ConfigurationSources): Promise<string[]> {
  const inDirectory = (name: string) => path.join(sources.configurationDirectory, name);
  const files = [inDirectory('neo4j.conf'), inDirectory('neo4j-admin.conf')];
  if (sources.command !== undefined) files.push(inDirectory(`neo4j-admin-database-${sources.command}.conf`));
  if (sources.additionalConfig !== undefined) {
    const additional = path.resolve(sources.additionalConfig);
    const status = await stat(additional).catch((error: unknown) => {
      throw wrapSystemError(error, `read the file of --additional-config`);
    });
    if (!status.isFile()) throw configError(`--additional-config is not a file: ${additional}`);
    files.push(additional);
  }
  return files;
}

async function readInto(settings: Settings, file: string): Promise<void> {
  try {
    const status = await stat(file);
    if (status.isDirectory()) return await readFolderInto(settings, file);
    if (status.size > CONFIGURATION_FILE_BYTES_MAX) {
      throw configError(
        `${file} is larger than ${CONFIGURATION_FILE_BYTES_MAX} bytes: not a configuration file`,
      );
    }
    // Latin-1 never fails and keeps every byte apart; a needed value that is not ASCII is refused later anyhow.
    addFile(settings, file, parseProperties(await readFile(file, 'latin1')));
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return;
    if (error instanceof SyntaxError) throw configError(`${file}: ${error.message}`);
    throw wrapSystemError(error, `read the configuration ${file}`);
  }
}

/** Kubernetes mounts a ConfigMap as a folder: each file is a setting, its content the value. Neo4j takes both. */
async function readFolderInto(settings: Settings, folder: string): Promise<void> {
  const names = (await readdir(folder)).filter((name) => !name.startsWith('.'));
  if (names.length > CONFIGURATION_FOLDER_FILES_MAX) {
    throw configError(`${folder} holds more than ${CONFIGURATION_FOLDER_FILES_MAX} files`);
  }
  for (const name of names) {
    const file = path.join(folder, name);
    const status = await stat(file);
    if (!status.isFile() || status.size > CONFIGURATION_FILE_BYTES_MAX) continue;
    settings.values.set(name, { value: await readFile(file, 'latin1'), file });
  }
}

function addFile(settings: Settings, file: string, properties: readonly Property[]): void {
  const seen = new Set<string>();
  for (const { key, value } of properties) {
    if (seen.has(key) && !REPEATABLE_SETTINGS.has(key)) settings.duplicate = { key, file };
    seen.add(key);
    settings.values.set(key, { value, file });
  }
}

function applyFormerNames(values: Map<string, Setting>): void {
  for (const [former, current] of FORMER_NAMES) {
    const setting = values.get(former);
    if (setting !== undefined && setting.value.trim() !== '' && !values.has(current))
      values.set(current, setting);
  }
}

/** With strict validation, the default, such a server does not start: which of the two values it means is unknown. */
function refuseDuplicate(settings: Settings): void {
  if (settings.duplicate === undefined) return;
  const strict = booleanValue(settings, STRICT_VALIDATION, true);
  if (!strict || booleanValue(settings, DUPLICATES_ALLOWED, false)) return;
  const { key, file } = settings.duplicate;
  throw configError(
    `${key} is declared several times in ${file}`,
    'keep one of the lines; Neo4j refuses it as well',
  );
}

function booleanValue(settings: Settings, key: string, fallback: boolean): boolean {
  const setting = settings.values.get(key);
  if (setting === undefined) return fallback;
  const text = setting.value.trim().toLowerCase();
  if (text !== 'true' && text !== 'false')
    throw configError(`${key} in ${setting.file} must be true or false`);
  return text === 'true';
}

function plainValue(settings: Settings, key: string, fallback: string): string {
  const setting = settings.values.get(key);
  if (setting === undefined) return fallback;
  refuseCommand(key, setting);
  return setting.value;
}

function directory(settings: Settings, key: string, fallback: string, base: string): string {
  const setting = settings.values.get(key);
  if (setting === undefined) return path.join(base, fallback);
  refuseCommand(key, setting);
  refuseRewritten(key, setting);
  return path.resolve(base, setting.value);
}

function refuseCommand(key: string, setting: Setting): void {
  if (!isCommandValue(setting.value)) return;
  throw configError(
    `${key} in ${setting.file} is a command, and graphkeep runs no commands of a configuration file`,
    'give the value itself in a file with --additional-config, or name the folders by path options',
  );
}

/**
 * Neo4j escapes a path as Java source before it uses it, and then turns backslashes into slashes: `dätä` becomes
 * `d/u00E4t/u00E4`, differently on 5.26 and 2026. Nobody wants those folders, and a reader that follows one line
 * would be wrong on the other.
 */
function refuseRewritten(key: string, setting: Setting): void {
  if (/^[\x20-\x7e]*$/.test(setting.value) && !/["\\]/.test(setting.value)) return;
  throw configError(
    `${key} in ${setting.file} holds a character that Neo4j does not keep in a path (quote, backslash, control or non-ASCII)`,
    'use a plain path there, or name the folders by path options',
  );
}

function configError(message: string, hint?: string): GraphkeepError {
  return new GraphkeepError('GK_CONFIG', message, hint === undefined ? {} : { hint });
}
