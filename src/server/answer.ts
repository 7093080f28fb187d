/** How the backup server answers: errors in one form, and slow work with a sign of life until it is done. */
import type { ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyReply } from 'fastify';
import { asGraphkeepError, type ErrorCode, type GraphkeepError } from '../errors.ts';
import { ANSWER_HEARTBEAT_MS, PACED_BYTES } from '../limits.ts';
import type { RateLimit } from '../operations/ratelimit.ts';
import type { HeldRange } from './heldranges.ts';

/** What a code means in HTTP; everything else is a failure of the server. */
const HTTP_STATUS: Partial<Record<ErrorCode, number>> = {
  GK_USAGE: 400,
  GK_PROTOCOL: 400,
  GK_UNAUTHORIZED: 403,
  GK_NOT_FOUND: 404,
  GK_SOURCE_MOVED: 409,
  GK_SESSION_LOST: 410,
  GK_SERVER_BUSY: 503,
  GK_CONNECTION_LOST: 503,
};

export function httpStatusOf({ code }: GraphkeepError): number {
  return HTTP_STATUS[code] ?? 500;
}

export function errorBody({ code, message, hint }: GraphkeepError): object {
  return { error: { code, message, hint } };
}

export function sendError(reply: FastifyReply, error: GraphkeepError): FastifyReply {
  return reply.code(httpStatusOf(error)).send(errorBody(error));
}

/**
 * Sends what `work` gives. Reading a log can take minutes in which nothing is sent; a client, or a proxy, would take the
 * connection for dead. So after a while the answer is begun with status 200 and spaces, which JSON allows in front, and an
 * error that comes later is told in the body alone.
 */
export async function answerWhenDone(reply: FastifyReply, work: Promise<object>): Promise<FastifyReply> {
  const settled = work.then(
    (result) => ({ status: 200, body: result }),
    (error: unknown) => {
      const failure = asGraphkeepError(error, 'answer the request');
      if (failure.code === 'GK_INTERNAL') reply.log.error(error);
      return { status: httpStatusOf(failure), body: errorBody(failure) };
    },
  );
  void settled.then(({ status }) => outcomes.set(reply.raw, status));
  const quick = await withinHeartbeat(settled);
  if (quick !== undefined) return reply.code(quick.status).send(quick.body);
  return reply.type('application/json').send(Readable.from(withSignsOfLife(settled)));
}

/** What came of slow work, by answer: its status line was sent before. */
const outcomes = new WeakMap<ServerResponse, number>();

/** The status that tells how the request went, for the audit. */
export function outcomeOf(response: ServerResponse): number {
  return outcomes.get(response) ?? response.statusCode;
}

interface Settled {
  readonly status: number;
  readonly body: object;
}

async function* withSignsOfLife(settled: Promise<Settled>): AsyncGenerator<string> {
  for (;;) {
    yield ' ';
    const done = await withinHeartbeat(settled);
    if (done === undefined) continue;
    yield JSON.stringify(done.body);
    return;
  }
}

/** Sends a range whose headers are set, and holds its memory until the last byte has left or the client is gone. */
export async function sendRange(
  reply: FastifyReply,
  range: HeldRange,
  rate: RateLimit,
): Promise<FastifyReply> {
  const { content, release } = range;
  // Already closed: nobody would tell.
  if (reply.raw.destroyed) release();
  else reply.raw.once('close', release);
  if (rate.isUnlimited) return reply.send(content);
  reply.header('content-length', content.length);
  return reply.send(Readable.from(paced(content, rate)));
}

/** A client that waits for its whole range would take the connection for dead, ask again, and make all wait longer. */
async function* paced(content: Buffer, rate: RateLimit): AsyncGenerator<Buffer> {
  for (let sent = 0; sent < content.length; sent += PACED_BYTES) {
    const piece = content.subarray(sent, sent + PACED_BYTES);
    await rate.spend(piece.length);
    yield piece;
  }
}

async function withinHeartbeat(settled: Promise<Settled>): Promise<Settled | undefined> {
  const stop = new AbortController();
  const waited = sleep(ANSWER_HEARTBEAT_MS, undefined, { signal: stop.signal }).catch(() => undefined);
  try {
    return await Promise.race([settled, waited]);
  } finally {
    stop.abort();
  }
}
