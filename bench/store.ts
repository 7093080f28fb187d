/**
 * The database that everything is measured on: people who know each other, with short and long strings, numbers and
 * arrays. It takes minutes to make, so it is kept in `.bench/` and made only once per line and scale.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Line } from '../test/real/harness/distribution.ts';
import { createHome, type Home, type Server, startServer } from '../test/real/harness/server.ts';

const NODES = 600_000;
const RELATIONSHIPS = 2_000_000;
const ROWS_PER_TRANSACTION = 20_000;
/** A new number whenever the statements below change, so that no old store is taken for the new one. */
const STORE_GENERATION = 2;

export const BENCH_FOLDER = fileURLToPath(new URL('../.bench', import.meta.url));

export interface BenchStore {
  readonly home: Home;
  readonly nodes: number;
  readonly relationships: number;
}

export function sizesAt(scale: number): { nodes: number; relationships: number } {
  return { nodes: Math.round(NODES * scale), relationships: Math.round(RELATIONSHIPS * scale) };
}

/** The log is kept whole: the speed of reading it is measured, and at full scale the default would keep it, too. */
const CONFIGURATION = {
  'db.tx_log.rotation.retention_policy': 'keep_all',
  'server.memory.pagecache.size': '512m',
};

export async function ensureStore(
  line: Line,
  scale: number,
  say: (text: string) => void,
): Promise<BenchStore> {
  const sizes = sizesAt(scale);
  const folder = join(BENCH_FOLDER, `store-${line}-${scale}-${STORE_GENERATION}`);
  if (!existsSync(folder)) {
    say(`making the store of ${sizes.nodes} nodes and ${sizes.relationships} relationships (once) …`);
    await mkdir(BENCH_FOLDER, { recursive: true });
    const partial = `${folder}.partial`;
    await rm(partial, { recursive: true, force: true });
    await makeStore(await createHome({ line, dir: partial, extraConf: CONFIGURATION }), sizes);
    await rename(partial, folder);
  }
  return { home: await createHome({ line, dir: folder, extraConf: CONFIGURATION }), ...sizes };
}

/** Folders of databases and of logs, beside an installation. */
export interface CopyAtRest {
  readonly data: string;
  readonly transactions: string;
}

/** Hard links to the store files, and logs of its own: a server never runs on it, and nothing changes a store file in place. */
export async function copyAtRest({ home }: BenchStore, root: string): Promise<CopyAtRest> {
  const copied = { data: join(root, 'databases'), transactions: join(root, 'transactions') };
  await mkdir(copied.data, { recursive: true });
  await mkdir(copied.transactions);
  await promisify(execFile)('cp', ['-al', home.databaseFolder, join(copied.data, 'neo4j')]);
  await cp(home.transactionsFolder, join(copied.transactions, 'neo4j'), { recursive: true });
  return copied;
}

/** A file of such a copy is a link to that of the store: who changes it needs one of its own. */
export async function makeOwn(path: string): Promise<void> {
  await cp(path, `${path}.copy`);
  await rename(`${path}.copy`, path);
}

export function fromOf({ data, transactions }: CopyAtRest): string[] {
  return [`--from-path-data=${data}`, `--from-path-txn=${transactions}`];
}

async function makeStore(home: Home, sizes: { nodes: number; relationships: number }): Promise<void> {
  await using server = await startServer(home, { javaFlags: ['-Xmx1200m'] });
  for (const statement of statements(sizes)) await runAlone(server, statement);
  await server.stop();
}

/** Outside any transaction of the driver, since the statements commit in between. */
async function runAlone(server: Server, statement: string): Promise<void> {
  const session = server.driver.session({ database: 'neo4j' });
  try {
    await session.run(statement);
  } finally {
    await session.close();
  }
}

/** Multiplications by primes scatter values and neighbours, so that it compresses like data and not like a sequence. */
function statements({ nodes, relationships }: { nodes: number; relationships: number }): string[] {
  return [
    `UNWIND range(0, ${nodes - 1}) AS id
     CALL (id) {
       CREATE (p:Person {id: id, name: 'person ' + (id * 7919) % 1000003, city: 'city ' + (id * 31) % 997,
         born: 1930 + (id * 17) % 90, score: (id * 104729) % 1000003,
         tags: ['tag' + id % 89, 'group' + (id * 13) % 1009], visits: [x IN range(0, 5) | (id * (x + 3) * 611953) % 1000003]})
       FOREACH (_ IN CASE WHEN id % 3 = 0 THEN [1] ELSE [] END |
         SET p.about = reduce(text = '', x IN range(0, 63) | text + ' word' + (id * (x + 7) * 15485863) % 100003))
     } IN TRANSACTIONS OF ${ROWS_PER_TRANSACTION} ROWS`,
    'CREATE CONSTRAINT person_id FOR (p:Person) REQUIRE p.id IS UNIQUE',
    'CREATE INDEX person_name FOR (p:Person) ON (p.name)',
    'CALL db.awaitIndexes(300)',
    `UNWIND range(0, ${relationships - 1}) AS id
     CALL (id) {
       MATCH (a:Person {id: id % ${nodes}})
       MATCH (b:Person {id: (id * 7919 + 13 + id / ${nodes}) % ${nodes}})
       CREATE (a)-[:KNOWS {since: 1990 + id % 35, weight: (id * 104729) % 10007}]->(b)
     } IN TRANSACTIONS OF ${ROWS_PER_TRANSACTION} ROWS`,
  ];
}

/** Bytes of all files below a folder. */
export async function folderBytes(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  const sizes = await Promise.all(
    files.map(async (file) => (await stat(join(file.parentPath, file.name))).size),
  );
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}
