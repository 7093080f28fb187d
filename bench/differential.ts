/** What a differential backup costs: of a little new log on stores of two sizes, and of 5 GiB of new log. */
import { mkdir, readdir, rm, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { GIB, MIB } from '../src/limits.ts';
import { run } from './measure.ts';
import { appendNewLog } from './newlog.ts';
import { type BenchStore, type CopyAtRest, copyAtRest, fromOf, makeOwn } from './store.ts';
import { graphkeep, nothing, type Task } from './tasks.ts';

const SMALL_LOG_BYTES = MIB;
const LARGE_LOG_BYTES = 5 * GIB;
const LARGE_STORE_BYTES = 5 * GIB;
/** Small transactions, so that 1 MiB of them is 1 MiB. */
const SMALL_TRANSACTIONS = fileURLToPath(
  new URL('../test/fixtures/5.26/neostore.transaction.db.0', import.meta.url),
);
const PADDED_FILE = 'neostore.propertystore.db.strings';

interface Setting extends CopyAtRest {
  readonly artifacts: string;
}

async function settingOf(store: BenchStore, folder: string, name: string): Promise<Setting> {
  const root = join(folder, name);
  const setting = {
    ...(await copyAtRest(store, root)),
    artifacts: join(root, 'artifacts'),
  };
  await mkdir(setting.artifacts);
  await run(graphkeep('database', 'backup', ...placesOf(setting), '--type=full'));
  return setting;
}

function placesOf(setting: Setting): string[] {
  return [...fromOf(setting), `--to-path=${setting.artifacts}`];
}

/** A sparse file makes the store large: what it holds does not matter to something that must not read it. */
async function enlarge(setting: Setting): Promise<void> {
  const path = join(setting.data, 'neo4j', PADDED_FILE);
  await makeOwn(path);
  await truncate(path, LARGE_STORE_BYTES);
}

function differential(name: string, setting: Setting): Task {
  return {
    name,
    group: 'differential',
    command: graphkeep('database', 'backup', ...placesOf(setting), '--type=diff'),
    prepare: () => removeDifferentials(setting),
    bytes: async () => (await stat(await newestArtifact(setting))).size,
  };
}

async function artifactsIn({ artifacts }: Setting): Promise<string[]> {
  const names = (await readdir(artifacts)).filter((name) => name.endsWith('.backup')).sort();
  return names.map((name) => join(artifacts, name));
}

async function removeDifferentials(setting: Setting): Promise<void> {
  for (const path of (await artifactsIn(setting)).slice(1)) await rm(path);
}

async function newestArtifact(setting: Setting): Promise<string> {
  return (await artifactsIn(setting)).at(-1)!;
}

export async function differentialTasks(
  store: BenchStore,
  folder: string,
  say: (text: string) => void,
): Promise<Task[]> {
  say('making new log for the differential backups …');
  const small = await settingOf(store, folder, 'differential-small');
  await appendNewLog(join(small.transactions, 'neo4j'), SMALL_LOG_BYTES, SMALL_TRANSACTIONS);
  const large = await settingOf(store, folder, 'differential-large');
  await enlarge(large);
  await appendNewLog(join(large.transactions, 'neo4j'), SMALL_LOG_BYTES, SMALL_TRANSACTIONS);
  const long = await settingOf(store, folder, 'differential-long');
  const logDirectory = join(long.transactions, 'neo4j');
  const sample = join(logDirectory, (await readdir(logDirectory)).find((name) => name.endsWith('.db.1'))!);
  await appendNewLog(logDirectory, LARGE_LOG_BYTES, sample);
  return [
    differential('differential, 1 MiB of log, store as it is', small),
    differential('differential, 1 MiB of log, store of 5 GiB', large),
    differential('differential, 5 GiB of log', long),
    {
      name: 'validate of that differential',
      group: 'differential',
      command: graphkeep('backup', 'validate', long.artifacts),
      prepare: nothing,
    },
  ];
}
