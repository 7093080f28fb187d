/** SHA-256 of bytes and of files of any size, as hexadecimal digits. */
import { createHash } from 'node:crypto';
import { throwIfAborted } from '../errors.ts';
import { CONFIGURATION_COPY_BYTES } from '../limits.ts';
import { openForReading } from '../storage/local.ts';

export function sha256Of(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}

/** In pieces of a bounded size. */
export async function hashFile(
  path: string,
  signal?: AbortSignal,
): Promise<{ bytes: number; sha256: string }> {
  const file = await openForReading(path);
  try {
    const hash = createHash('sha256');
    const buffer = Buffer.allocUnsafe(CONFIGURATION_COPY_BYTES);
    let bytes = 0;
    for (;;) {
      throwIfAborted(signal);
      const got = await file.read(buffer, bytes);
      if (got === 0) return { bytes, sha256: hash.digest('hex') };
      hash.update(buffer.subarray(0, got));
      bytes += got;
    }
  } finally {
    await file.close();
  }
}
