/** What is measured on the stopped database, each as a whole process: stock tools, tar with zstd, and graphkeep. */
import { cp, mkdir, readdir, rm, stat, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Distribution, ensureDistribution } from '../test/real/harness/distribution.ts';
import { createHome, type Home } from '../test/real/harness/server.ts';
import { type Command, run } from './measure.ts';
import { BENCH_FOLDER, type BenchStore } from './store.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const SCAN_SCRIPT = fileURLToPath(new URL('./scanlogs.ts', import.meta.url));
const PACKAGE_FOLDER = join(BENCH_FOLDER, 'package');
/** The level that graphkeep compresses with by default. */
const ZSTD_LEVEL = 1;

export type Group = 'stock' | 'tar' | 'graphkeep' | 'remote' | 'log' | 'differential' | 'store' | 'large';

export interface Task {
  readonly name: string;
  readonly group: Group;
  readonly command: Command;
  /** So short that the system's clock and what else runs show in it: measured several times in each run. */
  readonly isShort?: boolean;
  /** Brings the target into the state that each run starts from; not measured. */
  prepare(): Promise<void>;
  /** Bytes that the process wrote or read, where that says something; read after the last run. */
  bytes?(): Promise<number>;
}

/** Folders of one benchmark, all below one that is removed at its end. */
export interface Workplace {
  readonly source: Home;
  readonly dumps: string;
  readonly artifacts: string;
  /** The very files and bytes that graphkeep copied: a restored artifact. Where tar reads. */
  readonly sameFiles: Home;
  readonly target: Home;
  readonly tarball: string;
  readonly extracted: string;
}

export async function prepareWorkplace(store: BenchStore, folder: string): Promise<Workplace> {
  await buildPackage();
  const { line } = store.home;
  const place = {
    source: store.home,
    dumps: join(folder, 'dumps'),
    artifacts: join(folder, 'artifacts'),
    sameFiles: await createHome({ line, dir: join(folder, 'same') }),
    target: await createHome({ line, dir: join(folder, 'target') }),
    tarball: join(folder, 'tar.zst'),
    extracted: join(folder, 'extracted'),
  };
  await mkdir(place.dumps);
  await mkdir(place.artifacts);
  // This also fills the page cache and the program's compile cache.
  await run(graphkeep('database', 'backup', home(place.source), `--to-path=${place.artifacts}`, 'neo4j'));
  await run(graphkeep('database', 'restore', home(place.sameFiles), `--from-path=${place.artifacts}`));
  return place;
}

/** The program as a user has it: built, and laid out as the package is. */
export function graphkeep(...args: string[]): Command {
  return { file: join(PACKAGE_FOLDER, 'bin', 'graphkeep'), args };
}

async function buildPackage(): Promise<void> {
  await run({ file: 'npm', args: ['run', '--silent', 'build'], cwd: ROOT });
  await rm(PACKAGE_FOLDER, { recursive: true, force: true });
  await mkdir(PACKAGE_FOLDER, { recursive: true });
  for (const name of ['bin', 'dist', 'package.json']) {
    await cp(join(ROOT, name), join(PACKAGE_FOLDER, name), { recursive: true });
  }
  await symlink(join(ROOT, 'node_modules'), join(PACKAGE_FOLDER, 'node_modules'));
}

function home(of: Home): string {
  return `--neo4j-home=${of.dir}`;
}

/** As neo4j-admin runs it, with the JVM's own defaults for heap and collector. */
function stockTool(distribution: Distribution, of: Home, ...args: string[]): Command {
  return {
    file: distribution.java,
    args: [...distribution.javaFlags, '-cp', distribution.classPath, 'org.neo4j.cli.AdminTool', ...args],
    environment: { NEO4J_HOME: of.dir, NEO4J_CONF: join(of.dir, 'conf') },
    cwd: of.dir,
  };
}

async function emptyHome(of: Home): Promise<void> {
  await rm(join(of.dir, 'data'), { recursive: true, force: true });
  await mkdir(join(of.dir, 'data'));
}

export async function emptyFolder(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder);
}

async function onlyFile(folder: string): Promise<string> {
  const name = (await readdir(folder)).find((entry) => entry.endsWith('.backup') || entry.endsWith('.dump'));
  return join(folder, name ?? '');
}

export async function nothing(): Promise<void> {}

async function stockTasks(place: Workplace): Promise<Task[]> {
  const { source, target, dumps, artifacts } = place;
  const tool = await ensureDistribution(source.line);
  const database = (of: Home, ...args: string[]): Command => stockTool(tool, of, 'database', ...args);
  return [
    {
      name: 'stock dump',
      group: 'stock',
      command: database(source, 'dump', `--to-path=${dumps}`, 'neo4j'),
      prepare: () => emptyFolder(dumps),
      bytes: async () => (await stat(await onlyFile(dumps))).size,
    },
    {
      name: 'stock load of the dump',
      group: 'stock',
      command: database(target, 'load', `--from-path=${dumps}`, 'neo4j'),
      prepare: () => emptyHome(target),
    },
    {
      name: 'stock load --info of the dump',
      group: 'stock',
      command: database(target, 'load', '--info', `--from-path=${dumps}`, 'neo4j'),
      isShort: true,
      prepare: nothing,
    },
    {
      name: 'stock load --info of the artifact',
      group: 'stock',
      command: database(target, 'load', '--info', `--from-path=${artifacts}`, 'neo4j'),
      isShort: true,
      prepare: nothing,
    },
  ];
}

/** undefined when the binaries are there; otherwise what to do. */
export async function missingTarTools(): Promise<string | undefined> {
  for (const tool of ['tar', 'zstd']) {
    const found = await run({ file: 'sh', args: ['-c', `command -v ${tool}`] }).catch(() => undefined);
    if (found === undefined) return `${tool} is not installed (apt-get install ${tool})`;
  }
  return undefined;
}

function tarTasks({ sameFiles, tarball, extracted }: Workplace): Task[] {
  const pack = `tar -C '${sameFiles.dir}' -cf - data | zstd -q -f -${ZSTD_LEVEL} -T2 -o '${tarball}'`;
  const shell = (script: string): Command => ({ file: 'sh', args: ['-c', script] });
  const bytes = async (): Promise<number> => (await stat(tarball)).size;
  return [
    {
      name: `tar | zstd -${ZSTD_LEVEL} -T2`,
      group: 'tar',
      command: shell(pack),
      prepare: () => rm(tarball, { force: true }),
      bytes,
    },
    {
      name: `tar | zstd -${ZSTD_LEVEL} -T2, then sync`,
      group: 'tar',
      command: shell(`${pack} && sync '${tarball}'`),
      prepare: () => rm(tarball, { force: true }),
      bytes,
    },
    {
      name: 'zstd -d | tar -x',
      group: 'tar',
      command: shell(`zstd -q -d -c '${tarball}' | tar -C '${extracted}' -xf -`),
      prepare: () => emptyFolder(extracted),
    },
  ];
}

function graphkeepTasks({ source, target, artifacts }: Workplace): Task[] {
  return [
    {
      name: 'graphkeep backup',
      group: 'graphkeep',
      command: graphkeep(
        'database',
        'backup',
        home(source),
        `--to-path=${artifacts}`,
        '--type=full',
        'neo4j',
      ),
      prepare: () => emptyFolder(artifacts),
      bytes: async () => (await stat(await onlyFile(artifacts))).size,
    },
    {
      name: 'graphkeep restore',
      group: 'graphkeep',
      command: graphkeep('database', 'restore', home(target), `--from-path=${artifacts}`),
      prepare: () => emptyHome(target),
    },
    {
      name: 'graphkeep inspect',
      group: 'graphkeep',
      command: graphkeep('backup', 'inspect', artifacts),
      isShort: true,
      prepare: nothing,
    },
    {
      name: 'graphkeep validate',
      group: 'graphkeep',
      command: graphkeep('backup', 'validate', artifacts),
      prepare: nothing,
    },
  ];
}

/** Full backups into one folder. @param sources by the name of the task: options that say where the database is */
export function backupTasks(
  group: Group,
  artifacts: string,
  sources: Readonly<Record<string, readonly string[]>>,
): Task[] {
  return Object.entries(sources).map(([name, source]) => ({
    name,
    group,
    command: graphkeep('database', 'backup', ...source, `--to-path=${artifacts}`, '--type=full', 'neo4j'),
    prepare: () => emptyFolder(artifacts),
  }));
}

function logTasks({ source }: Workplace): Task[] {
  return [
    {
      name: 'graphkeep log scan',
      group: 'log',
      command: { file: process.execPath, args: [SCAN_SCRIPT, source.transactionsFolder] },
      prepare: nothing,
    },
  ];
}

/** In the order in which they run; later ones use what earlier ones leave. */
export async function tasksOf(place: Workplace, groups: ReadonlySet<string>): Promise<Task[]> {
  const tasks = [
    ...(await stockTasks(place)),
    ...tarTasks(place),
    ...graphkeepTasks(place),
    ...logTasks(place),
  ];
  return tasks.filter((task) => groups.has(task.group));
}
