/**
 * An upload to Google: every part an object of its own, under a name that tells its upload and when that began. At the end
 * they are put together, 32 at a time and the results again, until one is left, and then removed.
 */
import { GOOGLE_COMPOSE_MAX, GOOGLE_OBJECT_BYTES_MAX, GOOGLE_PARTS_AT_ONCE } from '../../limits.ts';
import { inParallel } from '../parallel.ts';
import { fullKey } from './address.ts';
import { Flights } from './flights.ts';
import type { GoogleStore } from './google.ts';
import { googleResource, type JsonFields, kmsKey } from './googleclient.ts';
import { PartTable } from './parts.ts';
import { checkWhole } from './requests.ts';
import { type Upload, type UploadOptions, WRITE_MARK } from './store.ts';
import { digits, nameOfPiece, newUploadId } from './uploadsfolder.ts';

const GENERATION_DIGITS = 16;
const SENT_DIGITS = 8;

export function beginGoogleUpload(store: GoogleStore, key: string, options: UploadOptions): Upload {
  return new GoogleUpload(store, key, newUploadId(), options);
}

interface Piece {
  readonly name: string;
  readonly generation: string;
}

class GoogleUpload implements Upload {
  readonly id: string;
  readonly partBytes: number;
  readonly #store: GoogleStore;
  readonly #key: string;
  readonly #options: UploadOptions;
  readonly #parts: PartTable;
  readonly #flights = new Flights();
  /** Of the whole; checked now, so that what the store does not have is told before anything is sent. */
  readonly #resource: JsonFields;
  #sent = 0;

  constructor(store: GoogleStore, key: string, id: string, options: UploadOptions) {
    this.id = id;
    this.partBytes = store.partBytes;
    this.#store = store;
    this.#key = key;
    this.#options = options;
    this.#parts = new PartTable(this.partBytes, Math.floor(GOOGLE_OBJECT_BYTES_MAX / this.partBytes));
    this.#resource = googleResource(options, { [WRITE_MARK]: id });
    this.#partName(0, 0);
  }

  async putPart(number: number, bytes: Buffer, signal?: AbortSignal): Promise<void> {
    this.#parts.check(number, bytes.length);
    this.#sent += 1;
    // A name of its own for each: nothing that arrives late can take the place of what was sent after it.
    const sent = this.#sent;
    const name = this.#partName(number, sent);
    const what = `write part ${number} of ${this.#store.url}${this.#key}`;
    await this.#flights.fly(signal, async (abortSignal) => {
      const kmsKeyName = kmsKey(this.#options);
      const generation = await this.#store.run({ what }, abortSignal, () =>
        this.#store.insert(name, this.#pieceResource(), bytes, { kmsKeyName, signal: abortSignal }),
      );
      this.#parts.sent(number, bytes.length, receiptOf(sent, generation));
    });
  }

  #pieceName(piece: string): string {
    return fullKey(this.#store.address, nameOfPiece(this.id, piece, this.#key));
  }

  #partName(number: number, sent: number): string {
    return this.#pieceName(`${digits(number)}-${digits(sent)}`);
  }

  /** Parts from the one with this number on. */
  #partsFrom(firstNumber: number, endNumber: number): Piece[] {
    return this.#parts.receipts(firstNumber, endNumber).map((receipt, index) => {
      const sent = Number.parseInt(receipt.slice(0, SENT_DIGITS), 16);
      const generation = String(BigInt(`0x${receipt.slice(SENT_DIGITS)}`));
      return { name: this.#partName(firstNumber + index, sent), generation };
    });
  }

  /** What is put together must be of one storage class; locks and holds are for the whole only. */
  #pieceResource(): JsonFields {
    const { storageClass } = this.#options;
    return {
      contentType: 'application/octet-stream',
      ...(storageClass === undefined ? {} : { storageClass }),
    };
  }

  async complete(
    partCount: number,
    { ifAbsent, signal }: { readonly ifAbsent: boolean; readonly signal?: AbortSignal },
  ): Promise<boolean> {
    const bytes = this.#parts.bytesOf(partCount);
    const isTaken = ifAbsent && (await this.#store.stat(this.#key, signal)) !== undefined;
    const isDone = !isTaken && (await this.#publish(partCount, ifAbsent, signal));
    if (isDone) await checkWhole(this.#store, this.#key, bytes, signal);
    await this.abort();
    return isDone;
  }

  async #publish(partCount: number, ifAbsent: boolean, signal: AbortSignal | undefined): Promise<boolean> {
    const kmsKeyName = kmsKey(this.#options);
    const name = fullKey(this.#store.address, this.#key);
    const whole = await this.#gather(partCount, signal);
    // Nothing can be put together out of nothing.
    const step = (): Promise<unknown> =>
      whole.length === 0
        ? this.#store.insert(name, this.#resource, Buffer.alloc(0), { ifAbsent, kmsKeyName, signal })
        : this.#store.compose(name, this.#resource, whole, { ifAbsent, kmsKeyName, signal });
    return this.#store.run({ what: `publish ${this.#store.url}${this.#key}` }, signal, () =>
      this.#store.settle(this.#key, this.id, ifAbsent, step, signal),
    );
  }

  /** So few pieces that one more step makes the object of them. */
  async #gather(partCount: number, signal: AbortSignal | undefined): Promise<Piece[]> {
    if (partCount <= GOOGLE_COMPOSE_MAX) return this.#partsFrom(1, partCount + 1);
    const parts = (first: number, end: number): Piece[] => this.#partsFrom(first + 1, end + 1);
    let gathered = await this.#putTogether(1, partCount, parts, signal);
    for (let level = 2; gathered.length > GOOGLE_COMPOSE_MAX; level++) {
      const smaller = gathered;
      gathered = await this.#putTogether(
        level,
        smaller.length,
        (first, end) => smaller.slice(first, end),
        signal,
      );
    }
    return gathered;
  }

  async #putTogether(
    level: number,
    count: number,
    pieces: (first: number, end: number) => Piece[],
    signal: AbortSignal | undefined,
  ): Promise<Piece[]> {
    const larger: Piece[] = new Array(Math.ceil(count / GOOGLE_COMPOSE_MAX));
    await inParallel(larger.keys(), GOOGLE_PARTS_AT_ONCE, (index) =>
      this.#flights.fly(signal, async (abortSignal) => {
        const first = index * GOOGLE_COMPOSE_MAX;
        const group = pieces(first, Math.min(first + GOOGLE_COMPOSE_MAX, count));
        const name = this.#pieceName(`level${level}-${digits(index)}`);
        larger[index] = { name, generation: await this.#composePiece(name, group, abortSignal) };
      }),
    );
    return larger;
  }

  async #composePiece(name: string, pieces: Piece[], signal: AbortSignal): Promise<string> {
    const options = { ifAbsent: false, kmsKeyName: kmsKey(this.#options), signal };
    return this.#store.run({ what: `put parts of ${this.#key} together` }, signal, () =>
      this.#store.compose(name, this.#pieceResource(), pieces, options),
    );
  }

  async abort(): Promise<void> {
    if (await this.#flights.end()) await this.#store.abortUpload(this.#key, this.id);
  }
}

/** Only digits, since there may be half a million of them. */
function receiptOf(sent: number, generation: string): string {
  return (
    sent.toString(16).padStart(SENT_DIGITS, '0') +
    BigInt(generation).toString(16).padStart(GENERATION_DIGITS, '0')
  );
}
