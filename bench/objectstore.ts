/**
 * What a backup into an object store costs beside one into a folder, and beside the vendor's own client that sends the
 * finished artifact to the same server; and the memory of a long upload.
 */
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { GIB, MIB } from '../src/limits.ts';
import { openObjectStore } from '../src/storage/objects/open.ts';
import { noise } from '../test/fixtures/random.ts';
import type { RunningStore } from '../test/storage/servers.ts';
import { ACCESS_KEY, SECRET_KEY, startVersity } from '../test/storage/versity.ts';
import { enlargedSource } from './largestore.ts';
import type { BenchStore } from './store.ts';
import { emptyFolder, graphkeep, type Task, type Workplace } from './tasks.ts';

export const TO_STORE = 'graphkeep backup to S3';
export const VENDOR_UPLOAD = 'aws s3 cp of its artifact';
export const LONG_UPLOAD = 'graphkeep backup to S3, not compressed';
export const LONG_LOCAL = 'graphkeep backup into a folder, not compressed';
export const LONG_VENDOR_UPLOAD = 'aws s3 cp of that artifact';

export interface ObjectStoreBench {
  readonly tasks: Task[];
  stop(): Promise<void>;
}

/** @returns why nothing can be measured, where that is so */
export async function objectStoreTasks(
  { source, artifacts }: Workplace,
  store: BenchStore,
  folder: string,
  say: (text: string) => void,
): Promise<ObjectStoreBench | { skip: string }> {
  const running = await startVersity();
  if ('skip' in running) return running;
  const endpoint = running.direct.s3?.endpoint ?? '';
  const environment = {
    AWS_ACCESS_KEY_ID: ACCESS_KEY,
    AWS_SECRET_ACCESS_KEY: SECRET_KEY,
    AWS_REGION: 'us-east-1',
    AWS_ENDPOINT_URL_S3: endpoint,
  };
  const backup = (
    name: string,
    from: readonly string[],
    target: string,
    ...more: readonly string[]
  ): Task => ({
    name,
    group: 'store',
    command: {
      ...graphkeep('database', 'backup', ...from, `--to-path=${target}`, '--type=full', ...more, 'neo4j'),
      environment,
    },
    prepare: () => emptyBucket(running),
  });
  const vendor = await vendorUpload(folder, running, environment);
  if (vendor === undefined) say('left out: aws s3 cp: the AWS CLI is not installed');
  say('making a large store …');
  const long = await noisySource(store, join(folder, 'long'));
  const longArtifacts = join(folder, 'long-artifacts');
  const emptyBoth = async (): Promise<void> => {
    await emptyFolder(longArtifacts);
    await emptyBucket(running);
  };
  const asItIs = '--compress=false';
  const tasks = [
    backup(TO_STORE, [`--neo4j-home=${source.dir}`], `${running.url}/bench`),
    ...(vendor === undefined ? [] : [vendor(VENDOR_UPLOAD, artifacts)]),
    { ...backup(LONG_LOCAL, long, longArtifacts, asItIs), prepare: emptyBoth },
    ...(vendor === undefined ? [] : [vendor(LONG_VENDOR_UPLOAD, longArtifacts)]),
    backup(LONG_UPLOAD, long, `${running.url}/bench`, asItIs),
  ];
  return { tasks, stop: () => running.stop() };
}

/**
 * What is stored already lies in memory. To write to memory that nothing was in before costs some machines more than the
 * whole transfer, so that everybody has to begin with the same.
 */
async function emptyBucket({ url, direct }: RunningStore): Promise<void> {
  const store = await openObjectStore(url, direct);
  for await (const { key } of store.list('')) await store.remove(key);
  store.close();
}

/** Makes a task of the AWS CLI that sends a folder; undefined where it is not installed. */
async function vendorUpload(
  folder: string,
  running: RunningStore,
  environment: Readonly<Record<string, string>>,
): Promise<((name: string, from: string) => Task) | undefined> {
  if (!(await hasAwsCli())) return undefined;
  const config = join(folder, 'aws-config');
  await writeFile(config, '[default]\ns3 =\n  addressing_style = path\n');
  return (name, from) => ({
    name,
    group: 'store',
    command: {
      file: 'aws',
      args: ['s3', 'cp', '--recursive', '--quiet', from, `${running.url}/vendor/`],
      environment: { ...environment, AWS_CONFIG_FILE: config },
    },
    prepare: () => emptyBucket(running),
  });
}

/** Source, artifact and what a store makes of it fit into memory: nobody reads from the disk what others left there. */
const NOISE_BYTES = 3 * GIB;

/** A store of 3.5 GiB. */
function noisySource(store: BenchStore, folder: string): Promise<string[]> {
  const piece = noise(16 * MIB, 1);
  const pieces = Array.from({ length: NOISE_BYTES / piece.length }, () => Readable.from([piece]));
  return enlargedSource(store, folder, () => pieces);
}

async function hasAwsCli(): Promise<boolean> {
  return promisify(execFile)('aws', ['--version']).then(
    () => true,
    () => false,
  );
}
