/**
 * `segments_N` of a Lucene directory: which segments a commit consists of.
 * Source: the public file format of Apache Lucene 9 and 10 (`SegmentInfos`); checked on files of both Neo4j lines.
 * Segment files are written once and never changed, so a commit's files can be copied at any later time as long as
 * they are held open.
 */
import { FormatError } from './formaterror.ts';

const CODEC_MAGIC = 0x3fd76c17;
const FOOTER_MAGIC = 0xc02893e8;
const FOOTER_BYTES = 16;
const ID_BYTES = 16;
const SEGMENT_COUNT_MAX = 1_000_000;

class Cursor {
  readonly #bytes: Buffer;
  offset = 0;
  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }
  byte(): number {
    const value = this.#bytes[this.offset];
    if (value === undefined) throw new FormatError('segments file is cut short');
    this.offset++;
    return value;
  }
  skip(count: number): void {
    this.offset += count;
    if (this.offset > this.#bytes.length) throw new FormatError('segments file is cut short');
  }
  int32(): number {
    this.skip(4);
    return this.#bytes.readInt32BE(this.offset - 4);
  }
  vint(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if ((byte & 0x80) === 0) return value;
    }
    throw new FormatError('segments file holds a number that does not end');
  }
  vlong(): void {
    for (let count = 0; count < 10; count++) if ((this.byte() & 0x80) === 0) return;
    throw new FormatError('segments file holds a number that does not end');
  }
  text(): string {
    const length = this.vint();
    this.skip(length);
    return this.#bytes.toString('utf8', this.offset - length, this.offset);
  }
  texts(): void {
    const count = this.vint();
    for (let index = 0; index < count; index++) this.text();
  }
}

/** Names of the segments (`_0`, `_1a`) of the commit. @throws FormatError */
export function parseSegments(bytes: Buffer): string[] {
  const cursor = new Cursor(bytes);
  if (cursor.int32() !== CODEC_MAGIC) throw new FormatError('not a Lucene segments file');
  if (cursor.text() !== 'segments') throw new FormatError('not a Lucene segments file');
  cursor.skip(4 + ID_BYTES); // format version, id of the commit
  cursor.skip(cursor.byte()); // suffix: the generation as text
  for (let index = 0; index < 3; index++) cursor.vint(); // Lucene version
  cursor.vint(); // major version that created the index
  cursor.skip(8); // version of the commit
  cursor.vlong(); // name counter
  const count = cursor.int32();
  if (count < 0 || count > SEGMENT_COUNT_MAX) throw new FormatError(`segments file names ${count} segments`);
  if (count > 0) for (let index = 0; index < 3; index++) cursor.vint(); // oldest Lucene version among them
  const names: string[] = [];
  for (let index = 0; index < count; index++) names.push(readSegment(cursor));
  const userData = cursor.vint();
  for (let index = 0; index < userData; index++) {
    cursor.text();
    cursor.text();
  }
  if (cursor.offset !== bytes.length - FOOTER_BYTES || bytes.readUInt32BE(cursor.offset) !== FOOTER_MAGIC) {
    throw new FormatError('segments file does not end where its content does');
  }
  return names;
}

function readSegment(cursor: Cursor): string {
  const name = cursor.text();
  cursor.skip(ID_BYTES);
  cursor.text(); // codec
  cursor.skip(8 + 4 + 8 + 8 + 4); // generations and counts of deletes, field infos, doc values, soft deletes
  if (cursor.byte() === 1) cursor.skip(ID_BYTES);
  cursor.texts(); // field infos files
  const updates = cursor.int32();
  for (let index = 0; index < updates; index++) {
    cursor.skip(4);
    cursor.texts();
  }
  return name;
}

/** The segment a file belongs to: `_1a` for `_1a.cfs` and `_1a_Lucene90_0.dvd`; undefined for other files. */
export function segmentOfFile(fileName: string): string | undefined {
  return /^(_[0-9a-z]+)[._]/.exec(fileName)?.[1];
}

/** Generation of `segments_<base 36>`; undefined for every other file, `pending_segments_…` included. */
export function segmentsGeneration(fileName: string): number | undefined {
  const match = /^segments_([0-9a-z]+)$/.exec(fileName);
  return match === null ? undefined : Number.parseInt(match[1]!, 36);
}
