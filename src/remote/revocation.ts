/**
 * The revocation lists of a TLS policy. OpenSSL does the checking, in its strictest form: once there is any list, every
 * authority of a chain must have a current one, otherwise the certificate is refused; so a list that expires or that
 * somebody deletes closes the door instead of opening it. What that would refuse for certain is said when the files
 * are read: an authority in `trusted_dir` without a list of its own, and a list that has expired.
 */
import { GraphkeepError } from '../errors.ts';
import { FormatError } from '../formats/formaterror.ts';
import {
  parseCertificateNames,
  parseRevocationList,
  type RevocationList,
} from '../formats/revocationlist.ts';
import { REVOCATION_FILE_BYTES_MAX } from '../limits.ts';
import { readGuardedFile, WRITABLE_BY_OTHERS } from '../storage/guardedfile.ts';
import type { TlsPolicySettings } from './tlspolicy.ts';
import { filesOfFolder, type TrustedCertificate } from './trusted.ts';

export interface ListFile {
  readonly file: string;
  /** What Node takes; lists in DER are converted. */
  readonly pem: string;
  readonly list: RevocationList;
}

const PEM_LIST = /-----BEGIN X509 CRL-----([A-Za-z0-9+/=\s]+)-----END X509 CRL-----/g;
const PEM_COLUMNS = /.{1,64}/g;

/** All of `revoked_dir`; a folder that is the default and does not exist holds none. */
export async function readRevocationLists(settings: TlsPolicySettings): Promise<readonly ListFile[]> {
  const found: ListFile[] = [];
  for (const file of await listFiles(settings)) {
    const content = await readGuardedFile(file, {
      what: 'the revocation list',
      bytesMax: REVOCATION_FILE_BYTES_MAX,
      forbiddenMode: WRITABLE_BY_OTHERS,
    });
    found.push(...listsOf(content, file));
  }
  return found;
}

async function listFiles(settings: TlsPolicySettings): Promise<string[]> {
  try {
    return await filesOfFolder(settings.revokedDir, 'the folder of revocation lists (revoked_dir)');
  } catch (error) {
    const isMissing = error instanceof GraphkeepError && error.code === 'GK_NOT_FOUND';
    if (isMissing && !settings.given.has('revoked_dir')) return [];
    throw error;
  }
}

function listsOf(content: Buffer, file: string): ListFile[] {
  const blocks = [...content.toString('latin1').matchAll(PEM_LIST)];
  const encoded: Buffer[] = blocks.map(([, base64 = '']) => Buffer.from(base64, 'base64'));
  if (encoded.length === 0) encoded.push(content);
  return encoded.map((der) => {
    try {
      return { file, pem: toPem(der), list: parseRevocationList(der) };
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      throw new GraphkeepError('GK_CONFIG', `${file} is not a revocation list: ${error.message}`, {
        hint: 'keep nothing but revocation lists (CRL, in PEM or DER) in revoked_dir',
        cause: error,
      });
    }
  });
}

function toPem(der: Buffer): string {
  const lines = der.toString('base64').match(PEM_COLUMNS) ?? [];
  return ['-----BEGIN X509 CRL-----', ...lines, '-----END X509 CRL-----', ''].join('\n');
}

/**
 * With lists, OpenSSL can only check chains that end at an authority that signed itself. A leaf or an intermediate
 * authority in `trusted_dir` would be refused at every connection, so it is refused here, with the reason.
 */
export function checkRevocationLists(
  lists: readonly ListFile[],
  trusted: readonly TrustedCertificate[],
  now: Date,
): void {
  if (lists.length === 0) return;
  for (const { file, certificate } of trusted) {
    const { subject, issuer } = parseCertificateNames(certificate.raw);
    if (!certificate.ca || !subject.equals(issuer)) {
      throw new GraphkeepError(
        'GK_CONFIG',
        `${file} is not a root authority, and such a certificate cannot be trusted while revoked_dir holds lists`,
        {
          hint: 'trust the root authority instead, or empty revoked_dir and revoke by deleting from trusted_dir',
        },
      );
    }
    checkListOf(subject, file, lists, now);
  }
}

function checkListOf(authority: Buffer, file: string, lists: readonly ListFile[], now: Date): void {
  const own = lists.filter(({ list }) => list.issuer.equals(authority));
  if (own.length === 0) {
    throw new GraphkeepError('GK_CONFIG', `revoked_dir holds lists, but none of the authority ${file}`, {
      hint: 'add its list, an empty one if need be: without it nobody with its certificates would be let in',
    });
  }
  if (
    own.some(({ list }) => list.thisUpdate <= now && list.nextUpdate !== undefined && list.nextUpdate > now)
  )
    return;
  const newest = own.at(-1)!;
  const until = newest.list.nextUpdate?.toISOString();
  throw new GraphkeepError(
    'GK_CONFIG',
    `the revocation list ${newest.file} is not current (${until === undefined ? 'it has no end' : `valid until ${until}`})`,
    { hint: 'get a new list from the authority; nobody with its certificates would be let in' },
  );
}
