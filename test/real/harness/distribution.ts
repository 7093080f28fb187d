import { execFile } from 'node:child_process';
import { access, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export type Line = '5.26' | '2026.08';

/** The supported Neo4j lines, in the order tests run them. */
export const LINES: readonly Line[] = ['5.26', '2026.08'];

type LineFacts = {
  readonly version: string;
  readonly javaMajor: 17 | 25;
  readonly serverMainClass: string;
};

const FACTS: Readonly<Record<Line, LineFacts>> = {
  '5.26': { version: '5.26.30', javaMajor: 17, serverMainClass: 'org.neo4j.server.CommunityEntryPoint' },
  '2026.08': { version: '2026.08.1', javaMajor: 25, serverMainClass: 'org.neo4j.server.Neo4jCommunity' },
};

export type Distribution = {
  readonly line: Line;
  readonly version: string;
  /** Folder that holds all jars of the Community server. */
  readonly libraryFolder: string;
  /** Value for `java -cp`. */
  readonly classPath: string;
  readonly javaHome: string;
  readonly java: string;
  readonly serverMainClass: string;
  /** Flags that every Java process of this line needs, and the one of the class archive where there is one. */
  readonly javaFlags: readonly string[];
  /** Where `ensureClassArchive` keeps the classes of the server, as this Java has them in memory. */
  readonly classArchive: string;
};

const JAVA_FLAGS: readonly string[] = [
  '--add-opens=java.base/java.nio=ALL-UNNAMED',
  '--add-opens=java.base/java.io=ALL-UNNAMED',
  '--add-opens=java.base/sun.nio.ch=ALL-UNNAMED',
  '--add-opens=java.base/java.util.concurrent=ALL-UNNAMED',
  '--enable-native-access=ALL-UNNAMED',
];

/** Java 25 says that the archive of its own classes was made with other flags; it is used all the same. */
function sharing(classArchive: string): string[] {
  return [`-XX:SharedArchiveFile=${classArchive}`, '-Xlog:cds=off'];
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** `17.0.15`. */
async function javaVersionOf(java: string): Promise<string | undefined> {
  const { stdout, stderr } = await run(java, ['-version']);
  return /version "([\d.]+)/.exec(stderr + stdout)?.[1];
}

async function javaMajorOf(java: string): Promise<number | undefined> {
  const version = await javaVersionOf(java).catch(() => undefined);
  return version === undefined ? undefined : Number.parseInt(version, 10);
}

const knownJavaHomes = new Map<number, Promise<string>>();

/** Finds a JDK of exactly this major version (a JDK, because the judge runs a Java source file). */
export function findJavaHome(major: 17 | 25): Promise<string> {
  let found = knownJavaHomes.get(major);
  if (found === undefined) {
    found = searchJavaHome(major);
    knownJavaHomes.set(major, found);
  }
  return found;
}

async function searchJavaHome(major: 17 | 25): Promise<string> {
  const candidates: string[] = [];
  for (const name of [
    `JAVA_HOME_${major}`,
    `JAVA_HOME_${major}_X64`,
    `JAVA_HOME_${major}_ARM64`,
    'JAVA_HOME',
  ]) {
    const value = process.env[name];
    if (value !== undefined && value !== '') {
      candidates.push(value);
    }
  }
  for (const folder of ['/usr/lib/jvm', '/opt', '/opt/java', join(homedir(), '.sdkman/candidates/java')]) {
    const names = await readdir(folder).catch(() => []);
    const matching = names.filter((name) => name.includes(String(major))).sort();
    candidates.push(...matching.map((name) => join(folder, name)));
  }
  for (const candidate of candidates) {
    if (
      (await exists(join(candidate, 'bin/javac'))) &&
      (await javaMajorOf(join(candidate, 'bin/java'))) === major
    ) {
      return candidate;
    }
  }
  const seen = candidates.length === 0 ? 'nothing' : candidates.join(', ');
  throw new Error(
    `No JDK ${major} found (looked at: ${seen}). Install one, or set JAVA_HOME_${major} to its folder.`,
  );
}

function cacheFolder(): string {
  const configured = process.env.XDG_CACHE_HOME;
  const base = configured !== undefined && configured !== '' ? configured : join(homedir(), '.cache');
  return join(base, 'graphkeep', 'neo4j');
}

function pomOf(version: string): string {
  const dependency = (group: string, artifact: string): string =>
    `    <dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId>` +
    `<version>${version}</version></dependency>`;
  return [
    '<project xmlns="http://maven.apache.org/POM/4.0.0">',
    '  <modelVersion>4.0.0</modelVersion>',
    '  <groupId>graphkeep.test</groupId>',
    '  <artifactId>neo4j-community</artifactId>',
    '  <version>1</version>',
    '  <packaging>pom</packaging>',
    '  <dependencies>',
    dependency('org.neo4j', 'neo4j'),
    dependency('org.neo4j.app', 'neo4j-server'),
    dependency('org.neo4j', 'neo4j-consistency-check'),
    '  </dependencies>',
    '</project>',
    '',
  ].join('\n');
}

async function download(version: string, target: string): Promise<void> {
  await mkdir(cacheFolder(), { recursive: true });
  // Same folder as the target, so that the final rename stays on one file system and is atomic.
  const temporary = await mkdtemp(join(cacheFolder(), `.download-${version}-`));
  try {
    await writeFile(join(temporary, 'pom.xml'), pomOf(version));
    await run(
      'mvn',
      [
        '-q',
        '-B',
        'dependency:copy-dependencies',
        `-DoutputDirectory=${join(temporary, 'lib')}`,
        '-DincludeScope=runtime',
      ],
      { cwd: temporary, maxBuffer: 64 * 1024 * 1024 },
    );
    await rename(temporary, target).catch(async (error: unknown) => {
      // Another process finished the same download first: its result is as good as ours.
      if (!(await exists(join(target, 'lib')))) {
        throw error;
      }
    });
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

const pendingDistributions = new Map<Line, Promise<Distribution>>();

/** Gives the jars and the Java of a line; fetches the jars from Maven Central when the cache lacks them. */
export function ensureDistribution(line: Line): Promise<Distribution> {
  let pending = pendingDistributions.get(line);
  if (pending === undefined) {
    pending = prepareDistribution(line);
    pendingDistributions.set(line, pending);
    pending.catch(() => pendingDistributions.delete(line));
  }
  return pending;
}

async function prepareDistribution(line: Line): Promise<Distribution> {
  const facts = FACTS[line];
  const javaHome = await findJavaHome(facts.javaMajor);
  const folder = join(cacheFolder(), facts.version);
  const libraryFolder = join(folder, 'lib');
  if (!(await exists(libraryFolder))) {
    await download(facts.version, folder);
  }
  const java = join(javaHome, 'bin/java');
  const classArchive = join(folder, `classes-${await javaVersionOf(java)}.jsa`);
  return {
    line,
    version: facts.version,
    libraryFolder,
    classPath: join(libraryFolder, '*'),
    javaHome,
    java,
    serverMainClass: facts.serverMainClass,
    javaFlags: [...JAVA_FLAGS, ...((await exists(classArchive)) ? sharing(classArchive) : [])],
    classArchive,
  };
}
