/**
 * Finding the stock Neo4j of a home: its jars, its version, and a Java that can run it. Starts nothing but
 * `java -version`.
 */
import { execFile } from 'node:child_process';
import { type FileHandle, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { GraphkeepError, isErrno, wrapSystemError } from '../errors.ts';
import { JAVA_VERSION_MS_MAX, STOCK_MAIN_JAR_BYTES_MAX } from '../limits.ts';

const run = promisify(execFile);

export type Environment = Readonly<Record<string, string | undefined>>;

export interface StockNeo4j {
  /** As in the names of the jars, e.g. `5.26.30`. */
  readonly version: string;
  readonly libraryDirectory: string;
  /** Value for `java -cp`. */
  readonly classPath: string;
  readonly serverMainClass: string;
  /** Path of the executable, or `java` when PATH is to find it. */
  readonly java: string;
  readonly javaMajor: number;
  /** Options that every Java process of Neo4j needs, whatever it does. */
  readonly javaFlags: readonly string[];
  /** What the processes are started with; `HEAP_SIZE` in it is their largest heap. */
  readonly environment: Environment;
}

/** The packages for Debian and Red Hat keep the jars apart from the home. */
const PACKAGED_HOME = '/var/lib/neo4j';
const PACKAGED_LIBRARY = '/usr/share/neo4j/lib';

/** From 2025 on the year is the major version. */
const FIRST_CALENDAR_MAJOR = 2025;
const FIRST_SUPPORTED_MAJOR = 5;

/** The main class changed its name between the two lines; the jar says which one it has. */
const SERVER_MAIN_CLASSES = ['org.neo4j.server.Neo4jCommunity', 'org.neo4j.server.CommunityEntryPoint'];

const JAVA_FLAGS: readonly string[] = [
  '--add-opens=java.base/java.nio=ALL-UNNAMED',
  '--add-opens=java.base/java.io=ALL-UNNAMED',
  '--add-opens=java.base/sun.nio.ch=ALL-UNNAMED',
  '--add-opens=java.base/java.util.concurrent=ALL-UNNAMED',
  '--enable-native-access=ALL-UNNAMED',
];
/** Java 24 and later warn of what Neo4j does with memory, in the middle of the output of its tools. */
const JAVA_FLAGS_FROM_24: readonly string[] = ['--sun-misc-unsafe-memory-access=allow'];

/**
 * The stock Neo4j of a home; undefined when no jars of one are there.
 * @throws GK_NOT_FOUND without a Java that can run it; GK_UNSUPPORTED for jars of several versions or older than 5.
 */
export async function findStockNeo4j(
  home: string,
  environment: Environment,
): Promise<StockNeo4j | undefined> {
  for (const libraryDirectory of libraryDirectories(home)) {
    const version = versionOf(await jarNames(libraryDirectory), libraryDirectory);
    if (version === undefined) continue;
    refuseOldVersion(version, libraryDirectory);
    const { java, javaMajor } = await findJava(version, environment);
    return {
      version,
      libraryDirectory,
      classPath: join(libraryDirectory, '*'),
      serverMainClass: await findServerMainClass(libraryDirectory, version),
      java,
      javaMajor,
      javaFlags: javaMajor >= 24 ? [...JAVA_FLAGS, ...JAVA_FLAGS_FROM_24] : JAVA_FLAGS,
      environment,
    };
  }
  return undefined;
}

/** Version and edition by the names of the jars, without any Java; undefined when no jars of a Neo4j are there. */
export async function findRelease(home: string): Promise<{ version: string; edition: string } | undefined> {
  for (const libraryDirectory of libraryDirectories(home)) {
    const names = await jarNames(libraryDirectory);
    const version = versionOf(names, libraryDirectory);
    if (version === undefined) continue;
    const isEnterprise = names.some((name) => name.startsWith('neo4j-') && name.includes('enterprise'));
    return { version, edition: isEnterprise ? 'enterprise' : 'community' };
  }
  return undefined;
}

export function libraryDirectories(home: string): string[] {
  const inHome = join(home, 'lib');
  return home === PACKAGED_HOME ? [inHome, PACKAGED_LIBRARY] : [inHome];
}

async function jarNames(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return [];
    throw wrapSystemError(error, `list ${directory}`);
  });
  return names.filter((name) => name.endsWith('.jar'));
}

function versionOf(jars: readonly string[], directory: string): string | undefined {
  const versions = new Set(
    jars.flatMap((name) => /^neo4j-(?:kernel|server)-(\d+\.\d+\.\d+.*)\.jar$/.exec(name)?.[1] ?? []),
  );
  if (versions.size > 1) {
    const list = [...versions].sort().join(' and ');
    throw new GraphkeepError('GK_UNSUPPORTED', `${directory} holds the jars of Neo4j ${list}`, {
      hint: 'finish the upgrade of Neo4j: its folder of jars must hold one version only',
    });
  }
  return [...versions][0];
}

const majorOf = (version: string): number => Number.parseInt(version, 10);

function refuseOldVersion(version: string, directory: string): void {
  if (majorOf(version) >= FIRST_SUPPORTED_MAJOR) return;
  throw new GraphkeepError('GK_UNSUPPORTED', `Neo4j ${version} in ${directory} is older than 5`);
}

/** A jar is a zip file, and a zip file holds the names of its entries as they are. */
async function findServerMainClass(directory: string, version: string): Promise<string> {
  const byVersion = SERVER_MAIN_CLASSES[majorOf(version) >= FIRST_CALENDAR_MAJOR ? 0 : 1]!;
  const content = await readMainJar(join(directory, `neo4j-${version}.jar`));
  if (content === undefined) return byVersion;
  const holds = (name: string): boolean => content.includes(`${name.replaceAll('.', '/')}.class`);
  return SERVER_MAIN_CLASSES.find(holds) ?? byVersion;
}

async function readMainJar(path: string): Promise<Buffer | undefined> {
  let handle: FileHandle;
  try {
    handle = await open(path, 'r');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw wrapSystemError(error, `open ${path}`);
  }
  try {
    const { size } = await handle.stat();
    return size > STOCK_MAIN_JAR_BYTES_MAX ? undefined : await handle.readFile();
  } catch (error) {
    throw wrapSystemError(error, `read ${path}`);
  } finally {
    await handle.close();
  }
}

interface JavaRange {
  readonly fits: (major: number) => boolean;
  readonly text: string;
}

function javaRangeOf(version: string): JavaRange {
  return majorOf(version) >= FIRST_CALENDAR_MAJOR
    ? { fits: (major) => major >= 21, text: 'Java 21 or later (25 is recommended)' }
    : { fits: (major) => major === 17 || major === 21, text: 'Java 17 or 21' };
}

async function findJava(
  version: string,
  environment: Environment,
): Promise<{ java: string; javaMajor: number }> {
  const javaHome = environment.JAVA_HOME?.trim() ?? '';
  const java = javaHome === '' ? 'java' : join(javaHome, 'bin', 'java');
  const where = javaHome === '' ? 'in PATH' : `in JAVA_HOME (${javaHome})`;
  const needed = javaRangeOf(version);
  const hint = `Neo4j ${version} needs ${needed.text}: install one and set JAVA_HOME to its folder`;
  const javaMajor = await javaMajorOf(java, environment).catch((error: unknown) => {
    throw new GraphkeepError('GK_NOT_FOUND', `there is no Java that starts ${where}`, { hint, cause: error });
  });
  if (javaMajor === undefined || !needed.fits(javaMajor)) {
    const what = javaMajor === undefined ? 'does not say its version' : `is version ${javaMajor}`;
    throw new GraphkeepError('GK_NOT_FOUND', `the Java ${where} ${what}`, { hint });
  }
  return { java, javaMajor };
}

/** Rejects when it cannot be run. */
async function javaMajorOf(java: string, environment: Environment): Promise<number | undefined> {
  const { stdout, stderr } = await run(java, ['-version'], {
    env: { ...environment },
    timeout: JAVA_VERSION_MS_MAX,
    killSignal: 'SIGKILL',
  });
  // Up to Java 8 the first number is always 1.
  const match = /version "(?:1\.)?(\d+)/.exec(stderr + stdout);
  return match === null ? undefined : Number(match[1]);
}
