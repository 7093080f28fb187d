/**
 * The script of users and roles in the head of an artifact. Source: formats.md §8. As it is under the key of Neo4j 5, which
 * 2026 reads as well; a long one compressed under the key of 2026, since the other is read up to 1 MiB only.
 */
import { gunzipSync, gzipSync } from 'node:zlib';
import { GraphkeepError } from '../errors.ts';
import type { ArtifactDescriptor } from '../formats/artifact/descriptor.ts';
import { COMPRESSED_SCRIPT_BYTES_MAX, METADATA_SCRIPT_BYTES_MAX, PLAIN_SCRIPT_BYTES_MAX } from '../limits.ts';
import type { Artifact } from './reader.ts';

type Properties = ArtifactDescriptor['properties'];

const PLAIN = 'metadataScript';
const COMPRESSED = 'compressedMetadataScript';

export function hasMetadataScript({ properties }: ArtifactDescriptor): boolean {
  return properties.has(PLAIN) || properties.has(COMPRESSED);
}

/** The script, which is a secret; undefined when the artifact holds none. @throws GK_ARTIFACT_CORRUPT */
export function metadataScriptOf({ descriptor: { properties }, file }: Artifact): Buffer | undefined {
  const packed = properties.get(COMPRESSED);
  if (packed === undefined) return properties.get(PLAIN);
  try {
    return gunzipSync(packed, { maxOutputLength: METADATA_SCRIPT_BYTES_MAX });
  } catch (error) {
    throw new GraphkeepError(
      'GK_ARTIFACT_CORRUPT',
      `${file.path}: its metadata script cannot be decompressed`,
      {
        cause: error,
      },
    );
  }
}

/** The properties with this script, instead of one that they hold. @throws GK_UNSUPPORTED when it is too long for a head */
export function withMetadataScript(properties: Properties, script: Buffer | undefined): Properties {
  const others = [...properties].filter(([key]) => key !== PLAIN && key !== COMPRESSED);
  return new Map(script === undefined ? others : [...others, propertyOf(script)]);
}

function propertyOf(script: Buffer): [string, Buffer] {
  if (script.length <= PLAIN_SCRIPT_BYTES_MAX) return [PLAIN, script];
  const packed = gzipSync(script);
  if (packed.length <= COMPRESSED_SCRIPT_BYTES_MAX) return [COMPRESSED, packed];
  throw new GraphkeepError(
    'GK_UNSUPPORTED',
    `the script of users and roles is too long: ${script.length} bytes`,
    {
      hint: 'use --include-metadata=none, and back up the database system as well',
    },
  );
}
