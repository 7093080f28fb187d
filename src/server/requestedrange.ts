/** The header `Range` of a request. */
import type { FastifyRequest } from 'fastify';
import { GraphkeepError } from '../errors.ts';
import { RANGE_BYTES_MAX } from '../limits.ts';

/** Whole ranges only, of a length that the server is ready to hold in memory. @throws GK_USAGE */
export function rangeOf(request: FastifyRequest): { startBytes: number; bytes: number } {
  const match = /^bytes=(\d{1,15})-(\d{1,15})$/.exec(request.headers.range ?? '');
  if (match === null) throw new GraphkeepError('GK_USAGE', 'the range of the member is missing, or no range');
  const startBytes = Number(match[1]);
  const bytes = Number(match[2]) - startBytes + 1;
  if (bytes < 1 || bytes > RANGE_BYTES_MAX) {
    throw new GraphkeepError('GK_USAGE', `a range has 1 to ${RANGE_BYTES_MAX} bytes, not ${bytes}`);
  }
  return { startBytes, bytes };
}
