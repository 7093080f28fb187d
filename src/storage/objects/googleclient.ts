/**
 * The JSON API of Google's store over our own connections: requests that end when they are told to, and bodies that are
 * never in memory twice. From Google's library comes who we are. Its own transfers are not used: they cannot be
 * interrupted, put parts together without saying how the whole is to be kept, and hash in JavaScript.
 */
import { randomBytes } from 'node:crypto';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { crc32c } from '@node-rs/crc32';
import { GraphkeepError } from '../../errors.ts';
import { GOOGLE_ANSWER_BYTES_MAX } from '../../limits.ts';
import { type StoreAgents, storeAgents } from './agents.ts';
import { checkEndpoint } from './endpoint.ts';
import { scrubber } from './secrets.ts';
import type { GoogleSettings, StoreSettings } from './settings.ts';
import type { ObjectAttributes } from './store.ts';

const UNIVERSE = 'googleapis.com';
const EXAMPLE = `https://storage.${UNIVERSE}`;
const SCOPE = 'https://www.googleapis.com/auth/devstorage.read_write';
const BOUNDARY_BYTES = 16;
const TOKENS_KNOWN_MAX = 24;

export interface GoogleRequest {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** Below the endpoint; names in it are encoded already. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: readonly Buffer[];
}

/** What a store answered that is no success; it becomes a GraphkeepError where somebody knows what was asked. */
export interface GoogleRefusal extends Error {
  readonly status: number;
  readonly reason: string;
}

/** Who we are, and where the store is that knows us. */
interface GoogleIdentity {
  readonly endpoint: string;
  readonly headers: Readonly<Record<string, string>>;
}

export class GoogleConnection {
  readonly #tokens = new Set<string>();
  readonly #agents: StoreAgents;
  readonly #identify: () => Promise<GoogleIdentity>;

  constructor(agents: StoreAgents, identify: () => Promise<GoogleIdentity>) {
    this.#agents = agents;
    this.#identify = identify;
  }

  /** Knows the tokens of this connection, which come while it is used. */
  scrub(text: string): string {
    return scrubber([...this.#tokens])(text);
  }

  async #identity(): Promise<GoogleIdentity> {
    const identity = await this.#identify();
    const token = /^Bearer (.+)$/.exec(identity.headers.authorization ?? '')?.[1];
    // One an hour; those of yesterday are worth nothing any more.
    if (this.#tokens.size >= TOKENS_KNOWN_MAX) this.#tokens.clear();
    if (token !== undefined) this.#tokens.add(token);
    return identity;
  }

  /** The answer with its body still to come. @throws GoogleRefusal, what the network or the credentials say */
  async open(asked: GoogleRequest, signal: AbortSignal | undefined): Promise<IncomingMessage> {
    const identity = await this.#identity();
    const url = new URL(asked.path, identity.endpoint);
    for (const [name, value] of Object.entries(asked.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, value);
    }
    const isTls = url.protocol === 'https:';
    const body = asked.body ?? [];
    const length = body.reduce((sum, piece) => sum + piece.length, 0);
    const options = {
      method: asked.method,
      agent: isTls ? this.#agents.https : this.#agents.http,
      headers: {
        ...identity.headers,
        ...asked.headers,
        ...(asked.method === 'POST' ? { 'content-length': String(length) } : {}),
      },
      ...(signal === undefined ? {} : { signal }),
    };
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const request = isTls ? httpsRequest(url, options) : httpRequest(url, options);
      request.on('response', resolve).on('error', reject);
      for (const piece of body) request.write(piece);
      request.end();
    });
    const { statusCode = 0 } = answer;
    if (statusCode < 200 || statusCode > 299) throw await refusal(answer, statusCode);
    return answer;
  }

  /** @throws as `open`; GoogleRefusal with status 0 for an answer that is no JSON */
  async json(asked: GoogleRequest, signal: AbortSignal | undefined): Promise<JsonFields> {
    const answer = await this.open(asked, signal);
    const text = (await readBounded(answer)).toString('utf8');
    return parseFields(text) ?? fail(0, 'notAStore');
  }

  /** What is not read is thrown away, so that the connection can be used again. */
  async done(asked: GoogleRequest, signal: AbortSignal | undefined): Promise<void> {
    await readBounded(await this.open(asked, signal));
  }

  close(): void {
    this.#agents.close();
  }
}

export type JsonFields = Readonly<Record<string, unknown>>;

export function isFields(value: unknown): value is JsonFields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parseFields(text: string): JsonFields | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isFields(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

async function readBounded(answer: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of answer) {
    if (!Buffer.isBuffer(chunk)) continue;
    bytes += chunk.length;
    if (bytes > GOOGLE_ANSWER_BYTES_MAX) fail(0, 'notAStore');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function fail(status: number, reason: string, words = reason): never {
  const error: GoogleRefusal = Object.assign(new Error(words), { status, reason });
  throw error;
}

async function refusal(answer: IncomingMessage, status: number): Promise<GoogleRefusal> {
  const text = (await readBounded(answer)).toString('utf8');
  const error = parseFields(text)?.error;
  const fields = isFields(error) ? error : {};
  const [first] = Array.isArray(fields.errors) ? (fields.errors as unknown[]) : [];
  const reason = isFields(first) && typeof first.reason === 'string' ? first.reason : '';
  const words = typeof fields.message === 'string' ? fields.message : text;
  return Object.assign(new Error(words), { status, reason });
}

/** @throws GK_CONFIG, GK_NOT_FOUND; credentials are looked for with the first request */
export async function connectGoogle(settings: StoreSettings): Promise<GoogleConnection> {
  const google = settings.google ?? {};
  const emulator = google.endpoint === undefined ? process.env.STORAGE_EMULATOR_HOST : undefined;
  const named = google.endpoint || (emulator && withScheme(emulator)) || undefined;
  const endpoint = named === undefined ? undefined : checkEndpoint(named, EXAMPLE);
  const isAnonymous = google.anonymous === true || (emulator !== undefined && emulator !== '');
  const agents = await storeAgents(settings);
  const anonymous = { endpoint: endpoint ?? EXAMPLE, headers: {} };
  return new GoogleConnection(
    agents,
    isAnonymous ? async () => anonymous : await identityOf(google, endpoint),
  );
}

function withScheme(host: string): string {
  return /^https?:/.test(host) ? host : `http://${host}`;
}

/** A cloud of Google's make that is not Google's has a universe of its own; its credentials say which. */
async function identityOf(
  { projectId }: GoogleSettings,
  endpoint: string | undefined,
): Promise<() => Promise<GoogleIdentity>> {
  const { GoogleAuth } = await import('google-auth-library');
  const universeDomain = process.env.GOOGLE_CLOUD_UNIVERSE_DOMAIN;
  const auth = new GoogleAuth({ scopes: [SCOPE], ...(universeDomain ? { universeDomain } : {}) });
  return async () => {
    try {
      const client = await auth.getClient();
      return {
        endpoint: endpoint ?? `https://storage.${client.universeDomain}`,
        headers: {
          ...Object.fromEntries(await client.getRequestHeaders()),
          ...(projectId === undefined ? {} : { 'x-goog-user-project': projectId }),
        },
      };
    } catch (error) {
      // Told apart from what the store itself refuses.
      throw Object.assign(new Error('no credentials', { cause: error }), {
        status: 0,
        reason: 'noCredentials',
      });
    }
  };
}

/** Metadata and bytes in one request, with a checksum that the store compares before it keeps anything. */
export function multipartBody(
  resource: JsonFields,
  bytes: Buffer,
): { headers: Record<string, string>; body: Buffer[] } {
  const boundary = randomBytes(BOUNDARY_BYTES).toString('hex');
  const type = typeof resource.contentType === 'string' ? resource.contentType : 'application/octet-stream';
  const head =
    `--${boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n` +
    `${JSON.stringify({ ...resource, crc32c: crc32cText(bytes) })}\r\n` +
    `--${boundary}\r\ncontent-type: ${type}\r\n\r\n`;
  return {
    headers: { 'content-type': `multipart/related; boundary=${boundary}` },
    body: [Buffer.from(head), bytes, Buffer.from(`\r\n--${boundary}--\r\n`)],
  };
}

/** As the store has it: big-endian, in base64. */
function crc32cText(bytes: Buffer): string {
  const value = Buffer.alloc(4);
  value.writeUInt32BE(crc32c(bytes));
  return value.toString('base64');
}

/** The resource of an object that is to be kept like this. @throws GK_UNSUPPORTED */
export function googleResource(attributes: ObjectAttributes, mark: Record<string, string>): JsonFields {
  const { contentType, storageClass, tags, lock, legalHold, encryption } = attributes;
  if (encryption?.by === 'scope') {
    throw new GraphkeepError('GK_UNSUPPORTED', 'Google knows no encryption scopes', {
      hint: 'name a key of Cloud KMS',
    });
  }
  return {
    contentType: contentType ?? 'application/octet-stream',
    metadata: { ...tags, ...mark },
    ...(storageClass === undefined ? {} : { storageClass }),
    ...(lock === undefined
      ? {}
      : {
          retention: {
            mode: lock.mode === 'governance' ? 'Unlocked' : 'Locked',
            retainUntilTime: lock.until.toISOString(),
          },
        }),
    ...(legalHold ? { temporaryHold: true } : {}),
  };
}

/** The key of KMS is asked for beside the resource. */
export function kmsKey({ encryption }: ObjectAttributes): string | undefined {
  return encryption?.by === 'kms' ? encryption.keyId : undefined;
}
