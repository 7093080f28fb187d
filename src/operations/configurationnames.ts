/** The names of configuration artifacts, and which of them a folder holds. Opens none. */
import { basename } from 'node:path';
import { filesIn } from '../storage/places.ts';

/** @param time as names carry it: `2026-11-21T12-43-07` */
export function configurationName(time: string): string {
  return `configuration-${time}.tar`;
}

/** `2026-11-21T12-43-07` of `configuration-2026-11-21T12-43-07.tar`. */
export function timeOfName(name: string): string | undefined {
  return /^configuration-(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d)\.tar$/.exec(name)?.[1];
}

/** Paths of the configuration artifacts of a folder, the newest first, by the times in their names. */
export async function listConfigurationArtifacts(directory: string): Promise<string[]> {
  return (await filesIn(directory))
    .map(({ path }) => path)
    .filter((path) => timeOfName(basename(path)) !== undefined)
    .sort()
    .reverse();
}
