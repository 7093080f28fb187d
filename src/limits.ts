/**
 * Every bound in one place: buffers, queues, retries, and lengths that are read from a file.
 * A length from disk is compared with its bound before anything is allocated.
 */

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;

/** Tar bytes per compressed frame: large enough for the ratio, small enough that four in flight stay cheap. */
export const FRAME_RAW_BYTES = 2 * MIB;
/** Frames that are read, compressed or decompressed at once; libuv's pool has four threads. */
export const FRAMES_IN_FLIGHT_MAX = 4;
/** Unsynced bytes of an artifact or a restored file before a background sync starts: keeps the last fsync short. */
export const UNSYNCED_BYTES_MAX = 64 * MIB;

/** A descriptor lies within the first bytes of an artifact; a metadata script of up to 1 MiB included. */
export const DESCRIPTOR_REGION_BYTES_MAX = 32 * MIB;

/** Bytes read at once when a log is scanned, and the largest single log command that the scan can hold. */
export const LOG_WINDOW_BYTES = 4 * MIB;
export const LOG_COMMAND_BYTES_MAX = GIB;
/** A checkpoint file is 1 MiB unless its settings were raised. */
export const CHECKPOINT_FILE_BYTES_MAX = 256 * MIB;
/** Log files held open by one backup: 1 TiB of log at the default rotation size. */
export const PINNED_LOG_FILES_MAX = 4096;
/** How often the log folder is looked at for new files while a copy runs. */
export const PIN_INTERVAL_MS = 20;

/** A whole copy starts anew when the server pruned what it needed. */
export const BACKUP_ATTEMPTS_MAX = 3;
/** One tree or Lucene index is copied anew when a checkpoint changed it meanwhile; then it is left out. */
export const ATOMIC_COPY_ATTEMPTS_MAX = 5;
/** Reading the end of a live log again, when the last transaction is not whole yet. */
export const TAIL_REREADS_MAX = 40;
export const TAIL_REREAD_DELAY_MS = 25;
/** Files and folders in one folder, of a database or of artifacts. */
export const FOLDER_ENTRIES_MAX = 1_000_000;
/** Restored files whose last sync runs while the next ones are written. */
export const RESTORED_FILES_SYNCING_MAX = 8;
/** Users and roles of an Enterprise artifact, decompressed. */
export const METADATA_SCRIPT_BYTES_MAX = 64 * MIB;
/** A partial file that nobody has locked is left alone for this long: its writer may be about to lock it. */
export const STALE_PARTIAL_AGE_MS = 60_000;
/** How the zeros behind the end of a preallocated log are looked at: the first part whole, then one page per stride. */
export const ZERO_TAIL_WHOLE_BYTES = 16 * MIB;
export const ZERO_TAIL_SAMPLE_BYTES = 4 * KIB;
export const ZERO_TAIL_STRIDE_BYTES = 256 * KIB;

/** Heap and page cache of a stock server that only recovers a database; beside a Neo4j that needs the memory. */
export const STOCK_SERVER_HEAP = '512m';
export const STOCK_SERVER_PAGE_CACHE = '64m';
/** Between two looks at the log of a stock server that starts. */
export const STOCK_START_POLL_MS = 50;
/** After SIGTERM, before SIGKILL, when graphkeep is interrupted: time for a clean shutdown of an idle server. */
export const STOCK_STOP_MS_MAX = 20_000;
/** `java -version` answers in a fraction of a second; longer is a broken Java. */
export const JAVA_VERSION_MS_MAX = 60_000;
/** The end of a stock server's log that is looked at, and of a stock tool's output that is kept. */
export const STOCK_LOG_BYTES_MAX = 64 * MIB;
export const STOCK_OUTPUT_CHARACTERS_MAX = MIB;
/** What an error message repeats of a stock log. */
export const STOCK_LINES_SHOWN_MAX = 12;
export const STOCK_LINE_CHARACTERS_SHOWN_MAX = 400;
/** The jar in which the main class of the server is looked up; a real one has 320 KB. */
export const STOCK_MAIN_JAR_BYTES_MAX = 64 * MIB;
/** How long to wait for the lease of a folder of artifacts, and how often it is asked for meanwhile. */
export const LEASE_WAIT_MS = 30_000;
export const LEASE_POLL_INTERVAL_MS = 50;
/** Periods of one rule of a retention policy, and each figure of the age in one. */
export const RETENTION_COUNT_MAX = 1_000_000;
/** Plans to be made again, because a backup added a full artifact while the one to be kept was being verified. */
export const EXPIRE_ATTEMPTS_MAX = 3;
/** A directory backup (3.x form): its name, with room for what is put around it, and what fallbacks leave beside it. */
export const DIRECTORY_NAME_CHARACTERS_MAX = 200;
export const ERR_FOLDERS_MAX = 10_000;
/** A log file of a directory backup does not grow beyond the default rotation size of Neo4j. */
export const DIRECTORY_LOG_BYTES_MAX = 256 * MIB;
/** The least memory that the stock check is given, whatever `--pagecache` says: 8m was enough for another check. */
export const CHECK_MEMORY_BYTES_MIN = 64 * MIB;
/** Artifacts of a folder whose heads are read at once: waiting for a disk costs most of it. */
export const ARTIFACTS_OPENING_MAX = 8;
