/**
 * The backup server as a whole: listens, knows who asks, keeps its certificates up to date, stops cleanly. Its settings
 * are judged before it listens anywhere: `refuseUnsafe`.
 */
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { type TLSSocket, Server as TlsServer } from 'node:tls';
import {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  fastify,
  LogController,
} from 'fastify';
import { asGraphkeepError, GraphkeepError, wrapSystemError } from '../errors.ts';
import {
  AUDIT_PATH_CHARACTERS_MAX,
  CONNECTIONS_MAX,
  REQUEST_ARRIVAL_MS_MAX,
  REQUEST_BODY_BYTES_MAX,
  REQUEST_HEADER_BYTES_MAX,
} from '../limits.ts';
import type { Installation } from '../neo4j/installation.ts';
import { type Address, formatAddress, isLoopback, parseAddress } from '../neo4j/values.ts';
import type { ProcessorMeter } from '../operations/processormeter.ts';
import { ProcessorShare } from '../operations/processorshare.ts';
import { RateLimit } from '../operations/ratelimit.ts';
import { guardPeers, peerOf, setServerMaterial } from '../remote/peer.ts';
import { NAME_HEADER, PROTOCOL_VERSION, parseRequestName } from '../remote/protocol.ts';
import { Reloaded, TlsWatch } from '../remote/reload.ts';
import type { TlsMaterial } from '../remote/tlsmaterial.ts';
import { AccessList, type Principal } from './access.ts';
import { errorBody, outcomeOf, sendError } from './answer.ts';
import { addRoutes } from './app.ts';
import { Audit } from './audit.ts';
import { Metrics } from './metrics.ts';
import { addMonitoring } from './monitoring.ts';
import { Sessions } from './sessions.ts';
import { refuseUnsafe, type ServerSettings } from './settings.ts';

/** As the lines of the running server have it. */
const LOG_LEVEL_WARN = 40;

export interface LogStream {
  write(line: string): unknown;
}

export interface BackupServerOptions {
  readonly settings: ServerSettings;
  readonly installation: Installation;
  /** Structured lines, one JSON object each. */
  readonly log: LogStream;
  /** How long a request, or a handshake, may take to arrive. */
  readonly requestArrivalMs?: number;
  /** What the processors are used for; those of this machine when absent. */
  readonly processorMeter?: ProcessorMeter;
}

export class BackupServer {
  readonly #settings: ServerSettings;
  readonly #app: FastifyInstance;
  readonly #sessions: Sessions;
  readonly #metrics: Metrics;
  readonly #audit: Audit;
  readonly #access: Reloaded<AccessList>;
  readonly #tls: TlsWatch | undefined;
  readonly #principals = new WeakMap<FastifyRequest, Principal>();
  /** What requests are about, for the audit. */
  readonly #databases = new WeakMap<FastifyRequest, string>();
  /** The certificates and lists in use when a connection was let in; each ends soon after others are. */
  readonly #letInBy = new WeakMap<Socket, TlsMaterial>();
  #monitoring: FastifyInstance | undefined;
  #closing: Promise<void> | undefined;
  /** All of them: Node does not count those that are in the middle of a handshake when it closes connections. */
  readonly #sockets = new Set<Socket>();

  private constructor(parts: Parts) {
    const { settings, installation, app } = parts;
    this.#settings = settings;
    this.#app = app;
    this.#audit = parts.audit;
    this.#access = parts.access;
    this.#tls = parts.tls;
    this.#sessions = new Sessions({
      sessionsMax: settings.sessionsMax,
      timeoutMs: settings.sessionTimeoutMs,
      onEnd: (session, expired) => this.#sessionEnded(session, expired),
      onError: (error) => app.log.error(error),
    });
    this.#metrics = new Metrics(installation, () => this.#sessions.count);
    this.#addHooks();
    addRoutes(app, {
      installation,
      sessions: this.#sessions,
      metrics: this.#metrics,
      rate: new RateLimit(settings.rateBytesPerSecond, undefined),
      processorShare: parts.processorShare,
      stagingDirectory: settings.stagingDirectory ?? tmpdir(),
      sessionTimeoutMs: settings.sessionTimeoutMs,
      principalOf: (request) => this.#principalOf(request),
      concerns: (request, database) => void this.#databases.set(request, database),
    });
    addMonitoring(app, installation, this.#metrics, (request) => this.#principalOf(request).may('metrics'));
  }

  /** Listens when this returns. @throws GK_CONFIG for what would be unsafe, GK_UNREACHABLE for an address that is taken */
  static async start(options: BackupServerOptions): Promise<BackupServer> {
    const { settings, installation, log, requestArrivalMs = REQUEST_ARRIVAL_MS_MAX } = options;
    let app: FastifyInstance | undefined;
    const report = (error: unknown): void => app?.log.error(error);
    const access = await startAccess(settings, report);
    for (const warning of refuseUnsafe(
      settings,
      settings.accessFile === undefined ? undefined : access.value,
    )) {
      log.write(`${JSON.stringify({ level: LOG_LEVEL_WARN, time: Date.now(), msg: warning })}\n`);
    }
    const tls = await startTls(settings, () => app, report);
    app = makeApp(log, tls, requestArrivalMs);
    const { log: logger } = app;
    const audit = await Audit.open({
      path: settings.auditLog,
      otherwise: (event) => logger.info(event, 'audit'),
      onError: report,
    });
    const { processorMeter: meter } = options;
    const processorShare = new ProcessorShare(settings.cpuSharePercent, meter === undefined ? {} : { meter });
    const server = new BackupServer({ settings, installation, app, audit, access, tls, processorShare });
    try {
      await server.#listen(installation, log);
    } catch (error) {
      await server.close();
      throw error;
    }
    return server;
  }

  /** Where it really listens: the port is another one where 0 was asked for. */
  get address(): Address {
    return addressOf(this.#app);
  }

  get monitoringAddress(): Address | undefined {
    return this.#monitoring === undefined ? undefined : addressOf(this.#monitoring);
  }

  /** Reads certificates and access file now instead of within seconds. */
  async reload(): Promise<void> {
    await this.#tls?.check();
    await this.#access.check();
  }

  /** Sessions end, and what they hold is released; connections that are open are closed. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#access.close();
    this.#tls?.close();
    await this.#sessions.closeAll();
    await this.#monitoring?.close();
    const closed = this.#app.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
    this.#audit.write({ event: 'stop' });
    await this.#audit.close();
  }

  async #listen(installation: Installation, log: LogStream): Promise<void> {
    const { monitoringAddress, listenAddress } = this.#settings;
    await listenOn(this.#app, listenAddress);
    if (monitoringAddress !== undefined) {
      this.#monitoring = makePlainApp(log, REQUEST_ARRIVAL_MS_MAX);
      addMonitoring(this.#monitoring, installation, this.#metrics, () => true);
      await listenOn(this.#monitoring, monitoringAddress);
    }
    this.#audit.write({ event: 'start' });
    this.#app.log.info({ address: formatAddress(this.address), tls: this.#tls !== undefined }, 'listening');
  }

  #addHooks(): void {
    this.#app.addHook('onRequest', async (request, reply) => {
      // Not after the answer: who hangs up before its last byte has read it all the same.
      reply.raw.once('close', () => this.#audited(request, reply));
      const name = parseRequestName(request.headers[NAME_HEADER]);
      if (name !== undefined) reply.header(NAME_HEADER, name);
      if (needsPrincipal(request)) await this.#requirePrincipal(request, reply);
    });
    this.#app.addHook('onSend', async (request, reply) => {
      if (this.#tls === undefined || this.#letInBy.get(request.socket) === this.#tls.material) return;
      reply.header('connection', 'close');
    });
    const { server } = this.#app;
    server.on('connection', (socket: Socket) => {
      if (this.#closing !== undefined) socket.destroy();
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    if (!(server instanceof TlsServer)) return;
    guardPeers(server, this.#settings.tls, (reason, socket) => this.#certificateRefused(reason, socket));
    server.on('secureConnection', (socket) => {
      if (this.#tls !== undefined) this.#letInBy.set(socket, this.#tls.material);
    });
  }

  async #requirePrincipal(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    if (this.#isOfAnotherSite(request)) {
      this.#metrics.refused();
      const text = 'the request is for another host than this server';
      await sendError(reply, new GraphkeepError('GK_UNAUTHORIZED', text));
      return;
    }
    const certificate = certificateOf(request);
    const { authorization } = request.headers;
    const principal = this.#access.value.authenticate({ authorization, certificate });
    if (principal !== undefined) {
      this.#principals.set(request, principal);
      return;
    }
    this.#metrics.refused();
    const text = 'no known token or certificate came with the request';
    const error = new GraphkeepError('GK_UNAUTHORIZED', text);
    await reply.code(401).header('www-authenticate', 'Bearer').send(errorBody(error));
  }

  #audited(request: FastifyRequest, reply: FastifyReply): void {
    const status = outcomeOf(reply.raw);
    const cut = !reply.raw.writableFinished;
    if (status < 400 && isFrequent(request)) return;
    const principal = this.#principals.get(request)?.name;
    const database = this.#databases.get(request);
    this.#audit.write({
      event: status === 401 || status === 403 ? 'refused' : 'request',
      ...(principal === undefined ? {} : { principal }),
      ...(database === undefined ? {} : { database }),
      remoteAddress: request.ip,
      method: request.method,
      path: request.url.slice(0, AUDIT_PATH_CHARACTERS_MAX),
      status,
      ...(cut ? { cut } : {}),
    });
  }

  /** The client is told nothing but that the connection ended. */
  #certificateRefused(reason: string, { remoteAddress }: TLSSocket): void {
    this.#metrics.refused();
    this.#app.log.warn({ reason, remoteAddress }, 'a certificate was refused');
    this.#audit.write({
      event: 'refused',
      ...(remoteAddress === undefined ? {} : { remoteAddress }),
      reason,
    });
  }

  /**
   * Where nobody has to prove who he is, a page in a browser of this machine could ask as well: its host name may lead to
   * loopback. Such a request names a host that this server is not known by.
   */
  #isOfAnotherSite(request: FastifyRequest): boolean {
    const { listenAddress, advertisedAddress, insecure } = this.#settings;
    if (this.#tls !== undefined || insecure) return false;
    const host = parseAddress(request.headers.host ?? '', listenAddress)?.host;
    const known = [listenAddress.host, advertisedAddress?.host];
    return host === undefined || !(isLoopback(host) || known.includes(host));
  }

  #principalOf(request: FastifyRequest): Principal {
    const principal = this.#principals.get(request);
    if (principal === undefined)
      throw new GraphkeepError('GK_INTERNAL', 'a request came past the check of who asks');
    return principal;
  }

  #sessionEnded(
    session: { owner: { principal: string; database: string }; sentBytes: number; startedMs: number },
    expired: boolean,
  ): void {
    if (expired) this.#metrics.expired(session.owner.database);
    this.#audit.write({
      event: expired ? 'sessionExpired' : 'sessionEnd',
      ...session.owner,
      sentBytes: session.sentBytes,
      durationMs: Date.now() - session.startedMs,
    });
  }
}

interface Parts {
  readonly settings: ServerSettings;
  readonly installation: Installation;
  readonly app: FastifyInstance;
  readonly audit: Audit;
  readonly access: Reloaded<AccessList>;
  readonly tls: TlsWatch | undefined;
  readonly processorShare: ProcessorShare;
}

async function startAccess(
  settings: ServerSettings,
  onError: (error: unknown) => void,
): Promise<Reloaded<AccessList>> {
  const { accessFile, tls } = settings;
  if (accessFile !== undefined) {
    return Reloaded.start({ load: () => AccessList.load(accessFile), files: [accessFile], onError });
  }
  const requiresCertificate = tls.enabled && tls.clientAuth === 'REQUIRE' && !tls.trustAll;
  return Reloaded.start({ load: async () => AccessList.withoutFile(requiresCertificate), files: [] });
}

async function startTls(
  settings: ServerSettings,
  app: () => FastifyInstance | undefined,
  onError: (error: unknown) => void,
): Promise<TlsWatch | undefined> {
  if (!settings.tls.enabled) return undefined;
  return TlsWatch.start(settings.tls, {
    onError,
    onChange: (material) => {
      const server = app()?.server;
      if (server instanceof TlsServer) setServerMaterial(server, material);
      // What was let in by the old ones must show itself again: its certificate may have been revoked.
      app()?.server.closeIdleConnections();
      app()?.log.info('certificates were read anew');
    },
  });
}

function makeApp(log: LogStream, tls: TlsWatch | undefined, arrivalMs: number): FastifyInstance {
  if (tls === undefined) return makePlainApp(log, arrivalMs);
  const { secureContext, server } = tls.material;
  const https = { ...secureContext, ...server, handshakeTimeout: arrivalMs, ...httpOptions(arrivalMs) };
  const app = fastify({ ...appOptions(log, arrivalMs), https });
  setServerMaterial(app.server, tls.material);
  const typed = app as unknown as FastifyInstance;
  addErrorHandlers(typed);
  return typed;
}

function makePlainApp(log: LogStream, arrivalMs: number): FastifyInstance {
  const app = fastify({ ...appOptions(log, arrivalMs), http: httpOptions(arrivalMs) });
  addErrorHandlers(app);
  return app;
}

function httpOptions(arrivalMs: number) {
  return {
    maxHeaderSize: REQUEST_HEADER_BYTES_MAX,
    headersTimeout: arrivalMs,
    requestTimeout: arrivalMs,
    connectionsCheckingInterval: arrivalMs / 4,
  } as const;
}

function appOptions(log: LogStream, arrivalMs: number) {
  return {
    bodyLimit: REQUEST_BODY_BYTES_MAX,
    requestTimeout: arrivalMs,
    logController: new LogController({ disableRequestLogging: true }),
    forceCloseConnections: true,
    exposeHeadRoutes: false,
    logger: { level: 'info', stream: { write: (line: string) => void log.write(line) } },
  } as const;
}

function addErrorHandlers(app: FastifyInstance): void {
  app.server.maxConnections = CONNECTIONS_MAX;
  app.setNotFoundHandler((request, reply) => {
    const text = `there is no ${request.method} ${request.url.slice(0, 200)} here`;
    return sendError(
      reply,
      new GraphkeepError('GK_NOT_FOUND', text, { hint: 'the routes are in docs/protocol.md' }),
    );
  });
  app.setErrorHandler((error, request, reply) => {
    const status = error instanceof Error && 'statusCode' in error ? Number(error.statusCode) : 500;
    if (status < 500 && error instanceof Error) {
      const refused = new GraphkeepError('GK_USAGE', error.message, {
        hint: 'the routes are in docs/protocol.md',
      });
      return reply.code(status).send(errorBody(refused));
    }
    const failure = asGraphkeepError(error, 'answer the request');
    if (failure.code === 'GK_INTERNAL') request.log.error(error);
    return sendError(reply, failure);
  });
}

/** Whether it is alive and ready is told to anybody, since a probe has no certificate of its own. */
function needsPrincipal(request: FastifyRequest): boolean {
  // Of the route that was found, not of the text of the address, which can be spelled in many ways.
  const route = request.routeOptions.url ?? '';
  return route.startsWith(`/${PROTOCOL_VERSION}/`) || route === '/metrics';
}

function isFrequent(request: FastifyRequest): boolean {
  const route = request.routeOptions.url ?? '';
  return /\/members\/:member(\/frames\/:offset)?$|\/groups\/:group\/|\/renew$|^\/(health|ready|metrics)$/.test(
    route,
  );
}

function certificateOf(request: FastifyRequest) {
  const { socket } = request;
  if (!('encrypted' in socket)) return undefined;
  const peer = peerOf(socket as TLSSocket);
  return peer.state === 'verified' ? peer.certificate : undefined;
}

async function listenOn(app: FastifyInstance, { host, port }: Address): Promise<void> {
  try {
    await app.listen({ host, port });
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE') {
      throw new GraphkeepError(
        'GK_UNREACHABLE',
        `something listens on ${formatAddress({ host, port })} already`,
        {
          hint: 'stop it, or choose another address with server.backup.listen_address',
          cause: error,
        },
      );
    }
    throw wrapSystemError(error, `listen on ${formatAddress({ host, port })}`);
  }
}

function addressOf(app: FastifyInstance): Address {
  const { address, port } = app.server.address() as AddressInfo;
  return { host: address, port };
}
