/** What Google's store says went wrong, and what that means for somebody who makes a backup. */
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

export interface GoogleAnswer {
  readonly status: number;
  readonly reason: string;
}

export function googleAnswerOf(error: unknown): GoogleAnswer {
  if (!(error instanceof Error) || !('status' in error)) return { status: 0, reason: '' };
  const reason = 'reason' in error ? serviceCodeOf(error.reason) : '';
  return { status: typeof error.status === 'number' ? error.status : 0, reason };
}

const RULES: readonly Rule[] = [
  [
    /^(authError|required|invalidCredentials|keyExpired)$/,
    'GK_NO_PERMISSION',
    'the store does not know these credentials, or they have expired',
    STORE_HINTS.credentials,
  ],
  [
    /^(forbidden|insufficientPermissions|accessNotConfigured|accountDisabled|userProjectAccessDenied)$/,
    'GK_NO_PERMISSION',
    'the store does not allow it',
    'give these credentials the role Storage Object User (roles/storage.objectUser) for the bucket',
  ],
  [
    /^(retentionPolicyNotMet|objectUnderActiveHold|retentionPolicyNotSatisfied)$/,
    'GK_NO_PERMISSION',
    'a retention policy or a hold protects the object',
    'wait until it ends, or lift it; a bucket with a retention policy cannot take uploads in parts',
  ],
  [/^(conditionNotMet)$/, 'GK_SOURCE_MOVED', 'the object was changed meanwhile', 'run the command again'],
  [
    /^(requestedRangeNotSatisfiable)$/,
    'GK_IO',
    'the object ends before',
    'the object is shorter than it was; look at it again',
  ],
  [
    /^(rateLimitExceeded|userRateLimitExceeded|quotaExceeded|backendError|internalError)$/,
    'GK_SERVER_BUSY',
    'the store is busy',
    STORE_HINTS.busy,
  ],
  [
    /^(notAStore)$/,
    'GK_PROTOCOL',
    'what answers there is no object store',
    'check host, port and scheme of the endpoint, and whether a proxy is in between',
  ],
];

export function tellGoogle(error: unknown, doing: Doing, scrub: Scrub): GraphkeepError {
  return storeError(googleFailure(error, doing, scrub), doing, error, scrub);
}

function googleFailure(error: unknown, doing: Doing, scrub: Scrub): Failure {
  const { status, reason } = googleAnswerOf(error);
  const said = saidOf(reason, status);
  if (reason === 'noCredentials') return credentials(error);
  if (status === 404) {
    const text = doing.key === undefined ? 'there is no such bucket' : 'there is no such object';
    return { code: 'GK_NOT_FOUND', text: `${text} (${said})` };
  }
  const ruled = failureByRule(RULES, reason, said) ?? failureByRule(RULES, reasonOf(status), said);
  if (ruled !== undefined) return ruled;
  if (status === 400 && /crc32c|md5|checksum/i.test(error instanceof Error ? error.message : '')) {
    const text = `what arrived there was damaged on the way (${said})`;
    return { code: 'GK_CONNECTION_LOST', text, hint: STORE_HINTS.connection };
  }
  return networkFailure(error) ?? statusFailure(status, reason) ?? unknownFailure(error, said, scrub);
}

/** Not every answer has a reason: a media download that fails has no JSON. */
function reasonOf(status: number): string {
  return status === 412 ? 'conditionNotMet' : status === 416 ? 'requestedRangeNotSatisfiable' : '';
}

/** The library asks a server of its own for tokens, which may be out of reach as well. */
function credentials(error: unknown): Failure {
  const network = networkFailure(error);
  if (network !== undefined) return { ...network, text: `the server of the tokens: ${network.text}` };
  return {
    code: 'GK_NO_PERMISSION',
    text: 'no credentials were found, or they were refused',
    hint: 'set GOOGLE_APPLICATION_CREDENTIALS, run gcloud auth application-default login, or give this pod an identity',
  };
}
