/** Takes what protects the backup server out of a copy of the source, one check at a time, and expects a test to fail. */
import { noticeEach } from '../fixtures/mutations.ts';

const SECURITY = 'test/unit/server/security.test.ts';
const HOSTILE = 'test/unit/server/hostile.test.ts';
const CONNECTIONS = 'test/unit/server/connections.test.ts';
const MONITORING = 'test/unit/server/monitoring.test.ts';
const PROCESS = 'test/unit/server/process.test.ts';
const ACCESS = 'test/unit/server/access.test.ts';

const APP = 'src/server/app.ts';
const SERVER = 'src/server/backupserver.ts';

/** Step, file, what stands there, what takes its place, guard, and the tests of it that must notice. */
const STEPS: readonly (readonly [string, string, string, string, string, string])[] = [
  [
    ...([
      'who asks',
      SERVER,
      'if (needsPrincipal(request))',
      'if (needsPrincipal(request) && !request.url)',
    ] as const),
    ...([SECURITY, 'gets nothing from any route'] as const),
  ],
  [
    ...([
      'a database that may be read',
      APP,
      'if (principal.mayRead(database)) return',
      'if (database) return',
    ] as const),
    ...([SECURITY, 'a session is opened for those'] as const),
  ],
  [
    ...([
      'the list of databases',
      APP,
      'principal.mayRead(name)',
      'principal.mayRead(name) || true',
    ] as const),
    ...([SECURITY, 'each principal sees its own'] as const),
  ],
  [
    ...(['users and passwords', APP, "if (!principal.may('metadata'))", 'if (!database)'] as const),
    ...([SECURITY, 'users and passwords are for'] as const),
  ],
  [
    ...([
      'the configuration',
      'src/server/configurationroutes.ts',
      "if (principal.may('configuration'))",
    ] as const),
    ...(['if (principal)', SECURITY, 'the configuration is for'] as const),
  ],
  [
    ...([
      'figures',
      SERVER,
      "this.#principalOf(request).may('metrics')",
      'this.#principalOf(request) !== null',
    ] as const),
    ...([SECURITY, 'figures are for'] as const),
  ],
  [
    ...([
      'whose session it is',
      'src/server/sessions.ts',
      ' || session.owner.principal !== principal',
      '',
    ] as const),
    ...([SECURITY, 'of somebody else are not there'] as const),
  ],
  [
    ...([
      'what the access file says by now',
      APP,
      'this.#allowedDatabase(request, session.owner.database);',
      '',
    ] as const),
    ...([SECURITY, 'end to be of use when'] as const),
  ],
  [
    ...([
      'the host that is asked for',
      SERVER,
      'if (this.#isOfAnotherSite(request))',
      'if (!request.url)',
    ] as const),
    ...([SECURITY, 'cannot ask under the name'] as const),
  ],
  [
    ...(['audit of who hangs up', SERVER, "reply.raw.once('close'", "reply.raw.once('finish'"] as const),
    ...([SECURITY, 'has a line for who hangs up'] as const),
  ],
  [
    ...(['old connections end', SERVER, "reply.header('connection', 'close');", ''] as const),
    ...([SECURITY, 'connection that was busy'] as const),
  ],
  [
    ...(['the bound of bodies', SERVER, 'bodyLimit: REQUEST_BODY_BYTES_MAX,', ''] as const),
    ...([HOSTILE, 'bodies, whether they say so'] as const),
  ],
  [
    ...([
      'the bound of headers',
      SERVER,
      'maxHeaderSize: REQUEST_HEADER_BYTES_MAX',
      'maxHeaderSize: 1e6',
    ] as const),
    ...([HOSTILE, '^headers'] as const),
  ],
  [
    ...([
      'names of databases',
      'src/neo4j/glob.ts',
      'if (!/^[a-z0-9.-]+$/.test(normalized))',
      'if (!normalized)',
    ] as const),
    ...([HOSTILE, 'as the name of a database in a body'] as const),
  ],
  [
    ...([
      'a bad certificate where none is needed',
      SERVER,
      'guardPeers(server, this.#settings.tls,',
    ] as const),
    ...([
      '((_server: unknown, _tls: unknown, _told: unknown) => undefined)(server, this.#settings.tls,',
    ] as const),
    ...([CONNECTIONS, 'a revoked one where certificates are optional'] as const),
  ],
  [
    ...([
      'only names that are there become figures',
      APP,
      'if (!names.includes(database))',
      'if (!database)',
    ] as const),
    ...([MONITORING, 'of names that are nothing'] as const),
  ],
  [
    ...([
      'no listening unprotected',
      SERVER,
      'of refuseUnsafe(',
      'of ((..._facts: unknown[]): string[] => [])(',
    ] as const),
    ...([PROCESS, 'without protection: refused'] as const),
  ],
  [
    ...(['the mode of the access file', 'src/server/access.ts'] as const),
    ...(['forbiddenMode: ANY_ACCESS_OF_OTHERS | WRITABLE_BY_GROUP,', 'forbiddenMode: 0,'] as const),
    ...([ACCESS, 'is refused with more than mode'] as const),
  ],
  [
    ...(['tokens in constant time', 'src/server/access.ts'] as const),
    ...(['timingSafeEqual(tokenDigest, digest)', 'tokenDigest.equals(digest)'] as const),
    ...([ACCESS, 'are compared in constant time'] as const),
  ],
];

noticeEach(
  STEPS.map(([step, file, from, to, guard, pattern]) => ({
    ...{ step: `server: ${step}`, file, from, to, guard, pattern },
  })),
);
