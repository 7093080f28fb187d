/**
 * The routes of the backup server: docs/protocol.md. Each parses, asks what the principal may do, and calls a session;
 * what a backup is, is decided below. Every request is refused unless a route and a principal allow it.
 */
import { crc32 } from 'node:zlib';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { GraphkeepError } from '../errors.ts';
import { localSource } from '../hotcopy/source.ts';
import { PACKED_LEVEL_MAX, RANGE_BYTES_MAX, REQUEST_NAME_MAX } from '../limits.ts';
import { normalizeDatabaseName } from '../neo4j/glob.ts';
import type { Installation } from '../neo4j/installation.ts';
import { readMetadataScript } from '../operations/metadata.ts';
import type { ProcessorShare } from '../operations/processorshare.ts';
import type { RateLimit } from '../operations/ratelimit.ts';
import { Fields } from '../remote/fields.ts';
import {
  CHECKSUM_HEADER,
  PROTOCOL_VERSION,
  parseInclude,
  parseMark,
  parsePosition,
  parseReport,
  parseStart,
  writeFence,
  writeNeostore,
  writeSearch,
  writeTail,
  writeWholeMember,
} from '../remote/protocol.ts';
import { VERSION } from '../version.ts';
import type { Principal } from './access.ts';
import { answerWhenDone, sendRange } from './answer.ts';
import { addConfigurationRoutes } from './configurationroutes.ts';
import type { Metrics } from './metrics.ts';
import { rangeOf } from './requestedrange.ts';
import type { Held, Session } from './session.ts';
import type { Sessions } from './sessions.ts';

export interface RouteParts {
  readonly installation: Installation;
  readonly sessions: Sessions;
  readonly metrics: Metrics;
  readonly rate: RateLimit;
  readonly processorShare: ProcessorShare;
  readonly stagingDirectory: string;
  readonly sessionTimeoutMs: number;
  /** Who asks; a request of nobody we know does not get here. */
  readonly principalOf: (request: FastifyRequest) => Principal;
  /** Told, for the audit, which database a request is about, before it is known whether it is allowed. */
  readonly concerns: (request: FastifyRequest, database: string) => void;
}

/** Everything below `/v1`; nothing there is answered to who is not known. */
export function addRoutes(app: FastifyInstance, parts: RouteParts): void {
  const routes = new Routes(parts);
  const prefix = `/${PROTOCOL_VERSION}`;
  const session = `${prefix}/sessions/:session`;
  const group = `${session}/groups/:group`;
  app.get(`${prefix}/server`, (request) => routes.server(request));
  app.get(`${prefix}/databases`, (request, reply) => routes.databases(request, reply));
  app.post(`${prefix}/databases/:database/metadata`, (request, reply) => routes.metadata(request, reply));
  app.post(`${prefix}/databases/:database/reports`, (request, reply) => routes.report(request, reply));
  app.post(`${prefix}/sessions`, (request, reply) => routes.openSession(request, reply));
  app.post(`${session}/renew`, (request, reply) => routes.renew(request, reply));
  app.delete(session, (request, reply) => routes.closeSession(request, reply));
  app.post(`${group}/open`, (request, reply) => routes.openGroup(request, reply));
  app.post(`${group}/confirm`, (request, reply) => routes.confirmGroup(request, reply));
  app.post(`${group}/close`, (request, reply) => routes.closeGroup(request, reply));
  app.post(`${session}/find`, (request, reply) => routes.find(request, reply));
  app.post(`${session}/tail`, (request, reply) => routes.tail(request, reply));
  app.get(`${session}/members/:member/frames/:offset`, (request, reply) => routes.readFrame(request, reply));
  app.get(`${session}/members/:member/hash`, (request) => routes.hash(request));
  app.get(`${session}/members/:member`, (request, reply) => routes.read(request, reply));
  addConfigurationRoutes(app, parts);
}

class Routes {
  readonly #parts: RouteParts;

  constructor(parts: RouteParts) {
    this.#parts = parts;
  }

  async server(request: FastifyRequest): Promise<object> {
    this.#parts.principalOf(request);
    return { program: 'graphkeep', version: VERSION, rangeBytesMax: RANGE_BYTES_MAX };
  }

  async databases(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const principal = this.#parts.principalOf(request);
    const names = await this.#parts.installation.listDatabases();
    const allowed = names.filter((name) => principal.mayRead(name));
    return reply.send({ databases: allowed.map((name) => ({ name })) });
  }

  async openSession(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const principal = this.#parts.principalOf(request);
    const body = new Fields(request.body, 'request');
    const database = this.#allowedDatabase(request, body.text('database'));
    const kind = body.text('kind');
    if (kind !== 'snapshot' && kind !== 'log') {
      throw new GraphkeepError('GK_USAGE', `a session is of kind snapshot or log, not '${kind}'`);
    }
    const asked = { principal: principal.name, database, request: body.text('request', REQUEST_NAME_MAX) };
    const source = localSource(this.#parts.installation.folders(database));
    const work = this.#parts.sessions
      .open({ ...asked, request: `${kind} ${asked.request}` }, async () =>
        kind === 'log' ? { log: await source.openLog() } : { snapshot: await source.openSnapshot() },
      )
      .then((session) => this.#opened(session));
    return answerWhenDone(reply, work);
  }

  #opened(session: Session): object {
    const common = { session: session.id, expiresAfterMs: this.#parts.sessionTimeoutMs };
    return { ...common, ...describe(session.held) };
  }

  async renew(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const session = this.#session(request);
    return session.use(async () => reply.code(204).send());
  }

  async closeSession(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    await this.#parts.sessions.end(this.#session(request));
    return reply.code(204).send();
  }

  async openGroup(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const group = numberOf(request, 'group');
    return this.#step(request, reply, async (session, body, step) => {
      const stagingDirectory = body.flag('staged') ? this.#parts.stagingDirectory : undefined;
      const mayBeWhole = body.has('whole') && body.flag('whole');
      const opened = await session.openGroup(group, step, { stagingDirectory, mayBeWhole });
      if (opened === undefined) return { members: null };
      if (!('whole' in opened)) return { members: opened };
      for (const { packed } of opened.whole) this.#parts.metrics.sent(session.owner.database, packed.length);
      return { whole: opened.whole.map(writeWholeMember) };
    });
  }

  async confirmGroup(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const group = numberOf(request, 'group');
    return this.#step(request, reply, async (session) => ({ confirmed: await session.confirmGroup(group) }));
  }

  async closeGroup(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const session = this.#session(request);
    const step = new Fields(request.body, 'request').count('step');
    await session.use(() => session.closeGroup(numberOf(request, 'group'), step));
    return reply.code(204).send();
  }

  async find(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    return this.#step(request, reply, async (session, body) => {
      const hint = body.has('hint') ? parsePosition(body.fields('hint')) : undefined;
      return writeSearch(await session.find(parseMark(body), hint));
    });
  }

  async tail(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    return this.#step(request, reply, async (session, body) => {
      const start = body.has('start') ? parseStart(body.fields('start')) : undefined;
      const { tail, members } = await session.takeTail(start);
      return { ...writeTail(tail), members };
    });
  }

  /** What a session does one after the other, each once, under the number that the client gives it. */
  #step(
    request: FastifyRequest,
    reply: FastifyReply,
    work: (session: Session, body: Fields, step: number) => Promise<object>,
  ): Promise<FastifyReply> {
    const session = this.#session(request);
    const body = new Fields(request.body, 'request');
    const step = body.count('step');
    const done = session.use(async () => session.step(step, () => work(session, body, step)));
    return answerWhenDone(reply, done);
  }

  async read(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const session = this.#session(request);
    const { startBytes, bytes } = rangeOf(request);
    const range = { member: numberOf(request, 'member'), startBytes, bytes };
    const cut = (): void => void reply.raw.destroy();
    const held = await session.use(async () => {
      await this.#yieldProcessors(session, range.member);
      return session.read(range, cut);
    });
    this.#parts.metrics.sent(session.owner.database, bytes);
    reply
      .code(206)
      .header('content-range', `bytes ${startBytes}-${startBytes + bytes - 1}/*`)
      .header(CHECKSUM_HEADER, crc32(held.content).toString(16))
      .type('application/octet-stream');
    return sendRange(reply, held, this.#parts.rate);
  }

  async readFrame(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const session = this.#session(request);
    const frame = {
      member: numberOf(request, 'member'),
      offset: offsetOf(request),
      level: levelOf(request),
      isHashed: isHashAsked(request),
    };
    const cut = (): void => void reply.raw.destroy();
    const held = await session.use(async () => {
      await this.#yieldProcessors(session, frame.member);
      return session.readFrame(frame, cut);
    });
    this.#parts.metrics.sent(session.owner.database, held.content.length);
    reply.header(CHECKSUM_HEADER, crc32(held.content).toString(16)).type('application/octet-stream');
    return sendRange(reply, held, this.#parts.rate);
  }

  async #yieldProcessors(session: Session, member: number): Promise<void> {
    if (session.mayWait(member)) await this.#parts.processorShare.wait(undefined);
  }

  async hash(request: FastifyRequest): Promise<object> {
    const session = this.#session(request);
    return session.use(async () => ({ sha256: session.hashOf(numberOf(request, 'member')) ?? null }));
  }

  async metadata(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const principal = this.#parts.principalOf(request);
    const database = this.#allowedDatabase(request, paramOf(request, 'database'));
    if (!principal.may('metadata')) {
      throw new GraphkeepError('GK_UNAUTHORIZED', `${principal.name} may not read users and roles`);
    }
    const { installation, stagingDirectory } = this.#parts;
    const work = readMetadataScript({
      system: installation.folders('system'),
      database,
      include: parseInclude(new Fields(request.body, 'request')),
      temporaryDirectory: stagingDirectory,
    });
    return answerWhenDone(reply, work);
  }

  async report(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const database = this.#allowedDatabase(request, paramOf(request, 'database'));
    const report = parseReport(new Fields(request.body, 'request'));
    // A pattern allows names of no database, and each would be a series of the metrics for good.
    const names = await this.#parts.installation.listDatabases();
    if (!names.includes(database)) throw new GraphkeepError('GK_NOT_FOUND', `there is no '${database}' here`);
    this.#parts.metrics.reported(database, report);
    return reply.code(204).send();
  }

  #session(request: FastifyRequest): Session {
    const principal = this.#parts.principalOf(request);
    const session = this.#parts.sessions.get(paramOf(request, 'session'), principal.name);
    // Asked each time: the access file may have changed since the session was opened.
    this.#allowedDatabase(request, session.owner.database);
    return session;
  }

  /** Asked before anything is looked for: who may not read a database does not learn whether it is there. */
  #allowedDatabase(request: FastifyRequest, text: string): string {
    const principal = this.#parts.principalOf(request);
    const database = normalizeDatabaseName(text);
    this.#parts.concerns(request, database);
    if (principal.mayRead(database)) return database;
    throw new GraphkeepError('GK_UNAUTHORIZED', `${principal.name} may not back up database '${database}'`);
  }
}

function describe(held: Held): object {
  if ('log' in held) return { neostore: writeNeostore(held.log.neostore) };
  const { neostore, fence, groups, leftOut, estimatedBytes } = held.snapshot;
  return {
    neostore: writeNeostore(neostore),
    fence: writeFence(fence),
    groups: groups.map(({ path, rebuildable }) => ({ path, rebuildable })),
    leftOut,
    estimatedBytes,
  };
}

function paramOf(request: FastifyRequest, name: string): string {
  return new Fields(request.params, 'path').text(name);
}

function numberOf(request: FastifyRequest, name: string): number {
  const text = paramOf(request, name);
  if (!/^\d{1,9}$/.test(text)) throw new GraphkeepError('GK_USAGE', `${name} is no number`);
  return Number(text);
}

function offsetOf(request: FastifyRequest): number {
  const text = paramOf(request, 'offset');
  if (!/^\d{1,15}$/.test(text)) throw new GraphkeepError('GK_USAGE', 'the offset of the frame is no number');
  return Number(text);
}

/** Whether the client will ask for the hash of the member, and leaves its frames packed. */
function isHashAsked(request: FastifyRequest): boolean {
  const query = new Fields(request.query, 'query');
  if (!query.has('hash')) return false;
  const value = query.text('hash');
  if (value === 'true' || value === 'false') return value === 'true';
  throw new GraphkeepError('GK_USAGE', 'hash is true or false');
}

/** Of 1 to the level that the processor of a database host is spent on. */
function levelOf(request: FastifyRequest): number {
  const level = Number(new Fields(request.query, 'query').text('level'));
  if (Number.isInteger(level) && level >= 1 && level <= PACKED_LEVEL_MAX) return level;
  throw new GraphkeepError('GK_USAGE', `frames are compressed at level 1 to ${PACKED_LEVEL_MAX}`);
}
