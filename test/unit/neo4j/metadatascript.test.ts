import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { SystemQuery } from '../../../src/neo4j/bolt.ts';
import { plainName, quoteName } from '../../../src/neo4j/cypher.ts';
import {
  encryptedPasswordOf,
  type UserAccount,
  writeMetadataScript,
} from '../../../src/neo4j/metadatascript.ts';
import { readRoles } from '../../../src/neo4j/roles.ts';

/** As Neo4j 5 reads a text: escapes first, wherever they stand, each once. */
function decoded(text: string): string {
  return text.replace(/\\u([0-9A-Fa-f]{4})/g, (_, code: string) =>
    String.fromCharCode(Number.parseInt(code, 16)),
  );
}

/** The name between the backticks, and what is left behind them. */
function readName(text: string): { name: string; rest: string } {
  const match = /^`((?:[^`]|``)*)`/.exec(text);
  assert.ok(match !== null, text);
  return { name: match[1]!.replaceAll('``', '`'), rest: text.slice(match[0].length) };
}

describe('names in a script', () => {
  test('whatever a name holds, Neo4j reads that name and nothing more', () => {
    const nasty = fc.constantFrom(
      '`',
      '\\',
      'u0060',
      '\\u0060',
      "'",
      '"',
      ';',
      '\n',
      '\r',
      '//',
      '/*',
      '\u2028',
      '$',
      ' ',
      'ä',
      '🙂',
      'x',
    );
    fc.assert(
      fc.property(fc.array(nasty, { maxLength: 12 }), (parts) => {
        const name = parts.join('');
        const text = `${quoteName(name)} IF NOT EXISTS;`;
        assert.doesNotMatch(text, /[\n\r\u2028]/);
        assert.deepEqual(readName(decoded(text)), { name, rest: ' IF NOT EXISTS;' });
      }),
      { numRuns: 5000 },
    );
  });

  test('in a comment nothing is left that could end it', () => {
    assert.equal(plainName('a\nb\\u000Ac`d'), 'a?b?u000Ac?d');
  });
});

const HASH = 'ab'.repeat(32);
const SALT = 'cd'.repeat(32);
const PASSWORD = `1,${HASH},${SALT}`;

function user(name: string, more: Partial<UserAccount> = {}): UserAccount {
  return {
    name,
    encryptedPassword: PASSWORD,
    passwordChangeRequired: false,
    suspended: false,
    homeDatabase: undefined,
    otherProviders: [],
    ...more,
  };
}

function script(users: readonly UserAccount[]): string[] {
  return writeMetadataScript({ database: 'neo4j', users, roles: [], grants: [] }).split('\n').slice(3, -1);
}

describe('the script', () => {
  test('a user is created, or given the password it had', () => {
    assert.deepEqual(script([user('anna'), user('ben', { passwordChangeRequired: true })]), [
      `CREATE USER \`anna\` IF NOT EXISTS SET ENCRYPTED PASSWORD '${PASSWORD}' CHANGE NOT REQUIRED;`,
      `ALTER USER \`anna\` IF EXISTS SET ENCRYPTED PASSWORD '${PASSWORD}' CHANGE NOT REQUIRED;`,
      `CREATE USER \`ben\` IF NOT EXISTS SET ENCRYPTED PASSWORD '${PASSWORD}' CHANGE REQUIRED;`,
      `ALTER USER \`ben\` IF EXISTS SET ENCRYPTED PASSWORD '${PASSWORD}' CHANGE REQUIRED;`,
    ]);
  });

  test('the default user comes last, since whoever runs the script may be that one', () => {
    const names = script([user('neo4j'), user('zoe'), user('anna')]).map((line) => /`(\w+)`/.exec(line)?.[1]);
    assert.deepEqual(names, ['anna', 'anna', 'zoe', 'zoe', 'neo4j', 'neo4j']);
  });

  test('what only Enterprise knows is written where it is so', () => {
    assert.deepEqual(script([user('a', { suspended: true, homeDatabase: 'neo4j' })]).slice(2), [
      'ALTER USER `a` IF EXISTS SET STATUS SUSPENDED;',
      'ALTER USER `a` IF EXISTS SET HOME DATABASE $database;',
    ]);
    assert.match(script([user('a', { homeDatabase: 'other' })])[2]!, /HOME DATABASE `other`;/);
  });

  test('other providers are said, not guessed', () => {
    assert.match(
      script([user('a', { otherProviders: ['oidc-x'] })])[2]!,
      /^\/\/ User a signs in by oidc-x as well/,
    );
    const [only, ...rest] = script([
      user('a\n', { otherProviders: ['ldap;'], encryptedPassword: undefined }),
    ]);
    assert.equal(only, '// User a? signs in by ldap? only: to be created by hand.');
    assert.deepEqual(rest, []);
  });

  test('passwords in the form that Cypher takes, and in no other', () => {
    assert.equal(encryptedPasswordOf(`SHA-256,${HASH},${SALT},1024`), PASSWORD);
    assert.equal(encryptedPasswordOf(`SHA-256,${HASH},${SALT}`), `0,${HASH},${SALT}`);
    assert.equal(encryptedPasswordOf(`SHA-256,${HASH},${SALT},7`), undefined);
    assert.equal(encryptedPasswordOf(`SHA-256,${HASH}',${SALT},1024`), undefined);
    assert.equal(encryptedPasswordOf('SHA-512,ab,cd,1024'), undefined);
  });
});

/** Rows as the manual shows them; no Enterprise Edition was available. */
function server(
  commands: readonly string[],
  members: readonly (readonly [string, string | null])[],
): SystemQuery {
  return async (query) =>
    query.startsWith('SHOW PRIVILEGES')
      ? commands.map((command) => ({ command }))
      : members.map(([role, member]) => ({ role, member }));
}

describe('roles', () => {
  test('those with a privilege on the database, and who has them', async () => {
    const commands = [
      'GRANT ACCESS ON DATABASE `neo4j` TO `reader`',
      'GRANT MATCH {*} ON GRAPH * NODE * TO `reader`',
      'DENY READ {`ssn`} ON GRAPH `neo4j` NODE `Person` TO `auditor`',
      'GRANT ACCESS ON DATABASE `other` TO `stranger`',
      'GRANT ROLE MANAGEMENT ON DBMS TO `boss`',
      'GRANT EXECUTE PROCEDURE * ON DBMS TO `PUBLIC`',
      'GRANT ACCESS ON HOME DATABASE TO `PUBLIC`',
      'GRANT IMMUTABLE ACCESS ON DATABASE * TO `rock`',
      'GRANT TRAVERSE ON GRAPH `neo4j` NODE * TO `PUBLIC`',
    ];
    const members = [
      ['reader', 'anna'],
      ['reader', 'o`dd'],
      ['stranger', 'anna'],
      ['auditor', null],
      ['PUBLIC', 'anna'],
    ] as const;
    const { roles, roleCount, grants } = await readRoles(server(commands, members), 'neo4j');
    assert.deepEqual(roles, [
      'CREATE ROLE `auditor` IF NOT EXISTS',
      'CREATE ROLE `reader` IF NOT EXISTS',
      'GRANT TRAVERSE ON GRAPH $database NODE * TO `PUBLIC`',
      'DENY READ {`ssn`} ON GRAPH $database NODE `Person` TO `auditor`',
      'GRANT ACCESS ON DATABASE $database TO `reader`',
      'GRANT MATCH {*} ON GRAPH * NODE * TO `reader`',
    ]);
    assert.equal(roleCount, 3);
    assert.deepEqual(grants, [
      { user: 'anna', command: 'GRANT ROLE `reader` TO `anna`' },
      { user: 'o`dd', command: 'GRANT ROLE `reader` TO `o``dd`' },
    ]);
  });

  test('a label that looks like an escape stays a label', async () => {
    const command = 'GRANT READ {*} ON GRAPH `neo4j` NODE `a\\u0060 TO x; DROP USER y` TO `r`';
    const { roles } = await readRoles(server([command], []), 'neo4j');
    assert.equal(decoded(roles[1]!), command.replace('`neo4j`', '$database'));
  });
});
