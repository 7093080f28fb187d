/**
 * Names and values as parts of a Cypher text that nobody reads before it is run. Names come out of a database, so they may
 * hold anything: none may end its own quotes, start a new statement or hide in a comment.
 *
 * Neo4j 5 replaces `\uXXXX` wherever it stands, before it looks for quotes and comments: a name that holds the six
 * characters of an escaped backtick would end its quotes. So a backslash is written as its own escape.
 */

const BACKSLASH = 0x5c;
const DELETE = 0x7f;
const LAST_C1 = 0x9f;
const LINE_SEPARATOR = 0x2028;
const PARAGRAPH_SEPARATOR = 0x2029;

/** A name in backticks. */
export function quoteName(name: string): string {
  const inner = Array.from(name, (character) => (character === '`' ? '``' : escaped(character))).join('');
  return `\`${inner}\``;
}

/** What a reader of the script may see of a name in a comment; what could mean anything to Neo4j is left out. */
export function plainName(name: string): string {
  return name.replace(/[^A-Za-z0-9_.@-]/g, '?');
}

function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  const isSpecial =
    code < 0x20 ||
    code === BACKSLASH ||
    (code >= DELETE && code <= LAST_C1) ||
    code === LINE_SEPARATOR ||
    code === PARAGRAPH_SEPARATOR;
  return isSpecial ? `\\u${code.toString(16).toUpperCase().padStart(4, '0')}` : character;
}
