/**
 * Kernel version bytes: they pick the layout of log entries. Source: formats.md §2.3.
 * A byte that is not listed here belongs to a Neo4j that graphkeep does not know, and is refused: its entries
 * may have any layout, and a wrong guess would cut the log at the wrong place without a sign.
 */

import { FormatError } from '../formaterror.ts';

/** First kernel version of Neo4j 5.0; earlier logs have big-endian entries. */
export const KERNEL_VERSION_5_0 = 5;
export const KERNEL_VERSION_5_7 = 6;
export const KERNEL_VERSION_5_20 = 17;
export const KERNEL_VERSION_5_22 = 18;
export const KERNEL_VERSION_2025_05 = 22;
export const KERNEL_VERSION_2026_06 = 30;
export const KERNEL_VERSION_2026_08 = 32;

const NAMES: Readonly<Record<number, string>> = {
  5: '5.0',
  6: '5.7',
  7: '5.8',
  8: '5.9',
  9: '5.10',
  10: '5.11',
  11: '5.12',
  12: '5.13',
  13: '5.14',
  14: '5.15',
  15: '5.18',
  16: '5.19',
  17: '5.20',
  18: '5.22',
  19: '5.23',
  20: '5.25',
  21: '2025.04',
  22: '2025.05',
  23: '2025.07',
  24: '2025.08',
  25: '2025.09',
  26: '2025.10',
  27: '2025.11',
  28: '2026.01',
  29: '2026.02',
  30: '2026.06',
  31: '2026.07',
  32: '2026.08',
};

export function isKnownKernelVersion(byte: number): boolean {
  return NAMES[byte] !== undefined;
}

/** The Neo4j release that introduced a kernel version, for messages. */
export function kernelVersionName(byte: number): string {
  return NAMES[byte] ?? `unknown kernel version ${byte}`;
}

/** An entry of a Neo4j that is newer than this graphkeep: the caller says "unsupported", not "damaged". */
export class UnsupportedKernelVersionError extends FormatError {
  constructor(byte: number) {
    super(`entries of kernel version ${byte} are not supported`);
  }
}
