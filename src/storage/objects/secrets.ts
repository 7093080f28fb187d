/**
 * Keeps secrets out of what is said. The SDKs put whole requests into their errors: signed URLs, headers, connection
 * strings. So no error of theirs leaves the drivers, not even as a cause; what is repeated of their words goes through here.
 */
import { STORE_WORDS_SHOWN_MAX } from '../../limits.ts';

/** Shorter ones would black out half of every message, and are no secrets. */
const SECRET_CHARACTERS_MIN = 6;
const BLACKED_OUT = '***';

/** Secrets that nobody told us, by the looks of them. */
const PATTERNS: readonly RegExp[] = [
  /(?<=\b(?:sig|signature|x-amz-signature|x-amz-credential|x-amz-security-token|x-goog-signature)=)[^&\s"']+/gi,
  /(?<=\b(?:accountkey|sharedaccesssignature|password|client_secret|client_assertion|refresh_token)=)[^;&\s"']+/gi,
  /(?<=\b(?:authorization|x-amz-security-token|x-amz-[a-z-]*customer-key|x-ms-encryption-key)["']?\s*[:=]\s*).+/gi,
  /(?<=\b(?:bearer|sharedkey|aws4-hmac-sha256)\s).+/gi,
  /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g,
  /\beyJ[\w-]{8,}\.[\w.-]+/g,
  // A key in base64: nothing that an error has to say is a word this long of letters of both cases and digits.
  /(?<![\w+/-])(?=[\w+/]*[a-z])(?=[\w+/]*[A-Z])(?=[\w+/]*\d)[\w+/]{40,}={0,2}/g,
];

export type Scrub = (text: string) => string;

/** @param secrets those that are known; what is undefined or too short to be one is left out */
export function scrubber(secrets: readonly (string | undefined)[]): Scrub {
  const known = secrets
    .filter((secret) => secret !== undefined && secret.length >= SECRET_CHARACTERS_MIN)
    .flatMap((secret) => [secret!, encodeURIComponent(secret!)]);
  return (text) => {
    const withoutKnown = known.reduce((rest, secret) => rest.replaceAll(secret, BLACKED_OUT), text);
    return PATTERNS.reduce((rest, pattern) => rest.replace(pattern, BLACKED_OUT), withoutKnown);
  };
}

/** The first line of what somebody else said, bounded. */
export function shortWords(text: string, scrub: Scrub): string {
  // A store must not steer a terminal.
  const line = scrub(text)
    .replace(/\p{Cc}+/gu, ' ')
    .trim();
  return line.length > STORE_WORDS_SHOWN_MAX ? `${line.slice(0, STORE_WORDS_SHOWN_MAX)}…` : line;
}

/** What an error of an SDK may hand on as a cause: its name, its words and where it was thrown, nothing that hangs on it. */
export function cleanCause(error: unknown, scrub: Scrub): Error {
  if (!(error instanceof Error)) return new Error(shortWords(String(error), scrub));
  const cause = new Error(shortWords(error.message, scrub));
  cause.name = scrub(error.name);
  cause.stack = scrub(error.stack ?? '');
  return cause;
}
