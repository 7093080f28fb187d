/**
 * Files on this host: reading at a position, and publishing so that a half-written file never carries a good name.
 * Owns the order "temporary name → fsync → final name → fsync of the folder"; knows nothing of artifacts.
 */
import { randomBytes } from 'node:crypto';
import type { Dirent } from 'node:fs';
import { type FileHandle, link, open, readdir, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { GraphkeepError, isErrno, wrapSystemError } from '../errors.ts';
import { FOLDER_ENTRIES_MAX, UNSYNCED_BYTES_MAX } from '../limits.ts';

/** Something that can be read at any position; `read` returns fewer bytes than asked only at the end. */
export interface ReadableFile {
  readonly path: string;
  readonly bytes: number;
  /** Of an encrypted file, which is read decrypted: its length as it lies there. */
  readonly sealedBytes?: number;
  read(target: Buffer, positionBytes: number): Promise<number>;
  close(): Promise<void>;
}

/** Bytes that a file has where it lies. */
export function storedBytesOf({ sealedBytes, bytes }: ReadableFile): number {
  return sealedBytes ?? bytes;
}

export async function openForReading(path: string): Promise<ReadableFile> {
  const handle = await open(path, 'r').catch((error: unknown) => {
    throw wrapSystemError(error, `open ${path}`);
  });
  const status = await handle.stat();
  if (!status.isFile()) {
    await handle.close();
    throw new GraphkeepError('GK_NOT_FOUND', `${path} is not a file`);
  }
  return {
    path,
    bytes: status.size,
    read: (target, positionBytes) => readFully(handle, target, positionBytes, path),
    close: () => handle.close(),
  };
}

/** Fills `target` from `positionBytes`, or as much of it as the file has. */
export async function readFully(
  handle: FileHandle,
  target: Buffer,
  positionBytes: number,
  path: string,
): Promise<number> {
  let done = 0;
  while (done < target.length) {
    const { bytesRead } = await handle
      .read(target, done, target.length - done, positionBytes + done)
      .catch((error: unknown) => {
        throw wrapSystemError(error, `read ${path}`);
      });
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

/** Writes all of `bytes` at `positionBytes`; a short write is continued, never dropped. */
export async function writeFully(
  handle: FileHandle,
  bytes: Buffer,
  positionBytes: number,
  path: string,
): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesWritten } = await handle
      .write(bytes, done, bytes.length - done, positionBytes + done)
      .catch((error: unknown) => {
        throw wrapSystemError(error, `write ${path}`);
      });
    done += bytesWritten;
  }
}

/** Entries sorted by name, bounded. A missing folder is GK_NOT_FOUND. */
export async function readFolder(directory: string): Promise<Dirent[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) throw new GraphkeepError('GK_NOT_FOUND', `there is no folder ${directory}`);
    throw wrapSystemError(error, `list ${directory}`);
  });
  if (entries.length > FOLDER_ENTRIES_MAX) {
    throw new GraphkeepError('GK_UNSUPPORTED', `${directory} holds more than ${FOLDER_ENTRIES_MAX} files`);
  }
  return entries.sort((left, right) => (left.name < right.name ? -1 : 1));
}

export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Starts a sync in the background whenever enough was written, so that the last one has little left to do. */
export class BackgroundSync {
  readonly #handle: FileHandle;
  #unsyncedBytes = 0;
  #running: Promise<unknown> = Promise.resolve();

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  wrote(bytes: number): void {
    this.#unsyncedBytes += bytes;
    if (this.#unsyncedBytes < UNSYNCED_BYTES_MAX) return;
    this.#unsyncedBytes = 0;
    // Errors are not lost: the kernel reports a failed write-back again at the final sync of this handle.
    this.#running = this.#running.then(() => this.#handle.datasync()).catch(() => undefined);
  }

  async finish(): Promise<void> {
    await this.#running;
    await this.#handle.sync();
  }
}

/**
 * A small file under a name that may be taken: whoever reads it finds the old or the new content, never a part.
 * @param prepare given the temporary file, which nobody but its owner can read, before it gets the name
 */
export async function replaceFile(
  path: string,
  bytes: Buffer,
  prepare: (temporaryPath: string) => Promise<void> = async () => {},
): Promise<void> {
  const unique = randomBytes(UNIQUE_BYTES).toString('hex');
  const temporaryPath = join(dirname(path), `.${basename(path)}.${unique}${PARTIAL_SUFFIX}`);
  try {
    const handle = await open(temporaryPath, 'wx', 0o600);
    try {
      await writeFully(handle, bytes, 0, temporaryPath);
      await prepare(temporaryPath);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporaryPath, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    await unlink(temporaryPath).catch(() => undefined);
    throw wrapSystemError(error, `write ${path}`);
  }
}

/** Suffix of files that are being written; no command takes such a name for an artifact. */
export const PARTIAL_SUFFIX = '.partial';
export const FAILED_SUFFIX = '.failed';
const UNIQUE_BYTES = 8;

/** A file being written under a temporary name beside its final one. */
export class Publication {
  readonly partialPath: string;
  readonly #directory: string;
  readonly #handle: FileHandle;
  readonly #sync: BackgroundSync;
  #bytes = 0;

  private constructor(directory: string, partialPath: string, handle: FileHandle) {
    this.#directory = directory;
    this.partialPath = partialPath;
    this.#handle = handle;
    this.#sync = new BackgroundSync(handle);
  }

  /** @param fileName unique name for the temporary file; it begins with a dot and ends with `.partial` */
  static async create(directory: string, fileName: string): Promise<Publication> {
    // Random, not the process id: in containers every backup may be process 1.
    const unique = randomBytes(UNIQUE_BYTES).toString('hex');
    const partialPath = join(directory, `.${fileName}.${unique}${PARTIAL_SUFFIX}`);
    const handle = await open(partialPath, 'wx+', 0o600).catch((error: unknown) => {
      throw wrapSystemError(error, `create a file in ${directory}`);
    });
    return new Publication(directory, partialPath, handle);
  }

  /** Bytes written so far; the next append begins here. */
  get bytes(): number {
    return this.#bytes;
  }

  async append(bytes: Buffer): Promise<void> {
    const at = this.#bytes;
    this.#bytes += bytes.length;
    await writeFully(this.#handle, bytes, at, this.partialPath);
    this.#sync.wrote(bytes.length);
  }

  /** Overwrites bytes that were appended before. */
  async patch(bytes: Buffer, positionBytes: number): Promise<void> {
    await writeFully(this.#handle, bytes, positionBytes, this.partialPath);
  }

  async readBack(target: Buffer, positionBytes: number): Promise<void> {
    const read = await readFully(this.#handle, target, positionBytes, this.partialPath);
    if (read < target.length)
      throw new GraphkeepError('GK_IO', `${this.partialPath} is shorter than what was written to it`);
  }

  /** Takes back everything after `bytes`. */
  async truncate(bytes: number): Promise<void> {
    await this.#handle.truncate(bytes);
    this.#bytes = bytes;
  }

  /** Makes the file durable, under its temporary name. */
  async finish(): Promise<void> {
    await this.#sync.finish().catch((error: unknown) => {
      throw wrapSystemError(error, `write ${this.partialPath} to disk`);
    });
  }

  /**
   * Makes the file durable and gives it its final name, unless something has that name already.
   * @returns false when the name is taken; the temporary file stays and another name can be tried.
   */
  async publish(finalPath: string): Promise<boolean> {
    await this.finish();
    if (!(await this.#takeName(finalPath))) return false;
    await this.#handle.close();
    await syncDirectory(dirname(finalPath));
    return true;
  }

  /** A hard link fails where the name exists, which a rename would overwrite; not every file system has links. */
  async #takeName(finalPath: string): Promise<boolean> {
    try {
      await link(this.partialPath, finalPath);
    } catch (error) {
      if (isErrno(error, 'EEXIST')) return false;
      if (!isErrno(error, 'EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK')) {
        throw wrapSystemError(error, `publish ${finalPath}`);
      }
      return this.#reserveAndRename(finalPath);
    }
    await unlink(this.partialPath);
    return true;
  }

  async #reserveAndRename(finalPath: string): Promise<boolean> {
    const existing = await open(finalPath, 'r').catch((error: unknown) => {
      if (isErrno(error, 'ENOENT')) return undefined;
      throw wrapSystemError(error, `publish ${finalPath}`);
    });
    if (existing !== undefined) {
      await existing.close();
      return false;
    }
    await rename(this.partialPath, finalPath);
    return true;
  }

  /** Ends without publishing: removes the file, or keeps it under a name that says that it failed. */
  async discard(keepAs?: string): Promise<string | undefined> {
    await this.#handle.close().catch(() => undefined);
    if (keepAs === undefined) {
      await unlink(this.partialPath).catch((error: unknown) => {
        if (!isErrno(error, 'ENOENT')) throw wrapSystemError(error, `remove ${this.partialPath}`);
      });
      return undefined;
    }
    const failedPath = join(this.#directory, keepAs);
    await rename(this.partialPath, failedPath);
    return failedPath;
  }
}
