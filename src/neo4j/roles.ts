/**
 * Roles and privileges of a Neo4j that has them, as commands that make them again, asked for over Bolt. Written against the
 * manual: Enterprise Edition was not available, so what a real one answers was not tried.
 *
 * Taken are the privileges on databases and graphs that concern one database: on it by name, which becomes `$database`, and
 * on all (`*`). Left out, as by the vendor's tool: privileges on the DBMS, on other databases, and roles without any.
 */
import { GraphkeepError } from '../errors.ts';
import { ROLE_COMMANDS_MAX } from '../limits.ts';
import { type BoltAccess, type SystemQuery, withBolt } from './bolt.ts';
import { quoteName } from './cypher.ts';

export interface RoleCommands {
  /** Without semicolons: roles first, then privileges. */
  readonly roles: readonly string[];
  readonly roleCount: number;
  readonly grants: readonly { readonly user: string; readonly command: string }[];
}

export const NO_ROLES: RoleCommands = { roles: [], roleCount: 0, grants: [] };

/** Everybody has it, and it cannot be granted. */
const EVERYBODY = 'PUBLIC';

/** @throws GK_NOT_FOUND, GK_NO_PERMISSION, GK_UNSUPPORTED, GK_IO */
export function readRolesOverBolt(
  access: BoltAccess,
  database: string,
  signal?: AbortSignal,
): Promise<RoleCommands> {
  return withBolt(access, 'roles and privileges', (query) => readRoles(query, database), signal);
}

/** @param query runs on the database system */
export async function readRoles(query: SystemQuery, database: string): Promise<RoleCommands> {
  const privileges = new Map<string, string[]>();
  for (const { command, role } of await privilegeRows(query)) {
    const adapted = commandFor(command, database);
    if (adapted === undefined) continue;
    privileges.set(role, [...(privileges.get(role) ?? []), adapted]);
  }
  const names = [...privileges.keys()].sort();
  const members = await query('SHOW ROLES WITH USERS YIELD role, member');
  const grants = members.flatMap(({ role, member }) => {
    if (typeof role !== 'string' || typeof member !== 'string') return [];
    if (role === EVERYBODY || !privileges.has(role)) return [];
    return [{ user: member, command: `GRANT ROLE ${quoteName(role)} TO ${quoteName(member)}` }];
  });
  return {
    roles: [
      ...names
        .filter((name) => name !== EVERYBODY)
        .map((name) => `CREATE ROLE ${quoteName(name)} IF NOT EXISTS`),
      ...names.flatMap((name) => privileges.get(name) ?? []),
    ],
    roleCount: names.length,
    grants,
  };
}

/** The commands as the server writes them, each with its role, which ends it. */
async function privilegeRows(query: SystemQuery): Promise<{ command: string; role: string }[]> {
  const rows = await query('SHOW PRIVILEGES AS COMMANDS YIELD command');
  if (rows.length > ROLE_COMMANDS_MAX) {
    throw new GraphkeepError('GK_UNSUPPORTED', `there are more than ${ROLE_COMMANDS_MAX} privileges`);
  }
  return rows.flatMap(({ command }) => {
    if (typeof command !== 'string') return [];
    const role = / TO (`(?:[^`]|``)+`|[A-Za-z][A-Za-z0-9_]*)$/.exec(command)?.[1];
    return role === undefined ? [] : [{ command, role: unquoted(role) }];
  });
}

function unquoted(name: string): string {
  return name.startsWith('`') ? name.slice(1, -1).replaceAll('``', '`') : name;
}

const PRIVILEGE = /^((?:GRANT|DENY) .*? ON (?:DATABASE|GRAPH)S? )(`(?:[^`]|``)+`|\*|[A-Za-z0-9_.-]+)( .*)$/s;

/** The command for any name of the database; undefined when it does not concern the database. */
function commandFor(command: string, database: string): string | undefined {
  const [, before, name, after] = PRIVILEGE.exec(command) ?? [];
  // An immutable privilege can be given only while authentication is off.
  if (before === undefined || name === undefined || /^\w+ IMMUTABLE /.test(before)) return undefined;
  if (name !== '*' && unquoted(name).toLowerCase() !== database.toLowerCase()) return undefined;
  // What the server writes out of a name is not to be taken for an escape when it is read again (cypher.ts).
  return `${before}${name === '*' ? '*' : '$database'}${after}`.replaceAll('\\u', '\\u005Cu');
}
