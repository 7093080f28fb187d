/**
 * Reads the files of a TLS policy and makes of them what `node:tls` takes. What is wrong with a file is said here, by
 * name and at the start; OpenSSL would say it at the first connection, in words that name no file.
 */
import { constants, createPrivateKey, type KeyObject, type X509Certificate } from 'node:crypto';
import tls from 'node:tls';
import { GraphkeepError } from '../errors.ts';
import { TLS_FILE_BYTES_MAX } from '../limits.ts';
import {
  ANY_ACCESS_OF_OTHERS,
  readGuardedFile,
  WRITABLE_BY_GROUP,
  WRITABLE_BY_OTHERS,
} from '../storage/guardedfile.ts';
import { cipherVersion, needsDhParameters, openSslCipherList } from './ciphers.ts';
import { checkRevocationLists, readRevocationLists } from './revocation.ts';
import { TLS_POLICY_PREFIX, type TlsPolicySettings } from './tlspolicy.ts';
import { pemCertificates, readTrusted, type TrustedCertificate } from './trusted.ts';

export type TlsRole = 'server' | 'client';

export interface TlsMaterial {
  readonly secureContext: tls.SecureContextOptions;
  readonly server: { readonly requestCert: boolean; readonly rejectUnauthorized: boolean };
  readonly client: {
    readonly rejectUnauthorized: boolean;
    readonly checkServerIdentity?: (host: string, certificate: tls.PeerCertificate) => Error | undefined;
  };
  /** Of the own certificate; undefined for a client without one. */
  readonly certificateExpires: Date | undefined;
  /** The files and folders that this was read from, to be watched. */
  readonly files: readonly string[];
}

/**
 * A client may have no certificate, for a server that asks for a token instead: then neither key nor certificate may
 * be there, and neither may be named by a setting. A server that asks nobody for a certificate needs no trusted ones.
 * @throws GraphkeepError GK_CONFIG, GK_NOT_FOUND or GK_NO_PERMISSION naming the file and what is wrong with it
 */
export async function loadTlsPolicy(
  settings: TlsPolicySettings,
  role: TlsRole = 'server',
): Promise<TlsMaterial> {
  const own = await readOwnCertificate(settings, role);
  const checksPeers = looksAtPeers(settings, role);
  const trusted = checksPeers ? await readTrusted(settings.trustedDir) : [];
  const lists = checksPeers ? await readRevocationLists(settings) : [];
  checkRevocationLists(lists, trusted, new Date());
  const secureContext = contextOptions(
    settings,
    own,
    trusted,
    lists.map(({ pem }) => pem),
  );
  probe(secureContext, settings);
  const identity =
    settings.verifyHostname && !settings.trustAll ? {} : { checkServerIdentity: () => undefined };
  return {
    secureContext,
    server: {
      requestCert: settings.clientAuth !== 'NONE',
      rejectUnauthorized: settings.clientAuth === 'REQUIRE' && !settings.trustAll,
    },
    client: { rejectUnauthorized: !settings.trustAll, ...identity },
    certificateExpires: own?.expires,
    files: tlsPolicyFiles(settings, role),
  };
}

const looksAtPeers = (settings: TlsPolicySettings, role: TlsRole): boolean =>
  !settings.trustAll && (role === 'client' || settings.clientAuth !== 'NONE');

/** The files and folders that `loadTlsPolicy` reads, whether they exist or not. */
export function tlsPolicyFiles(settings: TlsPolicySettings, role: TlsRole): readonly string[] {
  const own = [settings.privateKey, settings.publicCertificate];
  return looksAtPeers(settings, role) ? [...own, settings.trustedDir, settings.revokedDir] : own;
}

interface OwnCertificate {
  readonly key: string;
  /** With the chain that came in the same file. */
  readonly certificate: string;
  readonly expires: Date;
}

async function readOwnCertificate(
  settings: TlsPolicySettings,
  role: TlsRole,
): Promise<OwnCertificate | undefined> {
  const isNamed = settings.given.has('private_key') || settings.given.has('public_certificate');
  const mayBeMissing = role === 'client' && !isNamed;
  const certificate = await readOrMissing(readCertificate(settings.publicCertificate), mayBeMissing);
  const key = await readOrMissing(readPrivateKey(settings), mayBeMissing);
  if (certificate === undefined && key === undefined) return undefined;
  if (certificate === undefined)
    throw halfMissing('certificate', settings.publicCertificate, settings.privateKey);
  if (key === undefined) throw halfMissing('private key', settings.privateKey, settings.publicCertificate);
  const [own] = certificate.certificates;
  checkValidity(own, settings.publicCertificate);
  if (!own.checkPrivateKey(key)) {
    throw new GraphkeepError(
      'GK_CONFIG',
      `the private key ${settings.privateKey} does not belong to the certificate ${settings.publicCertificate}`,
      { hint: 'use the pair that was made together; the own certificate comes first in its file' },
    );
  }
  return {
    key: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    certificate: certificate.pem,
    expires: own.validToDate,
  };
}

async function readOrMissing<Value>(
  reading: Promise<Value>,
  mayBeMissing: boolean,
): Promise<Value | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (mayBeMissing && error instanceof GraphkeepError && error.code === 'GK_NOT_FOUND') return undefined;
    throw error;
  }
}

function halfMissing(what: string, missing: string, present: string): GraphkeepError {
  return new GraphkeepError('GK_NOT_FOUND', `there is ${present}, but the ${what} is missing: ${missing}`);
}

async function readCertificate(
  file: string,
): Promise<{ pem: string; certificates: readonly [X509Certificate, ...X509Certificate[]] }> {
  const content = await readGuardedFile(file, {
    what: 'the certificate',
    bytesMax: TLS_FILE_BYTES_MAX,
    forbiddenMode: WRITABLE_BY_OTHERS,
  });
  const [own, ...chain] = pemCertificates(content, file);
  if (own === undefined) {
    throw new GraphkeepError('GK_CONFIG', `${file} holds no certificate in PEM`, {
      hint: 'convert it: openssl x509 -inform der -in <file> -out <file>',
    });
  }
  return { pem: [own, ...chain].map(String).join(''), certificates: [own, ...chain] };
}

async function readPrivateKey(settings: TlsPolicySettings): Promise<KeyObject> {
  const file = settings.privateKey;
  const pem = await readGuardedFile(file, {
    what: 'the private key',
    bytesMax: TLS_FILE_BYTES_MAX,
    // The group may read: that is how Kubernetes hands a secret to a process that is not root.
    forbiddenMode: ANY_ACCESS_OF_OTHERS | WRITABLE_BY_GROUP,
  });
  const password = settings.privateKeyPassword;
  try {
    return createPrivateKey({
      key: pem,
      format: 'pem',
      ...(password === undefined ? {} : { passphrase: password }),
    });
  } catch (error) {
    throw keyError(error, file, pem, password !== undefined);
  }
}

function keyError(error: unknown, file: string, pem: Buffer, hasPassword: boolean): GraphkeepError {
  const key = `${TLS_POLICY_PREFIX}private_key_password`;
  // Node's own code for it differs between the forms of a key, so the text is asked.
  const isEncrypted = pem.includes('ENCRYPTED');
  if (isEncrypted && !hasPassword) {
    return new GraphkeepError(
      'GK_CONFIG',
      `the private key ${file} is encrypted and there is no password for it`,
      {
        hint: `set ${key} in graphkeep.conf or its form in the environment`,
        cause: error,
      },
    );
  }
  if (isEncrypted) {
    return new GraphkeepError(
      'GK_CONFIG',
      `the private key ${file} cannot be decrypted with the given password`,
      {
        hint: `correct ${key}`,
        cause: error,
      },
    );
  }
  return new GraphkeepError('GK_CONFIG', `${file} holds no private key in PEM (PKCS#8, PKCS#1 or SEC 1)`, {
    cause: error,
  });
}

function checkValidity(certificate: X509Certificate, file: string): void {
  const now = Date.now();
  if (certificate.validToDate.getTime() < now) {
    throw new GraphkeepError('GK_CONFIG', `the certificate ${file} has expired (${certificate.validTo})`, {
      hint: 'replace it and its key; a running server takes the new pair without a restart',
    });
  }
  if (certificate.validFromDate.getTime() > now) {
    throw new GraphkeepError(
      'GK_CONFIG',
      `the certificate ${file} is not valid before ${certificate.validFrom}`,
      {
        hint: 'check the clock of this machine',
      },
    );
  }
}

function contextOptions(
  settings: TlsPolicySettings,
  own: OwnCertificate | undefined,
  trusted: readonly TrustedCertificate[],
  lists: readonly string[],
): tls.SecureContextOptions {
  const { ciphers } = settings;
  // As in Java, a version of which no suite is allowed is not spoken; OpenSSL would speak TLS 1.3 with its own suites.
  const versions = settings.tlsVersions.filter(
    (version) => ciphers === undefined || ciphers.some((name) => cipherVersion(name) === version),
  );
  return {
    ...(own === undefined ? {} : { key: own.key, cert: own.certificate }),
    // An empty list trusts nobody; without one, Node would trust all public authorities.
    ca: trusted.map(({ certificate }) => certificate.toString()),
    // As in Java: what lies in the folder is trusted as it is, also a leaf or an intermediate authority.
    allowPartialTrustChain: true,
    ...(lists.length === 0 ? {} : { crl: [...lists] }),
    minVersion: versions[0] ?? 'TLSv1.2',
    maxVersion: versions.at(-1) ?? 'TLSv1.3',
    ...(ciphers === undefined ? {} : { ciphers: openSslCipherList(ciphers), honorCipherOrder: true }),
    ...(ciphers !== undefined && needsDhParameters(ciphers) ? { dhparam: 'auto' } : {}),
    // A resumed session would skip the check of the certificate, which may have been revoked or expired since.
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

/** What OpenSSL would refuse, a key that is too short for example, is said now and not at the first connection. */
function probe(options: tls.SecureContextOptions, settings: TlsPolicySettings): void {
  try {
    tls.createSecureContext(options);
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    throw new GraphkeepError(
      'GK_CONFIG',
      `the TLS files of ${settings.baseDirectory} cannot be used: ${detail}`,
      { hint: 'check the key, the certificate and the lists with openssl', cause: error },
    );
  }
}
