/**
 * Where the databases of a cluster live, asked for over Bolt. Tried on Community, where every database is on the one server;
 * the answers of a cluster are read as the manual describes them.
 */
import { type BoltAccess, type SystemQuery, withBolt } from './bolt.ts';
import { type Address, parseAddress } from './values.ts';

/** For each database the hosts that have it and serve it, the one to be preferred for a backup first. */
export type DatabaseHosts = ReadonlyMap<string, readonly string[]>;

const ONLINE = 'online';
const BOLT_ADDRESS: Address = { host: 'localhost', port: 7687 };
const OTHER_ROLE_RANK = 2;
/** A secondary has time to spare; the one that takes the writes has the least. */
const ROLE_RANKS: Readonly<Record<string, number>> = { secondary: 0, primary: 1, standalone: 1 };

export function askForHosts(access: BoltAccess, signal?: AbortSignal): Promise<DatabaseHosts> {
  return withBolt(access, 'the places of the databases', readHosts, signal);
}

/** @param query runs on the database system */
export async function readHosts(query: SystemQuery): Promise<DatabaseHosts> {
  const rows = await query('SHOW DATABASES YIELD name, address, role, writer, currentStatus');
  const ranked = rows.flatMap(({ name, address, role, writer, currentStatus }) => {
    if (typeof name !== 'string' || typeof address !== 'string' || currentStatus !== ONLINE) return [];
    const host = parseAddress(address, BOLT_ADDRESS)?.host;
    if (host === undefined) return [];
    const rank = ROLE_RANKS[String(role)] ?? OTHER_ROLE_RANK;
    return [{ name, host, rank: writer === true ? rank + 1 : rank }];
  });
  const hosts = new Map<string, string[]>();
  for (const { name, host } of ranked.toSorted((left, right) => left.rank - right.rank)) {
    hosts.set(name, [...(hosts.get(name) ?? []), host]);
  }
  return hosts;
}
