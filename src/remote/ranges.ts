/** A member of a remote snapshot as one run of bytes: fetched in ranges, several at once, ahead of who reads it. */
import type { MemberSource } from '../artifact/membersource.ts';
import { GraphkeepError } from '../errors.ts';
import { RANGE_BYTES, RANGES_IN_FLIGHT_MAX } from '../limits.ts';
import type { RemoteMember } from './protocol.ts';

/** Fills `target` with the bytes of the member from `startBytes` on. */
export type ReadRange = (startBytes: number, target: Buffer, signal: AbortSignal) => Promise<void>;

interface Range {
  readonly startBytes: number;
  readonly content: Promise<Buffer>;
}

export interface RangedMember extends MemberSource {
  /** What is under way ends; nothing is read any more. */
  abandon(): void;
}

export function rangedMember(member: RemoteMember, readRange: ReadRange): RangedMember {
  const { path, kind, bytes } = member;
  const ahead = new ReadAhead(bytes, readRange);
  return {
    path,
    kind,
    bytes,
    read: (target, position) => ahead.read(target, position),
    abandon: () => ahead.abandon(),
  };
}

class ReadAhead {
  readonly #memberBytes: number;
  readonly #readRange: ReadRange;
  #ranges: Range[] = [];
  #nextBytes = 0;
  /** Used again: to allocate all that is read anew costs as much time as to read it. */
  readonly #free: Buffer[] = [];
  #fetching = new AbortController();
  #isAbandoned = false;

  constructor(memberBytes: number, readRange: ReadRange) {
    this.#memberBytes = memberBytes;
    this.#readRange = readRange;
  }

  abandon(): void {
    this.#isAbandoned = true;
    this.#fetching.abort();
  }

  /** In ascending order this is quick; a jump throws away what was fetched. */
  async read(target: Buffer, position: number): Promise<void> {
    for (let done = 0; done < target.length; ) {
      if (this.#isAbandoned) throw new GraphkeepError('GK_INTERRUPTED', 'the member is not read any more');
      const wanted = position + done;
      const range = this.#rangeAt(wanted);
      const content = await range.content;
      done += content.copy(target, done, wanted - range.startBytes);
      if (position + done < range.startBytes + content.length) continue;
      this.#ranges.shift();
      if (content.length === RANGE_BYTES) this.#free.push(content);
    }
  }

  #rangeAt(position: number): Range {
    const first = this.#ranges[0];
    const inFirst =
      first !== undefined && position >= first.startBytes && position < first.startBytes + RANGE_BYTES;
    if (!inFirst) {
      this.#fetching.abort();
      this.#fetching = new AbortController();
      this.#ranges = [];
      this.#nextBytes = position;
    }
    while (this.#ranges.length < RANGES_IN_FLIGHT_MAX && this.#nextBytes < this.#memberBytes)
      this.#fetchNext();
    return this.#ranges[0]!;
  }

  #fetchNext(): void {
    const startBytes = this.#nextBytes;
    const bytes = Math.min(RANGE_BYTES, this.#memberBytes - startBytes);
    const target = (bytes === RANGE_BYTES ? this.#free.pop() : undefined) ?? Buffer.allocUnsafe(bytes);
    const content = this.#readRange(startBytes, target, this.#fetching.signal).then(() => target);
    // Awaited when its turn comes; a failure until then would count as unhandled first.
    content.catch(() => undefined);
    this.#ranges.push({ startBytes, content });
    this.#nextBytes += target.length;
  }
}
