/**
 * The one error class and the one table of what can go wrong.
 *
 * Every failure that a user can meet has a stable code and an exit status of its own, so that a script can
 * tell "the disk is full" from "the artifact is damaged" without reading text. The numbers follow sysexits
 * (64–78) where that list has a word for the case, as `neo4j-admin` does, and start at 80 where it has none.
 */

/** Stable code → exit status and the hint that is printed when the thrower has no better one. */
export const ERROR_TABLE = {
  GK_FAILED: { exitStatus: 1, hint: 'see the messages above for each database' },
  GK_USAGE: { exitStatus: 64, hint: 'run the command with --help to see its options' },
  GK_ARTIFACT_CORRUPT: {
    exitStatus: 65,
    hint: 'do not restore this file; use another artifact, and check the disk that held it',
  },
  GK_NOT_FOUND: { exitStatus: 66, hint: 'check the name and the path' },
  GK_HOST_UNKNOWN: { exitStatus: 68, hint: 'check the host name, and how this machine resolves names' },
  GK_UNSUPPORTED: { exitStatus: 69, hint: 'graphkeep refuses what it cannot back up or restore for certain' },
  GK_INTERNAL: {
    exitStatus: 70,
    hint: 'this is a defect in graphkeep; run again with --verbose and report what it prints',
  },
  GK_TARGET_EXISTS: { exitStatus: 73, hint: 'choose another target, or allow it to be replaced' },
  GK_IO: { exitStatus: 74, hint: 'check the disk and the mount that the message names' },
  GK_SOURCE_MOVED: {
    exitStatus: 75,
    hint: 'the server changed its files faster than they could be read; run the backup again',
  },
  GK_PROTOCOL: {
    exitStatus: 76,
    hint: 'check that host and port are those of a graphkeep server, of a version that fits this one',
  },
  GK_NO_PERMISSION: { exitStatus: 77, hint: 'run as the user that runs Neo4j' },
  GK_CONFIG: { exitStatus: 78, hint: 'correct the configuration file that the message names' },
  GK_IN_USE: { exitStatus: 80, hint: 'stop Neo4j first, then run the command again' },
  GK_NO_SPACE: { exitStatus: 81, hint: 'free some space, or choose a target on another disk' },
  GK_STORE_DAMAGED: {
    exitStatus: 82,
    hint: 'the database files are not in a state that Neo4j could recover; keep them, and do not rely on them',
  },
  GK_STOCK_FAILED: { exitStatus: 83, hint: "the message holds the last lines of Neo4j's own log" },
  GK_NO_PARENT: {
    exitStatus: 84,
    hint: 'take a full backup (--type=FULL), or give --fallback-to-full',
  },
  GK_CHAIN_BROKEN: {
    exitStatus: 85,
    hint: 'run: graphkeep backup validate <folder>, which says what can still be restored',
  },
  GK_OUT_OF_WINDOW: {
    exitStatus: 86,
    hint: 'run: graphkeep backup inspect <folder> to see what each chain can be restored to',
  },
  GK_INCONSISTENT: {
    exitStatus: 87,
    hint: 'read the report that the message names; the artifact is kept',
  },
  GK_SUSPICIOUS: {
    exitStatus: 88,
    hint: 'look at the newest backup first; the message names the option that acts all the same',
  },
  GK_UNREACHABLE: {
    exitStatus: 89,
    hint: 'check that graphkeep server runs there, listens on this address and port, and that no firewall is between',
  },
  GK_TLS: {
    exitStatus: 90,
    hint: 'check dbms.ssl.policy.backup.* on both sides: one may speak TLS and the other not, or other versions of it',
  },
  GK_CERTIFICATE: {
    exitStatus: 91,
    hint: 'check the certificates and trusted_dir on both sides, their dates, and the host name that they are for',
  },
  GK_UNAUTHORIZED: {
    exitStatus: 92,
    hint: 'check the token or the certificate, and what the access file of the server allows them',
  },
  GK_CONNECTION_LOST: {
    exitStatus: 93,
    hint: 'nothing was published; run the backup again when the network is back',
  },
  GK_SESSION_LOST: {
    exitStatus: 94,
    hint: 'the backup server was restarted, or had not heard from this backup for too long; run the backup again',
  },
  GK_SERVER_BUSY: {
    exitStatus: 95,
    hint: 'run the backup again later, or raise graphkeep.server.sessions_max on the server',
  },
  GK_KEY_MISSING: {
    exitStatus: 96,
    hint: 'give --identity=<file> with a private key that opens it, or set GRAPHKEEP_IDENTITY to its path',
  },
  GK_INTERRUPTED: { exitStatus: 130, hint: 'nothing was published; run the command again' },
} as const;

export type ErrorCode = keyof typeof ERROR_TABLE;

export interface GraphkeepErrorOptions {
  /** What to do next; the table's hint when absent. */
  hint?: string;
  cause?: unknown;
}

/** The only error that graphkeep throws on purpose. `message` says what and where, `hint` what to do next. */
export class GraphkeepError extends Error {
  readonly code: ErrorCode;
  readonly exitStatus: number;
  readonly hint: string;

  constructor(code: ErrorCode, message: string, options: GraphkeepErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'GraphkeepError';
    this.code = code;
    this.exitStatus = ERROR_TABLE[code].exitStatus;
    this.hint = options.hint ?? ERROR_TABLE[code].hint;
  }
}

/** Errno → code, for failures of the operating system. Anything not listed is plain I/O. */
const ERRNO_CODES: Readonly<Record<string, ErrorCode>> = {
  ENOENT: 'GK_NOT_FOUND',
  ENOTDIR: 'GK_NOT_FOUND',
  EACCES: 'GK_NO_PERMISSION',
  EPERM: 'GK_NO_PERMISSION',
  EROFS: 'GK_NO_PERMISSION',
  ENOSPC: 'GK_NO_SPACE',
  EDQUOT: 'GK_NO_SPACE',
  EEXIST: 'GK_TARGET_EXISTS',
};

export function isErrno(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}

/** Wraps what the operating system threw; `doing` completes the sentence "could not …". */
export function wrapSystemError(error: unknown, doing: string): GraphkeepError {
  if (error instanceof GraphkeepError) return error;
  if (error instanceof Error && error.name === 'AbortError') {
    return new GraphkeepError('GK_INTERRUPTED', `interrupted: could not ${doing}`, { cause: error });
  }
  const errno = error instanceof Error && 'code' in error ? String(error.code) : '';
  const detail = error instanceof Error ? error.message : String(error);
  return new GraphkeepError(ERRNO_CODES[errno] ?? 'GK_IO', `could not ${doing}: ${detail}`, { cause: error });
}

/** Whatever was thrown, as the one error class. An error of the operating system keeps its meaning. */
export function asGraphkeepError(error: unknown, doing: string): GraphkeepError {
  if (error instanceof GraphkeepError) return error;
  const ofSystem = error instanceof Error && 'syscall' in error && 'code' in error;
  if (ofSystem || (error instanceof Error && error.name === 'AbortError'))
    return wrapSystemError(error, doing);
  const detail = error instanceof Error ? error.message : String(error);
  return new GraphkeepError('GK_INTERNAL', `could not ${doing}: ${detail}`, { cause: error });
}

/** For loops of long work. @throws GK_INTERRUPTED */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new GraphkeepError('GK_INTERRUPTED', 'interrupted', { cause: signal.reason });
}
