/**
 * A database read without Neo4j: nodes, labels, properties, relationships, names, rules of the schema. Read-only, over the
 * files of a copy whose log reaches from a checkpoint to its end; the log is applied in memory (overlay.ts).
 *
 * Whatever a file says is checked before it is used: ids lie in their stores, lengths have bounds, chains come to an end.
 * A graph that breaks one of these is damaged, and said to be so with file and record; nothing is guessed.
 */
import {
  type DynamicRecord,
  parseDynamic,
  parsePropertyKey,
  parseSchema,
  parseToken,
} from '../formats/records/dynamic.ts';
import {
  type GroupRecord,
  NO_ID,
  type NodeRecord,
  parseGroup,
  parseNode,
  parseRelationship,
  type RelationshipRecord,
} from '../formats/records/graph.ts';
import { parseDynamicLabels, parseLabelField } from '../formats/records/labels.ts';
import { parseDynamicHeader, type StoreName } from '../formats/records/layout.ts';
import { parseProperty, type StoredValue } from '../formats/records/property.ts';
import {
  decodeArray,
  decodeInlineValue,
  dynamicReferenceOf,
  type PropertyValue,
} from '../formats/records/values.ts';
import type { StoreRecords } from '../formats/txlog/images.ts';
import { STORED_VALUE_BYTES_MAX, TOKENS_MAX } from '../limits.ts';
import { ChainWatch, damagedStore, namingStore } from './damage.ts';
import { type LogRange, readOverlay } from './overlay.ts';
import { type HeaderParser, type RecordParser, RecordStore, type StoredRecord } from './recordstore.ts';

export interface GraphSource {
  readonly storeDirectory: string;
  /** Format of the store: `aligned` or `standard`. */
  readonly family: string;
  /** The log from the checkpoint on that the copy recovers from. */
  readonly log: readonly LogRange[];
}

/** Names by id. */
export type Tokens = ReadonlyMap<number, string>;

export type Properties = ReadonlyMap<number, PropertyValue>;

type DynamicStore =
  | 'nodeLabels'
  | 'strings'
  | 'arrays'
  | 'propertyKeyNames'
  | 'labelNames'
  | 'relationshipTypeNames';
type Stores = { readonly [Name in StoreName]: RecordStore<Name> };

const PARSERS: { readonly [Name in StoreName]: readonly [RecordParser<StoreRecords[Name]>, HeaderParser?] } =
  {
    nodes: [parseNode],
    nodeLabels: [parseDynamic, parseDynamicHeader],
    relationships: [parseRelationship],
    groups: [parseGroup],
    properties: [parseProperty],
    strings: [parseDynamic, parseDynamicHeader],
    arrays: [parseDynamic, parseDynamicHeader],
    propertyKeys: [parsePropertyKey],
    propertyKeyNames: [parseDynamic, parseDynamicHeader],
    labels: [parseToken],
    labelNames: [parseDynamic, parseDynamicHeader],
    relationshipTypes: [parseToken],
    relationshipTypeNames: [parseDynamic, parseDynamicHeader],
    schema: [parseSchema],
  };

/** @throws GK_NOT_FOUND, GK_STORE_DAMAGED, GK_UNSUPPORTED when the log changes more than can be held */
export async function openGraph(source: GraphSource, signal?: AbortSignal): Promise<Graph> {
  const overlay = await readOverlay(source.log, signal);
  const opened: Partial<Record<StoreName, { close(): Promise<void> }>> = {};
  const open = async <Name extends StoreName>(name: Name): Promise<void> => {
    const [parse, parseHeader] = PARSERS[name];
    opened[name] = await RecordStore.open(name, { ...source, overlay }, parse, parseHeader);
  };
  try {
    for (const name of Object.keys(PARSERS) as StoreName[]) await open(name);
    return new Graph(opened as Stores, signal);
  } catch (error) {
    for (const store of Object.values(opened)) await store.close();
    throw error;
  }
}

export class Graph {
  readonly #stores: Stores;
  readonly #signal: AbortSignal | undefined;

  /** Use `openGraph`. */
  constructor(stores: Stores, signal: AbortSignal | undefined) {
    this.#stores = stores;
    this.#signal = signal;
  }

  async close(): Promise<void> {
    for (const store of Object.values(this.#stores)) await store.close();
  }

  labels(): Promise<Tokens> {
    return this.#tokens('labels', 'labelNames');
  }
  relationshipTypes(): Promise<Tokens> {
    return this.#tokens('relationshipTypes', 'relationshipTypeNames');
  }
  /** Those of the schema rules included. */
  propertyKeys(): Promise<Tokens> {
    return this.#tokens('propertyKeys', 'propertyKeyNames');
  }

  nodes(): AsyncGenerator<StoredRecord<NodeRecord>> {
    return this.#stores.nodes.all(this.#signal);
  }
  /** Every relationship of the database, each once. */
  relationships(): AsyncGenerator<StoredRecord<RelationshipRecord>> {
    return this.#stores.relationships.all(this.#signal);
  }
  /** @returns undefined when there is no such node */
  node(id: number): Promise<NodeRecord | undefined> {
    return this.#stores.nodes.read(id);
  }

  async labelIdsOf({ id, record }: StoredRecord<NodeRecord>): Promise<readonly number[]> {
    const field = parseLabelField(record.labelField);
    if ('labelIds' in field) return field.labelIds;
    const value = await this.#dynamicValue('nodeLabels', field.dynamicId);
    return namingStore(
      () => this.#stores.nodes.where(id),
      () => parseDynamicLabels(decodeArray(value), id),
    );
  }

  /** Properties by the id of their key, of the node, relationship or rule whose chain begins at `firstProperty`. */
  async propertiesFrom(firstProperty: number): Promise<Properties> {
    const properties = new Map<number, PropertyValue>();
    const store = this.#stores.properties;
    const watch = new ChainWatch(store.where(firstProperty));
    for (let id = firstProperty; id !== NO_ID; ) {
      watch.visit(id);
      const record = await this.#require('properties', id);
      for (const stored of record.values) {
        if (properties.has(stored.keyId))
          throw damagedStore(store.where(id), `key ${stored.keyId} is there twice`);
        properties.set(stored.keyId, await this.#valueOf(stored, id));
      }
      id = record.next;
    }
    return properties;
  }

  async #valueOf(stored: StoredValue, recordId: number): Promise<PropertyValue> {
    const reference = dynamicReferenceOf(stored);
    const where = (): string => this.#stores.properties.where(recordId);
    if (reference === undefined) return namingStore(where, () => decodeInlineValue(stored));
    const bytes = await this.#dynamicValue(reference.store, reference.firstId);
    return reference.store === 'strings'
      ? bytes.toString('utf8')
      : namingStore(where, () => decodeArray(bytes));
  }

  /** The relationships of a node; those of a dense one through its groups. A loop is given once. */
  async *relationshipsOf({
    id,
    record,
  }: StoredRecord<NodeRecord>): AsyncGenerator<StoredRecord<RelationshipRecord>> {
    if (!record.dense) {
      yield* this.#chainOf(id, record.firstRelationship);
      return;
    }
    for await (const { record: group } of this.groupsOf({ id, record })) {
      for (const first of [group.firstOutgoing, group.firstIncoming, group.firstLoop])
        yield* this.#chainOf(id, first);
    }
  }

  /** Groups of a dense node. */
  async *groupsOf({ id, record }: StoredRecord<NodeRecord>): AsyncGenerator<StoredRecord<GroupRecord>> {
    const store = this.#stores.groups;
    const watch = new ChainWatch(this.#stores.nodes.where(id));
    for (let groupId = record.firstRelationship; groupId !== NO_ID; ) {
      watch.visit(groupId);
      const group = await this.#require('groups', groupId);
      if (group.owningNode !== id)
        throw damagedStore(store.where(groupId), `it belongs to node ${group.owningNode}, not ${id}`);
      yield { id: groupId, record: group };
      groupId = group.nextGroup;
    }
  }

  async *#chainOf(nodeId: number, first: number): AsyncGenerator<StoredRecord<RelationshipRecord>> {
    const store = this.#stores.relationships;
    const watch = new ChainWatch(this.#stores.nodes.where(nodeId));
    for (let id = first; id !== NO_ID; ) {
      watch.visit(id);
      const record = await this.#require('relationships', id);
      const isStart = record.startNode === nodeId;
      if (!isStart && record.endNode !== nodeId)
        throw damagedStore(store.where(id), `it is no relationship of node ${nodeId}`);
      yield { id, record };
      id = isStart ? record.startNext : record.endNext;
    }
  }

  /** Indexes and constraints, each as the properties that describe it (formats.md §4), by the names of their keys. */
  async *schemaRules(): AsyncGenerator<StoredRecord<ReadonlyMap<string, PropertyValue>>> {
    const keys = await this.propertyKeys();
    for await (const { id, record } of this.#stores.schema.all(this.#signal)) {
      const properties = await this.propertiesFrom(record.firstProperty);
      yield {
        id,
        record: new Map([...properties].map(([key, value]) => [keys.get(key) ?? String(key), value])),
      };
    }
  }

  async #tokens(
    store: 'labels' | 'relationshipTypes' | 'propertyKeys',
    names: 'labelNames' | 'relationshipTypeNames' | 'propertyKeyNames',
  ): Promise<Tokens> {
    const tokens = new Map<number, string>();
    for await (const { id, record } of this.#stores[store].all(this.#signal)) {
      if (tokens.size >= TOKENS_MAX)
        throw damagedStore(this.#stores[store].where(id), `more than ${TOKENS_MAX} names`);
      tokens.set(id, (await this.#dynamicValue(names, record.nameId)).toString('utf8'));
    }
    return tokens;
  }

  async #dynamicValue(name: DynamicStore, firstId: number): Promise<Buffer> {
    const store = this.#stores[name];
    const watch = new ChainWatch(store.where(firstId));
    const parts: Buffer[] = [];
    let bytes = 0;
    for (let id = firstId; id !== NO_ID; ) {
      watch.visit(id);
      const record: DynamicRecord = await this.#require(name, id);
      if (record.isStart !== (id === firstId))
        throw damagedStore(store.where(id), 'it is a piece of another value');
      bytes += record.data.length;
      if (bytes > STORED_VALUE_BYTES_MAX)
        throw damagedStore(store.where(firstId), 'a value is impossibly long');
      parts.push(record.data);
      id = record.next;
    }
    return Buffer.concat(parts, bytes);
  }

  async #require<Name extends StoreName>(name: Name, id: number): Promise<StoreRecords[Name]> {
    const record = await this.#stores[name].read(id);
    if (record === undefined)
      throw damagedStore(this.#stores[name].where(id), 'something leads there, but it is not in use');
    return record;
  }
}
