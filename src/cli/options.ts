/**
 * The kinds of options that the commands share. An option of `neo4j-admin` that makes no sense here is parsed as well
 * and refused with the reason: a script that relies on it must not go on as if it had been obeyed.
 */
import { fileURLToPath } from 'node:url';
import { type Command, Option } from 'commander';
import { GraphkeepError } from '../errors.ts';
import { CPU_SHARE_DEFAULT } from '../limits.ts';
import { parsePercent, parseRate } from '../neo4j/values.ts';
import { isStoreUrl, parseStoreUrl } from '../storage/objects/address.ts';

/** `--x[=true|false]`. A class of its own, so that bare ones can be told from options that take the next argument. */
export class BooleanOption extends Option {}

export function booleanOption(name: string, description: string, defaultValue: boolean): Option {
  return new BooleanOption(`${name} [true|false]`, description)
    .choices(['true', 'false'])
    .argParser((value: string) => parseBoolean(name, value))
    .preset('true')
    .default(defaultValue);
}

/** Values are compared without regard to case, as the examples of `neo4j-admin` use both. */
export function choiceOption(
  name: string,
  description: string,
  choices: readonly string[],
  defaultValue: string,
): Option {
  return new Option(`${name} <value>`, description)
    .choices(choices)
    .argParser((value: string) => parseChoice(name, value, choices))
    .default(defaultValue);
}

export function parseChoice(name: string, value: string, choices: readonly string[]): string {
  const choice = choices.find((candidate) => candidate.toLowerCase() === value.toLowerCase());
  if (choice === undefined) {
    throw usageError(`${name}=${value} is not possible`, `possible values: ${choices.join(', ')}`);
  }
  return choice;
}

export function parseBoolean(name: string, value: string): boolean {
  const normalized = value.toLowerCase();
  if (normalized === 'true' || normalized === 'false') return normalized === 'true';
  throw usageError(`${name} takes true or false, not '${value}'`, `write ${name}=true or ${name}=false`);
}

/** An option with a value that is refused however it is given. */
export function refusedOption(name: string, reason: string, hint?: string): Option {
  return new Option(`${name} [value]`)
    .argParser(() => {
      throw refusal(name, reason, hint);
    })
    .preset('')
    .hideHelp();
}

/** A switch that is refused when it is turned on. `=false` asks for what happens anyway and passes. */
export function refusedSwitch(name: string, reason: string, hint?: string): Option {
  return new BooleanOption(`${name} [true|false]`)
    .argParser((value: string) => {
      if (parseBoolean(name, value)) throw refusal(name, reason, hint);
      return false;
    })
    .preset('true')
    .hideHelp();
}

/** A rate such as `50M` or `1.5GiB`, in bytes a second; units count by 1024, as in Neo4j's settings. */
export function rateOption(name: string, description: string): Option {
  return new Option(`${name} <size>`, description).argParser((value: string) => {
    const bytes = parseRate(value);
    if (bytes === undefined) throw usageError(`${name} takes a size per second such as 50M, not '${value}'`);
    return bytes;
  });
}

export function cpuShareOption(): Option {
  const name = '--cpu-share';
  return new Option(
    `${name} <percent>`,
    'Of all processors, what a backup takes while others keep them busy; 100: as much as it gets',
  )
    .default(CPU_SHARE_DEFAULT)
    .argParser((value: string) => {
      const percent = parsePercent(value);
      if (percent === undefined) throw usageError(`${name} takes a percentage from 1 to 100, not '${value}'`);
      return percent;
    });
}

export function refusal(name: string, reason: string, hint?: string): GraphkeepError {
  return usageError(`${name} is refused: ${reason}`, hint ?? `leave out ${name}`);
}

export function usageError(message: string, hint?: string): GraphkeepError {
  return new GraphkeepError('GK_USAGE', message, hint === undefined ? {} : { hint });
}

export function pathOption(flags: string, description: string): Option {
  const name = nameOf(flags);
  return new Option(flags, description).argParser((value: string) => parseLocalPath(name, value));
}

/** A path for artifacts: a folder or file of this machine, or a URL of an object store. */
export function placeOption(flags: string, description: string): Option {
  const name = nameOf(flags);
  return new Option(flags, description).argParser((value: string) => parsePlace(name, value));
}

/** The same, given once for each of several. */
export function placesOption(flags: string, description: string): Option {
  return severalOption(flags, description, parsePlace);
}

/** @param parse gets the option's name and what is given, each time that it is given */
export function severalOption(
  flags: string,
  description: string,
  parse: (name: string, value: string) => string,
): Option {
  const name = nameOf(flags);
  return new Option(flags, description).argParser((value: string, before: string[] = []) => [
    ...before,
    parse(name, value),
  ]);
}

/** `--name` of `--name <value>`. */
export function nameOf(flags: string): string {
  return /--[a-z-]+/.exec(flags)?.[0] ?? flags;
}

/** @throws GK_USAGE */
export function parsePlace(name: string, value: string): string {
  return isStoreUrl(value) ? parseStoreUrl(value).url.replace(/\/+$/, '') : parseLocalPath(name, value);
}

/** A path, or a `file://` address as `backup inspect` prints it. Object storage is named, not taken for a folder. */
export function parseLocalPath(name: string, value: string): string {
  if (value === '') throw usageError(`${name} is empty`);
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(value)?.[1]?.toLowerCase();
  if (scheme === undefined) return value;
  if (scheme !== 'file') {
    throw usageError(
      `${name} is refused: it takes a path of this machine, and ${scheme}:// is none`,
      'artifacts can be in object stores: s3://, gs://, azb://; everything else lies here',
    );
  }
  try {
    return fileURLToPath(value);
  } catch {
    throw usageError(`${name} is not the address of a local file: ${value}`);
  }
}

/** The options of an installation that all commands on databases have. */
export function addInstallationOptions(command: Command): Command {
  return command
    .addOption(
      pathOption('--neo4j-home <folder>', 'Home folder of the Neo4j installation (default: $NEO4J_HOME)'),
    )
    .addOption(
      pathOption('--additional-config <file>', 'Configuration file that overrides the installed ones'),
    );
}

/** `--verbose` and what every command of `neo4j-admin` has beside it. */
export function addCommonOptions(command: Command): Command {
  return command
    .addOption(booleanOption('--verbose', 'Print stack traces and causes of errors', false))
    .addOption(
      refusedSwitch(
        '--expand-commands',
        'graphkeep runs no commands out of a configuration file',
        'give the values themselves in a file with --additional-config',
      ),
    );
}

/** Both or none of two options that only make sense together. */
export function requirePair(
  options: Record<string, unknown>,
  first: [string, string],
  second: [string, string],
): boolean {
  const given = [first, second].filter(([key]) => options[key] !== undefined);
  if (given.length === 1) {
    const missing = given[0] === first ? second[1] : first[1];
    throw usageError(
      `${given[0]?.[1]} needs ${missing} as well`,
      `give both ${first[1]} and ${second[1]}, or none`,
    );
  }
  return given.length === 2;
}
