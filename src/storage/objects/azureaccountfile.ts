/** The file of a Kubernetes secret with an account of Azure: two lines, its name and its key. */
import { GraphkeepError } from '../../errors.ts';
import { AZURE_ACCOUNT_FILE_BYTES_MAX } from '../../limits.ts';
import { readGuardedFile } from '../guardedfile.ts';

const NAME = 'AZURE_STORAGE_ACCOUNT_NAME';
const KEY = 'AZURE_STORAGE_ACCOUNT_KEY';

/** The key of this account. @throws GK_CONFIG, GK_NOT_FOUND, GK_NO_PERMISSION; never with the content */
export async function readAccountKey(file: string, account: string): Promise<string> {
  const content = await readGuardedFile(file, {
    what: 'the file of AZURE_STORAGE_ACCOUNT_FILE',
    bytesMax: AZURE_ACCOUNT_FILE_BYTES_MAX,
    // As for the files of the other clouds: what Kubernetes mounts can be read by all in its container.
    forbiddenMode: 0,
  });
  const text = content.toString('utf8');
  const [name, key] = [lineOf(NAME, text), lineOf(KEY, text)];
  if (key === undefined) {
    throw new GraphkeepError('GK_CONFIG', `${file} has no line ${KEY}=…`, {
      hint: `write two lines into it: ${NAME}=<account> and ${KEY}=<key>`,
    });
  }
  if (name === undefined || name === account) return key;
  throw new GraphkeepError('GK_CONFIG', `${file} is for the account ${name}, the URL names ${account}`, {
    hint: 'correct one of the two',
  });
}

function lineOf(name: string, text: string): string | undefined {
  return new RegExp(`^\\s*(?:export\\s+)?${name}\\s*=\\s*["']?([^"'\\s]+)["']?\\s*$`, 'm').exec(text)?.[1];
}
