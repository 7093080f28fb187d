/** The client of Azure: which account, and who we are. The SDKs are large and loaded when they are first needed. */
import type {
  BlockBlobCommitBlockListOptions,
  ContainerClient,
  Pipeline,
  StoragePipelineOptions,
} from '@azure/storage-blob';
import { GraphkeepError } from '../../errors.ts';
import { OBJECT_SDK_DELAY_MS_MAX, OBJECT_SDK_TRIES, RETRY_DELAY_MS_MIN } from '../../limits.ts';
import type { StoreAddress } from './address.ts';
import { type StoreAgents, storeAgents } from './agents.ts';
import { readAccountFile } from './azureaccountfile.ts';
import { checkEndpoint } from './endpoint.ts';
import { type Scrub, scrubber } from './secrets.ts';
import type { AzureSettings, StoreSettings } from './settings.ts';
import type { ObjectAttributes } from './store.ts';

export interface AzureConnection {
  readonly container: ContainerClient;
  readonly agents: StoreAgents;
  readonly scrub: Scrub;
}

const SUFFIX = 'blob.core.windows.net';
/** By who signs in there. */
const SUFFIXES: readonly (readonly [authority: string, suffix: string])[] = [
  ['login.microsoftonline.com', SUFFIX],
  ['login.microsoftonline.us', 'blob.core.usgovcloudapi.net'],
  ['login.chinacloudapi.cn', 'blob.core.chinacloudapi.cn'],
  ['login.partner.microsoftonline.cn', 'blob.core.chinacloudapi.cn'],
];
const EXAMPLE = 'https://myaccount.blob.core.windows.net';

/** @throws GK_CONFIG, GK_NOT_FOUND */
export async function connectAzure(address: StoreAddress, settings: StoreSettings): Promise<AzureConnection> {
  const azure = await withEnvironment(settings.azure ?? {}, accountName(address.account));
  const scrub = scrubber([
    azure.accountKey,
    azure.connectionString,
    azure.application?.clientSecret,
    ...secretsOf(azure.connectionString ?? ''),
    ...secretsOf(azure.sasToken ?? ''),
  ]);
  const url = accountUrl(address, azure);
  const [sdk, agents] = await Promise.all([import('@azure/storage-blob'), storeAgents(settings)]);
  const options = {
    retryOptions: {
      maxTries: OBJECT_SDK_TRIES,
      retryDelayInMs: RETRY_DELAY_MS_MIN,
      maxRetryDelayInMs: OBJECT_SDK_DELAY_MS_MAX,
    },
    // Not among the declared options, but what the pipeline underneath takes.
    agent: isPlain(url, azure.connectionString) ? agents.http : agents.https,
  };
  const service = await serviceOf(sdk, address, url, azure, options);
  return { container: service.getContainerClient(address.bucket), agents, scrub };
}

/** Variables as the command line of Azure (az) has them, and a file; one that is given here wins over all of them. */
async function withEnvironment(azure: AzureSettings, account: string): Promise<AzureSettings> {
  const { connectionString, accountKey, sasToken, application } = azure;
  if ([connectionString, accountKey, sasToken, application].some((secret) => secret !== undefined))
    return azure;
  const { AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN } = process.env;
  const { AZURE_STORAGE_ACCOUNT_FILE } = process.env;
  if (AZURE_STORAGE_CONNECTION_STRING) return { ...azure, connectionString: AZURE_STORAGE_CONNECTION_STRING };
  if (AZURE_STORAGE_KEY) return { ...azure, accountKey: AZURE_STORAGE_KEY };
  if (AZURE_STORAGE_SAS_TOKEN) return { ...azure, sasToken: AZURE_STORAGE_SAS_TOKEN };
  if (!AZURE_STORAGE_ACCOUNT_FILE) return azure;
  return { ...azure, ...(await readAccountFile(AZURE_STORAGE_ACCOUNT_FILE, account)) };
}

function secretsOf(text: string): string[] {
  return [...text.matchAll(/(?:AccountKey|sig)=([^;&]+)/gi)].flatMap(([, value]) => [
    value!,
    decodeURIComponent(value!.replaceAll(/%(?![\da-f]{2})/gi, '%25')),
  ]);
}

/** `azb://account/…`, or with its host: `azb://account.blob.core.usgovcloudapi.net/…`. */
function accountUrl({ account }: StoreAddress, azure: AzureSettings): URL {
  if (azure.endpoint !== undefined) return new URL(checkEndpoint(azure.endpoint, EXAMPLE));
  const name = accountName(account);
  if (account.startsWith(`${name}.blob.`)) return new URL(`https://${account}`);
  const suffix = azure.endpointSuffix?.replace(/^\./, '') || suffixOfAuthority();
  if (!/^[a-z0-9][a-z0-9.-]*$/i.test(suffix))
    throw notA('endpoint suffix', `it is a host name such as ${SUFFIX}`);
  return new URL(`https://${name}.${suffix}`);
}

/** Who signs in at another Azure cloud has its storage there as well. */
function suffixOfAuthority(): string {
  return SUFFIXES.find(([host]) => host === authorityHost())?.[1] ?? SUFFIX;
}

/** The library would ask Azure itself who that is, which a cloud that is cut off cannot. */
function isPrivateAuthority(): boolean {
  const host = authorityHost();
  return host !== undefined && SUFFIXES.every(([known]) => known !== host);
}

function authorityHost(): string | undefined {
  const authority = process.env.AZURE_AUTHORITY_HOST;
  return authority ? authority.replace(/^https:\/\//, '').replace(/\/.*$/, '') : undefined;
}

function accountName(account: string): string {
  return account.split('.')[0]!;
}

/** An emulator; a connection string says so by itself. */
function isPlain(url: URL, connectionString: string | undefined): boolean {
  if (connectionString === undefined) return url.protocol === 'http:';
  if (/(^|;)\s*BlobEndpoint=/i.test(connectionString))
    return /(^|;)\s*BlobEndpoint=http:/i.test(connectionString);
  return /(^|;)\s*(DefaultEndpointsProtocol=http|UseDevelopmentStorage=true)\s*(;|$)/i.test(connectionString);
}

type Sdk = typeof import('@azure/storage-blob');
type PipelineOptions = StoragePipelineOptions & { readonly agent: unknown };

async function serviceOf(
  sdk: Sdk,
  address: StoreAddress,
  url: URL,
  azure: AzureSettings,
  options: PipelineOptions,
): Promise<import('@azure/storage-blob').BlobServiceClient> {
  const name = accountName(address.account);
  if (azure.connectionString !== undefined)
    return fromConnectionString(sdk, name, azure.connectionString, options);
  const service = (pipeline: Pipeline, query = ''): import('@azure/storage-blob').BlobServiceClient =>
    new sdk.BlobServiceClient(`${url.href.replace(/\/$/, '')}${query}`, pipeline);
  if (azure.accountKey !== undefined) {
    if (!/^[\w+/]+={0,2}$/.test(azure.accountKey)) throw notA('account key', 'it is base64');
    return service(sdk.newPipeline(new sdk.StorageSharedKeyCredential(name, azure.accountKey), options));
  }
  if (azure.sasToken !== undefined) {
    const token = azure.sasToken.replace(/^\?/, '');
    if (!/(^|&)sig=/.test(token) || /[\s#]/.test(token)) throw notA('token (SAS)', 'it has a sig= in it');
    return service(sdk.newPipeline(new sdk.AnonymousCredential(), options), `?${token}`);
  }
  const { ClientSecretCredential, DefaultAzureCredential } = await import('@azure/identity');
  const signIn = { disableInstanceDiscovery: isPrivateAuthority() };
  if (azure.application === undefined)
    return service(sdk.newPipeline(new DefaultAzureCredential(signIn), options));
  const { tenantId, clientId, clientSecret } = azure.application;
  return service(
    sdk.newPipeline(new ClientSecretCredential(tenantId, clientId, clientSecret, signIn), options),
  );
}

function fromConnectionString(
  sdk: Sdk,
  name: string,
  connectionString: string,
  options: PipelineOptions,
): import('@azure/storage-blob').BlobServiceClient {
  let service: import('@azure/storage-blob').BlobServiceClient;
  try {
    service = sdk.BlobServiceClient.fromConnectionString(connectionString, options);
  } catch {
    // What the SDK says of it may repeat it.
    throw notA('connection string', 'copy it whole from the access keys of the account');
  }
  if (service.accountName === name || name === 'devstoreaccount1') return service;
  throw new GraphkeepError(
    'GK_CONFIG',
    `the connection string is for the account ${service.accountName}, the URL names ${name}`,
    { hint: 'correct one of the two' },
  );
}

function notA(what: string, hint: string): GraphkeepError {
  return new GraphkeepError('GK_CONFIG', `the ${what} of Azure is not one`, { hint });
}

/** What the request that makes an object appear says of it. @throws GK_UNSUPPORTED */
export function azureAttributes(
  attributes: ObjectAttributes,
  metadata: Record<string, string>,
): BlockBlobCommitBlockListOptions {
  const { contentType, storageClass, tags, lock, legalHold } = attributes;
  const scope = encryptionScope(attributes);
  return {
    metadata,
    blobHTTPHeaders: { blobContentType: contentType ?? 'application/octet-stream' },
    ...(storageClass === undefined ? {} : { tier: storageClass }),
    ...(tags === undefined ? {} : { tags: { ...tags } }),
    ...(lock === undefined
      ? {}
      : {
          immutabilityPolicy: {
            policyMode: lock.mode === 'governance' ? 'Unlocked' : 'Locked',
            expiriesOn: lock.until,
          },
        }),
    ...(legalHold ? { legalHold: true } : {}),
    ...(scope === undefined ? {} : { encryptionScope: scope }),
  };
}

/** @throws GK_UNSUPPORTED */
export function encryptionScope({ encryption }: ObjectAttributes): string | undefined {
  if (encryption === undefined || encryption.by === 'store') return undefined;
  if (encryption.by === 'scope') return encryption.scope;
  throw new GraphkeepError('GK_UNSUPPORTED', 'Azure takes no key of KMS with an object', {
    hint: 'make an encryption scope with that key in the account, and name the scope',
  });
}
