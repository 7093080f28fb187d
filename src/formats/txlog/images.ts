/**
 * What the storage commands of a log leave behind: the after-image of each record that they touch. Source: formats.md §3.
 * Images are whole records, so the newest one of an id says all about it, whatever the store file holds.
 */
import { FormatError } from '../formaterror.ts';
import type { DynamicRecord, SchemaRecord, TokenRecord } from '../records/dynamic.ts';
import { type GroupRecord, NO_ID, type NodeRecord, type RelationshipRecord } from '../records/graph.ts';
import type { StoreName } from '../records/layout.ts';
import { PROPERTY_TYPE, type PropertyRecord, splitWords, WORDS_PER_RECORD } from '../records/property.ts';

/** The record of each store. */
export interface StoreRecords extends Record<StoreName, { readonly inUse: boolean }> {
  nodes: NodeRecord;
  nodeLabels: DynamicRecord;
  relationships: RelationshipRecord;
  groups: GroupRecord;
  properties: PropertyRecord;
  strings: DynamicRecord;
  arrays: DynamicRecord;
  propertyKeys: TokenRecord;
  propertyKeyNames: DynamicRecord;
  labels: TokenRecord;
  labelNames: DynamicRecord;
  relationshipTypes: TokenRecord;
  relationshipTypeNames: DynamicRecord;
  schema: SchemaRecord;
}

export type ImageSink = <Name extends StoreName>(store: Name, id: number, record: StoreRecords[Name]) => void;

const IN_USE = 0x01;
const HAS_SECONDARY_UNIT = 0x08;
const START_RECORD = 0x20;
const INTERNAL_TOKEN = 0x20;

type Kind = 'created' | 'updated' | 'deleted';
type Reader = (cursor: Cursor, kind: Kind, sink: ImageSink) => void;

/** Little-endian fields, one after the other. @throws FormatError behind the end */
class Cursor {
  readonly #bytes: Buffer;
  #offset: number;

  constructor(bytes: Buffer, offset: number) {
    this.#bytes = bytes;
    this.#offset = offset;
  }

  #take(count: number): number {
    const at = this.#offset;
    if (count < 0 || at + count > this.#bytes.length) throw new FormatError('a log command is cut short');
    this.#offset = at + count;
    return at;
  }

  uint8(): number {
    return this.#bytes.readUInt8(this.#take(1));
  }
  int32(): number {
    return this.#bytes.readInt32LE(this.#take(4));
  }
  word(): bigint {
    return this.#bytes.readBigUInt64LE(this.#take(8));
  }
  /** A reference; below zero there is none. */
  id(): number {
    const value = this.#bytes.readBigInt64LE(this.#take(8));
    if (value < 0n) return NO_ID;
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new FormatError(`a record of the id ${value}`);
    return Number(value);
  }
  blob(count: number): Buffer {
    const at = this.#take(count);
    return Buffer.from(this.#bytes.subarray(at, at + count));
  }
}

interface Piece {
  readonly id: number;
  /** Type of the property that it belongs to: 9 and 10 as there; another number where the store is known anyway. */
  readonly type: number;
  readonly record: DynamicRecord;
}

const NOTHING = Buffer.alloc(0);

function pieces(cursor: Cursor): Piece[] {
  const count = cursor.int32();
  const found: Piece[] = [];
  for (let index = 0; index < count; index++) {
    const [id, type, flags] = [cursor.id(), cursor.int32(), cursor.uint8()];
    const inUse = (flags & IN_USE) !== 0;
    const isStart = (flags & START_RECORD) !== 0;
    const length = inUse ? cursor.int32() : 0;
    const next = inUse ? cursor.id() : NO_ID;
    found.push({
      id,
      type,
      record: { inUse, isStart, next, data: inUse ? cursor.blob(length) : NOTHING },
    });
  }
  return found;
}

/** Of what is deleted, the log holds the image before. */
function afterwards(record: DynamicRecord, kind: Kind): DynamicRecord {
  return kind === 'deleted' ? { ...record, inUse: false, next: NO_ID, data: NOTHING } : record;
}

function emitPieces(
  store: 'nodeLabels' | 'labelNames' | 'relationshipTypeNames' | 'propertyKeyNames',
  found: readonly Piece[],
  kind: Kind,
  sink: ImageSink,
): void {
  for (const { id, record } of found) sink(store, id, afterwards(record, kind));
}

function node(cursor: Cursor): { record: NodeRecord; labels: Piece[] } {
  const flags = cursor.uint8();
  const inUse = (flags & IN_USE) !== 0;
  const record: NodeRecord = {
    inUse,
    dense: inUse && cursor.uint8() === 1,
    firstRelationship: inUse ? cursor.id() : NO_ID,
    firstProperty: inUse ? cursor.id() : NO_ID,
    labelField: inUse ? labelField(cursor.word()) : 0,
  };
  if ((flags & HAS_SECONDARY_UNIT) !== 0) cursor.id();
  return { record, labels: pieces(cursor) };
}

const LABEL_FIELD_BITS = 40n;

function labelField(word: bigint): number {
  if (word >> LABEL_FIELD_BITS !== 0n) throw new FormatError('the labels of a node have more than 40 bits');
  return Number(word);
}

function readNode(cursor: Cursor, kind: Kind, sink: ImageSink): void {
  const id = cursor.id();
  if (kind === 'updated') node(cursor);
  const { record, labels } = node(cursor);
  emitPieces('nodeLabels', labels, kind, sink);
  sink('nodes', id, kind === 'deleted' ? { ...record, inUse: false } : record);
}

function relationship(cursor: Cursor): RelationshipRecord {
  const flags = cursor.uint8();
  const inUse = (flags & IN_USE) !== 0;
  const id = (): number => (inUse ? cursor.id() : NO_ID);
  const [startNode, endNode] = [id(), id()];
  const type = cursor.int32();
  const [startPrevious, startNext, endPrevious, endNext, firstProperty] = [id(), id(), id(), id(), id()];
  const chains = inUse ? cursor.uint8() : 0;
  if ((flags & HAS_SECONDARY_UNIT) !== 0) cursor.id();
  return {
    inUse,
    startNode,
    endNode,
    type,
    startPrevious,
    startNext,
    endPrevious,
    endNext,
    firstProperty,
    firstInStartChain: (chains & 1) !== 0,
    firstInEndChain: (chains & 2) !== 0,
  };
}

function readRelationship(cursor: Cursor, kind: Kind, sink: ImageSink): void {
  const id = cursor.id();
  if (kind === 'updated') relationship(cursor);
  const record = relationship(cursor);
  sink('relationships', id, kind === 'deleted' ? { ...record, inUse: false } : record);
}

function group(cursor: Cursor): GroupRecord {
  const flags = cursor.uint8();
  const type = cursor.int32();
  const record = {
    inUse: (flags & IN_USE) !== 0,
    type,
    nextGroup: cursor.id(),
    firstOutgoing: cursor.id(),
    firstIncoming: cursor.id(),
    firstLoop: cursor.id(),
    owningNode: cursor.id(),
  };
  cursor.uint8();
  if ((flags & HAS_SECONDARY_UNIT) !== 0) cursor.id();
  return record;
}

function readGroup(cursor: Cursor, _kind: Kind, sink: ImageSink): void {
  const id = cursor.id();
  group(cursor);
  sink('groups', id, group(cursor));
}

function property(cursor: Cursor): { record: PropertyRecord; found: Piece[] } {
  const flags = cursor.uint8();
  const [next, previous] = [cursor.id(), cursor.id()];
  cursor.id(); // the owner, which the record itself does not hold
  const words: bigint[] = [];
  const found: Piece[] = [];
  for (let blocks = cursor.uint8(); blocks > 0; blocks--) {
    for (let count = cursor.uint8() / 8; count > 0; count--) words.push(cursor.word());
    found.push(...pieces(cursor));
  }
  if (words.length > WORDS_PER_RECORD) throw new FormatError(`a property record of ${words.length} words`);
  found.push(...pieces(cursor));
  const inUse = (flags & IN_USE) !== 0;
  return { record: { inUse, previous, next, values: inUse ? splitWords(words) : [] }, found };
}

function readProperty(cursor: Cursor, kind: Kind, sink: ImageSink): void {
  const id = cursor.id();
  if (kind === 'updated') property(cursor);
  const { record, found } = property(cursor);
  for (const piece of found) {
    if (piece.type === PROPERTY_TYPE.string) sink('strings', piece.id, afterwards(piece.record, kind));
    else if (piece.type === PROPERTY_TYPE.array) sink('arrays', piece.id, afterwards(piece.record, kind));
    else throw new FormatError(`a value of type ${piece.type} in a dynamic store`);
  }
  sink('properties', id, kind === 'deleted' ? { ...record, inUse: false, values: [] } : record);
}

function token(cursor: Cursor, hasCount: boolean): { record: TokenRecord; name: Piece[] } {
  const flags = cursor.uint8();
  if (hasCount) cursor.int32();
  const nameId = cursor.int32();
  const record = {
    inUse: (flags & IN_USE) !== 0,
    internal: (flags & INTERNAL_TOKEN) !== 0,
    nameId,
  };
  return { record, name: pieces(cursor) };
}

function tokenReader(
  store: 'labels' | 'relationshipTypes' | 'propertyKeys',
  names: 'labelNames' | 'relationshipTypeNames' | 'propertyKeyNames',
): Reader {
  const hasCount = store === 'propertyKeys';
  return (cursor, kind, sink) => {
    const id = cursor.int32();
    token(cursor, hasCount);
    const { record, name } = token(cursor, hasCount);
    emitPieces(names, name, kind, sink);
    sink(store, id, record);
  };
}

function schemaRecord(cursor: Cursor): SchemaRecord {
  const inUse = (cursor.uint8() & IN_USE) !== 0;
  if (inUse) cursor.uint8();
  return { inUse, firstProperty: inUse ? cursor.id() : NO_ID };
}

function readSchema(cursor: Cursor, _kind: Kind, sink: ImageSink): void {
  const id = cursor.id();
  cursor.uint8();
  schemaRecord(cursor);
  sink('schema', id, schemaRecord(cursor));
}

/** Commands that touch records. Counts, degrees and the rise of a kernel version leave no record behind. */
const READERS: Readonly<Record<number, readonly [Reader, Kind]>> = {
  1: [readNode, 'updated'],
  22: [readNode, 'created'],
  23: [readNode, 'deleted'],
  3: [readRelationship, 'updated'],
  26: [readRelationship, 'created'],
  27: [readRelationship, 'deleted'],
  2: [readProperty, 'updated'],
  24: [readProperty, 'created'],
  25: [readProperty, 'deleted'],
  9: [readGroup, 'updated'],
  4: [tokenReader('relationshipTypes', 'relationshipTypeNames'), 'updated'],
  8: [tokenReader('labels', 'labelNames'), 'updated'],
  5: [tokenReader('propertyKeys', 'propertyKeyNames'), 'updated'],
  18: [readSchema, 'updated'],
};

/** Gives the sink every record that the command leaves behind. @throws FormatError */
export function readImages(command: Buffer, sink: ImageSink): void {
  const [read, kind] = READERS[command[0] ?? 0] ?? [];
  if (read !== undefined && kind !== undefined) read(new Cursor(command, 1), kind, sink);
}
