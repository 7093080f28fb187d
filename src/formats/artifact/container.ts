/**
 * The containers of `.backup` artifacts and where each keeps its descriptor. Source: formats.md §8.
 */
import { FormatError } from '../formaterror.ts';

export interface Container {
  readonly magic: string;
  readonly descriptorVersion: 1 | 2;
  /** The tar is inside a zstd stream. */
  readonly compressedTar: boolean;
  /** The descriptor is inside that stream, too. */
  readonly compressedDescriptor: boolean;
}

export const MAGIC_BYTES = 4;
/** Word at the start of the decompressed stream. */
export const ZSTD_WORD = Buffer.from('zstd', 'latin1');
/** `i32 version, i64 files, i64 bytes`, between descriptor and tar of compressed containers. */
export const ARCHIVE_METADATA_BYTES = 20;
const ARCHIVE_METADATA_VERSION = 1;

const CONTAINERS: readonly Container[] = [
  { magic: 'BTV1', descriptorVersion: 1, compressedTar: false, compressedDescriptor: false },
  { magic: 'BTV2', descriptorVersion: 2, compressedTar: false, compressedDescriptor: false },
  { magic: 'BZV1', descriptorVersion: 1, compressedTar: true, compressedDescriptor: true },
  { magic: 'BZV2', descriptorVersion: 2, compressedTar: true, compressedDescriptor: true },
  { magic: 'BZV3', descriptorVersion: 2, compressedTar: true, compressedDescriptor: false },
];

/** The container whose magic the bytes start with; undefined when they are no artifact. */
export function containerOf(bytes: Buffer): Container | undefined {
  const magic = bytes.toString('latin1', 0, MAGIC_BYTES);
  return CONTAINERS.find((container) => container.magic === magic);
}

/** Version byte that stands before a descriptor of version 2. @returns where the descriptor starts. */
export function descriptorStart(container: Container, bytes: Buffer, offset: number): number {
  if (container.descriptorVersion === 1) return offset;
  if (bytes[offset] !== 2) throw new FormatError(`artifact descriptor of unknown version ${bytes[offset]}`);
  return offset + 1;
}

export function writeArchiveMetadata(files: number, bytes: number): Buffer {
  const metadata = Buffer.alloc(ARCHIVE_METADATA_BYTES);
  metadata.writeInt32BE(ARCHIVE_METADATA_VERSION, 0);
  metadata.writeBigInt64BE(BigInt(files), 4);
  metadata.writeBigInt64BE(BigInt(bytes), 12);
  return metadata;
}
