/**
 * A snapshot of one database, taken from files that a server may be writing: the six steps of docs/design.md.
 * The caller copies the members in the order in which they are given, asks each atomic one to be confirmed, and only
 * then takes the tail. A backup server offers the same over the network.
 */
import { join } from 'node:path';
import { type MemberSource, memberFromBytes } from '../artifact/membersource.ts';
import { GraphkeepError } from '../errors.ts';
import { FormatError } from '../formats/formaterror.ts';
import { NEOSTORE_BYTES_MIN, type Neostore, parseNeostore } from '../formats/neostore.ts';
import { isSameStore, type StoreId } from '../formats/storeid.ts';
import { type LogPosition, writeCheckpointFile } from '../formats/txlog/checkpoint.ts';
import { LOG_HEADER_BYTES } from '../formats/txlog/header.ts';
import { BACKUP_ATTEMPTS_MAX } from '../limits.ts';
import type { DatabaseFolders } from '../neo4j/folders.ts';
import { openForReading } from '../storage/local.ts';
import { type Fence, readFence } from './fence.ts';
import type { Aside, OpenGroup, SnapshotGroup } from './group.ts';
import { pinFile } from './logfolder.ts';
import { membersOfTail } from './logmembers.ts';
import { LogPins } from './logpins.ts';
import { openLuceneIndex } from './luceneindex.ts';
import { readExactly } from './member.ts';
import { namingItsEnd } from './namedtransaction.ts';
import { startPinThread } from './pinthread.ts';
import { stageGroup } from './staged.ts';
import {
  listStore,
  MANDATORY_FILES,
  METADATA_STORE,
  type StoreListing,
  wholePagesBytes,
} from './storefiles.ts';
import { readTail, type Tail, type TailFacts, tailStartOf } from './tail.ts';
import { openTree } from './tree.ts';

/** Where the copy recovers from. */
export interface FencePoint {
  readonly position: LogPosition;
  readonly appendIndex: bigint;
  readonly checkpointFile: string;
}

export interface Snapshot {
  readonly neostore: Neostore;
  readonly fence: FencePoint;
  /** Everything of the store folder but `neostore`, in the order in which it is to be copied. */
  readonly groups: readonly SnapshotGroup[];
  /** Paths that no copy takes, with the reason for the user. */
  readonly leftOut: readonly string[];
  /** Sum of the sizes at this moment; the real one may be larger. */
  readonly estimatedBytes: number;
  /** Reads the end of the log. Only after the last member of `groups` was read. */
  takeTail(signal?: AbortSignal): Promise<TailFacts>;
  /** What completes the artifact, in order: the log of the tail taken, then `neostore`, then the checkpoint file. */
  finalMembers(): Promise<MemberSource[]>;
  close(): Promise<void>;
}

/** Of files on this host: what is known of its log includes the open files. */
export interface LocalSnapshot extends Snapshot {
  takeTail(signal?: AbortSignal): Promise<Tail>;
}

const SUPPORTED_FAMILIES = ['aligned', 'standard'];

/** Identifies, pins and fences. @throws GK_NOT_FOUND, GK_UNSUPPORTED, GK_STORE_DAMAGED, GK_SOURCE_MOVED */
export async function openLocalSnapshot(folders: DatabaseFolders): Promise<LocalSnapshot> {
  const listing = await listStore(folders.storeDirectory);
  const neostore = await readIdentity(folders.storeDirectory);
  refuseIncomplete(folders.storeDirectory, listing);
  const { fence, pins } = await pinFromFence(folders.logDirectory, neostore.storeId);
  try {
    const estimatedBytes = await estimateBytes(folders.storeDirectory, listing, pins);
    let tail: Tail | undefined;
    return {
      neostore,
      fence: fencePointOf(fence),
      groups: groupsOf(folders.storeDirectory, listing, neostore.storeId.family),
      leftOut: listing.unknownIndexes,
      estimatedBytes,
      takeTail: async (signal) => {
        await pins.refresh();
        tail = await readTail(pins.pinned(), tailStartOf(fence), neostore.storeId, signal);
        return tail;
      },
      finalMembers: () => finalMembers(folders, fence, requireTail(tail)),
      close: () => pins.close(),
    };
  } catch (error) {
    await pins.close();
    throw error;
  }
}

function fencePointOf({ checkpoint, fileName }: Fence): FencePoint {
  return {
    position: checkpoint.position,
    appendIndex: checkpoint.appendIndex,
    checkpointFile: fileName,
  };
}

/** @throws GK_INTERNAL when the log is asked for before its end was read */
export function requireTail<Taken>(tail: Taken | undefined): Taken {
  if (tail === undefined) throw new GraphkeepError('GK_INTERNAL', 'the end of the log was not read yet');
  return tail;
}

/** Whose store it is. @throws GK_NOT_FOUND, GK_UNSUPPORTED */
export async function readIdentity(directory: string): Promise<Neostore> {
  const path = join(directory, METADATA_STORE);
  const file = await openForReading(path);
  try {
    const bytes = Buffer.alloc(NEOSTORE_BYTES_MIN);
    const got = await file.read(bytes, 0);
    const neostore = parseNeostore(bytes.subarray(0, got));
    refuseUnsupported(directory, neostore.storeId);
    return neostore;
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new GraphkeepError('GK_UNSUPPORTED', `${path}: ${error.message}`, {
      hint: 'graphkeep reads stores of Neo4j 5.0 and later; migrate older ones with neo4j-admin database migrate',
      cause: error,
    });
  } finally {
    await file.close();
  }
}

function refuseUnsupported(directory: string, storeId: StoreId): void {
  if (storeId.engine === 'record' && SUPPORTED_FAMILIES.includes(storeId.family)) return;
  throw new GraphkeepError(
    'GK_UNSUPPORTED',
    `${directory} is a ${storeId.engine} store of format ${storeId.family}`,
    {
      hint: 'graphkeep backs up the record formats aligned and standard; others could not be proven',
    },
  );
}

function refuseIncomplete(directory: string, listing: StoreListing): void {
  const present = new Set(listing.files.map((file) => file.path));
  const missing = MANDATORY_FILES.filter((name) => !present.has(name));
  if (missing.length === 0) return;
  throw new GraphkeepError('GK_STORE_DAMAGED', `${directory} lacks ${missing.join(', ')}`, {
    hint: 'Neo4j cannot start with this store; restore it from a backup',
  });
}

/**
 * Pins the log before it trusts the fence: between reading the checkpoint and opening its log file, a newer
 * checkpoint may have pruned that file. Then a newer fence is there to be read.
 */
async function pinFromFence(
  logDirectory: string,
  storeId: StoreId,
): Promise<{ fence: Fence; pins: LogPins }> {
  // Not after the fence was read: what is pruned while the thread starts would be what the fence needs.
  await startPinThread();
  for (let attempt = 1; ; attempt++) {
    const fence = await readFence(logDirectory);
    if (!isSameStore(fence.checkpoint.storeId, storeId)) {
      throw new GraphkeepError(
        'GK_STORE_DAMAGED',
        `${fence.fileName} in ${logDirectory} belongs to another store`,
        {
          hint: 'the two folders of the database do not fit together; Neo4j would refuse them, too',
        },
      );
    }
    const { logVersion, offsetBytes } = fence.checkpoint.position;
    refuseStrangePosition(fence);
    const pins = new LogPins(logDirectory, logVersion);
    const held = await heldFence(pins, fence);
    if (held !== undefined) return { fence: held, pins };
    await pins.close();
    if (attempt >= BACKUP_ATTEMPTS_MAX) {
      throw new GraphkeepError(
        'GK_STORE_DAMAGED',
        `the newest checkpoint in ${logDirectory} needs byte ${offsetBytes} of log file ${logVersion}, which is not there`,
      );
    }
  }
}

function refuseStrangePosition({ fileName, checkpoint }: Fence): void {
  const { position, oldestPosition } = checkpoint;
  if (position.offsetBytes < LOG_HEADER_BYTES) {
    throw new GraphkeepError(
      'GK_STORE_DAMAGED',
      `${fileName} names byte ${position.offsetBytes} of a log as its position`,
    );
  }
  if (
    position.logVersion === oldestPosition.logVersion &&
    position.offsetBytes === oldestPosition.offsetBytes
  )
    return;
  // Only Enterprise formats keep transactions open across a checkpoint; the log before it would be needed as well.
  throw new GraphkeepError('GK_UNSUPPORTED', `${fileName} was written while an older transaction was open`);
}

/** What the copy recovers from; undefined when the log file that it needs is gone. */
async function heldFence(pins: LogPins, fence: Fence): Promise<Fence | undefined> {
  const { logVersion, offsetBytes } = fence.checkpoint.position;
  try {
    await pins.refresh();
    const first = pins.pinned()[0];
    if (first?.version !== logVersion || (await first.handle.stat()).size < offsetBytes) return undefined;
    return await namingItsEnd(fence, first);
  } catch (error) {
    await pins.close();
    throw error;
  }
}

function groupsOf(directory: string, listing: StoreListing, family: string): SnapshotGroup[] {
  const replayable = listing.files.filter((file) => file.kind === 'replayable');
  const trees = listing.files.filter((file) => file.kind === 'tree');
  return [
    ...replayable.map((file) => ({
      path: file.path,
      rebuildable: false,
      open: () => openReplayable(directory, file.path, family),
    })),
    ...trees.map((file) => ({
      path: file.path,
      rebuildable: true,
      open: (aside?: Aside) => openAtRest(() => openTree(directory, file.path), aside),
    })),
    ...listing.luceneIndexes.map((path) => ({
      path,
      rebuildable: true,
      open: (aside?: Aside) => openAtRest(() => openLuceneIndex(directory, path), aside),
    })),
  ];
}

async function openAtRest(
  open: () => Promise<OpenGroup | undefined>,
  aside: Aside | undefined,
): Promise<OpenGroup | undefined> {
  const group = await open();
  return group === undefined || aside === undefined
    ? group
    : stageGroup(group, aside.directory, aside.signal);
}

/** A record store as it is: the log repairs every page that changes meanwhile. */
async function openReplayable(directory: string, path: string, family: string): Promise<OpenGroup> {
  const file = await openForReading(join(directory, path));
  const bytes = wholePagesBytes(path, family, file.bytes);
  const read = (target: Buffer, position: number): Promise<void> => readExactly(file, target, position);
  return {
    members: [{ path, kind: 'store', bytes, read }],
    confirm: async () => true,
    close: () => file.close(),
  };
}

async function finalMembers(folders: DatabaseFolders, fence: Fence, tail: Tail): Promise<MemberSource[]> {
  const neostorePath = join(folders.storeDirectory, METADATA_STORE);
  const file = await openForReading(neostorePath);
  const neostore = Buffer.alloc(file.bytes);
  await readExactly(file, neostore, 0).finally(() => file.close());
  const { checkpoint, fileBytes } = fence;
  const position = { logVersion: checkpoint.position.logVersion, offsetBytes: BigInt(LOG_HEADER_BYTES) };
  const checkpointFile = writeCheckpointFile(fileBytes, checkpoint, position);
  return [
    ...(await membersOfTail(tail)),
    memberFromBytes(METADATA_STORE, 'store', neostore),
    memberFromBytes(fence.fileName, 'checkpoint', checkpointFile),
  ];
}

async function estimateBytes(directory: string, listing: StoreListing, pins: LogPins): Promise<number> {
  let sum = 0;
  for (const file of listing.files) {
    const handle = await pinFile(join(directory, file.path));
    if (handle === undefined) continue;
    sum += (await handle.stat()).size;
    await handle.close();
  }
  const finished = pins.pinned().slice(0, -1);
  for (const pin of finished) sum += (await pin.handle.stat()).size;
  return sum;
}
