/** What watches a server is told: whether it runs, whether it could back up, and its figures. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { asGraphkeepError, GraphkeepError } from '../errors.ts';
import type { Installation } from '../neo4j/installation.ts';
import { VERSION } from '../version.ts';
import { errorBody } from './answer.ts';
import type { Metrics } from './metrics.ts';

export function addMonitoring(
  app: FastifyInstance,
  installation: Installation,
  metrics: Metrics,
  maySeeMetrics: (request: FastifyRequest) => boolean,
): void {
  app.get('/health', async () => ({ status: 'up', version: VERSION }));
  app.get('/ready', async (_request, reply) => {
    try {
      await installation.listDatabases();
      return { status: 'ready' };
    } catch (error) {
      // Names and paths of the host are for the log, not for whoever asks.
      reply.log.warn(error);
      const { code } = asGraphkeepError(error, 'list the databases');
      const failure = new GraphkeepError(
        code,
        'the databases of Neo4j cannot be listed; see the log of the server',
      );
      return reply.code(503).send(errorBody(failure));
    }
  });
  app.get('/metrics', async (request, reply) => {
    if (!maySeeMetrics(request))
      throw new GraphkeepError('GK_UNAUTHORIZED', 'the permission "metrics" is missing');
    return reply.type(metrics.registry.contentType).send(await metrics.render());
  });
}
