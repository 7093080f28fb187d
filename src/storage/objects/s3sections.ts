/**
 * What carries an upload that one multipart upload cannot take in parts that fit into the memory. They go into sections,
 * each a multipart upload of its own in a folder that our lists never show. At the end every section becomes an object,
 * which the store itself copies into the upload of the whole as one part of it; then it is removed. The whole appears at
 * once.
 */
import type { CompletedPart } from '@aws-sdk/client-s3';
import { GraphkeepError } from '../../errors.ts';
import { S3_SECTIONS_AT_ONCE } from '../../limits.ts';
import { inParallel } from '../parallel.ts';
import type { PartTable } from './parts.ts';
import { checkWhole } from './requests.ts';
import type { S3Store } from './s3.ts';
import { crc32Value } from './s3client.ts';
import { isRefusal } from './s3failures.ts';
import { type Pieces, type PublishOptions, piecesOf, S3Multipart, sentPieces } from './s3multipart.ts';
import type { ObjectAttributes, UploadOptions } from './store.ts';
import { digits, nameOfPiece, newUploadId } from './uploadsfolder.ts';

interface Section {
  readonly key: string;
  readonly upload: Promise<S3Multipart>;
  /** From when on it may be an object, and no upload any more. */
  isObject: boolean;
}

export class S3Sections {
  readonly id: string;
  readonly #store: S3Store;
  readonly #key: string;
  readonly #whole: S3Multipart;
  readonly #options: UploadOptions;
  readonly #sectionParts: number;
  /** Those that were begun, as uploads or as objects, and are not removed yet. */
  readonly #sections = new Map<number, Section>();

  private constructor(
    store: S3Store,
    key: string,
    id: string,
    whole: S3Multipart,
    sectionParts: number,
    options: UploadOptions,
  ) {
    this.id = id;
    this.#store = store;
    this.#key = key;
    this.#whole = whole;
    this.#options = options;
    this.#sectionParts = sectionParts;
  }

  /** The object is begun as well, and a copy tried: what the store does not have is told before anything is sent. */
  static async begin(
    store: S3Store,
    key: string,
    mark: string,
    sectionParts: number,
    options: UploadOptions,
  ): Promise<S3Sections> {
    const id = newUploadId();
    const probeKey = nameOfPiece(id, digits(0), key);
    const begin = async (withoutChecksums: boolean): Promise<S3Multipart> => {
      const whole = await S3Multipart.begin(store, key, mark, { ...options, withoutChecksums });
      try {
        await tryCopy(store, probeKey, whole, options);
      } catch (error) {
        await whole.abort();
        throw error;
      }
      return whole;
    };
    const whole = await begin(false).catch((error: unknown) => {
      // MinIO does not copy into an upload with checksums, and says so in words of its own.
      if (!isRefusal(error) || !store.needsChecksum(options)) throw error;
      return begin(true);
    });
    return new S3Sections(store, key, id, whole, sectionParts, options);
  }

  async putPart(number: number, bytes: Buffer, signal: AbortSignal): Promise<CompletedPart> {
    const before = number - 1;
    const { upload } = this.#section(Math.floor(before / this.#sectionParts) + 1);
    return (await upload).putPart((before % this.#sectionParts) + 1, bytes, signal);
  }

  #section(number: number): Section {
    const begun = this.#sections.get(number);
    if (begun !== undefined) return begun;
    const key = nameOfPiece(this.id, digits(number), this.#key);
    // Not interrupted: an upload that the store began and nobody heard of could not be aborted.
    const upload = S3Multipart.begin(this.#store, key, this.id, sectionAttributes(this.#options));
    const section = { key, upload, isObject: false };
    this.#sections.set(number, section);
    // Nothing was begun, as far as is known; the part that is sent again tries again.
    upload.catch(() => this.#sections.delete(number));
    return section;
  }

  /** @returns false when the key was taken and `ifAbsent` */
  async publish(parts: PartTable, bytes: number, options: PublishOptions): Promise<boolean> {
    const { ifAbsent, signal, flights } = options;
    const sectionBytes = this.#sectionParts * parts.partBytes;
    const copied: CompletedPart[] = new Array(Math.ceil(bytes / sectionBytes));
    await inParallel(copied.keys(), S3_SECTIONS_AT_ONCE, (index) =>
      flights.fly(signal, async (abortSignal) => {
        const ownBytes = Math.min(sectionBytes, bytes - index * sectionBytes);
        copied[index] = await this.#copySection(index + 1, parts, ownBytes, abortSignal);
      }),
    );
    const pieces = piecesOf(copied, sectionBytes, bytes);
    if (!(await this.#whole.complete(pieces, ifAbsent, signal))) return false;
    await flights.end();
    // What cannot be removed does not make the object worse; it stays where `backup expire --cleanup` finds it.
    await this.#removeSections().catch(() => undefined);
    return true;
  }

  async #copySection(
    number: number,
    table: PartTable,
    bytes: number,
    signal: AbortSignal,
  ): Promise<CompletedPart> {
    const first = (number - 1) * this.#sectionParts + 1;
    const pieces = sentPieces(table, first, bytes);
    const section = this.#section(number);
    const { key } = section;
    const upload = await section.upload;
    section.isObject = true;
    // Not interrupted: an object that appears after it was removed would stay.
    await upload.complete(pieces, false, undefined);
    const { tag } = await checkWhole(this.#store, key, bytes, signal);
    const copied = await this.#whole.copyPart(number, key, tag, signal);
    this.#checkCopied(copied, pieces);
    // At once, so that a store needs room for the whole only once.
    await this.#store.remove(key).then(
      () => this.#sections.delete(number),
      () => undefined,
    );
    return copied;
  }

  /** Where the store says what it read: that must be what was sent. @throws GK_IO */
  #checkCopied({ ChecksumCRC32 }: CompletedPart, { crc32: expected }: Pieces): void {
    const found = crc32Value(ChecksumCRC32);
    if (found === undefined || expected === undefined) return;
    if (found === expected) return;
    throw new GraphkeepError(
      'GK_IO',
      `${this.#store.url}${this.#key}: the store copied other bytes than were sent`,
      {
        hint: 'nothing was published; check the store, and run the command again',
      },
    );
  }

  async abort(): Promise<void> {
    const ends = await Promise.allSettled([this.#whole.abort(), this.#removeSections()]);
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
  }

  /** All that can be, whatever cannot. @throws the first failure */
  async #removeSections(): Promise<void> {
    const failures: unknown[] = [];
    await inParallel([...this.#sections], S3_SECTIONS_AT_ONCE, ([number, section]) =>
      this.#removeSection(section).then(
        () => this.#sections.delete(number),
        (error: unknown) => failures.push(error),
      ),
    );
    if (failures.length > 0) throw failures[0];
  }

  async #removeSection({ key, upload, isObject }: Section): Promise<void> {
    await (await upload).abort();
    if (isObject) await this.#store.remove(key);
  }
}

/** Encrypted as the whole, but of the class that costs nothing to remove, and with no lock that would keep it. */
function sectionAttributes({ encryption }: ObjectAttributes): ObjectAttributes {
  return encryption === undefined ? {} : { encryption };
}

/** The part is copied again at the end, with what belongs there. */
async function tryCopy(
  store: S3Store,
  key: string,
  whole: S3Multipart,
  options: UploadOptions,
): Promise<void> {
  const { signal } = options;
  await store.put(key, Buffer.of(0), { ...sectionAttributes(options), ifAbsent: false, signal });
  try {
    const { tag } = await checkWhole(store, key, 1, signal);
    await whole.copyPart(1, key, tag, signal);
  } finally {
    await store.remove(key).catch(() => undefined);
  }
}
