/** The client of S3: where it is, how it is spoken to, and who we are. The SDK is loaded when it is first needed. */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3';
import { GraphkeepError } from '../../errors.ts';
import {
  CUSTOMER_KEY_BYTES,
  OBJECT_CONNECT_MS_MAX,
  OBJECT_SDK_TRIES,
  OBJECT_SILENCE_MS_MAX,
} from '../../limits.ts';
import type { StoreAddress } from './address.ts';
import { type StoreAgents, storeAgents } from './agents.ts';
import { isOpenToOthers } from './endpoint.ts';
import { findS3Place, type S3Place } from './s3place.ts';
import { type Scrub, scrubber } from './secrets.ts';
import type { S3Settings, StoreSettings } from './settings.ts';
import type { ObjectAttributes } from './store.ts';

export type S3Module = typeof import('@aws-sdk/client-s3');

export interface S3Connection {
  readonly sdk: S3Module;
  readonly client: S3Client;
  /** The SDK does not close what it was given. */
  readonly agents: StoreAgents;
  readonly scrub: Scrub;
  /** Headers of SSE-C, which every request about an object needs. */
  readonly customerKey: CustomerKeyFields;
  /** Whether parts carry a checksum of their own besides the SHA-256 of the signature. */
  readonly hasChecksums: boolean;
}

export interface CustomerKeyFields {
  readonly SSECustomerAlgorithm?: 'AES256';
  readonly SSECustomerKey?: string;
  readonly SSECustomerKeyMD5?: string;
}

/** Of the object that is copied. */
export function copySourceKey(key: CustomerKeyFields): CopySourceKeyFields {
  if (key.SSECustomerKey === undefined) return {};
  return {
    CopySourceSSECustomerAlgorithm: 'AES256',
    CopySourceSSECustomerKey: key.SSECustomerKey,
    ...(key.SSECustomerKeyMD5 === undefined ? {} : { CopySourceSSECustomerKeyMD5: key.SSECustomerKeyMD5 }),
  };
}

type CopySourceKeyFields = Pick<
  import('@aws-sdk/client-s3').UploadPartCopyCommandInput,
  'CopySourceSSECustomerAlgorithm' | 'CopySourceSSECustomerKey' | 'CopySourceSSECustomerKeyMD5'
>;

/** @throws GK_CONFIG, GK_NOT_FOUND */
export async function connectS3(
  { profile }: Pick<StoreAddress, 'profile'>,
  settings: StoreSettings,
): Promise<S3Connection> {
  const s3 = settings.s3 ?? {};
  const customerKey = customerKeyFields(s3.customerKey);
  const place = await findS3Place(profile, s3);
  if (s3.customerKey !== undefined && place.endpoint !== undefined && isOpenToOthers(place.endpoint)) {
    throw new GraphkeepError(
      'GK_CONFIG',
      "a key of one's own (SSE-C) goes with every request: not over http://",
      {
        hint: 'use the https:// endpoint of the store',
      },
    );
  }
  const [sdk, agents] = await Promise.all([import('@aws-sdk/client-s3'), storeAgents(settings)]);
  const client = new sdk.S3Client(configurationOf(place, settings, agents));
  const hasChecksums = (await client.config.requestChecksumCalculation()) === 'WHEN_SUPPORTED';
  return { sdk, client, agents, scrub: scrubberOf(place, s3), customerKey, hasChecksums };
}

function configurationOf(place: S3Place, settings: StoreSettings, agents: StoreAgents): S3ClientConfig {
  const { endpoint, region, pathStyle, profile, credentials } = place;
  const { requestChecksums, responseChecksums } = settings.s3 ?? {};
  return {
    maxAttempts: OBJECT_SDK_TRIES,
    requestHandler: {
      connectionTimeout: OBJECT_CONNECT_MS_MAX,
      socketTimeout: settings.silenceMs ?? OBJECT_SILENCE_MS_MAX,
      httpAgent: agents.http,
      httpsAgent: agents.https,
    },
    followRegionRedirects: true,
    // It would look into the profile that holds by itself, even where another one is named.
    ignoreConfiguredEndpointUrls: true,
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(pathStyle === undefined ? {} : { forcePathStyle: pathStyle }),
    ...(region === undefined ? {} : { region }),
    ...(profile === undefined ? {} : { profile, logger: SILENT }),
    ...(credentials === undefined ? {} : { credentials }),
    ...(requestChecksums === undefined ? {} : { requestChecksumCalculation: requestChecksums }),
    ...(responseChecksums === undefined ? {} : { responseChecksumValidation: responseChecksums }),
  };
}

const nothing = (): void => undefined;
/** Whoever names a profile need not be warned that keys in the environment are passed over. */
const SILENT = { trace: nothing, debug: nothing, info: nothing, warn: nothing, error: nothing };

function customerKeyFields(key: Buffer | undefined): CustomerKeyFields {
  if (key === undefined) return {};
  if (key.length !== CUSTOMER_KEY_BYTES) {
    throw new GraphkeepError('GK_CONFIG', `a key of the customer (SSE-C) has ${CUSTOMER_KEY_BYTES} bytes`, {
      hint: 'make one with: openssl rand 32',
    });
  }
  return {
    SSECustomerAlgorithm: 'AES256',
    SSECustomerKey: key.toString('base64'),
    SSECustomerKeyMD5: createHash('md5').update(key).digest('base64'),
  };
}

function scrubberOf({ secrets }: S3Place, { customerKey }: S3Settings): Scrub {
  const { AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN } = process.env;
  return scrubber([...secrets, customerKey?.toString('base64'), AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN]);
}

/** Fields that PutObject and CreateMultipartUpload share. @throws GK_UNSUPPORTED */
export function s3Attributes(attributes: ObjectAttributes): S3AttributeFields {
  const { contentType, storageClass, tags, lock, legalHold } = attributes;
  return {
    ContentType: contentType ?? 'application/octet-stream',
    ...(storageClass === undefined ? {} : { StorageClass: storageClass as StorageClassField }),
    ...(tags === undefined ? {} : { Tagging: tagText(tags) }),
    ...(lock === undefined
      ? {}
      : {
          ObjectLockMode: lock.mode === 'governance' ? 'GOVERNANCE' : 'COMPLIANCE',
          ObjectLockRetainUntilDate: lock.until,
        }),
    ...(legalHold ? { ObjectLockLegalHoldStatus: 'ON' } : {}),
    ...encryptionFields(attributes),
  };
}

/** A plus for a space is not understood everywhere. */
function tagText(tags: Readonly<Record<string, string>>): string {
  return new URLSearchParams(tags).toString().replaceAll('+', '%20');
}

type StorageClassField = NonNullable<import('@aws-sdk/client-s3').PutObjectCommandInput['StorageClass']>;
type S3AttributeFields = Pick<
  import('@aws-sdk/client-s3').PutObjectCommandInput,
  | 'ContentType'
  | 'StorageClass'
  | 'Tagging'
  | 'ObjectLockMode'
  | 'ObjectLockRetainUntilDate'
  | 'ObjectLockLegalHoldStatus'
  | 'ServerSideEncryption'
  | 'SSEKMSKeyId'
>;

function encryptionFields({ encryption }: ObjectAttributes): S3AttributeFields {
  if (encryption === undefined) return {};
  if (encryption.by === 'store') return { ServerSideEncryption: 'AES256' };
  if (encryption.by === 'scope') {
    throw new GraphkeepError('GK_UNSUPPORTED', 'S3 knows no encryption scopes', {
      hint: 'encrypt by the store or by a key of KMS',
    });
  }
  const { keyId } = encryption;
  return { ServerSideEncryption: 'aws:kms', ...(keyId === undefined ? {} : { SSEKMSKeyId: keyId }) };
}

/** What an answer to a write says of the encryption. */
export interface EncryptionAnswer {
  readonly ServerSideEncryption?: string | undefined;
  readonly SSECustomerAlgorithm?: string | undefined;
}

/**
 * A store that does not know the headers of an encryption takes the object all the same, and keeps it as it is. AWS says in
 * the answer what it did. @throws GK_UNSUPPORTED
 */
export function requireEncrypted(
  { encryption }: ObjectAttributes,
  customerKey: CustomerKeyFields,
  answer: EncryptionAnswer,
): void {
  const isByCustomer = customerKey.SSECustomerKey !== undefined;
  const isDone = isByCustomer
    ? answer.SSECustomerAlgorithm !== undefined
    : encryption === undefined || answer.ServerSideEncryption !== undefined;
  if (isDone) return;
  throw new GraphkeepError('GK_UNSUPPORTED', 'the store does not say that it encrypts as it was asked to', {
    hint: 'it may not know this kind of encryption; leave out --server-side-encryption',
  });
}

/** As the header has it: big-endian, in base64. */
export function crc32Text(bytes: Buffer): string {
  return crc32ValueText(crc32(bytes));
}

export function crc32ValueText(value: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes.toString('base64');
}

/** Nothing for what is no CRC-32 of bytes: that of an upload is made of those of its parts, and says how many they were. */
export function crc32Value(text: string | undefined): number | undefined {
  return text !== undefined && /^[\w+/]{6}==$/.test(text)
    ? Buffer.from(text, 'base64').readUInt32BE()
    : undefined;
}
