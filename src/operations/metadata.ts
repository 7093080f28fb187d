/**
 * Users and roles for the head of an artifact: read on the host of the Neo4j, whoever asks for them. Users come out of a
 * hot copy of the `system` database; roles and privileges, which Enterprise has, are asked for over Bolt.
 */
import { GraphkeepError } from '../errors.ts';
import { METADATA_SCRIPT_BYTES_MAX } from '../limits.ts';
import type { BoltAccess } from '../neo4j/bolt.ts';
import { type UserAccount, writeMetadataScript } from '../neo4j/metadatascript.ts';
import { NO_ROLES, type RoleCommands, readRolesOverBolt } from '../neo4j/roles.ts';
import { withGraphOf } from './graphcopy.ts';
import { readSystemUsers, type SystemUsers } from './systemusers.ts';
import type { DatabaseFolders, OperationContext } from './types.ts';

/** What a script holds; `names` limits the users. */
export type MetadataChoice =
  | { readonly kind: 'all' | 'roles' }
  | { readonly kind: 'users'; readonly names?: readonly string[] };

export interface MetadataRequest extends OperationContext {
  /** Folders of the database `system` of the Neo4j whose users are asked for. */
  readonly system: DatabaseFolders;
  /** Name of the database that is backed up. */
  readonly database: string;
  readonly include: MetadataChoice;
  /** An existing folder for the copy of `system`, which is gone afterwards. */
  readonly temporaryDirectory: string;
  /** How roles are asked for; without it there are none in the script. */
  readonly bolt?: BoltAccess;
}

/** The text is a secret: it holds password hashes. */
export interface MetadataScript {
  readonly text: string;
  readonly userCount: number;
  readonly roleCount: number;
}

/**
 * @throws GK_NOT_FOUND when there is no `system` database or no user of a name that was asked for, GK_UNSUPPORTED when
 * only roles are wanted and there are none, and all that a backup of `system` throws
 */
export async function readMetadataScript(request: MetadataRequest): Promise<MetadataScript> {
  const { include, database } = request;
  const system = await withGraphOf(request.system, request, readSystemUsers);
  const users = include.kind === 'roles' ? [] : chooseUsers(system.users, include);
  const commands = await readRoles(request, system);
  const text = writeMetadataScript({
    database,
    users,
    roles: include.kind === 'users' ? [] : commands.roles,
    grants: include.kind === 'roles' ? [] : grantsTo(users, commands),
  });
  if (Buffer.byteLength(text) > METADATA_SCRIPT_BYTES_MAX) {
    throw new GraphkeepError(
      'GK_UNSUPPORTED',
      `the script of users and roles has more than ${METADATA_SCRIPT_BYTES_MAX} bytes`,
    );
  }
  return { text, userCount: users.length, roleCount: include.kind === 'users' ? 0 : commands.roleCount };
}

function chooseUsers(
  users: readonly UserAccount[],
  include: Exclude<MetadataChoice, { kind: 'roles' }>,
): readonly UserAccount[] {
  const names = 'names' in include ? include.names : undefined;
  if (names === undefined) return users;
  const missing = names.filter((name) => !users.some((user) => user.name === name));
  if (missing.length === 0) return users.filter(({ name }) => names.includes(name));
  throw new GraphkeepError('GK_NOT_FOUND', `this Neo4j has no user ${missing.join(', ')}`, {
    hint: 'names of users are compared letter by letter; SHOW USERS lists them',
  });
}

function grantsTo(users: readonly UserAccount[], { grants }: RoleCommands): string[] {
  const names = new Set(users.map(({ name }) => name));
  return grants.filter(({ user }) => names.has(user)).map(({ command }) => command);
}

async function readRoles(request: MetadataRequest, { hasRoles }: SystemUsers): Promise<RoleCommands> {
  const { include, bolt, listener, signal, database } = request;
  if (!hasRoles) {
    if (include.kind !== 'roles') return NO_ROLES;
    throw new GraphkeepError(
      'GK_UNSUPPORTED',
      'this Neo4j has no roles: Community Edition knows users only',
      {
        hint: 'use --include-metadata=users, or none',
      },
    );
  }
  if (bolt !== undefined) return await readRolesOverBolt(bolt, database, signal);
  if (include.kind === 'roles') {
    throw new GraphkeepError(
      'GK_USAGE',
      'roles and privileges are asked for over Bolt, and no address is given',
      {
        hint: 'give --bolt-address, --bolt-user and --bolt-password-file',
      },
    );
  }
  listener?.notice(
    'roles and privileges are not in the artifact: they are asked for over Bolt, with --bolt-address',
  );
  return NO_ROLES;
}
