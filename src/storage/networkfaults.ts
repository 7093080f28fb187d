/**
 * What Node and OpenSSL mean by the codes of a connection that failed, wherever it leads: to a backup server or to an object
 * store. Each of the two says it in its own words; which code means what is decided here.
 */
import type { ErrorCode } from '../errors.ts';

export type NetworkFault =
  | 'unknownHost'
  | 'nothingListens'
  | 'noWay'
  | 'certificateExpired'
  | 'certificateNotYetValid'
  | 'certificateRevoked'
  | 'otherHostName'
  | 'certificateNotTrusted'
  | 'notTheSameTls';

const FAULTS: readonly (readonly [codes: RegExp, fault: NetworkFault])[] = [
  [/^(ENOTFOUND|EAI_\w+)$/, 'unknownHost'],
  [/^ECONNREFUSED$/, 'nothingListens'],
  [/^(EHOSTUNREACH|ENETUNREACH|EADDRNOTAVAIL|EHOSTDOWN|ENETDOWN)$/, 'noWay'],
  [/^CERT_HAS_EXPIRED$/, 'certificateExpired'],
  [/^CERT_NOT_YET_VALID$/, 'certificateNotYetValid'],
  [/^CERT_REVOKED$/, 'certificateRevoked'],
  [/^ERR_TLS_CERT_ALTNAME_INVALID$/, 'otherHostName'],
  [
    /^(DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_(GET|VERIFY)_\w+|CERT_\w+|INVALID_CA|CRL_\w+)$/,
    'certificateNotTrusted',
  ],
  [/^(ERR_SSL_\w+|EPROTO)$/, 'notTheSameTls'],
];

/** undefined for a code that says nothing of the kind. */
export function networkFaultOf(code: string): NetworkFault | undefined {
  return FAULTS.find(([codes]) => codes.test(code))?.[1];
}

export const FAULT_CODES: Readonly<Record<NetworkFault, ErrorCode>> = {
  unknownHost: 'GK_HOST_UNKNOWN',
  nothingListens: 'GK_UNREACHABLE',
  noWay: 'GK_UNREACHABLE',
  certificateExpired: 'GK_CERTIFICATE',
  certificateNotYetValid: 'GK_CERTIFICATE',
  certificateRevoked: 'GK_CERTIFICATE',
  otherHostName: 'GK_CERTIFICATE',
  certificateNotTrusted: 'GK_CERTIFICATE',
  notTheSameTls: 'GK_TLS',
};

/** In the words that fit both. */
export const FAULT_WORDS = {
  unknownHost: 'the name of the host cannot be resolved',
  nothingListens: 'nothing listens there',
  noWay: 'there is no way to that host',
  notTheSameTls: 'the two sides do not speak the same TLS, or one speaks none',
} as const;
