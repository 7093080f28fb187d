/**
 * What travels between a backup server and its clients: docs/protocol.md. Pure pairs of `writeX` (server, or client for
 * requests) and `parseX`; both sides use these and nothing else, so that they cannot drift apart.
 */
import { storedBytesMax } from '../artifact/frame.ts';
import type { TransactionMark } from '../chain/summary.ts';
import { ERROR_TABLE, type ErrorCode, GraphkeepError } from '../errors.ts';
import { type IndexPosition, type MemberKind, writePosition } from '../formats/artifact/index.ts';
import { FormatError } from '../formats/formaterror.ts';
import type { Neostore } from '../formats/neostore.ts';
import { parseStoreId, writeStoreId } from '../formats/storeid.ts';
import { safeMemberPath } from '../formats/tar.ts';
import type { LogPosition } from '../formats/txlog/checkpoint.ts';
import type { Search } from '../hotcopy/logafter.ts';
import type { FencePoint } from '../hotcopy/snapshot.ts';
import type { TailFacts } from '../hotcopy/tail.ts';
import { METADATA_SCRIPT_BYTES_MAX, WHOLE_GROUP_BYTES_MAX } from '../limits.ts';
import type { Fields } from './fields.ts';

/** Part of every path; another number is another protocol. */
export const PROTOCOL_VERSION = 'v1';
/** CRC-32 of the bytes of a range, in hexadecimal: connections without TLS, and proxies, prove nothing themselves. */
export const CHECKSUM_HEADER = 'graphkeep-crc32';
/**
 * The name that a client gives a request, and that the answer carries: HTTP/1.1 tells by the order alone which answer
 * belongs to which request, and one too many, of a server or a proxy, would put all later ones out of step.
 */
export const NAME_HEADER = 'graphkeep-request';
const REQUEST_NAME = /^[\w-]{1,64}$/;

/** Of a request: what its answer is to carry; undefined when it has no name, or none that an answer can be trusted with. */
export function parseRequestName(header: string | readonly string[] | undefined): string | undefined {
  return typeof header === 'string' && REQUEST_NAME.test(header) ? header : undefined;
}

const UUID_BYTES = 16;
const STORE_ID_BYTES_MAX = 1024;

export type SessionKind = 'snapshot' | 'log';

/** A member of an open group or of a tail: fetched by number. */
export interface RemoteMember {
  readonly number: number;
  readonly path: string;
  readonly kind: MemberKind;
  readonly bytes: number;
}

/** A member of a group that is in the answer to its opening: nothing more is asked for. */
export interface WholeMember {
  readonly path: string;
  readonly kind: MemberKind;
  readonly bytes: number;
  /** One frame of zstd, with a checksum. */
  readonly packed: Buffer;
}

export function writeWholeMember({ packed, ...facts }: WholeMember): object {
  return { ...facts, packed: packed.toString('base64') };
}

/** @throws GK_PROTOCOL also for one that is larger than what is ever sent so */
export function parseWholeMember(fields: Fields): WholeMember {
  const packed = fields.bytes('packed', storedBytesMax(WHOLE_GROUP_BYTES_MAX));
  const facts = parseMemberFacts(fields);
  if (facts.bytes > WHOLE_GROUP_BYTES_MAX)
    throw new GraphkeepError('GK_PROTOCOL', `${facts.path} is too large to come with an answer`);
  return { ...facts, packed };
}

const MEMBER_KINDS: readonly MemberKind[] = ['store', 'log', 'checkpoint'];

export function parseMember(fields: Fields): RemoteMember {
  return { number: fields.count('number'), ...parseMemberFacts(fields) };
}

/** A path in an answer becomes a name in an artifact: one that leaves its folder must not get that far. */
function parseMemberFacts(fields: Fields): Omit<RemoteMember, 'number'> {
  const kind = MEMBER_KINDS.find((known) => known === fields.text('kind'));
  if (kind === undefined)
    throw new GraphkeepError('GK_PROTOCOL', 'the answer names a member of an unknown kind');
  return { path: safePath(fields.text('path')), kind, bytes: fields.count('bytes') };
}

function safePath(path: string): string {
  return refusingBadForm(() => safeMemberPath(path));
}

function refusingBadForm<Result>(parse: () => Result): Result {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new GraphkeepError('GK_PROTOCOL', `the answer cannot be read: ${error.message}`, { cause: error });
  }
}

export function writeNeostore({ storeId, externalStoreUuid, databaseUuid }: Neostore): object {
  return {
    storeId: writeStoreId(storeId).toString('base64'),
    externalStoreUuid: externalStoreUuid.toString('base64'),
    ...(databaseUuid === undefined ? {} : { databaseUuid: databaseUuid.toString('base64') }),
  };
}

export function parseNeostoreFields(fields: Fields): Neostore {
  const storeId = fields.bytes('storeId', STORE_ID_BYTES_MAX);
  return {
    storeId: refusingBadForm(() => parseStoreId(storeId).storeId),
    externalStoreUuid: parseUuid(fields, 'externalStoreUuid'),
    databaseUuid: fields.has('databaseUuid') ? parseUuid(fields, 'databaseUuid') : undefined,
  };
}

function parseUuid(fields: Fields, key: string): Buffer {
  const bytes = fields.bytes(key, UUID_BYTES);
  if (bytes.length !== UUID_BYTES) throw new GraphkeepError('GK_PROTOCOL', `the answer has no usable ${key}`);
  return bytes;
}

export interface OpenedSnapshot {
  readonly neostore: Neostore;
  readonly fence: FencePoint;
  readonly groups: readonly { readonly path: string; readonly rebuildable: boolean }[];
  readonly leftOut: readonly string[];
  readonly estimatedBytes: number;
}

export function writeFence({ position, appendIndex, checkpointFile }: FencePoint): object {
  return { ...writePosition(position), appendIndex: String(appendIndex), checkpointFile };
}

export function parseOpenedSnapshot(answer: Fields): OpenedSnapshot {
  const fence = answer.fields('fence');
  return {
    neostore: parseNeostoreFields(answer.fields('neostore')),
    fence: {
      position: parsePosition(fence),
      appendIndex: fence.large('appendIndex'),
      checkpointFile: safePath(fence.text('checkpointFile')),
    },
    groups: answer.list('groups', (group) => ({
      path: safePath(group.text('path')),
      rebuildable: group.flag('rebuildable'),
    })),
    leftOut: answer.texts('leftOut').map(safePath),
    estimatedBytes: answer.count('estimatedBytes'),
  };
}

export function parsePosition(fields: Fields): LogPosition {
  return { logVersion: fields.large('logVersion'), offsetBytes: fields.large('offsetBytes') };
}

export function writeTail(tail: TailFacts): object {
  return {
    appendIndexBefore: String(tail.appendIndexBefore),
    highestAppendIndex: String(tail.highestAppendIndex),
    highestChecksum: tail.highestChecksum,
    latestCommitMillis: String(tail.latestCommitMillis),
    transactions: String(tail.transactions),
    end: writePosition(tail.end),
  };
}

export function parseTail(fields: Fields): TailFacts {
  return {
    appendIndexBefore: fields.large('appendIndexBefore'),
    highestAppendIndex: fields.large('highestAppendIndex'),
    highestChecksum: fields.count('highestChecksum'),
    latestCommitMillis: fields.large('latestCommitMillis'),
    transactions: fields.large('transactions'),
    end: parsePosition(fields.fields('end')),
  };
}

export interface WrittenMark {
  readonly appendIndex: string;
  readonly checksum: number;
}

export function writeMark({ appendIndex, checksum }: TransactionMark): WrittenMark {
  return { appendIndex: String(appendIndex), checksum };
}

export function parseMark(fields: Fields): TransactionMark {
  return { appendIndex: fields.large('appendIndex'), checksum: fields.count('checksum') };
}

export interface FindRequest extends WrittenMark {
  readonly hint?: IndexPosition;
}

export function writeSearch(search: Search): object {
  if (search.status === 'found') return { status: 'found', position: writePosition(search.position) };
  if (search.status === 'pruned')
    return { status: 'pruned', lowestAvailable: String(search.lowestAvailable) };
  return { status: 'diverged' };
}

export function parseSearch(fields: Fields): Search {
  const status = fields.text('status');
  if (status === 'found') return { status, position: parsePosition(fields.fields('position')) };
  if (status === 'pruned') return { status, lowestAvailable: fields.large('lowestAvailable') };
  if (status === 'diverged') return { status };
  throw new GraphkeepError('GK_PROTOCOL', 'the answer to a search for a transaction is none');
}

/** Where a differential begins. */
export interface WrittenStart extends WrittenMark {
  readonly position: IndexPosition;
  readonly commitTimeMillis: string;
}

export interface LogStart {
  readonly mark: TransactionMark;
  readonly position: LogPosition;
  readonly commitTimeMillis: bigint;
}

export function writeStart({ mark, position, commitTimeMillis }: LogStart): WrittenStart {
  return {
    ...writeMark(mark),
    position: writePosition(position),
    commitTimeMillis: String(commitTimeMillis),
  };
}

export function parseStart(fields: Fields): LogStart {
  return {
    mark: parseMark(fields),
    position: parsePosition(fields.fields('position')),
    commitTimeMillis: fields.large('commitTimeMillis'),
  };
}

/** What a client tells after a backup, for the metrics and the audit of the server. */
export interface BackupReport {
  readonly succeeded: boolean;
  readonly kind: 'full' | 'differential';
  readonly durationMs: number;
  readonly artifactBytes: number;
  /** Stable code of what failed. */
  readonly errorCode?: ErrorCode;
}

export function parseReport(fields: Fields): BackupReport {
  return {
    succeeded: fields.flag('succeeded'),
    kind: fields.text('kind') === 'full' ? 'full' : 'differential',
    durationMs: fields.count('durationMs'),
    artifactBytes: fields.count('artifactBytes'),
    ...(fields.has('errorCode') ? { errorCode: knownCode(fields.text('errorCode')) } : {}),
  };
}

/** Codes become names of metrics: a client must not be able to make any number of these. */
export function knownCode(code: string): ErrorCode {
  return Object.hasOwn(ERROR_TABLE, code) ? (code as ErrorCode) : 'GK_FAILED';
}

/** Which users and roles are asked for; `names` limits the users. */
export type MetadataInclude =
  | { readonly kind: 'all' | 'roles' }
  | { readonly kind: 'users'; readonly names?: readonly string[] };

export interface MetadataAnswer {
  readonly text: string;
  readonly userCount: number;
  readonly roleCount: number;
}

export function parseInclude(fields: Fields): MetadataInclude {
  const kind = fields.text('kind');
  if (kind === 'all' || kind === 'roles') return { kind };
  if (kind !== 'users') throw new GraphkeepError('GK_PROTOCOL', 'the request names no users and roles');
  return fields.has('names') ? { kind, names: fields.texts('names') } : { kind };
}

export function parseMetadata(fields: Fields): MetadataAnswer {
  return {
    text: fields.text('text', METADATA_SCRIPT_BYTES_MAX),
    userCount: fields.count('userCount'),
    roleCount: fields.count('roleCount'),
  };
}
