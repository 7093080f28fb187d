/** Azurite, the Azure server of the tests: kept outside the repository, since it brings hundreds of packages. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { BlobServiceClient, StorageSharedKeyCredential } from '@azure/storage-blob';
import { exists, toolsFolder } from './gotools.ts';
import { type RunningStore, startServer, withProxy } from './servers.ts';

const run = promisify(execFile);

const VERSION = '3.37.0';
const MAIN = 'node_modules/azurite/dist/src/blob/main.js';
/** Its account and key are public, and the same everywhere. */
export const ACCOUNT = 'devstoreaccount1';
export const ACCOUNT_KEY =
  'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';
const WRONG_KEY = 'cGxhbnRlZC13cm9uZy1rZXktb2YtdGhlLXRlc3Qtd2l0aC1lbm91Z2gtbGV0dGVycw==';
const SLOW_DOWN = '<?xml version="1.0"?><Error><Code>ServerBusy</Code><Message>Please</Message></Error>';

export async function ensureAzurite(): Promise<{ main: string } | { skip: string }> {
  const folder = join(toolsFolder(), `azurite-${VERSION}`);
  const main = join(folder, MAIN);
  if (await exists(main)) return { main };
  await mkdir(toolsFolder(), { recursive: true });
  const temporary = await mkdtemp(join(toolsFolder(), '.install-azurite-'));
  try {
    await writeFile(join(temporary, 'package.json'), '{"private":true}');
    const flags = ['--no-fund', '--no-audit', '--ignore-scripts', '--save-exact'];
    await run('npm', ['install', ...flags, `azurite@${VERSION}`], { cwd: temporary });
    await rename(temporary, folder).catch(async (error: unknown) => {
      if (!(await exists(main))) throw error;
    });
    return { main };
  } catch (error) {
    const detail = error instanceof Error ? error.message.slice(0, 300) : String(error);
    return { skip: `azurite ${VERSION} cannot be installed here: ${detail}` };
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

export async function startAzurite(): Promise<RunningStore | { skip: string }> {
  const tool = await ensureAzurite();
  if ('skip' in tool) return tool;
  const server = await startServer(process.execPath, (port, folder) => [
    tool.main,
    '--silent',
    '--disableTelemetry',
    '--skipApiVersionCheck',
    '--location',
    folder,
    '--blobHost',
    '127.0.0.1',
    '--blobPort',
    String(port),
  ]);
  const endpointAt = (url: string): string => `${url}/${ACCOUNT}`;
  const direct = endpointAt(`http://127.0.0.1:${server.port}`);
  const credential = new StorageSharedKeyCredential(ACCOUNT, ACCOUNT_KEY);
  await new BlobServiceClient(direct, credential).getContainerClient('backups').create();
  const { proxy, stop } = await withProxy(server);
  const at = (url: string, accountKey: string) => ({ azure: { endpoint: endpointAt(url), accountKey } });
  const directUrl = `http://127.0.0.1:${server.port}`;
  return {
    url: `azb://${ACCOUNT}/backups`,
    missingBucketUrl: `azb://${ACCOUNT}/missing-container`,
    proxy,
    direct: at(directUrl, ACCOUNT_KEY),
    throughProxy: at(proxy.url, ACCOUNT_KEY),
    wrongCredentials: at(directUrl, WRONG_KEY),
    secrets: [ACCOUNT_KEY],
    wrongSecrets: [WRONG_KEY],
    cliOptions: [`--azure-endpoint=${direct}`],
    environment: { AZURE_STORAGE_KEY: ACCOUNT_KEY },
    at: (url) => at(url, ACCOUNT_KEY),
    listsUploads: true,
    hidesLocked: false,
    slowDown: { status: 503, body: SLOW_DOWN },
    stop,
  };
}
