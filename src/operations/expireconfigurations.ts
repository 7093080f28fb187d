/**
 * What `backup expire` does with the configuration artifacts of a folder: one stays as long as a backup stays that it lies
 * next to, since `dbms restore` takes the newest one from before the moment that is gone back to, and a run of
 * `dbms backup` writes its own right behind its databases.
 */
import { basename } from 'node:path';
import type { ArtifactSummary } from '../chain/summary.ts';
import { type GraphkeepError, throwIfAborted, wrapSystemError } from '../errors.ts';
import { removeArtifact, syncFolder } from '../storage/places.ts';
import { formatTime } from './artifactfile.ts';
import { timeOfName } from './configurationnames.ts';
import type { OperationContext } from './types.ts';

/** By their paths, the newest first. */
export interface ConfigurationPlan {
  readonly kept: readonly string[];
  readonly planned: readonly string[];
}

export interface ConfigurationExpiry extends ConfigurationPlan {
  /** The part of `planned` that is gone. */
  readonly removed: readonly string[];
  /** Why not all of `planned` was removed. */
  readonly error?: GraphkeepError;
}

/**
 * Kept are the newest one, and of each backup that stays the last one before it and the first one after it.
 * @param configurations newest first
 * @param backups undefined when it is not known which stay: then all configurations do
 */
export function planConfigurations(
  configurations: readonly string[],
  backups: readonly ArtifactSummary[] | undefined,
): ConfigurationPlan {
  const times = backups?.map(({ time }) => time);
  if (times === undefined || times.includes(undefined)) return { kept: configurations, planned: [] };
  const needed = new Set(configurations.slice(0, 1));
  for (const time of times) {
    // Both in whole seconds of UTC, so that texts compare as times do.
    const moment = formatTime(time!);
    const timeOf = (path: string): string => timeOfName(basename(path))!;
    const before = configurations.find((path) => timeOf(path) <= moment);
    const after = configurations.findLast((path) => timeOf(path) >= moment);
    for (const path of [before, after]) if (path !== undefined) needed.add(path);
  }
  return {
    kept: configurations.filter((path) => needed.has(path)),
    planned: configurations.filter((path) => !needed.has(path)),
  };
}

/** The oldest first: nothing builds on any of them. */
export async function removeConfigurations(
  plan: ConfigurationPlan,
  directory: string,
  { signal }: OperationContext,
): Promise<ConfigurationExpiry> {
  const removed: string[] = [];
  try {
    for (const path of plan.planned.toReversed()) {
      throwIfAborted(signal);
      await removeArtifact(path);
      removed.push(path);
    }
    await syncFolder(directory);
    return { ...plan, removed };
  } catch (error) {
    return { ...plan, removed, error: wrapSystemError(error, `remove configurations of ${directory}`) };
  }
}
