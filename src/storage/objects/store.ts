/**
 * What graphkeep needs of an object store, and the same for every one: ranges of an object that did not change meanwhile,
 * small objects that never overwrite, and large ones that appear whole or not at all. S3, Azure and Google each have a
 * driver; nothing above this folder knows which of them it talks to.
 */
import type { Readable } from 'node:stream';

export interface ObjectFacts {
  /** Relative to the store's own prefix. */
  readonly key: string;
  readonly bytes: number;
  readonly modified: Date;
  /** Entity tag or generation: a read can be pinned to it. */
  readonly tag: string;
}

/** How an object is to be kept. What a store does not have is refused when the write begins, never left out. */
export interface ObjectAttributes {
  readonly contentType?: string;
  /** In the words of the store: `STANDARD_IA`, `Cool`, `NEARLINE`, … */
  readonly storageClass?: string;
  /** Google has no tags of objects: there they become custom metadata. */
  readonly tags?: Readonly<Record<string, string>>;
  readonly encryption?: ObjectEncryption;
  readonly lock?: ObjectLock;
  /** Cannot be removed until somebody takes the hold away. */
  readonly legalHold?: boolean;
}

/**
 * Who holds the key. A key of the customer (SSE-C) is not here but a setting of the store: every read, and every look at
 * such an object, needs it as well.
 */
export type ObjectEncryption =
  | { readonly by: 'store' }
  | { readonly by: 'kms'; readonly keyId?: string }
  | { readonly by: 'scope'; readonly scope: string };

/** `governance` can be lifted by who has the right to; `compliance` by nobody before its time. */
export interface ObjectLock {
  readonly mode: 'governance' | 'compliance';
  readonly until: Date;
}

export interface PutOptions extends ObjectAttributes {
  readonly ifAbsent: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface UploadOptions extends ObjectAttributes {
  /** The most that may come, as far as it can be told: a store takes a bounded number of parts. */
  readonly bytesExpected?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface UploadFacts {
  readonly key: string;
  readonly id: string;
  readonly started: Date;
}

export interface ReadOptions {
  /** Of `ObjectFacts`: the read fails when the object is another one by now. */
  readonly tag?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ObjectStore {
  /** `s3://bucket/prefix/`, `gs://bucket/prefix/`, `azb://account/container/prefix/`; never a secret. */
  readonly url: string;
  /** In the order of the store. What an upload under way has left, and folders, are not among them. */
  list(prefix: string, signal?: AbortSignal): AsyncIterable<ObjectFacts>;
  /** @throws GK_NOT_FOUND when the bucket itself is missing */
  stat(key: string, signal?: AbortSignal): Promise<ObjectFacts | undefined>;
  /** Fills `target` or fails. @throws GK_SOURCE_MOVED when the object changed, GK_NOT_FOUND, GK_IO past its end */
  read(key: string, startBytes: number, target: Buffer, options?: ReadOptions): Promise<void>;
  /** For small objects, in one request. @returns false when it exists already and `ifAbsent` */
  put(key: string, bytes: Buffer, options: PutOptions): Promise<boolean>;
  beginUpload(key: string, options: UploadOptions): Promise<Upload>;
  /**
   * Until when, or by what, an object is locked, for a message. Only where the store takes a removal all the same and hides
   * the object, and as far as this user may see the lock.
   */
  lockOf?(key: string, signal?: AbortSignal): Promise<string | undefined>;
  /** An object that is not there is no error. */
  remove(key: string, signal?: AbortSignal): Promise<void>;
  /** What killed uploads left, and those that are under way: only their age tells them apart. */
  listUploads(prefix: string, signal?: AbortSignal): AsyncIterable<UploadFacts>;
  /** An upload that is not there is no error. */
  abortUpload(key: string, id: string, signal?: AbortSignal): Promise<void>;
  close(): void;
}

export interface Upload {
  readonly id: string;
  /** Every part but the last has exactly this many bytes. */
  readonly partBytes: number;
  /** From 1, in any order. A number may be sent again, but not twice at once: the last one counts. */
  putPart(number: number, bytes: Buffer, signal?: AbortSignal): Promise<void>;
  /**
   * The object appears, whole. `partCount` may be less than what was sent: a writer that went back needs no more.
   * @returns false when the key was taken meanwhile and `ifAbsent`; nothing stays of this upload then
   */
  complete(
    partCount: number,
    options: { readonly ifAbsent: boolean; readonly signal?: AbortSignal },
  ): Promise<boolean>;
  /** Nothing stays. Once complete, or aborted before, it does nothing. */
  abort(): Promise<void>;
}

/** One answer to a request for a range. */
export interface OpenRange {
  readonly body: Readable;
  /** The object's, when the store tells: what is asked for after a cut must come from the same one. */
  readonly tag: string | undefined;
}

/** Name under which a write carries a mark of its own, so that it is known again after an answer was lost. */
export const WRITE_MARK = 'graphkeepwrite';
