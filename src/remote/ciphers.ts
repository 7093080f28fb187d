/**
 * Names of cipher suites. Neo4j's `ciphers` setting takes the names of Java, which are those of IANA's registry; Node's
 * OpenSSL has its own for TLS 1.2. Here are the suites that both know and that are worth allowing: with forward
 * secrecy, without broken parts. What is not in the table is refused, since a suite that is silently left out changes
 * what the setting means.
 */

/** IANA's name → OpenSSL's. Of TLS 1.3 both names are the same. */
const TLS_12_SUITES: ReadonlyMap<string, string> = new Map([
  ['TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384', 'ECDHE-ECDSA-AES256-GCM-SHA384'],
  ['TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256', 'ECDHE-ECDSA-AES128-GCM-SHA256'],
  ['TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256', 'ECDHE-ECDSA-CHACHA20-POLY1305'],
  ['TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384', 'ECDHE-RSA-AES256-GCM-SHA384'],
  ['TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256', 'ECDHE-RSA-AES128-GCM-SHA256'],
  ['TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256', 'ECDHE-RSA-CHACHA20-POLY1305'],
  ['TLS_DHE_RSA_WITH_AES_256_GCM_SHA384', 'DHE-RSA-AES256-GCM-SHA384'],
  ['TLS_DHE_RSA_WITH_AES_128_GCM_SHA256', 'DHE-RSA-AES128-GCM-SHA256'],
  ['TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256', 'DHE-RSA-CHACHA20-POLY1305'],
  ['TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384', 'ECDHE-ECDSA-AES256-SHA384'],
  ['TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256', 'ECDHE-ECDSA-AES128-SHA256'],
  ['TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384', 'ECDHE-RSA-AES256-SHA384'],
  ['TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256', 'ECDHE-RSA-AES128-SHA256'],
]);

const TLS_13_SUITES: ReadonlySet<string> = new Set([
  'TLS_AES_256_GCM_SHA384',
  'TLS_AES_128_GCM_SHA256',
  'TLS_CHACHA20_POLY1305_SHA256',
]);

export type TlsVersion = 'TLSv1.2' | 'TLSv1.3';

/** The version that a suite belongs to; undefined when it is not allowed or not known. */
export function cipherVersion(name: string): TlsVersion | undefined {
  if (TLS_13_SUITES.has(name)) return 'TLSv1.3';
  return TLS_12_SUITES.has(name) ? 'TLSv1.2' : undefined;
}

/** Why a suite is not in the table, for those that somebody may really have in a configuration. */
export function refusedCipherReason(name: string): string {
  if (/NULL|anon|EXPORT|RC4|DES|MD5/i.test(name)) return 'it is broken or does not encrypt';
  if (/^TLS_(RSA|DH|ECDH)_WITH_|^TLS_ECDH_/i.test(name)) return 'it has no forward secrecy';
  if (/_CBC_SHA$/i.test(name)) return 'it authenticates with SHA-1';
  if (name.includes('-')) return "write the name of IANA's registry, TLS_…_WITH_…, as in Neo4j";
  return 'it is not known';
}

/** For `ciphers` of Node: the names of both versions, joined. The names must have passed `cipherVersion`. */
export function openSslCipherList(names: readonly string[]): string {
  return names.map((name) => TLS_12_SUITES.get(name) ?? name).join(':');
}

/** Suites with ephemeral Diffie-Hellman over plain fields need parameters, which OpenSSL then chooses itself. */
export function needsDhParameters(names: readonly string[]): boolean {
  return names.some((name) => name.startsWith('TLS_DHE_'));
}
