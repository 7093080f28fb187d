/** The door to object stores: a URL and settings in, a store out. Only what its scheme needs is loaded. */
import { GraphkeepError } from '../../errors.ts';
import { parseStoreUrl } from './address.ts';
import type { StoreSettings } from './settings.ts';
import type { ObjectStore } from './store.ts';

/**
 * Nothing is asked of the store yet; its first request tells whether it is there.
 * @throws GK_USAGE for a URL that names none, GK_CONFIG for settings that cannot be
 */
export async function openObjectStore(url: string, settings: StoreSettings = {}): Promise<ObjectStore> {
  const address = parseStoreUrl(url);
  // Who gives one means that nothing is kept without it.
  if (settings.s3?.customerKey !== undefined && address.scheme !== 's3') {
    throw new GraphkeepError(
      'GK_UNSUPPORTED',
      `a key of one's own (SSE-C) is for s3:// only, not for ${url}`,
      {
        hint: 'encrypt by a key of KMS there, or by a scope of Azure',
      },
    );
  }
  switch (address.scheme) {
    case 's3':
      return (await import('./s3.ts')).openS3(address, settings);
    case 'azb':
      return (await import('./azure.ts')).openAzure(address, settings);
    case 'gs':
      return (await import('./google.ts')).openGoogle(address, settings);
  }
}
