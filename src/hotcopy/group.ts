/** The unit of the copy: files that belong together, and what is asked about them after they were read. */
import type { MemberSource } from '../artifact/membersource.ts';

/** Files that are copied together: one record store, one tree, or all files of one Lucene index. */
export interface SnapshotGroup {
  /** Path of the file or folder, for messages. */
  readonly path: string;
  /** A group that can be left out, since Neo4j rebuilds it. */
  readonly rebuildable: boolean;
  /**
   * Opens the files for one attempt; undefined when they are gone or not readable from one moment now. With `aside`, what
   * could change is copied aside first, so that what is read afterwards stays.
   */
  open(aside?: Aside): Promise<OpenGroup | undefined>;
}

/** Where a group is copied to, on the host that has its files; a backup server has a folder of its own for it. */
export interface Aside {
  readonly directory: string;
  readonly signal?: AbortSignal | undefined;
}

export interface OpenGroup {
  readonly members: readonly MemberSource[];
  /** After all members were read: whether they are from one moment. */
  confirm(): Promise<boolean>;
  close(): Promise<void>;
}
