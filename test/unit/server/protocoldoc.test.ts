/** The routes of the server are those of its descriptions: none is missing there, and none is invented. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fastify } from 'fastify';
import { GraphkeepError } from '../../../src/errors.ts';
import { installationFromPaths } from '../../../src/neo4j/installation.ts';
import { ProcessorShare } from '../../../src/operations/processorshare.ts';
import { RateLimit } from '../../../src/operations/ratelimit.ts';
import { addRoutes } from '../../../src/server/app.ts';
import { Metrics } from '../../../src/server/metrics.ts';
import { addMonitoring } from '../../../src/server/monitoring.ts';
import { Sessions } from '../../../src/server/sessions.ts';
import { temporaryFolder } from '../../fixtures/workspace.ts';

const DOCS = join(import.meta.dirname, '..', '..', '..', 'docs');

test('docs/protocol.md and docs/protocol.openapi.yaml have the routes of the server, and no other', async (context) => {
  const folder = temporaryFolder(context);
  const installation = installationFromPaths(folder, folder);
  const sessions = new Sessions({
    sessionsMax: 1,
    timeoutMs: 1000,
    onEnd: () => undefined,
    onError: () => undefined,
  });
  context.after(() => sessions.closeAll());
  const metrics = new Metrics(installation, () => 0);
  const served: string[] = [];
  const app = fastify({ exposeHeadRoutes: false });
  app.addHook('onRoute', ({ method, url }) => {
    served.push(`${String(method)} ${url.replace(/:(\w+)/g, '{$1}')}`);
  });
  addRoutes(app, {
    installation,
    sessions,
    metrics,
    rate: new RateLimit(undefined, undefined),
    processorShare: new ProcessorShare(100),
    stagingDirectory: folder,
    sessionTimeoutMs: 1000,
    principalOf: () => {
      throw new GraphkeepError('GK_UNAUTHORIZED', 'nobody');
    },
    concerns: () => undefined,
  });
  addMonitoring(app, installation, metrics, () => false);
  await app.ready();
  await app.close();

  const yaml = readFileSync(join(DOCS, 'protocol.openapi.yaml'), 'utf8');
  let path = '';
  const described = yaml.split('\n').flatMap((line) => {
    path = /^ {2}(\/\S+):$/.exec(line)?.[1] ?? path;
    const method = /^ {4}(get|post|put|delete|patch):$/.exec(line)?.[1];
    return method === undefined ? [] : [`${method.toUpperCase()} ${path}`];
  });
  const told = [
    ...readFileSync(join(DOCS, 'protocol.md'), 'utf8').matchAll(/^\| `((?:GET|POST|DELETE) \S+)` \|/gm),
  ].map(([, route]) => route!);
  assert.ok(served.length > 15);
  assert.deepEqual(described.sort(), served.sort());
  assert.deepEqual(told.sort(), served.sort());
});
