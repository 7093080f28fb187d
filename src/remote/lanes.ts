/**
 * Further servers that hold the same store, from which parts of the record stores are fetched beside the first one. Right
 * is that for the reason that makes any hot copy right: pages of different moments are healed by the log, if it begins
 * before the oldest of them and ends behind the newest. The log is that of the first server. So a further one
 * - must have a checkpoint that is not older than the fence: then all that lies before the fence is in its pages;
 * - must not be ahead of the end of the log, and its last transaction must be the same one in it.
 * Trees and Lucene indexes, which the log does not heal, come from the first server alone.
 */
import type { TransactionMark } from '../chain/summary.ts';
import { GraphkeepError } from '../errors.ts';
import { databaseIdOf } from '../formats/neostore.ts';
import { isSameStore } from '../formats/storeid.ts';
import { TAR_BLOCK_BYTES } from '../formats/tar.ts';
import type { TailFacts } from '../hotcopy/tail.ts';
import { FRAME_RAW_BYTES, RANGE_BYTES } from '../limits.ts';
import type { FetchFrame } from './packed.ts';
import { type OpenedSnapshot, parseMember, parseTail, type RemoteMember } from './protocol.ts';
import type { ReadRange } from './ranges.ts';
import type { RemoteSession } from './remotesession.ts';

/** One further server. It is left out from the first failure on: the first server has everything. */
export class Lane {
  readonly address: string;
  readonly #session: RemoteSession;
  readonly #groups: ReadonlyMap<string, number>;
  #isUsable = true;
  #hasDelivered = false;

  constructor(address: string, session: RemoteSession, opened: OpenedSnapshot) {
    this.address = address;
    this.#session = session;
    this.#groups = new Map(opened.groups.map(({ path }, number) => [path, number]));
  }

  /** What keeps a server from being one; undefined when nothing does. */
  static obstacle(first: OpenedSnapshot, other: OpenedSnapshot): string | undefined {
    const isSame =
      isSameStore(first.neostore.storeId, other.neostore.storeId) &&
      databaseIdOf(first.neostore).equals(databaseIdOf(other.neostore));
    if (!isSame) return 'it holds another store';
    if (other.fence.appendIndex >= first.fence.appendIndex) return undefined;
    return `its last checkpoint is at transaction ${other.fence.appendIndex}, before ${first.fence.appendIndex}`;
  }

  /** The members of a record store there, by path; none when the server is left out. */
  async openGroup(path: string): Promise<ReadonlyMap<string, LaneMember>> {
    const number = this.#groups.get(path);
    if (number === undefined || !this.#isUsable) return new Map();
    const opened = await this.#attempt(async () => {
      const { answer } = await this.#session.step(`groups/${number}/open`, { staged: false });
      return answer.has('members') ? answer.list('members', parseMember) : [];
    });
    return new Map((opened ?? []).map((member) => [member.path, this.#memberOf(member)]));
  }

  #memberOf(member: RemoteMember): LaneMember {
    const { readRangeOnce, fetchFrame } = this.#session.readersOf(member);
    return {
      bytes: member.bytes,
      readRange: async (startBytes, target, signal) =>
        (await this.#attempt(() => readRangeOnce(startBytes, target, signal))) ?? false,
      fetchFrame: (offset, form, target, signal) =>
        this.#attempt(() => fetchFrame(offset, form, target, signal)),
    };
  }

  /**
   * How far its pages may have come; undefined when none of them was taken. Asked after the last page.
   * @throws GK_SOURCE_MOVED when it does not answer any more: then its pages cannot be vouched for
   */
  async takeTail(): Promise<TailFacts | undefined> {
    if (!this.#hasDelivered) return undefined;
    try {
      const { answer } = await this.#session.step('tail');
      return parseTail(answer);
    } catch (error) {
      if (!(error instanceof GraphkeepError) || error.code === 'GK_INTERRUPTED') throw error;
      throw new GraphkeepError(
        'GK_SOURCE_MOVED',
        `${this.address} gave a part of the copy and cannot tell its end: ${error.message}`,
        { cause: error },
      );
    }
  }

  close(): Promise<void> {
    return this.#session.close();
  }

  async #attempt<Result>(work: () => Promise<Result>): Promise<Result | undefined> {
    if (!this.#isUsable) return undefined;
    try {
      const result = await work();
      if (result === undefined || result === false) this.#isUsable = false;
      else this.#hasDelivered = true;
      return result;
    } catch (error) {
      if (error instanceof GraphkeepError && error.code === 'GK_INTERRUPTED') throw error;
      this.#isUsable = false;
      return undefined;
    }
  }
}

/** A member on a further server. */
export interface LaneMember {
  readonly bytes: number;
  /** false when the server is left out from now on. */
  readonly readRange: (startBytes: number, target: Buffer, signal: AbortSignal) => Promise<boolean>;
  readonly fetchFrame: FetchFrame;
}

/** Reads of a member, spread over the first server and the further ones that hold that part of it. */
export function spreadReads(
  first: { readonly readRange: ReadRange; readonly fetchFrame: FetchFrame },
  lanes: readonly LaneMember[],
): { readonly readRange: ReadRange; readonly fetchFrame: FetchFrame } {
  if (lanes.length === 0) return first;
  /** undefined is the first server. */
  const laneOf = (piece: number): LaneMember | undefined => lanes[(piece % (lanes.length + 1)) - 1];
  return {
    readRange: async (startBytes, target, signal) => {
      const lane = laneOf(Math.floor(startBytes / RANGE_BYTES));
      const isThere = lane !== undefined && startBytes + target.length <= lane.bytes;
      if (isThere && (await lane.readRange(startBytes, target, signal))) return;
      await first.readRange(startBytes, target, signal);
    },
    fetchFrame: async (offset, form, target, signal) => {
      const lane = laneOf(offset / FRAME_RAW_BYTES);
      // Header and padding of the entry depend on the length of the file, which may be another one there.
      const isInside = offset > 0 && offset + FRAME_RAW_BYTES <= TAR_BLOCK_BYTES + (lane?.bytes ?? 0);
      const stored = isInside ? await lane?.fetchFrame(offset, form, target, signal) : undefined;
      return stored ?? first.fetchFrame(offset, form, target, signal);
    },
  };
}

/** How far a further server had come when the last page was read; undefined when it gave none. */
export interface LaneEnd {
  readonly address: string;
  readonly tail: TailFacts | undefined;
}

/**
 * Whether the log of the first server covers what a further one had done.
 * @param holds whether the log of the first server holds a transaction of that number and checksum
 * @throws GK_SOURCE_MOVED when it does not: the copy may hold pages that nothing heals
 */
export async function requireCovered(
  lane: LaneEnd,
  first: TailFacts,
  holds: (mark: TransactionMark) => Promise<boolean>,
): Promise<void> {
  if (lane.tail === undefined) return;
  const { highestAppendIndex: appendIndex, highestChecksum: checksum } = lane.tail;
  const isCovered =
    appendIndex === first.highestAppendIndex
      ? checksum === first.highestChecksum
      : appendIndex < first.highestAppendIndex && (await holds({ appendIndex, checksum }));
  if (isCovered) return;
  throw new GraphkeepError(
    'GK_SOURCE_MOVED',
    `${lane.address} is at transaction ${appendIndex}, which the log of the first server does not hold`,
  );
}
