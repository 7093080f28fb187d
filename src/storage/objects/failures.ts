/**
 * What went wrong with an object store, in the words and codes of graphkeep. Each driver knows the codes of its store; what
 * the network says, and what a plain HTTP status means, is the same for all.
 */
import { type ErrorCode, GraphkeepError } from '../../errors.ts';
import { FAULT_CODES, FAULT_WORDS, type NetworkFault, networkFaultOf } from '../networkfaults.ts';
import { cleanCause, type Scrub, shortWords } from './secrets.ts';

/** Completes the sentence "could not …: text". */
export interface Failure {
  readonly code: ErrorCode;
  readonly text: string;
  readonly hint?: string | undefined;
}

/** What a driver does at the moment, for the message. */
export interface Doing {
  /** Completes "could not …". */
  readonly what: string;
  /** The key that is asked for: a missing one is another thing than a missing bucket. */
  readonly key?: string | undefined;
}

export const STORE_HINTS = {
  busy: 'run the command again later; the store asks for fewer requests at a time',
  connection: 'run the command again when the network is back; nothing half-written was published',
  endpoint: 'check the endpoint, and whether this machine can reach it (proxy, firewall, name service)',
  certificate: 'give the authority that signed it (PEM), check its dates, and the host name in the endpoint',
  clock: 'set the clock of this machine (NTP)',
  credentials: 'check the credentials, and that they have not expired or been revoked',
} as const;

/** @throws never; gives the error to be thrown */
export function storeError(failure: Failure, doing: Doing, error: unknown, scrub: Scrub): GraphkeepError {
  return new GraphkeepError(failure.code, `could not ${doing.what}: ${failure.text}`, {
    ...(failure.hint === undefined ? {} : { hint: failure.hint }),
    cause: cleanCause(error, scrub),
  });
}

/** Codes of a store, and what they mean. */
export type Rule = readonly [codes: RegExp, code: ErrorCode, text: string, hint?: string];

/** What the store said, as a message repeats it. */
export function saidOf(serviceCode: string, status: number): string {
  return [serviceCode, status === 0 ? '' : `HTTP ${status}`].filter((word) => word !== '').join(', ');
}

/** What the first rule that fits makes of it. */
export function failureByRule(
  rules: readonly Rule[],
  serviceCode: string,
  said: string,
): Failure | undefined {
  const rule = rules.find(([codes]) => codes.test(serviceCode));
  return rule === undefined ? undefined : { code: rule[1], text: `${rule[2]} (${said})`, hint: rule[3] };
}

const NOT_TRUSTED = 'its certificate is not trusted here';
const WORDS: Readonly<Record<NetworkFault, string>> = {
  ...FAULT_WORDS,
  certificateExpired: 'its certificate has expired',
  certificateNotYetValid: NOT_TRUSTED,
  certificateRevoked: NOT_TRUSTED,
  otherHostName: 'its certificate is for another host name',
  certificateNotTrusted: NOT_TRUSTED,
};

/** What only clients of stores meet. */
const NETWORK_RULES: readonly Rule[] = [
  [
    /^HPE_/,
    'GK_PROTOCOL',
    'what answers there does not speak HTTP',
    'check host, port and scheme of the endpoint',
  ],
  [
    /^(ETIMEDOUT|ESOCKETTIMEDOUT|UND_ERR_CONNECT_TIMEOUT)$/,
    'GK_UNREACHABLE',
    'nothing answers',
    STORE_HINTS.endpoint,
  ],
  [
    /^(ECONNRESET|EPIPE|ECONNABORTED|ERR_STREAM_PREMATURE_CLOSE|ERR_STREAM_DESTROYED|UND_ERR_\w+)$/,
    'GK_CONNECTION_LOST',
    'the connection broke',
    STORE_HINTS.connection,
  ],
];

function failureOfFault(fault: NetworkFault, said: string): Failure {
  const code = FAULT_CODES[fault];
  const ofTls = 'check whether the endpoint is https:// or http://';
  const ofCertificate = code === 'GK_CERTIFICATE' ? STORE_HINTS.certificate : STORE_HINTS.endpoint;
  return { code, text: `${WORDS[fault]} (${said})`, hint: code === 'GK_TLS' ? ofTls : ofCertificate };
}

/** What the network says, looked for in the error and in what it hides: the SDKs wrap it. */
export function networkFailure(error: unknown): Failure | undefined {
  for (const inner of innerErrors(error)) {
    const code = 'code' in inner && typeof inner.code === 'string' ? inner.code : '';
    const fault = networkFaultOf(code);
    if (fault !== undefined) return failureOfFault(fault, code);
    const failure = failureByRule(NETWORK_RULES, code, code);
    if (failure !== undefined) return failure;
    // Nobody interrupted us: then an abort is what an SDK makes of a connection that was cut.
    const isCut = /^(AbortError|ResponseAborted)$/.test(inner.name) || CUT.test(inner.message);
    if (isCut) {
      return { code: 'GK_CONNECTION_LOST', text: 'the connection broke', hint: STORE_HINTS.connection };
    }
  }
  return undefined;
}

const CUT = /socket hang up|premature close|\baborted$/i;
const INNER_DEPTH_MAX = 8;

function innerErrors(error: unknown, depth = 0): Error[] {
  if (!(error instanceof Error) || depth > INNER_DEPTH_MAX) return [];
  // A host with several addresses fails with one error for each.
  const several = error instanceof AggregateError ? error.errors : [];
  const wrapped = 'error' in error ? error.error : undefined;
  return [error, ...[error.cause, wrapped, ...several].flatMap((inner) => innerErrors(inner, depth + 1))];
}

/** What a plain status means, when the store's own code says no more. */
export function statusFailure(status: number, serviceCode: string): Failure | undefined {
  const said = saidOf(serviceCode, status);
  if (status === 401 || status === 403) {
    return { code: 'GK_NO_PERMISSION', text: `the store does not allow it (${said})`, hint: permissionHint };
  }
  if (status === 404) return { code: 'GK_NOT_FOUND', text: `there is no such thing (${said})` };
  if (status === 507) return { code: 'GK_NO_SPACE', text: `the store is full (${said})`, hint: spaceHint };
  if (status === 501) {
    return {
      code: 'GK_UNSUPPORTED',
      text: `the store does not know what it is asked for (${said})`,
      hint: 'for stores that do not know the checksums of AWS, set the checksum modes to WHEN_REQUIRED',
    };
  }
  if (status === 408 || status === 429 || status >= 500) {
    return { code: 'GK_SERVER_BUSY', text: `the store is busy or broken (${said})`, hint: STORE_HINTS.busy };
  }
  return undefined;
}

const permissionHint = `${STORE_HINTS.credentials}, and what they are allowed in this bucket and folder`;
const spaceHint = 'free some space in the store, or raise its quota';

/** What nobody foresaw: the words of the SDK, without secrets. */
export function unknownFailure(error: unknown, said: string, scrub: Scrub): Failure {
  const words = shortWords(error instanceof Error ? error.message : String(error), scrub);
  return {
    code: 'GK_IO',
    text: said === '' ? words : `${words} (${said})`,
    hint: 'check what the store says',
  };
}

/** An answer that no store gives: of a web server, or of a proxy that wants somebody to log in. */
export function notAStore(url: string, what: string): GraphkeepError {
  return new GraphkeepError('GK_PROTOCOL', `could not ${what}: what answers for ${url} is no object store`, {
    hint: 'check host, port and scheme of the endpoint, and whether a proxy is in between',
  });
}

/** A code as stores have them; anything else could be a whole page. */
export function serviceCodeOf(value: unknown): string {
  return typeof value === 'string' && /^[\w.:-]{1,80}$/.test(value) ? value : '';
}
