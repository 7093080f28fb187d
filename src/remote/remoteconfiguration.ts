/**
 * The configuration of the Neo4j beside a backup server: the manifest and the small files come in one answer, the jars of
 * plugins by ranges. What is written of them is proven by the hashes of the manifest, as if the files lay here.
 */
import type { ConfigurationContent, ConfigurationSource } from '../artifact/configurationfile.ts';
import { GraphkeepError } from '../errors.ts';
import { type ConfigurationMember, parseManifest } from '../formats/configuration/manifest.ts';
import { FormatError } from '../formats/formaterror.ts';
import { CONFIGURATION_MANIFEST_BYTES_MAX, CONFIGURATION_TOTAL_BYTES_MAX } from '../limits.ts';
import type { Connection } from './connection.ts';
import { PROTOCOL_VERSION } from './protocol.ts';

const PATH = `/${PROTOCOL_VERSION}/configuration`;

/** @throws GK_UNAUTHORIZED, GK_PROTOCOL, … */
export async function fetchConfiguration(
  connection: Connection,
  includePlugins: boolean,
  signal?: AbortSignal,
): Promise<ConfigurationContent> {
  const answer = await connection.request('POST', PATH, { includePlugins }, signal);
  const manifest = checked(() =>
    parseManifest(Buffer.from(answer.text('manifest', CONFIGURATION_MANIFEST_BYTES_MAX), 'utf8')),
  );
  const contents = answer.list('contents', (entry) => entry.bytes('base64', CONFIGURATION_TOTAL_BYTES_MAX));
  const small = manifest.members.filter(({ role }) => role !== 'plugin');
  if (
    contents.length !== small.length ||
    small.some(({ bytes }, number) => contents[number]?.length !== bytes)
  )
    throw new GraphkeepError('GK_PROTOCOL', `${connection.address} sends other files than it names`);
  const bySmall = new Map(small.map((member, number) => [member, contents[number]!]));
  const sources = manifest.members.map((member) => sourceOf(connection, member, bySmall.get(member), signal));
  return { manifest, sources };
}

function sourceOf(
  connection: Connection,
  member: ConfigurationMember,
  content: Buffer | undefined,
  signal: AbortSignal | undefined,
): ConfigurationSource {
  return {
    member,
    read: async (target, position) => {
      if (content !== undefined) content.copy(target, 0, position, position + target.length);
      else
        await connection.readRange(
          `${PATH}/plugins/${encodeURIComponent(member.path)}`,
          position,
          target,
          signal,
        );
    },
  };
}

function checked<Result>(work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    if (error instanceof FormatError)
      throw new GraphkeepError('GK_PROTOCOL', error.message, { cause: error });
    throw error;
  }
}
