/**
 * The script of users and roles that an artifact carries and that somebody runs on the restored server, by hand. Text
 * only: where users and roles are read from is the caller's.
 *
 * A user is created where there is none, and altered otherwise: so the script can be run again, and the default user
 * `neo4j`, which every server has, gets its old password back. Replacing it would be refused for whoever runs the script
 * as that user. It comes last, since from then on the old password holds.
 */
import { VERSION } from '../version.ts';
import { plainName, quoteName } from './cypher.ts';

export interface UserAccount {
  readonly name: string;
  /** `<version>,<hash>,<salt>` as Cypher takes it; undefined for a user that another provider knows. */
  readonly encryptedPassword: string | undefined;
  readonly passwordChangeRequired: boolean;
  readonly suspended: boolean;
  readonly homeDatabase: string | undefined;
  /** Providers other than Neo4j itself through which the user signs in. */
  readonly otherProviders: readonly string[];
}

const DEFAULT_USER = 'neo4j';

export interface ScriptParts {
  /** Database that is backed up; the script calls it `$database`. */
  readonly database: string;
  readonly users: readonly UserAccount[];
  /** Statements without their semicolon, to be run before those of the users. */
  readonly roles: readonly string[];
  /** Grants of roles to users, to be run after those of the users. */
  readonly grants: readonly string[];
}

export function writeMetadataScript({ database, users, roles, grants }: ScriptParts): string {
  const ordered = users.toSorted((left, right) => compare(sortKey(left), sortKey(right)));
  const lines = [
    `// Users and roles beside database ${plainName(database)}, written by graphkeep ${VERSION}.`,
    '// Holds password hashes: keep it secret. To be run on the database system of the restored server,',
    '// with the parameter database; users that exist get the password that they had.',
    ...roles.map(statement),
    ...ordered.flatMap((user) => linesOf(user, database)),
    ...grants.map(statement),
  ];
  return `${lines.join('\n')}\n`;
}

function statement(text: string): string {
  return `${text};`;
}

function sortKey({ name }: UserAccount): string {
  return `${name === DEFAULT_USER ? '1' : '0'}${name}`;
}

function compare(left: string, right: string): number {
  return left < right ? -1 : Number(left > right);
}

function linesOf(user: UserAccount, database: string): string[] {
  const { encryptedPassword, otherProviders } = user;
  const providers = otherProviders.map(plainName).join(', ');
  if (encryptedPassword === undefined) {
    const how =
      providers === '' ? 'has no password that can be carried over' : `signs in by ${providers} only`;
    return [`// User ${plainName(user.name)} ${how}: to be created by hand.`];
  }
  const name = quoteName(user.name);
  const change = `CHANGE ${user.passwordChangeRequired ? '' : 'NOT '}REQUIRED`;
  const password = `SET ENCRYPTED PASSWORD '${encryptedPassword}' ${change}`;
  const lines = [
    `CREATE USER ${name} IF NOT EXISTS ${password};`,
    `ALTER USER ${name} IF EXISTS ${password};`,
  ];
  if (user.suspended) lines.push(`ALTER USER ${name} IF EXISTS SET STATUS SUSPENDED;`);
  if (user.homeDatabase !== undefined) {
    const home = user.homeDatabase === database ? '$database' : quoteName(user.homeDatabase);
    lines.push(`ALTER USER ${name} IF EXISTS SET HOME DATABASE ${home};`);
  }
  if (providers !== '')
    lines.push(`// User ${plainName(user.name)} signs in by ${providers} as well: to be set by hand.`);
  return lines;
}

const STORED_PASSWORD = /^SHA-256,([0-9A-Fa-f]+),([0-9A-Fa-f]+)(?:,(\d{1,9}))?$/;
/** Rounds of SHA-256 → version of the form that Cypher takes. */
const VERSIONS: Readonly<Record<string, string>> = { '1': '0', '1024': '1' };

/** From the form in which the `system` database keeps a password; undefined when it is another one. */
export function encryptedPasswordOf(stored: string): string | undefined {
  const [, hash, salt, rounds = '1'] = STORED_PASSWORD.exec(stored) ?? [];
  const version = VERSIONS[rounds];
  return hash === undefined || version === undefined ? undefined : `${version},${hash},${salt}`;
}
