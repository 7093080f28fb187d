/** The groups of a remote snapshot: opened by a step of the session, and read by its members. */
import { type MemberSource, memberFromBytes } from '../artifact/membersource.ts';
import { decompressFrame } from '../artifact/zstd.ts';
import { GraphkeepError } from '../errors.ts';
import type { OpenGroup, SnapshotGroup } from '../hotcopy/group.ts';
import type { Lane } from './lanes.ts';
import type { FrameForm } from './packed.ts';
import { parseMember, parseWholeMember, type RemoteMember, type WholeMember } from './protocol.ts';
import type { RemoteSession, SessionMember } from './remotesession.ts';

interface OpenedGroup {
  readonly members: readonly SessionMember[];
  readonly step: number;
}

/** @returns undefined when it is gone */
async function openGroup(
  session: RemoteSession,
  number: number,
  toMember: (member: RemoteMember) => SessionMember,
): Promise<OpenedGroup | undefined> {
  const { answer, step } = await session.step(`groups/${number}/open`, { staged: false });
  if (!answer.has('members')) return undefined;
  return { members: answer.list('members', parseMember).map(toMember), step };
}

/** The group whose turn is next, opened before. */
class NextGroup<Opened> {
  #next: { readonly number: number; readonly opened: Promise<Opened> } | undefined;

  /** As it was opened before, or else as it is opened now. */
  take(number: number, open: () => Promise<Opened>): Promise<Opened> {
    const opened = this.get(number) ?? open();
    this.#next = undefined;
    return opened;
  }

  begin(number: number, opened: Promise<Opened>): void {
    // Awaited when its turn comes; a failure until then would count as unhandled first.
    opened.catch(() => undefined);
    this.#next = { number, opened };
  }

  get(number: number): Promise<Opened> | undefined {
    return this.#next?.number === number ? this.#next.opened : undefined;
  }
}

/**
 * What must be from one moment is first read over the network. If it changed meanwhile, the server copies it aside before
 * the next try: that takes a moment, whatever the network. After one that came whole with the answer, the next one is asked
 * for while it is written: most are small, and each answer takes its way.
 */
export class TreesAhead {
  readonly #session: RemoteSession;
  readonly #groups: readonly Pick<SnapshotGroup, 'rebuildable'>[];
  readonly #next = new NextGroup<OpenedTree | undefined>();

  constructor(session: RemoteSession, groups: readonly Pick<SnapshotGroup, 'rebuildable'>[]) {
    this.#session = session;
    this.#groups = groups;
  }

  group(path: string, number: number): SnapshotGroup {
    let attempts = 0;
    return {
      path,
      rebuildable: true,
      open: async (aside) => {
        const staged = attempts++ > 0 || aside !== undefined;
        const opened = await this.#next.take(number, () => openTree(this.#session, number, staged));
        // Where one is copied aside at the first try, all are.
        if (opened?.isWhole && this.#groups[number + 1]?.rebuildable)
          this.#next.begin(number + 1, openTree(this.#session, number + 1, staged));
        return opened?.group;
      },
    };
  }
}

interface OpenedTree {
  readonly group: OpenGroup;
  readonly isWhole: boolean;
}

/** @returns undefined when it is gone or cannot be read from one moment now */
async function openTree(
  session: RemoteSession,
  number: number,
  staged: boolean,
): Promise<OpenedTree | undefined> {
  const { answer, step } = await session.step(`groups/${number}/open`, { staged, whole: true });
  if (answer.has('whole'))
    return { group: await openWhole(answer.list('whole', parseWholeMember)), isWhole: true };
  if (!answer.has('members')) return undefined;
  const members = answer.list('members', parseMember).map((member) => session.memberOf(member));
  const group = {
    ...openStore(session, number, { members, step }),
    confirm: () => isConfirmed(session, number),
  };
  return { group, isWhole: false };
}

/** The server has read it from one moment, and closed it already. */
async function openWhole(members: readonly WholeMember[]): Promise<OpenGroup> {
  const sources: MemberSource[] = [];
  for (const { path, kind, bytes, packed } of members) {
    // One more than it may be: an empty one has no bound.
    const content = await decompressFrame(packed, bytes + 1).catch((error: unknown) => {
      throw new GraphkeepError('GK_PROTOCOL', `${path} cannot be unpacked`, { cause: error });
    });
    if (content.length !== bytes)
      throw new GraphkeepError(
        'GK_PROTOCOL',
        `${path} came with ${content.length} instead of ${bytes} bytes`,
      );
    sources.push(memberFromBytes(path, kind, content));
  }
  return { members: sources, confirm: async () => true, close: async () => undefined };
}

/** A record store that further servers have as well. */
export function spreadGroup(
  session: RemoteSession,
  path: string,
  number: number,
  lanes: readonly Lane[],
): SnapshotGroup {
  return {
    path,
    rebuildable: false,
    open: async () => {
      const elsewhere = await Promise.all(lanes.map((lane) => lane.openGroup(path)));
      const opened = await openGroup(session, number, (member) =>
        session.memberOf(
          member,
          elsewhere.flatMap((there) => there.get(member.path) ?? []),
        ),
      );
      return opened === undefined ? undefined : openStore(session, number, opened);
    },
  };
}

/** Of a record store the log repairs every page: there is nothing to be asked. */
function openStore(session: RemoteSession, number: number, { members, step }: OpenedGroup): OpenGroup {
  return {
    members,
    confirm: async () => true,
    close: async () => session.leaveGroup(number, step, members),
  };
}

/**
 * Record stores one after the other, the next one opened and begun while the last frames of the one before are under way:
 * most of them are small, and the network would be idle while each is asked for, opened and closed. They can be read in
 * any order and at any time before the end of the log.
 */
export class StoresAhead {
  readonly #session: RemoteSession;
  readonly #groups: readonly Pick<SnapshotGroup, 'rebuildable'>[];
  readonly #next = new NextGroup<OpenedGroup | undefined>();

  constructor(session: RemoteSession, groups: readonly Pick<SnapshotGroup, 'rebuildable'>[]) {
    this.#session = session;
    this.#groups = groups;
  }

  group(path: string, number: number): SnapshotGroup {
    return {
      path,
      rebuildable: false,
      open: async () => {
        const opened = await this.#take(number);
        return opened === undefined ? undefined : openStore(this.#session, number, opened);
      },
    };
  }

  async #take(number: number): Promise<OpenedGroup | undefined> {
    const opened = await this.#next.take(number, () => this.#open(number));
    if (this.#groups[number + 1]?.rebuildable === false) this.#next.begin(number + 1, this.#open(number + 1));
    return opened;
  }

  #open(number: number): Promise<OpenedGroup | undefined> {
    return openGroup(this.#session, number, (member) =>
      this.#session.memberOf(member, [], (form) => this.#begin(number + 1, form)),
    );
  }

  #begin(number: number, form: FrameForm): void {
    const begun = this.#next
      .get(number)
      ?.then((opened) => opened?.members.map((member) => member.begin(form)));
    begun?.catch(() => undefined);
  }
}

async function isConfirmed(session: RemoteSession, group: number): Promise<boolean> {
  const { answer } = await session.step(`groups/${group}/confirm`);
  return answer.flag('confirmed');
}
