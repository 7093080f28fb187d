/** What `dbms restore` says about configuration and plugins, before and after. */
import type {
  ConfigurationPlan,
  ConfigurationRestore,
  PlannedPlugin,
} from '../operations/configurationrestore.ts';
import { countOf } from './render.ts';

export function renderConfigurationPlan({
  artifactPath,
  manifest,
  files,
  plugins,
  keys,
}: ConfigurationPlan): string {
  const neo4j =
    manifest.neo4j === undefined ? '' : `, of Neo4j ${manifest.neo4j.version} (${manifest.neo4j.edition})`;
  return lines(
    `Would restore the configuration of ${artifactPath}, taken at ${manifest.time} on ${manifest.host}${neo4j}`,
    ...files.map(({ path, existing }) => `  ${FILE_STATES[existing].padEnd(12)}  ${path}`),
    ...plugins.flatMap(pluginLine),
    ...keys.map(keyLine),
  );
}

const FILE_STATES = { none: 'new file', same: 'unchanged', other: 'replaced' } as const;

export function renderConfigurationRestore(result: ConfigurationRestore): string {
  const { written, unchanged, replaced, keptIn, plugins, keys, artifactPath } = result;
  return lines(
    `Restored the configuration from ${artifactPath}: ${countOf(written, 'file')} written, ` +
      `${replaced} of them replaced, ${unchanged} unchanged`,
    ...(keptIn === undefined ? [] : [`  kept          what was replaced, in ${keptIn}`]),
    ...plugins.flatMap(pluginLine),
    ...keys.map(keyLine),
  );
}

function pluginLine({ file, version, sha256, state, path }: PlannedPlugin): string[] {
  const name = version === undefined ? file : `${file}, version ${version}`;
  if (state === 'restored') return [`  plugin        ${name}: out of the artifact`];
  if (state === 'present') return [`  plugin        ${name}: is there, the same one`];
  const what = state === 'missing' ? 'IS MISSING: install it as' : 'IS ANOTHER ONE: look at';
  return [`  plugin        ${name}: ${what} ${path}`, `                SHA-256 ${sha256}`];
}

function keyLine({ path, present }: { path: string; present: boolean }): string {
  return present
    ? `  private key   ${path}: is there`
    : `  private key   ${path}: IS MISSING, no backup holds it`;
}

function lines(...all: readonly string[]): string {
  return `${all.join('\n')}\n`;
}
