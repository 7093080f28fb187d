/** Whom artifacts are encrypted for, and what opens them. Private keys are read from files, never from the command line. */
import type { Command } from 'commander';
import { checkRecipients, type EncryptionIdentity, useEncryption } from '../artifact/encryption.ts';
import { GraphkeepError } from '../errors.ts';
import { AGE_KEY_FILE_BYTES_MAX, AGE_RECIPIENTS_MAX } from '../limits.ts';
import { READABLE_BY_OTHERS, readGuardedFile, WRITABLE_BY_OTHERS } from '../storage/guardedfile.ts';
import type { CliContext } from './context.ts';
import { booleanOption, parseLocalPath, severalOption, usageError } from './options.ts';

interface EncryptionOptions {
  encryptTo?: readonly string[];
  clearHeader?: boolean;
  identity?: readonly string[];
}

const IDENTITY_VARIABLE = 'GRAPHKEEP_IDENTITY';
const SECRET_KEY = /^AGE-SECRET-KEY-/i;
const POST_QUANTUM = /^age1(tag)?pq1/;

/** For commands that write artifacts, and read the ones that they build on. */
export function addEncryptionOptions(command: Command, context: CliContext): Command {
  command
    .addOption(
      severalOption(
        '--encrypt-to <key|file>',
        'Encrypt artifacts for this public key of age, or those of a file; may be given several times',
        (_name, value) => value,
      ),
    )
    .addOption(
      booleanOption(
        '--clear-header',
        'With --encrypt-to: leave database, time and range readable without a key',
        false,
      ),
    );
  return addIdentityOption(command, context);
}

/** For commands that read artifacts. */
export function addIdentityOption(command: Command, context: CliContext): Command {
  command.addOption(
    severalOption(
      '--identity <file>',
      `Private keys of age that open encrypted artifacts; may be given several times (default: $${IDENTITY_VARIABLE})`,
      parseLocalPath,
    ),
  );
  return command.hook('preAction', async (_command, acting) => {
    const options = acting.opts<EncryptionOptions>();
    if (options.clearHeader === true && options.encryptTo === undefined)
      throw usageError('--clear-header needs --encrypt-to', 'give both, or none');
    useEncryption({
      recipients: await readRecipients(options.encryptTo ?? []),
      identities: await readIdentities(options.identity ?? identityOf(context)),
      clearHeader: options.clearHeader === true,
    });
  });
}

function identityOf({ environment }: CliContext): string[] {
  const file = environment[IDENTITY_VARIABLE];
  return file === undefined || file === '' ? [] : [file];
}

/** @throws GK_USAGE before anything is copied */
async function readRecipients(given: readonly string[]): Promise<string[]> {
  const recipients: string[] = [];
  for (const value of given) {
    refuseForeignKey(value, '--encrypt-to');
    if (/^age1[a-z0-9]+$/i.test(value)) recipients.push(value);
    else recipients.push(...(await recipientsOfFile(parseLocalPath('--encrypt-to', value))));
  }
  if (recipients.length === 0) return [];
  if (recipients.length > AGE_RECIPIENTS_MAX)
    throw usageError(`--encrypt-to gives ${recipients.length} keys; ${AGE_RECIPIENTS_MAX} are allowed`);
  await checkRecipients(recipients);
  // One key that a quantum computer breaks would open what the others keep closed to it. The stock tool refuses this, too.
  const postQuantum = recipients.filter((recipient) => POST_QUANTUM.test(recipient));
  if (postQuantum.length > 0 && postQuantum.length < recipients.length)
    throw usageError('--encrypt-to mixes post-quantum keys with others', 'give keys of one kind');
  return recipients;
}

async function recipientsOfFile(file: string): Promise<string[]> {
  const lines = await linesOf(file, { what: 'the file of public keys', forbiddenMode: WRITABLE_BY_OTHERS });
  for (const { text, where } of lines) {
    refuseForeignKey(text, where);
    if (!/^age1/i.test(text)) throw usageError(`${where} is not a public key of age`);
  }
  // Silently encrypting for nobody would be silently not encrypting.
  if (lines.length === 0) throw usageError(`${file} holds no public key`);
  return lines.map(({ text }) => text);
}

/** What age knows and graphkeep does not take. A private key is not repeated. */
function refuseForeignKey(text: string, where: string): void {
  if (SECRET_KEY.test(text)) {
    throw usageError(
      `${where} is a private key, which does not belong on a backup host`,
      'give the public key, which age-keygen -y prints; and if it stood on a command line, make a new pair',
    );
  }
  if (/^(ssh-|ecdsa-)/.test(text))
    throw usageError(`${where} is an SSH key, which graphkeep does not take`, 'make a key with age-keygen');
}

async function readIdentities(files: readonly string[]): Promise<EncryptionIdentity[]> {
  const identities: EncryptionIdentity[] = [];
  for (const file of files) {
    if (SECRET_KEY.test(file)) {
      throw usageError(
        'a private key was given itself, where others can see it',
        'write it to a file of mode 0600 and give its path; and better make a new pair',
      );
    }
    const lines = await linesOf(file, {
      what: 'the file of private keys',
      forbiddenMode: READABLE_BY_OTHERS | WRITABLE_BY_OTHERS,
    });
    refuseForeignIdentity(file, lines[0]?.text ?? '');
    identities.push(...lines.map(({ text, where }) => ({ key: text, where })));
  }
  return identities;
}

function refuseForeignIdentity(file: string, first: string): void {
  const message = /^(age-encryption\.org\/|-----BEGIN AGE)/.test(first)
    ? `${file} is encrypted itself`
    : first.startsWith('-----BEGIN')
      ? `${file} is a key of another kind than those of age`
      : first === ''
        ? `${file} holds no private key`
        : undefined;
  if (message === undefined) return;
  throw new GraphkeepError('GK_CONFIG', message, {
    hint: 'graphkeep takes files as age-keygen writes them: AGE-SECRET-KEY-1…, or AGE-SECRET-KEY-PQ-1…',
  });
}

/** Without comments and empty lines. */
async function linesOf(
  file: string,
  { what, forbiddenMode }: { what: string; forbiddenMode: number },
): Promise<{ text: string; where: string }[]> {
  const content = await readGuardedFile(file, { what, bytesMax: AGE_KEY_FILE_BYTES_MAX, forbiddenMode });
  return content
    .toString('utf8')
    .split('\n')
    .map((line, number) => ({ text: line.trim(), where: `${file}, line ${number + 1},` }))
    .filter(({ text }) => text !== '' && !text.startsWith('#'));
}
