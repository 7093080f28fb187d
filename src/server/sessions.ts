/** All sessions of a server: a bounded number, each closed when nothing was heard of its client for too long. */
import { GraphkeepError } from '../errors.ts';
import { SESSION_SWEEP_MS_MAX } from '../limits.ts';
import { closeHeld, type Held, Session, type SessionOwner, sessionLost } from './session.ts';

export interface SessionsOptions {
  readonly sessionsMax: number;
  readonly timeoutMs: number;
  /** Told of every session that ended; `expired` when its client was not heard of any more. */
  readonly onEnd: (session: Session, expired: boolean) => void;
  /** Told of a session that could not release what it held. */
  readonly onError: (error: unknown) => void;
}

/** Who opens a session, and what he calls the request for it: asked again, it is the same session. */
export interface SessionRequest extends SessionOwner {
  readonly request: string;
}

export class Sessions {
  readonly #options: SessionsOptions;
  readonly #sessions = new Map<string, Session>();
  /** By principal and request, from the beginning of the opening to the end of the session. */
  readonly #requests = new Map<string, Promise<Session>>();
  readonly #sweep: NodeJS.Timeout;
  #isClosed = false;

  constructor(options: SessionsOptions) {
    this.#options = options;
    const intervalMs = Math.min(SESSION_SWEEP_MS_MAX, options.timeoutMs / 4);
    this.#sweep = setInterval(() => this.#closeIdle(), intervalMs).unref();
  }

  get count(): number {
    return this.#sessions.size;
  }

  /**
   * A client that lost the answer asks again: a second session would pin the log for nobody.
   * @throws GK_SERVER_BUSY when there are too many at the moment, GK_CONNECTION_LOST when the server is closing
   */
  open(request: SessionRequest, hold: () => Promise<Held>): Promise<Session> {
    const key = JSON.stringify([request.principal, request.database, request.request]);
    const known = this.#requests.get(key);
    if (known !== undefined) return known;
    const opened = this.#openAnother(request, key, hold);
    this.#requests.set(key, opened);
    opened.catch(() => this.#requests.delete(key));
    return opened;
  }

  async #openAnother(
    { principal, database }: SessionRequest,
    key: string,
    hold: () => Promise<Held>,
  ): Promise<Session> {
    if (this.#isClosed) throw closing();
    // Those that are being opened are in there, too, and this one is not yet.
    if (this.#requests.size >= this.#options.sessionsMax) {
      throw new GraphkeepError(
        'GK_SERVER_BUSY',
        `the backup server has ${this.#options.sessionsMax} sessions open`,
      );
    }
    const held = await hold();
    if (this.#isClosed) {
      await closeHeld(held);
      throw closing();
    }
    const session = new Session({ principal, database }, held, key);
    this.#sessions.set(session.id, session);
    return session;
  }

  /** A session of someone else is not there. @throws GK_SESSION_LOST */
  get(id: string, principal: string): Session {
    const session = this.#sessions.get(id);
    if (session === undefined || session.owner.principal !== principal) throw sessionLost();
    return session;
  }

  /** When this returns it has released what it held, even if somebody else ended it. */
  async end(session: Session, expired = false): Promise<void> {
    const isFirst = this.#sessions.delete(session.id);
    this.#requests.delete(session.request);
    try {
      await session.close();
    } finally {
      if (isFirst) this.#options.onEnd(session, expired);
    }
  }

  async closeAll(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#sweep);
    // What is being opened fails by itself; what cannot be closed keeps no other from being closed.
    await Promise.allSettled(this.#requests.values());
    const sessions = [...this.#sessions.values()];
    await Promise.all(sessions.map((session) => this.end(session).catch(this.#options.onError)));
  }

  #closeIdle(): void {
    for (const session of this.#sessions.values()) {
      if (session.idleMs() < this.#options.timeoutMs) continue;
      this.end(session, true).catch(this.#options.onError);
    }
  }
}

/** The client waits and tries again: whoever stops a server may be about to start it anew. */
function closing(): GraphkeepError {
  return new GraphkeepError('GK_CONNECTION_LOST', 'the backup server is being stopped');
}
