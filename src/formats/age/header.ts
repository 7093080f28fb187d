/**
 * The header of an age file, version 1 (https://age-encryption.org/v1): stanzas, each of which holds the key of the file in
 * some wrapping, and a MAC over all of them. What is in the stanzas of age itself is the business of its library.
 */
import { createHmac, hkdfSync } from 'node:crypto';
import { AGE_HEADER_BYTES_MAX } from '../../limits.ts';
import { FormatError } from '../formaterror.ts';

const VERSION_LINE = 'age-encryption.org/v1\n';
const MAGIC = Buffer.from(VERSION_LINE, 'latin1');
const MAC_MARK = '---';
const MAC_BYTES = 32;
/** Behind the mark a space, the MAC in base64 without padding, and the end of the line. */
const MAC_LINE_BYTES = MAC_MARK.length + 1 + Math.ceil((MAC_BYTES * 4) / 3) + 1;
const STANZA_MARK = '-> ';
const BODY_LINE_BYTES = 48;

export interface AgeHeader {
  /** Everything of it, the line of the MAC included; the payload follows. */
  readonly bytes: Buffer;
  /** As text, from behind the version to the mark of the MAC. */
  readonly stanzas: string;
  readonly mac: string;
}

/** Whether these first bytes of a file are those of an age file. */
export function isAge(start: Buffer): boolean {
  return start.subarray(0, MAGIC.length).equals(MAGIC);
}

/** @returns undefined when it goes on behind the given bytes. @throws FormatError */
export function parseHeader(start: Buffer): AgeHeader | undefined {
  const mark = start.indexOf(`\n${MAC_MARK} `);
  const end = mark < 0 ? -1 : start.indexOf('\n', mark + 1);
  if (end < 0 && start.length < AGE_HEADER_BYTES_MAX) return undefined;
  if (!isAge(start) || end < 0 || end - mark !== MAC_LINE_BYTES)
    throw new FormatError('its age header is damaged');
  return {
    bytes: Buffer.from(start.subarray(0, end + 1)),
    stanzas: start.toString('latin1', MAGIC.length, mark + 1),
    mac: start.toString('latin1', mark + 1 + MAC_MARK.length + 1, end),
  };
}

/** The whole header: its length depends on that of the stanzas alone. */
export function writeHeader(stanzas: string, fileKey: Buffer): Buffer {
  const text = `${VERSION_LINE}${stanzas}${MAC_MARK}`;
  const key = Buffer.from(hkdfSync('sha256', fileKey, '', 'header', MAC_BYTES));
  const mac = createHmac('sha256', key).update(text, 'latin1').digest('base64').replaceAll('=', '');
  return Buffer.from(`${text} ${mac}\n`, 'latin1');
}

/** A header with these stanzas has this many bytes. */
export function headerBytesOf(stanzas: string): number {
  return MAGIC.length + stanzas.length + MAC_LINE_BYTES;
}

/** One stanza as text; what does not know its type passes over it. */
export function writeStanza(type: string, body: Buffer): string {
  const lines: string[] = [];
  // A last line that is shorter ends the body, an empty one if need be.
  for (let at = 0; at <= body.length; at += BODY_LINE_BYTES) {
    const line = body.subarray(at, at + BODY_LINE_BYTES);
    lines.push(line.toString('base64').replaceAll('=', ''));
  }
  return `${STANZA_MARK}${type}\n${lines.join('\n')}\n`;
}

/** What the first stanza of that type holds. */
export function stanzaBody(stanzas: string, type: string): Buffer | undefined {
  const lines = stanzas.split('\n');
  const first = lines.indexOf(`${STANZA_MARK}${type}`);
  if (first < 0) return undefined;
  const next = lines.findIndex((line, number) => number > first && line.startsWith(STANZA_MARK));
  return Buffer.from(lines.slice(first + 1, next < 0 ? undefined : next).join(''), 'base64');
}

/** The type of each stanza. */
export function stanzaTypes(stanzas: string): string[] {
  const lines = stanzas.split('\n').filter((line) => line.startsWith(STANZA_MARK));
  return lines.map((line) => line.split(' ')[1] ?? '');
}
