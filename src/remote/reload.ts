/**
 * Keeps something that was read from files up to date while the process runs: certificates, the access list. The files
 * are looked at every few seconds and not watched by the kernel, whose notices do not come over network mounts and
 * miss the way Kubernetes exchanges a whole folder by one link.
 */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { type GraphkeepError, isErrno, wrapSystemError } from '../errors.ts';
import { FILE_WATCH_INTERVAL_MS, TLS_FOLDER_FILES_MAX } from '../limits.ts';
import { loadTlsPolicy, type TlsMaterial, type TlsRole, tlsPolicyFiles } from './tlsmaterial.ts';
import type { TlsPolicySettings } from './tlspolicy.ts';

export interface ReloadOptions<Value> {
  readonly load: () => Promise<Value>;
  /** Files and folders; of a folder, the files in it count as well. */
  readonly files: readonly string[];
  /** Puts the new value to use; when it throws, the old one stays. */
  readonly onChange?: (value: Value) => void;
  /** Told once for each different failure; the old value stays. */
  readonly onError?: (error: GraphkeepError) => void;
  readonly intervalMs?: number;
}

/** Holds the newest value that could be loaded. */
export class Reloaded<Value> {
  readonly #options: ReloadOptions<Value>;
  readonly #timer: NodeJS.Timeout;
  #value: Value;
  #fingerprint: string;
  #error: GraphkeepError | undefined;
  #queue: Promise<void> = Promise.resolve();
  #looking = 0;
  #closed = false;

  private constructor(options: ReloadOptions<Value>, value: Value, fingerprint: string) {
    this.#options = options;
    this.#value = value;
    this.#fingerprint = fingerprint;
    const look = (): void => {
      if (this.#looking === 0) void this.check();
    };
    this.#timer = setInterval(look, options.intervalMs ?? FILE_WATCH_INTERVAL_MS).unref();
  }

  /** @throws what the first load throws: there is nothing to fall back to yet */
  static async start<Value>(options: ReloadOptions<Value>): Promise<Reloaded<Value>> {
    // Taken before the files are read: a change while they are read is seen at the next look.
    const fingerprint = await fingerprintOf(options.files);
    return new Reloaded(options, await options.load(), fingerprint);
  }

  get value(): Value {
    return this.#value;
  }

  /** Why the newest files are not in use; undefined when they are. */
  get error(): GraphkeepError | undefined {
    return this.#error;
  }

  /**
   * Looks now, for SIGHUP for example. Tells whether another value is in use afterwards. A look that is under way may
   * have begun before the change that the caller means, so this one comes after it.
   */
  check(): Promise<boolean> {
    const look = this.#queue.then(() => this.#look());
    const done = (): void => {
      this.#looking -= 1;
    };
    this.#looking += 1;
    this.#queue = look.then(done, done);
    return look;
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
  }

  async #look(): Promise<boolean> {
    if (this.#closed) return false;
    try {
      const fingerprint = await fingerprintOf(this.#options.files);
      // After a failure the same files are tried again: a clock may have reached the certificate's first day.
      if (fingerprint === this.#fingerprint && this.#error === undefined) return false;
      const value = await this.#options.load();
      if (this.#closed) return false;
      this.#options.onChange?.(value);
      this.#value = value;
      this.#fingerprint = fingerprint;
      this.#error = undefined;
      return true;
    } catch (error) {
      this.#fail(wrapSystemError(error, 'read the changed files'));
      return false;
    }
  }

  #fail(error: GraphkeepError): void {
    const isNew = this.#error?.message !== error.message;
    this.#error = error;
    if (isNew && !this.#closed) this.#options.onError?.(error);
  }
}

/** Inode, size and both times of each file: a copy that keeps its old time has a new inode or change time. */
async function fingerprintOf(paths: readonly string[]): Promise<string> {
  const marks: string[] = [];
  for (const file of paths) marks.push(...(await marksOf(file, true)));
  return marks.join('\n');
}

async function marksOf(file: string, withEntries: boolean): Promise<string[]> {
  try {
    const status = await stat(file, { bigint: true });
    const own = `${file} ${status.dev} ${status.ino} ${status.size} ${status.mtimeNs} ${status.ctimeNs} ${status.mode}`;
    if (!status.isDirectory() || !withEntries) return [own];
    const names = (await readdir(file)).sort().slice(0, TLS_FOLDER_FILES_MAX + 1);
    const entries = await Promise.all(names.map((name) => marksOf(path.join(file, name), false)));
    return [own, ...entries.flat()];
  } catch (error) {
    return [`${file} ${isErrno(error, 'ENOENT') ? 'missing' : 'unreadable'}`];
  }
}

/** The files of a TLS policy. `setServerMaterial` belongs into `onChange` of a server. */
export class TlsWatch {
  readonly #reloaded: Reloaded<TlsMaterial>;

  private constructor(reloaded: Reloaded<TlsMaterial>) {
    this.#reloaded = reloaded;
  }

  static async start(
    settings: TlsPolicySettings,
    options: Pick<ReloadOptions<TlsMaterial>, 'onChange' | 'onError' | 'intervalMs'> = {},
    role: TlsRole = 'server',
  ): Promise<TlsWatch> {
    const load = (): Promise<TlsMaterial> => loadTlsPolicy(settings, role);
    return new TlsWatch(await Reloaded.start({ ...options, load, files: tlsPolicyFiles(settings, role) }));
  }

  get material(): TlsMaterial {
    return this.#reloaded.value;
  }

  get error(): GraphkeepError | undefined {
    return this.#reloaded.error;
  }

  check(): Promise<boolean> {
    return this.#reloaded.check();
  }

  close(): void {
    this.#reloaded.close();
  }
}
