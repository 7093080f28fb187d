/**
 * The directory of a zip file, as far as the version of a jar needs it: names, sizes and places of the entries, and the
 * content of a small one. Source: PKWARE's APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.16. No zip64: what is asked for
 * lies in jars of a few megabytes, and a larger one has no version then.
 */
import { inflateRawSync } from 'node:zlib';
import { FormatError } from './formaterror.ts';

const END_SIGNATURE = 0x06054b50;
const ENTRY_SIGNATURE = 0x02014b50;
const LOCAL_SIGNATURE = 0x04034b50;
const END_BYTES = 22;
const ENTRY_BYTES = 46;
export const ZIP_LOCAL_HEADER_BYTES = 30;
/** The end record and the longest comment behind it: so much of the end of a file holds the record. */
export const ZIP_END_BYTES_MAX = END_BYTES + 0xffff;
const STORED = 0;
const DEFLATED = 8;

export interface ZipDirectoryPlace {
  readonly offset: number;
  readonly bytes: number;
}

export interface ZipEntry {
  readonly name: string;
  readonly method: number;
  readonly storedBytes: number;
  readonly bytes: number;
  /** Where its local header stands in the file. */
  readonly headerOffset: number;
}

/** Out of the last bytes of a file; undefined when it is no zip file. */
export function findZipDirectory(end: Buffer): ZipDirectoryPlace | undefined {
  for (let position = end.length - END_BYTES; position >= 0; position--) {
    if (end.readUInt32LE(position) !== END_SIGNATURE) continue;
    if (position + END_BYTES + end.readUInt16LE(position + 20) !== end.length) continue;
    return { bytes: end.readUInt32LE(position + 12), offset: end.readUInt32LE(position + 16) };
  }
  return undefined;
}

/** The entry of that name in the bytes of the directory. @throws FormatError when they are none */
export function findZipEntry(directory: Buffer, name: string): ZipEntry | undefined {
  for (let position = 0; position < directory.length; ) {
    if (position + ENTRY_BYTES > directory.length || directory.readUInt32LE(position) !== ENTRY_SIGNATURE) {
      throw new FormatError('the directory of the zip file holds something else than entries');
    }
    const nameEnd = position + ENTRY_BYTES + directory.readUInt16LE(position + 28);
    if (directory.toString('utf8', position + ENTRY_BYTES, nameEnd) === name) {
      return {
        name,
        method: directory.readUInt16LE(position + 10),
        storedBytes: directory.readUInt32LE(position + 20),
        bytes: directory.readUInt32LE(position + 24),
        headerOffset: directory.readUInt32LE(position + 42),
      };
    }
    position = nameEnd + directory.readUInt16LE(position + 30) + directory.readUInt16LE(position + 32);
  }
  return undefined;
}

/** How far behind its local header the content of an entry begins. @throws FormatError */
export function zipContentOffset(localHeader: Buffer): number {
  if (localHeader.length < ZIP_LOCAL_HEADER_BYTES || localHeader.readUInt32LE(0) !== LOCAL_SIGNATURE)
    throw new FormatError('an entry of the zip file has no header');
  return ZIP_LOCAL_HEADER_BYTES + localHeader.readUInt16LE(26) + localHeader.readUInt16LE(28);
}

/** @throws FormatError when the content is not what the directory says, or packed in a way that jars are not */
export function unpackZipEntry(entry: ZipEntry, stored: Buffer): Buffer {
  if (entry.method === STORED) return stored;
  if (entry.method !== DEFLATED) throw new FormatError(`${entry.name} is packed by method ${entry.method}`);
  try {
    return inflateRawSync(stored, { maxOutputLength: Math.max(entry.bytes, 1) });
  } catch (error) {
    throw new FormatError(
      `${entry.name} cannot be unpacked: ${error instanceof Error ? error.message : error}`,
    );
  }
}

/** The main attributes of a `META-INF/MANIFEST.MF`: `Name: value`, long values go on behind a blank. */
export function parseJarManifest(text: string): ReadonlyMap<string, string> {
  const [main = ''] = text.replaceAll('\r\n', '\n').replaceAll('\n ', '').split('\n\n');
  const attributes = main.split('\n').flatMap((line): [string, string][] => {
    const match = /^([A-Za-z0-9_-]+): (.*)$/.exec(line);
    return match === null ? [] : [[match[1]!, match[2]!]];
  });
  return new Map(attributes);
}
