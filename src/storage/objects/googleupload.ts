/**
 * An upload to Google: every part an object of its own, under a name that tells its upload and when that began. At the end
 * they are put together, 32 at a time and the results again, until one is left, and then removed.
 */
import { randomBytes } from 'node:crypto';
import { GOOGLE_COMPOSE_MAX, GOOGLE_PARTS_MAX } from '../../limits.ts';
import { fullKey } from './address.ts';
import { Flights } from './flights.ts';
import type { GoogleStore } from './google.ts';
import { googleResource, type JsonFields, kmsKey } from './googleclient.ts';
import { choosePartBytes, PartTable } from './parts.ts';
import { checkWhole } from './requests.ts';
import { type Upload, type UploadOptions, WRITE_MARK } from './store.ts';

/** Below the folder of the store, so that who may write there may write these as well. */
export const UPLOADS_FOLDER = '.graphkeep-uploads/';
const ID = /^gk([0-9a-f]{12})[0-9a-f]{12}$/;
const TIME_DIGITS = 12;
const UNIQUE_BYTES = 6;
const NUMBER_DIGITS = 6;

/** @param name below the folder of the store: `.graphkeep-uploads/<id>/<part>/<key>` */
export function partOfName(name: string): { id: string; key: string; started: Date } | undefined {
  const [, id = '', , ...key] = name.split('/');
  const time = name.startsWith(UPLOADS_FOLDER) ? ID.exec(id)?.[1] : undefined;
  if (time === undefined || key.length === 0) return undefined;
  return { id, key: key.join('/'), started: new Date(Number.parseInt(time, 16)) };
}

export function beginGoogleUpload(store: GoogleStore, key: string, options: UploadOptions): Upload {
  const time = Date.now().toString(16).padStart(TIME_DIGITS, '0');
  return new GoogleUpload(store, key, `gk${time}${randomBytes(UNIQUE_BYTES).toString('hex')}`, options);
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
  readonly #parts: PartTable<Piece>;
  readonly #flights = new Flights();
  /** Of the whole; checked now, so that what the store does not have is told before anything is sent. */
  readonly #resource: JsonFields;
  #sent = 0;

  constructor(store: GoogleStore, key: string, id: string, options: UploadOptions) {
    this.id = id;
    this.partBytes = choosePartBytes(options.bytesExpected, GOOGLE_PARTS_MAX);
    this.#store = store;
    this.#key = key;
    this.#options = options;
    this.#parts = new PartTable(this.partBytes, GOOGLE_PARTS_MAX);
    this.#resource = googleResource(options, { [WRITE_MARK]: id });
    this.#pieceName('000000-000000');
  }

  async putPart(number: number, bytes: Buffer, signal?: AbortSignal): Promise<void> {
    this.#parts.check(number, bytes.length);
    this.#sent += 1;
    // A name of its own for each: nothing that arrives late can take the place of what was sent after it.
    const name = this.#pieceName(`${digits(number)}-${digits(this.#sent)}`);
    const what = `write part ${number} of ${this.#store.url}${this.#key}`;
    await this.#flights.fly(signal, async (abortSignal) => {
      const kmsKeyName = kmsKey(this.#options);
      const generation = await this.#store.run({ what }, abortSignal, () =>
        this.#store.insert(name, this.#pieceResource(), bytes, { kmsKeyName, signal: abortSignal }),
      );
      this.#parts.sent(number, bytes.length, { name, generation });
    });
  }

  #pieceName(piece: string): string {
    return fullKey(this.#store.address, `${UPLOADS_FOLDER}${this.id}/${piece}/${this.#key}`);
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
    const { receipts, bytes } = this.#parts.inOrder(partCount);
    const isTaken = ifAbsent && (await this.#store.stat(this.#key, signal)) !== undefined;
    const isDone = !isTaken && (await this.#publish(receipts, ifAbsent, signal));
    if (isDone) await checkWhole(this.#store, this.#key, bytes, signal);
    await this.abort();
    return isDone;
  }

  async #publish(pieces: Piece[], ifAbsent: boolean, signal: AbortSignal | undefined): Promise<boolean> {
    const kmsKeyName = kmsKey(this.#options);
    const name = fullKey(this.#store.address, this.#key);
    const whole = await this.#gather(pieces, signal);
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
  async #gather(pieces: Piece[], signal: AbortSignal | undefined): Promise<Piece[]> {
    const options = { ifAbsent: false, kmsKeyName: kmsKey(this.#options), signal };
    let [gathered, level] = [pieces, 0];
    while (gathered.length > GOOGLE_COMPOSE_MAX) {
      level += 1;
      const larger: Piece[] = [];
      for (let first = 0; first < gathered.length; first += GOOGLE_COMPOSE_MAX) {
        const group = gathered.slice(first, first + GOOGLE_COMPOSE_MAX);
        const name = this.#pieceName(`level${level}-${digits(larger.length)}`);
        const generation = await this.#store.run({ what: `put parts of ${this.#key} together` }, signal, () =>
          this.#store.compose(name, this.#pieceResource(), group, options),
        );
        larger.push({ name, generation });
      }
      gathered = larger;
    }
    return gathered;
  }

  async abort(): Promise<void> {
    if (await this.#flights.end()) await this.#store.abortUpload(this.#key, this.id);
  }
}

function digits(number: number): string {
  return String(number).padStart(NUMBER_DIGITS, '0');
}
