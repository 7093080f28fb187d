/**
 * URLs of object stores and keys of objects. A key becomes part of the path of a request, so what a URL would take for a
 * step to another folder is refused here: it would leave the store's own prefix.
 */
import { GraphkeepError } from '../../errors.ts';
import { OBJECT_KEY_BYTES_MAX } from '../../limits.ts';

export type StoreScheme = 's3' | 'gs' | 'azb';

export interface StoreAddress {
  readonly scheme: StoreScheme;
  /** Of S3 only, where one is written: of the files of AWS. It says which store this is, and who we are. */
  readonly profile?: string;
  /** Of Azure only; as it was written, which may be its whole host name. */
  readonly account: string;
  /** Azure calls it a container. */
  readonly bucket: string;
  /** Empty, or ends with a slash: `neo4j` must not reach into `neo4j-eu`. */
  readonly prefix: string;
  /** With the profile: two profiles of one bucket are two places. */
  readonly url: string;
}

const FORMS: Readonly<Record<StoreScheme, string>> = {
  s3: 's3://<bucket>/<folder> or s3://<profile>@<bucket>/<folder>',
  gs: 'gs://<bucket>/<folder>',
  azb: 'azb://<account>/<container>/<folder>',
};
const BUCKET = /^[a-z0-9][a-z0-9._-]{1,221}$/i;
/** What a file of profiles can have as a name, and no colon: what stands behind one is a password. */
const PROFILE = /^(?!\s)[^\p{Cc}\p{Cs}:[\]]{1,128}(?<!\s)$/u;
const ACCOUNT = /^[a-z0-9][a-z0-9-]{1,62}(\.blob(\.[a-z0-9.-]+)?)?$/i;

export function isStoreUrl(text: string): boolean {
  return schemeOf(text) !== undefined;
}

function schemeOf(text: string): StoreScheme | undefined {
  const scheme = /^([a-z0-9]+):\/\//i.exec(text)?.[1]?.toLowerCase();
  return scheme === 's3' || scheme === 'gs' || scheme === 'azb' ? scheme : undefined;
}

/** @throws GK_USAGE; the message repeats nothing that could be a secret */
export function parseStoreUrl(text: string): StoreAddress {
  const scheme = schemeOf(text);
  if (scheme === undefined) {
    throw new GraphkeepError('GK_USAGE', 'an object store is named by s3://, gs:// or azb://', {
      hint: `write one of ${Object.values(FORMS).join(', ')}`,
    });
  }
  const [authority = '', ...steps] = text.slice(scheme.length + 3).split('/');
  // Somebody pastes the URL of a portal, with a token behind the question mark or a password before the @.
  if (/[?#]/.test(text) || steps.some((step) => step.includes('@'))) {
    throw new GraphkeepError('GK_USAGE', `the ${scheme}:// URL has a ?, # or @ in it`, {
      hint: `write ${FORMS[scheme]}; credentials come from the environment or from a file`,
    });
  }
  const { profile, host } = splitAuthority(scheme, authority);
  const account = scheme === 'azb' ? host : '';
  const bucket = scheme === 'azb' ? (steps.shift() ?? '') : host;
  if (!BUCKET.test(bucket) || (scheme === 'azb' && !ACCOUNT.test(account))) {
    throw new GraphkeepError('GK_USAGE', `${text} does not name a ${bucketWord(scheme)}`, {
      hint: `write ${FORMS[scheme]}`,
    });
  }
  const folders = steps.filter((step) => step !== '');
  const prefix = folders.length === 0 ? '' : `${folders.join('/')}/`;
  if (prefix !== '') checkKey(prefix.slice(0, -1));
  const place = scheme === 'azb' ? `${account}/${bucket}` : bucket;
  if (profile === undefined)
    return { scheme, account, bucket, prefix, url: `${scheme}://${place}/${prefix}` };
  const url = `${scheme}://${encodeURIComponent(profile)}@${place}/${prefix}`;
  return { scheme, profile, account, bucket, prefix, url };
}

/** What stands before the first slash. @throws GK_USAGE; repeats nothing of it */
function splitAuthority(scheme: StoreScheme, authority: string): { profile?: string; host: string } {
  if (authority.includes(':')) {
    throw new GraphkeepError('GK_USAGE', `the ${scheme}:// URL has a password or a port in it`, {
      hint: `write ${FORMS[scheme]}; keys and endpoints come from the environment, from a profile or from options`,
    });
  }
  const [userInfo, host, ...more] = authority.split('@') as [string, ...string[]];
  if (host === undefined) return { host: userInfo };
  if (scheme !== 's3') {
    throw new GraphkeepError('GK_USAGE', `the ${scheme}:// URL has an @ in it`, {
      hint: `write ${FORMS[scheme]}; only s3:// takes a profile before an @`,
    });
  }
  const profile = decoded(userInfo);
  if (more.length === 0 && PROFILE.test(profile)) return { profile, host };
  throw new GraphkeepError('GK_USAGE', 'what stands before the @ of the s3:// URL is no name of a profile', {
    hint: 'write s3://<profile>@<bucket>/<folder>, with %40 for an @ and %2F for a / in the name of the profile',
  });
}

/** Empty for what is no text. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return '';
  }
}

export function bucketWord(scheme: StoreScheme): string {
  return scheme === 'azb' ? 'container' : 'bucket';
}

/** The whole name of an object in its bucket. @throws GK_USAGE */
export function fullKey(address: StoreAddress, key: string): string {
  checkKey(key);
  const whole = `${address.prefix}${key}`;
  if (Buffer.byteLength(whole) > OBJECT_KEY_BYTES_MAX) {
    throw new GraphkeepError('GK_USAGE', `the key ${key} is longer than ${OBJECT_KEY_BYTES_MAX} bytes`, {
      hint: 'choose a shorter folder or a shorter name',
    });
  }
  return whole;
}

/** Bytes that no XML can carry, and lone halves of a surrogate pair, which no UTF-8 can. */
const UNSPEAKABLE = /[\p{Cc}\p{Cs}\ufffe\uffff]/u;

function checkKey(key: string): void {
  const steps = key.split('/');
  const isClean = steps.every((step) => step !== '' && step !== '.' && step !== '..');
  if (isClean && !UNSPEAKABLE.test(key) && !key.includes('\\')) return;
  throw new GraphkeepError('GK_USAGE', `${JSON.stringify(key)} cannot be the key of an object`, {
    hint: 'leave out empty steps, . and .. between slashes, backslashes and control characters',
  });
}
