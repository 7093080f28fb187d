/**
 * What an installation has beside its databases, read on its own host: settings, certificates, licenses, and which plugins
 * it has. Private keys stay where they are unless what is made of it is encrypted. Publishes nothing, which is the business
 * of configurationbackup.ts.
 */
import { constants, type Dirent } from 'node:fs';
import { type FileHandle, open, realpath } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import type { ConfigurationContent, ConfigurationSource } from '../artifact/configurationfile.ts';
import { GraphkeepError, isErrno, throwIfAborted, wrapSystemError } from '../errors.ts';
import {
  archivePathOf,
  type ConfigurationMember,
  type LeftOutFile,
  printable,
} from '../formats/configuration/manifest.ts';
import { holdsPrivateKey, isKeyName } from '../formats/configuration/privatekey.ts';
import {
  CONFIGURATION_FILES_MAX,
  CONFIGURATION_FOLDER_DEPTH_MAX,
  CONFIGURATION_TOTAL_BYTES_MAX,
  MIB,
} from '../limits.ts';
import type { Installation } from '../neo4j/installation.ts';
import { type InstallationPlaces, isBelow, type Place, readPlaces } from '../neo4j/places.ts';
import { findRelease } from '../neo4j/stockinstallation.ts';
import { openForReading, type ReadableFile, readFully } from '../storage/local.ts';
import { VERSION } from '../version.ts';
import { beyond, leadsToFileBelow, listFolder, requireName } from './configurationfolders.ts';
import { sha256Of } from './hashing.ts';
import { findPluginJar, readPlugins } from './plugins.ts';
import type { OperationContext } from './types.ts';

export interface ConfigurationRequest extends OperationContext {
  readonly installation: Installation;
  /** Take the jars of the plugins themselves, not only their names and hashes. */
  readonly includePlugins: boolean;
  /** Take private keys as well: only where nobody reads what is made of this without a key. */
  readonly includePrivateKeys?: boolean;
}

/** @throws GK_USAGE without a home, GK_CONFIG, GK_NO_PERMISSION, GK_UNSUPPORTED beyond a bound */
export async function readConfiguration(request: ConfigurationRequest): Promise<ConfigurationContent> {
  const { databasesRoot } = request.installation;
  const { home, configurationDirectory } = requireHome(request.installation);
  const installed = await readPlaces(home, configurationDirectory);
  const collector = new Collector(installed, request);
  for (const place of installed.places) {
    const holdsData = databasesRoot === place.folder || isBelow(databasesRoot, place.folder);
    if (place.role === 'plugin') continue;
    if (holdsData && place.only === undefined)
      collector.leftOut.push({ file: place.folder, reason: 'outside' });
    else await collector.collect(place);
  }
  requireConfiguration(collector.sources, configurationDirectory);
  const plugins = await readPlugins(installed.places, request);
  const sources = [...collector.sources, ...plugins.sources];
  const release = await findRelease(home);
  return {
    manifest: {
      program: `graphkeep ${VERSION}`,
      time: new Date().toISOString(),
      host: hostname(),
      ...(release === undefined ? {} : { neo4j: release }),
      members: sources.map(({ member }) => member),
      plugins: plugins.facts,
      leftOut: [...collector.leftOut, ...plugins.leftOut, ...outsideOf(installed)].map(
        ({ file, reason }): LeftOutFile => ({ file: printable(file), reason }),
      ),
      secretSettings: installed.secretSettings.map(printable),
    },
    sources,
  };
}

/** A jar, for those who read it piece by piece. @throws GK_NOT_FOUND for a name that is no plugin of the installation */
export async function openPlugin(installation: Installation, file: string): Promise<ReadableFile> {
  const { home, configurationDirectory } = requireHome(installation);
  const { places } = await readPlaces(home, configurationDirectory);
  return openForReading(await findPluginJar(places, file));
}

function requireHome({ home, configurationDirectory }: Installation) {
  if (home !== undefined && configurationDirectory !== undefined) return { home, configurationDirectory };
  throw new GraphkeepError('GK_USAGE', 'the configuration is asked for, and no Neo4j home is named', {
    hint: 'give --neo4j-home instead of the folders of the databases',
  });
}

/** A folder without any file is no configuration: most likely the wrong one was named. */
function requireConfiguration(sources: readonly ConfigurationSource[], folder: string): void {
  if (sources.some(({ member }) => member.role === 'configuration')) return;
  throw new GraphkeepError('GK_NOT_FOUND', `there is no configuration in ${folder}`, {
    hint: 'set NEO4J_CONF to the folder that holds neo4j.conf',
  });
}

function outsideOf({ outside, privateKeys }: InstallationPlaces): LeftOutFile[] {
  return outside.map((file) => ({ file, reason: privateKeys.has(file) ? 'privateKey' : 'outside' }));
}

class Collector {
  readonly sources: ConfigurationSource[] = [];
  readonly leftOut: LeftOutFile[] = [];
  readonly #installed: InstallationPlaces;
  readonly #signal: AbortSignal | undefined;
  readonly #takesKeys: boolean;
  #totalBytes = 0;

  constructor(installed: InstallationPlaces, { signal, includePrivateKeys }: ConfigurationRequest) {
    this.#installed = installed;
    this.#signal = signal;
    this.#takesKeys = includePrivateKeys === true;
  }

  async collect(place: Place): Promise<void> {
    const root = await realpath(place.folder).catch((error: unknown) => {
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
      throw wrapSystemError(error, `find ${place.folder}`);
    });
    if (root !== undefined) await this.#walk(place, root, '', 1);
  }

  async #walk(place: Place, root: string, below: string, depth: number): Promise<void> {
    const folder = path.join(place.folder, below);
    if (depth > CONFIGURATION_FOLDER_DEPTH_MAX) throw beyond(`${folder} lies too deep`);
    for (const entry of await listFolder(folder)) {
      throwIfAborted(this.#signal);
      if (place.only !== undefined && entry.name !== place.only) continue;
      // What Kubernetes exchanges at once lies in `..data` and `..2026_08_07…`; links beside them lead there.
      if (entry.name.startsWith('..')) continue;
      const name = below === '' ? entry.name : `${below}/${entry.name}`;
      if (entry.isDirectory() && place.only === undefined) await this.#walk(place, root, name, depth + 1);
      else await this.#file(place, root, name, entry);
    }
  }

  async #file(place: Place, root: string, name: string, entry: Dirent): Promise<void> {
    const file = path.join(place.folder, name);
    const leaveOut = (reason: LeftOutFile['reason']) => {
      this.leftOut.push({ file: archivePathOf({ place: place.name, path: name }), reason });
    };
    if (entry.isSymbolicLink()) {
      if (!(await leadsToFileBelow(file, root))) return leaveOut('link');
    } else if (!entry.isFile()) return leaveOut('special');
    const isKey = this.#installed.privateKeys.has(file) || isKeyName(entry.name);
    if (isKey && !this.#takesKeys) return leaveOut('privateKey');
    const { content, mode } = await readWhole(file, CONFIGURATION_TOTAL_BYTES_MAX - this.#totalBytes);
    if (!this.#takesKeys && holdsPrivateKey(entry.name, content)) return leaveOut('privateKey');
    this.#totalBytes += content.length;
    this.sources.push(sourceOf({ place, name, content, mode }));
    if (this.sources.length > CONFIGURATION_FILES_MAX)
      throw beyond(`there are more than ${CONFIGURATION_FILES_MAX} files in ${place.folder} and before it`);
  }
}

function sourceOf(file: { place: Place; name: string; content: Buffer; mode: number }): ConfigurationSource {
  const { place, name, content, mode } = file;
  const member: ConfigurationMember = {
    place: place.name,
    path: name,
    role: place.role,
    bytes: content.length,
    sha256: sha256Of(content),
    mode: mode & 0o777,
  };
  requireName(member);
  return {
    member,
    read: async (target, position) => {
      content.copy(target, 0, position, position + target.length);
    },
  };
}

async function readWhole(file: string, bytesMax: number): Promise<{ content: Buffer; mode: number }> {
  let handle: FileHandle | undefined;
  try {
    // Not blocking: between listing and opening, a pipe could have taken the name.
    handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
    const { size, mode } = await handle.stat();
    if (size > bytesMax) {
      throw beyond(`with ${file} the files have more than ${CONFIGURATION_TOTAL_BYTES_MAX / MIB} MiB`);
    }
    const content = Buffer.alloc(size);
    return { content: content.subarray(0, await readFully(handle, content, 0, file)), mode };
  } catch (error) {
    throw wrapSystemError(error, `read ${file}`);
  } finally {
    await handle?.close();
  }
}
