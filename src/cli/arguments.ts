/**
 * What happens to the arguments before they are parsed: `@file` is replaced by the arguments in that file, and a bare
 * boolean option gets its value attached. Both are habits of `neo4j-admin`'s parser (picocli) that scripts rely on.
 */
import { readFileSync, statSync } from 'node:fs';
import { GraphkeepError, wrapSystemError } from '../errors.ts';
import { KIB } from '../limits.ts';

export const ARGUMENT_FILE_BYTES_MAX = 256 * KIB;
const ARGUMENT_FILE_DEPTH_MAX = 8;
const ARGUMENTS_MAX = 10_000;

/** @throws GraphkeepError when a file cannot be read, is too large, or the files include each other. */
export function expandArgumentFiles(argumentList: readonly string[]): string[] {
  const expanded: string[] = [];
  expandInto(expanded, argumentList, 0);
  return expanded;
}

function expandInto(expanded: string[], argumentList: readonly string[], depth: number): void {
  for (const argument of argumentList) {
    if (argument.startsWith('@@')) expanded.push(argument.slice(1));
    else if (argument.startsWith('@') && argument.length > 1) {
      if (depth >= ARGUMENT_FILE_DEPTH_MAX) throw usage(`argument files nested too deeply at '${argument}'`);
      expandInto(expanded, readArgumentFile(argument.slice(1)), depth + 1);
    } else expanded.push(argument);
    if (expanded.length > ARGUMENTS_MAX) throw usage(`more than ${ARGUMENTS_MAX} arguments`);
  }
}

function readArgumentFile(file: string): string[] {
  try {
    const status = statSync(file);
    if (!status.isFile()) throw usage(`the argument file is not a file: ${file}`);
    if (status.size > ARGUMENT_FILE_BYTES_MAX) {
      throw usage(`the argument file ${file} is larger than ${ARGUMENT_FILE_BYTES_MAX} bytes`);
    }
    return splitArguments(readFileSync(file, 'utf8'), file);
  } catch (error) {
    throw wrapSystemError(error, `read the argument file ${file}`);
  }
}

/** Blanks and line ends part arguments, quotes keep them together, `#` starts a comment where an argument could. */
export function splitArguments(text: string, file: string): string[] {
  const found: string[] = [];
  let current: string | undefined;
  let quote: string | undefined;
  for (let position = 0; position < text.length; position += 1) {
    const character = text.charAt(position);
    if (quote !== undefined) {
      if (character === quote) quote = undefined;
      else if (character === '\\' && position + 1 < text.length) current += text.charAt(++position);
      else current += character;
    } else if (/\s/.test(character)) {
      if (current !== undefined) found.push(current);
      current = undefined;
    } else if (character === '#' && current === undefined) {
      const lineEnd = text.indexOf('\n', position);
      position = lineEnd === -1 ? text.length : lineEnd;
    } else if (character === '"' || character === "'") {
      quote = character;
      current ??= '';
    } else current = (current ?? '') + character;
  }
  if (quote !== undefined) throw usage(`a quote in the argument file ${file} is not closed`);
  if (current !== undefined) found.push(current);
  return found;
}

/**
 * `--compress neo4j` means `--compress=true neo4j` and `--compress false` means `--compress=false`. Without this the
 * parser takes the database name for the value of the option.
 */
export function attachBooleanValues(
  argumentList: readonly string[],
  booleanOptions: ReadonlySet<string>,
): string[] {
  const attached: string[] = [];
  for (let position = 0; position < argumentList.length; position += 1) {
    const argument = argumentList[position] ?? '';
    if (argument === '--') return [...attached, ...argumentList.slice(position)];
    if (!booleanOptions.has(argument)) {
      attached.push(argument);
      continue;
    }
    const next = argumentList[position + 1]?.toLowerCase();
    if (next === 'true' || next === 'false') {
      attached.push(`${argument}=${next}`);
      position += 1;
    } else attached.push(`${argument}=true`);
  }
  return attached;
}

function usage(message: string): GraphkeepError {
  return new GraphkeepError('GK_USAGE', message);
}
