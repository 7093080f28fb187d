/**
 * The connection of a client to one backup server: requests over a few kept-alive sockets. What is cut, stalls or comes
 * damaged is asked again, since every request of the protocol may be repeated; only when nothing at all has come for the
 * time that was agreed is the connection given up.
 */
import { randomBytes } from 'node:crypto';
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { GraphkeepError, throwIfAborted } from '../errors.ts';
import {
  ANSWER_BYTES_MAX,
  ANSWER_SILENCE_MS_MAX,
  ANSWER_SILENCE_MS_MIN,
  RANGE_BYTES_MIN,
  RANGES_IN_FLIGHT_MAX,
  RETRY_DELAY_MS_MAX,
  RETRY_DELAY_MS_MIN,
  SILENCES_PER_INACTIVITY,
  SPOILED_ANSWERS_MAX,
} from '../limits.ts';
import { type Body, type BodyRequest, BodySockets } from './bodysockets.ts';
import { Fields } from './fields.ts';
import { causeOfFailure, causeOfFirstBreak, mayPass } from './neterrors.ts';
import { writeGetHead } from './plainhead.ts';
import { CHECKSUM_HEADER, knownCode, NAME_HEADER } from './protocol.ts';
import type { TlsMaterial } from './tlsmaterial.ts';

export interface ConnectionOptions {
  readonly host: string;
  readonly port: number;
  /** Without it nothing is encrypted. */
  readonly tls?: TlsMaterial;
  readonly token?: string;
  /** How long nothing may come, tries to connect included, before the server is given up. */
  readonly inactivityMs: number;
  /** Told of a connection that is tried again. */
  readonly onRetry?: (message: string) => void;
}

export type Method = 'GET' | 'POST' | 'DELETE';

/** Requests of steps and reads of ranges at once: one more than the ranges, so that a renewal never waits for them. */
const SOCKETS_MAX = RANGES_IN_FLIGHT_MAX + 2;

type Headers = Readonly<Record<string, string | number>>;

/** One try of a request. `heard` is called for everything that comes. */
type Attempt<Result> = (heard: () => void) => Promise<Result>;

export class Connection {
  readonly address: string;
  readonly #options: ConnectionOptions;
  readonly #agent: HttpAgent | HttpsAgent;
  readonly #bodies: BodySockets;
  readonly #closed = new AbortController();
  /** Before, an answer that makes no sense says that the port is wrong; afterwards, that it was damaged on the way. */
  #hasAnswered = false;
  /** Nothing in between changes how bodies are sent. */
  #arePlain = true;
  /** Of its requests: no other connection's are called the same, which may share a proxy's with them. */
  readonly #name = randomBytes(8).toString('hex');
  #requests = 0;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.address = `${options.host.includes(':') ? `[${options.host}]` : options.host}:${options.port}`;
    const common = { keepAlive: true, maxSockets: SOCKETS_MAX, scheduling: 'lifo' } as const;
    this.#agent = options.tls === undefined ? new HttpAgent(common) : new HttpsAgent(common);
    this.#bodies = new BodySockets({
      host: options.host,
      port: options.port,
      servername: serverName(options.host),
      tls: options.tls,
      silenceMs: silenceMs(options.inactivityMs),
      silent: (isConnecting) => this.#silent(isConnecting),
    });
  }

  /** First contact: nothing is tried again, so that a wrong name or port is told at once. */
  async greet(signal?: AbortSignal): Promise<Fields> {
    const answer = await this.requestOnce('GET', '/v1/server', undefined, signal).catch((error: unknown) => {
      throw causeOfFirstBreak(error, this.address, this.#options.tls !== undefined);
    });
    if (!answer.has('program') || answer.text('program') !== 'graphkeep') throw notOurs(this.address);
    this.#hasAnswered = true;
    return answer;
  }

  /** @throws also what may pass */
  requestOnce(method: Method, path: string, body?: object, signal?: AbortSignal): Promise<Fields> {
    return this.#once((heard) => this.#ask(method, path, body, heard, signal), noop, signal);
  }

  /** Asks until there is an answer. @throws what the server says, GK_CONNECTION_LOST, GK_INTERRUPTED, … */
  request(method: Method, path: string, body?: object, signal?: AbortSignal): Promise<Fields> {
    return this.#persistently((heard) => this.#ask(method, path, body, heard, signal), mayPass, signal);
  }

  /**
   * Fills `target` with the bytes from `startBytes` on. After a cut less is asked for at once: where every connection
   * breaks after some bytes, a whole range would never come.
   * @throws as `request`
   */
  async readRange(path: string, startBytes: number, target: Buffer, signal?: AbortSignal): Promise<void> {
    let pieceBytes = target.length;
    for (let doneBytes = 0; doneBytes < target.length; ) {
      const fetchPiece = async (heard: () => void): Promise<void> => {
        const piece = target.subarray(doneBytes, doneBytes + pieceBytes);
        const shrink = (): void => {
          pieceBytes = Math.max(RANGE_BYTES_MIN, Math.ceil(piece.length / 2));
          heard();
        };
        await this.#fetch(path, startBytes + doneBytes, piece, shrink, signal);
        pieceBytes = piece.length;
        doneBytes += piece.length;
      };
      await this.#persistently(fetchPiece, mayPassForRange, signal);
    }
  }

  /** The same, asked for once. @returns false when the connection broke or damaged it */
  async readRangeOnce(
    path: string,
    startBytes: number,
    target: Buffer,
    signal?: AbortSignal,
  ): Promise<boolean> {
    const fetch: Attempt<boolean> = async (heard) => {
      await this.#fetch(path, startBytes, target, heard, signal);
      return true;
    };
    return (await this.#unlessBroken(fetch, signal)) ?? false;
  }

  /**
   * A frame that `target` has room for, asked for once.
   * @returns the part that was filled; undefined when the connection broke or damaged it: then ranges are the way
   */
  readFrameOnce(path: string, target: Buffer, signal?: AbortSignal): Promise<Buffer | undefined> {
    return this.#unlessBroken((heard) => this.#fetchFrame(path, target, heard, signal), signal);
  }

  async #unlessBroken<Result>(
    attempt: Attempt<Result>,
    signal: AbortSignal | undefined,
  ): Promise<Result | undefined> {
    try {
      return await this.#once(attempt, noop, signal);
    } catch (error) {
      if (error instanceof GraphkeepError && mayPassForRange(error)) return undefined;
      throw error;
    }
  }

  /** Ends every request under way. */
  close(): void {
    this.#closed.abort();
    this.#agent.destroy();
    this.#bodies.close();
  }

  async #persistently<Result>(
    attempt: Attempt<Result>,
    passes: (error: GraphkeepError) => boolean,
    signal: AbortSignal | undefined,
  ): Promise<Result> {
    let heardMs = performance.now();
    let delayMs = RETRY_DELAY_MS_MIN;
    for (let spoiled = 0; ; delayMs = Math.min(delayMs * 2, RETRY_DELAY_MS_MAX)) {
      let isHeard = false;
      const heard = (): void => {
        isHeard = true;
        heardMs = performance.now();
      };
      try {
        return await this.#once(attempt, heard, signal);
      } catch (error) {
        if (!(error instanceof GraphkeepError) || !passes(error)) throw error;
        if (isHeard) {
          delayMs = RETRY_DELAY_MS_MIN;
          spoiled += 1;
        }
        const silentMs = performance.now() - heardMs;
        if (silentMs + delayMs > this.#options.inactivityMs || spoiled >= SPOILED_ANSWERS_MAX)
          throw this.#givenUp(error, silentMs, spoiled);
        this.#options.onRetry?.(`${error.message}; trying again`);
        await this.#pause(delayMs, signal);
      }
    }
  }

  async #pause(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
    const stops = signal === undefined ? [] : [signal];
    const stop = AbortSignal.any([this.#closed.signal, ...stops]);
    await sleep(delayMs, undefined, { signal: stop }).catch(() => undefined);
    this.#throwIfStopped(signal);
  }

  #throwIfStopped(signal: AbortSignal | undefined): void {
    throwIfAborted(signal);
    throwIfAborted(this.#closed.signal);
  }

  #givenUp(error: GraphkeepError, silentMs: number, spoiled: number): GraphkeepError {
    const what =
      spoiled >= SPOILED_ANSWERS_MAX
        ? `${this.address} was asked ${spoiled} times, and no answer was whole`
        : `${this.address} has been silent for ${Math.round(silentMs / 1000)} s`;
    return new GraphkeepError('GK_CONNECTION_LOST', `${what}: ${error.message}`, { cause: error });
  }

  async #once<Result>(
    attempt: Attempt<Result>,
    heard: () => void,
    signal: AbortSignal | undefined,
  ): Promise<Result> {
    this.#throwIfStopped(signal);
    try {
      return await attempt(heard);
    } catch (error) {
      this.#throwIfStopped(signal);
      if (error instanceof GraphkeepError) throw error;
      const cause = causeOfFailure(error, this.address);
      if (cause !== undefined && !this.#wasDamaged(cause)) throw cause;
      const detail = error instanceof Error ? error.message : String(error);
      throw new GraphkeepError('GK_CONNECTION_LOST', `the connection to ${this.address} broke: ${detail}`, {
        cause: error,
      });
    }
  }

  /** A peer that has spoken the protocol does not forget it; what cannot be read then was damaged on the way. */
  #wasDamaged({ code }: GraphkeepError): boolean {
    return this.#hasAnswered && (code === 'GK_TLS' || code === 'GK_PROTOCOL');
  }

  async #ask(
    method: Method,
    path: string,
    body: object | undefined,
    heard: () => void,
    signal: AbortSignal | undefined,
  ): Promise<Fields> {
    const content = body === undefined ? undefined : Buffer.from(JSON.stringify(body), 'utf8');
    const headers =
      content === undefined ? {} : { 'content-type': 'application/json', 'content-length': content.length };
    const response = await this.#send(method, path, headers, content, signal);
    const text = await readText(response, heard);
    if (response.statusCode === 204) return new Fields({}, path);
    return this.#answerOf(text, response);
  }

  async #fetch(
    path: string,
    startBytes: number,
    target: Buffer,
    heard: () => void,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const range = `bytes=${startBytes}-${startBytes + target.length - 1}`;
    const body = await this.#receive(path, { range }, target, heard, signal);
    const isWhole = body.content.length === target.length && isOfRange(body, range);
    if (!isWhole || !isIntact(body)) throw damagedOnTheWay(this.address);
  }

  async #fetchFrame(
    path: string,
    target: Buffer,
    heard: () => void,
    signal: AbortSignal | undefined,
  ): Promise<Buffer> {
    const body = await this.#receive(path, {}, target, heard, signal);
    if (isIntact(body)) return body.content;
    throw damagedOnTheWay(this.address);
  }

  /** Whatever is no plain answer is asked for again: that may be an error, or a proxy that sends in pieces. */
  async #receive(
    path: string,
    headers: Headers,
    target: Buffer,
    heard: () => void,
    signal: AbortSignal | undefined,
  ): Promise<Body> {
    if (this.#arePlain) {
      const name = this.#nextName();
      const head = writeGetHead(path, { host: this.address, ...this.#headers(headers, name) });
      const isAnswer: BodyRequest['isAnswer'] = (received) => received[NAME_HEADER] === name;
      const body = await this.#bodies.get({ head, isAnswer, target, heard, signal });
      if (body?.headers[CHECKSUM_HEADER] !== undefined) return body;
    }
    const response = await this.#send('GET', path, headers, undefined, signal);
    if (response.headers[CHECKSUM_HEADER] === undefined) {
      this.#answerOf(await readText(response, heard), response);
      throw notOurs(this.address);
    }
    this.#arePlain = false;
    const room = { bytesMax: target.length, tooMuch: () => damagedOnTheWay(this.address) };
    const bytes = await readChunks(response, heard, room, (chunk, at) => chunk.copy(target, at));
    return { headers: response.headers, content: target.subarray(0, bytes) };
  }

  /** What the server gives, or throws what it says has failed: the error has the same code on both sides. */
  #answerOf(text: string, response: IncomingMessage): Fields {
    const status = response.statusCode ?? 0;
    const answer = parseAnswer(text);
    // A proxy in front of a server that restarts answers in its own words, and so does a server that ends.
    if (status >= 502 && status <= 504 && !isOurError(answer)) throw notThere(this.address, status);
    if (answer === undefined) throw this.#hasAnswered ? damagedOnTheWay(this.address) : notOurs(this.address);
    if (isOurError(answer)) throw errorOf(answer.fields('error'), this.address);
    if (status >= 400) throw notOurs(this.address);
    return answer;
  }

  async #send(
    method: Method,
    path: string,
    headers: Headers,
    content: Buffer | undefined,
    signal: AbortSignal | undefined,
  ): Promise<IncomingMessage> {
    const { host, port, tls, inactivityMs } = this.#options;
    const name = this.#nextName();
    const options = {
      host,
      port,
      method,
      path,
      agent: this.#agent,
      headers: this.#headers(headers, name),
      // Of the socket: a connection that is not made, and an answer that does not come or stops coming.
      timeout: silenceMs(inactivityMs),
      ...(signal === undefined ? {} : { signal }),
    };
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const sent =
        tls === undefined
          ? httpRequest(options)
          : httpsRequest({ ...options, ...tls.secureContext, ...tls.client, servername: serverName(host) });
      sent.on('response', resolve).on('error', reject);
      sent.on('timeout', () => sent.destroy(this.#silent(sent.socket?.connecting !== false)));
      sent.end(content);
    });
    if (isAnswerTo(name, response)) return response;
    response.destroy();
    throw this.#hasAnswered ? damagedOnTheWay(this.address) : notOurs(this.address);
  }

  #nextName(): string {
    this.#requests += 1;
    return `${this.#name}-${this.#requests}`;
  }

  #headers(headers: Headers, name: string): Headers {
    const { token } = this.#options;
    const named = { ...headers, [NAME_HEADER]: name };
    return token === undefined ? named : { ...named, authorization: `Bearer ${token}` };
  }

  #silent(isConnecting: boolean): GraphkeepError {
    if (isConnecting)
      return new GraphkeepError('GK_UNREACHABLE', `${this.address} cannot be reached in time`);
    if (this.#hasAnswered)
      return new GraphkeepError('GK_CONNECTION_LOST', `nothing comes from ${this.address} any more`);
    return new GraphkeepError('GK_UNREACHABLE', `${this.address} takes the connection and says nothing`);
  }
}

function noop(): void {}

/** Reads of a client that asks again over other connections meet those that are still under way. */
function mayPassForRange(error: GraphkeepError): boolean {
  return mayPass(error) || error.code === 'GK_SERVER_BUSY';
}

/** How long nothing may come over one connection. */
function silenceMs(inactivityMs: number): number {
  const share = Math.max(inactivityMs / SILENCES_PER_INACTIVITY, ANSWER_SILENCE_MS_MIN);
  return Math.min(share, ANSWER_SILENCE_MS_MAX, inactivityMs);
}

/** TLS has no names for addresses. */
function serverName(host: string): string {
  return /^[\d.]+$|:/.test(host) ? '' : host;
}

async function readText(response: IncomingMessage, heard: () => void): Promise<string> {
  const chunks: Buffer[] = [];
  const tooMuch = (): Error =>
    new GraphkeepError('GK_PROTOCOL', `an answer has more than ${ANSWER_BYTES_MAX} bytes`);
  await readChunks(response, heard, { bytesMax: ANSWER_BYTES_MAX, tooMuch }, (chunk) => chunks.push(chunk));
  return Buffer.concat(chunks).toString('utf8');
}

async function readChunks(
  response: IncomingMessage,
  heard: () => void,
  { bytesMax, tooMuch }: { readonly bytesMax: number; readonly tooMuch: () => Error },
  take: (chunk: Buffer, atBytes: number) => void,
): Promise<number> {
  let bytes = 0;
  for await (const chunk of response) {
    heard();
    const at = bytes;
    bytes += (chunk as Buffer).length;
    if (bytes > bytesMax) throw tooMuch();
    take(chunk as Buffer, at);
  }
  heard();
  return bytes;
}

/** What a proxy says in its own words carries no name, but it never says that all went well. */
function isAnswerTo(name: string, { headers, statusCode = 0 }: IncomingMessage): boolean {
  const found = headers[NAME_HEADER];
  return found === name || (found === undefined && statusCode >= 300);
}

function isOfRange({ headers }: Body, range: string): boolean {
  return headers['content-range'] === `${range.replace('=', ' ')}/*`;
}

function isIntact({ headers, content }: Body): boolean {
  return crc32(content) === Number.parseInt(String(headers[CHECKSUM_HEADER]), 16);
}

/** undefined for what is no JSON object. */
function parseAnswer(text: string): Fields | undefined {
  try {
    return new Fields(JSON.parse(text), 'answer');
  } catch {
    return undefined;
  }
}

function isOurError(answer: Fields | undefined): answer is Fields {
  return answer?.hasFields('error') === true;
}

/** Text of the other side goes to a terminal: it must not be able to move the cursor there. */
function errorOf(error: Fields, address: string): GraphkeepError {
  const text = (key: string): string => error.text(key, ERROR_TEXT_MAX).replace(/\p{Cc}/gu, ' ');
  const code = knownCode(error.text('code'));
  return new GraphkeepError(code, `${address}: ${text('message')}`, { hint: text('hint') });
}

const ERROR_TEXT_MAX = 65_536;

function notOurs(address: string): GraphkeepError {
  const text = `what listens on ${address} is no graphkeep server, or one of another version`;
  return new GraphkeepError('GK_PROTOCOL', text);
}

function notThere(address: string, status: number): GraphkeepError {
  return new GraphkeepError(
    'GK_UNREACHABLE',
    `${address} answers with ${status}: no server is behind it now`,
  );
}

function damagedOnTheWay(address: string): GraphkeepError {
  const text = `bytes from ${address} were damaged or cut short on the way`;
  return new GraphkeepError('GK_CONNECTION_LOST', text);
}
