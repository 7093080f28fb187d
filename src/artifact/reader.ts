/**
 * Opens artifacts of any container: descriptor and, in those that graphkeep wrote, the index, by a few small reads.
 * What is in them is read by members.ts.
 */
import { crc32 } from 'node:zlib';
import { GraphkeepError } from '../errors.ts';
import {
  ARCHIVE_METADATA_BYTES,
  type Container,
  containerOf,
  descriptorStart,
  MAGIC_BYTES,
  ZSTD_WORD,
} from '../formats/artifact/container.ts';
import {
  type ArtifactDescriptor,
  DescriptorIncompleteError,
  parseDescriptor,
} from '../formats/artifact/descriptor.ts';
import {
  type ArtifactIndex,
  FOOTER_BYTES,
  INDEX_JSON_BYTES_MAX,
  INDEX_PROPERTY,
  parseFooter,
  parseIndex,
  storedIndexOf,
} from '../formats/artifact/index.ts';
import { FormatError } from '../formats/formaterror.ts';
import { DESCRIPTOR_REGION_BYTES_MAX } from '../limits.ts';
import type { ReadableFile } from '../storage/local.ts';
import type { ListedFacts } from '../storage/places.ts';
import { decompressed, HEAD_BYTES, readRange, withEndsInMemory } from './bytes.ts';
import { openContent } from './sealedfile.ts';
import { decompressFrame } from './zstd.ts';

export interface Artifact {
  readonly file: ReadableFile;
  readonly container: Container;
  readonly descriptor: ArtifactDescriptor;
  /** File offset of the stream that holds the tar, compressed or not. */
  readonly streamStart: number;
  /** Bytes of that stream, after decompression, before the tar. */
  readonly tarStart: number;
  /** Only artifacts that graphkeep wrote have one. */
  readonly index: ArtifactIndex | undefined;
}

/**
 * Opens an artifact and reads its descriptor and index.
 * @param facts of a listing
 * @throws GK_NOT_FOUND, GK_KEY_MISSING, GK_ARTIFACT_CORRUPT, GK_UNSUPPORTED
 */
export async function openArtifact(path: string, facts?: ListedFacts): Promise<Artifact> {
  const file = await corruptOnFormatError(path, () => openContent(path, facts));
  try {
    return await artifactIn(file);
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** The same of a file that is open already, and stays so. */
export function artifactIn(file: ReadableFile): Promise<Artifact> {
  return corruptOnFormatError(file.path, async () => ({
    ...(await readHeadAndIndex(await withEndsInMemory(file))),
    file,
  }));
}

/** Runs `work`; a FormatError becomes GK_ARTIFACT_CORRUPT with the path of the artifact. */
export async function corruptOnFormatError<Result>(
  path: string,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof FormatError) {
      throw new GraphkeepError('GK_ARTIFACT_CORRUPT', `${path}: ${error.message}`, { cause: error });
    }
    throw error;
  }
}

async function readHeadAndIndex(file: ReadableFile): Promise<Artifact> {
  const head = await readRange(file, 0, Math.min(HEAD_BYTES, file.bytes));
  const container = containerOf(head);
  if (container === undefined) {
    throw new GraphkeepError('GK_ARTIFACT_CORRUPT', `${file.path} is not a backup artifact`, {
      hint: 'artifacts begin with BTV1, BTV2, BZV1, BZV2 or BZV3; a dump is loaded with neo4j-admin database load',
    });
  }
  const index = await readIndex(file);
  if (index !== undefined) await proveHead(file, index);
  const located = await locateDescriptor(file, container, head, index);
  // Without this, an artifact cut at its end would pass for one of another tool and be restored unproven.
  if (index === undefined && located.descriptor.properties.has(INDEX_PROPERTY))
    throw new FormatError('the member index is missing at its end');
  return { file, container, ...located, index };
}

/** With an index, no byte behind the head is looked at: damage there is not the head's. */
async function locateDescriptor(
  file: ReadableFile,
  container: Container,
  head: Buffer,
  index: ArtifactIndex | undefined,
): Promise<LocatedDescriptor> {
  if (!container.compressedDescriptor) return readPlainDescriptor(file, container, head);
  if (index === undefined) return readStreamedDescriptor(file, container);
  const stored = await readRange(file, MAGIC_BYTES, index.frames[0]![1] - MAGIC_BYTES);
  const located = tryStreamedDescriptor(
    await decompressFrame(stored, DESCRIPTOR_REGION_BYTES_MAX),
    container,
  );
  if (located === undefined) throw new FormatError('the artifact holds no complete descriptor');
  return located;
}

type LocatedDescriptor = Pick<Artifact, 'descriptor' | 'streamStart' | 'tarStart'>;

async function readPlainDescriptor(
  file: ReadableFile,
  container: Container,
  head: Buffer,
): Promise<LocatedDescriptor> {
  let bytes = head;
  for (;;) {
    try {
      const start = descriptorStart(container, bytes, MAGIC_BYTES);
      const { descriptor, end } = parseDescriptor(bytes, start, container.descriptorVersion);
      // A compressed tar behind a plain descriptor is a stream of its own, which begins with its word and metadata.
      const tarStart = container.compressedTar ? ZSTD_WORD.length + ARCHIVE_METADATA_BYTES : 0;
      return { descriptor, streamStart: end, tarStart };
    } catch (error) {
      const more = Math.min(bytes.length * 4, file.bytes, DESCRIPTOR_REGION_BYTES_MAX);
      if (!(error instanceof DescriptorIncompleteError) || more <= bytes.length) throw error;
      bytes = await readRange(file, 0, more);
    }
  }
}

async function readStreamedDescriptor(file: ReadableFile, container: Container): Promise<LocatedDescriptor> {
  const chunks: Buffer[] = [];
  let gotBytes = 0;
  let tryAtBytes = 1;
  for await (const chunk of decompressed(file, MAGIC_BYTES)) {
    chunks.push(chunk);
    gotBytes += chunk.length;
    // Parsing again only when the bytes have doubled: an endless descriptor must not take quadratic time.
    if (gotBytes < tryAtBytes) continue;
    tryAtBytes = gotBytes * 2;
    const located = tryStreamedDescriptor(Buffer.concat(chunks), container);
    if (located !== undefined) return located;
    if (gotBytes > DESCRIPTOR_REGION_BYTES_MAX) break;
  }
  const located =
    gotBytes > DESCRIPTOR_REGION_BYTES_MAX
      ? undefined
      : tryStreamedDescriptor(Buffer.concat(chunks), container);
  if (located === undefined) throw new FormatError('the artifact holds no complete descriptor');
  return located;
}

function tryStreamedDescriptor(bytes: Buffer, container: Container): LocatedDescriptor | undefined {
  if (bytes.length < ZSTD_WORD.length + 1) return undefined;
  if (!bytes.subarray(0, ZSTD_WORD.length).equals(ZSTD_WORD))
    throw new FormatError('the stream lacks its word "zstd"');
  try {
    const start = descriptorStart(container, bytes, ZSTD_WORD.length);
    const { descriptor, end } = parseDescriptor(bytes, start, container.descriptorVersion);
    return { descriptor, streamStart: MAGIC_BYTES, tarStart: end + ARCHIVE_METADATA_BYTES };
  } catch (error) {
    if (error instanceof DescriptorIncompleteError) return undefined;
    throw error;
  }
}

/** The head is what every command shows and trusts; it is small, so it is proven whenever an artifact is opened. */
async function proveHead(file: ReadableFile, index: ArtifactIndex): Promise<void> {
  const [offset, storedBytes, , expectedCrc32] = index.frames[0]!;
  if (crc32(await readRange(file, offset, storedBytes)) !== expectedCrc32) {
    throw new FormatError('the head of the artifact fails its checksum');
  }
}

async function readIndex(file: ReadableFile): Promise<ArtifactIndex | undefined> {
  const footer =
    file.bytes < FOOTER_BYTES
      ? undefined
      : parseFooter(await readRange(file, file.bytes - FOOTER_BYTES, FOOTER_BYTES), file.bytes);
  if (footer === undefined) return undefined;
  const block = await readRange(file, footer.indexOffset, file.bytes - footer.indexOffset);
  const json = await decompressFrame(storedIndexOf(block, footer), INDEX_JSON_BYTES_MAX);
  return parseIndex(json.toString('utf8'), footer.indexOffset);
}
