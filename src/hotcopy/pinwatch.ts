/**
 * The thread that opens log files the moment they appear. A rotation followed by a checkpoint may remove a file a quarter
 * of a second after it was made; on a busy machine the main thread, or one of the pool that compresses, is later than that.
 * So this one does nothing else, and its calls are the synchronous ones, which wait for no other thread. It imports types
 * only: of the compiled program it would otherwise load half.
 */
import { openSync, readdirSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import type { FolderRequest, FolderToWatch, PinTimes, WatchAnswer } from './pinthread.ts';

interface Folder extends FolderToWatch {
  readonly opened: Set<bigint>;
}

const { intervalMs, restTimes } = workerData as PinTimes;
const watched = new Map<MessagePort, Folder>();
let isScheduled = false;

/** @returns why nothing more can be told. @throws what the system says, other than that a file is gone already */
function look(port: MessagePort, folder: Folder): WatchAnswer | undefined {
  const { directory, pattern, firstVersion, filesMax, entriesMax, opened } = folder;
  const names = readdirSync(directory);
  if (names.length > entriesMax) return { type: 'tooMany', what: 'entries' };
  for (const name of names) {
    const match = pattern.exec(name);
    if (match === null) continue;
    const version = BigInt(match[1]!);
    if (version < firstVersion || opened.has(version)) continue;
    if (opened.size >= filesMax) return { type: 'tooMany', what: 'files' };
    const descriptor = openIfThere(join(directory, name));
    if (descriptor === undefined) continue;
    opened.add(version);
    tell(port, { type: 'opened', name, version, descriptor });
  }
  return undefined;
}

function openIfThere(path: string): number | undefined {
  try {
    return openSync(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function tell(port: MessagePort, answer: WatchAnswer): void {
  port.postMessage(answer);
}

/** A folder that failed once is not looked at again: what came and went meanwhile would be missing. */
function lookOrTell(port: MessagePort, folder: Folder): void {
  const trouble = lookForTrouble(port, folder);
  if (trouble === undefined) return;
  watched.delete(port);
  tell(port, trouble);
}

function lookForTrouble(port: MessagePort, folder: Folder): WatchAnswer | undefined {
  try {
    return look(port, folder);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return { type: 'failed', code, message };
  }
}

function lookAtAll(): void {
  isScheduled = false;
  const startMs = performance.now();
  for (const [port, folder] of watched) lookOrTell(port, folder);
  schedule((performance.now() - startMs) * restTimes);
}

/** @param restMs a folder with thousands of files takes longer, but no processor from the server */
function schedule(restMs: number): void {
  if (isScheduled || watched.size === 0) return;
  isScheduled = true;
  setTimeout(lookAtAll, Math.max(intervalMs, restMs));
}

parentPort!.on('message', ({ port, folder }: FolderRequest) => {
  watched.set(port, { ...folder, opened: new Set() });
  port.on('message', (isWanted: boolean) => {
    const found = watched.get(port);
    if (!isWanted) watched.delete(port);
    else if (found !== undefined) lookOrTell(port, found);
    tell(port, { type: 'done' });
  });
  schedule(0);
});

parentPort!.postMessage(Number(basename(readlinkSync('/proc/thread-self'))));
