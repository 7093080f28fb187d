/**
 * `backup copy`: artifacts go from one place to another as they are. Each is read once, proven as `backup validate`
 * proves it while its bytes go on to the other place, and published there under its own name when the proof is complete.
 * What is there already is compared, never replaced; so a copy that ended early is gone on with by running it again.
 */
import path from 'node:path';
import { fileChunks, readRange } from '../artifact/bytes.ts';
import { ConfigurationArtifact } from '../artifact/configurationfile.ts';
import { ForwardingFile } from '../artifact/forward.ts';
import { type Artifact, artifactIn, corruptOnFormatError } from '../artifact/reader.ts';
import { type ErrorCode, GraphkeepError, throwIfAborted } from '../errors.ts';
import { FOOTER_BYTES, parseFooter, storedIndexOf } from '../formats/artifact/index.ts';
import { FormatError } from '../formats/formaterror.ts';
import { COMPARED_END_BYTES, MIB } from '../limits.ts';
import { acquireLease, type Lease } from '../storage/lease.ts';
import type { ReadableFile } from '../storage/local.ts';
import { filesIn, isStoreUrl, joinPath, openPath, removePath } from '../storage/places.ts';
import { requireDirectory } from './artifactfile.ts';
import { byteProgress } from './byteprogress.ts';
import { type CopyItem, type CopySelection, isEncrypted, selectForCopy } from './copyselection.ts';
import { NamedPublication } from './namedpublication.ts';
import { removeStalePartials } from './partialfile.ts';
import { RateLimit } from './ratelimit.ts';
import type { OperationContext } from './types.ts';
import { proveArtifact, validateArtifact } from './validate.ts';

export interface ArtifactCopyOptions extends CopySelection {
  /** An existing folder, or one of a store. */
  readonly to: string;
  /** Read what is at the target from end to end, what was just written included. */
  readonly verifyTarget: boolean;
  /** Only say what would be done. */
  readonly dryRun: boolean;
  /** Upper bound of the rate at which the source is read; none when absent. */
  readonly rateBytesPerSecond?: number;
  /** How long to wait for others who use the target; a default of the lease when absent. */
  readonly leaseWaitMs?: number;
}

export interface CopiedArtifact {
  readonly kind: CopyItem['kind'];
  readonly database?: string;
  readonly sourcePath: string;
  readonly targetPath: string;
  readonly bytes: number;
  /** `present`: it was there already, and is the same. `planned`: what a dry run would copy. */
  readonly action: 'copied' | 'present' | 'planned';
  /** Every byte was proven on the way, or at the target. */
  readonly proven: boolean;
  readonly durationMs: number;
}

/** Named so that no artifact is: it begins with the dot that hides it. */
const PARTIAL_NAME = 'graphkeep.copy';

/** A store is given up after minutes: to wait for it again with each of the others would take hours. */
const LOST_CODES: readonly ErrorCode[] = ['GK_CONNECTION_LOST', 'GK_UNREACHABLE'];

/** One run: what is to be copied, and the lease of the target for as long as it takes. */
export class ArtifactCopies {
  /** In the order in which they are to be copied. */
  readonly items: readonly CopyItem[];
  readonly #options: ArtifactCopyOptions;
  readonly #lease: Lease | undefined;
  /** What the target held when the run began. */
  readonly #taken: ReadonlySet<string>;
  /** Sources whose copies are at the target. */
  readonly #there = new Set<string>();
  /** Why there is no use in trying the others. */
  #lost: GraphkeepError | undefined;

  private constructor(
    items: readonly CopyItem[],
    options: ArtifactCopyOptions,
    lease: Lease | undefined,
    taken: ReadonlySet<string>,
  ) {
    this.items = items;
    this.#options = options;
    this.#lease = lease;
    this.#taken = taken;
  }

  /** @throws GK_NOT_FOUND, GK_IN_USE while artifacts are being removed at the target, … */
  static async begin(options: ArtifactCopyOptions, signal?: AbortSignal): Promise<ArtifactCopies> {
    const { to, dryRun, leaseWaitMs } = options;
    await requireDirectory(to);
    const items = await selectForCopy(options, signal);
    const waiting = leaseWaitMs === undefined ? {} : { waitMs: leaseWaitMs };
    const aborting = signal === undefined ? {} : { signal };
    const lease = dryRun ? undefined : await acquireLease(to, 'shared', { ...waiting, ...aborting });
    try {
      if (!dryRun && !isStoreUrl(to)) await removeStalePartials(to, PARTIAL_NAME);
      return new ArtifactCopies(
        items,
        options,
        lease,
        new Set((await filesIn(to)).map((file) => path.basename(file.path))),
      );
    } catch (error) {
      lease?.release();
      throw error;
    }
  }

  end(): void {
    this.#lease?.release();
  }

  /**
   * Copies one of the items, or finds it at the target.
   * @throws GK_ARTIFACT_CORRUPT, GK_STORE_DAMAGED for a damaged one, of which nothing stays; GK_TARGET_EXISTS when another
   * file has its name; GK_CHAIN_BROKEN when what it builds on could not be copied; what either place fails with
   */
  async copy(item: CopyItem, context: OperationContext = {}): Promise<CopiedArtifact> {
    if (item.problem !== undefined) throw item.problem;
    this.#requireBase(item);
    if (this.#lost !== undefined) {
      const { code, message, hint } = this.#lost;
      throw new GraphkeepError(code, `${item.path} was not tried: ${message}`, { hint });
    }
    try {
      return await this.#copyOrFind(item, context);
    } catch (error) {
      if (error instanceof GraphkeepError && LOST_CODES.includes(error.code)) this.#lost = error;
      throw error;
    }
  }

  async #copyOrFind(item: CopyItem, context: OperationContext): Promise<CopiedArtifact> {
    const startedMs = performance.now();
    const rate = new RateLimit(this.#options.rateBytesPerSecond, context.signal);
    const source = await openPath(item.path);
    try {
      const outcome = await this.#bring(item, rate.limitedFile(source), context);
      this.#there.add(item.path);
      return {
        kind: item.kind,
        ...(item.database === undefined ? {} : { database: item.database }),
        sourcePath: item.path,
        targetPath: this.#targetOf(item),
        bytes: source.bytes,
        ...outcome,
        durationMs: Math.round(performance.now() - startedMs),
      };
    } finally {
      await source.close();
    }
  }

  #targetOf({ name }: CopyItem): string {
    return joinPath(this.#options.to, name);
  }

  /** A differential without what it builds on would look like a backup at the target, and restore nothing. */
  #requireBase({ path, needs }: CopyItem): void {
    if (needs.length === 0 || needs.some((base) => this.#there.has(base))) return;
    throw new GraphkeepError(
      'GK_CHAIN_BROKEN',
      `${path} was not copied: ${needs.join(' or ')}, which it builds on, could not be copied`,
      { hint: 'see why that one failed; then run the copy again' },
    );
  }

  async #bring(
    item: CopyItem,
    source: ReadableFile,
    context: OperationContext,
  ): Promise<Pick<CopiedArtifact, 'action' | 'proven'>> {
    const { dryRun, verifyTarget } = this.#options;
    const target = this.#targetOf(item);
    if (this.#taken.has(item.name)) {
      await requireSame(item, source, target, { wholly: verifyTarget, signal: context.signal });
      if (verifyTarget) await proveTarget(item, target, context);
      return { action: 'present', proven: verifyTarget && item.kind !== 'encrypted' };
    }
    if (dryRun) return { action: 'planned', proven: false };
    const proven = await this.#copyBytes(item, source, context);
    if (verifyTarget) await this.#readBack(item, source, target, context);
    return { action: 'copied', proven };
  }

  /** @returns whether the bytes prove themselves */
  async #copyBytes(item: CopyItem, source: ReadableFile, context: OperationContext): Promise<boolean> {
    const publication = await NamedPublication.begin({
      directory: this.#options.to,
      name: item.name,
      partialName: PARTIAL_NAME,
      bytesExpected: source.bytes,
      signal: context.signal,
    });
    try {
      const proven = await forward(item, source, publication, context);
      if (publication.bytes !== source.bytes)
        throw new GraphkeepError('GK_INTERNAL', `${source.path} was copied to ${publication.bytes} bytes`);
      await publication.publish();
      return proven;
    } catch (error) {
      await publication.discard().catch(() => undefined);
      throw error;
    }
  }

  /** What was written and reads otherwise is no backup: it must not stay there as one. */
  async #readBack(
    item: CopyItem,
    source: ReadableFile,
    target: string,
    context: OperationContext,
  ): Promise<void> {
    try {
      await requireSame(item, source, target, { wholly: true, signal: context.signal });
      await proveTarget(item, target, context);
    } catch (error) {
      if (!isWrongCopy(error)) throw error;
      const isRemoved = await removePath(target).then(
        () => true,
        () => false,
      );
      throw new GraphkeepError(
        'GK_ARTIFACT_CORRUPT',
        `${target} did not read as it was written, and ${isRemoved ? 'was' : 'COULD NOT BE'} removed: ${error.message}`,
        { hint: 'check the disk or the store of the target, then run the copy again', cause: error },
      );
    }
  }
}

function isWrongCopy(error: unknown): error is GraphkeepError {
  if (!(error instanceof GraphkeepError)) return false;
  return error.code === 'GK_ARTIFACT_CORRUPT' || error.code === 'GK_TARGET_EXISTS';
}

/**
 * Sends every byte of an artifact on its way while it is proven. Nothing that was sent counts unless this ends well.
 * @returns false for an encrypted one: without its key there is nothing to prove but its length
 */
async function forward(
  { kind }: CopyItem,
  source: ReadableFile,
  publication: NamedPublication,
  context: OperationContext,
): Promise<boolean> {
  const { signal, listener } = context;
  const append = (bytes: Buffer): Promise<void> => publication.append(bytes);
  if (await isEncrypted(source)) {
    const onBytes = byteProgress(listener, 'copying', source.bytes);
    for await (const chunk of fileChunks(source, 0)) {
      throwIfAborted(signal);
      await append(chunk);
      onBytes(chunk.length);
    }
    return false;
  }
  if (kind === 'configuration') {
    const configuration = await ConfigurationArtifact.in(source);
    await configuration.verify(signal, append);
    return true;
  }
  const artifact = await artifactIn(source);
  const passing = new ForwardingFile(source, append);
  await proveArtifact(artifact, { ...context, phase: 'copying', through: passing });
  await corruptOnFormatError(source.path, async () => forwardIndex(artifact, passing));
  await passing.forwardRest(signal);
  return true;
}

/** Where the part behind the members begins; undefined for an artifact of another tool. */
function indexStartOf({ index }: Artifact): number | undefined {
  const end = index?.frames.at(-1);
  return end === undefined ? undefined : end[0] + end[1];
}

/** The index was read when the artifact was opened; these are other reads of it, so they are proven again. */
async function forwardIndex(artifact: Artifact, passing: ForwardingFile): Promise<void> {
  const start = indexStartOf(artifact);
  if (start === undefined) return;
  const block = await readRange(passing, start, passing.bytes - start);
  const footer = parseFooter(block.subarray(-FOOTER_BYTES), passing.bytes);
  if (footer === undefined) throw new FormatError('the member index is missing at its end');
  storedIndexOf(block, footer);
}

/**
 * Whether the file at the target is the artifact of the source: of the same length, and equal in all that says what is in
 * it. Head and index hold the hash of every member; where there is no index, both ends are compared, or all of it.
 * @throws GK_TARGET_EXISTS when it is another one
 */
async function requireSame(
  item: CopyItem,
  source: ReadableFile,
  targetPath: string,
  { wholly, signal }: { wholly: boolean; signal: AbortSignal | undefined },
): Promise<void> {
  const target = await openPath(targetPath);
  try {
    const isSame =
      source.bytes === target.bytes &&
      (await isEqual(source, target, await rangesOf(item, source, wholly), signal));
    if (isSame) return;
    throw new GraphkeepError('GK_TARGET_EXISTS', `${targetPath} is another file than ${source.path}`, {
      hint: 'it was left as it is; copy to another folder, or move it away if it is not needed',
    });
  } finally {
    await target.close();
  }
}

type Range = readonly [startBytes: number, endBytes: number];

async function rangesOf({ kind }: CopyItem, source: ReadableFile, wholly: boolean): Promise<Range[]> {
  const ends = (headBytes: number, tailStartBytes: number): Range[] => [
    [0, headBytes],
    [tailStartBytes, source.bytes],
  ];
  if (kind !== 'configuration' && !(await isEncrypted(source))) {
    const artifact = await artifactIn(source);
    const indexStart = indexStartOf(artifact);
    if (indexStart !== undefined) return ends(artifact.index!.frames[0]![1], indexStart);
  }
  if (wholly || source.bytes <= 2 * COMPARED_END_BYTES) return [[0, source.bytes]];
  return ends(COMPARED_END_BYTES, source.bytes - COMPARED_END_BYTES);
}

async function isEqual(
  source: ReadableFile,
  target: ReadableFile,
  ranges: readonly Range[],
  signal: AbortSignal | undefined,
): Promise<boolean> {
  for (const [startBytes, endBytes] of ranges) {
    for (let position = startBytes; position < endBytes; position += MIB) {
      throwIfAborted(signal);
      const bytes = Math.min(MIB, endBytes - position);
      const [left, right] = await Promise.all(
        [source, target].map((file) =>
          corruptOnFormatError(file.path, () => readRange(file, position, bytes)),
        ),
      );
      if (!left!.equals(right!)) return false;
    }
  }
  return true;
}

/** Every byte of what is at the target; one that is encrypted was compared with its source. @throws GK_ARTIFACT_CORRUPT */
async function proveTarget({ kind }: CopyItem, target: string, context: OperationContext): Promise<void> {
  if (kind === 'encrypted') return;
  if (kind === 'configuration') {
    const configuration = await ConfigurationArtifact.open(target);
    try {
      return await configuration.verify(context.signal);
    } finally {
      await configuration.close();
    }
  }
  const { problems } = await validateArtifact(target, context);
  const [problem] = problems;
  if (problem === undefined) return;
  throw new GraphkeepError('GK_ARTIFACT_CORRUPT', problem, {
    hint: 'the copy is damaged and its source is not the reason: remove it there, then run the copy again',
  });
}
