/** Progress of work whose size is known beforehand, or nearly. */
import type { ProgressListener } from './types.ts';

/** Counts bytes for a listener. The total grows when there turns out to be more than was expected. */
export function byteProgress(
  listener: ProgressListener | undefined,
  phase: string,
  expectedBytes: number,
): (bytes: number) => void {
  let doneBytes = 0;
  return (bytes) => {
    doneBytes += bytes;
    listener?.progress({ phase, doneBytes, totalBytes: Math.max(expectedBytes, doneBytes) });
  };
}
