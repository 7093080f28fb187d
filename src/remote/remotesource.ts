/**
 * Backups of the databases of another host: a snapshot and a log as the local ones are, held open by a session of the
 * backup server there. The server proves the log; every range is proven by its checksum on the way.
 */
import { randomBytes } from 'node:crypto';
import type { MemberSource } from '../artifact/membersource.ts';
import type { TransactionMark } from '../chain/summary.ts';
import { asGraphkeepError, GraphkeepError, throwIfAborted } from '../errors.ts';
import { writePosition } from '../formats/artifact/index.ts';
import type { Neostore } from '../formats/neostore.ts';
import type { LogPosition } from '../formats/txlog/checkpoint.ts';
import type { SnapshotGroup } from '../hotcopy/group.ts';
import type { LogSource, Search } from '../hotcopy/logafter.ts';
import { requireTail, type Snapshot } from '../hotcopy/snapshot.ts';
import type { BackupSource } from '../hotcopy/source.ts';
import type { TailFacts } from '../hotcopy/tail.ts';
import { RENEWALS_PER_TIMEOUT, SESSION_CLOSE_MS_MAX } from '../limits.ts';
import type { Connection } from './connection.ts';
import type { Fields } from './fields.ts';
import { Lane, type LaneEnd, type LaneMember, requireCovered, spreadReads } from './lanes.ts';
import { type FetchFrame, type FetchHash, FramesAhead } from './packed.ts';
import {
  type OpenedSnapshot,
  PROTOCOL_VERSION,
  parseMember,
  parseNeostoreFields,
  parseOpenedSnapshot,
  parseSearch,
  parseTail,
  type RemoteMember,
  type SessionKind,
  writeMark,
  writeStart,
} from './protocol.ts';
import { type RangedMember, type ReadRange, rangedMember } from './ranges.ts';

/**
 * @param others further servers that parts of the record stores are fetched from, if they hold the same store
 * @param onNotice told of one that does not
 */
export function remoteSource(
  connection: Connection,
  name: string,
  others: readonly Connection[] = [],
  onNotice: (message: string) => void = () => undefined,
): BackupSource {
  const openLog = (signal?: AbortSignal): Promise<RemoteLog> =>
    RemoteSession.open(
      connection,
      { name, kind: 'log' },
      signal,
      (session, answer) => new RemoteLog(session, parseNeostoreFields(answer.fields('neostore'))),
    );
  // What was not covered once will not be the next time: the copy starts anew with one server.
  let helpers = others;
  const requireEnd = async (end: LaneEnd, tail: TailFacts, signal?: AbortSignal): Promise<void> => {
    try {
      await requireCovered(end, tail, (mark) => isInLog(openLog(signal), mark));
    } catch (error) {
      helpers = [];
      throw error;
    }
  };
  return {
    name,
    openLog,
    openSnapshot: async (signal) => {
      const opened = await openSnapshot(connection, name, signal);
      const lanes = await openLanes(opened, helpers, { name, signal, onNotice });
      return remoteSnapshot(opened, lanes, (end, tail) => requireEnd(end, tail, signal));
    },
  };
}

async function isInLog(opening: Promise<RemoteLog>, mark: TransactionMark): Promise<boolean> {
  const log = await opening;
  try {
    return (await log.find(mark, undefined)).status === 'found';
  } finally {
    await log.close();
  }
}

interface RemoteOpened {
  readonly session: RemoteSession;
  readonly facts: OpenedSnapshot;
}

function openSnapshot(
  connection: Connection,
  name: string,
  signal: AbortSignal | undefined,
): Promise<RemoteOpened> {
  return RemoteSession.open(connection, { name, kind: 'snapshot' }, signal, (session, answer) => ({
    session,
    facts: parseOpenedSnapshot(answer),
  }));
}

/** One that cannot help is told and done without. */
async function openLanes(
  first: RemoteOpened,
  others: readonly Connection[],
  {
    name,
    signal,
    onNotice,
  }: { name: string; signal: AbortSignal | undefined; onNotice: (message: string) => void },
): Promise<Lane[]> {
  const lanes: Lane[] = [];
  for (const connection of others) {
    const opened = await openSnapshot(connection, name, signal).catch((error: unknown) => {
      throwIfAborted(signal);
      return asGraphkeepError(error, `open ${name} on ${connection.address}`);
    });
    if (opened instanceof GraphkeepError) {
      onNotice(`${connection.address} is not used for ${name}: ${opened.message}`);
      continue;
    }
    const { session, facts } = opened;
    const obstacle = Lane.obstacle(first.facts, facts);
    if (obstacle === undefined) lanes.push(new Lane(connection.address, session, facts));
    else {
      onNotice(`${connection.address} is not used for ${name}: ${obstacle}`);
      await session.close();
    }
  }
  return lanes;
}

/**
 * Asked for without a session: what can be backed up there. Part of the first contact, so it is asked once: a server that
 * goes away in between is passed over, not waited for.
 */
export async function listRemoteDatabases(connection: Connection, signal?: AbortSignal): Promise<string[]> {
  const answer = await connection.requestOnce('GET', `/${PROTOCOL_VERSION}/databases`, undefined, signal);
  return answer.list('databases', (database) => database.text('name'));
}

/** How the bytes of one member come. */
export interface MemberReaders {
  readonly readRange: ReadRange;
  /** One try; false when the connection broke. */
  readonly readRangeOnce: (startBytes: number, target: Buffer, signal: AbortSignal) => Promise<boolean>;
  readonly fetchFrame: FetchFrame;
}

export class RemoteSession {
  readonly #connection: Connection;
  readonly #path: string;
  /** Ends everything that is under way: requested by the user, or since nobody waits for it any more. */
  readonly #stop = new AbortController();
  readonly #outer: AbortSignal | undefined;
  readonly #interrupt = (): void => this.#abort();
  readonly #members = new Set<RangedMember>();
  readonly #renewal: NodeJS.Timeout;
  #isRenewing = false;
  #stepNumber = 0;
  #closed: Promise<void> | undefined;

  private constructor(connection: Connection, answer: Fields, signal: AbortSignal | undefined) {
    this.#connection = connection;
    this.#path = `/${PROTOCOL_VERSION}/sessions/${encodeURIComponent(answer.text('session'))}`;
    this.#outer = signal;
    signal?.addEventListener('abort', this.#interrupt, { once: true });
    if (signal?.aborted) this.#abort();
    // A slow disk on this side, or a rate limit, must not look like a client that died.
    const everyMs = answer.count('expiresAfterMs') / RENEWALS_PER_TIMEOUT;
    this.#renewal = setInterval(() => this.#renew(), everyMs).unref();
  }

  /** Opens a session and makes of it what `use` makes; closes it when that fails. */
  static async open<Opened>(
    connection: Connection,
    { name: database, kind }: { readonly name: string; readonly kind: SessionKind },
    signal: AbortSignal | undefined,
    use: (session: RemoteSession, answer: Fields) => Opened,
  ): Promise<Opened> {
    // The name of the request: when the answer is lost, asking again gives the same session and not another one.
    const request = randomBytes(16).toString('hex');
    const path = `/${PROTOCOL_VERSION}/sessions`;
    const answer = await connection.request('POST', path, { database, kind, request }, signal);
    const session = new RemoteSession(connection, answer, signal);
    try {
      return use(session, answer);
    } catch (error) {
      await session.close();
      throw error;
    }
  }

  /** Each step has a number, by which the server knows one that is asked for again, or that comes too late. */
  async step(name: string, body: object = {}): Promise<{ answer: Fields; step: number }> {
    this.#stepNumber += 1;
    const step = this.#stepNumber;
    const path = `${this.#path}/${name}`;
    return {
      answer: await this.#connection.request('POST', path, { ...body, step }, this.#stop.signal),
      step,
    };
  }

  readersOf(member: RemoteMember): MemberReaders {
    const path = `${this.#path}/members/${member.number}`;
    return {
      readRange: (startBytes, target, signal) => this.#connection.readRange(path, startBytes, target, signal),
      readRangeOnce: (startBytes, target, signal) =>
        this.#connection.readRangeOnce(path, startBytes, target, signal),
      fetchFrame: (offset, { level, isHashed }, bytesMax, signal) => {
        const query = `level=${level}${isHashed ? '&hash=true' : ''}`;
        return this.#connection.readFrameOnce(`${path}/frames/${offset}?${query}`, bytesMax, signal);
      },
    };
  }

  #hashReaderOf({ number }: RemoteMember): FetchHash {
    return async (signal) => {
      const answer = await this.#connection.request(
        'GET',
        `${this.#path}/members/${number}/hash`,
        undefined,
        signal,
      );
      return answer.has('sha256') ? answer.sha256('sha256') : undefined;
    };
  }

  /** @param lanes the same member on further servers */
  memberOf(member: RemoteMember, lanes: readonly LaneMember[] = []): RangedMember {
    const { readRange, fetchFrame } = spreadReads(this.readersOf(member), lanes);
    const ranged = rangedMember(member, readRange);
    const fetchHash = lanes.length === 0 ? this.#hashReaderOf(member) : undefined;
    const frames = new FramesAhead(member, { readRange, fetchFrame, fetchHash });
    const both: RangedMember = {
      ...ranged,
      readPacked: (offset, level, mayStayPacked) => frames.read(offset, level, mayStayPacked),
      packedSha256: () => frames.sha256(),
      abandon: () => {
        ranged.abandon();
        frames.abandon();
      },
    };
    this.#members.add(both);
    return both;
  }

  /** Not waited for, and not missed when it fails: what is opened next, or the end of the session, closes it, too. */
  leaveGroup(group: number, step: number, members: readonly RangedMember[]): void {
    for (const member of members) {
      member.abandon();
      this.#members.delete(member);
    }
    const path = `${this.#path}/groups/${group}/close`;
    this.#connection.request('POST', path, { step }, this.#stop.signal).catch(() => undefined);
  }

  /** A server that does not hear of it closes the session when its time is over. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    clearInterval(this.#renewal);
    this.#outer?.removeEventListener('abort', this.#interrupt);
    const isInterrupted = this.#stop.signal.aborted;
    this.#abort();
    const farewell = ['DELETE', this.#path, undefined, AbortSignal.timeout(SESSION_CLOSE_MS_MAX)] as const;
    // Who interrupts a backup does not want to wait until its server comes back.
    const isTold = isInterrupted
      ? this.#connection.requestOnce(...farewell)
      : this.#connection.request(...farewell);
    await isTold.catch(() => undefined);
  }

  #abort(): void {
    this.#stop.abort();
    for (const member of this.#members) member.abandon();
    this.#members.clear();
  }

  /** When it fails, the next step says why. One at a time: while a server is away they would come to be many. */
  #renew(): void {
    if (this.#isRenewing) return;
    this.#isRenewing = true;
    this.#connection
      .request('POST', `${this.#path}/renew`, {}, this.#stop.signal)
      .catch(() => undefined)
      .finally(() => {
        this.#isRenewing = false;
      });
  }
}

function remoteSnapshot(
  { session, facts }: RemoteOpened,
  lanes: readonly Lane[],
  requireEnd: (end: LaneEnd, tail: TailFacts) => Promise<void>,
): Snapshot {
  const { neostore, fence, groups, leftOut, estimatedBytes } = facts;
  let finalMembers: MemberSource[] | undefined;
  return {
    neostore,
    fence,
    leftOut,
    estimatedBytes,
    groups: groups.map(({ path, rebuildable }, number) =>
      remoteGroup(session, { path, rebuildable }, number, rebuildable ? [] : lanes),
    ),
    takeTail: async () => {
      // First, so that the log which is read afterwards has what they had.
      const ends = await Promise.all(
        lanes.map(async (lane) => ({ address: lane.address, tail: await lane.takeTail() })),
      );
      const { answer: taken } = await session.step('tail');
      const tail = parseTail(taken);
      for (const end of ends) await requireEnd(end, tail);
      finalMembers = taken.list('members', parseMember).map((member) => session.memberOf(member));
      return tail;
    },
    finalMembers: async () => requireTail(finalMembers),
    close: async () => {
      await Promise.all([session, ...lanes].map((one) => one.close()));
    },
  };
}

/**
 * What must be from one moment is first read over the network. If it changed meanwhile, the server copies it aside before
 * the next try: that takes a moment, whatever the network.
 */
function remoteGroup(
  session: RemoteSession,
  { path, rebuildable }: Pick<SnapshotGroup, 'path' | 'rebuildable'>,
  number: number,
  lanes: readonly Lane[],
): SnapshotGroup {
  let attempts = 0;
  return {
    path,
    rebuildable,
    open: async (aside) => {
      const staged = rebuildable && (attempts++ > 0 || aside !== undefined);
      const { answer, step } = await session.step(`groups/${number}/open`, { staged });
      if (!answer.has('members')) return undefined;
      const elsewhere = await Promise.all(lanes.map((lane) => lane.openGroup(path)));
      const members = answer.list('members', parseMember).map((member) =>
        session.memberOf(
          member,
          elsewhere.flatMap((there) => there.get(member.path) ?? []),
        ),
      );
      return {
        members,
        // Of a record store the log repairs every page: there is nothing to be asked.
        confirm: async () => !rebuildable || (await isConfirmed(session, number)),
        close: async () => session.leaveGroup(number, step, members),
      };
    },
  };
}

async function isConfirmed(session: RemoteSession, group: number): Promise<boolean> {
  const { answer } = await session.step(`groups/${group}/confirm`);
  return answer.flag('confirmed');
}

class RemoteLog implements LogSource {
  readonly neostore: Neostore;
  readonly #session: RemoteSession;
  #members: MemberSource[] | undefined;

  constructor(session: RemoteSession, neostore: Neostore) {
    this.#session = session;
    this.neostore = neostore;
  }

  async find(mark: TransactionMark, hint: LogPosition | undefined): Promise<Search> {
    const hinted = hint === undefined ? {} : { hint: writePosition(hint) };
    const { answer } = await this.#session.step('find', { ...writeMark(mark), ...hinted });
    return parseSearch(answer);
  }

  async readFrom(mark: TransactionMark, position: LogPosition, commitTimeMillis: bigint): Promise<TailFacts> {
    const start = writeStart({ mark, position, commitTimeMillis });
    const { answer: taken } = await this.#session.step('tail', { start });
    this.#members = taken.list('members', parseMember).map((member) => this.#session.memberOf(member));
    return parseTail(taken);
  }

  async members(): Promise<MemberSource[]> {
    return requireTail(this.#members);
  }

  close(): Promise<void> {
    return this.#session.close();
  }
}
