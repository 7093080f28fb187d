/**
 * The fence: the last valid checkpoint at the moment the copy begins. The restored database recovers from this one,
 * so its checkpoint file is kept as it is now, cut behind the entry; a checkpoint that happens during the copy claims
 * more than the pages that were read before it can hold. Source: formats.md §9.1 (3), §9.2.
 */
import { join } from 'node:path';
import { GraphkeepError } from '../errors.ts';
import { FormatError } from '../formats/formaterror.ts';
import { type Checkpoint, lastCheckpoint } from '../formats/txlog/checkpoint.ts';
import { LOG_HEADER_BYTES, parseLogHeader, UnsupportedLogFormatError } from '../formats/txlog/header.ts';
import { UnsupportedKernelVersionError } from '../formats/txlog/kernelversion.ts';
import { CHECKPOINT_FILE_BYTES_MAX } from '../limits.ts';
import { readFully } from '../storage/local.ts';
import { listLogFolder, pinFile } from './logfolder.ts';

export interface Fence {
  readonly checkpoint: Checkpoint;
  readonly fileName: string;
  /** The checkpoint file from its first byte to the end of the fence's entry. */
  readonly fileBytes: Buffer;
}

/** Reads the fence. @throws GK_STORE_DAMAGED when no checkpoint can be read, GK_UNSUPPORTED, GK_NOT_FOUND */
export async function readFence(logDirectory: string): Promise<Fence> {
  const { checkpoints } = await listLogFolder(logDirectory);
  for (const file of checkpoints.toReversed()) {
    const content = await readCheckpointFile(join(logDirectory, file.name));
    const checkpoint =
      content === undefined ? undefined : lastCheckpointIn(content, join(logDirectory, file.name));
    if (content !== undefined && checkpoint !== undefined) {
      return { checkpoint, fileName: file.name, fileBytes: content.subarray(0, checkpoint.endBytes) };
    }
  }
  throw new GraphkeepError('GK_STORE_DAMAGED', `there is no valid checkpoint in ${logDirectory}`, {
    hint: 'start Neo4j once: it writes a checkpoint when it starts and stops; then run the backup again',
  });
}

/** undefined when the file was removed meanwhile (the server keeps three), or is too new to have a header. */
async function readCheckpointFile(path: string): Promise<Buffer | undefined> {
  const handle = await pinFile(path);
  if (handle === undefined) return undefined;
  try {
    const { size } = await handle.stat();
    if (size > CHECKPOINT_FILE_BYTES_MAX) {
      throw new GraphkeepError(
        'GK_UNSUPPORTED',
        `${path} is ${size} bytes long, more than a checkpoint file may be`,
      );
    }
    const content = Buffer.alloc(size);
    const got = await readFully(handle, content, 0, path);
    return got < LOG_HEADER_BYTES ? undefined : content.subarray(0, got);
  } finally {
    await handle.close();
  }
}

function lastCheckpointIn(content: Buffer, path: string): Checkpoint | undefined {
  return namingLogFile(path, () =>
    parseLogHeader(content) === undefined ? undefined : lastCheckpoint(content),
  );
}

/** Runs a parser of log bytes; its errors become errors that name the file. */
export function namingLogFile<Result>(path: string, parse: () => Result): Result {
  try {
    return parse();
  } catch (error) {
    if (error instanceof UnsupportedLogFormatError || error instanceof UnsupportedKernelVersionError) {
      throw new GraphkeepError('GK_UNSUPPORTED', `${path}: ${error.message}`, { cause: error });
    }
    if (error instanceof FormatError) {
      throw new GraphkeepError('GK_STORE_DAMAGED', `${path}: ${error.message}`, { cause: error });
    }
    throw error;
  }
}
