/**
 * The text format of `neo4j.conf`: Java's `.properties`, because Neo4j reads the file with that reader. It owns the
 * splitting of text into keys and values and knows no setting. A simpler "key=value, trimmed" reader would disagree
 * with the server on continued lines, on `key value` and `key: value`, on escapes and on blanks at the end of a
 * value, and a backup would then read another folder than the one the server writes.
 */

export interface Property {
  readonly key: string;
  readonly value: string;
}

const BLANK = /[ \t\f]/;

/** @throws SyntaxError for a `\u` escape that is not four hexadecimal digits, as Java's reader does. */
export function parseProperties(text: string): Property[] {
  const properties: Property[] = [];
  for (const line of logicalLines(text)) {
    properties.push(splitLine(line));
  }
  return properties;
}

/** Joins continued lines. Comments and empty lines are dropped; a comment sign inside a continuation is text. */
function logicalLines(text: string): string[] {
  const lines: string[] = [];
  let continued: string | undefined;
  for (const natural of text.split(/\r\n|\n|\r/)) {
    const stripped = natural.replace(/^[ \t\f]+/, '');
    if (
      continued === undefined &&
      (stripped === '' || stripped.startsWith('#') || stripped.startsWith('!'))
    ) {
      continue;
    }
    const whole = (continued ?? '') + stripped;
    continued = endsInContinuation(stripped) ? whole.slice(0, -1) : undefined;
    if (continued === undefined) lines.push(whole);
  }
  if (continued !== undefined && continued !== '') lines.push(continued);
  return lines;
}

/** An odd number of backslashes at the end; an even number is escaped backslashes. */
function endsInContinuation(line: string): boolean {
  const trailing = /\\*$/.exec(line)?.[0].length ?? 0;
  return trailing % 2 === 1;
}

function splitLine(line: string): Property {
  let keyEnd = 0;
  while (keyEnd < line.length && !isKeyEnd(line.charAt(keyEnd))) {
    keyEnd += line.charAt(keyEnd) === '\\' ? 2 : 1;
  }
  keyEnd = Math.min(keyEnd, line.length);
  let valueStart = skipBlanks(line, keyEnd);
  const separator = line.charAt(valueStart);
  if (separator === '=' || separator === ':') valueStart = skipBlanks(line, valueStart + 1);
  return { key: unescapeText(line.slice(0, keyEnd)), value: unescapeText(line.slice(valueStart)) };
}

function isKeyEnd(character: string): boolean {
  return character === '=' || character === ':' || BLANK.test(character);
}

function skipBlanks(line: string, from: number): number {
  let position = from;
  while (position < line.length && BLANK.test(line.charAt(position))) position += 1;
  return position;
}

const ESCAPES: Readonly<Record<string, string>> = { t: '\t', n: '\n', r: '\r', f: '\f' };

function unescapeText(text: string): string {
  return text.replace(/\\(u[0-9a-fA-F]{4}|[\s\S]|$)/g, (_whole, escaped: string) => {
    if (escaped.length === 5) return String.fromCharCode(Number.parseInt(escaped.slice(1), 16));
    if (escaped === 'u') throw new SyntaxError('malformed \\u escape: four hexadecimal digits must follow');
    return ESCAPES[escaped] ?? escaped;
  });
}
