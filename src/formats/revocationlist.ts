/**
 * The few fields of a certificate revocation list and of a certificate that Node does not tell: whose list it is, and
 * until when it is good (RFC 5280, DER). Signatures and entries are OpenSSL's business; this only lets a missing or
 * outdated list be named when the files are read, instead of refusing every connection later.
 */
import { FormatError } from './formaterror.ts';

export interface RevocationList {
  /** The issuer's name as it is encoded. */
  readonly issuer: Buffer;
  readonly thisUpdate: Date;
  /** Without it a list would be good for ever, which RFC 5280 does not allow. */
  readonly nextUpdate: Date | undefined;
}

export interface CertificateNames {
  readonly subject: Buffer;
  readonly issuer: Buffer;
}

const SEQUENCE = 0x30;
const INTEGER = 0x02;
const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;
const EXPLICIT_0 = 0xa0;
const LENGTH_BYTES_MAX = 4;

interface Element {
  readonly tag: number;
  readonly content: Buffer;
  /** Tag and length included. */
  readonly whole: Buffer;
}

export function parseRevocationList(der: Buffer): RevocationList {
  const list = expect(elements(der)[0], SEQUENCE, 'revocation list');
  const fields = elements(expect(elements(list.content)[0], SEQUENCE, 'revocation list').content);
  const first = fields[0]?.tag === INTEGER ? 1 : 0; // the version is optional
  expect(fields[first], SEQUENCE, 'signature algorithm');
  const issuer = expect(fields[first + 1], SEQUENCE, 'issuer');
  const thisUpdate = time(fields[first + 2]);
  if (thisUpdate === undefined) throw new FormatError('a revocation list without a date');
  return { issuer: issuer.whole, thisUpdate, nextUpdate: time(fields[first + 3]) };
}

export function parseCertificateNames(der: Buffer): CertificateNames {
  const certificate = expect(elements(der)[0], SEQUENCE, 'certificate');
  const fields = elements(expect(elements(certificate.content)[0], SEQUENCE, 'certificate').content);
  const first = fields[0]?.tag === EXPLICIT_0 ? 1 : 0; // the version is optional
  expect(fields[first], INTEGER, 'serial number');
  const issuer = expect(fields[first + 2], SEQUENCE, 'issuer');
  return { issuer: issuer.whole, subject: expect(fields[first + 4], SEQUENCE, 'subject').whole };
}

function expect(element: Element | undefined, tag: number, what: string): Element {
  if (element?.tag !== tag) throw new FormatError(`no ${what} where one must be`);
  return element;
}

function elements(bytes: Buffer): Element[] {
  const found: Element[] = [];
  for (let position = 0; position < bytes.length; ) {
    const { headBytes, contentBytes } = head(bytes, position);
    const end = position + headBytes + contentBytes;
    if (end > bytes.length) throw new FormatError('an element that is longer than what holds it');
    found.push({
      tag: bytes[position]!,
      content: bytes.subarray(position + headBytes, end),
      whole: bytes.subarray(position, end),
    });
    position = end;
  }
  return found;
}

function head(bytes: Buffer, position: number): { headBytes: number; contentBytes: number } {
  const short = bytes[position + 1];
  if (short === undefined) throw new FormatError('it ends within an element');
  if (short < 0x80) return { headBytes: 2, contentBytes: short };
  const lengthBytes = short & 0x7f;
  if (lengthBytes === 0 || lengthBytes > LENGTH_BYTES_MAX || position + 2 + lengthBytes > bytes.length) {
    throw new FormatError('an element without a length');
  }
  return { headBytes: 2 + lengthBytes, contentBytes: bytes.readUIntBE(position + 2, lengthBytes) };
}

/** `YYMMDDHHMMSSZ` with years from 1950 to 2049, or `YYYYMMDDHHMMSSZ`: the only forms that RFC 5280 allows. */
function time(element: Element | undefined): Date | undefined {
  if (element?.tag !== UTC_TIME && element?.tag !== GENERALIZED_TIME) return undefined;
  const text = element.content.toString('latin1');
  const digits = element.tag === UTC_TIME ? `${Number(text.slice(0, 2)) < 50 ? '20' : '19'}${text}` : text;
  const [, year, month, day, hour, minute, second] =
    /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(digits) ?? [];
  const date = new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  if (Number.isNaN(date.getTime())) throw new FormatError('a date that is none');
  return date;
}
