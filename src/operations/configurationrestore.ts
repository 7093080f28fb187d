/**
 * Puts the configuration of an artifact into an installation. Everything is proven and compared first, so that what would
 * be overwritten is known before the first file is written; what is replaced is kept in one folder beside, out of
 * Neo4j's sight: a certificate that was kept in `trusted` would still be trusted.
 */
import { randomBytes } from 'node:crypto';
import { copyFile, lstat, mkdtemp, rename, rm, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ConfigurationArtifact } from '../artifact/configurationfile.ts';
import { GraphkeepError, isErrno, wrapSystemError } from '../errors.ts';
import {
  archivePathOf,
  type ConfigurationManifest,
  type ConfigurationMember,
  type PluginFacts,
} from '../formats/configuration/manifest.ts';
import { type Installation, openInstallation } from '../neo4j/installation.ts';
import { type Place, readPlaces } from '../neo4j/places.ts';
import { makeOwnedFolder, own } from '../neo4j/swap.ts';
import { PARTIAL_SUFFIX, syncDirectory } from '../storage/local.ts';
import { formatTime } from './artifactfile.ts';
import { hashFile } from './hashing.ts';
import { ownershipOfNearest } from './restore.ts';
import type { OperationContext } from './types.ts';

/** Where the new installation is. */
export interface ConfigurationTarget {
  readonly home: string;
  readonly configurationDirectory: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

export interface PlannedFile {
  readonly member: ConfigurationMember;
  readonly path: string;
  /** What is there now. */
  readonly existing: 'none' | 'same' | 'other';
}

export interface PlannedPlugin extends PluginFacts {
  readonly path: string;
  /** `restored` out of the artifact, or what lies there now and is left as it is. */
  readonly state: 'restored' | 'present' | 'other' | 'missing';
}

export interface ConfigurationPlan {
  readonly artifactPath: string;
  readonly manifest: ConfigurationManifest;
  readonly files: readonly PlannedFile[];
  readonly plugins: readonly PlannedPlugin[];
  /** Private keys that are in no artifact, and where the restored settings look for them. */
  readonly keys: readonly { readonly path: string; readonly present: boolean }[];
  /** The installation as the restored settings lay it out. */
  readonly installation: Installation;
}

/** Proves the artifact and compares it with what is there. Changes nothing. @throws GK_ARTIFACT_CORRUPT, GK_CONFIG, … */
export async function planConfiguration(
  artifactPath: string,
  target: ConfigurationTarget,
  { includePlugins, signal }: OperationContext & { includePlugins: boolean },
): Promise<ConfigurationPlan> {
  const artifact = await ConfigurationArtifact.open(artifactPath);
  try {
    await artifact.verify(signal);
    const { installation, places } = await layoutAfter(artifact, target);
    const { manifest } = artifact;
    const wanted = manifest.members.filter(({ role }) => includePlugins || role !== 'plugin');
    const files: PlannedFile[] = [];
    for (const member of wanted) files.push(await planFile(member, targetOf(member, places, artifactPath)));
    const plugins: PlannedPlugin[] = [];
    for (const plugin of manifest.plugins) plugins.push(await planPlugin(plugin, places, includePlugins));
    const keys = await Promise.all(
      keyPaths(manifest, places).map(async (key) => ({ path: key, present: await exists(key) })),
    );
    return { artifactPath, manifest, files, plugins, keys, installation };
  } finally {
    await artifact.close();
  }
}

/** The folders that the settings in the artifact lead to: they are read out of a copy, as Neo4j would read them. */
async function layoutAfter(
  artifact: ConfigurationArtifact,
  { home, configurationDirectory, environment }: ConfigurationTarget,
): Promise<{ installation: Installation; places: readonly Place[] }> {
  const scratch = await mkdtemp(path.join(tmpdir(), 'graphkeep-configuration-'));
  try {
    for (const member of artifact.manifest.members.filter(isSettings)) {
      const copy = path.join(scratch, ...member.path.split('/'));
      await makeParent(copy);
      await artifact.copyTo(member, copy, async () => {});
    }
    const installation = await openInstallation({
      home,
      environment: { ...environment, NEO4J_CONF: scratch },
      command: 'restore',
    });
    const { places } = await readPlaces(home, scratch);
    return {
      installation: { ...installation, configurationDirectory },
      places: places.map((place) =>
        place.folder === scratch ? { ...place, folder: configurationDirectory } : place,
      ),
    };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** The files that say where folders are; `neo4j.conf` may be a folder itself. */
function isSettings({ place, path: name }: ConfigurationMember): boolean {
  return place === 'configuration' && /^neo4j(-admin(-database-restore)?)?\.conf(\/|$)/.test(name);
}

async function makeParent(file: string): Promise<void> {
  const ownership = await ownershipOfNearest(path.dirname(file));
  await makeOwnedFolder(path.dirname(file), ownership);
}

/** @throws GK_ARTIFACT_CORRUPT for a place that the settings beside it do not know */
function targetOf(member: ConfigurationMember, places: readonly Place[], artifactPath: string): string {
  const place = places.find(({ name }) => name === member.place);
  if (place === undefined || (place.only !== undefined && place.only !== member.path)) {
    throw new GraphkeepError(
      'GK_ARTIFACT_CORRUPT',
      `${artifactPath}: its settings do not say where ${archivePathOf(member)} belongs`,
    );
  }
  return path.join(place.folder, ...member.path.split('/'));
}

async function planFile(member: ConfigurationMember, file: string): Promise<PlannedFile> {
  const status = await statusOf(file);
  if (status === undefined) return { member, path: file, existing: 'none' };
  if (status.isDirectory()) {
    throw new GraphkeepError('GK_TARGET_EXISTS', `${file} is a folder, and a file in the artifact`, {
      hint: 'move the folder away',
    });
  }
  const isSame = status.isFile() && (await hashFile(file)).sha256 === member.sha256;
  return { member, path: file, existing: isSame ? 'same' : 'other' };
}

async function planPlugin(
  plugin: PluginFacts,
  places: readonly Place[],
  includePlugins: boolean,
): Promise<PlannedPlugin> {
  const folder = places.find(({ name }) => name === 'plugins')?.folder ?? '';
  const file = path.join(folder, plugin.file);
  if (plugin.included && includePlugins) return { ...plugin, path: file, state: 'restored' };
  if (!(await exists(file))) return { ...plugin, path: file, state: 'missing' };
  const isSame = (await hashFile(file)).sha256 === plugin.sha256;
  return { ...plugin, path: file, state: isSame ? 'present' : 'other' };
}

function keyPaths({ leftOut }: ConfigurationManifest, places: readonly Place[]): string[] {
  const keys = leftOut.filter(({ reason }) => reason === 'privateKey');
  return keys.map(({ file }) => {
    const place = places.find(({ name }) => file.startsWith(`${name}/`));
    return place === undefined ? file : path.join(place.folder, file.slice(place.name.length + 1));
  });
}

async function statusOf(file: string) {
  return lstat(file).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw wrapSystemError(error, `look at ${file}`);
  });
}

async function exists(file: string): Promise<boolean> {
  return (await statusOf(file)) !== undefined;
}

/** Files that a restore would replace. */
export function replacedBy({ files }: ConfigurationPlan): readonly PlannedFile[] {
  return files.filter(({ existing }) => existing === 'other');
}

export interface ConfigurationRestore {
  readonly kind: 'configuration';
  readonly artifactPath: string;
  readonly written: number;
  readonly unchanged: number;
  readonly replaced: number;
  /** Where the replaced files are kept, when there were any. */
  readonly keptIn?: string;
  readonly plugins: readonly PlannedPlugin[];
  readonly keys: ConfigurationPlan['keys'];
  readonly durationMs: number;
}

/** Carries out a plan: each file appears whole or not at all. A run after a failed one finds the same files and goes on. */
export async function applyConfiguration(
  plan: ConfigurationPlan,
  home: string,
  { signal, listener }: OperationContext = {},
): Promise<ConfigurationRestore> {
  const startedMs = performance.now();
  const replaced = replacedBy(plan);
  const changes = plan.files.filter(({ existing }) => existing !== 'same');
  const keptIn = path.join(home, `configuration.before-${formatTime(new Date())}`);
  const artifact = await ConfigurationArtifact.open(plan.artifactPath);
  try {
    for (const [number, file] of changes.entries()) {
      if (file.existing === 'other') await keep(file, keptIn);
      await writeFile(artifact, file, signal);
      listener?.progress({ phase: 'restoring', doneBytes: number + 1, totalBytes: changes.length });
    }
  } finally {
    await artifact.close();
  }
  return {
    kind: 'configuration',
    artifactPath: plan.artifactPath,
    written: changes.length,
    unchanged: plan.files.length - changes.length,
    replaced: replaced.length,
    ...(replaced.length === 0 ? {} : { keptIn }),
    plugins: plan.plugins,
    keys: plan.keys,
    durationMs: Math.round(performance.now() - startedMs),
  };
}

async function keep({ member, path: file }: PlannedFile, keptIn: string): Promise<void> {
  const copy = path.join(keptIn, member.place, ...member.path.split('/'));
  const ownership = { ...(await ownershipOfNearest(path.dirname(keptIn))), directoryMode: 0o700 };
  await makeOwnedFolder(path.dirname(copy), ownership);
  try {
    await copyFile(file, copy);
    // Settings hold secrets, and who may read the old ones is nobody's guess any more.
    await own(copy, ownership, 0o600);
    await syncDirectory(path.dirname(copy));
  } catch (error) {
    throw wrapSystemError(error, `keep ${file} as ${copy}`);
  }
}

async function writeFile(
  artifact: ConfigurationArtifact,
  { member, path: file }: PlannedFile,
  signal: AbortSignal | undefined,
): Promise<void> {
  const folder = path.dirname(file);
  const ownership = await ownershipOfNearest(folder);
  await makeOwnedFolder(folder, ownership);
  const partial = path.join(
    folder,
    `.${path.basename(file)}.${randomBytes(8).toString('hex')}${PARTIAL_SUFFIX}`,
  );
  // The plan was made of another opening of the file; its members are equal, not the same objects.
  const stored = artifact.manifest.members.find(
    (candidate) => archivePathOf(candidate) === archivePathOf(member),
  );
  if (stored?.sha256 !== member.sha256)
    throw new GraphkeepError('GK_ARTIFACT_CORRUPT', `${artifact.path} was replaced by another one`);
  try {
    await artifact.copyTo(stored, partial, (copy) => own(copy, ownership, modeOf(member)), signal);
    await rename(partial, file);
    await syncDirectory(folder);
  } catch (error) {
    await unlink(partial).catch(() => undefined);
    throw wrapSystemError(error, `write ${file}`);
  }
}

/** Never writable by others, whatever it was, and readable by its owner. */
function modeOf({ mode }: ConfigurationMember): number {
  return (mode & 0o775) | 0o400;
}
