/**
 * What a failed connection says about its cause. Somebody whose backup does not run wants to know which of name, port, TLS,
 * certificate, token or Neo4j is at fault, not that a socket hung up.
 */
import { type ErrorCode, GraphkeepError } from '../errors.ts';
import { FAULT_CODES, FAULT_WORDS, type NetworkFault, networkFaultOf } from '../storage/networkfaults.ts';

const REFUSED_CERTIFICATE = 'the server does not accept the certificate of this side, or there is none';

/** What the other side told in an alert has a code of its own. */
const ALERT =
  /ALERT_(CERTIFICATE_REQUIRED|BAD_CERTIFICATE|CERTIFICATE_\w+|UNKNOWN_CA|ACCESS_DENIED|HANDSHAKE_FAILURE)$/;

const WORDS: Readonly<Record<NetworkFault, string>> = {
  ...FAULT_WORDS,
  certificateExpired: 'the certificate of the server has expired',
  certificateNotYetValid: 'the certificate of the server is not valid yet',
  certificateRevoked: 'the certificate of the server was revoked',
  otherHostName: 'the certificate of the server is for another host name',
  certificateNotTrusted: 'the certificate of the server is not trusted here',
};

/** A server that speaks TLS complains about a request without it in records of these types. */
const TLS_ALERT = 0x15;
const TLS_HANDSHAKE = 0x16;

/** `undefined` when the connection broke without saying why, which is worth another try. */
export function causeOfFailure(error: unknown, address: string): GraphkeepError | undefined {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const known = code.startsWith('HPE_') ? causeOfStrangeAnswer(error) : causeOfCode(code);
  if (known === undefined) return undefined;
  // A host with several addresses fails with one error for all, which has no message of its own.
  const detail = error instanceof Error && error.message !== '' ? error.message : code;
  return new GraphkeepError(known[0], `cannot talk to ${address}: ${known[1]} (${detail})`, { cause: error });
}

type Cause = readonly [ErrorCode, string];

function causeOfCode(code: string): Cause | undefined {
  if (code === 'ETIMEDOUT') return ['GK_UNREACHABLE', 'nothing answers'];
  if (ALERT.test(code)) return ['GK_CERTIFICATE', REFUSED_CERTIFICATE];
  const fault = networkFaultOf(code);
  return fault === undefined ? undefined : [FAULT_CODES[fault], WORDS[fault]];
}

/** What came is no HTTP. */
function causeOfStrangeAnswer(error: unknown): Cause {
  const packet = error instanceof Error && 'rawPacket' in error ? error.rawPacket : undefined;
  const first = packet instanceof Uint8Array ? packet[0] : undefined;
  if (first === TLS_ALERT || first === TLS_HANDSHAKE) return ['GK_TLS', FAULT_WORDS.notTheSameTls];
  return ['GK_PROTOCOL', 'what listens there is no graphkeep server'];
}

/**
 * At the first contact: a connection that ends without a word is how Node turns away a certificate, and plain HTTP where
 * TLS is spoken. Later on it is a network that broke, and asked again.
 * @returns the error to be told, the same one when it says more
 */
export function causeOfFirstBreak(error: unknown, address: string, speaksTls: boolean): unknown {
  const cause = error instanceof GraphkeepError ? error.cause : undefined;
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  // With TLS 1.2, OpenSSL has one alert for a missing certificate and for ciphers that do not meet.
  const isRefused =
    cause instanceof Error && code === 'EPROTO' && /alert handshake failure/.test(cause.message);
  if (!isRefused && code !== 'ECONNRESET' && code !== 'EPIPE') return error;
  const why = speaksTls
    ? `${REFUSED_CERTIFICATE}; its log says more`
    : 'it may speak TLS, and this side speaks none';
  const text = isRefused ? 'broke off the handshake' : 'closed the connection without an answer';
  return new GraphkeepError(speaksTls ? 'GK_CERTIFICATE' : 'GK_TLS', `${address} ${text}: ${why}`, { cause });
}

/** Codes that a server which restarts, or a network that comes back, makes go away. */
export function mayPass({ code }: GraphkeepError): boolean {
  return code === 'GK_UNREACHABLE' || code === 'GK_HOST_UNKNOWN' || code === 'GK_CONNECTION_LOST';
}
