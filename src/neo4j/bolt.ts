/**
 * Questions to a running Neo4j over Bolt, on its database system. For what no file tells: roles and privileges, and where in
 * a cluster a database lives.
 */
import { GraphkeepError, throwIfAborted } from '../errors.ts';
import { BOLT_TIMEOUT_MS, PASSWORD_FILE_BYTES_MAX } from '../limits.ts';
import { ANY_ACCESS_OF_OTHERS, readGuardedFile } from '../storage/guardedfile.ts';

export interface BoltAccess {
  /** `bolt://host:port`, `neo4j+s://…`, or `host:port`. */
  readonly address: string;
  readonly user: string;
  /** A file whose first line is the password: an argument would be seen by everybody on the host. */
  readonly passwordFile: string;
}

/** Rows of a query on the database system. */
export type SystemQuery = (query: string) => Promise<Record<string, unknown>[]>;

/**
 * Runs `work` with a connection that is closed afterwards.
 * @param doing completes "… could not be asked for"
 * @throws GK_NOT_FOUND, GK_NO_PERMISSION, GK_IO, GK_INTERRUPTED, and what `work` throws
 */
export async function withBolt<Result>(
  access: BoltAccess,
  doing: string,
  work: (query: SystemQuery) => Promise<Result>,
  signal?: AbortSignal,
): Promise<Result> {
  throwIfAborted(signal);
  const password = await readPassword(access.passwordFile);
  const { default: neo4j } = await import('neo4j-driver');
  const address = access.address.includes('://') ? access.address : `bolt://${access.address}`;
  const closeOnAbort = (): void => void driver.close();
  const driver = neo4j.driver(address, neo4j.auth.basic(access.user, password), {
    connectionTimeout: BOLT_TIMEOUT_MS,
    connectionAcquisitionTimeout: BOLT_TIMEOUT_MS,
    maxTransactionRetryTime: BOLT_TIMEOUT_MS,
    disableLosslessIntegers: true,
  });
  signal?.addEventListener('abort', closeOnAbort, { once: true });
  try {
    return await work(async (query) => {
      const { records } = await driver.executeQuery(query, {}, { database: 'system' });
      return records.map((record) => record.toObject());
    });
  } catch (error) {
    if (error instanceof GraphkeepError) throw error;
    if (signal?.aborted) throw new GraphkeepError('GK_INTERRUPTED', 'interrupted', { cause: error });
    const message = error instanceof Error ? error.message : String(error);
    throw new GraphkeepError('GK_IO', `${doing} could not be asked for at ${access.address}: ${message}`, {
      hint: `check --bolt-address, the user and its password, and that the user may see ${doing}`,
      cause: error,
    });
  } finally {
    signal?.removeEventListener('abort', closeOnAbort);
    await driver.close();
  }
}

async function readPassword(path: string): Promise<string> {
  const bytes = await readGuardedFile(path, {
    what: 'the password file',
    bytesMax: PASSWORD_FILE_BYTES_MAX,
    forbiddenMode: ANY_ACCESS_OF_OTHERS,
  });
  return bytes.toString('utf8').split(/\r?\n/)[0] ?? '';
}
