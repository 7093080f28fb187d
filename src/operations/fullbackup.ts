/** A full artifact of one database, in the order of docs/design.md: store files, then the log, then the head. */
import { tmpdir } from 'node:os';
import type { ArtifactWriter, IndexFacts } from '../artifact/writer.ts';
import { GraphkeepError } from '../errors.ts';
import type { ArtifactDescriptor } from '../formats/artifact/descriptor.ts';
import { writePosition } from '../formats/artifact/index.ts';
import { databaseIdOf } from '../formats/neostore.ts';
import type { Aside, OpenGroup, SnapshotGroup } from '../hotcopy/group.ts';
import type { Snapshot } from '../hotcopy/snapshot.ts';
import type { BackupSource } from '../hotcopy/source.ts';
import type { TailFacts } from '../hotcopy/tail.ts';
import { ATOMIC_COPY_ATTEMPTS_MAX } from '../limits.ts';
import { VERSION } from '../version.ts';
import { ArtifactFile, propertiesOf } from './artifactfile.ts';
import type { BackupPlaces } from './backupplaces.ts';
import { RateLimit } from './ratelimit.ts';
import type { ArtifactBackup, FullBackupOptions } from './types.ts';

/** One attempt. @throws GK_SOURCE_MOVED when the server overtook the copy: then another attempt may succeed */
export async function takeFullBackup(
  source: BackupSource,
  options: FullBackupOptions & { readonly places?: BackupPlaces },
): Promise<ArtifactBackup> {
  const snapshot = await source.openSnapshot(options.signal);
  try {
    const run = new FullBackup(source, options, snapshot);
    const onBytes = (bytes: number): void => run.onBytes(bytes);
    const bytesExpected = snapshot.estimatedBytes;
    return await ArtifactFile.create({ ...options, database: source.name, bytesExpected, onBytes }, (file) =>
      run.copyAndPublish(file),
    );
  } finally {
    await snapshot.close();
  }
}

class FullBackup {
  readonly #source: BackupSource;
  readonly #options: FullBackupOptions;
  readonly #snapshot: Snapshot;
  readonly #rate: RateLimit;
  readonly #leftOut: string[];
  #doneBytes = 0;
  #phase = 'copying';

  constructor(source: BackupSource, options: FullBackupOptions, snapshot: Snapshot) {
    this.#source = source;
    this.#options = options;
    this.#snapshot = snapshot;
    this.#leftOut = [...snapshot.leftOut];
    this.#rate = new RateLimit(options.rateBytesPerSecond, options.signal, options.processorShare);
  }

  async copyAndPublish(file: ArtifactFile): Promise<ArtifactBackup> {
    const { writer } = file;
    await writer.begin(this.#describe(undefined, 0n));
    for (const group of this.#snapshot.groups) await this.#copyGroup(writer, group);
    this.#phase = 'reading the log';
    this.onBytes(0);
    // Before the log is read: the time of an artifact says up to when it knows what happened.
    const timeSeconds = this.#options.timeSeconds ?? BigInt(Math.floor(Date.now() / 1000));
    const tail = await this.#snapshot.takeTail(this.#options.signal);
    for (const member of await this.#snapshot.finalMembers()) {
      await writer.addMember(this.#rate.limited(member), this.#options.signal);
    }
    await file.finish(this.#describe(tail, timeSeconds), this.#indexFacts(tail));
    const artifactPath = await file.publish(timeSeconds);
    return {
      artifactPath,
      artifactBytes: file.bytes,
      members: writer.members,
      lowestTransaction: 1n,
      highestTransaction: tail.highestAppendIndex,
      transactionsAfterFence: tail.transactions,
      leftOut: this.#leftOut,
    };
  }

  onBytes(bytes: number): void {
    this.#doneBytes += bytes;
    const totalBytes = Math.max(this.#snapshot.estimatedBytes, this.#doneBytes);
    this.#options.listener?.progress({ phase: this.#phase, doneBytes: this.#doneBytes, totalBytes });
  }

  async #copyGroup(writer: ArtifactWriter, group: SnapshotGroup): Promise<void> {
    if (group.rebuildable) await this.#copyFromOneMoment(writer, group);
    else await this.#copyRepairable(writer, group);
  }

  /** A record store: the log repairs what changes meanwhile, so nothing of it is ever taken back. */
  async #copyRepairable(writer: ArtifactWriter, group: SnapshotGroup): Promise<void> {
    const open = await group.open();
    if (open === undefined) throw new GraphkeepError('GK_SOURCE_MOVED', `${group.path} could not be copied`);
    try {
      for (const member of open.members)
        await writer.addMember(this.#rate.limited(member), this.#options.signal);
    } finally {
      await open.close();
    }
  }

  /** A tree or an index: copied again when it changed meanwhile, and at last left out. */
  async #copyFromOneMoment(writer: ArtifactWriter, group: SnapshotGroup): Promise<void> {
    for (let attempt = 1; attempt <= ATOMIC_COPY_ATTEMPTS_MAX; attempt++) {
      // First: it waits for what is under way, and when that fails no file of the group must be left open.
      const mark = await writer.mark();
      const open = await openAside(group, this.#asideFor(writer));
      if (open === undefined) continue;
      try {
        if (await this.#copyAtOnce(writer, open)) return;
      } finally {
        await open.close();
      }
      await writer.rewind(mark);
    }
    this.#leftOut.push(group.path);
    this.#options.listener?.notice(
      `${group.path} changed faster than it could be copied; Neo4j rebuilds it at the first start`,
    );
  }

  /**
   * What is encrypted cannot be taken back, so nothing that can still change is encrypted. The copy is not in the target
   * folder: its disk may be the very one that is not to see the data.
   */
  #asideFor(writer: ArtifactWriter): Aside | undefined {
    if (writer.canRewind) return undefined;
    return { directory: this.#options.stagingDirectory ?? tmpdir(), signal: this.#options.signal };
  }

  async #copyAtOnce(writer: ArtifactWriter, open: OpenGroup): Promise<boolean> {
    for (const member of open.members) {
      this.#rate.owe(member.bytes);
      await writer.addMember(member, this.#options.signal);
    }
    return open.confirm();
  }

  #describe(tail: TailFacts | undefined, timeSeconds: bigint): ArtifactDescriptor {
    const { neostore, fence } = this.#snapshot;
    const complete = tail !== undefined && tail.transactions === 0n && this.#leftOut.length === 0;
    return {
      storeId: neostore.storeId,
      databaseUuid: databaseIdOf(neostore),
      databaseName: this.#source.name,
      timeSeconds,
      lowestAppendIndex: 1n,
      highestAppendIndex: tail?.highestAppendIndex ?? fence.appendIndex,
      recovered: complete,
      compressed: this.#options.compress,
      full: true,
      properties: propertiesOf(this.#options.metadataScript),
    };
  }

  #indexFacts(tail: TailFacts): IndexFacts {
    const { position, appendIndex, checkpointFile } = this.#snapshot.fence;
    return {
      writer: `graphkeep ${VERSION}`,
      fence: {
        ...writePosition(position),
        appendIndex: String(appendIndex),
        checkpointFile,
      },
      end: writePosition(tail.end),
      highestChecksum: tail.highestChecksum,
      latestCommitMillis: String(tail.latestCommitMillis),
      leftOut: this.#leftOut,
    };
  }
}

/** Here it is not the target that lacks space. */
async function openAside(group: SnapshotGroup, aside: Aside | undefined): Promise<OpenGroup | undefined> {
  try {
    return await group.open(aside);
  } catch (error) {
    if (aside === undefined || !(error instanceof GraphkeepError) || error.code !== 'GK_NO_SPACE')
      throw error;
    throw new GraphkeepError(error.code, `${group.path} does not fit: ${error.message}`, {
      hint: 'give --temp-path=<folder>, on a disk with room for the largest index',
      cause: error,
    });
  }
}
