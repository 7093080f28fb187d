/**
 * The TLS policy `dbms.ssl.policy.backup.*` of the backup server and its clients: names, defaults and meaning are
 * Neo4j's. It owns the reading of the settings; `tlsmaterial.ts` reads the files that they name.
 */
import path from 'node:path';
import { GraphkeepError } from '../errors.ts';
import { nearest } from '../neo4j/nearest.ts';
import { parseBooleanWord } from '../neo4j/values.ts';
import { cipherVersion, refusedCipherReason, type TlsVersion } from './ciphers.ts';

export const TLS_POLICY_PREFIX = 'dbms.ssl.policy.backup.';

export type ClientAuth = 'NONE' | 'OPTIONAL' | 'REQUIRE';

export interface TlsPolicySettings {
  readonly enabled: boolean;
  readonly baseDirectory: string;
  readonly privateKey: string;
  readonly privateKeyPassword?: string;
  readonly publicCertificate: string;
  readonly trustedDir: string;
  readonly revokedDir: string;
  readonly verifyHostname: boolean;
  /** Names of IANA's registry. */
  readonly ciphers?: readonly string[];
  readonly tlsVersions: readonly TlsVersion[];
  readonly clientAuth: ClientAuth;
  readonly trustAll: boolean;
  /** The suffixes that somebody has set: what was named must exist, what is a default may be missing. */
  readonly given: ReadonlySet<string>;
}

/** Every suffix that is known. */
export const TLS_POLICY_SUFFIXES = [
  'enabled',
  'base_directory',
  'private_key',
  'private_key_password',
  'public_certificate',
  'trusted_dir',
  'revoked_dir',
  'verify_hostname',
  'ciphers',
  'tls_versions',
  'client_auth',
  'trust_all',
] as const;

type Suffix = (typeof TLS_POLICY_SUFFIXES)[number];

const TLS_VERSIONS: readonly TlsVersion[] = ['TLSv1.2', 'TLSv1.3'];
const CLIENT_AUTH: readonly ClientAuth[] = ['NONE', 'OPTIONAL', 'REQUIRE'];

/**
 * Of all given settings, those of the policy. Unlike Neo4j, which ignores an unknown suffix, this refuses it: with
 * `client_atuh=REQUIRE` somebody believes that he is protected, and a typo in a security setting must not pass.
 * @param baseFolder what a relative `base_directory` is relative to: the home folder of Neo4j
 * @throws GraphkeepError GK_CONFIG naming the key
 */
export function tlsPolicySettings(
  values: ReadonlyMap<string, string>,
  baseFolder: string,
): TlsPolicySettings {
  const given = policyValues(values);
  const baseDirectory = path.resolve(baseFolder, given.get('base_directory') ?? 'certificates/backup');
  const within = (suffix: Suffix, name: string): string =>
    path.resolve(baseDirectory, given.get(suffix) ?? name);
  const password = given.get('private_key_password');
  const tlsVersions = versions(given);
  const ciphers = cipherNames(given, tlsVersions);
  return {
    enabled: flag(given, 'enabled', false),
    baseDirectory,
    privateKey: within('private_key', 'private.key'),
    ...(password === undefined ? {} : { privateKeyPassword: password }),
    publicCertificate: within('public_certificate', 'public.crt'),
    trustedDir: within('trusted_dir', 'trusted'),
    revokedDir: within('revoked_dir', 'revoked'),
    verifyHostname: flag(given, 'verify_hostname', true),
    ...(ciphers === undefined ? {} : { ciphers }),
    tlsVersions,
    clientAuth: clientAuth(given),
    trustAll: flag(given, 'trust_all', false),
    given: new Set(given.keys()),
  };
}

function policyValues(values: ReadonlyMap<string, string>): Map<string, string> {
  const found = new Map<string, string>();
  for (const [key, value] of values) {
    if (!key.startsWith(TLS_POLICY_PREFIX)) continue;
    const suffix = key.slice(TLS_POLICY_PREFIX.length);
    if (!TLS_POLICY_SUFFIXES.some((known) => known === suffix)) {
      const close = nearest(suffix, TLS_POLICY_SUFFIXES);
      throw new GraphkeepError('GK_CONFIG', `unknown setting ${key}`, {
        hint:
          close === undefined ? 'see docs/server-settings.md' : `did you mean ${TLS_POLICY_PREFIX}${close}?`,
      });
    }
    // An empty value is the default, as in Neo4j. A password is taken as it is, blanks included.
    if (value.trim() !== '') found.set(suffix, suffix === 'private_key_password' ? value : value.trim());
  }
  return found;
}

function flag(given: ReadonlyMap<string, string>, suffix: Suffix, fallback: boolean): boolean {
  const text = given.get(suffix);
  if (text === undefined) return fallback;
  const value = parseBooleanWord(text);
  if (value === undefined) throw badValue(suffix, text, 'it takes true or false');
  return value;
}

function clientAuth(given: ReadonlyMap<string, string>): ClientAuth {
  const text = given.get('client_auth');
  if (text === undefined) return 'REQUIRE';
  const value = CLIENT_AUTH.find((known) => known === text.toUpperCase());
  if (value === undefined) throw badValue('client_auth', text, `it takes ${CLIENT_AUTH.join(', ')}`);
  return value;
}

function list(text: string): string[] {
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

function versions(given: ReadonlyMap<string, string>): readonly TlsVersion[] {
  const text = given.get('tls_versions');
  if (text === undefined) return TLS_VERSIONS;
  const wanted = list(text).map((name) => {
    const version = TLS_VERSIONS.find((known) => known.toLowerCase() === name.toLowerCase());
    if (version !== undefined) return version;
    if (/^(ssl|tlsv1(\.[01])?$)/i.test(name)) {
      throw badValue('tls_versions', text, `${name} is broken and no longer spoken (RFC 8996)`);
    }
    throw badValue('tls_versions', text, `it takes ${TLS_VERSIONS.join(' and ')}`);
  });
  if (wanted.length === 0) throw badValue('tls_versions', text, `it takes ${TLS_VERSIONS.join(' and ')}`);
  return TLS_VERSIONS.filter((version) => wanted.includes(version));
}

function cipherNames(
  given: ReadonlyMap<string, string>,
  tlsVersions: readonly TlsVersion[],
): readonly string[] | undefined {
  const text = given.get('ciphers');
  if (text === undefined) return undefined;
  const names = [...new Set(list(text))];
  const unknown = names.find((name) => cipherVersion(name) === undefined);
  if (unknown !== undefined) throw badValue('ciphers', unknown, refusedCipherReason(unknown));
  if (!names.some((name) => tlsVersions.some((version) => version === cipherVersion(name)))) {
    throw badValue('ciphers', text, `none of them belongs to the versions ${tlsVersions.join(', ')}`);
  }
  return names;
}

function badValue(suffix: Suffix, text: string, reason: string): GraphkeepError {
  return new GraphkeepError('GK_CONFIG', `${TLS_POLICY_PREFIX}${suffix}=${text} is not possible: ${reason}`);
}
