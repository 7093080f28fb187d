/**
 * One client's hold on one database: a snapshot, or its log, kept open between requests. What it pins cannot be pruned
 * until it is closed, by the client or because nothing was heard from that for too long.
 *
 * A client whose connection was cut asks again without knowing how far its request came, and a network may deliver the
 * first one late. So every step has a number: asked again it is not done again, and what comes too late is refused.
 */
import { randomBytes } from 'node:crypto';
import { entryBytesOf, type FrameContent, fillFrame, frameBytesAt } from '../artifact/frame.ts';
import type { MemberSource } from '../artifact/membersource.ts';
import { compressFrame } from '../artifact/zstd.ts';
import { GraphkeepError } from '../errors.ts';
import type { OpenGroup } from '../hotcopy/group.ts';
import type { LogSource } from '../hotcopy/logafter.ts';
import type { Snapshot } from '../hotcopy/snapshot.ts';
import type { TailFacts } from '../hotcopy/tail.ts';
import { bytesOfGroup, readWhole } from '../hotcopy/whole.ts';
import { FRAME_RAW_BYTES, WHOLE_GROUP_BYTES_MAX } from '../limits.ts';
import type { LogStart, RemoteMember, WholeMember } from '../remote/protocol.ts';
import { ContentHash, EarlyRoom } from './contenthash.ts';
import { type HeldRange, HeldRanges } from './heldranges.ts';

export interface SessionOwner {
  readonly principal: string;
  readonly database: string;
}

/** What a session holds: either lets its log be read, only a snapshot has groups of store files. */
export type Held = { readonly snapshot: Snapshot } | { readonly log: LogSource };

export function closeHeld(held: Held): Promise<void> {
  return ('log' in held ? held.log : held.snapshot).close();
}

interface NumberedMember {
  readonly source: MemberSource;
  /** undefined for members of the log. */
  readonly group: number | undefined;
  readonly hash: ContentHash;
}

interface OpenedGroup {
  readonly group: OpenGroup;
  /** In which it was opened. */
  readonly step: number;
}

interface Step {
  readonly number: number;
  readonly result: Promise<object>;
}

/** A frame of a member: its number, where the frame begins in its entry, and the level of compression. */
export interface FrameRequest {
  readonly member: number;
  readonly offset: number;
  readonly level: number;
  /** Whether it counts for `hashOf`. */
  readonly isHashed: boolean;
}

/** A range of a member: its number, and where it begins and how long it is. */
export interface RangeRequest {
  readonly member: number;
  readonly startBytes: number;
  readonly bytes: number;
}

export interface OpenGroupOptions {
  /** Where a copy is to be made first. */
  readonly stagingDirectory?: string | undefined;
  /** Whether the client takes a small group with the answer. */
  readonly mayBeWhole: boolean;
}

const WHOLE_LEVEL = 1;

export class Session {
  readonly id = randomBytes(16).toString('hex');
  readonly owner: SessionOwner;
  /** What the request that opened it is known by. */
  readonly request: string;
  readonly startedMs = Date.now();
  sentBytes = 0;
  readonly held: Held;
  readonly #stop = new AbortController();
  readonly #groups = new Map<number, OpenedGroup>();
  readonly #members = new Map<number, NumberedMember>();
  readonly #ranges = new HeldRanges();
  readonly #earlyRoom = new EarlyRoom();
  #nextMember = 0;
  #usedMs = performance.now();
  #requests = 0;
  #lastStep: Step = { number: 0, result: Promise.resolve({}) };
  /** What changes the session happens one after the other. */
  #changes: Promise<unknown> = Promise.resolve();
  #closed: Promise<void> | undefined;

  constructor(owner: SessionOwner, held: Held, request = '') {
    this.owner = owner;
    this.held = held;
    this.request = request;
  }

  /** How long nothing has been asked of it. */
  idleMs(): number {
    return this.#requests > 0 ? 0 : performance.now() - this.#usedMs;
  }

  /** Counts as heard from, from the beginning of the work to its end. */
  async use<Result>(work: () => Promise<Result>): Promise<Result> {
    this.#requests += 1;
    try {
      this.#refuseClosed();
      return await work();
    } catch (error) {
      // What was under way when it ended failed for that reason, whatever it says.
      this.#refuseClosed();
      throw error;
    } finally {
      this.#requests -= 1;
      this.#usedMs = performance.now();
    }
  }

  /** Does a step once, however often it is asked for. @throws GK_USAGE for one that a later one has overtaken */
  step(number: number, work: () => Promise<object>): Promise<object> {
    if (number === this.#lastStep.number) return this.#lastStep.result;
    if (number < this.#lastStep.number) {
      throw new GraphkeepError('GK_USAGE', `step ${number} comes after step ${this.#lastStep.number}`);
    }
    const result = this.#oneByOne(work);
    this.#lastStep = { number, result };
    return result;
  }

  /**
   * For a step: opens a group for one attempt. What an earlier attempt opened is closed.
   * @returns its members, to be read and confirmed, or all that is in them; undefined when it is gone, or not from one
   * moment now
   */
  async openGroup(
    number: number,
    step: number,
    { stagingDirectory, mayBeWhole }: OpenGroupOptions,
  ): Promise<readonly RemoteMember[] | { readonly whole: readonly WholeMember[] } | undefined> {
    const group = this.#snapshot().groups[number];
    if (group === undefined) throw new GraphkeepError('GK_USAGE', `the session has no group ${number}`);
    await this.#close(number);
    const open = await group.open(
      stagingDirectory === undefined ? undefined : { directory: stagingDirectory, signal: this.#stop.signal },
    );
    if (open === undefined) return undefined;
    if (mayBeWhole && bytesOfGroup(open) <= WHOLE_GROUP_BYTES_MAX) return this.#readWhole(open);
    this.#groups.set(number, { group: open, step });
    return open.members.map((source) => this.#number(source, number));
  }

  async #readWhole(open: OpenGroup): Promise<{ whole: WholeMember[] } | undefined> {
    const contents = await readWhole(open);
    if (contents === undefined) return undefined;
    const whole: WholeMember[] = [];
    for (const [index, { path, kind, bytes }] of open.members.entries()) {
      const packed = await compressFrame(contents[index]!, WHOLE_LEVEL, (stored) => Buffer.from(stored));
      this.sentBytes += packed.length;
      whole.push({ path, kind, bytes, packed });
    }
    return { whole };
  }

  /** For a step. */
  async confirmGroup(number: number): Promise<boolean> {
    const open = this.#groups.get(number);
    if (open === undefined) throw new GraphkeepError('GK_USAGE', `group ${number} is not open`);
    return open.group.confirm();
  }

  /** Closes what was opened in that step, and nothing that was opened later. */
  closeGroup(number: number, step: number): Promise<void> {
    return this.#oneByOne(async () => {
      if (this.#groups.get(number)?.step === step) await this.#close(number);
    });
  }

  /** For a step: the end of the log, and the members that complete the artifact. `start` for a log, none for a snapshot. */
  async takeTail(start: LogStart | undefined): Promise<{ tail: TailFacts; members: RemoteMember[] }> {
    const tail = await this.#readTail(start);
    const sources = 'log' in this.held ? this.held.log : undefined;
    const members = sources === undefined ? await this.#snapshot().finalMembers() : await sources.members();
    return { tail, members: members.map((source) => this.#number(source, undefined)) };
  }

  async #readTail(start: LogStart | undefined): Promise<TailFacts> {
    const { signal } = this.#stop;
    if (!('log' in this.held)) return this.held.snapshot.takeTail(signal);
    if (start === undefined) throw new GraphkeepError('GK_USAGE', 'it is not said where the log is to begin');
    return this.held.log.readFrom(start.mark, start.position, start.commitTimeMillis, signal);
  }

  /** For a step. */
  async find(...[mark, hint]: Parameters<LogSource['find']>): ReturnType<LogSource['find']> {
    if (!('log' in this.held))
      throw new GraphkeepError('GK_USAGE', 'the session holds a snapshot, not a log');
    return this.held.log.find(mark, hint, this.#stop.signal);
  }

  /**
   * The member's length is asked before anything is allocated. `cut` ends the answer, should its memory be needed.
   * @throws GK_USAGE, GK_SERVER_BUSY, what reading the file fails with
   */
  async read({ member: number, startBytes, bytes }: RangeRequest, cut: () => void): Promise<HeldRange> {
    const { source } = this.#member(number);
    if (startBytes + bytes > source.bytes) {
      throw new GraphkeepError('GK_USAGE', `member ${number} has ${source.bytes} bytes`);
    }
    const range = await this.#ranges.read(bytes, (target) => source.read(target, startBytes), cut);
    this.sentBytes += bytes;
    return range;
  }

  /**
   * The frame of the artifact that begins at `offset` of the member's entry, compressed here: what crosses the network is
   * a quarter, and its client compresses nothing. Its memory is that of a range until it is sent.
   * @throws as `read`
   */
  async readFrame(
    { member: number, offset, level, isHashed }: FrameRequest,
    cut: () => void,
  ): Promise<HeldRange> {
    const { source, hash } = this.#member(number);
    if (offset % FRAME_RAW_BYTES !== 0 || offset >= entryBytesOf(source)) {
      throw new GraphkeepError('GK_USAGE', `member ${number} has no frame at ${offset}`);
    }
    const rawBytes = frameBytesAt(source, offset);
    let part: FrameContent | undefined;
    const fill = async (raw: Buffer): Promise<void> => {
      const filled = await fillFrame(raw, offset, source);
      if (!isHashed) return;
      if (hash.isNext(filled.start)) hash.add(filled.start, filled.content);
      else part = filled;
    };
    const held = await this.#ranges.read(rawBytes, fill, cut);
    try {
      const sent = await compressFrame(held.content, level, (stored) => {
        // While it was compressed, those that it had overtaken were read: to hash it now spares a copy of it.
        if (part !== undefined && held.isHeld()) hash.add(part.start, part.content);
        else if (part !== undefined) hash.giveUp();
        // In the place of what it was made from: while it is sent, only one of the two takes memory.
        return held.replace(stored);
      });
      this.sentBytes += sent.content.length;
      return sent;
    } catch (error) {
      held.release();
      throw error;
    }
  }

  /** Of what the frames held; undefined unless each was sent once, and asked for with its hash. @throws GK_USAGE */
  hashOf(number: number): string | undefined {
    return this.#member(number).hash.get();
  }

  /** Whether the member may be read slowly: a tree or an index is to be read before it changes. @throws GK_USAGE */
  mayWait(number: number): boolean {
    const { group } = this.#member(number);
    return group === undefined || this.#snapshot().groups[group]?.rebuildable !== true;
  }

  #member(number: number): NumberedMember {
    const member = this.#members.get(number);
    if (member !== undefined) return member;
    throw new GraphkeepError('GK_USAGE', `member ${number} is not open`);
  }

  /** Releases everything, once. Work under way is interrupted. */
  close(): Promise<void> {
    this.#closed ??= this.#release();
    return this.#closed;
  }

  async #release(): Promise<void> {
    this.#stop.abort();
    this.#members.clear();
    this.#ranges.close();
    await this.#changes;
    const groups = [...this.#groups.values()].map(({ group }) => group.close());
    this.#groups.clear();
    // All are closed, even if one of them cannot be.
    const closed = await Promise.allSettled([...groups, closeHeld(this.held)]);
    for (const outcome of closed) if (outcome.status === 'rejected') throw outcome.reason;
  }

  #refuseClosed(): void {
    if (this.#stop.signal.aborted) throw sessionLost();
  }

  #snapshot(): Snapshot {
    if ('snapshot' in this.held) return this.held.snapshot;
    throw new GraphkeepError('GK_USAGE', 'the session holds a log, not a snapshot');
  }

  #number(source: MemberSource, group: number | undefined): RemoteMember {
    const number = this.#nextMember++;
    this.#members.set(number, { source, group, hash: new ContentHash(source.bytes, this.#earlyRoom) });
    return { number, path: source.path, kind: source.kind, bytes: source.bytes };
  }

  async #close(number: number): Promise<void> {
    const open = this.#groups.get(number);
    if (open === undefined) return;
    this.#groups.delete(number);
    for (const [key, { group, hash }] of this.#members) {
      if (group !== number) continue;
      this.#members.delete(key);
      hash.giveUp();
    }
    await open.group.close();
  }

  #oneByOne<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#changes.then(() => {
      this.#refuseClosed();
      return work();
    });
    this.#changes = result.catch(() => undefined);
    return result;
  }
}

export function sessionLost(): GraphkeepError {
  return new GraphkeepError('GK_SESSION_LOST', 'the backup server does not know this backup any more');
}
