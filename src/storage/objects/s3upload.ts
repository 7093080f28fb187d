/** An upload to S3: one multipart upload, or for huge objects many that are put together. */
import type { CompletedPart } from '@aws-sdk/client-s3';
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
import { type PublishOptions, receiptOf, S3Multipart } from './s3multipart.ts';
import { S3Sections } from './s3sections.ts';
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
  const { partsMax } = store.limits;
  const [carrier, partsOfAll] =
    sectionParts === undefined
      ? [await S3Multipart.begin(store, key, mark, options), partsMax]
      : [await S3Sections.begin(store, key, mark, sectionParts, options), sectionParts * partsMax];
  return new S3Upload(store, key, carrier, new PartTable(partBytes, partsOfAll), options);
}

/** What takes the parts, and makes the object of them. */
interface Carrier {
  readonly id: string;
  putPart(number: number, bytes: Buffer, signal: AbortSignal): Promise<CompletedPart>;
  /**
   * The object appears, of the first parts with so many bytes, and nothing else stays. What takes long is a flight.
   * @returns false when the key was taken and `ifAbsent`
   */
  publish(parts: PartTable, bytes: number, options: PublishOptions): Promise<boolean>;
  abort(): Promise<void>;
}

class S3Upload implements Upload {
  readonly id: string;
  readonly partBytes: number;
  readonly #store: S3Store;
  readonly #key: string;
  readonly #carrier: Carrier;
  readonly #parts: PartTable;
  readonly #options: UploadOptions;
  readonly #flights = new Flights();

  constructor(store: S3Store, key: string, carrier: Carrier, parts: PartTable, options: UploadOptions) {
    this.id = carrier.id;
    this.partBytes = parts.partBytes;
    this.#store = store;
    this.#key = key;
    this.#carrier = carrier;
    this.#parts = parts;
    this.#options = options;
  }

  async putPart(number: number, bytes: Buffer, signal?: AbortSignal): Promise<void> {
    this.#parts.check(number, bytes.length);
    await this.#flights.fly(signal, async (abortSignal) => {
      const part = await this.#carrier.putPart(number, bytes, abortSignal);
      this.#parts.sent(number, bytes.length, receiptOf(part));
    });
  }

  async complete(
    partCount: number,
    { ifAbsent, signal }: { readonly ifAbsent: boolean; readonly signal?: AbortSignal },
  ): Promise<boolean> {
    const bytes = this.#parts.bytesOf(partCount);
    // Before anything is put together; and stores that do not keep the condition at least do not overwrite what was there.
    const isTaken = ifAbsent && (await this.#store.stat(this.#key, signal)) !== undefined;
    const isDone = !isTaken && (await this.#publish(bytes, ifAbsent, signal));
    if (!isDone || bytes === 0) {
      await this.abort();
      return isDone;
    }
    await this.#flights.end();
    await checkWhole(this.#store, this.#key, bytes, signal);
    return true;
  }

  async #publish(bytes: number, ifAbsent: boolean, signal: AbortSignal | undefined): Promise<boolean> {
    // S3 has no uploads without parts.
    return bytes === 0
      ? this.#store.put(this.#key, Buffer.alloc(0), { ...this.#options, ifAbsent, signal })
      : this.#carrier.publish(this.#parts, bytes, { ifAbsent, signal, flights: this.#flights });
  }

  async abort(): Promise<void> {
    if (await this.#flights.end()) await this.#carrier.abort();
  }
}
