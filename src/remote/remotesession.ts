/** One session with a backup server: its steps, its members, and the signs of life that keep it open. */
import { randomBytes } from 'node:crypto';
import { FrameMemory } from '../artifact/framememory.ts';
import { RENEWALS_PER_TIMEOUT, SESSION_CLOSE_MS_MAX } from '../limits.ts';
import type { Connection } from './connection.ts';
import type { Fields } from './fields.ts';
import { type LaneMember, spreadReads } from './lanes.ts';
import { type FetchFrame, type FetchHash, type FrameForm, FramesAhead } from './packed.ts';
import { PROTOCOL_VERSION, type RemoteMember, type SessionKind } from './protocol.ts';
import { type RangedMember, type ReadRange, rangedMember } from './ranges.ts';

/** How the bytes of one member come. */
export interface MemberReaders {
  readonly readRange: ReadRange;
  /** One try; false when the connection broke. */
  readonly readRangeOnce: (startBytes: number, target: Buffer, signal: AbortSignal) => Promise<boolean>;
  readonly fetchFrame: FetchFrame;
}

export interface SessionMember extends RangedMember {
  /** Fetches its first frames before they are read. */
  begin(form: FrameForm): void;
}

export class RemoteSession {
  readonly #connection: Connection;
  readonly #path: string;
  /** Ends everything that is under way: requested by the user, or since nobody waits for it any more. */
  readonly #stop = new AbortController();
  readonly #outer: AbortSignal | undefined;
  readonly #interrupt = (): void => this.#abort();
  readonly #members = new Set<RangedMember>();
  readonly #memory = new FrameMemory();
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
      fetchFrame: (offset, { level, isHashed }, target, signal) => {
        const query = `level=${level}${isHashed ? '&hash=true' : ''}`;
        return this.#connection.readFrameOnce(`${path}/frames/${offset}?${query}`, target, signal);
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

  /** @param lanes the same member on further servers; @param onAllAsked called when its last frame was asked for */
  memberOf(
    member: RemoteMember,
    lanes: readonly LaneMember[] = [],
    onAllAsked?: (form: FrameForm) => void,
  ): SessionMember {
    const { readRange, fetchFrame } = spreadReads(this.readersOf(member), lanes);
    const ranged = rangedMember(member, readRange);
    const fetchHash = lanes.length === 0 ? this.#hashReaderOf(member) : undefined;
    const frames = new FramesAhead(member, { readRange, fetchFrame, fetchHash }, this.#memory, onAllAsked);
    const both: SessionMember = {
      ...ranged,
      begin: (form) => frames.begin(form),
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
