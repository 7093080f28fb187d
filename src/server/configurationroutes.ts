/**
 * The configuration of the Neo4j beside the server, for principals that may read it: manifest and small files in one
 * answer, jars of plugins by ranges. Settings hold passwords, so the right to them is given by its own word.
 */
import { crc32 } from 'node:zlib';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ConfigurationContent } from '../artifact/configurationfile.ts';
import { GraphkeepError } from '../errors.ts';
import { writeManifest } from '../formats/configuration/manifest.ts';
import { openPlugin, readConfiguration } from '../operations/configuration.ts';
import { Fields } from '../remote/fields.ts';
import { CHECKSUM_HEADER, PROTOCOL_VERSION } from '../remote/protocol.ts';
import { answerWhenDone, sendRange } from './answer.ts';
import type { RouteParts } from './app.ts';
import { HeldRanges } from './heldranges.ts';
import { rangeOf } from './requestedrange.ts';

export function addConfigurationRoutes(app: FastifyInstance, parts: RouteParts): void {
  const routes = new ConfigurationRoutes(parts);
  const path = `/${PROTOCOL_VERSION}/configuration`;
  app.post(path, (request, reply) => routes.configuration(request, reply));
  app.get(`${path}/plugins/:file`, (request, reply) => routes.plugin(request, reply));
}

class ConfigurationRoutes {
  readonly #parts: RouteParts;
  /** Of all clients together: nobody has a session here that would bound him. */
  readonly #ranges = new HeldRanges();
  #last: Promise<unknown> = Promise.resolve();

  constructor(parts: RouteParts) {
    this.#parts = parts;
  }

  async configuration(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    this.#requireAllowed(request);
    const includePlugins = new Fields(request.body, 'request').flag('includePlugins');
    const { installation } = this.#parts;
    // One after the other: each is held in memory as a whole.
    const work = this.#last.then(async () =>
      answerOf(await readConfiguration({ installation, includePlugins })),
    );
    this.#last = work.catch(() => undefined);
    return answerWhenDone(reply, work);
  }

  async plugin(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    this.#requireAllowed(request);
    const { startBytes, bytes } = rangeOf(request);
    const name = new Fields(request.params, 'path').text('file');
    const jar = await openPlugin(this.#parts.installation, name);
    try {
      const read = async (target: Buffer): Promise<void> => {
        if ((await jar.read(target, startBytes)) < bytes)
          throw new GraphkeepError('GK_USAGE', `the range ends behind the end of ${name}`);
      };
      const held = await this.#ranges.read(bytes, read, () => void reply.raw.destroy());
      reply
        .code(206)
        .header('content-range', `bytes ${startBytes}-${startBytes + bytes - 1}/*`)
        .header(CHECKSUM_HEADER, crc32(held.content).toString(16))
        .type('application/octet-stream');
      return await sendRange(reply, held, this.#parts.rate);
    } finally {
      await jar.close();
    }
  }

  #requireAllowed(request: FastifyRequest): void {
    const principal = this.#parts.principalOf(request);
    if (principal.may('configuration')) return;
    throw new GraphkeepError('GK_UNAUTHORIZED', `${principal.name} may not read the configuration of Neo4j`, {
      hint: 'add configuration to the last word of its line in the access file of the server',
    });
  }
}

async function answerOf({ manifest, sources }: ConfigurationContent): Promise<object> {
  const contents: object[] = [];
  for (const { member, read } of sources) {
    if (member.role === 'plugin') continue;
    const content = Buffer.alloc(member.bytes);
    await read(content, 0);
    contents.push({ base64: content.toString('base64') });
  }
  return { manifest: writeManifest(manifest).toString('utf8'), contents };
}
