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
export const PIN_INTERVAL_MS = 10;
/** How many times longer than a look the rest after it is at least, so that a large folder takes no more of a processor. */
export const PIN_REST_TIMES = 20;

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

/** A key, a certificate with its chain, a file of trusted certificates: a few KB each. */
export const TLS_FILE_BYTES_MAX = MIB;
/** A revocation list of a large CA. */
export const REVOCATION_FILE_BYTES_MAX = 32 * MIB;
/** Files in `trusted_dir` or `revoked_dir`. */
export const TLS_FOLDER_FILES_MAX = 1000;
/** How often the files of certificates and access are looked at for a change. */
export const FILE_WATCH_INTERVAL_MS = 10_000;
/** A `graphkeep.conf`: some thirty lines. */
export const SERVER_CONFIGURATION_BYTES_MAX = MIB;
/** The access file, and how many may be named in it: each is compared with every token. */
export const ACCESS_FILE_BYTES_MAX = MIB;
export const ACCESS_PRINCIPALS_MAX = 1000;
/** A bearer token as it arrives; ours have 47 characters. */
export const TOKEN_CHARACTERS_MAX = 512;
/** Sessions of the backup server: each pins log files of Neo4j, which costs disk space while it is open. */
export const SERVER_SESSIONS_DEFAULT = 32;
export const SERVER_SESSIONS_MAX = 1000;
/** How long a session without any request is kept, for a client that lost its connection. */
export const SESSION_TIMEOUT_MS_DEFAULT = 300_000;
export const SESSION_TIMEOUT_MS_MIN = 1000;
export const SESSION_TIMEOUT_MS_MAX = 86_400_000;

/** Bytes that a client asks a backup server for at once, the least after a cut, and the most of one request. */
export const RANGE_BYTES = 2 * MIB;
/** Beyond this level a backup server does not compress for its clients: its processor belongs to the database. */
export const PACKED_LEVEL_MAX = 3;
export const RANGE_BYTES_MIN = 64 * KIB;
export const RANGE_BYTES_MAX = 2 * MIB;
/** A tree or an index of so much is in the answer to the request that opens it: most are, and each request takes its way. */
export const WHOLE_GROUP_BYTES_MAX = 64 * KIB;
/** Ranges that a client has under way; what a server holds of one session at most. Times the range: memory of each. */
export const RANGES_IN_FLIGHT_MAX = 4;
export const SESSION_RANGES_MAX = 8;
/** Sent at once under a rate limit: so small that with many clients each still gets something every few seconds. */
export const PACED_BYTES = 16 * KIB;
/** Tries of one request that bring something, but nothing whole; those that bring nothing end with the time for that. */
export const SPOILED_ANSWERS_MAX = 32;
/** Between two looks for sessions whose clients are gone. */
export const SESSION_SWEEP_MS_MAX = 10_000;
/** Copying an index aside on the host of the server. */
export const STAGING_BUFFER_BYTES = MIB;
/** What a client calls its request for a session, so that it can be asked again. */
export const REQUEST_NAME_MAX = 64;
/** Request bodies and headers of the backup server: its requests are a few numbers and names. */
export const REQUEST_BODY_BYTES_MAX = 64 * KIB;
export const REQUEST_HEADER_BYTES_MAX = 16 * KIB;
/** A connection that sends no whole request for this long is closed; so is one that does not finish its handshake. */
export const REQUEST_ARRIVAL_MS_MAX = 10_000;
/** What an audit line repeats of the address that was asked for: anybody can make it as long as a header may be. */
export const AUDIT_PATH_CHARACTERS_MAX = 256;
/** Sockets of a backup server at once; far above what its sessions need, below what a process may have open. */
export const CONNECTIONS_MAX = 4096;
/** Of an answer's status line and headers, received into a buffer of each socket. */
export const ANSWER_HEAD_BYTES_MAX = 16 * KIB;
/** While a server works on an answer it sends a space this often, so that a client can tell slow from dead. */
export const ANSWER_HEARTBEAT_MS = 2_000;
/** What a client reads of an answer that is not a range: the list of the files of a database, or a metadata script. */
export const ANSWER_BYTES_MAX = 128 * MIB;
/**
 * A client takes a connection for dead when nothing comes for a third of the time after which it gives up, so that others
 * are tried before that; but never so soon that a server which works on an answer could not have said so.
 */
export const SILENCES_PER_INACTIVITY = 3;
export const ANSWER_SILENCE_MS_MIN = 3_000;
export const ANSWER_SILENCE_MS_MAX = 15_000;
/** A client waits this long before it tries again, at first and at most. */
export const RETRY_DELAY_MS_MIN = 100;
export const RETRY_DELAY_MS_MAX = 5_000;
/** Reading records: pages of one store that are kept, and bytes that a walk over a whole store reads at once. */
export const RECORD_PAGES_CACHED_MAX = 256;
export const RECORD_SCAN_BYTES = MIB;
/** Records that the log changed since the checkpoint, held in memory: some 200 bytes each, and what values they carry. */
export const OVERLAY_RECORDS_MAX = 500_000;
export const OVERLAY_VALUE_BYTES_MAX = 64 * MIB;
/** One string or array of a property, put together from its pieces. */
export const STORED_VALUE_BYTES_MAX = 256 * MIB;
/** Labels, relationship types or property keys of one database. */
export const TOKENS_MAX = 1_000_000;
/** A rate limit lets be caught up what was not read in this time before. */
export const RATE_CREDIT_MS_MAX = 1_000;
/** Percent of all processors that a backup takes however much others want; and what holds nothing back. */
export const CPU_SHARE_DEFAULT = 3;
export const CPU_SHARE_ALL = 100;
/** How often is looked at what others want of the processors: some twenty ticks of Linux on two cores. */
export const PROCESSOR_SAMPLE_MS = 100;
/** Processor time saved up and owed at most: less than a frame takes, and a few of them. */
export const PROCESSOR_CREDIT_MS = 5;
export const PROCESSOR_DEBT_MS_MAX = 60;
/** Of one piece: a client takes a connection for dead that says nothing for `ANSWER_SILENCE_MS_MIN`. */
export const PROCESSOR_WAIT_MS_MAX = 1_000;
/** Users and privileges of one Neo4j that a metadata script carries, and how long its server is waited for. */
export const METADATA_USERS_MAX = 100_000;
export const ROLE_COMMANDS_MAX = 100_000;
export const BOLT_TIMEOUT_MS = 15_000;
export const PASSWORD_FILE_BYTES_MAX = 64 * KIB;
/** A metadata script that stands in the head of an artifact as it is; a longer one is compressed, up to the second. */
export const PLAIN_SCRIPT_BYTES_MAX = MIB;
export const COMPRESSED_SCRIPT_BYTES_MAX = 8 * MIB;
/** How often a client says within the timeout of its session that it is still there. */
export const RENEWALS_PER_TIMEOUT = 5;
/** How long the farewell to a server, or the end of a lease in an object store, may take. */
export const SESSION_CLOSE_MS_MAX = 5_000;
export const INACTIVITY_MS_DEFAULT = 5 * 60_000;
/** A configuration artifact: its manifest, its files (a few dozen of a few KB each, kept in memory) and its jars. */
export const CONFIGURATION_MANIFEST_BYTES_MAX = 16 * MIB;
export const CONFIGURATION_FILES_MAX = 10_000;
export const CONFIGURATION_FOLDER_DEPTH_MAX = 16;
export const CONFIGURATION_TOTAL_BYTES_MAX = 16 * MIB;
export const PLUGIN_JAR_BYTES_MAX = 4 * GIB;
export const PLUGIN_TOTAL_BYTES_MAX = 16 * GIB;
/** Pieces in which a configuration artifact is written, sent and read. */
export const CONFIGURATION_COPY_BYTES = MIB;
/** What is read of a jar for its version: the list of its entries, and its manifest. */
export const JAR_DIRECTORY_BYTES_MAX = 32 * MIB;
export const JAR_MANIFEST_BYTES_MAX = MIB;
/** Object stores: how long one may bring nothing at all before it is given up, tries again included. */
export const OBJECT_PATIENCE_MS = 120_000;
/** What the SDK of a cloud tries by itself at each of our tries: it knows how to refresh a token or correct the clock. */
export const OBJECT_SDK_TRIES = 3;
export const OBJECT_SDK_DELAY_MS_MAX = 2_000;
/** To connect, and without a byte on a connection that is open. */
export const OBJECT_CONNECT_MS_MAX = 10_000;
export const OBJECT_SILENCE_MS_MAX = 60_000;
export const OBJECT_SOCKETS_MAX = 16;
/** Bytes of a key in UTF-8: the same with all three. */
export const OBJECT_KEY_BYTES_MAX = 1024;
export const OBJECT_LIST_PAGE = 1000;
/** What is written in one request, and what a part may have: S3 takes none below 5 MiB. Parts are held in memory. */
export const OBJECT_PUT_BYTES_MAX = 64 * MIB;
/** The first part is kept to the end and holds the head of an artifact, with a script of users of up to 8 MiB. */
export const OBJECT_PART_BYTES_DEFAULT = 9 * MIB;
/** Parts of one object that are sent at once; each is held in memory. */
export const OBJECT_PARTS_IN_FLIGHT_MAX = 4;
/** Beside those under way: the first one, the one that is filled, and what a rewind goes back to. */
export const OBJECT_PARTS_KEPT_MAX = 3;
/** What all parts of an upload may take together: with 240 MiB of a whole backup, measured, there is not much more. */
export const OBJECT_PARTS_MEMORY_BYTES = 64 * MIB;
/** Parts of this size go one by one; larger ones would not keep within that memory. */
export const OBJECT_PART_BYTES_MAX =
  Math.floor(OBJECT_PARTS_MEMORY_BYTES / (OBJECT_PARTS_KEPT_MAX + 1) / MIB) * MIB;
export const S3_PARTS_MAX = 10_000;
/**
 * What needs more parts goes up in sections, which the store then copies into the object as parts of that. A section is
 * copied by one request: at most what S3 allows, and not so large that a store which is silent meanwhile seems dead.
 */
export const S3_SECTION_BYTES_MIN = GIB;
export const S3_SECTION_BYTES_MAX = 5 * GIB;
/** Sections that are copied at once. It costs no memory here. */
export const S3_SECTIONS_AT_ONCE = 8;
export const AZURE_BLOCKS_MAX = 50_000;
/** Blocks grow beyond what keeps within the memory: Azure has nothing better for an object that is so large. */
export const AZURE_BLOCK_BYTES_MAX = 512 * MIB;
/** Google puts this many objects together at once; more are put together in steps. */
export const GOOGLE_COMPOSE_MAX = 32;
export const GOOGLE_OBJECT_BYTES_MAX = 5 * 1024 * GIB;
/** Parts that are put together, or removed, at once. */
export const GOOGLE_PARTS_AT_ONCE = 16;
/** An answer that is not an object: a page of a list. */
export const GOOGLE_ANSWER_BYTES_MAX = 32 * MIB;
/** The header of an encrypted artifact: some 200 bytes for each key that opens it, 1.7 KB for a post-quantum one. */
export const AGE_HEADER_BYTES_MAX = 256 * KIB;
export const AGE_RECIPIENTS_MAX = 100;
/** Files of public or private keys: a few lines each. */
export const AGE_KEY_FILE_BYTES_MAX = MIB;
/** Chunks of 64 KiB that are read and decrypted at once. */
export const SEALED_RUN_CHUNKS_MAX = 64;
/** What an encrypted artifact says in the clear, padded to this length: it is known last, and its place first. */
export const CLEAR_HEADER_BYTES = 1536;
/** A key of the customer (SSE-C). */
export const CUSTOMER_KEY_BYTES = 32;
export const CUSTOMER_KEY_FILE_BYTES_MAX = KIB;
/** Two lines. */
export const AZURE_ACCOUNT_FILE_BYTES_MAX = 64 * KIB;
/** What an error repeats of the words of a store. */
export const STORE_WORDS_SHOWN_MAX = 200;
/** A lease in an object store that was not written for this long is of a process that died; how often it is written. */
export const OBJECT_LEASE_LIFE_MS = 5 * 60_000;
export const OBJECT_LEASE_RENEWALS = 5;
/** An upload that was begun less than this long ago is never taken for the leftover of a killed backup. */
export const LEFTOVER_AGE_MS_MIN = 60 * 60_000;
/** Beginning and end of a file without an index that are compared with its copy, unless all of it is. */
export const COMPARED_END_BYTES = MIB;
