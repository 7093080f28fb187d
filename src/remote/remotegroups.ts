/** The groups of a remote snapshot: opened by a step of the session, and read by its members. */
import type { OpenGroup, SnapshotGroup } from '../hotcopy/group.ts';
import type { Lane } from './lanes.ts';
import type { FrameForm } from './packed.ts';
import { parseMember, type RemoteMember } from './protocol.ts';
import type { RemoteSession, SessionMember } from './remotesession.ts';

interface OpenedGroup {
  readonly members: readonly SessionMember[];
  readonly step: number;
}

/** @returns undefined when it is gone or cannot be read from one moment now */
async function openGroup(
  session: RemoteSession,
  number: number,
  staged: boolean,
  toMember: (member: RemoteMember) => SessionMember,
): Promise<OpenedGroup | undefined> {
  const { answer, step } = await session.step(`groups/${number}/open`, { staged });
  if (!answer.has('members')) return undefined;
  return { members: answer.list('members', parseMember).map(toMember), step };
}

/**
 * What must be from one moment is first read over the network. If it changed meanwhile, the server copies it aside before
 * the next try: that takes a moment, whatever the network.
 */
export function rebuildableGroup(session: RemoteSession, path: string, number: number): SnapshotGroup {
  let attempts = 0;
  return {
    path,
    rebuildable: true,
    open: async (aside) => {
      const staged = attempts++ > 0 || aside !== undefined;
      const opened = await openGroup(session, number, staged, (member) => session.memberOf(member));
      if (opened === undefined) return undefined;
      return {
        members: opened.members,
        confirm: () => isConfirmed(session, number),
        close: async () => session.leaveGroup(number, opened.step, opened.members),
      };
    },
  };
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
      const opened = await openGroup(session, number, false, (member) =>
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
  #next: { readonly number: number; readonly opened: Promise<OpenedGroup | undefined> } | undefined;

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
    const next = this.#next;
    this.#next = undefined;
    const opened = await (next?.number === number ? next.opened : this.#open(number));
    if (this.#groups[number + 1]?.rebuildable === false) {
      this.#next = { number: number + 1, opened: this.#open(number + 1) };
      // Awaited when its turn comes; a failure until then would count as unhandled first.
      this.#next.opened.catch(() => undefined);
    }
    return opened;
  }

  #open(number: number): Promise<OpenedGroup | undefined> {
    return openGroup(this.#session, number, false, (member) =>
      this.#session.memberOf(member, [], (form) => this.#begin(number + 1, form)),
    );
  }

  #begin(number: number, form: FrameForm): void {
    if (this.#next?.number !== number) return;
    const begun = this.#next.opened.then((opened) => opened?.members.map((member) => member.begin(form)));
    begun.catch(() => undefined);
  }
}

async function isConfirmed(session: RemoteSession, group: number): Promise<boolean> {
  const { answer } = await session.step(`groups/${group}/confirm`);
  return answer.flag('confirmed');
}
