/** The metadata store `neostore`: 13 slots of `u8 inUse, i64 value`, big-endian. Source: formats.md §5. */
import { FormatError } from './formaterror.ts';
import { parseStoreId, STORE_ID_FIXED_BYTES, type StoreId } from './storeid.ts';

const SLOT_BYTES = 9;
const SLOT_COUNT = 13;
/** Slot 4 holds this in every store of 5.0 and later; a 4.x store has another layout. */
const METADATA_MARK = 0xcf1bbcdcb7a56463n;
export const NEOSTORE_BYTES_MIN = SLOT_BYTES * SLOT_COUNT;

export interface Neostore {
  readonly storeId: StoreId;
  /** Identity of the store for the outside world; random, made with the store. */
  readonly externalStoreUuid: Buffer;
  /** Set only where a cluster seeded the database. */
  readonly databaseUuid: Buffer | undefined;
}

/** @throws FormatError when the bytes are not the metadata of a 5.x or later record store. */
export function parseNeostore(bytes: Buffer): Neostore {
  if (bytes.length < NEOSTORE_BYTES_MIN) throw new FormatError('metadata store is shorter than its 13 slots');
  if (BigInt.asUintN(64, slot(bytes, 4).value) !== METADATA_MARK) {
    throw new FormatError('metadata store does not carry the mark of Neo4j 5.0 and later');
  }
  const storeIdBytes = Buffer.alloc(STORE_ID_FIXED_BYTES);
  for (let index = 0; index < 8; index++)
    storeIdBytes.writeBigInt64BE(slot(bytes, 5 + index).value, index * 8);
  return {
    storeId: parseStoreId(storeIdBytes).storeId,
    externalStoreUuid: uuid(bytes, 0),
    databaseUuid: slot(bytes, 2).inUse && slot(bytes, 3).inUse ? uuid(bytes, 2) : undefined,
  };
}

/** What a database is known by, 16 bytes: its own id where a cluster gave it one, otherwise that of its store. */
export function databaseIdOf({ databaseUuid, externalStoreUuid }: Neostore): Buffer {
  return databaseUuid ?? externalStoreUuid;
}

function slot(bytes: Buffer, index: number): { inUse: boolean; value: bigint } {
  return {
    inUse: bytes.readUInt8(index * SLOT_BYTES) !== 0,
    value: bytes.readBigInt64BE(index * SLOT_BYTES + 1),
  };
}

function uuid(bytes: Buffer, firstSlot: number): Buffer {
  const result = Buffer.alloc(16);
  result.writeBigInt64BE(slot(bytes, firstSlot).value, 0);
  result.writeBigInt64BE(slot(bytes, firstSlot + 1).value, 8);
  return result;
}

/** Canonical text of a 16-byte UUID. */
export function formatUuid(bytes: Buffer): string {
  const hex = bytes.toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join(
    '-',
  );
}
