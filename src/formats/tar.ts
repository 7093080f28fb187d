/**
 * Tar headers of regular files, as far as artifacts and dumps need them: POSIX ustar written, and ustar, pax and
 * GNU long names read. Source: POSIX.1 `pax`; what stock `load` expects: formats.md §7.
 * Owner, mode and time are constants: a restored file takes those of its new home.
 */
import { FormatError } from './formaterror.ts';

export const TAR_BLOCK_BYTES = 512;
/** Two blocks of zeros end an archive. */
export const TAR_END_BYTES = 2 * TAR_BLOCK_BYTES;
const NAME_BYTES = 100;
const PREFIX_BYTES = 155;
/** Eleven octal digits; larger sizes are written in base 256. */
const OCTAL_SIZE_MAX = 0o77777777777;
const MODIFIED_SECONDS = 946_727_935; // 2000-01-01T11:58:55Z, the fixed time that Neo4j 2026 writes
export const TAR_PATH_BYTES_MAX = 4096;

export type TarEntryType = 'file' | 'directory' | 'paxHeader' | 'gnuLongName' | 'other';

export interface TarHeader {
  readonly path: string;
  readonly bytes: number;
  readonly type: TarEntryType;
}

/** Bytes from the end of the content to the next header. */
export function tarPadding(bytes: number): number {
  return (TAR_BLOCK_BYTES - (bytes % TAR_BLOCK_BYTES)) % TAR_BLOCK_BYTES;
}

/** Header of a regular file. @throws FormatError for a path that does not fit a ustar header. */
export function writeTarHeader(path: string, bytes: number): Buffer {
  const header = Buffer.alloc(TAR_BLOCK_BYTES);
  const { name, prefix } = splitPath(path);
  header.write(name, 0, 'utf8');
  writeOctal(header, 0o600, 100, 8);
  writeOctal(header, 0, 108, 8);
  writeOctal(header, 0, 116, 8);
  writeSize(header, bytes);
  writeOctal(header, MODIFIED_SECONDS, 136, 12);
  header.write('0', 156, 'latin1');
  header.write('ustar\u000000', 257, 'latin1');
  header.write(prefix, 345, 'utf8');
  writeOctal(header, checksumOf(header), 148, 7);
  header[155] = 0x20;
  return header;
}

function splitPath(path: string): { name: string; prefix: string } {
  if (Buffer.byteLength(path) <= NAME_BYTES) return { name: path, prefix: '' };
  for (let slash = path.indexOf('/'); slash > 0; slash = path.indexOf('/', slash + 1)) {
    const prefix = path.slice(0, slash);
    const name = path.slice(slash + 1);
    if (Buffer.byteLength(name) <= NAME_BYTES && Buffer.byteLength(prefix) <= PREFIX_BYTES)
      return { name, prefix };
  }
  throw new FormatError(`path is too long for a tar header: ${path}`);
}

function writeOctal(header: Buffer, value: number, offset: number, width: number): void {
  header.write(value.toString(8).padStart(width - 1, '0'), offset, 'latin1');
}

function writeSize(header: Buffer, bytes: number): void {
  if (bytes <= OCTAL_SIZE_MAX) {
    writeOctal(header, bytes, 124, 12);
    return;
  }
  header[124] = 0x80;
  header.writeBigUInt64BE(BigInt(bytes), 128);
}

function checksumOf(header: Buffer): number {
  let sum = 0;
  for (let index = 0; index < TAR_BLOCK_BYTES; index++)
    sum += index >= 148 && index < 156 ? 0x20 : header[index]!;
  return sum;
}

/**
 * Parses the header block at `offset`. @returns undefined for a block of zeros (end of the archive).
 * @throws FormatError on a wrong checksum or an impossible size.
 */
export function parseTarHeader(bytes: Buffer, offset = 0): TarHeader | undefined {
  const header = bytes.subarray(offset, offset + TAR_BLOCK_BYTES);
  if (header.length < TAR_BLOCK_BYTES) throw new FormatError('tar header is cut short');
  if (header.every((byte) => byte === 0)) return undefined;
  if (checksumOf(header) !== readOctal(header, 148, 8))
    throw new FormatError('tar header fails its checksum');
  const prefix = text(header, 345, PREFIX_BYTES);
  const name = text(header, 0, NAME_BYTES);
  const isUstar = header.toString('latin1', 257, 262) === 'ustar';
  return {
    path: isUstar && prefix !== '' ? `${prefix}/${name}` : name,
    bytes: readSize(header),
    type: entryType(header[156]!),
  };
}

function entryType(flag: number): TarEntryType {
  switch (String.fromCharCode(flag)) {
    case '\0':
    case '0':
      return 'file';
    case '5':
      return 'directory';
    case 'x':
      return 'paxHeader';
    case 'L':
      return 'gnuLongName';
    default:
      return 'other';
  }
}

function text(header: Buffer, offset: number, width: number): string {
  const field = header.subarray(offset, offset + width);
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end < 0 ? width : end);
}

function readOctal(header: Buffer, offset: number, width: number): number {
  const digits = text(header, offset, width).trim();
  if (!/^[0-7]*$/.test(digits)) throw new FormatError('tar header holds a number that is not octal');
  return digits === '' ? 0 : Number.parseInt(digits, 8);
}

function readSize(header: Buffer): number {
  if ((header[124]! & 0x80) === 0) return readOctal(header, 124, 12);
  const size = header.readBigUInt64BE(128);
  if (size > BigInt(Number.MAX_SAFE_INTEGER))
    throw new FormatError(`tar entry of an impossible size: ${size}`);
  return Number(size);
}

/** `path` and `size` of a pax extended header; other keys do not matter here. @throws FormatError */
export function parsePaxRecords(content: Buffer): { path?: string; bytes?: number } {
  const result: { path?: string; bytes?: number } = {};
  let offset = 0;
  while (offset < content.length && content[offset] !== 0) {
    const space = content.indexOf(0x20, offset);
    const length = Number.parseInt(content.toString('latin1', offset, space), 10);
    if (
      space < 0 ||
      !Number.isSafeInteger(length) ||
      length <= space - offset ||
      offset + length > content.length
    ) {
      throw new FormatError('pax header holds a record of impossible length');
    }
    const record = content.toString('utf8', space + 1, offset + length - 1);
    const equals = record.indexOf('=');
    const value = record.slice(equals + 1);
    if (record.slice(0, equals) === 'path') result.path = value;
    if (record.slice(0, equals) === 'size') result.bytes = paxSize(value);
    offset += length;
  }
  return result;
}

function paxSize(digits: string): number {
  const size = /^\d+$/.test(digits) ? Number(digits) : Number.NaN;
  if (!Number.isSafeInteger(size)) throw new FormatError('pax header gives a size that is none');
  return size;
}

/**
 * The path of a member relative to its root, `./` removed. @throws FormatError when it would leave the root:
 * an absolute path, a `..` step, a NUL or a backslash in it.
 */
export function safeMemberPath(path: string): string {
  const steps = path.split('/').filter((step) => step !== '.' && step !== '');
  const escapes = path.startsWith('/') || steps.includes('..') || /[\0\\]/.test(path);
  if (escapes || steps.length === 0 || Buffer.byteLength(path) > TAR_PATH_BYTES_MAX) {
    throw new FormatError(`member path leaves its folder or is none: ${JSON.stringify(path.slice(0, 200))}`);
  }
  return steps.join('/');
}
