/**
 * What the log after a checkpoint says of the records: the newest image of each one that it touches. A store file beneath
 * it may be of any moment since that checkpoint, page by page, and is right again together with the overlay, as it is
 * after Neo4j has recovered it (formats.md §9.2). Lives in memory, within bounds; nothing is written to the files.
 */
import { GraphkeepError, throwIfAborted } from '../errors.ts';
import { FormatError } from '../formats/formaterror.ts';
import { RECORD_STORES, type StoreName } from '../formats/records/layout.ts';
import { readImages, type StoreRecords } from '../formats/txlog/images.ts';
import { TransactionParser } from '../formats/txlog/transactions.ts';
import {
  LOG_COMMAND_BYTES_MAX,
  LOG_WINDOW_BYTES,
  OVERLAY_RECORDS_MAX,
  OVERLAY_VALUE_BYTES_MAX,
} from '../limits.ts';
import { openForReading, type ReadableFile } from '../storage/local.ts';
import { damagedStore } from './damage.ts';

/** A piece of the log, in the order in which the files follow each other. */
export interface LogRange {
  readonly path: string;
  readonly startBytes: number;
}

type Images = { [Name in StoreName]: Map<number, StoreRecords[Name]> };

function noImages(): Images {
  return Object.fromEntries(Object.keys(RECORD_STORES).map((name) => [name, new Map()])) as unknown as Images;
}

export class Overlay {
  readonly #images = noImages();
  readonly #recordsMax: number;
  #records = 0;
  #valueBytes = 0;

  /** @param recordsMax lower in tests */
  constructor(recordsMax = OVERLAY_RECORDS_MAX) {
    this.#recordsMax = recordsMax;
  }

  /** Images of one store by id. */
  of<Name extends StoreName>(store: Name): ReadonlyMap<number, StoreRecords[Name]> {
    return this.#images[store];
  }

  put<Name extends StoreName>(store: Name, id: number, record: StoreRecords[Name]): void {
    const images = this.#images[store];
    const before = images.get(id);
    if (before === undefined) this.#records++;
    this.#valueBytes += dataBytesOf(record) - dataBytesOf(before);
    images.set(id, record);
    if (this.#records > this.#recordsMax || this.#valueBytes > OVERLAY_VALUE_BYTES_MAX) throw tooMuch();
  }
}

function tooMuch(): GraphkeepError {
  const message = 'the log since the last checkpoint changes more than can be held in memory';
  return new GraphkeepError('GK_UNSUPPORTED', message, {
    hint: 'run the command again after the next checkpoint of the server, or when it is stopped',
  });
}

function dataBytesOf(record: object | undefined): number {
  return record !== undefined && 'data' in record && Buffer.isBuffer(record.data) ? record.data.length : 0;
}

type Change = (overlay: Overlay) => void;

/**
 * Applies whole transactions only: what a torn one at the end would have changed is left out, as Neo4j does.
 * @throws GK_STORE_DAMAGED when the log holds anything but transactions up to its end
 */
export async function readOverlay(
  log: readonly LogRange[],
  signal?: AbortSignal,
  overlay = new Overlay(),
): Promise<Overlay> {
  for (const { path, startBytes } of log) {
    const file = await openForReading(path);
    try {
      await applyFile(file, startBytes, overlay, signal);
    } finally {
      await file.close();
    }
  }
  return overlay;
}

async function applyFile(
  file: ReadableFile,
  startBytes: number,
  overlay: Overlay,
  signal: AbortSignal | undefined,
): Promise<void> {
  let changes: Change[] = [];
  const parser = new TransactionParser(
    startBytes,
    () => {
      for (const change of changes) change(overlay);
      changes = [];
    },
    (command) => {
      readImages(command, (store, id, record) => {
        changes.push((target) => target.put(store, id, record));
        if (changes.length > OVERLAY_RECORDS_MAX) throw tooMuch();
      });
    },
  );
  let window = Buffer.allocUnsafe(Math.min(LOG_WINDOW_BYTES, Math.max(1, file.bytes - startBytes)));
  for (;;) {
    throwIfAborted(signal);
    const got = await file.read(window, parser.offsetBytes);
    const step = parseStep(parser, window.subarray(0, got), file.path);
    if (step.status === 'end') return;
    if (step.status === 'torn') {
      throw damagedStore(file.path, `${step.reason ?? 'cannot be read'} at byte ${step.reachedBytes}`);
    }
    if (got < window.length || parser.offsetBytes >= file.bytes) return;
    if (step.consumedBytes > 0) continue;
    if (window.length >= LOG_COMMAND_BYTES_MAX) throw damagedStore(file.path, 'a command is impossibly long');
    window = Buffer.allocUnsafe(window.length * 2);
  }
}

function parseStep(
  parser: TransactionParser,
  bytes: Buffer,
  path: string,
): ReturnType<TransactionParser['parse']> {
  try {
    return parser.parse(bytes);
  } catch (error) {
    if (error instanceof FormatError || error instanceof RangeError)
      throw damagedStore(path, error.message, error);
    throw error;
  }
}
