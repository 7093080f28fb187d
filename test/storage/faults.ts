/** A proxy in front of a real store that does what networks and busy stores do: answers with errors, and cuts. */
import {
  createServer,
  request as forward,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';

export interface SeenRequest {
  readonly method: string;
  /** Path and query as they were sent. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
}

export type Fault =
  /** Answered here, without asking the store. */
  | { readonly kind: 'answer'; readonly status: number; readonly body?: string; readonly type?: string }
  /** The connection is cut before anything is answered, and the store is not asked. */
  | { readonly kind: 'cut' }
  /** The connection stays open, and nothing comes. */
  | { readonly kind: 'stall' }
  /** The store does what it is asked for, and nobody hears of it. */
  | { readonly kind: 'lost' }
  /** One bit of what is sent is another when it arrives: of the last byte, or of the first of this text. */
  | { readonly kind: 'damaged' }
  | { readonly kind: 'flipped'; readonly text: string }
  /** The answer breaks off in the middle; something may happen just before. */
  | { readonly kind: 'torn'; readonly afterBytes: number; readonly before?: () => Promise<unknown> };

interface Rule {
  readonly matches: (request: SeenRequest) => boolean;
  readonly fault: Fault;
  left: number;
}

export class FaultProxy {
  readonly url: string;
  /** What was asked, in order. */
  readonly seen: SeenRequest[] = [];
  readonly #server: Server;
  readonly #target: URL;
  #rules: Rule[] = [];
  hits = 0;
  /** Told of every body that goes on. */
  onBody: ((body: Buffer) => void) | undefined;
  /** Asked before a request goes on; what it gives is answered instead. */
  onForward: (request: SeenRequest) => Promise<Fault | undefined> = async () => undefined;

  /** What an answer that comes from the store says besides. */
  moreHeaders: (request: SeenRequest) => Record<string, string> = () => ({});

  private constructor(server: Server, target: URL) {
    this.#server = server;
    this.#target = target;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  static async start(target: string): Promise<FaultProxy> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const proxy = new FaultProxy(server, new URL(target));
    server.on('request', (request, response) => proxy.#pass(request, response));
    // The real server says 100 itself, or nobody does: the client must not wait for it.
    server.on('checkContinue', (request, response) => {
      response.writeContinue();
      proxy.#pass(request, response);
    });
    return proxy;
  }

  /** The next `times` requests that match meet this fault. */
  break(times: number, fault: Fault, matches: (request: SeenRequest) => boolean = () => true): void {
    this.#rules.push({ matches, fault, left: times });
  }

  heal(): void {
    this.#rules = [];
    this.hits = 0;
    this.seen.length = 0;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #pass(incoming: IncomingMessage, response: ServerResponse): void {
    const seen = { method: incoming.method ?? '', path: incoming.url ?? '', headers: incoming.headers };
    this.seen.push(seen);
    const rule = this.#rules.find(({ left, matches }) => left > 0 && matches(seen));
    if (rule !== undefined) {
      rule.left -= 1;
      this.hits += 1;
    }
    const fault = rule?.fault;
    incoming.on('error', () => undefined);
    response.on('error', () => undefined);
    if (fault?.kind === 'answer') answer(incoming, response, fault);
    else if (fault?.kind === 'cut') incoming.socket.destroy();
    else if (fault?.kind === 'stall') incoming.resume();
    else void this.#passOn(seen, incoming, response, fault);
  }

  async #passOn(
    seen: SeenRequest,
    incoming: IncomingMessage,
    response: ServerResponse,
    fault: Fault | undefined,
  ): Promise<void> {
    const instead = await this.onForward(seen);
    if (instead?.kind === 'answer') answer(incoming, response, instead);
    else this.#forward(seen, incoming, response, fault);
  }

  #forward(
    seen: SeenRequest,
    incoming: IncomingMessage,
    response: ServerResponse,
    fault: Fault | undefined,
  ): void {
    const { expect: _, ...headers } = incoming.headers;
    const outgoing = forward({
      host: this.#target.hostname,
      port: this.#target.port,
      method: incoming.method ?? 'GET',
      path: incoming.url ?? '/',
      headers,
    });
    outgoing.on('error', () => incoming.socket.destroy());
    outgoing.on('response', (answer) => {
      answer.on('error', () => incoming.socket.destroy());
      if (fault?.kind === 'lost') {
        answer.resume();
        answer.on('end', () => incoming.socket.destroy());
        return;
      }
      const more = Object.entries(this.moreHeaders(seen)).flat();
      response.writeHead(answer.statusCode ?? 502, [...answer.rawHeaders, ...more]);
      if (fault?.kind !== 'torn') {
        answer.pipe(response);
        return;
      }
      let leftBytes = fault.afterBytes;
      answer.on('data', (chunk: Buffer) => {
        if (leftBytes <= 0) return;
        const piece = chunk.subarray(0, leftBytes);
        leftBytes -= piece.length;
        response.write(piece);
        if (leftBytes > 0) return;
        void (fault.before?.() ?? Promise.resolve()).finally(() => incoming.socket.destroy());
      });
    });
    const damage = fault?.kind === 'damaged' || fault?.kind === 'flipped';
    if (!damage && this.onBody === undefined) {
      incoming.pipe(outgoing);
      return;
    }
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    incoming.on('end', () => {
      const body = Buffer.concat(chunks);
      if (damage) body[fault.kind === 'flipped' ? body.indexOf(fault.text) : body.length - 1]! ^= 1;
      this.onBody?.(body);
      outgoing.end(body);
    });
  }
}

function answer(
  incoming: IncomingMessage,
  response: ServerResponse,
  { status, body, type }: Extract<Fault, { kind: 'answer' }>,
): void {
  incoming.resume();
  incoming.on('end', () => {
    response.writeHead(status, { 'content-type': type ?? 'application/xml' });
    response.end(incoming.method === 'HEAD' ? '' : (body ?? ''));
  });
}
