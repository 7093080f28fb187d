/**
 * Who asked for what, one JSON line each, written before the next request of that kind is answered. The many reads of one
 * backup are told by the line of its session: how many bytes left the machine.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { type GraphkeepError, wrapSystemError } from '../errors.ts';

export interface AuditEvent {
  readonly event: 'request' | 'refused' | 'sessionEnd' | 'sessionExpired' | 'start' | 'stop';
  readonly principal?: string;
  readonly remoteAddress?: string;
  readonly method?: string;
  readonly path?: string;
  readonly status?: number;
  /** The connection ended before the whole answer was sent. */
  readonly cut?: boolean;
  /** Why a certificate was refused. */
  readonly reason?: string;
  readonly database?: string;
  readonly sentBytes?: number;
  readonly durationMs?: number;
}

export class Audit {
  readonly #file: FileHandle | undefined;
  readonly #otherwise: (event: AuditEvent) => void;
  readonly #onError: (error: GraphkeepError) => void;
  #written: Promise<void> = Promise.resolve();

  private constructor(file: FileHandle | undefined, options: Omit<AuditOptions, 'path'>) {
    this.#file = file;
    this.#otherwise = options.otherwise;
    this.#onError = options.onError;
  }

  /** @throws GK_NO_PERMISSION, GK_NOT_FOUND, … : a server that was told to keep an audit does not run without one */
  static async open({ path, ...options }: AuditOptions): Promise<Audit> {
    if (path === undefined) return new Audit(undefined, options);
    try {
      return new Audit(await open(path, 'a', 0o600), options);
    } catch (error) {
      throw wrapSystemError(error, `open the audit log ${path}`);
    }
  }

  write(event: AuditEvent): void {
    const file = this.#file;
    if (file === undefined) {
      this.#otherwise(event);
      return;
    }
    const line = `${JSON.stringify({ time: new Date().toISOString(), ...event })}\n`;
    this.#written = this.#written
      .then(async () => {
        await file.appendFile(line);
      })
      .catch((error: unknown) => this.#onError(wrapSystemError(error, 'write the audit log')));
  }

  async close(): Promise<void> {
    await this.#written;
    await this.#file?.close();
  }
}

export interface AuditOptions {
  readonly path: string | undefined;
  /** Where events go when there is no file. */
  readonly otherwise: (event: AuditEvent) => void;
  readonly onError: (error: GraphkeepError) => void;
}
