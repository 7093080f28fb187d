/** A multipart upload of S3. The store keeps the last part of each number; the list at the end names each by its tag. */
import type { CompletedPart, CompleteMultipartUploadCommandInput } from '@aws-sdk/client-s3';
import { S3_PARTS_MAX } from '../../limits.ts';
import { notAStore } from './failures.ts';
import { Flights } from './flights.ts';
import { choosePartBytes, PartTable } from './parts.ts';
import { abortable, checkWhole } from './requests.ts';
import type { S3Store } from './s3.ts';
import { crc32Text, requireEncrypted } from './s3client.ts';
import type { Upload, UploadOptions } from './store.ts';

export async function beginS3Upload(
  store: S3Store,
  key: string,
  mark: string,
  options: UploadOptions,
): Promise<Upload> {
  const partBytes = choosePartBytes(options.bytesExpected, S3_PARTS_MAX);
  const { sdk, client } = store.connection;
  const hasChecksums = store.needsChecksum(options);
  const command = new sdk.CreateMultipartUploadCommand({
    ...store.written(key, mark, options),
    ...(hasChecksums ? { ChecksumAlgorithm: 'CRC32' } : {}),
  });
  const answer = await store.persistence.run(
    () => client.send(command, abortable(options.signal)),
    store.tell({ what: `begin the upload of ${store.url}${key}` }),
    options.signal,
  );
  const { UploadId } = answer;
  if (UploadId === undefined) throw notAStore(store.url, `begin the upload of ${key}`);
  const upload = new S3Upload(store, key, mark, UploadId, partBytes, hasChecksums, options);
  try {
    requireEncrypted(options, store.connection.customerKey, answer);
  } catch (error) {
    await upload.abort();
    throw error;
  }
  return upload;
}

class S3Upload implements Upload {
  readonly id: string;
  readonly partBytes: number;
  readonly #store: S3Store;
  readonly #key: string;
  readonly #mark: string;
  readonly #hasChecksums: boolean;
  readonly #options: UploadOptions;
  readonly #parts: PartTable<CompletedPart>;
  readonly #flights = new Flights();

  constructor(
    store: S3Store,
    key: string,
    mark: string,
    id: string,
    partBytes: number,
    hasChecksums: boolean,
    options: UploadOptions,
  ) {
    this.id = id;
    this.partBytes = partBytes;
    this.#store = store;
    this.#key = key;
    this.#mark = mark;
    this.#hasChecksums = hasChecksums;
    this.#options = options;
    this.#parts = new PartTable(partBytes, S3_PARTS_MAX);
  }

  async putPart(number: number, bytes: Buffer, signal?: AbortSignal): Promise<void> {
    this.#parts.check(number, bytes.length);
    const { sdk, client, customerKey } = this.#store.connection;
    const checksum = this.#hasChecksums ? { ChecksumCRC32: crc32Text(bytes) } : {};
    const request = { ...this.#target(), ...customerKey, PartNumber: number, ...checksum };
    const what = `write part ${number} of ${this.#store.url}${this.#key}`;
    await this.#flights.fly(signal, async (abortSignal) => {
      const { ETag } = await this.#store.persistence.run(
        () => client.send(new sdk.UploadPartCommand({ ...request, Body: bytes }), { abortSignal }),
        this.#store.tell({ what }),
        abortSignal,
      );
      if (ETag === undefined) throw notAStore(this.#store.url, what);
      this.#parts.sent(number, bytes.length, { ETag, PartNumber: number, ...checksum });
    });
  }

  async complete(
    partCount: number,
    { ifAbsent, signal }: { readonly ifAbsent: boolean; readonly signal?: AbortSignal },
  ): Promise<boolean> {
    const { receipts, bytes } = this.#parts.inOrder(partCount);
    // Stores that do not keep the condition at least do not overwrite what was there before.
    const isTaken = ifAbsent && (await this.#store.stat(this.#key, signal)) !== undefined;
    const isDone = !isTaken && (await this.#publish(receipts, ifAbsent, signal));
    if (!isDone || partCount === 0) {
      await this.abort();
      return isDone;
    }
    await this.#flights.end();
    await checkWhole(this.#store, this.#key, bytes, signal);
    return true;
  }

  async #publish(
    receipts: CompletedPart[],
    ifAbsent: boolean,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    // S3 has no uploads without parts.
    if (receipts.length === 0) {
      return this.#store.put(this.#key, Buffer.alloc(0), { ...this.#options, ifAbsent, signal });
    }
    const { sdk, client, customerKey } = this.#store.connection;
    const request: CompleteMultipartUploadCommandInput = {
      ...this.#target(),
      ...customerKey,
      MultipartUpload: { Parts: receipts },
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
    if (await this.#flights.end()) await this.#store.abortUpload(this.#key, this.id);
  }

  #target(): { Bucket: string; Key: string; UploadId: string } {
    return { ...this.#store.target(this.#key), UploadId: this.id };
  }
}
