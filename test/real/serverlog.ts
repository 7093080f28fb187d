/** What the log of a server says, read by nothing but the parser: the tests' own view of which transaction came when. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LOG_HEADER_BYTES } from '../../src/formats/txlog/header.ts';
import { TransactionParser } from '../../src/formats/txlog/transactions.ts';

/** Commit time by append index, in the order of the log. */
export async function commitTimesOf(logDirectory: string): Promise<Map<bigint, bigint>> {
  const times = new Map<bigint, bigint>();
  const names = (await readdir(logDirectory)).filter((name) => name.startsWith('neostore.transaction.db.'));
  const numberOf = (name: string): number => Number(name.split('.').at(-1));
  for (const name of names.toSorted((left, right) => numberOf(left) - numberOf(right))) {
    const bytes = await readFile(join(logDirectory, name));
    const parser = new TransactionParser(LOG_HEADER_BYTES, (transaction) =>
      times.set(transaction.appendIndex, transaction.commitTimeMillis),
    );
    parser.parse(bytes.subarray(LOG_HEADER_BYTES));
  }
  return times;
}
