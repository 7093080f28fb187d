/**
 * `dbms restore`: what a folder of artifacts makes of a new machine. Everything that can be refused is refused here,
 * before anything is written; then each part is restored on its own.
 */
import path from 'node:path';
import { readCatalogue } from '../chain/catalogue.ts';
import { GraphkeepError } from '../errors.ts';
import {
  findConfigurationDirectory,
  findHome,
  type Installation,
  openInstallation,
} from '../neo4j/installation.ts';
import { databaseExists } from '../neo4j/swap.ts';
import { isLocked } from '../storage/locks.ts';
import { formatTime } from './artifactfile.ts';
import { listConfigurationArtifacts, timeOfName } from './configurationnames.ts';
import { type ConfigurationPlan, planConfiguration, replacedBy } from './configurationrestore.ts';
import { refuseUnopened } from './plan.ts';
import type { ChainRequest, OperationContext } from './types.ts';

export interface DbmsRestoreRequest extends OperationContext {
  /** The folder of the artifacts. */
  readonly folder: string;
  readonly home?: string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly overwriteDestination: boolean;
  readonly includeConfiguration: boolean;
  readonly includePlugins: boolean;
  /** Only what was committed before. */
  readonly untilTime?: Date;
}

export interface DbmsRestorePlan {
  readonly home: string;
  /** As it will be laid out. */
  readonly installation: Installation;
  /** Absent when it is not to be restored. */
  readonly configuration?: ConfigurationPlan;
  /** `system` first: without it, a Neo4j that is started too early would make users of its own. */
  readonly databases: readonly { readonly name: string; readonly request: ChainRequest }[];
}

const SYSTEM = 'system';
const NAMES_SHOWN_MAX = 8;

/** Changes nothing. @throws GK_IN_USE, GK_TARGET_EXISTS, GK_NOT_FOUND, GK_ARTIFACT_CORRUPT, … */
export async function planDbmsRestore(request: DbmsRestoreRequest): Promise<DbmsRestorePlan> {
  const { environment, signal } = request;
  const home = await findHome(request);
  const configurationDirectory = findConfigurationDirectory(home, environment);
  const present = await openInstallation({ home, environment, command: 'restore' });
  const databases = await databasesIn(request);
  const configuration = request.includeConfiguration
    ? await planConfiguration(
        await configurationIn(request),
        { home, configurationDirectory, environment },
        {
          includePlugins: request.includePlugins,
          ...(signal === undefined ? {} : { signal }),
        },
      )
    : undefined;
  const installation = configuration?.installation ?? present;
  refuseRunning(present, installation);
  if (!request.overwriteDestination) await refuseExisting(installation, databases, configuration);
  return { home, installation, databases, ...(configuration === undefined ? {} : { configuration }) };
}

async function databasesIn({
  folder,
  untilTime,
  signal,
  listener,
}: DbmsRestoreRequest): Promise<DbmsRestorePlan['databases']> {
  const catalogue = await readCatalogue(folder, signal);
  const { artifacts, unreadable } = catalogue;
  for (const { path: file, message } of unreadable) listener?.notice(`${file} is passed over: ${message}`);
  const names = [...new Set(artifacts.map(({ database }) => database.toLowerCase()))].sort();
  if (names.length === 0) {
    refuseUnopened(catalogue, `no artifact of a database in ${folder} can be opened`);
    throw new GraphkeepError('GK_NOT_FOUND', `no artifact of a database in ${folder}`, {
      hint: 'make one with: graphkeep dbms backup --to-path=<folder>',
    });
  }
  if (!names.includes(SYSTEM))
    listener?.notice('there is no artifact of system: users and passwords do not come back');
  const until = untilTime === undefined ? {} : { until: { time: untilTime } };
  return names
    .toSorted((left, right) => Number(right === SYSTEM) - Number(left === SYSTEM))
    .map((name) => ({ name, request: { artifactPath: folder, catalogue, sourceDatabase: name, ...until } }));
}

/** The newest one, or the newest one of the moment that is gone back to. */
async function configurationIn({ folder, untilTime }: DbmsRestoreRequest): Promise<string> {
  const artifacts = await listConfigurationArtifacts(folder);
  const before = untilTime === undefined ? undefined : formatTime(untilTime);
  const chosen = artifacts.find(
    (artifact) => before === undefined || timeOfName(path.basename(artifact))! <= before,
  );
  if (chosen !== undefined) return chosen;
  const which = artifacts.length === 0 ? 'no configuration' : `no configuration from before ${before}`;
  throw new GraphkeepError('GK_NOT_FOUND', `${which} in ${folder}`, {
    hint: 'to restore the databases alone, give --include-configuration=false',
  });
}

/** Asked of the folders that are used now and of those that will be: the settings may move them. */
function refuseRunning(...installations: readonly Installation[]): void {
  for (const { databasesRoot } of installations) {
    const lock = path.join(databasesRoot, 'store_lock');
    if (isLocked(lock)) throw new GraphkeepError('GK_IN_USE', `Neo4j is running: it holds ${lock}`);
  }
}

async function refuseExisting(
  installation: Installation,
  databases: DbmsRestorePlan['databases'],
  configuration: ConfigurationPlan | undefined,
): Promise<void> {
  const there = configuration === undefined ? [] : replacedBy(configuration).map((file) => file.path);
  for (const { name } of databases) {
    const folders = installation.folders(name);
    if (await databaseExists(folders)) there.push(folders.storeDirectory);
  }
  if (there.length === 0) return;
  const more = there.length > NAMES_SHOWN_MAX ? ` and ${there.length - NAMES_SHOWN_MAX} more` : '';
  throw new GraphkeepError(
    'GK_TARGET_EXISTS',
    `these are there already, with other content: ${there.slice(0, NAMES_SHOWN_MAX).join(', ')}${more}`,
    { hint: 'give --overwrite-destination to replace them; replaced files of the configuration are kept' },
  );
}
