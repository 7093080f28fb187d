/**
 * Keys of encrypted artifacts: whom they are written for, and what opens them. What concerns age's own keys is left to its
 * library, which is loaded when it is needed.
 */
import type { Decrypter } from 'age-encryption';
import { GraphkeepError } from '../errors.ts';
import { type AgeHeader, parseHeader, stanzaTypes, writeHeader } from '../formats/age/header.ts';

export interface EncryptionIdentity {
  /** A secret: in no message. */
  readonly key: string;
  /** File and line, for messages. */
  readonly where: string;
}

export interface EncryptionSettings {
  /** Public keys; with any, artifacts are written encrypted, and each of them opens what is written. */
  readonly recipients: readonly string[];
  /** Private keys. */
  readonly identities: readonly EncryptionIdentity[];
  /** Say in the clear what an artifact is. */
  readonly clearHeader: boolean;
}

let settings: EncryptionSettings = { recipients: [], identities: [], clearHeader: false };
/** By the MAC of the header: what this process wrote it can read back and prove, without any private key. */
const ownFileKeys = new Map<string, Buffer>();

/** How artifacts are written and opened from now on. Said once, by the program. */
export function useEncryption(given: EncryptionSettings): void {
  settings = given;
  ownFileKeys.clear();
}

/** Whether artifacts are written encrypted. */
export function encryptsArtifacts(): boolean {
  return settings.recipients.length > 0;
}

export function writesClearHeader(): boolean {
  return encryptsArtifacts() && settings.clearHeader;
}

/** @throws GK_USAGE for one that is not a public key of age */
export async function checkRecipients(recipients: readonly string[]): Promise<void> {
  const { Encrypter } = await import('age-encryption');
  for (const recipient of recipients) {
    try {
      new Encrypter().addRecipient(recipient);
    } catch {
      throw new GraphkeepError('GK_USAGE', `'${recipient}' is not a public key of age`, {
        hint: 'it begins with age1; look for a typing error, and for a key of a plugin, which graphkeep does not take',
      });
    }
  }
}

/** A new key for one file, and the stanzas that hold it for every recipient. */
export async function makeFileKey(): Promise<{ fileKey: Buffer; stanzas: string }> {
  const { Encrypter } = await import('age-encryption');
  const encrypter = new Encrypter();
  for (const recipient of settings.recipients) encrypter.addRecipient(recipient);
  let fileKey: Buffer | undefined;
  // A recipient like the others, which is shown the key and takes no part.
  encrypter.addRecipient({
    wrapFileKey: (key) => {
      fileKey = Buffer.from(key);
      return [];
    },
  });
  const header = parseHeader(Buffer.from(await encrypter.encrypt(new Uint8Array(0))));
  if (fileKey === undefined || header === undefined)
    throw new GraphkeepError('GK_INTERNAL', 'the library of age made no key');
  return { fileKey, stanzas: header.stanzas };
}

/** What was written under this header can be opened by this process. */
export function rememberFileKey(header: Buffer, fileKey: Buffer): void {
  ownFileKeys.set(parseHeader(header)!.mac, fileKey);
}

/** The key of a file. @throws GK_KEY_MISSING, GK_ARTIFACT_CORRUPT when the header was changed */
export async function fileKeyOf(header: AgeHeader, path: string): Promise<Buffer> {
  const own = ownFileKeys.get(header.mac);
  if (own !== undefined && writeHeader(header.stanzas, own).equals(header.bytes)) return own;
  if (settings.identities.length === 0) throw keyMissing(header, path);
  const decrypter = await decrypterOfIdentities();
  let noneFits = false;
  // Asked last: then no key before it opened the file, and nothing else was wrong with it up to here.
  decrypter.addIdentity({
    unwrapFileKey: () => {
      noneFits = true;
      return null;
    },
  });
  try {
    return Buffer.from(await decrypter.decryptHeader(header.bytes));
  } catch (error) {
    if (noneFits) throw keyMissing(header, path);
    throw new GraphkeepError('GK_ARTIFACT_CORRUPT', `${path}: its age header was changed or is damaged`, {
      cause: error,
    });
  }
}

/** @throws GK_CONFIG for what is no key */
async function decrypterOfIdentities(): Promise<Decrypter> {
  const age = await import('age-encryption');
  const decrypter = new age.Decrypter();
  for (const { key, where } of settings.identities) {
    try {
      decrypter.addIdentity(key);
    } catch {
      throw new GraphkeepError('GK_CONFIG', `${where} is not a private key of age`, {
        hint: 'a line of the file begins with AGE-SECRET-KEY-1 or AGE-SECRET-KEY-PQ-1, and is whole',
      });
    }
  }
  return decrypter;
}

function keyMissing({ stanzas }: AgeHeader, path: string): GraphkeepError {
  if (stanzaTypes(stanzas).includes('scrypt')) {
    return new GraphkeepError('GK_KEY_MISSING', `${path} is encrypted with a passphrase`, {
      hint: 'graphkeep takes keys only: decrypt it with age --decrypt first',
    });
  }
  const message =
    settings.identities.length === 0
      ? `${path} is encrypted`
      : `${path} is encrypted for other keys than the given ones`;
  return new GraphkeepError('GK_KEY_MISSING', message);
}
