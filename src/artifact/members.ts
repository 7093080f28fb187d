/**
 * The members of an artifact in order, each byte proven before it is handed on. Artifacts of graphkeep carry an index,
 * so frames are fetched by range and decompressed on all cores; others go through tarstream.ts.
 */
import { createHash, type Hash } from 'node:crypto';
import { throwIfAborted } from '../errors.ts';
import type { ArtifactIndex, IndexMember } from '../formats/artifact/index.ts';
import { FormatError } from '../formats/formaterror.ts';
import { parseTarHeader, safeMemberPath, TAR_BLOCK_BYTES } from '../formats/tar.ts';
import { CHECKPOINT_FILE_BYTES_MAX, FRAMES_IN_FLIGHT_MAX } from '../limits.ts';
import type { ReadableFile } from '../storage/local.ts';
import type { MemberHandler, MemberInfo, ReadOptions } from './memberhandler.ts';
import { readFrame } from './membersource.ts';
import { type Artifact, corruptOnFormatError } from './reader.ts';
import { readStreamedMembers } from './tarstream.ts';

/**
 * Reads the checkpoint files of an artifact, and nothing else where an index says where they lie. They say where the log
 * has to begin, which must be known before the log is judged.
 */
export async function readCheckpointMembers(
  artifact: Artifact,
  options: ReadOptions = {},
): Promise<Map<string, Buffer>> {
  const collector = new CheckpointCollector();
  const { index } = artifact;
  await corruptOnFormatError(artifact.file.path, async () => {
    if (index === undefined) return readStreamedMembers(artifact, collector, options);
    for (const member of index.members.filter(({ kind }) => kind === 'checkpoint')) {
      await readIndexedMember(
        member,
        orderedFrames(artifact.file, index, framesOf(member), options),
        collector,
      );
    }
  });
  return collector.files;
}

class CheckpointCollector implements MemberHandler {
  readonly files = new Map<string, Buffer>();
  #current: Buffer | undefined;

  async begin(member: MemberInfo): Promise<void> {
    this.#current = undefined;
    if (member.kind !== 'checkpoint') return;
    if (member.bytes > CHECKPOINT_FILE_BYTES_MAX) throw new FormatError(`${member.path} is impossibly long`);
    this.#current = Buffer.alloc(member.bytes);
    this.files.set(member.path, this.#current);
  }

  async content(bytes: Buffer, positionBytes: number): Promise<void> {
    if (this.#current !== undefined) bytes.copy(this.#current, positionBytes);
  }

  async end(): Promise<void> {}
}

function framesOf(member: IndexMember): number[] {
  return Array.from({ length: member.frameCount }, (_, number) => member.firstFrame + number);
}

/** Sends every member to `handler`, in the order of the artifact. @throws GK_ARTIFACT_CORRUPT, GK_INTERRUPTED */
export async function readMembers(
  artifact: Artifact,
  handler: MemberHandler,
  options: ReadOptions = {},
): Promise<void> {
  await corruptOnFormatError(artifact.file.path, () =>
    artifact.index === undefined
      ? readStreamedMembers(artifact, handler, options)
      : readIndexedMembers(artifact, artifact.index, handler, options),
  );
}

/** Sum of the members' bytes, where it is known before they are read. */
export function memberBytesOf(index: ArtifactIndex): number {
  return index.members.reduce((sum, member) => sum + member.bytes, 0);
}

async function readIndexedMembers(
  artifact: Artifact,
  index: ArtifactIndex,
  handler: MemberHandler,
  options: ReadOptions,
): Promise<void> {
  const frames = orderedFrames(artifact.file, index, [...index.frames.keys()], options);
  await frames.next(); // the head: its checksum is all there is to prove
  for (const member of index.members) {
    await readIndexedMember(member, frames, handler);
  }
  const end = await frames.next();
  if (end.done === true || end.value.some((byte) => byte !== 0))
    throw new FormatError('the tar does not end in zeros');
}

async function readIndexedMember(
  member: IndexMember,
  frames: AsyncGenerator<Buffer, void>,
  handler: MemberHandler,
): Promise<void> {
  await handler.begin(member);
  const hash = createHash('sha256');
  let offset = 0;
  for (let count = 0; count < member.frameCount; count++) {
    const frame = await frames.next();
    if (frame.done === true) throw new FormatError(`${member.path} ends too early`);
    await passContent(member, frame.value, offset, hash, handler);
    offset += frame.value.length;
  }
  if (hash.digest('hex') !== member.sha256) throw new FormatError(`${member.path} fails its SHA-256`);
  await handler.end();
}

async function passContent(
  member: IndexMember,
  raw: Buffer,
  offset: number,
  hash: Hash,
  handler: MemberHandler,
): Promise<void> {
  if (offset === 0) {
    const header = parseTarHeader(raw);
    if (
      header === undefined ||
      safeMemberPath(header.path) !== member.path ||
      header.bytes !== member.bytes
    ) {
      throw new FormatError(`the tar header of ${member.path} says something else than the index`);
    }
  }
  const start = offset === 0 ? TAR_BLOCK_BYTES : 0;
  const position = offset + start - TAR_BLOCK_BYTES;
  const content = raw.subarray(start, start + Math.max(0, member.bytes - position));
  if (content.length === 0) return;
  hash.update(content);
  await handler.content(content, position);
}

/** The frames with the given numbers in order, several of them read and decompressed ahead. */
async function* orderedFrames(
  file: ReadableFile,
  index: ArtifactIndex,
  numbers: readonly number[],
  options: ReadOptions,
): AsyncGenerator<Buffer, void> {
  const inFlight: Promise<Buffer>[] = [];
  let next = 0;
  try {
    while (next < numbers.length || inFlight.length > 0) {
      throwIfAborted(options.signal);
      while (next < numbers.length && inFlight.length < FRAMES_IN_FLIGHT_MAX) {
        const frame = readFrame(file, index, numbers[next++]!);
        frame.catch(() => undefined); // reported below, in order
        inFlight.push(frame);
      }
      const raw = await inFlight.shift()!;
      options.onBytes?.(raw.length);
      yield raw;
    }
  } finally {
    await Promise.allSettled(inFlight);
  }
}
