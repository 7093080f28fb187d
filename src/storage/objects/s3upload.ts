/** An upload to S3: one multipart upload, or for huge objects many that are put together. */
import {
  OBJECT_PART_BYTES_DEFAULT,
  OBJECT_PART_BYTES_MAX,
  S3_PARTS_MAX,
  S3_SECTION_BYTES_MAX,
  S3_SECTION_BYTES_MIN,
} from '../../limits.ts';
import { Flights } from './flights.ts';
import { PartTable, planSections, type SectionLimits } from './parts.ts';
import { checkWhole } from './requests.ts';
import type { S3Store } from './s3.ts';
import { partsOf, receiptOf, S3Multipart } from './s3multipart.ts';
import { S3SectionedUpload } from './s3sections.ts';
import type { Upload, UploadOptions } from './store.ts';

export const S3_LIMITS: SectionLimits = {
  partsMax: S3_PARTS_MAX,
  partBytesMax: OBJECT_PART_BYTES_MAX,
  sectionPartBytes: OBJECT_PART_BYTES_DEFAULT,
  sectionBytesMin: S3_SECTION_BYTES_MIN,
  sectionBytesMax: S3_SECTION_BYTES_MAX,
};

export async function beginS3Upload(
  store: S3Store,
  key: string,
  mark: string,
  options: UploadOptions,
): Promise<Upload> {
  const { partBytes, sectionParts } = planSections(options.bytesExpected, store.limits);
  if (sectionParts !== undefined)
    return S3SectionedUpload.begin(store, key, mark, { partBytes, sectionParts }, options);
  const upload = await S3Multipart.begin(store, key, mark, options);
  return new S3Upload(store, key, upload, partBytes, options);
}

class S3Upload implements Upload {
  readonly id: string;
  readonly partBytes: number;
  readonly #store: S3Store;
  readonly #key: string;
  readonly #upload: S3Multipart;
  readonly #options: UploadOptions;
  readonly #parts: PartTable;
  readonly #flights = new Flights();

  constructor(store: S3Store, key: string, upload: S3Multipart, partBytes: number, options: UploadOptions) {
    this.id = upload.id;
    this.partBytes = partBytes;
    this.#store = store;
    this.#key = key;
    this.#upload = upload;
    this.#options = options;
    this.#parts = new PartTable(partBytes, store.limits.partsMax);
  }

  async putPart(number: number, bytes: Buffer, signal?: AbortSignal): Promise<void> {
    this.#parts.check(number, bytes.length);
    await this.#flights.fly(signal, async (abortSignal) => {
      const part = await this.#upload.putPart(number, bytes, abortSignal);
      this.#parts.sent(number, bytes.length, receiptOf(part));
    });
  }

  async complete(
    partCount: number,
    { ifAbsent, signal }: { readonly ifAbsent: boolean; readonly signal?: AbortSignal },
  ): Promise<boolean> {
    const bytes = this.#parts.bytesOf(partCount);
    // Stores that do not keep the condition at least do not overwrite what was there before.
    const isTaken = ifAbsent && (await this.#store.stat(this.#key, signal)) !== undefined;
    const isDone = !isTaken && (await this.#publish(partCount, ifAbsent, signal));
    if (!isDone || partCount === 0) {
      await this.abort();
      return isDone;
    }
    await this.#flights.end();
    await checkWhole(this.#store, this.#key, bytes, signal);
    return true;
  }

  async #publish(partCount: number, ifAbsent: boolean, signal: AbortSignal | undefined): Promise<boolean> {
    // S3 has no uploads without parts.
    return partCount === 0
      ? this.#store.put(this.#key, Buffer.alloc(0), { ...this.#options, ifAbsent, signal })
      : this.#upload.complete(partsOf(this.#parts.receipts(1, partCount + 1)), ifAbsent, signal);
  }

  async abort(): Promise<void> {
    if (await this.#flights.end()) await this.#upload.abort();
  }
}
