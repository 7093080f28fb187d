/**
 * What is asked of the restored database, over Bolt and of the stock tools. Each proof gives a figure, because a tick
 * alone convinces nobody. The load's invariants are described in test/real/harness/load.ts.
 */
import { runStockTool } from '../test/real/harness/judge.ts';
import { ACCOUNTS, EXPECTED_SUM, OPENING_BALANCE } from '../test/real/harness/load.ts';
import type { Home, Server } from '../test/real/harness/server.ts';
import { count } from './screen.ts';

export interface Proof {
  readonly claim: string;
  readonly figure: string;
  readonly holds: boolean;
}

export interface Expectation {
  /** Highest sequence number per writer that the server had acknowledged when the last backup was started. */
  readonly acknowledged: ReadonlyMap<number, number>;
  /** Pairs of items that were there before the backup. */
  readonly ballastPairs: number;
}

type Row = Readonly<Record<string, unknown>>;

async function ask(server: Server, query: string): Promise<Row[]> {
  const { records } = await server.driver.executeQuery(query, {}, { database: 'neo4j' });
  return records.map((record) => record.toObject() as Row);
}

async function askOne(server: Server, query: string): Promise<Row> {
  return (await ask(server, query))[0] ?? {};
}

/** Everything that a running server can be asked. */
export async function proveOverBolt(server: Server, expectation: Expectation): Promise<Proof[]> {
  return [
    await proveNothingLost(server, expectation.acknowledged),
    await proveNoHalfBatch(server),
    await proveTransfers(server),
    await proveSum(server),
    await proveBalances(server),
    await proveBallast(server, expectation.ballastPairs),
    await proveIndexes(server),
  ];
}

async function proveNothingLost(server: Server, acknowledged: ReadonlyMap<number, number>): Promise<Proof> {
  const rows = await ask(
    server,
    'MATCH (t:Transfer) RETURN t.writer AS writer, max(t.seq) AS newest, count(t) AS transfers',
  );
  const found = new Map(rows.map((row) => [Number(row.writer), row]));
  let there = 0;
  let whole = true;
  for (const [writer, sequence] of acknowledged) {
    const row = found.get(writer);
    there += Math.min(sequence, Number(row?.newest ?? 0));
    // A writer numbers its transfers without gaps, so a hole in the middle shows as well.
    whole &&= row?.newest === row?.transfers;
  }
  const expected = [...acknowledged.values()].reduce((sum, sequence) => sum + sequence, 0);
  return {
    claim: 'every transfer that was ever acknowledged is there',
    figure: `${count(there)} of ${count(expected)}${whole ? ', no gap' : ', with gaps'}`,
    holds: whole && there === expected,
  };
}

async function proveNoHalfBatch(server: Server): Promise<Proof> {
  const row = await askOne(
    server,
    `MATCH (t:Transfer) WITH t.writer AS writer, t.batch AS batch, t.batchSize AS size, count(t) AS found
     RETURN count(*) AS transactions, sum(CASE WHEN found = size THEN 0 ELSE 1 END) AS half`,
  );
  return {
    claim: 'no transaction is there by half',
    figure: `${count(Number(row.transactions))} transactions, ${count(Number(row.half))} halves`,
    holds: row.half === 0 && Number(row.transactions) > 0,
  };
}

async function proveTransfers(server: Server): Promise<Proof> {
  const row = await askOne(
    server,
    `MATCH (t:Transfer)
     WITH COUNT { (t)-[:PAYER]->(:Account) } = 1 AND COUNT { (t)-[:PAYEE]->(:Account) } = 1
       AND COUNT { (t)--() } = 2 AS whole
     RETURN count(*) AS transfers, sum(CASE WHEN whole THEN 1 ELSE 0 END) AS good`,
  );
  return {
    claim: 'every transfer has its two relationships and no other',
    figure: `${count(Number(row.good))} of ${count(Number(row.transfers))}`,
    holds: row.good === row.transfers && Number(row.transfers) > 0,
  };
}

async function proveSum(server: Server): Promise<Proof> {
  const row = await askOne(server, 'MATCH (a:Account) RETURN sum(a.balance) AS sum');
  return {
    claim: 'no money was made or lost',
    figure: `${count(Number(row.sum))} of ${count(EXPECTED_SUM)}`,
    holds: row.sum === EXPECTED_SUM,
  };
}

/** The sum alone would not notice two errors that cancel out. */
async function proveBalances(server: Server): Promise<Proof> {
  const row = await askOne(
    server,
    `MATCH (a:Account)
     WITH a.balance AS balance, ${OPENING_BALANCE}
       - reduce(sum = 0, x IN [(a)<-[:PAYER]-(t:Transfer) | t.amount] | sum + x)
       + reduce(sum = 0, x IN [(a)<-[:PAYEE]-(t:Transfer) | t.amount] | sum + x) AS booked
     RETURN count(*) AS accounts, sum(CASE WHEN balance = booked THEN 1 ELSE 0 END) AS good`,
  );
  return {
    claim: 'every balance is what its transfers add up to',
    figure: `${count(Number(row.good))} of ${count(ACCOUNTS)} accounts`,
    holds: row.good === ACCOUNTS && row.accounts === ACCOUNTS,
  };
}

/** By the text index and by a scan: an index that lost entries would answer with fewer. */
async function proveBallast(server: Server, expected: number): Promise<Proof> {
  const scan = await askOne(
    server,
    'MATCH (i:Item)-[:PAIR]->(n:Item) WHERE n.id = i.id + 1 RETURN count(*) AS pairs',
  );
  const index = await askOne(
    server,
    "MATCH (i:Item) USING TEXT INDEX i:Item(text) WHERE i.text STARTS WITH 'left of ' RETURN count(*) AS found",
  );
  return {
    claim: 'what was there before is whole, by a scan and by the text index',
    figure: `${count(Number(scan.pairs))} and ${count(Number(index.found))} of ${count(expected)} pairs`,
    holds: scan.pairs === expected && index.found === expected,
  };
}

async function proveIndexes(server: Server): Promise<Proof> {
  const rows = await ask(server, 'SHOW INDEXES YIELD name, type, state');
  const online = rows.filter((row) => row.state === 'ONLINE');
  const types = [...new Set(rows.map((row) => String(row.type).toLowerCase()))].sort();
  return {
    claim: 'every index is online',
    figure: `${online.length} of ${rows.length}: ${types.join(', ')}`,
    holds: rows.length > 0 && online.length === rows.length,
  };
}

/** The vendor's own checker, on the stopped database. */
export async function proveByStockCheck(home: Home, reportFolder: string): Promise<Proof> {
  const args = ['database', 'check', 'neo4j', `--report-path=${reportFolder}`];
  const result = await runStockTool(home.line, home, args);
  return {
    claim: "Neo4j's own consistency check finds nothing",
    figure: `neo4j-admin database check: exit status ${result.exitCode}`,
    holds: result.exitCode === 0,
  };
}

/** The artifact is no island: the stock tool reads it too. */
export async function proveByStockInfo(home: Home, artifactsFolder: string): Promise<Proof> {
  const args = ['database', 'load', '--info', `--from-path=${artifactsFolder}`, 'neo4j'];
  const result = await runStockTool(home.line, home, args);
  const format = /^.*Full Backup.*$/m
    .exec(result.stdout)?.[0]
    .replace(/^[^:]*:\s*/, '')
    .trim();
  return {
    claim: "Neo4j's own tools take the artifact for one of theirs",
    figure: `neo4j-admin database load --info: ${format ?? `exit status ${result.exitCode}`}`,
    holds: result.exitCode === 0 && format !== undefined,
  };
}
