import { setTimeout as delay } from 'node:timers/promises';
import neo4j, { type Driver, Neo4jError } from 'neo4j-driver';
import type { Server } from './server.ts';

/** Accounts of every loaded database; transfers move money between them and keep the sum. */
export const ACCOUNTS = 5_000;
export const OPENING_BALANCE = 1_000;
export const EXPECTED_SUM = ACCOUNTS * OPENING_BALANCE;

/**
 * State of a writer W whose highest committed sequence number is M. It holds after every transaction, so it
 * holds in a right copy at any moment, and `Judge.java` checks it with the same numbers:
 * - `Transfer` nodes of W: sequence 1..M, each once, each with one PAYER and one PAYEE relationship;
 * - the transfers up to M - SETTLE_AGE carry the label `Settled` and the property `settlement`;
 * - `Note` nodes of W: exactly max(1, M - NOTE_KEEP + 1)..M; those up to M - NOTE_ARCHIVE_AGE carry the label
 *   `Archived` instead of `Fresh`.
 */
export const SETTLE_AGE = 90;
export const NOTE_KEEP = 240;
export const NOTE_ARCHIVE_AGE = 120;

export const VECTOR_DIMENSIONS = 8;

export type SchemaOptions = {
  /** Text, full-text and vector indexes: Lucene refreshes at each commit and slows single-row writers. */
  readonly lucene: boolean;
  /** Vector index; defaults to the value of `lucene`. */
  readonly vector?: boolean;
};

/** Makes constraint, indexes and accounts, and waits until every index is ONLINE. */
export async function prepareSchema(server: Server, options: SchemaOptions): Promise<void> {
  const statements = [
    'CREATE CONSTRAINT account_id FOR (a:Account) REQUIRE a.id IS UNIQUE',
    'CREATE CONSTRAINT transfer_key FOR (t:Transfer) REQUIRE t.key IS UNIQUE',
    'CREATE INDEX account_balance FOR (a:Account) ON (a.balance)',
    'CREATE INDEX transfer_amount FOR (t:Transfer) ON (t.amount)',
    'CREATE INDEX transfer_writer_seq FOR (t:Transfer) ON (t.writer, t.seq)',
    'CREATE INDEX note_writer_seq FOR (n:Note) ON (n.writer, n.seq)',
    'CREATE INDEX payer_amount FOR ()-[r:PAYER]-() ON (r.amount)',
    'CREATE POINT INDEX transfer_place FOR (t:Transfer) ON (t.place)',
  ];
  if (options.lucene) {
    statements.push(
      'CREATE TEXT INDEX transfer_memo FOR (t:Transfer) ON (t.memo)',
      'CREATE FULLTEXT INDEX words FOR (n:Transfer|Note) ON EACH [n.memo, n.body]',
    );
  }
  if (options.vector ?? options.lucene) {
    statements.push(
      'CREATE VECTOR INDEX transfer_embedding FOR (t:Transfer) ON (t.embedding) OPTIONS {indexConfig: ' +
        `{\`vector.dimensions\`: ${VECTOR_DIMENSIONS}, \`vector.similarity_function\`: 'euclidean', \`vector.quantization.enabled\`: false}}`,
    );
  }
  for (const statement of statements) {
    await server.driver.executeQuery(statement, {}, { database: 'neo4j' });
  }
  await server.driver.executeQuery(
    'UNWIND range(0, $accounts - 1) AS id CREATE (:Account {id: id, balance: $balance})',
    { accounts: neo4j.int(ACCOUNTS), balance: neo4j.int(OPENING_BALANCE) },
    { database: 'neo4j' },
  );
  await server.driver.executeQuery('CALL db.awaitIndexes(120)', {}, { database: 'neo4j' });
}

export type LoadOptions = {
  readonly writers: number;
  /** Transfers per transaction of a batch writer. */
  readonly batchSize?: number;
  /** How many of the writers batch; default: half of them. */
  readonly batchWriters?: number;
  /** Gives each transfer a vector property; default true (harmless without a vector index). */
  readonly vector?: boolean;
  /** Pause after each transaction of a writer. */
  readonly pauseMs?: number;
  /** First writer number; a second load on the same data must use new numbers. */
  readonly firstWriter?: number;
};

export type Throughput = {
  readonly transfers: number;
  readonly transactions: number;
  readonly transfersPerSecond: number;
  readonly transactionsPerSecond: number;
  /** Transactions that were repeated after a deadlock or another transient error. */
  readonly retries: number;
  readonly elapsedMs: number;
};

export type Load = {
  /** Transfers acknowledged so far, over all writers. */
  acknowledged(): number;
  /** Highest acknowledged sequence number per writer, at this moment. */
  snapshotAcknowledged(): Map<number, number>;
  /** Counters since the previous call of `throughput` (or the start). */
  throughput(): Throughput;
  /** Counters since the start. */
  total(): Throughput;
  /**
   * Resolves once this many more transfers are acknowledged whose transactions began after the call: those that were under
   * way may have been committed before it. Fails when all writers have ended.
   */
  waitForMore(transfers: number, timeoutMs?: number): Promise<void>;
  /** Lets every writer finish its transaction. Gives the final acknowledged numbers. */
  stop(): Promise<Map<number, number>>;
  /** Errors that ended writers other than a lost connection. Empty in a healthy test. */
  readonly errors: readonly Error[];
};

type TransferRow = {
  readonly from: number;
  readonly to: number;
  readonly amount: number;
  readonly seq: number;
  readonly key: string;
  readonly memo: string;
  readonly units: number;
  readonly longText: string | null;
  readonly numbers: readonly number[];
  readonly x: number;
  readonly y: number;
  readonly embedding: readonly number[] | null;
  readonly body: string;
};

/** The judge makes the same text again from writer, sequence number and count of units. */
function memoUnit(writer: number, seq: number): string {
  return `writer ${writer} transfer ${seq} `;
}

/** A number in -1..1 that looks random, so that vectors lie apart and each is its own nearest neighbour. */
function spread(seed: number): number {
  const value = Math.sin(seed) * 43_758.5453;
  return (value - Math.floor(value)) * 2 - 1;
}

/** The accounts that a writer uses: every `stride`-th, from `first` on. */
type AccountShare = { readonly first: number; readonly stride: number };

function makeRow(writer: number, seq: number, share: AccountShare, vector: boolean): TransferRow {
  const size = Math.floor((ACCOUNTS - share.first - 1) / share.stride) + 1;
  const payer = Math.floor(Math.random() * size);
  const payee = (payer + 1 + Math.floor(Math.random() * (size - 1))) % size;
  const from = share.first + payer * share.stride;
  const to = share.first + payee * share.stride;
  const unit = memoUnit(writer, seq);
  // Every second memo stays within the inline property block sizes, the others take dynamic records.
  const units = seq % 2 === 0 ? 1 : Math.ceil((121 + (seq % 7) * 40) / unit.length);
  const longUnits = seq % 9 === 0 ? Math.ceil((2_000 + (seq % 5) * 1_500) / unit.length) : 0;
  return {
    from,
    to,
    amount: 1 + (seq % 50),
    seq,
    key: `${writer}-${seq}`,
    memo: unit.repeat(units),
    units,
    longText: longUnits === 0 ? null : unit.repeat(longUnits),
    numbers: Array.from({ length: 1 + (seq % 40) }, (_, index) => seq * 1_000 + index),
    x: (seq * 7 + writer) % 1_000,
    y: (seq * 13 + writer * 3) % 1_000,
    embedding: vector
      ? Array.from({ length: VECTOR_DIMENSIONS }, (_, index) =>
          spread(writer * 7_919 + seq * 31 + index * 104_729),
        )
      : null,
    body: `note of writer ${writer} number ${seq}`,
  };
}

// Locks are taken in the order of the account ids first, so that batches mostly wait instead of deadlock.
const TRANSFER_QUERY = `
UNWIND $accountIds AS accountId
MATCH (locked:Account {id: accountId})
SET locked.visits = coalesce(locked.visits, 0) + 1
WITH count(*) AS lockedAccounts
UNWIND $rows AS row
MATCH (payer:Account {id: row.from})
MATCH (payee:Account {id: row.to})
SET payer.balance = payer.balance - row.amount
SET payee.balance = payee.balance + row.amount
CREATE (t:Transfer {writer: $writer, seq: row.seq, key: row.key, batch: $batch, batchSize: $batchSize,
  amount: row.amount, memo: row.memo, memoUnits: row.units, longText: row.longText, numbers: row.numbers,
  place: point({x: row.x, y: row.y}), embedding: row.embedding})
CREATE (t)-[:PAYER {amount: row.amount, seq: row.seq}]->(payer)
CREATE (t)-[:PAYEE]->(payee)
CREATE (n:Note:Fresh {writer: $writer, seq: row.seq, body: row.body})-[:ABOUT]->(payer)
`;

const SETTLE_QUERY = `
MATCH (t:Transfer) WHERE t.writer = $writer AND $from <= t.seq <= $to
SET t:Settled, t.settlement = 'settled ' + t.memo, t.numbers = t.numbers[0..1]
`;

const ARCHIVE_QUERY = `
MATCH (n:Note) WHERE n.writer = $writer AND $from <= n.seq <= $to
REMOVE n:Fresh SET n:Archived, n.body = 'archived'
`;

const DELETE_QUERY = `
MATCH (n:Note) WHERE n.writer = $writer AND $from <= n.seq <= $to
DETACH DELETE n
`;

function toParameters(row: TransferRow): Record<string, unknown> {
  return {
    ...row,
    from: neo4j.int(row.from),
    to: neo4j.int(row.to),
    amount: neo4j.int(row.amount),
    seq: neo4j.int(row.seq),
    units: neo4j.int(row.units),
    numbers: row.numbers.map((value) => neo4j.int(value)),
  };
}

async function writeTransaction(driver: Driver, writer: number, rows: readonly TransferRow[]): Promise<void> {
  const first = rows[0]?.seq ?? 0;
  const last = rows.at(-1)?.seq ?? 0;
  const accountIds = [...new Set(rows.flatMap((row) => [row.from, row.to]))].sort((a, b) => a - b);
  const session = driver.session({ database: 'neo4j' });
  try {
    const transaction = session.beginTransaction();
    await transaction.run(TRANSFER_QUERY, {
      accountIds: accountIds.map((id) => neo4j.int(id)),
      rows: rows.map(toParameters),
      writer: neo4j.int(writer),
      batch: neo4j.int(first),
      batchSize: neo4j.int(rows.length),
    });
    for (const [query, age] of [
      [SETTLE_QUERY, SETTLE_AGE],
      [ARCHIVE_QUERY, NOTE_ARCHIVE_AGE],
      [DELETE_QUERY, NOTE_KEEP],
    ] as const) {
      if (last - age >= 1) {
        const range = { writer: neo4j.int(writer), from: neo4j.int(first - age), to: neo4j.int(last - age) };
        await transaction.run(query, range);
      }
    }
    await transaction.commit();
  } finally {
    await session.close().catch(() => undefined);
  }
}

function isTransient(error: unknown): boolean {
  return error instanceof Neo4jError && error.code.startsWith('Neo.TransientError.');
}

function isConnectionLost(error: unknown): boolean {
  return (
    error instanceof Neo4jError &&
    (error.code === 'ServiceUnavailable' ||
      error.code === 'SessionExpired' ||
      error.code === 'N/A' ||
      error.code === 'Neo.TransientError.General.DatabaseUnavailable' ||
      error.code === 'Neo.DatabaseError.General.UnknownError')
  );
}

/** Starts the writers at once. Each is sequential: its next transaction starts after the last was acknowledged. */
export function startLoad(server: Server, options: LoadOptions): Load {
  const batchSize = options.batchSize ?? 60;
  const batchWriters = options.batchWriters ?? Math.floor(options.writers / 2);
  const firstWriter = options.firstWriter ?? 1;
  const acknowledged = new Map<number, number>();
  const errors: Error[] = [];
  const startMs = performance.now();
  let transfers = 0;
  let transactions = 0;
  let begun = 0;
  const waiting = new Set<{ readonly since: number; transfers: number }>();
  let retries = 0;
  let window = { transfers, transactions, retries, atMs: startMs };
  let stopping = false;
  let serverEnded = false;
  let writersLeft = options.writers;
  server.exited.then(
    () => {
      serverEnded = true;
    },
    () => {
      serverEnded = true;
    },
  );

  const write = async (writer: number, size: number, share: AccountShare): Promise<void> => {
    let next = 1;
    while (!stopping && !serverEnded) {
      const rows = Array.from({ length: size }, (_, index) =>
        makeRow(writer, next + index, share, options.vector ?? true),
      );
      const number = ++begun;
      try {
        await writeTransaction(server.driver, writer, rows);
      } catch (error) {
        if (isConnectionLost(error) || serverEnded) {
          return;
        }
        // Never repeat after a lost connection: the commit may have happened.
        if (!isTransient(error)) {
          errors.push(error instanceof Error ? error : new Error(String(error)));
          return;
        }
        retries += 1;
        await delay(Math.random() * 20);
        continue;
      }
      next += size;
      acknowledged.set(writer, next - 1);
      transfers += size;
      transactions += 1;
      for (const waiter of waiting) if (number > waiter.since) waiter.transfers += size;
      if (options.pauseMs !== undefined) {
        await delay(options.pauseMs);
      }
    }
  };

  const writers = Array.from({ length: options.writers }, (_, index) => {
    const writer = firstWriter + index;
    acknowledged.set(writer, 0);
    // Batches of many accounts would wait for each other all the time if they shared the accounts. Single
    // transfers use all accounts, so the locks of both kinds still meet.
    const running =
      index < batchWriters
        ? write(writer, batchSize, { first: index, stride: batchWriters })
        : write(writer, 1, { first: 0, stride: 1 });
    return running
      .catch((error: unknown) => {
        errors.push(error instanceof Error ? error : new Error(String(error)));
      })
      .finally(() => {
        writersLeft -= 1;
      });
  });

  const since = (from: typeof window): Throughput => {
    const elapsedMs = performance.now() - from.atMs;
    const seconds = Math.max(elapsedMs, 1) / 1_000;
    return {
      transfers: transfers - from.transfers,
      transactions: transactions - from.transactions,
      transfersPerSecond: (transfers - from.transfers) / seconds,
      transactionsPerSecond: (transactions - from.transactions) / seconds,
      retries: retries - from.retries,
      elapsedMs,
    };
  };

  return {
    errors,
    acknowledged: () => transfers,
    snapshotAcknowledged: () => new Map(acknowledged),
    throughput(): Throughput {
      const result = since(window);
      window = { transfers, transactions, retries, atMs: performance.now() };
      return result;
    },
    total: () => since({ transfers: 0, transactions: 0, retries: 0, atMs: startMs }),
    async waitForMore(more, timeoutMs = 60_000): Promise<void> {
      const seen = { since: begun, transfers: 0 };
      const deadlineMs = Date.now() + timeoutMs;
      waiting.add(seen);
      try {
        while (seen.transfers < more) {
          if (writersLeft === 0) {
            throw new Error(`All writers ended: ${errors.map(String).join('; ') || 'the server is gone'}`);
          }
          if (Date.now() > deadlineMs) {
            throw new Error(`Only ${seen.transfers} of ${more} transfers after ${timeoutMs} ms`);
          }
          await delay(20);
        }
      } finally {
        waiting.delete(seen);
      }
    },
    async stop(): Promise<Map<number, number>> {
      stopping = true;
      await Promise.all(writers);
      return new Map(acknowledged);
    },
  };
}
