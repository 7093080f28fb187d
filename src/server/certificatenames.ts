/**
 * The names that a certificate proves: its common name and the DNS names of its subjectAltName. Node gives the latter as
 * one text, in which a value with a comma or quote is quoted; taken apart without regard to the quotes, an address
 * `URI:x, DNS:admin` would make its owner `admin`.
 */
import type { X509Certificate } from 'node:crypto';

const namesKnown = new WeakMap<X509Certificate, readonly string[]>();

/** Of one certificate they are read once, since each request of a connection asks. */
export function certificateNames(certificate: X509Certificate): readonly string[] {
  const names = namesKnown.get(certificate) ?? readNames(certificate);
  namesKnown.set(certificate, names);
  return names;
}

function readNames(certificate: X509Certificate): string[] {
  const commonName = certificate.toLegacyObject().subject?.CN as string | string[] | undefined;
  const names = typeof commonName === 'string' ? [commonName] : (commonName ?? []);
  return [...names, ...dnsNames(certificate.subjectAltName ?? '')].filter((name) =>
    /^[\x20-\x7e]+$/.test(name),
  );
}

/** Exported for its test: no tool makes the certificates that it must withstand. */
export function dnsNames(subjectAltName: string): string[] {
  return splitOutsideQuotes(subjectAltName)
    .filter((entry) => entry.startsWith('DNS:'))
    .map((entry) => entry.slice('DNS:'.length))
    .filter((name) => !/["\s]/.test(name)); // a name that had to be quoted is none
}

function splitOutsideQuotes(text: string): string[] {
  const parts: string[] = [];
  let start = 0;
  let quoted = false;
  for (let position = 0; position < text.length; position += 1) {
    const character = text.charAt(position);
    if (quoted && character === '\\') position += 1;
    else if (character === '"') quoted = !quoted;
    else if (character === ',' && !quoted) {
      parts.push(text.slice(start, position).trim());
      start = position + 1;
    }
  }
  parts.push(text.slice(start).trim());
  return parts;
}
