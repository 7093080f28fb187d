/**
 * fake-gcs-server, the Google server of the tests. It takes the condition of a compose and does not keep it (v1.56.1 never
 * reads `ifGenerationMatch` there), and it asks nobody who they are. What stands in front of it here refuses such a compose
 * when the object is there, and requests without the token, as Google documents it; all else passes as it is.
 */
import { FaultProxy, type SeenRequest } from './faults.ts';
import { ensureGoTool, FAKE_GCS } from './gotools.ts';
import { type RunningStore, startServer, withProxy } from './servers.ts';
import { POD_TOKEN, startTokenServer, type TokenServer } from './tokens.ts';

const SLOW_DOWN = JSON.stringify({
  error: { code: 429, message: 'Please', errors: [{ reason: 'rateLimitExceeded', message: 'Please' }] },
});
const TAKEN = { error: { code: 412, message: 'taken', errors: [{ reason: 'conditionNotMet' }] } };

const UNKNOWN = {
  kind: 'answer',
  status: 401,
  body: JSON.stringify({
    error: { code: 401, message: 'Login Required.', errors: [{ reason: 'required' }] },
  }),
} as const;

export interface RunningGoogle extends RunningStore {
  readonly tokens: TokenServer;
}

export async function startFakeGcs(): Promise<RunningGoogle | { skip: string }> {
  const tool = await ensureGoTool(FAKE_GCS);
  if ('skip' in tool) return tool;
  const server = await startServer(tool.program, (port, folder) => [
    ...['-scheme', 'http', '-host', '127.0.0.1', '-port', String(port), '-log-level', 'error'],
    ...['-external-url', `http://127.0.0.1:${port}`],
    ...['-backend', 'filesystem', '-filesystem-root', folder],
  ]);
  const serverUrl = `http://127.0.0.1:${server.port}`;
  const created = await fetch(`${serverUrl}/storage/v1/b?project=test`, {
    method: 'POST',
    body: JSON.stringify({ name: 'backups' }),
  });
  if (!created.ok) throw new Error(`the bucket cannot be made: ${created.status}`);
  const gate = await FaultProxy.start(serverUrl);
  const gated = { port: Number(new URL(gate.url).port), folder: server.folder, stop: server.stop };
  const { proxy, stop } = await withProxy(gated);
  const tokens = await startTokenServer('ya29.planted-Token-Of-The-Store');
  gate.onForward = keepConditions(serverUrl, tokens.token);
  process.env.GOOGLE_APPLICATION_CREDENTIALS = tokens.keyFile;
  process.env.GOOGLE_CLOUD_PROJECT = 'test';
  const at = (endpoint: string) => ({ google: { endpoint } });
  return {
    tokens,
    url: 'gs://backups',
    missingBucketUrl: 'gs://missing-bucket',
    proxy,
    direct: at(gate.url),
    throughProxy: at(proxy.url),
    wrongCredentials: { google: { endpoint: gate.url, anonymous: true } },
    secrets: [tokens.token],
    wrongSecrets: [POD_TOKEN],
    // Past the gate: a command line sends no token over plain HTTP.
    cliOptions: [`--gcs-endpoint=${serverUrl}`],
    environment: {},
    at,
    listsUploads: true,
    hidesLocked: false,
    slowDown: { status: 429, body: SLOW_DOWN },
    stop: async () => {
      await stop();
      await gate.stop();
      await tokens.stop();
    },
  };
}

function keepConditions(serverUrl: string, token: string) {
  const claimed = new Set<string>();
  return async ({ method, path, headers }: SeenRequest) => {
    if (headers.authorization !== `Bearer ${token}`) return UNKNOWN;
    const url = new URL(path, serverUrl);
    const object = /^(.*)\/compose$/.exec(url.pathname)?.[1];
    if (method !== 'POST' || object === undefined || url.searchParams.get('ifGenerationMatch') !== '0') {
      return undefined;
    }
    const taken = { kind: 'answer', status: 412, body: JSON.stringify(TAKEN) } as const;
    // Two at once: the first one has it, before the server has made the object.
    if (claimed.has(object)) return taken;
    claimed.add(object);
    return (await fetch(`${serverUrl}${object}`)).ok ? taken : undefined;
  };
}
