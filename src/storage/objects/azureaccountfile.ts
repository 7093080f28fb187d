/**
 * The file of a Kubernetes secret with an account of Azure, in lines of NAME=value: the account with its key, or with an
 * application that may use it.
 */
import { GraphkeepError } from '../../errors.ts';
import { AZURE_ACCOUNT_FILE_BYTES_MAX } from '../../limits.ts';
import { readGuardedFile } from '../guardedfile.ts';
import type { AzureSettings } from './settings.ts';

/** Who we are for this account. @throws GK_CONFIG, GK_NOT_FOUND, GK_NO_PERMISSION; never with the content */
export async function readAccountFile(
  file: string,
  account: string,
): Promise<Pick<AzureSettings, 'accountKey' | 'application'>> {
  const content = await readGuardedFile(file, {
    what: 'the file of AZURE_STORAGE_ACCOUNT_FILE',
    bytesMax: AZURE_ACCOUNT_FILE_BYTES_MAX,
    // As for the files of the other clouds: what Kubernetes mounts can be read by all in its container.
    forbiddenMode: 0,
  });
  const lines = linesOf(content.toString('utf8'));
  const name = lines.get('AZURE_STORAGE_ACCOUNT_NAME') ?? lines.get('AZURE_STORAGE_ACCOUNT');
  if (name !== undefined && name !== account) {
    throw new GraphkeepError('GK_CONFIG', `${file} is for the account ${name}, the URL names ${account}`, {
      hint: 'correct one of the two',
    });
  }
  const accountKey = lines.get('AZURE_STORAGE_ACCOUNT_KEY') ?? lines.get('AZURE_STORAGE_KEY');
  if (accountKey !== undefined) return { accountKey };
  const tenantId = lines.get('AZURE_TENANT_ID');
  const clientId = lines.get('AZURE_CLIENT_ID');
  const clientSecret = lines.get('AZURE_CLIENT_SECRET');
  if (tenantId !== undefined && clientId !== undefined && clientSecret !== undefined)
    return { application: { tenantId, clientId, clientSecret } };
  throw new GraphkeepError('GK_CONFIG', `${file} has no line AZURE_STORAGE_ACCOUNT_KEY=…`, {
    hint: 'write that line and AZURE_STORAGE_ACCOUNT_NAME=…; or AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET',
  });
}

function linesOf(text: string): Map<string, string> {
  const line = /^\s*(?:export\s+)?(AZURE_\w+)\s*=\s*["']?([^"'\s]+)["']?\s*$/gm;
  return new Map([...text.matchAll(line)].map(([, name, value]) => [name!, value!]));
}
