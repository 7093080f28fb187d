/**
 * The users of a Neo4j, read out of its `system` database: the one place where their encrypted passwords are. A node
 * `User` leads by `HAS_AUTH` to one node for each provider that may sign the user in; the password itself lies on the user
 * (5.x and 2026) or on the node of the provider `native`.
 */
import type { Graph, Properties } from '../engine/graph.ts';
import type { StoredRecord } from '../engine/recordstore.ts';
import { GraphkeepError } from '../errors.ts';
import type { NodeRecord } from '../formats/records/graph.ts';
import type { PropertyValue } from '../formats/records/values.ts';
import { METADATA_USERS_MAX } from '../limits.ts';
import { encryptedPasswordOf, type UserAccount } from '../neo4j/metadatascript.ts';

export interface SystemUsers {
  readonly users: readonly UserAccount[];
  /** Only Enterprise has any. */
  readonly hasRoles: boolean;
}

const NATIVE_PROVIDER = 'native';

/** @throws GK_STORE_DAMAGED, GK_UNSUPPORTED */
export async function readSystemUsers(graph: Graph): Promise<SystemUsers> {
  return await new SystemReader(graph).read();
}

type Node = StoredRecord<NodeRecord>;
type Fields = ReadonlyMap<string, PropertyValue>;

class SystemReader {
  readonly #graph: Graph;
  #labels: ReadonlyMap<number, string> = new Map();
  #keys: ReadonlyMap<number, string> = new Map();
  #types: ReadonlyMap<number, string> = new Map();

  constructor(graph: Graph) {
    this.#graph = graph;
  }

  async read(): Promise<SystemUsers> {
    this.#labels = await this.#graph.labels();
    this.#keys = await this.#graph.propertyKeys();
    this.#types = await this.#graph.relationshipTypes();
    const users: UserAccount[] = [];
    let hasRoles = false;
    for await (const node of this.#graph.nodes()) {
      const labels = await this.#labelsOf(node);
      if (labels.includes('Role')) hasRoles = true;
      if (!labels.includes('User')) continue;
      if (users.length >= METADATA_USERS_MAX) {
        throw new GraphkeepError('GK_UNSUPPORTED', `there are more than ${METADATA_USERS_MAX} users`);
      }
      users.push(await this.#userOf(node));
    }
    return { users, hasRoles };
  }

  async #labelsOf(node: Node): Promise<(string | undefined)[]> {
    return (await this.#graph.labelIdsOf(node)).map((id) => this.#labels.get(id));
  }

  async #fieldsOf({ record }: Node): Promise<Fields> {
    const properties: Properties = await this.#graph.propertiesFrom(record.firstProperty);
    return new Map([...properties].map(([key, value]) => [this.#keys.get(key) ?? String(key), value]));
  }

  async #userOf(node: Node): Promise<UserAccount> {
    const fields = await this.#fieldsOf(node);
    const providers = await this.#providersOf(node);
    const native = providers.find((provider) => textOf(provider, 'provider') === NATIVE_PROVIDER);
    const name = textOf(fields, 'name');
    if (name === undefined)
      throw new GraphkeepError('GK_STORE_DAMAGED', 'a user of the database system has no name');
    const stored =
      textOf(fields, 'credentials') ?? (native === undefined ? undefined : textOf(native, 'credentials'));
    return {
      name,
      encryptedPassword: stored === undefined ? undefined : encryptedPasswordOf(stored),
      passwordChangeRequired:
        (fields.get('passwordChangeRequired') ?? native?.get('passwordChangeRequired')) === true,
      suspended: fields.get('suspended') === true,
      homeDatabase: textOf(fields, 'homeDatabase'),
      otherProviders: providers
        .map((provider) => textOf(provider, 'provider') ?? 'an unnamed provider')
        .filter((provider) => provider !== NATIVE_PROVIDER),
    };
  }

  async #providersOf(user: Node): Promise<Fields[]> {
    const providers: Fields[] = [];
    for await (const { record } of this.#graph.relationshipsOf(user)) {
      if (this.#types.get(record.type) !== 'HAS_AUTH' || record.startNode !== user.id) continue;
      const node = await this.#graph.node(record.endNode);
      if (node === undefined) {
        throw new GraphkeepError(
          'GK_STORE_DAMAGED',
          `node ${record.endNode} of the database system is missing`,
        );
      }
      providers.push(await this.#fieldsOf({ id: record.endNode, record: node }));
    }
    return providers;
  }
}

function textOf(fields: Fields, key: string): string | undefined {
  const value = fields.get(key);
  return typeof value === 'string' ? value : undefined;
}
