/** Stores that are larger than Neo4j made them, and what a backup of one costs through a backup server. */
import { createReadStream, createWriteStream } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { startPlainServer, startTlsServer } from './remote.ts';
import { type BenchStore, copyAtRest, fromOf, makeOwn } from './store.ts';
import { backupTasks, type Task } from './tasks.ts';

export const LARGE_LOCAL = 'graphkeep backup of 3.1 GiB';
export const LARGE_LOOPBACK = 'the same over loopback';
export const LARGE_TLS = 'the same over loopback, TLS';

const ENLARGED_FILE = 'neostore.propertystore.db.strings';

/**
 * A copy of the store, one file of which goes on with what is given.
 * @param more gets the folder of the store files. @returns options that name the copy
 */
export async function enlargedSource(
  store: BenchStore,
  folder: string,
  more: (storeFolder: string) => readonly Readable[],
): Promise<string[]> {
  const copied = await copyAtRest(store, folder);
  const storeFolder = join(copied.data, 'neo4j');
  const path = join(storeFolder, ENLARGED_FILE);
  await makeOwn(path);
  for (const piece of more(storeFolder)) await pipeline(piece, createWriteStream(path, { flags: 'a' }));
  return fromOf(copied);
}

const REPEATED_FILES = ['neostore.relationshipstore.db', 'neostore.propertystore.db'];
const REPETITIONS = 10;

/** Compresses as the store does, since it is more of the same: what a second program costs at its start counts for less. */
function repeatedSource(store: BenchStore, folder: string): Promise<string[]> {
  return enlargedSource(store, folder, (storeFolder) =>
    Array.from({ length: REPETITIONS }, () => REPEATED_FILES)
      .flat()
      .map((name) => createReadStream(join(storeFolder, name))),
  );
}

export interface LargeBench {
  readonly tasks: Task[];
  stop(): Promise<void>;
}

export async function largeTasks(store: BenchStore, folder: string): Promise<LargeBench> {
  const source = await repeatedSource(store, join(folder, 'large'));
  const artifacts = join(folder, 'large-artifacts');
  const plain = await startPlainServer(source);
  const tls = await startTlsServer(source, join(folder, 'large-tls'));
  const tasks = backupTasks('large', artifacts, {
    [LARGE_LOCAL]: source,
    [LARGE_LOOPBACK]: plain.clientArgs,
    [LARGE_TLS]: tls.clientArgs,
  });
  return {
    tasks,
    stop: async () => {
      await plain.stop();
      await tls.stop();
    },
  };
}
