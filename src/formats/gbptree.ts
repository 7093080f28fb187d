/**
 * The parts of a GBPTree that decide whether a copy is from one moment: its meta page and its two state pages.
 * Source: formats.md §6. A page of the stable generation is never changed in place, and pages of that
 * generation are reused only after a newer state was written; so a copy is good if both state pages are the
 * same before and after it.
 */
import { FormatError } from './formaterror.ts';

export const TREE_PAGE_BYTES = 8192;
/** Meta page, state A, state B. */
export const TREE_HEAD_BYTES = 3 * TREE_PAGE_BYTES;
const STATE_BYTES = 57;

export interface TreeState {
  readonly stableGeneration: number;
  readonly unstableGeneration: number;
  readonly rootId: bigint;
  readonly lastId: bigint;
  readonly clean: boolean;
}

/** The state recovery will use: the valid one with the larger stable generation; equal: the clean one. */
export function currentTreeState(head: Buffer): TreeState {
  if (head.length < TREE_HEAD_BYTES) throw new FormatError('tree file is shorter than its three head pages');
  const states = [parseState(head, TREE_PAGE_BYTES), parseState(head, 2 * TREE_PAGE_BYTES)].filter(
    (state) => state !== undefined,
  );
  const best = states.sort(
    (left, right) =>
      right.stableGeneration - left.stableGeneration || Number(right.clean) - Number(left.clean),
  )[0];
  if (best === undefined) throw new FormatError('tree file has no valid state page');
  return best;
}

function parseState(head: Buffer, offset: number): TreeState | undefined {
  const first = head.subarray(offset, offset + STATE_BYTES);
  const second = head.subarray(offset + STATE_BYTES, offset + 2 * STATE_BYTES);
  if (!first.equals(second) || first.every((byte) => byte === 0)) return undefined;
  return {
    stableGeneration: first.readUInt32BE(0),
    unstableGeneration: first.readUInt32BE(4),
    rootId: first.readBigInt64BE(8),
    lastId: first.readBigInt64BE(24),
    clean: first.readUInt8(56) !== 0,
  };
}
