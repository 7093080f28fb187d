/**
 * JSON that came over the network, read field by field: nothing is believed that was not looked at. Numbers that may pass
 * 2^53 travel as decimal text.
 */
import { GraphkeepError } from '../errors.ts';

const DECIMAL = /^-?\d{1,19}$/;
const SHA256 = /^[0-9a-f]{64}$/;
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

/** One object of an answer. `where` names it in errors, e.g. `sessions`. @throws GK_PROTOCOL */
export class Fields {
  readonly #values: ReadonlyMap<string, unknown>;
  readonly #where: string;

  constructor(value: unknown, where: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new GraphkeepError('GK_PROTOCOL', `${where} is missing or no object`);
    }
    this.#values = new Map(Object.entries(value));
    this.#where = where;
  }

  text(key: string, charactersMax = 1024): string {
    const value = this.#values.get(key);
    if (typeof value !== 'string' || value.length > charactersMax) throw this.#wrong(key);
    return value;
  }

  flag(key: string): boolean {
    const value = this.#values.get(key);
    if (typeof value !== 'boolean') throw this.#wrong(key);
    return value;
  }

  /** A whole number from 0 on. */
  count(key: string): number {
    const value = this.#values.get(key);
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw this.#wrong(key);
    return value;
  }

  /** A number of any size, as decimal text. */
  large(key: string): bigint {
    const value = this.#values.get(key);
    if (typeof value !== 'string' || !DECIMAL.test(value)) throw this.#wrong(key);
    return BigInt(value);
  }

  bytes(key: string, bytesMax: number): Buffer {
    const value = this.#values.get(key);
    if (typeof value !== 'string' || value.length > bytesMax * 2 || !BASE64.test(value))
      throw this.#wrong(key);
    return Buffer.from(value, 'base64');
  }

  /** SHA-256 in hexadecimal. */
  sha256(key: string): string {
    const value = this.text(key);
    if (!SHA256.test(value)) throw this.#wrong(key);
    return value;
  }

  fields(key: string): Fields {
    return new Fields(this.#values.get(key), `${this.#where}.${key}`);
  }

  list<Item>(key: string, read: (item: Fields) => Item): Item[] {
    return this.#array(key).map((item) => read(new Fields(item, `${this.#where}.${key}`)));
  }

  texts(key: string): string[] {
    return this.#array(key).map((item) => {
      if (typeof item !== 'string') throw this.#wrong(key);
      return item;
    });
  }

  has(key: string): boolean {
    return this.#values.get(key) !== undefined && this.#values.get(key) !== null;
  }

  /** Whether there is an object under that name. */
  hasFields(key: string): boolean {
    const value = this.#values.get(key);
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  }

  #array(key: string): unknown[] {
    const value = this.#values.get(key);
    if (!Array.isArray(value)) throw this.#wrong(key);
    return value;
  }

  #wrong(key: string): GraphkeepError {
    return new GraphkeepError('GK_PROTOCOL', `${this.#where}.${key} is missing or cannot be used`);
  }
}
