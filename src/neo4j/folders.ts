/** Where a database lies: its two folders, and how they are named below one of a Neo4j. */
import { join } from 'node:path';

/** The two folders of one database. They exist or not; whoever needs them says so. */
export interface DatabaseFolders {
  readonly name: string;
  /** `data/databases/<name>` */
  readonly storeDirectory: string;
  /** `data/transactions/<name>` */
  readonly logDirectory: string;
}

/** The folders of a database below one of its own, named as in the `data` of a Neo4j. */
export function foldersBelow(data: string, name: string): DatabaseFolders {
  return {
    name,
    storeDirectory: join(data, 'databases', name),
    logDirectory: join(data, 'transactions', name),
  };
}
