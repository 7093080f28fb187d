/**
 * New log of any size behind a database at rest, as a server would have written it: real transactions over and over, with
 * numbers that go on, each sealed again. What a differential backup costs depends on this log alone.
 */
import { type FileHandle, open, readFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32c } from '@node-rs/crc32';
import { LOG_HEADER_BYTES, writeLogHeaderAfter } from '../src/formats/txlog/header.ts';
import { COMMIT_ENTRY_BYTES, type LogTransaction } from '../src/formats/txlog/transactions.ts';
import { listLogFolder, logFileName } from '../src/hotcopy/logfolder.ts';
import { scanTransactions } from '../src/hotcopy/tail.ts';
import { MIB } from '../src/limits.ts';

const LOG_FILE_BYTES_MAX = 256 * MIB;
/** Of transactions that are repeated; larger ones make the copies of a small log too coarse. */
const SAMPLE_BYTES_MAX = 64 * MIB;
/** Of a Start entry: kernel version, type, two times. */
const PREVIOUS_CHECKSUM_OFFSET = 18;
const CHECKSUM_BYTES = 4;

export interface LogEnd {
  readonly appendIndex: bigint;
  readonly checksum: number;
}

/** Transactions as bytes, e.g. those of a fixture. */
export async function readTransactions(logFile: string): Promise<{ bytes: Buffer; hasPrevious: boolean }[]> {
  const found: { bytes: Buffer; hasPrevious: boolean }[] = [];
  const content = await readFile(logFile);
  await scanFile(logFile, (transaction) => {
    const bytes = content.subarray(transaction.startBytes, transaction.endBytes);
    if (bytes.length <= SAMPLE_BYTES_MAX) {
      found.push({ bytes, hasPrevious: transaction.previousChecksum !== undefined });
    }
  });
  return found;
}

async function scanFile(path: string, onTransaction: (transaction: LogTransaction) => void): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await scanTransactions(handle, LOG_HEADER_BYTES, onTransaction);
  } finally {
    await handle.close();
  }
}

/**
 * Appends log files to a transaction folder until `newBytes` of transactions are there. Its newest file is cut behind its
 * last transaction first, as a rotation does.
 */
export async function appendNewLog(
  logDirectory: string,
  newBytes: number,
  sampleFile: string,
): Promise<LogEnd> {
  const samples = await readTransactions(sampleFile);
  const writer = await LogFileWriter.open(logDirectory);
  for (let written = 0, number = 0; written < newBytes; number++) {
    written += await writer.append(samples[number % samples.length]!);
  }
  return writer.close();
}

class LogFileWriter {
  readonly #directory: string;
  readonly #header: Buffer;
  #version: bigint;
  #end: LogEnd;
  #file: FileHandle | undefined;
  #fileBytes = 0;

  private constructor(directory: string, header: Buffer, version: bigint, end: LogEnd) {
    this.#directory = directory;
    this.#header = header;
    this.#version = version;
    this.#end = end;
  }

  static async open(directory: string): Promise<LogFileWriter> {
    const { name, version } = (await listLogFolder(directory)).logs.at(-1)!;
    const path = join(directory, name);
    let last: LogTransaction | undefined;
    await scanFile(path, (transaction) => {
      last = transaction;
    });
    if (last === undefined) throw new Error(`${path} holds no transaction`);
    await truncate(path, last.endBytes);
    const header = (await readFile(path)).subarray(0, LOG_HEADER_BYTES);
    return new LogFileWriter(directory, header, version, last);
  }

  /** @returns bytes that were written */
  async append({ bytes, hasPrevious }: { bytes: Buffer; hasPrevious: boolean }): Promise<number> {
    if (this.#file === undefined || this.#fileBytes > LOG_FILE_BYTES_MAX) await this.#rotate();
    const copy = Buffer.from(bytes);
    const appendIndex = this.#end.appendIndex + 1n;
    const appendIndexOffset = PREVIOUS_CHECKSUM_OFFSET + (hasPrevious ? CHECKSUM_BYTES : 0);
    if (hasPrevious) copy.writeUInt32LE(this.#end.checksum, PREVIOUS_CHECKSUM_OFFSET);
    copy.writeBigInt64LE(appendIndex, appendIndexOffset);
    copy.writeBigInt64LE(appendIndex, copy.length - COMMIT_ENTRY_BYTES + 2);
    const checksum = crc32c(copy.subarray(0, copy.length - CHECKSUM_BYTES));
    copy.writeUInt32LE(checksum, copy.length - CHECKSUM_BYTES);
    await this.#file!.write(copy);
    this.#fileBytes += copy.length;
    this.#end = { appendIndex, checksum };
    return copy.length;
  }

  async #rotate(): Promise<void> {
    await this.#file?.close();
    this.#version += 1n;
    this.#file = await open(join(this.#directory, logFileName(this.#version)), 'wx');
    await this.#file.write(writeLogHeaderAfter(this.#header, this.#end.appendIndex, this.#version));
    this.#fileBytes = LOG_HEADER_BYTES;
  }

  async close(): Promise<LogEnd> {
    await this.#file?.close();
    return this.#end;
  }
}
