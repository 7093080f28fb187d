/** What Azure says went wrong, and what that means for somebody who makes a backup. */
import type { GraphkeepError } from '../../errors.ts';
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

export interface AzureAnswer {
  readonly status: number;
  readonly serviceCode: string;
}

/** What came back, as far as an error of the SDK tells. */
export function azureAnswerOf(error: unknown): AzureAnswer {
  if (!(error instanceof Error)) return { status: 0, serviceCode: '' };
  const status = 'statusCode' in error ? Number(error.statusCode) : 0;
  // An answer to HEAD has no body; then the code is in a header, which the SDK puts among the details.
  const details: unknown = 'details' in error ? error.details : undefined;
  const isObject = typeof details === 'object' && details !== null;
  const inDetails = isObject && 'errorCode' in details ? details.errorCode : undefined;
  const code = serviceCodeOf(inDetails) || serviceCodeOf('code' in error ? error.code : undefined);
  return { status: Number.isInteger(status) ? status : 0, serviceCode: code };
}

const RULES: readonly Rule[] = [
  [
    /^(ContainerNotFound|ContainerBeingDeleted|ContainerDisabled)$/,
    'GK_NOT_FOUND',
    'there is no such container',
    'check the names of account and container',
  ],
  [/^(BlobNotFound|ResourceNotFound)$/, 'GK_NOT_FOUND', 'there is no such object'],
  [
    /^(AuthenticationFailed|InvalidAuthenticationInfo|NoAuthenticationInformation|InvalidAuthorization\w*)$/,
    'GK_NO_PERMISSION',
    'the store does not know these credentials, or they are not right or have expired',
    `${STORE_HINTS.credentials}; a clock that is wrong looks the same`,
  ],
  [
    /^(Authorization\w+|InsufficientAccountPermissions|KeyBasedAuthenticationNotPermitted|PublicAccessNotPermitted)$/,
    'GK_NO_PERMISSION',
    'the store does not allow it',
    'give these credentials the role Storage Blob Data Contributor, or a token (SAS) with racwdl',
  ],
  [/^ConditionNotMet$/, 'GK_SOURCE_MOVED', 'the object was changed meanwhile', 'run the command again'],
  [
    /^(InvalidRange)$/,
    'GK_IO',
    'the object ends before',
    'the object is shorter than it was; look at it again',
  ],
  [
    /^(ServerBusy|InternalError|OperationTimedOut|IngressLimitExceeded|EgressLimitExceeded|OperationAborted)$/,
    'GK_SERVER_BUSY',
    'the store is busy',
    STORE_HINTS.busy,
  ],
  [
    /^(Md5Mismatch|Crc64Mismatch|InvalidMd5)$/,
    'GK_CONNECTION_LOST',
    'what arrived there was damaged on the way',
    STORE_HINTS.connection,
  ],
  [
    /^(BlobArchived|BlobBeingRehydrated)$/,
    'GK_UNSUPPORTED',
    'the object is archived and cannot be read at once',
    'move it to another tier first',
  ],
  [
    /^(BlobImmutableDueToPolicy|BlobImmutable\w*|SnapshotsPresent|Lease\w+)$/,
    'GK_NO_PERMISSION',
    'a policy, a lease or a snapshot protects the object',
    'wait until it ends, or lift it',
  ],
  [
    /^(InvalidBlobTier|\w*EncryptionScope\w*|UnsupportedHeader|FeatureNotSupported\w*|FeatureVersionMismatch)$/,
    'GK_CONFIG',
    'the container does not take such an object',
    'check storage class, tags, encryption scope and lock against what the account allows',
  ],
  [
    /^(InvalidBlockList|InvalidBlobOrBlock)$/,
    'GK_IO',
    'the store no longer has the parts of this upload',
    'somebody else wrote or cleaned this object meanwhile; run the command again',
  ],
];

export function tellAzure(error: unknown, doing: Doing, scrub: Scrub): GraphkeepError {
  return storeError(azureFailure(error, scrub), doing, error, scrub);
}

function azureFailure(error: unknown, scrub: Scrub): Failure {
  const { status, serviceCode } = azureAnswerOf(error);
  const said = saidOf(serviceCode, status);
  return (
    failureByRule(RULES, serviceCode, said) ??
    networkFailure(error) ??
    identity(error) ??
    strangeAnswer(error, status) ??
    statusFailure(status, serviceCode) ??
    unknownFailure(error, said, scrub)
  );
}

/** The default chain tried everything there is, and says so in a page of text. */
function identity(error: unknown): Failure | undefined {
  const name = error instanceof Error ? error.name : '';
  if (!/^(CredentialUnavailable|AggregateAuthentication|Authentication(Required)?)Error$/.test(name)) {
    return undefined;
  }
  const hint =
    'set AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING, run az login, ' +
    'or give this machine or pod an identity';
  return { code: 'GK_NO_PERMISSION', text: 'no credentials were found, or they were refused', hint };
}

/** A web server, or a proxy that asks to log in. */
function strangeAnswer(error: unknown, status: number): Failure | undefined {
  const isParsing = error instanceof Error && 'code' in error && error.code === 'PARSE_ERROR';
  // The SDK reads fields of an answer that is not there, or misses a header that every store sends.
  const words = error instanceof Error ? error.message : '';
  const isNothing =
    /content length header/.test(words) || (error instanceof TypeError && /reading '\w+'/.test(words));
  const isOdd = isNothing || isParsing ? status < 500 : status >= 200 && status < 400 && status !== 304;
  if (!isOdd) return undefined;
  const text = `what answers there is no object store${status === 0 ? '' : ` (HTTP ${status})`}`;
  return { code: 'GK_PROTOCOL', text, hint: 'check host, port and scheme of the endpoint' };
}
