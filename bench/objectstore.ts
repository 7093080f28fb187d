/**
 * What a backup into an object store costs beside one into a folder, and beside the vendor's own client that sends the
 * finished artifact to the same server; and the memory of a long upload.
 */
import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { GIB } from '../src/limits.ts';
import { ACCESS_KEY, SECRET_KEY, startVersity } from '../test/storage/versity.ts';
import { appendNewLog } from './newlog.ts';
import { type BenchStore, copyAtRest, fromOf } from './store.ts';
import { graphkeep, nothing, type Task, type Workplace } from './tasks.ts';

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
    prepare: nothing,
  });
  const vendor = await vendorUpload(folder, `${running.url}/vendor/`, environment);
  if (vendor === undefined) say('left out: aws s3 cp: the AWS CLI is not installed');
  say('making log for a long upload …');
  const long = await longSource(store, folder);
  const longArtifacts = join(folder, 'long-artifacts');
  await mkdir(longArtifacts);
  const asItIs = '--compress=false';
  const tasks = [
    backup(TO_STORE, [`--neo4j-home=${source.dir}`], `${running.url}/bench`),
    ...(vendor === undefined ? [] : [vendor(VENDOR_UPLOAD, artifacts)]),
    { ...backup(LONG_UPLOAD, long, `${running.url}/bench`, asItIs), isLong: true },
    { ...backup(LONG_LOCAL, long, longArtifacts, asItIs), isLong: true },
    ...(vendor === undefined ? [] : [{ ...vendor(LONG_VENDOR_UPLOAD, longArtifacts), isLong: true }]),
  ];
  return { tasks, stop: () => running.stop() };
}

/** Makes a task of the AWS CLI that sends a folder; undefined where it is not installed. */
async function vendorUpload(
  folder: string,
  target: string,
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
      args: ['s3', 'cp', '--recursive', '--quiet', from, target],
      environment: { ...environment, AWS_CONFIG_FILE: config },
    },
    prepare: nothing,
  });
}

const LONG_LOG_BYTES = 5 * GIB;

/** 5 GiB of new log on a store. */
async function longSource(store: BenchStore, folder: string): Promise<string[]> {
  const copied = await copyAtRest(store, join(folder, 'long'));
  const logs = join(copied.transactions, 'neo4j');
  await appendNewLog(logs, LONG_LOG_BYTES, join(logs, 'neostore.transaction.db.0'));
  return fromOf(copied);
}

async function hasAwsCli(): Promise<boolean> {
  return promisify(execFile)('aws', ['--version']).then(
    () => true,
    () => false,
  );
}
