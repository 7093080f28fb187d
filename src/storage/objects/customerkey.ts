/**
 * The key of a customer (SSE-C) out of its file. The store encrypts with it and forgets it: who loses the file has lost
 * the backups, and who reads it can read them.
 */
import { GraphkeepError } from '../../errors.ts';
import { CUSTOMER_KEY_BYTES, CUSTOMER_KEY_FILE_BYTES_MAX } from '../../limits.ts';
import { ANY_ACCESS_OF_OTHERS, readGuardedFile } from '../guardedfile.ts';

const BASE64 = /^[A-Za-z0-9+/]{43}=\s*$/;

/** 32 bytes as they are, or in base64. @throws GK_CONFIG, GK_NOT_FOUND, GK_NO_PERMISSION; never with the content */
export async function readCustomerKey(file: string): Promise<Buffer> {
  const content = await readGuardedFile(file, {
    what: 'the key of the encryption',
    bytesMax: CUSTOMER_KEY_FILE_BYTES_MAX,
    forbiddenMode: ANY_ACCESS_OF_OTHERS,
  });
  if (content.length === CUSTOMER_KEY_BYTES) return content;
  const text = content.toString('latin1');
  if (BASE64.test(text)) return Buffer.from(text, 'base64');
  throw new GraphkeepError('GK_CONFIG', `${file} holds no key of ${CUSTOMER_KEY_BYTES} bytes`, {
    hint: `make one with: umask 077; openssl rand ${CUSTOMER_KEY_BYTES} > ${file}`,
  });
}
