/** What the log of a server says, read by nothing but the parser: the tests' own view of which transaction came when. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LOG_HEADER_BYTES } from '../../src/formats/txlog/header.ts';
import { type LogTransaction, TransactionParser } from '../../src/formats/txlog/transactions.ts';

/** By append index, in the order of the log. */
export async function transactionsOf(logDirectory: string): Promise<Map<bigint, LogTransaction>> {
  const transactions = new Map<bigint, LogTransaction>();
  const names = (await readdir(logDirectory)).filter((name) => name.startsWith('neostore.transaction.db.'));
  const numberOf = (name: string): number => Number(name.split('.').at(-1));
  for (const name of names.toSorted((left, right) => numberOf(left) - numberOf(right))) {
    const bytes = await readFile(join(logDirectory, name));
    const parser = new TransactionParser(LOG_HEADER_BYTES, (transaction) =>
      transactions.set(transaction.appendIndex, transaction),
    );
    parser.parse(bytes.subarray(LOG_HEADER_BYTES));
  }
  return transactions;
}
