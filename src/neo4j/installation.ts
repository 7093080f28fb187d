/**
 * One Neo4j on this host: which folders its databases lie in. It owns the way from NEO4J_HOME, NEO4J_CONF and path
 * options to folders, and the list of databases found there. It opens no store and asks no server, so it works
 * whether Neo4j runs or not.
 */
import { type Dirent, existsSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { GraphkeepError, isErrno, wrapSystemError } from '../errors.ts';
import { readDirectories } from './configuration.ts';
import type { DatabaseFolders } from './folders.ts';
import { databaseMatcher, isDatabaseName, isPattern, normalizeDatabaseName } from './glob.ts';

export interface Installation {
  /** undefined when the folders were given by path. */
  readonly home: string | undefined;
  /** Where `neo4j.conf` lies; undefined when the folders were given by path. */
  readonly configurationDirectory: string | undefined;
  readonly databasesRoot: string;
  readonly transactionsRoot: string;
  readonly dumpsRoot: string | undefined;
  readonly scriptsRoot: string | undefined;
  /** `initial.dbms.default_database`; `neo4j` when the folders were given by path. */
  readonly defaultDatabase: string;
  /** @throws GraphkeepError GK_USAGE for a name that cannot be a database, so that no path leaves the folder. */
  folders(name: string): DatabaseFolders;
  /** Names in alphabetical order. */
  listDatabases(): Promise<string[]>;
}

export interface InstallationOptions {
  readonly home?: string | undefined;
  readonly additionalConfig?: string | undefined;
  /** `backup`, `restore`, …: selects `neo4j-admin-database-<command>.conf`. */
  readonly command?: string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** Where the packages for Debian and Red Hat put the two; their own scripts set NEO4J_CONF, a cron job does not. */
const PACKAGED_HOME = '/var/lib/neo4j';
const PACKAGED_CONFIGURATION = '/etc/neo4j';

/** @throws GraphkeepError GK_USAGE without a home, GK_NOT_FOUND when it is no folder, GK_CONFIG for a bad file. */
export async function openInstallation(options: InstallationOptions): Promise<Installation> {
  const home = await findHome(options);
  const configurationDirectory = findConfigurationDirectory(home, options.environment);
  const directories = await readDirectories({
    home,
    configurationDirectory,
    command: options.command,
    additionalConfig: options.additionalConfig,
  });
  return makeInstallation({ home, configurationDirectory, ...directories });
}

/** Base folders that hold one folder per database each, as `--from-path-data` and `--from-path-txn` name them. */
export function installationFromPaths(dataPath: string, transactionsPath: string): Installation {
  return makeInstallation({
    home: undefined,
    configurationDirectory: undefined,
    databasesRoot: path.resolve(dataPath),
    transactionsRoot: path.resolve(transactionsPath),
    dumpsRoot: undefined,
    scriptsRoot: undefined,
    defaultDatabase: 'neo4j',
  });
}

export interface SelectedDatabase {
  readonly name: string;
  /** Set when the argument selects nothing; the others are still done. */
  readonly error?: GraphkeepError;
}

/**
 * Names and patterns of a command line → databases, each once, in the order asked. A plain name is taken as it is,
 * even if nothing lies there: the operation then says what is missing.
 */
export async function selectDatabases(
  installation: Installation,
  requested: readonly string[],
): Promise<SelectedDatabase[]> {
  const selected = new Map<string, SelectedDatabase>();
  for (const text of requested) {
    if (!isPattern(text)) {
      const name = normalizeDatabaseName(text);
      selected.set(name, { name });
      continue;
    }
    const matches = databaseMatcher(text);
    const found = (await installation.listDatabases()).filter(matches);
    for (const name of found) selected.set(name, { name });
    if (found.length === 0) selected.set(text, { name: text, error: nothingMatches(text, installation) });
  }
  return [...selected.values()];
}

function nothingMatches(pattern: string, installation: Installation): GraphkeepError {
  return new GraphkeepError(
    'GK_NOT_FOUND',
    `no database matches '${pattern}' in ${installation.databasesRoot}`,
  );
}

export async function findHome(options: Pick<InstallationOptions, 'home' | 'environment'>): Promise<string> {
  const given = options.home ?? options.environment.NEO4J_HOME?.trim();
  if (given === undefined || given === '') {
    throw new GraphkeepError('GK_USAGE', 'it is not known where Neo4j is installed', {
      hint: 'give --neo4j-home=<folder>, or set NEO4J_HOME, or name the folders by path options',
    });
  }
  const home = path.resolve(given);
  const status = await stat(home).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) {
      throw new GraphkeepError('GK_NOT_FOUND', `the Neo4j home does not exist: ${home}`, { cause: error });
    }
    throw wrapSystemError(error, `find the Neo4j home folder ${home}`);
  });
  if (!status.isDirectory()) {
    throw new GraphkeepError('GK_NOT_FOUND', `the Neo4j home is not a folder: ${home}`);
  }
  return home;
}

export function findConfigurationDirectory(
  home: string,
  environment: InstallationOptions['environment'],
): string {
  const given = environment.NEO4J_CONF?.trim();
  if (given !== undefined && given !== '') return path.resolve(given);
  const inHome = path.join(home, 'conf');
  return home === PACKAGED_HOME && !existsSync(inHome) ? PACKAGED_CONFIGURATION : inHome;
}

function makeInstallation(values: Omit<Installation, 'folders' | 'listDatabases'>): Installation {
  const { databasesRoot, transactionsRoot } = values;
  return {
    home: values.home,
    configurationDirectory: values.configurationDirectory,
    databasesRoot,
    transactionsRoot,
    dumpsRoot: values.dumpsRoot,
    scriptsRoot: values.scriptsRoot,
    defaultDatabase: values.defaultDatabase,
    folders(name) {
      const normalized = normalizeDatabaseName(name);
      return {
        name: normalized,
        storeDirectory: path.join(databasesRoot, normalized),
        logDirectory: path.join(transactionsRoot, normalized),
      };
    },
    async listDatabases() {
      const names = new Set(await databaseFolders(databasesRoot, true));
      for (const name of await databaseFolders(transactionsRoot, false)) names.add(name);
      return [...names].sort();
    },
  };
}

/**
 * Folders that are a database or what is left of one. A folder of logs without its store counts: a pattern that
 * passed over a broken database in silence would leave the user without its backup.
 */
async function databaseFolders(root: string, required: boolean): Promise<string[]> {
  const names: string[] = [];
  for (const entry of await readRoot(root, required)) {
    if (!isDatabaseName(entry.name)) continue;
    const folder = path.join(root, entry.name);
    if (!entry.isDirectory() && !(entry.isSymbolicLink() && (await isDirectory(folder)))) continue;
    if (!(await isEmpty(folder))) names.push(entry.name);
  }
  return names;
}

async function readRoot(root: string, required: boolean): Promise<Dirent[]> {
  try {
    return await readdir(root, { withFileTypes: true });
  } catch (error) {
    if (!required && isErrno(error, 'ENOENT')) return [];
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) {
      throw new GraphkeepError('GK_NOT_FOUND', `the folder of the databases does not exist: ${root}`, {
        cause: error,
      });
    }
    throw wrapSystemError(error, `list the databases in ${root}`);
  }
}

/** An unreadable folder is not empty: reading it later gives the error that names it. */
async function isEmpty(folder: string): Promise<boolean> {
  try {
    return (await readdir(folder)).length === 0;
  } catch {
    return false;
  }
}

async function isDirectory(file: string): Promise<boolean> {
  try {
    return (await stat(file)).isDirectory();
  } catch {
    return false;
  }
}
