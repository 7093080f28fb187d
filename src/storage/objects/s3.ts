/**
 * S3 and what speaks like it. Every request carries the SHA-256 of its body (in the signature) and, where the store knows
 * them, a CRC-32 that is kept with the object; the store checks both before it takes anything.
 */
import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import type { HeadObjectCommandOutput, PutObjectCommandInput } from '@aws-sdk/client-s3';
import { OBJECT_LIST_PAGE, S3_SECTIONS_AT_ONCE } from '../../limits.ts';
import { inParallel } from '../parallel.ts';
import { fullKey, type StoreAddress } from './address.ts';
import { type Doing, notAStore } from './failures.ts';
import { keyBelow, Pages } from './listing.ts';
import type { SectionLimits } from './parts.ts';
import { Persistence, type Tell } from './persistence.ts';
import { abortable, beginsAt, checkPut, reading } from './requests.ts';
import {
  connectS3,
  crc32Text,
  type EncryptionAnswer,
  requireEncrypted,
  type S3Connection,
  s3Attributes,
} from './s3client.ts';
import { s3AnswerOf, tellS3 } from './s3failures.ts';
import { beginS3Upload, S3_LIMITS } from './s3upload.ts';
import type { StoreSettings } from './settings.ts';
import {
  type ObjectFacts,
  type ObjectStore,
  type OpenRange,
  type PutOptions,
  type ReadOptions,
  type Upload,
  type UploadFacts,
  type UploadOptions,
  WRITE_MARK,
} from './store.ts';
import { folderOfUpload, startOfUpload, UPLOADS_FOLDER, uploadOfPiece } from './uploadsfolder.ts';

const MARK_BYTES = 16;
/** An abort that comes while a part arrives leaves that part; asking again takes it. */
const ABORTS_MAX = 3;

/** @throws GK_CONFIG, … ; nothing is asked of the store yet */
export async function openS3(address: StoreAddress, settings: StoreSettings): Promise<S3Store> {
  return new S3Store(address, await connectS3(address, settings), settings);
}

export class S3Store implements ObjectStore {
  readonly url: string;
  readonly connection: S3Connection;
  readonly persistence: Persistence;
  readonly limits: SectionLimits;
  readonly #address: StoreAddress;
  #bucketWasSeen = false;

  constructor(address: StoreAddress, connection: S3Connection, settings: StoreSettings) {
    this.url = address.url;
    this.connection = connection;
    this.persistence = new Persistence(settings);
    this.limits = { ...S3_LIMITS, ...settings.uploads };
    this.#address = address;
  }

  /** Bucket, key and the key of the customer: what every request about one object begins with. */
  target(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#address.bucket, Key: fullKey(this.#address, key) };
  }

  tell(doing: Doing): Tell {
    return (error) => tellS3(error, doing, this.connection.scrub);
  }

  async *list(prefix: string, signal?: AbortSignal): AsyncGenerator<ObjectFacts> {
    for await (const facts of this.#objects(prefix, signal)) {
      if (!facts.key.startsWith(UPLOADS_FOLDER)) yield facts;
    }
  }

  /** Sections of uploads included. */
  async *#objects(prefix: string, signal: AbortSignal | undefined): AsyncGenerator<ObjectFacts> {
    const { sdk, client } = this.connection;
    const pages = new Pages(this.url);
    const request = { ...this.#listing(prefix), MaxKeys: OBJECT_LIST_PAGE };
    for (let next: string | undefined; ; ) {
      const command = new sdk.ListObjectsV2Command({ ...request, ContinuationToken: next });
      const page = await this.#run({ what: `list ${this.url}${prefix}` }, signal, () =>
        client.send(command, abortable(signal)),
      );
      // To the SDK a page of a web server is an empty list: backups would seem to be gone.
      if (page.Name === undefined) throw notAStore(this.url, 'list it');
      for (const { Key, Size, LastModified, ETag } of page.Contents ?? []) {
        pages.count();
        const key = keyBelow(this.#address, plainKey(Key, page.EncodingType));
        if (key === undefined) continue;
        yield { key, bytes: Size ?? 0, modified: LastModified ?? new Date(0), tag: ETag ?? '' };
      }
      if (!page.IsTruncated) return;
      next = pages.next(page.NextContinuationToken);
    }
  }

  async stat(key: string, signal?: AbortSignal): Promise<ObjectFacts | undefined> {
    const head = await this.head(key, signal);
    if (head === undefined) return undefined;
    const { ContentLength, LastModified, ETag } = head;
    return { key, bytes: ContentLength ?? 0, modified: LastModified ?? new Date(0), tag: ETag ?? '' };
  }

  async head(key: string, signal?: AbortSignal): Promise<HeadObjectCommandOutput | undefined> {
    const { sdk, client, customerKey } = this.connection;
    const command = new sdk.HeadObjectCommand({ ...this.target(key), ...customerKey });
    return this.#run({ what: `look at ${this.url}${key}`, key }, signal, async () => {
      try {
        const head = await client.send(command, abortable(signal));
        if (head.ETag === undefined) throw notAStore(this.url, `look at ${key}`);
        this.#bucketWasSeen = true;
        return head;
      } catch (error) {
        if (s3AnswerOf(error).status !== 404) throw error;
        await this.#checkBucket(signal);
        return undefined;
      }
    });
  }

  /** An answer without a body cannot say which of the two is missing. */
  async #checkBucket(signal: AbortSignal | undefined): Promise<void> {
    if (this.#bucketWasSeen) return;
    const { sdk, client } = this.connection;
    const command = new sdk.HeadBucketCommand({ Bucket: this.#address.bucket });
    await client.send(command, abortable(signal)).catch((error: unknown) => {
      // Who may read objects need not be allowed to look at the bucket.
      if (s3AnswerOf(error).status !== 404) return;
      throw Object.assign(new Error('no such bucket'), {
        name: 'NoSuchBucket',
        $metadata: { httpStatusCode: 404 },
      });
    });
    this.#bucketWasSeen = true;
  }

  async read(key: string, startBytes: number, target: Buffer, options: ReadOptions = {}): Promise<void> {
    await this.persistence.fill(
      target,
      startBytes,
      options,
      (start, length, tag) => this.#openRange(key, start, length, tag, options.signal),
      this.tell(reading(this.url, key, startBytes, target)),
    );
  }

  async #openRange(
    key: string,
    startBytes: number,
    lengthBytes: number,
    tag: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<OpenRange> {
    const { sdk, client, customerKey } = this.connection;
    const command = new sdk.GetObjectCommand({
      ...this.target(key),
      ...customerKey,
      Range: `bytes=${startBytes}-${startBytes + lengthBytes - 1}`,
      ...(tag === undefined ? {} : { IfMatch: tag }),
    });
    const { Body, ContentRange, ETag, ContentLength } = await client.send(command, abortable(signal));
    if (!(Body instanceof Readable) || ETag === undefined) {
      if (Body instanceof Readable) Body.destroy();
      throw notAStore(this.url, `read ${key}`);
    }
    const isThatRange = beginsAt(startBytes, ContentRange);
    if (!isThatRange || (tag !== undefined && ETag !== tag)) {
      Body.destroy();
      const name = isThatRange ? 'PreconditionFailed' : 'InvalidRange';
      throw Object.assign(new Error('another range or object'), { name });
    }
    if (ContentLength !== undefined && ContentLength < lengthBytes) {
      Body.destroy();
      throw Object.assign(new Error('the object ends before'), { name: 'InvalidRange' });
    }
    return { body: Body, tag: ETag };
  }

  async put(key: string, bytes: Buffer, options: PutOptions): Promise<boolean> {
    checkPut(bytes);
    const { sdk, client } = this.connection;
    const mark = randomBytes(MARK_BYTES).toString('hex');
    const command = new sdk.PutObjectCommand({
      ...this.written(key, mark, options),
      Body: bytes,
      ...(this.needsChecksum(options) ? { ChecksumCRC32: crc32Text(bytes) } : {}),
      ...(options.ifAbsent ? { IfNoneMatch: '*' } : {}),
    });
    const send = async (): Promise<void> => {
      const answer = await client.send(command, abortable(options.signal));
      if (answer.ETag === undefined) throw notAStore(this.url, `write ${key}`);
      await this.#keepOnlyEncrypted(key, options, answer);
    };
    return this.#run({ what: `write ${this.url}${key}` }, options.signal, () =>
      this.settle(key, mark, options.ifAbsent, send, options.signal),
    );
  }

  async #keepOnlyEncrypted(key: string, options: PutOptions, answer: EncryptionAnswer): Promise<void> {
    try {
      requireEncrypted(options, this.connection.customerKey, answer);
    } catch (error) {
      await this.remove(key).catch(() => undefined);
      throw error;
    }
  }

  /** What a write of a whole object and the begin of an upload have in common. */
  written(
    key: string,
    mark: string,
    options: PutOptions | UploadOptions,
  ): Omit<PutObjectCommandInput, 'Body'> {
    return {
      ...this.target(key),
      ...s3Attributes(options),
      ...this.connection.customerKey,
      Metadata: { [WRITE_MARK]: mark },
    };
  }

  /** AWS takes a locked object only with a checksum, whatever the modes say. */
  needsChecksum({ lock, legalHold }: PutOptions | UploadOptions): boolean {
    return this.connection.hasChecksums || lock !== undefined || legalHold === true;
  }

  /**
   * Runs the step that makes an object appear. The answer to an earlier try may have been lost, and then the store says
   * that the key is taken, or that the upload is gone: by our own object, which the mark tells.
   * @returns false when another object has the key
   */
  async settle(
    key: string,
    mark: string,
    ifAbsent: boolean,
    step: () => Promise<unknown>,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    try {
      await step();
      return true;
    } catch (error) {
      const { status, serviceCode } = s3AnswerOf(error);
      const isGone = serviceCode === 'NoSuchUpload';
      const isTaken = ifAbsent && (status === 412 || status === 409);
      if (!isGone && !isTaken) throw error;
      const head = await this.head(key, signal);
      if (head?.Metadata?.[WRITE_MARK] === mark) return true;
      if (isGone) throw error;
      if (head !== undefined) return false;
      // Taken when it was asked for and free again, or another writer is about to take it: the next try will tell.
      throw Object.assign(new Error('the key is contended'), { name: 'OperationAborted' });
    }
  }

  beginUpload(key: string, options: UploadOptions): Promise<Upload> {
    return beginS3Upload(this, key, randomBytes(MARK_BYTES).toString('hex'), options);
  }

  async lockOf(key: string, signal?: AbortSignal): Promise<string | undefined> {
    const { ObjectLockMode, ObjectLockRetainUntilDate, ObjectLockLegalHoldStatus } =
      (await this.head(key, signal)) ?? {};
    if (ObjectLockLegalHoldStatus === 'ON') return 'by a legal hold';
    if (ObjectLockRetainUntilDate === undefined || ObjectLockRetainUntilDate.getTime() <= Date.now())
      return undefined;
    return `until ${ObjectLockRetainUntilDate.toISOString()} (${ObjectLockMode?.toLowerCase() ?? 'retention'})`;
  }

  async remove(key: string, signal?: AbortSignal): Promise<void> {
    const { sdk, client } = this.connection;
    const command = new sdk.DeleteObjectCommand(this.target(key));
    await this.#run({ what: `remove ${this.url}${key}` }, signal, async () => {
      await client.send(command, abortable(signal)).catch((error: unknown) => {
        if (s3AnswerOf(error).serviceCode !== 'NoSuchKey') throw error;
      });
    });
  }

  async *listUploads(prefix: string, signal?: AbortSignal): AsyncGenerator<UploadFacts> {
    for await (const upload of this.#multiparts(prefix, signal)) {
      if (!upload.key.startsWith(UPLOADS_FOLDER)) yield upload;
    }
    const sectioned = new Map<string, UploadFacts>();
    const note = ({ key }: { readonly key: string }): void => {
      const upload = uploadOfPiece(key);
      if (upload?.key.startsWith(prefix)) sectioned.set(upload.id, upload);
    };
    for await (const section of this.#multiparts(UPLOADS_FOLDER, signal)) note(section);
    for await (const section of this.#objects(UPLOADS_FOLDER, signal)) note(section);
    yield* sectioned.values();
  }

  /** Multipart uploads that are not completed, those of sections included. */
  async *#multiparts(prefix: string, signal: AbortSignal | undefined): AsyncGenerator<UploadFacts> {
    const { sdk, client } = this.connection;
    const pages = new Pages(this.url);
    const request = { ...this.#listing(prefix), MaxUploads: OBJECT_LIST_PAGE };
    for (let markers: { KeyMarker?: string; UploadIdMarker?: string } = {}; ; ) {
      const command = new sdk.ListMultipartUploadsCommand({ ...request, ...markers });
      const page = await this.#run({ what: `list the unfinished uploads in ${this.url}` }, signal, () =>
        client.send(command, abortable(signal)),
      );
      if (page.Bucket === undefined) throw notAStore(this.url, 'list its unfinished uploads');
      for (const { Key, UploadId, Initiated } of page.Uploads ?? []) {
        pages.count();
        const key = keyBelow(this.#address, plainKey(Key, page.EncodingType));
        if (key === undefined || UploadId === undefined) continue;
        yield { key, id: UploadId, started: Initiated ?? new Date(0) };
      }
      if (!page.IsTruncated) return;
      pages.next(`${page.NextKeyMarker} ${page.NextUploadIdMarker}`);
      markers = {
        KeyMarker: plainKey(page.NextKeyMarker, page.EncodingType),
        UploadIdMarker: page.NextUploadIdMarker ?? '',
      };
    }
  }

  async abortUpload(key: string, id: string, signal?: AbortSignal): Promise<void> {
    if (startOfUpload(id) === undefined) return this.#abortMultipart(key, id, signal);
    const folder = folderOfUpload(id);
    await inParallel(this.#multiparts(folder, signal), S3_SECTIONS_AT_ONCE, (section) =>
      this.#abortMultipart(section.key, section.id, signal),
    );
    await inParallel(this.#objects(folder, signal), S3_SECTIONS_AT_ONCE, (section) =>
      this.remove(section.key, signal),
    );
  }

  async #abortMultipart(key: string, id: string, signal: AbortSignal | undefined): Promise<void> {
    const { sdk, client } = this.connection;
    const command = new sdk.AbortMultipartUploadCommand({ ...this.target(key), UploadId: id });
    await this.#run({ what: `abort the upload of ${this.url}${key}` }, signal, async () => {
      for (let tries = 0; tries < ABORTS_MAX; tries++) {
        try {
          await client.send(command, abortable(signal));
        } catch (error) {
          if (s3AnswerOf(error).serviceCode === 'NoSuchUpload') return;
          throw error;
        }
      }
    });
  }

  close(): void {
    this.connection.client.destroy();
    this.connection.agents.close();
  }

  #listing(prefix: string): { Bucket: string; Prefix: string; EncodingType: 'url' } {
    // As URLs, since XML cannot carry every key that others may have put there.
    return { Bucket: this.#address.bucket, Prefix: `${this.#address.prefix}${prefix}`, EncodingType: 'url' };
  }

  #run<Result>(
    doing: Doing,
    signal: AbortSignal | undefined,
    attempt: () => Promise<Result>,
  ): Promise<Result> {
    return this.persistence.run(attempt, this.tell(doing), signal);
  }
}

function plainKey(key: string | undefined, encoding: string | undefined): string {
  if (key === undefined || encoding !== 'url') return key ?? '';
  return decodeURIComponent(key.replaceAll('+', ' '));
}
