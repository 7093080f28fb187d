/**
 * Exchanging two paths in one step (`renameat2` with RENAME_EXCHANGE): the old and the new database change places and
 * no moment exists at which there is neither. Two plain renames would leave such a moment, and a kill inside it a
 * server without its database. It owns that one call; syncing the folders afterwards is the caller's.
 */
import { GraphkeepError, wrapSystemError } from '../errors.ts';
import { errnoError, errnoName, libraryCalls } from '../storage/libc.ts';

const RENAME_EXCHANGE = 2;

/** Errnos that say "not here, ever": no such call, flag not known to the file system, mount points. */
const CANNOT_EXCHANGE: ReadonlySet<string> = new Set([
  'EINVAL',
  'ENOSYS',
  'EOPNOTSUPP',
  'ENOTSUP',
  'EXDEV',
  'EBUSY',
]);

/** @throws GraphkeepError GK_UNSUPPORTED when the file system cannot do it; nothing has changed then. */
export function exchangePaths(first: string, second: string): void {
  const errno = libraryCalls().renameat2(first, second, RENAME_EXCHANGE);
  if (errno === 0) return;
  const cause = errnoError(errno, 'renameat2', `${first}' and '${second}`);
  if (!CANNOT_EXCHANGE.has(errnoName(errno))) throw wrapSystemError(cause, `exchange ${first} and ${second}`);
  throw new GraphkeepError(
    'GK_UNSUPPORTED',
    `the file system cannot exchange ${first} and ${second} in one step (${errnoName(errno)})`,
    {
      hint: 'move the old database away by hand and restore without --overwrite-destination',
      cause,
    },
  );
}
