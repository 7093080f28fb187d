/** versitygw, the S3 server of the tests. */
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { ensureGoTool, VERSITYGW } from './gotools.ts';
import { type RunningStore, type ServerProcess, startServer, withProxy } from './servers.ts';

export const ACCESS_KEY = 'graphkeep-test-access';
export const SECRET_KEY = 'planted-secret-Of-The-Test-4711';
const WRONG_SECRET_KEY = 'planted-wrong-secret-Of-The-Test-0815';
export const SLOW_DOWN = '<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please</Message></Error>';

export interface ServerKeys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

const KEYS: ServerKeys = { accessKeyId: ACCESS_KEY, secretAccessKey: SECRET_KEY };

export const startVersity = (): Promise<RunningStore | { skip: string }> => startVersityWith(KEYS);

/** One of several, each with its own keys. */
export async function startVersityWith(keys: ServerKeys): Promise<RunningStore | { skip: string }> {
  const tool = await ensureGoTool(VERSITYGW);
  if ('skip' in tool) return tool;
  const server = await startServer(
    tool.program,
    (port, folder) => ['--port', `127.0.0.1:${port}`, '--quiet', 'posix', folder],
    { ROOT_ACCESS_KEY: keys.accessKeyId, ROOT_SECRET_KEY: keys.secretAccessKey },
  );
  return s3Store(server, keys);
}

/** Buckets in a server of S3 that was just started with these keys. */
export async function s3Store(server: ServerProcess, credentials = KEYS): Promise<RunningStore> {
  const endpoint = `http://127.0.0.1:${server.port}`;
  const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials });
  await client.send(new CreateBucketCommand({ Bucket: 'backups' }));
  await client.send(new CreateBucketCommand({ Bucket: 'locked', ObjectLockEnabledForBucket: true }));
  client.destroy();
  const { proxy, stop } = await withProxy(server);
  return {
    url: 's3://backups',
    missingBucketUrl: 's3://missing-bucket',
    proxy,
    direct: { s3: { endpoint, credentials } },
    throughProxy: { s3: { endpoint: proxy.url, credentials } },
    wrongCredentials: {
      s3: { endpoint, credentials: { ...credentials, secretAccessKey: WRONG_SECRET_KEY } },
    },
    secrets: [credentials.secretAccessKey],
    wrongSecrets: [WRONG_SECRET_KEY],
    cliOptions: [`--s3-endpoint=${endpoint}`],
    environment: {
      AWS_ACCESS_KEY_ID: credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    },
    at: (url) => ({ s3: { endpoint: url, credentials } }),
    listsUploads: true,
    hidesLocked: false,
    slowDown: { status: 503, body: SLOW_DOWN },
    stop,
  };
}
