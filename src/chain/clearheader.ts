/**
 * What an encrypted artifact says of itself in the clear, when that was asked for: its summary as JSON, padded to a fixed
 * length. With it a folder is listed, and a differential finds its parent, without a private key. Whoever can write to the
 * folder can write another one: only those who hold the key find that out (docs/formats/encryption.md).
 */
import { GraphkeepError } from '../errors.ts';
import { FormatError } from '../formats/formaterror.ts';
import { CLEAR_HEADER_BYTES } from '../limits.ts';
import type { ArtifactSummary } from './summary.ts';

const VERSION = 1;
/** A name of a database has at most 63 characters; a descriptor holds up to 255 bytes. */
const TEXT_CHARACTERS_MAX = 255;
const CRC_MAX = 0xffffffff;
const INT32_MIN = -(2 ** 31);
const INT32_MAX = 2 ** 31 - 1;

export function writeClearHeader(summary: ArtifactSummary): Buffer {
  const { path: _path, bytes: _bytes, encrypted: _encrypted, time, latestCommit, ...facts } = summary;
  const fields = {
    version: VERSION,
    ...facts,
    ...(time === undefined ? {} : { timeMs: time.getTime() }),
    ...(latestCommit === undefined ? {} : { latestCommitMs: latestCommit.getTime() }),
  };
  const json = JSON.stringify(fields, (_key, value) => (typeof value === 'bigint' ? String(value) : value));
  const padded = Buffer.alloc(CLEAR_HEADER_BYTES, ' ');
  if (Buffer.byteLength(json) > padded.length)
    throw new GraphkeepError('GK_INTERNAL', `a clear header of ${Buffer.byteLength(json)} bytes`);
  padded.write(json, 'utf8');
  return padded;
}

/** Nothing in it is proven, so nothing in it is taken as it comes. @throws FormatError */
export function parseClearHeader(body: Buffer, place: { path: string; bytes: number }): ArtifactSummary {
  if (body.length !== CLEAR_HEADER_BYTES) throw new FormatError(`its clear header has ${body.length} bytes`);
  const fields = new ClearFields(body);
  if (fields.number('version', 1, INT32_MAX) !== VERSION)
    throw new FormatError('its clear header is of a version that this graphkeep does not know');
  return { ...place, encrypted: 'sealed', ...factsOf(fields), ...indexFactsOf(fields) };
}

function factsOf(fields: ClearFields): Omit<ArtifactSummary, 'path' | 'bytes' | 'encrypted'> {
  return {
    database: fields.text('database'),
    databaseId: fields.text('databaseId'),
    time: fields.optional('timeMs', (name) => fields.time(name)),
    full: fields.flag('full'),
    compressed: fields.flag('compressed'),
    recovered: fields.flag('recovered'),
    lowestTransaction: fields.whole('lowestTransaction'),
    highestTransaction: fields.whole('highestTransaction'),
    storeIdHash: fields.number('storeIdHash', INT32_MIN, CRC_MAX),
    storeKey: fields.text('storeKey'),
    container: fields.text('container'),
    indexed: fields.flag('indexed'),
  };
}

function indexFactsOf(fields: ClearFields): Partial<ArtifactSummary> {
  const found = {
    hasMetadata: fields.optional('hasMetadata', (name) => fields.flag(name)),
    memberCount: fields.optional('memberCount', (name) => fields.number(name)),
    memberBytes: fields.optional('memberBytes', (name) => fields.number(name)),
    highestChecksum: fields.optional('highestChecksum', (name) => fields.number(name, 0, CRC_MAX)),
    latestCommit: fields.optional('latestCommitMs', (name) => fields.time(name)),
    parent: fields.optional('parent', (name) => {
      const parent = fields.below(name);
      return { appendIndex: parent.whole('appendIndex'), checksum: parent.number('checksum', 0, CRC_MAX) };
    }),
    end: fields.optional('end', (name) => {
      const end = fields.below(name);
      return { logVersion: end.whole('logVersion'), offsetBytes: end.whole('offsetBytes') };
    }),
  };
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined));
}

/** Fields of a JSON object, each of the type that is asked for. @throws FormatError */
class ClearFields {
  readonly #values: Readonly<Record<string, unknown>>;

  constructor(json: Buffer | unknown) {
    const values: unknown = Buffer.isBuffer(json) ? parseJson(json) : json;
    if (typeof values !== 'object' || values === null) throw new FormatError('its clear header is no object');
    this.#values = values as Record<string, unknown>;
  }

  optional<Value>(name: string, read: (name: string) => Value): Value | undefined {
    return Object.hasOwn(this.#values, name) ? read(name) : undefined;
  }

  below(name: string): ClearFields {
    return new ClearFields(this.#values[name]);
  }

  text(name: string): string {
    const value = this.#values[name];
    // Printed on a terminal, which takes control characters for orders.
    const isText = typeof value === 'string' && /^\P{Cc}+$/u.test(value);
    if (!isText || value.length > TEXT_CHARACTERS_MAX) throw wrong(name);
    return value;
  }

  flag(name: string): boolean {
    const value = this.#values[name];
    if (typeof value !== 'boolean') throw wrong(name);
    return value;
  }

  whole(name: string): bigint {
    const value = this.#values[name];
    if (typeof value !== 'string' || !/^\d{1,19}$/.test(value)) throw wrong(name);
    return BigInt(value);
  }

  number(name: string, min = 0, max = Number.MAX_SAFE_INTEGER): number {
    const value = this.#values[name];
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max)
      throw wrong(name);
    return value;
  }

  time(name: string): Date {
    const time = new Date(this.number(name));
    if (Number.isNaN(time.getTime())) throw wrong(name);
    return time;
  }
}

function parseJson(json: Buffer): unknown {
  try {
    return JSON.parse(json.toString('utf8'));
  } catch {
    throw new FormatError('its clear header is not JSON');
  }
}

function wrong(name: string): FormatError {
  return new FormatError(`its clear header gives no proper ${name}`);
}
