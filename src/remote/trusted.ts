/** The certificates that a TLS policy trusts: every file of `trusted_dir`, PEM with one or many in it, or DER. */
import { X509Certificate } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { GraphkeepError, isErrno, wrapSystemError } from '../errors.ts';
import { TLS_FILE_BYTES_MAX, TLS_FOLDER_FILES_MAX } from '../limits.ts';
import { readGuardedFile, refuseOpenMode, WRITABLE_BY_OTHERS } from '../storage/guardedfile.ts';

export interface TrustedCertificate {
  readonly file: string;
  readonly certificate: X509Certificate;
}

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g;

/** @throws GraphkeepError when there is none, or a file that holds none: a typo must not make the list shorter. */
export async function readTrusted(folder: string): Promise<readonly TrustedCertificate[]> {
  const trusted: TrustedCertificate[] = [];
  for (const file of await filesOfFolder(folder, 'the folder of trusted certificates (trusted_dir)')) {
    const content = await readGuardedFile(file, {
      what: 'the trusted certificate',
      bytesMax: TLS_FILE_BYTES_MAX,
      forbiddenMode: WRITABLE_BY_OTHERS,
    });
    const certificates = pemCertificates(content, file);
    if (certificates.length === 0) certificates.push(derCertificate(content, file));
    trusted.push(...certificates.map((certificate) => ({ file, certificate })));
  }
  if (trusted.length === 0) {
    throw new GraphkeepError('GK_CONFIG', `there is no certificate in ${folder}`, {
      hint: 'put the certificate of the authority that signs the other side there; nobody would be let in without',
    });
  }
  const now = Date.now();
  if (trusted.every(({ certificate }) => certificate.validToDate.getTime() < now)) {
    throw new GraphkeepError('GK_CONFIG', `every certificate in ${folder} has expired`);
  }
  return trusted;
}

/** What is not PEM is not looked at; what claims to be a certificate and is none is an error. */
export function pemCertificates(content: Buffer, file: string): X509Certificate[] {
  return (content.toString('latin1').match(PEM_CERTIFICATE) ?? []).map((pem) => {
    try {
      return new X509Certificate(pem);
    } catch (error) {
      throw new GraphkeepError('GK_CONFIG', `${file} holds a damaged certificate`, { cause: error });
    }
  });
}

function derCertificate(content: Buffer, file: string): X509Certificate {
  try {
    return new X509Certificate(content);
  } catch (error) {
    throw new GraphkeepError('GK_CONFIG', `${file} is not a certificate`, {
      hint: 'keep nothing but certificates in trusted_dir',
      cause: error,
    });
  }
}

/**
 * Plain files in a folder, sorted. Names with a dot in front are left out: Kubernetes keeps its own there, and the
 * visible names are links to them.
 */
export async function filesOfFolder(folder: string, what: string): Promise<string[]> {
  try {
    refuseOpenMode((await stat(folder)).mode, WRITABLE_BY_OTHERS, `${what} ${folder}`, folder);
    const names = (await readdir(folder)).filter((name) => !name.startsWith('.')).sort();
    if (names.length > TLS_FOLDER_FILES_MAX) {
      throw new GraphkeepError('GK_CONFIG', `${folder} holds more than ${TLS_FOLDER_FILES_MAX} files`);
    }
    const paths = names.map((name) => path.join(folder, name));
    const statuses = await Promise.all(paths.map((file) => stat(file)));
    return paths.filter((_file, index) => !statuses[index]!.isDirectory());
  } catch (error) {
    if (isErrno(error, 'ENOENT')) {
      throw new GraphkeepError('GK_NOT_FOUND', `${what} does not exist: ${folder}`, { cause: error });
    }
    throw wrapSystemError(error, `read ${what} ${folder}`);
  }
}
