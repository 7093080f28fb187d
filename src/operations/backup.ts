/**
 * `database backup`: one full artifact of one database, taken while a server runs or from files at rest.
 * Owns the order in which a snapshot becomes an artifact, and that nothing but a complete one gets a final name.
 */
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ArtifactWriter, type MemberSource } from '../artifact/writer.ts';
import { GraphkeepError, throwIfAborted, wrapSystemError } from '../errors.ts';
import type { ArtifactDescriptor } from '../formats/artifact/descriptor.ts';
import { INDEX_PROPERTY } from '../formats/artifact/index.ts';
import type { OpenGroup, SnapshotGroup } from '../hotcopy/group.ts';
import { openLocalSnapshot, type Snapshot } from '../hotcopy/snapshot.ts';
import { readFolder } from '../hotcopy/storefiles.ts';
import type { Tail } from '../hotcopy/tail.ts';
import { ATOMIC_COPY_ATTEMPTS_MAX, BACKUP_ATTEMPTS_MAX, STALE_PARTIAL_AGE_MS } from '../limits.ts';
import { type FileLock, tryLock } from '../neo4j/locks.ts';
import { FAILED_SUFFIX, PARTIAL_SUFFIX, Publication } from '../storage/local.ts';
import { VERSION } from '../version.ts';
import { RateLimit } from './ratelimit.ts';
import type { BackupOptions, BackupResult, DatabaseFolders } from './types.ts';

/** Takes a full backup. Retries from the start when the server overtook the copy. @throws GraphkeepError */
export async function backupDatabase(source: DatabaseFolders, options: BackupOptions): Promise<BackupResult> {
  const startedMs = performance.now();
  await requireDirectory(options.targetDirectory);
  for (let attempt = 1; ; attempt++) {
    try {
      const result = await attemptBackup(source, options);
      return { ...result, attempts: attempt, durationMs: Math.round(performance.now() - startedMs) };
    } catch (error) {
      const moved = error instanceof GraphkeepError && error.code === 'GK_SOURCE_MOVED';
      if (!moved || attempt >= BACKUP_ATTEMPTS_MAX) throw error;
      options.listener?.notice(`${error.message}; the copy starts anew`);
    }
  }
}

async function requireDirectory(path: string): Promise<void> {
  const status = await stat(path).catch((error: unknown) => {
    throw wrapSystemError(error, `find the target folder ${path}`);
  });
  if (!status.isDirectory()) throw new GraphkeepError('GK_NOT_FOUND', `the target ${path} is not a folder`);
}

type AttemptResult = Omit<BackupResult, 'attempts' | 'durationMs'>;

async function attemptBackup(source: DatabaseFolders, options: BackupOptions): Promise<AttemptResult> {
  const snapshot = await openLocalSnapshot(source);
  try {
    const partialName = `${source.name}.backup`;
    await removeStalePartials(options.targetDirectory, partialName);
    const publication = await Publication.create(options.targetDirectory, partialName);
    const lock = tryLockIfPossible(publication.partialPath);
    const run = new BackupRun(source, options, snapshot, publication);
    try {
      return await run.copyAndPublish();
    } catch (error) {
      await run.abandon();
      throw error;
    } finally {
      lock?.release();
    }
  } finally {
    await snapshot.close();
  }
}

/**
 * Removes what killed backups of this database left. A file that is being written is locked by its writer, on this
 * host or, over a shared file system, on another; only one that can be locked here, and that was not just created, is
 * nobody's.
 */
async function removeStalePartials(directory: string, partialName: string): Promise<void> {
  for (const entry of await readFolder(directory)) {
    const isPartial = entry.name.startsWith(`.${partialName}.`) && entry.name.endsWith(PARTIAL_SUFFIX);
    if (!isPartial || !entry.isFile()) continue;
    const path = join(directory, entry.name);
    const status = await stat(path).catch(() => undefined);
    if (status === undefined || Date.now() - status.mtimeMs < STALE_PARTIAL_AGE_MS) continue;
    const lock = tryLockIfPossible(path);
    if (lock === undefined) continue;
    await rm(path, { force: true });
    lock.release();
  }
}

/** Some file systems have no locks: then nothing is ever taken for stale, and nothing else depends on it. */
function tryLockIfPossible(path: string): FileLock | undefined {
  try {
    return tryLock(path, { create: false });
  } catch {
    return undefined;
  }
}

class BackupRun {
  readonly #source: DatabaseFolders;
  readonly #options: BackupOptions;
  readonly #snapshot: Snapshot;
  readonly #publication: Publication;
  readonly #writer: ArtifactWriter;
  readonly #rate: RateLimit;
  readonly #leftOut: string[];
  #doneBytes = 0;
  #phase = 'copying';

  constructor(source: DatabaseFolders, options: BackupOptions, snapshot: Snapshot, publication: Publication) {
    this.#source = source;
    this.#options = options;
    this.#snapshot = snapshot;
    this.#publication = publication;
    this.#leftOut = [...snapshot.leftOut];
    this.#rate = new RateLimit(options.rateBytesPerSecond, options.signal);
    const level = options.compress ? options.compressionLevel : undefined;
    this.#writer = new ArtifactWriter(publication, level, (bytes) => this.#onBytes(bytes));
  }

  async copyAndPublish(): Promise<AttemptResult> {
    await this.#writer.begin(this.#describe(undefined));
    for (const group of this.#snapshot.groups) await this.#copyGroup(group);
    this.#phase = 'reading the log';
    this.#onBytes(0);
    const tail = await this.#snapshot.takeTail(this.#options.signal);
    for (const member of await this.#snapshot.finalMembers(tail))
      await this.#addMember(this.#limited(member));
    const descriptor = this.#describe(tail);
    await this.#writer.finish(descriptor, this.#indexFacts(tail));
    const artifactPath = await this.#publish(descriptor);
    return this.#result(artifactPath, tail);
  }

  /** Leaves nothing that looks like an artifact; with `keepFailed` the partial file stays under a telling name. */
  async abandon(): Promise<void> {
    await this.#writer.abandon();
    const keepAs = `${this.#source.name}-${formatTime(new Date())}.backup${FAILED_SUFFIX}`;
    const kept = await this.#publication.discard(this.#options.keepFailed ? keepAs : undefined);
    if (kept !== undefined) this.#options.listener?.notice(`the failed backup was kept as ${kept}`);
  }

  #onBytes(bytes: number): void {
    this.#doneBytes += bytes;
    const totalBytes = Math.max(this.#snapshot.estimatedBytes, this.#doneBytes);
    this.#options.listener?.progress({ phase: this.#phase, doneBytes: this.#doneBytes, totalBytes });
  }

  async #copyGroup(group: SnapshotGroup): Promise<void> {
    for (let attempt = 1; attempt <= ATOMIC_COPY_ATTEMPTS_MAX; attempt++) {
      const open = await group.open();
      if (open === undefined) continue;
      const mark = this.#writer.mark();
      try {
        if (await this.#copyOnce(open, group.rebuildable)) return;
      } finally {
        await open.close();
      }
      await this.#writer.rewind(mark);
    }
    if (!group.rebuildable) throw new GraphkeepError('GK_SOURCE_MOVED', `${group.path} could not be copied`);
    this.#leftOut.push(group.path);
    this.#options.listener?.notice(
      `${group.path} changed faster than it could be copied; Neo4j rebuilds it at the first start`,
    );
  }

  async #copyOnce(open: OpenGroup, atOnce: boolean): Promise<boolean> {
    for (const member of open.members) {
      if (atOnce) this.#rate.owe(member.bytes);
      await this.#addMember(atOnce ? member : this.#limited(member));
    }
    return open.confirm();
  }

  #limited(member: MemberSource): MemberSource {
    return {
      ...member,
      read: async (target, position) => {
        await this.#rate.spend(target.length);
        await member.read(target, position);
      },
    };
  }

  async #addMember(member: MemberSource): Promise<void> {
    await this.#writer.addMember(member, this.#options.signal);
  }

  #describe(tail: Tail | undefined): ArtifactDescriptor {
    const { neostore, fence } = this.#snapshot;
    const complete = tail !== undefined && tail.transactions === 0n && this.#leftOut.length === 0;
    return {
      storeId: neostore.storeId,
      databaseUuid: neostore.databaseUuid ?? neostore.externalStoreUuid,
      databaseName: this.#source.name,
      timeSeconds: BigInt(Math.floor(Date.now() / 1000)),
      lowestAppendIndex: 1n,
      highestAppendIndex: tail?.highestAppendIndex ?? fence.checkpoint.appendIndex,
      recovered: complete,
      compressed: this.#options.compress,
      full: true,
      properties: new Map([[INDEX_PROPERTY, Buffer.from(VERSION, 'utf8')]]),
    };
  }

  #indexFacts(tail: Tail): Parameters<ArtifactWriter['finish']>[1] {
    const { checkpoint, fileName } = this.#snapshot.fence;
    return {
      writer: `graphkeep ${VERSION}`,
      fence: {
        logVersion: String(checkpoint.position.logVersion),
        offsetBytes: String(checkpoint.position.offsetBytes),
        appendIndex: String(checkpoint.appendIndex),
        checkpointFile: fileName,
      },
      end: endOf(tail),
      highestChecksum: tail.highestChecksum,
      leftOut: this.#leftOut,
    };
  }

  /** The name carries whole seconds: when it is taken, the next second is waited for. */
  async #publish(descriptor: ArtifactDescriptor): Promise<string> {
    for (
      let time = new Date(Number(descriptor.timeSeconds) * 1000);
      ;
      time = new Date(time.getTime() + 1000)
    ) {
      throwIfAborted(this.#options.signal);
      const path = join(this.#options.targetDirectory, `${this.#source.name}-${formatTime(time)}.backup`);
      if (await this.#publication.publish(path)) return path;
      await sleep(Math.max(0, time.getTime() + 1000 - Date.now()));
    }
  }

  #result(artifactPath: string, tail: Tail): AttemptResult {
    const members = this.#writer.members;
    const bytesOf = (kinds: readonly string[]): number =>
      members.filter((member) => kinds.includes(member.kind)).reduce((sum, member) => sum + member.bytes, 0);
    return {
      database: this.#source.name,
      artifactPath,
      artifactBytes: this.#publication.bytes,
      memberBytes: bytesOf(['store', 'log', 'checkpoint']),
      memberCount: members.length,
      storeBytes: bytesOf(['store']),
      logBytes: bytesOf(['log', 'checkpoint']),
      lowestTransaction: 1n,
      highestTransaction: tail.highestAppendIndex,
      transactionsAfterFence: tail.transactions,
      leftOut: this.#leftOut,
    };
  }
}

function endOf(tail: Tail): { logVersion: string; offsetBytes: string } {
  const last = tail.files.at(-1)!;
  return { logVersion: String(last.version), offsetBytes: String(last.endBytes) };
}

/** UTC, as the name of an artifact carries it: `2026-11-21T12-43-07`. */
export function formatTime(time: Date): string {
  return time.toISOString().slice(0, 19).replaceAll(':', '-');
}
