/**
 * Google's store. Its resumable uploads only go forward, so the parts of an upload are objects of their own, in a folder
 * that our lists never show, and are put together at the end: the parts stay what they were, the whole appears at once.
 */
import { randomBytes } from 'node:crypto';
import { GOOGLE_PARTS_AT_ONCE, OBJECT_LIST_PAGE, OBJECT_PART_BYTES_DEFAULT } from '../../limits.ts';
import { inParallel } from '../parallel.ts';
import { fullKey, type StoreAddress } from './address.ts';
import type { Doing } from './failures.ts';
import {
  connectGoogle,
  type GoogleConnection,
  type GoogleRequest,
  googleResource,
  isFields,
  type JsonFields,
  kmsKey,
  multipartBody,
} from './googleclient.ts';
import { googleAnswerOf, tellGoogle } from './googlefailures.ts';
import { beginGoogleUpload } from './googleupload.ts';
import { keyBelow, Pages } from './listing.ts';
import { Persistence, type Tell } from './persistence.ts';
import { beginsAt, checkPut, reading } from './requests.ts';
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
import { folderOfUpload, UPLOADS_FOLDER, uploadOfPiece } from './uploadsfolder.ts';

const MARK_BYTES = 16;
const FIELDS = 'name,size,updated,generation,metadata';

/** @throws GK_CONFIG, … ; nothing is asked of the store yet */
export async function openGoogle(address: StoreAddress, settings: StoreSettings): Promise<GoogleStore> {
  return new GoogleStore(address, await connectGoogle(settings), settings);
}

interface Found extends ObjectFacts {
  readonly mark: unknown;
}

export class GoogleStore implements ObjectStore {
  readonly url: string;
  readonly address: StoreAddress;
  readonly partBytes: number;
  readonly #connection: GoogleConnection;
  readonly #persistence: Persistence;
  #bucketWasSeen = false;

  constructor(address: StoreAddress, connection: GoogleConnection, settings: StoreSettings) {
    this.url = address.url;
    this.address = address;
    this.partBytes = settings.uploads?.partBytesMin ?? OBJECT_PART_BYTES_DEFAULT;
    this.#connection = connection;
    this.#persistence = new Persistence(settings);
  }

  tell(doing: Doing): Tell {
    return (error) => tellGoogle(error, doing, (text) => this.#connection.scrub(text));
  }

  run<Result>(
    doing: Doing,
    signal: AbortSignal | undefined,
    attempt: () => Promise<Result>,
  ): Promise<Result> {
    return this.#persistence.run(attempt, this.tell(doing), signal);
  }

  path(root: '' | '/upload', rest: string): string {
    return `${root}/storage/v1/b/${encodeURIComponent(this.address.bucket)}/o${rest}`;
  }

  async *list(prefix: string, signal?: AbortSignal): AsyncGenerator<ObjectFacts> {
    for await (const { name, ...facts } of this.names(`${this.address.prefix}${prefix}`, signal)) {
      const key = keyBelow(this.address, name);
      if (key !== undefined && !key.startsWith(UPLOADS_FOLDER)) yield { key, ...facts };
    }
  }

  /** Objects by their whole names, parts of uploads included. */
  async *names(
    wholePrefix: string,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Omit<ObjectFacts, 'key'> & { name: string }> {
    const pages = new Pages(this.url);
    for (let next: string | undefined; ; ) {
      const page = await this.run({ what: `list ${this.url}` }, signal, () =>
        this.#page(wholePrefix, next, OBJECT_LIST_PAGE, signal),
      );
      for (const item of Array.isArray(page.items) ? (page.items as unknown[]) : []) {
        pages.count();
        const { name, bytes, modified, tag } = factsOf(item);
        yield { name, bytes, modified, tag };
      }
      if (page.nextPageToken === undefined || page.nextPageToken === '') return;
      next = pages.next(String(page.nextPageToken));
    }
  }

  async #page(
    prefix: string,
    pageToken: string | undefined,
    maxResults: number,
    signal: AbortSignal | undefined,
  ): Promise<JsonFields> {
    const fields = `kind,nextPageToken,items(${FIELDS})`;
    const query = { prefix, pageToken, maxResults: String(maxResults), fields };
    const page = await this.#connection.json({ method: 'GET', path: this.path('', ''), query }, signal);
    // Any JSON without items would be an empty list: backups would seem to be gone.
    if (page.kind !== 'storage#objects') throw notAStoreAnswer();
    this.#bucketWasSeen = true;
    return page;
  }

  async stat(key: string, signal?: AbortSignal): Promise<ObjectFacts | undefined> {
    const found = await this.find(key, signal);
    if (found === undefined) return undefined;
    const { bytes, modified, tag } = found;
    return { key, bytes, modified, tag };
  }

  async find(key: string, signal: AbortSignal | undefined): Promise<Found | undefined> {
    const request: GoogleRequest = { method: 'GET', path: this.#object(key), query: { fields: FIELDS } };
    return this.run({ what: `look at ${this.url}${key}` }, signal, async () => {
      try {
        return { key, ...factsOf(await this.#connection.json(request, signal)) };
      } catch (error) {
        if (googleAnswerOf(error).status !== 404) throw error;
        // The answer is the same when the bucket is missing.
        if (!this.#bucketWasSeen) await this.#page(this.address.prefix, undefined, 1, signal);
        return undefined;
      }
    });
  }

  #object(key: string): string {
    return this.path('', `/${encodeURIComponent(fullKey(this.address, key))}`);
  }

  async read(key: string, startBytes: number, target: Buffer, options: ReadOptions = {}): Promise<void> {
    await this.#persistence.fill(
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
    const body = await this.#connection.open(
      {
        method: 'GET',
        path: this.#object(key),
        query: { alt: 'media', ifGenerationMatch: tag },
        headers: { range: `bytes=${startBytes}-${startBytes + lengthBytes - 1}` },
      },
      signal,
    );
    const {
      'x-goog-generation': generation,
      'content-range': range,
      'content-length': length,
    } = body.headers;
    const refuse = (status: number, reason: string): never => {
      body.destroy();
      throw Object.assign(new Error(reason), { status, reason });
    };
    if (typeof generation !== 'string') return refuse(0, 'notAStore');
    if (tag !== undefined && generation !== tag) return refuse(412, 'conditionNotMet');
    const isShort = length !== undefined && Number(length) < lengthBytes;
    if (!beginsAt(startBytes, range) || isShort) return refuse(416, 'requestedRangeNotSatisfiable');
    return { body, tag: generation };
  }

  async put(key: string, bytes: Buffer, options: PutOptions): Promise<boolean> {
    checkPut(bytes);
    const mark = randomBytes(MARK_BYTES).toString('hex');
    const resource = googleResource(options, { [WRITE_MARK]: mark });
    const name = fullKey(this.address, key);
    return this.run({ what: `write ${this.url}${key}` }, options.signal, () =>
      this.settle(
        key,
        mark,
        options.ifAbsent,
        () => this.insert(name, resource, bytes, { ...options, kmsKeyName: kmsKey(options) }),
        options.signal,
      ),
    );
  }

  /** One object in one request. @returns its generation */
  async insert(
    name: string,
    resource: JsonFields,
    bytes: Buffer,
    options: { ifAbsent?: boolean; kmsKeyName: string | undefined; signal?: AbortSignal | undefined },
  ): Promise<string> {
    const written = await this.#connection.json(
      {
        method: 'POST',
        path: this.path('/upload', ''),
        query: {
          uploadType: 'multipart',
          name,
          ifGenerationMatch: options.ifAbsent ? '0' : undefined,
          kmsKeyName: options.kmsKeyName,
        },
        ...multipartBody(resource, bytes),
      },
      options.signal,
    );
    return factsOf(written).tag;
  }

  /** Puts objects of this bucket together. @returns the generation of the whole */
  async compose(
    name: string,
    destination: JsonFields,
    sources: readonly { name: string; generation: string }[],
    options: { ifAbsent: boolean; kmsKeyName: string | undefined; signal: AbortSignal | undefined },
  ): Promise<string> {
    const composed = await this.#connection.json(
      {
        method: 'POST',
        path: this.path('', `/${encodeURIComponent(name)}/compose`),
        query: { ifGenerationMatch: options.ifAbsent ? '0' : undefined, kmsKeyName: options.kmsKeyName },
        headers: { 'content-type': 'application/json' },
        body: [Buffer.from(JSON.stringify({ destination, sourceObjects: sources }))],
      },
      options.signal,
    );
    return factsOf(composed).tag;
  }

  /**
   * Runs the step that makes an object appear. The answer to an earlier try may have been lost, and then the store says
   * that the key is taken: by our own object, which the mark tells.
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
      if (!ifAbsent || googleAnswerOf(error).status !== 412) throw error;
      const found = await this.find(key, signal);
      if (found !== undefined) return found.mark === mark;
      // Taken when it was asked for, and free again: the next try will tell.
      throw Object.assign(new Error('the key is contended'), { status: 503, reason: 'backendError' });
    }
  }

  async beginUpload(key: string, options: UploadOptions): Promise<Upload> {
    return beginGoogleUpload(this, key, options);
  }

  async remove(key: string, signal?: AbortSignal): Promise<void> {
    await this.removeName(fullKey(this.address, key), signal);
  }

  async removeName(name: string, signal: AbortSignal | undefined): Promise<void> {
    const request: GoogleRequest = { method: 'DELETE', path: this.path('', `/${encodeURIComponent(name)}`) };
    await this.run({ what: `remove gs://${this.address.bucket}/${name}` }, signal, () =>
      this.#connection.done(request, signal).catch((error: unknown) => {
        if (googleAnswerOf(error).status !== 404) throw error;
      }),
    );
  }

  async *listUploads(prefix: string, signal?: AbortSignal): AsyncGenerator<UploadFacts> {
    let last: UploadFacts | undefined;
    for await (const { name } of this.names(`${this.address.prefix}${UPLOADS_FOLDER}`, signal)) {
      const part = uploadOfPiece(name.slice(this.address.prefix.length));
      // Names are in order, so the parts of one upload come together.
      if (part === undefined || part.id === last?.id || !part.key.startsWith(prefix)) continue;
      last = part;
      yield part;
    }
  }

  async abortUpload(key: string, id: string, signal?: AbortSignal): Promise<void> {
    fullKey(this.address, key);
    const names = this.names(`${this.address.prefix}${folderOfUpload(id)}`, signal);
    await inParallel(names, GOOGLE_PARTS_AT_ONCE, ({ name }) => this.removeName(name, signal));
  }

  close(): void {
    this.#connection.close();
  }
}

function notAStoreAnswer(): Error {
  return Object.assign(new Error('not a store'), { status: 0, reason: 'notAStore' });
}

function factsOf(value: unknown): Omit<Found, 'key'> & { name: string } {
  const { name, size, updated, generation, metadata } = isFields(value) ? value : {};
  if (typeof name !== 'string' || generation === undefined) throw notAStoreAnswer();
  return {
    name,
    bytes: Number(size ?? 0),
    modified: new Date(typeof updated === 'string' ? updated : 0),
    tag: String(generation),
    mark: isFields(metadata) ? metadata[WRITE_MARK] : undefined,
  };
}
