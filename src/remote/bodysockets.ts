/**
 * Requests whose bodies are received straight into memory that the caller has and uses again. Node's HTTP allocates every
 * piece anew, and the collector of that took a third of a client's processor time. Only the plain answer is understood
 * here; whatever else a server, or a proxy in between, says is for Node's HTTP to hear.
 */
import { connect, type OnReadOpts, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { ANSWER_HEAD_BYTES_MAX } from '../limits.ts';
import { headBytesOf, type PlainHead, parsePlainHead } from './plainhead.ts';
import type { TlsMaterial } from './tlsmaterial.ts';

export interface BodySocketOptions {
  readonly host: string;
  readonly port: number;
  readonly servername: string;
  readonly tls: TlsMaterial | undefined;
  /** How long nothing may come over a socket that something is asked of. */
  readonly silenceMs: number;
  /** What a socket fails with that was silent for so long. */
  readonly silent: (isConnecting: boolean) => Error;
}

export interface BodyRequest {
  /** All lines, with the empty one. */
  readonly head: string;
  /** Whether what comes is the answer to it. */
  readonly isAnswer: (headers: PlainHead['headers']) => boolean;
  /** Where the body goes. */
  readonly target: Buffer;
  /** Called for everything that comes. */
  readonly heard: () => void;
  readonly signal: AbortSignal | undefined;
}

export interface Body {
  readonly headers: Readonly<NodeJS.Dict<string | string[]>>;
  /** The part of the target that was filled. */
  readonly content: Buffer;
}

/** Kept-alive sockets to one server, as many as there are requests at once. */
export class BodySockets {
  readonly #options: BodySocketOptions;
  readonly #all = new Set<BodySocket>();

  constructor(options: BodySocketOptions) {
    this.#options = options;
  }

  /** @returns undefined when what comes is not the answer, not a plain one, or more than there is room for */
  get(request: BodyRequest): Promise<Body | undefined> {
    const free = [...this.#all].find(({ isFree }) => isFree);
    return (free ?? this.#open()).get(request);
  }

  /** What is under way fails. */
  close(): void {
    for (const socket of this.#all) socket.destroy(hungUp());
  }

  #open(): BodySocket {
    const socket: BodySocket = new BodySocket(this.#options, () => this.#all.delete(socket));
    this.#all.add(socket);
    return socket;
  }
}

interface Reception {
  readonly request: BodyRequest;
  readonly resolve: (body: Body | undefined) => void;
  readonly reject: (error: Error) => void;
  /** Received of the head, and what comes behind it in the same piece. */
  headBytes: number;
  /** Once it has come. */
  head?: PlainHead;
  bodyBytes: number;
}

class BodySocket {
  readonly #socket: Socket;
  readonly #silenceMs: number;
  readonly #headRoom = Buffer.allocUnsafe(ANSWER_HEAD_BYTES_MAX);
  #reception: Reception | undefined;
  #failure: Error | undefined;

  constructor(options: BodySocketOptions, onClose: () => void) {
    const { silent, silenceMs } = options;
    this.#silenceMs = silenceMs;
    const onread = { buffer: () => this.#room(), callback: (bytes: number) => this.#take(bytes) };
    this.#socket = openSocket(options, onread);
    this.#socket.setNoDelay(true);
    this.#socket.on('timeout', () => this.destroy(silent(this.#socket.connecting)));
    this.#socket.on('error', (error) => {
      this.#failure ??= error;
    });
    this.#socket.on('end', () => this.destroy(hungUp()));
    // Not before: what TLS had decrypted already is written to the memory of a request that was ended.
    this.#socket.on('close', () => {
      this.#reception?.reject(this.#failure ?? hungUp());
      onClose();
    });
  }

  get isFree(): boolean {
    return this.#reception === undefined && !this.#socket.destroyed;
  }

  get(request: BodyRequest): Promise<Body | undefined> {
    const { head, signal } = request;
    const abort = (): void => this.destroy(hungUp());
    signal?.addEventListener('abort', abort, { once: true });
    const received = new Promise<Body | undefined>((resolve, reject) => {
      this.#reception = { request, resolve, reject, headBytes: 0, bodyBytes: 0 };
      this.#socket.setTimeout(this.#silenceMs);
      this.#socket.write(head, 'latin1');
    });
    return received.finally(() => signal?.removeEventListener('abort', abort));
  }

  destroy(error: Error): void {
    this.#failure ??= error;
    this.#socket.destroy();
  }

  /** Where the next bytes go. */
  #room(): Buffer {
    if (this.#reception === undefined) return this.#headRoom;
    const { head, headBytes, request, bodyBytes } = this.#reception;
    if (head === undefined) return this.#headRoom.subarray(headBytes);
    return request.target.subarray(bodyBytes, head.bodyBytes);
  }

  #take(bytes: number): boolean {
    const reception = this.#reception;
    // Bytes that nobody asked for: whatever they belong to, this socket is out of step.
    if (reception === undefined) this.destroy(hungUp());
    else {
      reception.request.heard();
      if (reception.head !== undefined) reception.bodyBytes += bytes;
      else this.#takeHead(reception, bytes);
      if (reception.bodyBytes === reception.head?.bodyBytes) this.#finish(reception, reception.head);
    }
    return true;
  }

  #takeHead(reception: Reception, bytes: number): void {
    reception.headBytes += bytes;
    const received = this.#headRoom.subarray(0, reception.headBytes);
    const headBytes = headBytesOf(received);
    if (headBytes === undefined) {
      if (received.length === this.#headRoom.length) this.#refuse(reception);
      return;
    }
    const head = parsePlainHead(received.subarray(0, headBytes));
    const body = received.subarray(headBytes);
    const { target, isAnswer } = reception.request;
    const isTaken = head !== undefined && isAnswer(head.headers) && head.bodyBytes <= target.length;
    if (!isTaken || body.length > head.bodyBytes) {
      this.#refuse(reception);
      return;
    }
    reception.head = head;
    reception.bodyBytes = body.copy(target);
  }

  #finish({ request, resolve }: Reception, { headers, bodyBytes, isKept }: PlainHead): void {
    this.#reception = undefined;
    if (isKept) this.#socket.setTimeout(0);
    else this.#socket.destroy();
    resolve({ headers, content: request.target.subarray(0, bodyBytes) });
  }

  /** Where the next answer would begin is not known. */
  #refuse({ resolve }: Reception): void {
    this.#reception = undefined;
    this.#socket.destroy();
    resolve(undefined);
  }
}

function openSocket({ host, port, servername, tls }: BodySocketOptions, onread: OnReadOpts): Socket {
  if (tls === undefined) return connect({ host, port, onread });
  const options: ConnectionOptions & { onread: OnReadOpts } = {
    ...tls.secureContext,
    ...tls.client,
    host,
    port,
    servername,
    onread,
  };
  return connectTls(options);
}

/** As Node's HTTP says it. */
function hungUp(): Error {
  return Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' });
}
