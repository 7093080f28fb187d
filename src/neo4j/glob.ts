/**
 * Database names and the patterns for them. Names follow Neo4j's rules, which also keep them inside the folder they
 * are joined to: no slash, no leading dot, nothing but ASCII. Patterns know `*` and `?` only.
 */
import { GraphkeepError } from '../errors.ts';

const NAME_LENGTH_MIN = 3;
const NAME_LENGTH_MAX = 63;

/**
 * The name as Neo4j stores it, in lower case.
 * @throws GraphkeepError GK_USAGE when it cannot be the name of a database.
 */
export function normalizeDatabaseName(name: string): string {
  const normalized = name.toLowerCase();
  if (normalized.length < NAME_LENGTH_MIN || normalized.length > NAME_LENGTH_MAX) {
    throw invalidName(name, `a name has ${NAME_LENGTH_MIN} to ${NAME_LENGTH_MAX} characters`);
  }
  // 2026 allows a digit in front, 5.26 does not; a dot or dash in front is refused by both.
  if (!/^[a-z0-9]/.test(normalized)) throw invalidName(name, 'a name starts with an ASCII letter or digit');
  if (!/^[a-z0-9.-]+$/.test(normalized)) {
    throw invalidName(name, 'a name consists of ASCII letters, digits, dots and dashes');
  }
  return normalized;
}

export function isDatabaseName(name: string): boolean {
  return (
    name.length >= NAME_LENGTH_MIN && name.length <= NAME_LENGTH_MAX && /^[a-z0-9][a-z0-9.-]*$/.test(name)
  );
}

export function isPattern(text: string): boolean {
  return /[*?]/.test(text);
}

/**
 * Whether a name fits a pattern. `*` stands for any characters, also none, and `?` for one or none. Neo4j lets `*`
 * stand for at least one, so that `neo4j*` misses `neo4j`; a backup that silently leaves out a database is the worse
 * surprise, so the wider reading is taken on purpose.
 * @throws GraphkeepError GK_USAGE when the pattern could never name a database.
 */
export function databaseMatcher(pattern: string): (name: string) => boolean {
  const normalized = pattern.toLowerCase();
  if (!/^[a-z0-9.*?-]+$/.test(normalized) || normalized.length > NAME_LENGTH_MAX) {
    throw invalidName(pattern, 'a pattern consists of ASCII letters, digits, dots, dashes, * and ?');
  }
  return (name) => matchesPattern(normalized, name);
}

/**
 * Follows all places of the pattern that may come next, character by character: its time is the product of the two
 * lengths. A regular expression with many stars would try them one after the other and practically never end.
 */
function matchesPattern(pattern: string, name: string): boolean {
  let places = skipOptional(pattern, new Set([0]));
  for (const character of name) {
    const next = new Set<number>();
    for (const place of places) {
      const expected = pattern.charAt(place);
      if (expected === '*') next.add(place);
      else if (expected === '?' || expected === character) next.add(place + 1);
    }
    places = skipOptional(pattern, next);
  }
  return places.has(pattern.length);
}

/** Both wildcards may stand for nothing, so the place behind one is reachable as well. */
function skipOptional(pattern: string, places: ReadonlySet<number>): Set<number> {
  const reachable = new Set(places);
  for (const place of reachable) {
    if (/[*?]/.test(pattern.charAt(place))) reachable.add(place + 1);
  }
  return reachable;
}

function invalidName(name: string, reason: string): GraphkeepError {
  return new GraphkeepError('GK_USAGE', `not a database name: '${name}' (${reason})`, {
    hint: "quote patterns, for example 'n*', so that the shell leaves them alone",
  });
}
