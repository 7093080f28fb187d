/** Workload identity on loopback: a server that exchanges the token of a pod for one of the store, and files that point to it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import { join } from 'node:path';

export const POD_TOKEN = 'planted-token-Of-The-Pod-4712';

export interface TokenServer {
  /** Of a pod that gets the token, and of one that is refused. */
  readonly keyFile: string;
  readonly refusedKeyFile: string;
  readonly token: string;
  readonly asked: () => number;
  stop(): Promise<void>;
}

export async function startTokenServer(token: string): Promise<TokenServer> {
  const folder = mkdtempSync(join(os.tmpdir(), 'graphkeep-tokens-'));
  let asked = 0;
  const server = createServer((request, response) => {
    asked += 1;
    const isRefused = request.url === '/refused';
    response.writeHead(isRefused ? 400 : 200, { 'content-type': 'application/json' });
    const refusal = { error: 'invalid_grant', error_description: `${POD_TOKEN} is not known` };
    const granted = { access_token: token, expires_in: 3600, token_type: 'Bearer', issued_token_type: 'x' };
    response.end(JSON.stringify(isRefused ? refusal : granted));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const podToken = join(folder, 'pod-token');
  writeFileSync(podToken, POD_TOKEN, { mode: 0o600 });
  const write = (name: string, tokenUrl: string): string => {
    const path = join(folder, name);
    const identity = {
      type: 'external_account',
      audience: '//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q',
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      token_url: tokenUrl,
      credential_source: { file: podToken },
    };
    writeFileSync(path, JSON.stringify(identity), { mode: 0o600 });
    return path;
  };
  return {
    keyFile: write('key.json', `${url}/token`),
    refusedKeyFile: write('refused.json', `${url}/refused`),
    token,
    asked: () => asked,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
