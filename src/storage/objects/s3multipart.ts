/** One multipart upload of S3. The store keeps the last part of each number; the list at the end names each by its tag. */
import type {
  CompletedPart,
  CompleteMultipartUploadCommandInput,
  CreateMultipartUploadCommand,
  CreateMultipartUploadCommandOutput,
} from '@aws-sdk/client-s3';
import { combineCrc32 } from '../../formats/crc32.ts';
import { notAStore } from './failures.ts';
import type { Flights } from './flights.ts';
import type { PartTable } from './parts.ts';
import { abortable } from './requests.ts';
import type { S3Store } from './s3.ts';
import { copySourceKey, crc32Text, crc32Value, crc32ValueText, requireEncrypted } from './s3client.ts';
import { isRefusal } from './s3failures.ts';
import type { UploadOptions } from './store.ts';

interface MultipartOptions extends UploadOptions {
  /** Whatever the store takes by its settings. */
  readonly withoutChecksums?: boolean;
}

export interface PublishOptions {
  readonly ifAbsent: boolean;
  readonly signal: AbortSignal | undefined;
  /** Of the upload: what must have ended before anything is removed. */
  readonly flights: Flights;
}

/** What an object is made of, in its order. */
export interface Pieces {
  readonly parts: CompletedPart[];
  /** Of all bytes; nothing where one of the parts has no checksum of its own bytes. */
  readonly crc32: number | undefined;
}

export class S3Multipart {
  readonly id: string;
  readonly #store: S3Store;
  readonly #key: string;
  readonly #mark: string;
  readonly #checksums: Checksums;

  private constructor(store: S3Store, key: string, mark: string, checksums: Checksums, id: string) {
    this.id = id;
    this.#store = store;
    this.#key = key;
    this.#mark = mark;
    this.#checksums = checksums;
  }

  static async begin(
    store: S3Store,
    key: string,
    mark: string,
    options: MultipartOptions,
  ): Promise<S3Multipart> {
    const hasChecksums = !options.withoutChecksums && store.needsChecksum(options);
    const ask = (checksum: Partial<typeof WHOLE_CHECKSUM>): Promise<CreateMultipartUploadCommandOutput> =>
      askForUpload(store, key, mark, options, checksum);
    const answer = await ask(hasChecksums ? WHOLE_CHECKSUM : {}).catch((error: unknown) => {
      // R2 keeps no CRC-32 of the whole, and says so in words of its own.
      if (!hasChecksums || !isRefusal(error)) throw error;
      return ask({ ChecksumAlgorithm: WHOLE_CHECKSUM.ChecksumAlgorithm });
    });
    const { UploadId, ChecksumType } = answer;
    if (UploadId === undefined) throw notAStore(store.url, `begin the upload of ${key}`);
    const isWhole = ChecksumType === WHOLE_CHECKSUM.ChecksumType;
    const checksums = hasChecksums ? (isWhole ? 'WHOLE' : 'PARTS') : 'NONE';
    const upload = new S3Multipart(store, key, mark, checksums, UploadId);
    try {
      requireEncrypted(options, store.connection.customerKey, answer);
    } catch (error) {
      await upload.abort();
      throw error;
    }
    return upload;
  }

  async putPart(number: number, bytes: Buffer, signal: AbortSignal): Promise<CompletedPart> {
    const { sdk, client, customerKey } = this.#store.connection;
    const checksum = this.#checksums !== 'NONE' ? { ChecksumCRC32: crc32Text(bytes) } : {};
    const request = { ...this.#target(), ...customerKey, PartNumber: number, ...checksum };
    const what = `write part ${number} of ${this.#store.url}${this.#key}`;
    const { ETag } = await this.#store.persistence.run(
      () => client.send(new sdk.UploadPartCommand({ ...request, Body: bytes }), abortable(signal)),
      this.#store.tell({ what }),
      signal,
    );
    if (ETag === undefined) throw notAStore(this.#store.url, what);
    return { ETag, PartNumber: number, ...checksum };
  }

  /** The store makes a part of a whole object, which must still have this tag. */
  async copyPart(
    number: number,
    key: string,
    tag: string,
    signal: AbortSignal | undefined,
  ): Promise<CompletedPart> {
    const { sdk, client, customerKey } = this.#store.connection;
    const { Bucket, Key } = this.#store.target(key);
    const command = new sdk.UploadPartCopyCommand({
      ...this.#target(),
      ...customerKey,
      ...copySourceKey(customerKey),
      PartNumber: number,
      CopySource: [Bucket, ...Key.split('/')].map(encodeURIComponent).join('/'),
      CopySourceIfMatch: tag,
    });
    const what = `copy part ${number} of ${this.#store.url}${this.#key}`;
    const { CopyPartResult } = await this.#store.persistence.run(
      () => client.send(command, abortable(signal)),
      this.#store.tell({ what }),
      signal,
    );
    const { ETag, ChecksumCRC32 } = CopyPartResult ?? {};
    if (ETag === undefined) throw notAStore(this.#store.url, what);
    // One of the parts that the copied object was made of says nothing of its bytes.
    const isOfBytes = crc32Value(ChecksumCRC32) !== undefined;
    return { ETag, PartNumber: number, ...(isOfBytes ? { ChecksumCRC32 } : {}) };
  }

  /** @returns as `complete` */
  publish(parts: PartTable, bytes: number, { ifAbsent, signal }: PublishOptions): Promise<boolean> {
    return this.complete(sentPieces(parts, 1, bytes), ifAbsent, signal);
  }

  /** The object appears. @returns false when the key was taken and `ifAbsent` */
  async complete(
    { parts, crc32 }: Pieces,
    ifAbsent: boolean,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const { sdk, client, customerKey } = this.#store.connection;
    const request: CompleteMultipartUploadCommandInput = {
      ...this.#target(),
      ...customerKey,
      ...(this.#checksums === 'WHOLE' && crc32 !== undefined ? wholeChecksum(crc32) : {}),
      MultipartUpload: { Parts: parts },
      ...(ifAbsent ? { IfNoneMatch: '*' } : {}),
    };
    const step = (): Promise<unknown> =>
      client.send(new sdk.CompleteMultipartUploadCommand(request), abortable(signal));
    return this.#store.persistence.run(
      () => this.#store.settle(this.#key, this.#mark, ifAbsent, step, signal),
      this.#store.tell({ what: `publish ${this.#store.url}${this.#key}` }),
      signal,
    );
  }

  async abort(): Promise<void> {
    await this.#store.abortUpload(this.#key, this.id);
  }

  #target(): { Bucket: string; Key: string; UploadId: string } {
    return { ...this.#store.target(this.#key), UploadId: this.id };
  }
}

/** What the store says that it keeps; stores that do not know the difference keep the checksum of those of the parts. */
type Checksums = 'WHOLE' | 'PARTS' | 'NONE';

/** That of all bytes can be put together out of those of the parts, so that the store can compare the whole. */
const WHOLE_CHECKSUM = { ChecksumAlgorithm: 'CRC32', ChecksumType: 'FULL_OBJECT' } as const;

async function askForUpload(
  store: S3Store,
  key: string,
  mark: string,
  options: MultipartOptions,
  checksum: Partial<typeof WHOLE_CHECKSUM>,
): Promise<CreateMultipartUploadCommandOutput> {
  const { sdk, client } = store.connection;
  const command = new sdk.CreateMultipartUploadCommand({ ...store.written(key, mark, options), ...checksum });
  if (options.withoutChecksums) withoutChecksums(command);
  return store.persistence.run(
    () => client.send(command, abortable(options.signal)),
    store.tell({ what: `begin the upload of ${store.url}${key}` }),
    options.signal,
  );
}

/** The SDK asks for checksums by itself. */
function withoutChecksums(command: CreateMultipartUploadCommand): void {
  command.middlewareStack.add(
    (next) => (step) => {
      const { request } = step;
      if (typeof request === 'object' && request !== null && 'headers' in request)
        Reflect.deleteProperty(request.headers as object, 'x-amz-checksum-algorithm');
      return next(step);
    },
    { step: 'build', priority: 'low', name: 'withoutChecksums' },
  );
}

/** A tag of 32 digits, and those of a CRC-32 if there is one; any other tag is a text, and behind the checksum. */
const TAG = /^"([0-9a-f]{32})"$/;
const RECEIPT = /^(?:([0-9a-f]{32})([0-9a-f]{8})?|([0-9a-f]{8})? (.*))$/s;

/** What is remembered of a part: most of them only digits, the tag and then the checksum, where there is one. */
export function receiptOf({ ETag = '', ChecksumCRC32 }: CompletedPart): string {
  const digits = TAG.exec(ETag)?.[1];
  const checksum = ChecksumCRC32 === undefined ? '' : Buffer.from(ChecksumCRC32, 'base64').toString('hex');
  return digits === undefined ? `${checksum} ${ETag}` : `${digits}${checksum}`;
}

/** Receipts of the parts of one upload, from its first one on. */
export function partsOf(receipts: readonly string[]): CompletedPart[] {
  return receipts.map((receipt, index) => {
    const [, digits, after, before, text = ''] = RECEIPT.exec(receipt) ?? [];
    const checksum = after ?? before;
    return {
      ETag: digits === undefined ? text : `"${digits}"`,
      PartNumber: index + 1,
      ...(checksum === undefined ? {} : { ChecksumCRC32: Buffer.from(checksum, 'hex').toString('base64') }),
    };
  });
}

/** So many bytes that were sent, in parts from this one on. @throws GK_INTERNAL for a part that was never sent */
export function sentPieces(table: PartTable, firstNumber: number, bytes: number): Pieces {
  const { partBytes } = table;
  const receipts = table.receipts(firstNumber, firstNumber + Math.ceil(bytes / partBytes));
  return piecesOf(partsOf(receipts), partBytes, bytes);
}

/** @param partBytes of each but the last; @param bytes of all */
export function piecesOf(parts: CompletedPart[], partBytes: number, bytes: number): Pieces {
  let [whole, leftBytes] = [0, bytes];
  for (const { ChecksumCRC32 } of parts) {
    const value = crc32Value(ChecksumCRC32);
    if (value === undefined) return { parts, crc32: undefined };
    const ownBytes = Math.min(partBytes, leftBytes);
    whole = combineCrc32(whole, value, ownBytes);
    leftBytes -= ownBytes;
  }
  return { parts, crc32: whole };
}

/** MinIO takes none without its kind. */
function wholeChecksum(crc32: number): WholeChecksum {
  return { ChecksumType: WHOLE_CHECKSUM.ChecksumType, ChecksumCRC32: crc32ValueText(crc32) };
}

type WholeChecksum = Pick<CompleteMultipartUploadCommandInput, 'ChecksumType' | 'ChecksumCRC32'>;
