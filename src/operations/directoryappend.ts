/**
 * Writes new transactions behind the log of a directory backup. Every step leaves a database that Neo4j opens: finished
 * files end exactly at their last transaction and are on disk before the next one appears, a new file appears whole, and
 * a file that is written in place grows only behind its last transaction, where recovery stops at what is not complete.
 */
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { LogMemberReader } from '../artifact/logmember.ts';
import { damagedLog } from '../chain/continuity.ts';
import { throwIfAborted, wrapSystemError } from '../errors.ts';
import { FormatError } from '../formats/formaterror.ts';
import { LOG_HEADER_BYTES, parseLogHeader, writeLogHeaderAfter } from '../formats/txlog/header.ts';
import { COMMIT_ENTRY_BYTES, type LogTransaction } from '../formats/txlog/transactions.ts';
import { logFileName } from '../hotcopy/logfolder.ts';
import { memberFromHandle } from '../hotcopy/member.ts';
import type { Tail, TailFile } from '../hotcopy/tail.ts';
import { FRAME_RAW_BYTES } from '../limits.ts';
import { own, ownershipOf } from '../neo4j/swap.ts';
import { BackgroundSync, Publication, syncDirectory, writeFully } from '../storage/local.ts';
import { withHandle } from './directoryfiles.ts';
import type { DirectoryEnd, NewestLog } from './directorystate.ts';
import type { RateLimit } from './ratelimit.ts';

/** Names the step that is about to be taken; tests kill the process here. */
export type StepObserver = (step: string) => void;

export interface AppendOptions {
  readonly rate: RateLimit;
  readonly signal: AbortSignal | undefined;
  /** A file that would grow beyond this is not appended to. */
  readonly logBytesMax: number;
  readonly onStep: StepObserver;
  readonly onBytes: (bytes: number) => void;
}

/** A run of transactions in one log file of the server. */
interface Piece {
  readonly file: TailFile;
  readonly header: Buffer;
  readonly formatByte: number;
  readonly firstKernelVersion: number;
  readonly lastKernelVersion: number;
  readonly bytes: number;
}

/** @param tail all that comes after `end`, with at least one transaction */
export async function appendTail(
  directory: string,
  end: DirectoryEnd,
  tail: Tail,
  options: AppendOptions,
): Promise<void> {
  let newest = await cutTail(end.newest, options);
  const proof = new AppendProof(end.mark.appendIndex);
  for (const file of tail.files) {
    if (file.endBytes === file.startBytes) continue;
    const piece = await describePiece(file);
    newest = fits(piece, newest, options.logBytesMax)
      ? await appendInPlace(piece, newest, proof, options)
      : await addFile(directory, piece, newest, proof, options);
  }
  proof.requireEnd(tail);
  options.onStep('sync folder');
  await syncDirectory(directory);
}

/** What a kill left behind the last transaction, or a server preallocated, would stand between it and the next one. */
async function cutTail(newest: NewestLog, { onStep }: AppendOptions): Promise<NewestLog> {
  if (newest.sizeBytes === newest.endBytes) return newest;
  onStep('cut tail');
  await cutFile(newest);
  return { ...newest, sizeBytes: newest.endBytes };
}

async function cutFile({ path, endBytes }: NewestLog): Promise<void> {
  await withHandle(await openForWriting(path), async (handle) => {
    await handle.truncate(endBytes);
    await handle.sync();
  }).catch((error: unknown) => {
    throw wrapSystemError(error, `cut ${path}`);
  });
}

async function openForWriting(path: string): ReturnType<typeof open> {
  return open(path, 'r+').catch((error: unknown) => {
    throw wrapSystemError(error, `open ${path}`);
  });
}

async function describePiece(file: TailFile): Promise<Piece> {
  const bytesAt = async (position: number, bytes: number): Promise<Buffer> => {
    const target = Buffer.alloc(bytes);
    await memberFromHandle(file.handle, file.name, 'log', file.endBytes).read(target, position);
    return target;
  };
  const header = await bytesAt(0, LOG_HEADER_BYTES);
  return {
    file,
    header,
    formatByte: header.readUInt8(0),
    // Every entry begins with its kernel version (formats.md §2.3).
    firstKernelVersion: (await bytesAt(file.startBytes, 1)).readUInt8(0),
    lastKernelVersion: (await bytesAt(file.endBytes - COMMIT_ENTRY_BYTES, 1)).readUInt8(0),
    bytes: file.endBytes - file.startBytes,
  };
}

/** One file holds one format of the log and, across a joint, transactions of one kernel version. */
function fits(piece: Piece, newest: NewestLog, logBytesMax: number): boolean {
  const sameKernel = newest.kernelVersion === undefined || newest.kernelVersion === piece.firstKernelVersion;
  return sameKernel && newest.formatByte === piece.formatByte && newest.endBytes + piece.bytes <= logBytesMax;
}

async function appendInPlace(
  piece: Piece,
  newest: NewestLog,
  proof: AppendProof,
  options: AppendOptions,
): Promise<NewestLog> {
  const { path } = newest;
  await withHandle(await openForWriting(path), async (handle) => {
    const sync = new BackgroundSync(handle);
    try {
      await copyPiece(piece, newest.version, proof, options, async (bytes, position) => {
        options.onStep('append');
        await writeFully(handle, bytes, newest.endBytes + position, path);
        sync.wrote(bytes.length);
      });
    } catch (error) {
      // Without the half of it the directory is as it was; if this fails too, the next run cuts it off.
      await handle.truncate(newest.endBytes).catch(() => undefined);
      throw error;
    }
    options.onStep('sync log');
    await sync.finish().catch((error: unknown) => {
      throw wrapSystemError(error, `write ${path} to disk`);
    });
  });
  const endBytes = newest.endBytes + piece.bytes;
  return { ...newest, endBytes, sizeBytes: endBytes, kernelVersion: piece.lastKernelVersion };
}

/** A file with the next number, behind the header that a rotation there would have written. */
async function addFile(
  directory: string,
  piece: Piece,
  newest: NewestLog,
  proof: AppendProof,
  options: AppendOptions,
): Promise<NewestLog> {
  const version = newest.version + 1n;
  const path = newest.path.replace(/\d+$/, String(version));
  const ownership = await ownershipOf(directory);
  const publication = await Publication.create(dirname(path), logFileName(version));
  try {
    await own(publication.partialPath, ownership, ownership.fileMode);
    options.onStep('begin new log');
    await publication.append(writeLogHeaderAfter(piece.header, proof.appendIndex, version));
    await copyPiece(piece, version, proof, options, async (bytes) => {
      options.onStep('write new log');
      await publication.append(bytes);
    });
    options.onStep('publish new log');
    if (!(await publication.publish(path))) throw damagedLog(`${path} appeared meanwhile`);
  } catch (error) {
    await publication.discard().catch(() => undefined);
    throw error;
  }
  options.onStep('published new log');
  const endBytes = LOG_HEADER_BYTES + piece.bytes;
  const { formatByte, lastKernelVersion } = piece;
  return { path, version, formatByte, endBytes, sizeBytes: endBytes, kernelVersion: lastKernelVersion };
}

/** Reads a piece, proves it, and hands it on; nothing is written that was not proven up to its last whole entry. */
async function copyPiece(
  piece: Piece,
  version: bigint,
  proof: AppendProof,
  { rate, signal, onBytes }: AppendOptions,
  write: (bytes: Buffer, position: number) => Promise<void>,
): Promise<void> {
  const { file, bytes: totalBytes } = piece;
  const source = rate.limited(memberFromHandle(file.handle, file.name, 'log', totalBytes, file.startBytes));
  const reader = proof.readerOf(file.name, writeLogHeaderAfter(piece.header, proof.appendIndex, version));
  for (let position = 0; position < totalBytes; position += FRAME_RAW_BYTES) {
    throwIfAborted(signal);
    const bytes = Buffer.allocUnsafe(Math.min(FRAME_RAW_BYTES, totalBytes - position));
    await source.read(bytes, position);
    proven(file.name, () => reader.feed(bytes));
    await write(bytes, position);
    onBytes(bytes.length);
  }
  proven(file.name, () => reader.finish());
}

function proven(name: string, work: () => void): void {
  try {
    work();
  } catch (error) {
    if (error instanceof FormatError) throw damagedLog(`${name}: ${error.message}`);
    throw error;
  }
}

/** What was written so far follows what was there, transaction by transaction. */
class AppendProof {
  appendIndex: bigint;
  #checksum: number | undefined;

  constructor(appendIndex: bigint) {
    this.appendIndex = appendIndex;
  }

  /** A reader of the log file that the bytes become, fed with its header already. */
  readerOf(name: string, header: Buffer): LogMemberReader {
    const version = parseLogHeader(header)!.logVersion;
    const member = { path: logFileName(version), kind: 'log', bytes: 0 } as const;
    const reader = new LogMemberReader(member, (transaction) => this.#accept(name, transaction));
    reader.feed(header);
    return reader;
  }

  #accept(name: string, { appendIndex, checksum }: LogTransaction): void {
    if (appendIndex !== this.appendIndex + 1n) {
      throw damagedLog(`${name} goes on with transaction ${appendIndex} after ${this.appendIndex}`);
    }
    this.appendIndex = appendIndex;
    this.#checksum = checksum;
  }

  /** @throws GK_STORE_DAMAGED when something else was written than was found before */
  requireEnd(tail: Tail): void {
    if (this.appendIndex === tail.highestAppendIndex && this.#checksum === tail.highestChecksum) return;
    throw damagedLog(
      `the log became another one: transaction ${this.appendIndex} is not the ${tail.highestAppendIndex} found before`,
    );
  }
}
