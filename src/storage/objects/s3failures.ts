/** What S3 says went wrong, and what that means for somebody who makes a backup. */
import { GraphkeepError } from '../../errors.ts';
import {
  type Doing,
  type Failure,
  failureByRule,
  networkFailure,
  type Rule,
  STORE_HINTS,
  saidOf,
  serviceCodeOf,
  statusFailure,
  storeError,
  unknownFailure,
} from './failures.ts';
import type { Scrub } from './secrets.ts';

export interface S3Answer {
  readonly status: number;
  readonly serviceCode: string;
}

/** What came back, as far as an error of the SDK tells. */
export function s3AnswerOf(error: unknown): S3Answer {
  if (!(error instanceof Error)) return { status: 0, serviceCode: '' };
  const metadata: unknown = '$metadata' in error ? error.$metadata : undefined;
  const isObject = typeof metadata === 'object' && metadata !== null;
  const status = isObject && 'httpStatusCode' in metadata ? Number(metadata.httpStatusCode) : 0;
  const code = serviceCodeOf('Code' in error ? error.Code : error.name);
  // What is no code of a store only takes room in a message.
  const isCode = !/^(\w*Error|Unknown|\d+)$/.test(code) || /^(Internal|\w+Provider)Error$/.test(code);
  return { status: Number.isInteger(status) ? status : 0, serviceCode: isCode ? code : '' };
}

const credentialText = 'the store does not know these credentials, or they are not right';
const RULES: readonly Rule[] = [
  [
    /^(InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|InvalidSecurity|AuthFailure)$/,
    'GK_NO_PERMISSION',
    credentialText,
    STORE_HINTS.credentials,
  ],
  [
    /^(ExpiredToken|ExpiredTokenException|TokenRefreshRequired)$/,
    'GK_NO_PERMISSION',
    'the credentials have expired',
    STORE_HINTS.credentials,
  ],
  [
    /^(CredentialsProviderError|TokenProviderError)$/,
    'GK_NO_PERMISSION',
    'no credentials were found',
    'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the identity of this machine or pod',
  ],
  [
    /^(RequestTimeTooSkewed|RequestExpired|RequestInTheFuture)$/,
    'GK_CONFIG',
    'the clock of this machine and that of the store differ too much',
    STORE_HINTS.clock,
  ],
  [
    /^(PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraintException)$/,
    'GK_CONFIG',
    'the bucket is in another region',
    'set the region (AWS_REGION) to that of the bucket',
  ],
  [
    /^NoSuchBucket$/,
    'GK_NOT_FOUND',
    'there is no such bucket',
    'check the name of the bucket and the endpoint',
  ],
  [/^(NoSuchKey|NotFound)$/, 'GK_NOT_FOUND', 'there is no such object'],
  [
    /^NoSuchUpload$/,
    'GK_IO',
    'the store no longer has this upload',
    'somebody aborted it; run the command again',
  ],
  [
    /^(SlowDown|ServiceUnavailable|InternalError|RequestTimeout|Throttling\w*|TooManyRequests\w*|OperationAborted)$/,
    'GK_SERVER_BUSY',
    'the store is busy',
    STORE_HINTS.busy,
  ],
  [
    /^(BadDigest|InvalidDigest|XAmzContentSHA256Mismatch|XAmzContentChecksumMismatch|IncompleteBody)$/,
    'GK_CONNECTION_LOST',
    'what arrived there was damaged on the way',
    STORE_HINTS.connection,
  ],
  [
    /^PreconditionFailed$/,
    'GK_SOURCE_MOVED',
    'the object was changed meanwhile',
    'run the command again; somebody writes to this folder',
  ],
  [
    /^(InvalidRange|RequestedRangeNotSatisfiable)$/,
    'GK_IO',
    'the object ends before',
    'the object is shorter than it was; look at it again',
  ],
  [
    /^InvalidObjectState$/,
    'GK_UNSUPPORTED',
    'the object is archived and cannot be read at once',
    'restore it from the archive of the store first',
  ],
  [/^(QuotaExceeded|InsufficientStorage\w*|XMinioStorageFull)$/, 'GK_NO_SPACE', 'the store is full'],
  [
    /^(KMS\.\w+|KMS\w*Exception|ServerSideEncryptionConfigurationNotFoundError)$/,
    'GK_CONFIG',
    'the key of the encryption cannot be used',
    'check the id of the key, that it is enabled, and that these credentials may use it',
  ],
  [
    /^(InvalidStorageClass|ObjectLockConfigurationNotFoundError|InvalidTag|InvalidEncryptionAlgorithmError)$/,
    'GK_CONFIG',
    'the bucket does not take such an object',
    'check storage class, tags, encryption and object lock against what the bucket allows',
  ],
  [
    /^(Unsupported\w*|NotImplemented|MethodNotAllowed)$/,
    'GK_UNSUPPORTED',
    'the store does not know what it is asked for',
    'for stores that do not know the checksums of AWS, set the checksum modes to WHEN_REQUIRED',
  ],
];

export function tellS3(error: unknown, doing: Doing, scrub: Scrub): GraphkeepError {
  return storeError(s3Failure(error, scrub), doing, error, scrub);
}

/** The store understood, and does not do it; asked for less it may. */
export function isRefusal(error: unknown): boolean {
  return error instanceof GraphkeepError && (error.code === 'GK_IO' || error.code === 'GK_UNSUPPORTED');
}

function s3Failure(error: unknown, scrub: Scrub): Failure {
  const { status, serviceCode } = s3AnswerOf(error);
  const said = saidOf(serviceCode, status);
  return (
    failureByRule(RULES, serviceCode, said) ??
    networkFailure(error) ??
    timeout(error) ??
    configuration(error) ??
    strangeAnswer(error, status) ??
    statusFailure(status, serviceCode) ??
    unknownFailure(error, said, scrub)
  );
}

/** The SDK's own clocks; they have no code. */
function timeout(error: unknown): Failure | undefined {
  if (!(error instanceof Error) || error.name !== 'TimeoutError') return undefined;
  return /establish a connection/.test(error.message)
    ? { code: 'GK_UNREACHABLE', text: 'nothing answers', hint: STORE_HINTS.endpoint }
    : { code: 'GK_CONNECTION_LOST', text: 'nothing more came', hint: STORE_HINTS.connection };
}

function configuration(error: unknown): Failure | undefined {
  const words = error instanceof Error ? error.message : '';
  if (/region is missing/i.test(words)) {
    return {
      code: 'GK_CONFIG',
      text: 'no region is set',
      hint: 'set AWS_REGION, or the region of the profile',
    };
  }
  if (/could not resolve credentials|could not load credentials|resolved credential object/i.test(words)) {
    const hint = 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the identity of this pod';
    return { code: 'GK_NO_PERMISSION', text: 'no credentials were found', hint };
  }
  return undefined;
}

/** A web server, or a proxy that asks to log in: the SDK only says that it is no XML. */
function strangeAnswer(error: unknown, status: number): Failure | undefined {
  const isParsing =
    error instanceof Error && /deserializ|is not expected|closing tag|xml/i.test(error.message);
  if (!isParsing || status >= 500) return undefined;
  const text = `what answers there is no S3${status === 0 ? '' : ` (HTTP ${status})`}`;
  return { code: 'GK_PROTOCOL', text, hint: 'check host, port and scheme of the endpoint' };
}
