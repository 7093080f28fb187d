/** Records of nodes, relationships and the groups of dense nodes. Source: formats.md §4. All integers are big-endian. */

/** No record: the end of a chain. */
export const NO_ID = -1;

const UNIT = 2 ** 32;
const NULL_LOW = 0xffffffff;
const FIRST_IN_START_CHAIN = 1;
const FIRST_IN_END_CHAIN = 2;

export interface NodeRecord {
  readonly inUse: boolean;
  /** Its relationships are reached through groups, one for each type. */
  readonly dense: boolean;
  /** Id of a group when dense. */
  readonly firstRelationship: number;
  readonly firstProperty: number;
  /** 40 bits: label ids, or where they are (labels.ts). */
  readonly labelField: number;
}

export interface RelationshipRecord {
  readonly inUse: boolean;
  readonly startNode: number;
  readonly endNode: number;
  readonly type: number;
  /** Of the first one in a chain this is the length of the chain. */
  readonly startPrevious: number;
  readonly startNext: number;
  readonly endPrevious: number;
  readonly endNext: number;
  readonly firstProperty: number;
  readonly firstInStartChain: boolean;
  readonly firstInEndChain: boolean;
}

/** The relationships of one type of a dense node: three chains. */
export interface GroupRecord {
  readonly inUse: boolean;
  readonly type: number;
  readonly nextGroup: number;
  readonly firstOutgoing: number;
  readonly firstIncoming: number;
  readonly firstLoop: number;
  readonly owningNode: number;
}

/** A reference of 32 low bits and a few high ones from elsewhere in the record. */
function reference(low: number, high: number): number {
  return low === NULL_LOW && high === 0 ? NO_ID : high * UNIT + low;
}

export function parseNode(bytes: Buffer, offset: number): NodeRecord {
  const header = bytes.readUInt8(offset);
  return {
    inUse: (header & 1) !== 0,
    dense: (bytes.readUInt8(offset + 14) & 1) !== 0,
    firstRelationship: reference(bytes.readUInt32BE(offset + 1), (header >> 1) & 0b111),
    firstProperty: reference(bytes.readUInt32BE(offset + 5), header >> 4),
    labelField: bytes.readUInt8(offset + 13) * UNIT + bytes.readUInt32BE(offset + 9),
  };
}

export function parseRelationship(bytes: Buffer, offset: number): RelationshipRecord {
  const header = bytes.readUInt8(offset);
  const typeAndHigh = bytes.readUInt32BE(offset + 9);
  const high = (shift: number): number => (typeAndHigh >>> shift) & 0b111;
  const chains = bytes.readUInt8(offset + 33);
  return {
    inUse: (header & 1) !== 0,
    startNode: reference(bytes.readUInt32BE(offset + 1), (header >> 1) & 0b111),
    endNode: reference(bytes.readUInt32BE(offset + 5), high(28)),
    type: typeAndHigh & 0xffff,
    startPrevious: reference(bytes.readUInt32BE(offset + 13), high(25)),
    startNext: reference(bytes.readUInt32BE(offset + 17), high(22)),
    endPrevious: reference(bytes.readUInt32BE(offset + 21), high(19)),
    endNext: reference(bytes.readUInt32BE(offset + 25), high(16)),
    firstProperty: reference(bytes.readUInt32BE(offset + 29), header >> 4),
    firstInStartChain: (chains & FIRST_IN_START_CHAIN) !== 0,
    firstInEndChain: (chains & FIRST_IN_END_CHAIN) !== 0,
  };
}

export function parseGroup(bytes: Buffer, offset: number): GroupRecord {
  const header = bytes.readUInt8(offset);
  const incoming = bytes.readUInt8(offset + 1);
  return {
    inUse: (header & 1) !== 0,
    type: bytes.readUInt16BE(offset + 2),
    nextGroup: reference(bytes.readUInt32BE(offset + 4), (header >> 1) & 0b111),
    firstOutgoing: reference(bytes.readUInt32BE(offset + 8), (header >> 4) & 0b111),
    firstIncoming: reference(bytes.readUInt32BE(offset + 12), (incoming >> 1) & 0b111),
    firstLoop: reference(bytes.readUInt32BE(offset + 16), (incoming >> 4) & 0b111),
    owningNode: reference(bytes.readUInt32BE(offset + 20), bytes.readUInt8(offset + 24)),
  };
}
