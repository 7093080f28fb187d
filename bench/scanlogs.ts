/**
 * Reads every transaction of the log files in a folder, as the last step of a backup does, and prints what was read.
 * A process of its own, so that its memory can be measured.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { LOG_HEADER_BYTES } from '../src/formats/txlog/header.ts';
import { listLogFolder } from '../src/hotcopy/logfolder.ts';
import { scanTransactions } from '../src/hotcopy/tail.ts';

export interface LogScan {
  readonly files: number;
  readonly bytes: number;
  readonly transactions: number;
  readonly durationMs: number;
}

async function scanFolder(folder: string): Promise<LogScan> {
  const startedMs = performance.now();
  const { logs } = await listLogFolder(folder);
  let bytes = 0;
  let transactions = 0;
  for (const { name } of logs) {
    const handle = await open(join(folder, name), 'r');
    let endBytes = LOG_HEADER_BYTES;
    const scan = await scanTransactions(handle, LOG_HEADER_BYTES, (transaction) => {
      transactions++;
      endBytes = transaction.endBytes;
    });
    await handle.close();
    if (scan.status === 'torn') throw new Error(`${name}: ${scan.reason}`);
    bytes += endBytes;
  }
  return { files: logs.length, bytes, transactions, durationMs: performance.now() - startedMs };
}

process.stdout.write(`${JSON.stringify(await scanFolder(process.argv[2] ?? ''))}\n`);
