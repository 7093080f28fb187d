/**
 * Backups of the databases of another host: a snapshot and a log as the local ones are, held open by a session of the
 * backup server there. The server proves the log; every range is proven by its checksum on the way.
 */
import type { MemberSource } from '../artifact/membersource.ts';
import type { TransactionMark } from '../chain/summary.ts';
import { asGraphkeepError, GraphkeepError, throwIfAborted } from '../errors.ts';
import { writePosition } from '../formats/artifact/index.ts';
import type { Neostore } from '../formats/neostore.ts';
import type { LogPosition } from '../formats/txlog/checkpoint.ts';
import type { LogSource, Search } from '../hotcopy/logafter.ts';
import { requireTail, type Snapshot } from '../hotcopy/snapshot.ts';
import type { BackupSource } from '../hotcopy/source.ts';
import type { TailFacts } from '../hotcopy/tail.ts';
import type { Connection } from './connection.ts';
import { Lane, type LaneEnd, requireCovered } from './lanes.ts';
import {
  type OpenedSnapshot,
  PROTOCOL_VERSION,
  parseMember,
  parseNeostoreFields,
  parseOpenedSnapshot,
  parseSearch,
  parseTail,
  writeMark,
  writeStart,
} from './protocol.ts';
import { StoresAhead, spreadGroup, TreesAhead } from './remotegroups.ts';
import { RemoteSession } from './remotesession.ts';

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

function remoteSnapshot(
  { session, facts }: RemoteOpened,
  lanes: readonly Lane[],
  requireEnd: (end: LaneEnd, tail: TailFacts) => Promise<void>,
): Snapshot {
  const { neostore, fence, groups, leftOut, estimatedBytes } = facts;
  let finalMembers: MemberSource[] | undefined;
  const stores = new StoresAhead(session, groups);
  const trees = new TreesAhead(session, groups);
  return {
    neostore,
    fence,
    leftOut,
    estimatedBytes,
    groups: groups.map((group, number) => {
      if (group.rebuildable) return trees.group(group.path, number);
      return lanes.length === 0
        ? stores.group(group.path, number)
        : spreadGroup(session, group.path, number, lanes);
    }),
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
