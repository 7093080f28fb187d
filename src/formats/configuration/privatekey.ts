/**
 * Tells private keys from everything else that lies among certificates and settings, by content where that is certain
 * and by the name where a format hides it. Rather one file too many than one key: what is left out is named.
 */

/** PKCS#1, PKCS#8, SEC1, OpenSSH and PGP in their text forms, wherever in the file. */
const ARMOURED_KEY = /-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|^PuTTY-User-Key-File-/m;
const KEY_SUFFIXES = /\.(key|p8|pk8|p12|pfx|pkcs12|jks|jceks|keystore|bcfks|ppk)$/i;
/** `FEEDFEED` begins a JKS, `CECECECE` a JCEKS; the first may hold certificates only, which cannot be told cheaply. */
const KEYSTORE_MAGICS: readonly number[] = [0xfeedfeed, 0xcececece];

const DER_SEQUENCE = 0x30;
const DER_INTEGER = 0x02;
const DER_OBJECT_IDENTIFIER = 0x06;

/** By its name alone, so that a key need not be readable to be left out. */
export function isKeyName(name: string): boolean {
  return KEY_SUFFIXES.test(name);
}

export function holdsPrivateKey(name: string, content: Buffer): boolean {
  if (isKeyName(name) || ARMOURED_KEY.test(content.toString('latin1'))) return true;
  if (content.length >= 4 && KEYSTORE_MAGICS.includes(content.readUInt32BE(0))) return true;
  return isBinaryKey(content);
}

/**
 * In DER, every form of a private key and PKCS#12 begin with a version number, or with the name of the cipher that hides
 * the key. Certificates and revocation lists begin with a sequence that holds neither.
 */
function isBinaryKey(content: Buffer): boolean {
  const outer = derContent(content, 0);
  if (outer === undefined) return false;
  if (content[outer] === DER_INTEGER && content[outer + 1] === 1) return true;
  const inner = derContent(content, outer);
  return inner !== undefined && content[inner] === DER_OBJECT_IDENTIFIER;
}

/** Where the content of the sequence begins that stands at `offset`; undefined when there is none. */
function derContent(bytes: Buffer, offset: number): number | undefined {
  const length = bytes[offset + 1];
  if (bytes[offset] !== DER_SEQUENCE || length === undefined) return undefined;
  // The high bit says that the low bits count the bytes of the length; 0x80 alone is BER, with an end mark instead.
  return offset + 2 + (length > 0x80 ? length & 0x7f : 0);
}
