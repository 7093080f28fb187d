/**
 * The plugins of an installation: the jars in its folder, by name, hash, and what their manifests call them. Whoever makes
 * a new machine installs the same ones, or takes the jars themselves out of the artifact.
 */

import { realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { readRange } from '../artifact/bytes.ts';
import type { ConfigurationSource } from '../artifact/configurationfile.ts';
import { GraphkeepError, isErrno, throwIfAborted, wrapSystemError } from '../errors.ts';
import {
  type ConfigurationMember,
  type LeftOutFile,
  type PluginFacts,
  printable,
} from '../formats/configuration/manifest.ts';
import { FormatError } from '../formats/formaterror.ts';
import {
  findZipDirectory,
  findZipEntry,
  parseJarManifest,
  unpackZipEntry,
  ZIP_END_BYTES_MAX,
  ZIP_LOCAL_HEADER_BYTES,
  zipContentOffset,
} from '../formats/zip.ts';
import {
  GIB,
  JAR_DIRECTORY_BYTES_MAX,
  JAR_MANIFEST_BYTES_MAX,
  PLUGIN_JAR_BYTES_MAX,
  PLUGIN_TOTAL_BYTES_MAX,
} from '../limits.ts';
import type { Place } from '../neo4j/places.ts';
import { openForReading, type ReadableFile } from '../storage/local.ts';
import { leadsToFileBelow, listFolder, requireName } from './configurationfolders.ts';
import { hashFile } from './hashing.ts';

const JAR_SUFFIX = '.jar';
const MANIFEST_ENTRY = 'META-INF/MANIFEST.MF';

export interface Plugins {
  readonly facts: readonly PluginFacts[];
  /** The jars, when they are to be taken. */
  readonly sources: readonly ConfigurationSource[];
  readonly leftOut: readonly LeftOutFile[];
}

export async function readPlugins(
  places: readonly Place[],
  { includePlugins, signal }: { includePlugins: boolean; signal?: AbortSignal },
): Promise<Plugins> {
  const facts: PluginFacts[] = [];
  const sources: ConfigurationSource[] = [];
  const leftOut: LeftOutFile[] = [];
  for (const { file, jar, isOwn } of await jarsOf(places)) {
    throwIfAborted(signal);
    const hashed = await hashFile(jar, signal);
    const included = includePlugins && isOwn;
    if (includePlugins && !isOwn) leftOut.push({ file: `plugins/${file}`, reason: 'link' });
    facts.push({ file, ...(await namesOf(jar)), ...hashed, included });
    const source = await jarSource(file, jar, hashed);
    if (included) sources.push(source);
  }
  refuseTooLarge(sources);
  return { facts, sources, leftOut };
}

/** The path of a jar that `readPlugins` takes. @throws GK_NOT_FOUND for any other name */
export async function findPluginJar(places: readonly Place[], file: string): Promise<string> {
  const found = (await jarsOf(places)).find((candidate) => candidate.file === file && candidate.isOwn);
  if (found !== undefined) return found.jar;
  throw new GraphkeepError('GK_NOT_FOUND', `there is no plugin ${JSON.stringify(file)}`);
}

interface Jar {
  readonly file: string;
  readonly jar: string;
  /** It lies in the folder, and not where a link out of it leads. */
  readonly isOwn: boolean;
}

async function jarsOf(places: readonly Place[]): Promise<Jar[]> {
  const place = places.find(({ role }) => role === 'plugin');
  if (place === undefined) return [];
  const jars: Jar[] = [];
  for (const entry of await listFolder(place.folder)) {
    const jar = path.join(place.folder, entry.name);
    if (!entry.name.endsWith(JAR_SUFFIX) || entry.name.startsWith('..')) continue;
    if (!(await isFile(jar))) continue;
    const isOwn = entry.isFile() || (await leadsToFileBelow(jar, await realpath(place.folder)));
    jars.push({ file: entry.name, jar, isOwn });
  }
  return jars;
}

/** Through a link as well, as Neo4j loads it. */
async function isFile(file: string): Promise<boolean> {
  try {
    return (await stat(file)).isFile();
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ELOOP')) return false;
    throw wrapSystemError(error, `look at ${file}`);
  }
}

async function jarSource(
  file: string,
  jar: string,
  { bytes, sha256 }: { bytes: number; sha256: string },
): Promise<ConfigurationSource> {
  const mode = (await stat(jar)).mode & 0o777;
  const member: ConfigurationMember = { place: 'plugins', path: file, role: 'plugin', bytes, sha256, mode };
  requireName(member);
  return {
    member,
    read: async (target, position) => {
      // Opened for each piece: a list of hundreds of jars must not hold hundreds of descriptors.
      const opened = await openForReading(jar);
      try {
        if ((await opened.read(target, position)) < target.length)
          throw new GraphkeepError('GK_SOURCE_MOVED', `${jar} became shorter while it was read`);
      } finally {
        await opened.close();
      }
    },
  };
}

function refuseTooLarge(sources: readonly ConfigurationSource[]): void {
  const large = sources.find(({ member }) => member.bytes > PLUGIN_JAR_BYTES_MAX)?.member;
  const totalBytes = sources.reduce((sum, { member }) => sum + member.bytes, 0);
  if (large === undefined && totalBytes <= PLUGIN_TOTAL_BYTES_MAX) return;
  const what =
    large === undefined
      ? `the jars have more than ${PLUGIN_TOTAL_BYTES_MAX / GIB} GiB`
      : `${large.path} has more than ${PLUGIN_JAR_BYTES_MAX / GIB} GiB`;
  throw new GraphkeepError('GK_UNSUPPORTED', `the plugins cannot be taken: ${what}`, {
    hint: 'leave out --include-plugins: names, versions and hashes are taken all the same',
  });
}

/** What its manifest calls it, or its file name. A jar that cannot be read as one has a hash all the same. */
async function namesOf(jar: string): Promise<Pick<PluginFacts, 'title' | 'version'>> {
  const attributes = await readAttributes(jar);
  const first = (...names: string[]) => names.map((name) => attributes.get(name)).find((value) => value);
  const title = first('Implementation-Title', 'Bundle-Name', 'Specification-Title', 'Automatic-Module-Name');
  const inName = /-v?(\d+(?:\.[\w-]+)+)\.jar$/.exec(path.basename(jar))?.[1];
  const version = first('Implementation-Version', 'Bundle-Version', 'Specification-Version') ?? inName;
  return {
    ...(title === undefined ? {} : { title: printable(title.slice(0, NAME_CHARACTERS_MAX)) }),
    ...(version === undefined ? {} : { version: printable(version.slice(0, NAME_CHARACTERS_MAX)) }),
  };
}

const NAME_CHARACTERS_MAX = 200;
const NO_ATTRIBUTES: ReadonlyMap<string, string> = new Map();

async function readAttributes(jar: string): Promise<ReadonlyMap<string, string>> {
  const file = await openForReading(jar);
  try {
    return parseJarManifest((await readJarManifest(file))?.toString('utf8') ?? '');
  } catch (error) {
    if (error instanceof FormatError) return NO_ATTRIBUTES;
    throw error;
  } finally {
    await file.close();
  }
}

async function readJarManifest(file: ReadableFile): Promise<Buffer | undefined> {
  const endBytes = Math.min(ZIP_END_BYTES_MAX, file.bytes);
  const directory = findZipDirectory(await readRange(file, file.bytes - endBytes, endBytes));
  if (directory === undefined || directory.bytes > JAR_DIRECTORY_BYTES_MAX) return undefined;
  const entry = findZipEntry(await readRange(file, directory.offset, directory.bytes), MANIFEST_ENTRY);
  if (entry === undefined || Math.max(entry.bytes, entry.storedBytes) > JAR_MANIFEST_BYTES_MAX)
    return undefined;
  const header = await readRange(file, entry.headerOffset, ZIP_LOCAL_HEADER_BYTES);
  const start = entry.headerOffset + zipContentOffset(header);
  return unpackZipEntry(entry, await readRange(file, start, entry.storedBytes));
}
