/**
 * Azure block blobs. A blob appears when its list of blocks is committed; blocks that were staged before belong to nobody
 * but that list. What cannot be had is a way to throw staged blocks away: Azure does so after a week, or when something is
 * committed under that name. So an abort commits an empty blob with a mark, which our lists never show, and removes it.
 */
import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import type { BlobGetPropertiesResponse, BlockBlobClient } from '@azure/storage-blob';
import { OBJECT_LIST_PAGE } from '../../limits.ts';
import { fullKey, type StoreAddress } from './address.ts';
import { type AzureConnection, azureAttributes, connectAzure } from './azureclient.ts';
import { azureAnswerOf, tellAzure } from './azurefailures.ts';
import { beginAzureUpload, uploadOfBlock } from './azureupload.ts';
import { type Doing, notAStore } from './failures.ts';
import { keyBelow, Pages } from './listing.ts';
import { Persistence, type Tell } from './persistence.ts';
import { abortable, beginsAt, checkPut, reading } from './requests.ts';
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

const MARK_BYTES = 16;
/** Name of the mark of an upload that was aborted, with its id. */
const ABORTED = 'graphkeepaborted';

/** @throws GK_CONFIG, … ; nothing is asked of the store yet */
export async function openAzure(address: StoreAddress, settings: StoreSettings): Promise<AzureStore> {
  return new AzureStore(address, await connectAzure(address, settings), settings);
}

export class AzureStore implements ObjectStore {
  readonly url: string;
  readonly persistence: Persistence;
  readonly #address: StoreAddress;
  readonly #connection: AzureConnection;

  constructor(address: StoreAddress, connection: AzureConnection, settings: StoreSettings) {
    this.url = address.url;
    this.persistence = new Persistence(settings);
    this.#address = address;
    this.#connection = connection;
  }

  blob(key: string): BlockBlobClient {
    return this.#connection.container.getBlockBlobClient(fullKey(this.#address, key));
  }

  tell(doing: Doing): Tell {
    return (error) => tellAzure(error, doing, this.#connection.scrub);
  }

  run<Result>(
    doing: Doing,
    signal: AbortSignal | undefined,
    attempt: () => Promise<Result>,
  ): Promise<Result> {
    return this.persistence.run(attempt, this.tell(doing), signal);
  }

  async *list(prefix: string, signal?: AbortSignal): AsyncGenerator<ObjectFacts> {
    for await (const { key, bytes, modified, tag, isHidden } of this.#blobs(prefix, false, signal)) {
      if (!isHidden) yield { key, bytes, modified, tag };
    }
  }

  async *#blobs(
    prefix: string,
    withUncommitted: boolean,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<ObjectFacts & { isHidden: boolean; aborted: string | undefined }> {
    const pages = new Pages(this.url);
    const options = {
      prefix: `${this.#address.prefix}${prefix}`,
      includeMetadata: true,
      includeUncommitedBlobs: withUncommitted,
      ...abortable(signal),
    };
    for (let next: string | undefined; ; ) {
      const from = {
        maxPageSize: OBJECT_LIST_PAGE,
        ...(next === undefined ? {} : { continuationToken: next }),
      };
      const { value: page } = await this.run({ what: `list ${this.url}${prefix}` }, signal, () =>
        this.#connection.container.listBlobsFlat(options).byPage(from).next(),
      );
      // A page of a web server looks like an empty list: backups would seem to be gone.
      if (page?.segment === undefined || page.containerName === undefined)
        throw notAStore(this.url, 'list it');
      for (const { name, properties, metadata } of page.segment.blobItems ?? []) {
        pages.count();
        const key = keyBelow(this.#address, name);
        if (key === undefined || metadata?.hdi_isfolder === 'true') continue;
        const { contentLength = 0, lastModified, etag } = properties;
        const aborted = metadata?.[ABORTED];
        const facts = { key, bytes: contentLength, modified: lastModified, tag: plainTag(etag) };
        yield { ...facts, aborted, isHidden: aborted !== undefined };
      }
      if (page.continuationToken === undefined || page.continuationToken === '') return;
      next = pages.next(page.continuationToken);
    }
  }

  async stat(key: string, signal?: AbortSignal): Promise<ObjectFacts | undefined> {
    const properties = await this.properties(key, signal);
    if (properties === undefined || properties.metadata?.[ABORTED] !== undefined) return undefined;
    const { contentLength = 0, lastModified = new Date(0), etag } = properties;
    return { key, bytes: contentLength, modified: lastModified, tag: plainTag(etag) };
  }

  async properties(key: string, signal?: AbortSignal): Promise<BlobGetPropertiesResponse | undefined> {
    const blob = this.blob(key);
    return this.run({ what: `look at ${this.url}${key}`, key }, signal, async () => {
      try {
        const properties = await blob.getProperties(abortable(signal));
        if (properties.etag === undefined) throw notAStore(this.url, `look at ${key}`);
        return properties;
      } catch (error) {
        const { status, serviceCode } = azureAnswerOf(error);
        if (status !== 404 || serviceCode === 'ContainerNotFound') throw error;
        return undefined;
      }
    });
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
    const answer = await this.blob(key).download(startBytes, lengthBytes, {
      // The SDK would go on by itself after a cut, as we do, but in its own way.
      maxRetryRequests: 0,
      ...(tag === undefined ? {} : { conditions: { ifMatch: `"${tag}"` } }),
      ...abortable(signal),
    });
    const { readableStreamBody: body, etag, contentRange, contentLength = lengthBytes } = answer;
    if (!(body instanceof Readable) || etag === undefined) throw notAStore(this.url, `read ${key}`);
    const isThatRange = beginsAt(startBytes, contentRange);
    if (!isThatRange || contentLength < lengthBytes) {
      body.destroy();
      throw Object.assign(new Error('the object ends before'), { code: 'InvalidRange' });
    }
    return { body, tag: plainTag(etag) };
  }

  async put(key: string, bytes: Buffer, options: PutOptions): Promise<boolean> {
    checkPut(bytes);
    const mark = randomBytes(MARK_BYTES).toString('hex');
    const blob = this.blob(key);
    const request = {
      ...azureAttributes(options, { [WRITE_MARK]: mark }),
      ...this.condition(options),
      ...abortable(options.signal),
      transactionalContentMD5: md5(bytes),
    };
    const send = async (): Promise<void> => {
      const { etag } = await blob.upload(bytes, bytes.length, request);
      if (etag === undefined) throw notAStore(this.url, `write ${key}`);
    };
    return this.run({ what: `write ${this.url}${key}` }, options.signal, () =>
      this.settle(key, mark, options.ifAbsent, send, options.signal),
    );
  }

  condition({ ifAbsent }: { readonly ifAbsent: boolean }): { conditions?: { ifNoneMatch: string } } {
    return ifAbsent ? { conditions: { ifNoneMatch: '*' } } : {};
  }

  /**
   * Runs the step that makes an object appear. The answer to an earlier try may have been lost, and then the store says
   * that the key is taken, or that the blocks are gone: by our own object, which the mark tells.
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
      const { status, serviceCode } = azureAnswerOf(error);
      const isTaken = status === 412 || serviceCode === 'BlobAlreadyExists';
      if (!isTaken && !/^InvalidBl(ockList|obOrBlock)$/.test(serviceCode)) throw error;
      const found = await this.properties(key, signal);
      if (found?.metadata?.[WRITE_MARK] === mark) return true;
      if (found !== undefined && found.metadata?.[ABORTED] === undefined && ifAbsent) return false;
      if (!isTaken) throw error;
      // In the way was what an abort leaves for a moment; one that was killed leaves it for good.
      if (found !== undefined) await this.#removeExactly(key, found.etag, signal);
      throw Object.assign(new Error('the key is contended'), { code: 'OperationAborted' });
    }
  }

  beginUpload(key: string, options: UploadOptions): Promise<Upload> {
    return beginAzureUpload(this, key, options);
  }

  async remove(key: string, signal?: AbortSignal): Promise<void> {
    await this.run({ what: `remove ${this.url}${key}` }, signal, async () => {
      await this.blob(key).deleteIfExists(abortable(signal));
    });
  }

  async #removeExactly(
    key: string,
    etag: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (etag === undefined) return;
    const options = { conditions: { ifMatch: etag }, ...abortable(signal) };
    await this.run({ what: `remove what an aborted upload left of ${this.url}${key}` }, signal, () =>
      this.blob(key)
        .deleteIfExists(options)
        .catch((error: unknown) => {
          if (azureAnswerOf(error).status !== 412) throw error;
        }),
    );
  }

  async *listUploads(prefix: string, signal?: AbortSignal): AsyncGenerator<UploadFacts> {
    for await (const { key, bytes, modified, aborted } of this.#blobs(prefix, true, signal)) {
      if (aborted !== undefined) yield { key, id: aborted, started: modified };
      else if (bytes === 0) yield* await this.stagedUploads(key, signal);
    }
  }

  /** Uploads that have blocks under a name that no object has. */
  async stagedUploads(key: string, signal: AbortSignal | undefined): Promise<UploadFacts[]> {
    if ((await this.properties(key, signal)) !== undefined) return [];
    const list = await this.run({ what: `look at the blocks of ${this.url}${key}` }, signal, () =>
      this.blob(key)
        .getBlockList('uncommitted', abortable(signal))
        .catch((error: unknown) => {
          if (azureAnswerOf(error).status !== 404) throw error;
          return undefined;
        }),
    );
    const found = new Map<string, UploadFacts>();
    for (const { name } of list?.uncommittedBlocks ?? []) {
      const upload = uploadOfBlock(name);
      if (upload !== undefined) found.set(upload.id, { key, ...upload });
    }
    return [...found.values()];
  }

  async abortUpload(key: string, id: string, signal?: AbortSignal): Promise<void> {
    const found = await this.properties(key, signal);
    if (found?.metadata?.[ABORTED] !== undefined) return this.#removeExactly(key, found.etag, signal);
    // Committing anything under that name would replace the object; Azure itself removes the blocks after a week.
    if (found !== undefined) return;
    const staged = await this.stagedUploads(key, signal);
    if (staged.some((upload) => upload.id === id)) await this.#discardBlocks(key, id, signal);
  }

  async #discardBlocks(key: string, id: string, signal: AbortSignal | undefined): Promise<void> {
    // Where nothing can be removed, an empty blob would stay as long as the policy says.
    if (await this.#isImmutable(signal)) return;
    const options = {
      ...this.condition({ ifAbsent: true }),
      metadata: { [ABORTED]: id },
      ...abortable(signal),
    };
    await this.run({ what: `abort the upload of ${this.url}${key}` }, signal, () =>
      this.blob(key)
        .commitBlockList([], options)
        .catch((error: unknown) => {
          // Somebody has published an object there, which took the blocks away.
          if (azureAnswerOf(error).status !== 409 && azureAnswerOf(error).status !== 412) throw error;
        }),
    );
    const left = await this.properties(key, signal);
    if (left?.metadata?.[ABORTED] !== undefined) await this.#removeExactly(key, left.etag, signal);
  }

  /** Who may write need not be allowed to look at the container: then it is taken for one without a policy. */
  async #isImmutable(signal: AbortSignal | undefined): Promise<boolean> {
    const container = this.#connection.container;
    const properties = await container.getProperties(abortable(signal)).catch(() => undefined);
    return properties?.hasImmutabilityPolicy === true || properties?.hasLegalHold === true;
  }

  close(): void {
    this.#connection.agents.close();
  }
}

export function md5(bytes: Buffer): Buffer {
  return createHash('md5').update(bytes).digest();
}

/** With quotes in one answer and without in another. */
function plainTag(tag: string | undefined): string {
  return (tag ?? '').replace(/^"|"$/g, '');
}
