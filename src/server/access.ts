/**
 * Who may read which database. The access file has one line for each principal:
 *
 *   nightly   token:sha256:<64 hexadecimal digits>   neo4j,system
 *   cluster   certificate:backup.example.com         *             metadata,metrics
 *
 * Name, proof, patterns of databases, and what else is allowed; without the last one, `metadata` (users and roles of a
 * database, which a backup includes). The file holds no token but its digest: who reads it cannot use it.
 */
import { createHash, randomBytes, timingSafeEqual, type X509Certificate } from 'node:crypto';
import { GraphkeepError } from '../errors.ts';
import { ACCESS_FILE_BYTES_MAX, ACCESS_PRINCIPALS_MAX, TOKEN_CHARACTERS_MAX } from '../limits.ts';
import { databaseMatcher } from '../neo4j/glob.ts';
import { ANY_ACCESS_OF_OTHERS, readGuardedFile, WRITABLE_BY_GROUP } from '../storage/guardedfile.ts';
import { certificateNames } from './certificatenames.ts';

/** What is no database: users and roles, the configuration of Neo4j, the figures of `/metrics`. */
export const PERMISSIONS = ['metadata', 'configuration', 'metrics'] as const;
export type Permission = (typeof PERMISSIONS)[number];
const DEFAULT_PERMISSIONS: readonly Permission[] = ['metadata'];

export interface Principal {
  readonly name: string;
  /** How it proved who it is; `nothing` where nobody has to. */
  readonly proof: 'token' | 'certificate' | 'nothing';
  mayRead(database: string): boolean;
  may(permission: Permission): boolean;
}

export interface Credentials {
  /** The header `Authorization` as it came. */
  readonly authorization?: string | undefined;
  /** Of the connection, and only if it was verified: see `peerOf`. */
  readonly certificate?: X509Certificate | undefined;
}

interface Entry {
  readonly principal: Principal;
  readonly tokenDigest?: Buffer;
  /** In lower case. */
  readonly certificateName?: string;
}

const DIGEST = 'sha256';

export class AccessList {
  readonly #entries: readonly Entry[];
  /** Who may read without being named; undefined when there is an access file. */
  readonly #anybody: ((credentials: Credentials) => Principal | undefined) | undefined;

  private constructor(
    entries: readonly Entry[],
    anybody?: (credentials: Credentials) => Principal | undefined,
  ) {
    this.#entries = entries;
    this.#anybody = anybody;
  }

  /** @throws GraphkeepError GK_CONFIG naming file and line */
  static parse(text: string, file: string): AccessList {
    const entries: Entry[] = [];
    for (const [index, line] of text.split(/\r\n|\n/).entries()) {
      const words = line
        .replace(/(^|\s)#.*$/, '')
        .split(/\s+/)
        .filter((word) => word !== '');
      if (words.length === 0) continue;
      const where = `${file}:${index + 1}`;
      const entry = parseLine(words, where);
      refuseDoubled(entry, entries, where);
      entries.push(entry);
      if (entries.length > ACCESS_PRINCIPALS_MAX) {
        throw new GraphkeepError('GK_CONFIG', `${file} names more than ${ACCESS_PRINCIPALS_MAX} principals`);
      }
    }
    if (entries.length === 0) {
      throw new GraphkeepError('GK_CONFIG', `${file} names nobody, so nobody would be let in`, {
        hint: 'add a line: <name> token:sha256:<digest> <databases>',
      });
    }
    return new AccessList(entries);
  }

  /** Mode 0640 at most: who could write it could let himself in. */
  static async load(file: string): Promise<AccessList> {
    const content = await readGuardedFile(file, {
      what: 'the access file',
      bytesMax: ACCESS_FILE_BYTES_MAX,
      forbiddenMode: ANY_ACCESS_OF_OTHERS | WRITABLE_BY_GROUP,
    });
    return AccessList.parse(content.toString('utf8'), file);
  }

  /**
   * Without an access file, as with Neo4j's own backup server: whoever has a certificate that was verified reads
   * everything, and where none is required, anybody. `refuseUnsafe` keeps the latter to loopback.
   */
  static withoutFile(requiresCertificate: boolean): AccessList {
    return new AccessList([], ({ certificate }) => {
      if (certificate !== undefined) {
        return allowedAll(certificateNames(certificate)[0] ?? 'certificate', 'certificate');
      }
      return requiresCertificate ? undefined : allowedAll('anybody', 'nothing');
    });
  }

  get hasTokens(): boolean {
    return this.#entries.some(({ tokenDigest }) => tokenDigest !== undefined);
  }

  get hasCertificates(): boolean {
    return this.#entries.some(({ certificateName }) => certificateName !== undefined);
  }

  /** Undefined is "nobody we know". Whoever sends a token is judged by it alone, whatever his certificate says. */
  authenticate(credentials: Credentials): Principal | undefined {
    if (this.#anybody !== undefined) return this.#anybody(credentials);
    const { authorization, certificate } = credentials;
    if (authorization !== undefined) return this.#byToken(authorization);
    return certificate === undefined ? undefined : this.#byCertificate(certificate);
  }

  /** Every digest is compared, in constant time and to the end, so that the time tells neither digits nor places. */
  #byToken(authorization: string): Principal | undefined {
    const token = bearerToken(authorization);
    const digest = createHash(DIGEST)
      .update(token ?? '')
      .digest();
    let found: Principal | undefined;
    for (const { tokenDigest, principal } of this.#entries) {
      if (tokenDigest === undefined) continue;
      const isEqual = timingSafeEqual(tokenDigest, digest);
      found = isEqual ? principal : found;
    }
    return token === undefined ? undefined : found;
  }

  #byCertificate(certificate: X509Certificate): Principal | undefined {
    const names = certificateNames(certificate).map((name) => name.toLowerCase());
    return this.#entries.find(
      ({ certificateName }) => certificateName !== undefined && names.includes(certificateName),
    )?.principal;
  }
}

function bearerToken(authorization: string): string | undefined {
  if (authorization.length > TOKEN_CHARACTERS_MAX) return undefined;
  return /^bearer +([A-Za-z0-9._~+/=-]+) *$/i.exec(authorization)?.[1];
}

function parseLine(words: readonly string[], where: string): Entry {
  const [name = '', proof = '', databases, permissions, ...more] = words;
  if (databases === undefined || more.length > 0) {
    throw badLine(where, 'a line has a name, a proof, databases and perhaps permissions, parted by blanks');
  }
  if (!/^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/.test(name)) throw badLine(where, `${name} is not a name`);
  const matchers = databases.split(',').map((pattern) => matcher(pattern, where));
  const allowed = parsePermissions(permissions, where);
  const [kind, ...rest] = proof.split(':');
  const value = rest.join(':');
  const principal = (by: Principal['proof']): Principal => ({
    name,
    proof: by,
    mayRead: (database) => matchers.some((matches) => matches(database.toLowerCase())),
    may: (permission) => allowed.includes(permission),
  });
  if (kind === 'token') return { principal: principal('token'), tokenDigest: parseDigest(value, where) };
  if (kind === 'certificate') {
    if (!/^[\x21-\x7e]+$/.test(value)) throw badLine(where, 'certificate: needs a name without blanks');
    return { principal: principal('certificate'), certificateName: value.toLowerCase() };
  }
  throw badLine(where, 'the proof is token:sha256:<digest> or certificate:<name>');
}

/** The text is not repeated in the message: somebody may have written the token itself there. */
function parseDigest(value: string, where: string): Buffer {
  const [, hexadecimal] = /^sha256:([0-9a-f]{64})$/i.exec(value) ?? [];
  if (hexadecimal === undefined) {
    throw badLine(where, 'after token: comes sha256: and 64 hexadecimal digits, the digest of the token');
  }
  const digest = Buffer.from(hexadecimal, 'hex');
  if (digest.equals(createHash(DIGEST).digest()))
    throw badLine(where, 'this is the digest of an empty token');
  return digest;
}

function matcher(pattern: string, where: string): (database: string) => boolean {
  try {
    return databaseMatcher(pattern);
  } catch (error) {
    throw badLine(where, error instanceof Error ? error.message : String(error), error);
  }
}

function parsePermissions(text: string | undefined, where: string): readonly Permission[] {
  if (text === undefined) return DEFAULT_PERMISSIONS;
  if (text === 'none') return [];
  return text.split(',').map((word) => {
    const permission = PERMISSIONS.find((known) => known === word);
    if (permission !== undefined) return permission;
    throw badLine(where, `${word} is not a permission; there are ${PERMISSIONS.join(', ')} and none`);
  });
}

/** Two lines of one token or certificate would leave open which of them counts. */
function refuseDoubled(entry: Entry, entries: readonly Entry[], where: string): void {
  for (const other of entries) {
    if (other.principal.name === entry.principal.name) {
      throw badLine(where, `${entry.principal.name} is named twice`);
    }
    const isSameToken = entry.tokenDigest !== undefined && other.tokenDigest?.equals(entry.tokenDigest);
    const isSameName = entry.certificateName !== undefined && other.certificateName === entry.certificateName;
    if (isSameToken || isSameName) {
      throw badLine(where, `${entry.principal.name} has the same proof as ${other.principal.name}`);
    }
  }
}

function allowedAll(name: string, proof: Principal['proof']): Principal {
  return { name, proof, mayRead: () => true, may: () => true };
}

function badLine(where: string, reason: string, cause?: unknown): GraphkeepError {
  return new GraphkeepError('GK_CONFIG', `${where}: ${reason}`, {
    hint: 'correct the line; docs/server-settings.md tells the form of the access file',
    cause,
  });
}

const TOKEN_PREFIX = 'gk_';
const TOKEN_BYTES = 32;

export interface GeneratedToken {
  /** For the client; it is kept nowhere else. */
  readonly token: string;
  /** For the access file of the server. */
  readonly line: string;
}

/** 256 random bits, so that a plain digest is enough: there is nothing to be guessed. */
export function generateToken(name: string, databases = '*'): GeneratedToken {
  const token = TOKEN_PREFIX + randomBytes(TOKEN_BYTES).toString('base64url');
  const line = `${name} token:sha256:${createHash(DIGEST).update(token).digest('hex')} ${databases}`;
  AccessList.parse(line, 'the new line');
  return { token, line };
}
