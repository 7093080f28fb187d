/**
 * One record store: its file, and over it what the log says. Reads by id through a small cache of pages, or from the
 * first record to the last.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { GraphkeepError, throwIfAborted } from '../errors.ts';
import {
  firstIdOf,
  type PageLayout,
  pageLayout,
  RECORD_STORES,
  type StoreName,
} from '../formats/records/layout.ts';
import type { StoreRecords } from '../formats/txlog/images.ts';
import { RECORD_PAGES_CACHED_MAX, RECORD_SCAN_BYTES } from '../limits.ts';
import { openForReading, type ReadableFile } from '../storage/local.ts';
import { namingStore } from './damage.ts';
import type { Overlay } from './overlay.ts';

export interface StoredRecord<Fields> {
  readonly id: number;
  readonly record: Fields;
}

/** @param recordBytes of the store as its file says; parsers of dynamic records need it */
export type RecordParser<Fields> = (bytes: Buffer, offset: number, recordBytes: number) => Fields;

/** Says how large the records are, by the first bytes of the file; undefined for the default. */
export type HeaderParser = (bytes: Buffer) => number | undefined;

const HEADER_BYTES = 4;

/** 2026 can cut a store into several files (formats.md §1), which is off by default and was not tried. */
function refuseSegments(path: string): void {
  if (!existsSync(`${path}.1`)) return;
  throw new GraphkeepError(
    'GK_UNSUPPORTED',
    `${path} consists of several files, which graphkeep cannot read`,
  );
}

export class RecordStore<Name extends StoreName> {
  readonly #name: Name;
  readonly #file: ReadableFile;
  readonly #layout: PageLayout;
  readonly #parse: RecordParser<StoreRecords[Name]>;
  readonly #images: ReadonlyMap<number, StoreRecords[Name]>;
  readonly #pages = new Map<number, Buffer>();
  /** Ids from here on are in the overlay only. */
  readonly #fileRecords: number;

  private constructor(
    name: Name,
    file: ReadableFile,
    layout: PageLayout,
    parse: RecordParser<StoreRecords[Name]>,
    overlay: Overlay,
  ) {
    this.#name = name;
    this.#file = file;
    this.#layout = layout;
    this.#parse = parse;
    this.#images = overlay.of(name);
    this.#fileRecords = Math.floor(file.bytes / layout.pageBytes) * layout.recordsPerPage;
  }

  /** @throws GK_NOT_FOUND, GK_STORE_DAMAGED */
  static async open<Name extends StoreName>(
    name: Name,
    source: { readonly storeDirectory: string; readonly family: string; readonly overlay: Overlay },
    parse: RecordParser<StoreRecords[Name]>,
    parseHeader?: HeaderParser,
  ): Promise<RecordStore<Name>> {
    const { file: fileName, recordBytes } = RECORD_STORES[name];
    refuseSegments(join(source.storeDirectory, fileName));
    const file = await openForReading(join(source.storeDirectory, fileName));
    try {
      const header = Buffer.alloc(HEADER_BYTES);
      await file.read(header, 0);
      const layout = namingStore(
        () => file.path,
        () => pageLayout(source.family, parseHeader?.(header) ?? recordBytes),
      );
      return new RecordStore(name, file, layout, parse, source.overlay);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** For messages. */
  where(id: number): string {
    return `record ${id} of ${this.#file.path}`;
  }

  /** undefined where no record is in use. @throws GK_STORE_DAMAGED */
  async read(id: number): Promise<StoreRecords[Name] | undefined> {
    const image = this.#images.get(id);
    if (image !== undefined) return image.inUse ? image : undefined;
    if (id < firstIdOf(this.#name) || id >= this.#fileRecords) return undefined;
    const { recordsPerPage, recordBytes } = this.#layout;
    const page = await this.#page(Math.floor(id / recordsPerPage));
    const record = this.#parseAt(page, (id % recordsPerPage) * recordBytes, id);
    return record.inUse ? record : undefined;
  }

  /** Every record in use, in the order of the ids of the file, then those that only the log knows. */
  async *all(signal?: AbortSignal): AsyncGenerator<StoredRecord<StoreRecords[Name]>> {
    const { recordsPerPage, recordBytes, pageBytes } = this.#layout;
    const pagesAtOnce = Math.max(1, Math.floor(RECORD_SCAN_BYTES / pageBytes));
    const window = Buffer.allocUnsafe(pagesAtOnce * pageBytes);
    for (let position = 0; position < this.#file.bytes; position += window.length) {
      throwIfAborted(signal);
      const got = await this.#file.read(window, position);
      const pages = Math.floor(got / pageBytes);
      const firstId = (position / pageBytes) * recordsPerPage;
      for (let index = 0; index < pages * recordsPerPage; index++) {
        const id = firstId + index;
        if (id < firstIdOf(this.#name)) continue;
        const at = Math.floor(index / recordsPerPage) * pageBytes + (index % recordsPerPage) * recordBytes;
        const record = this.#images.get(id) ?? this.#parseAt(window, at, id);
        if (record.inUse) yield { id, record };
      }
    }
    for (const [id, record] of this.#images)
      if (id >= this.#fileRecords && record.inUse) yield { id, record };
  }

  #parseAt(bytes: Buffer, offset: number, id: number): StoreRecords[Name] {
    return namingStore(
      () => this.where(id),
      () => this.#parse(bytes, offset, this.#layout.recordBytes),
    );
  }

  /** The pages that were read last are kept: chains tend to stay where they are. */
  async #page(number: number): Promise<Buffer> {
    const known = this.#pages.get(number);
    if (known !== undefined) {
      this.#pages.delete(number);
      this.#pages.set(number, known);
      return known;
    }
    // Zeros where the file became shorter: no record is in use there.
    const page = Buffer.alloc(this.#layout.pageBytes);
    await this.#file.read(page, number * this.#layout.pageBytes);
    this.#pages.set(number, page);
    if (this.#pages.size > RECORD_PAGES_CACHED_MAX) this.#pages.delete(this.#pages.keys().next().value!);
    return page;
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}
