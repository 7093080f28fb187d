/** The checkpoint that recovery would choose among the checkpoint files of an artifact. */
import { fileVersionOf } from '../artifact/logmember.ts';
import { type Checkpoint, lastCheckpoint } from '../formats/txlog/checkpoint.ts';
import { parseLogHeader } from '../formats/txlog/header.ts';

/** The last checkpoint of the file with the highest number that has one. @throws FormatError */
export function newestCheckpoint(files: ReadonlyMap<string, Buffer>): Checkpoint | undefined {
  const byVersion = [...files].sort(([left], [right]) =>
    fileVersionOf(left) < fileVersionOf(right) ? 1 : -1,
  );
  for (const [, content] of byVersion) {
    const checkpoint = parseLogHeader(content) === undefined ? undefined : lastCheckpoint(content);
    if (checkpoint !== undefined) return checkpoint;
  }
  return undefined;
}
