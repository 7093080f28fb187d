/**
 * Options of the 3.x and 4.x tools: what they share, and those that mean nothing any more. The latter are checked and
 * accepted, since a script that worked for years must go on working, and answered with a note, since nobody obeys them.
 */
import os from 'node:os';
import { type Command, Option } from 'commander';
import { parseSize } from '../neo4j/values.ts';
import { type CliContext, writeLine } from './context.ts';
import { addInstallationOptions, booleanOption, nameOf, refusal, usageError } from './options.ts';

/** Of the old tools; for several databases only these two. */
export const EXIT_OK = 0;
export const EXIT_FAILED = 1;
export const EXIT_SIGNALS_FROM = 128;

const reasons = new WeakMap<Option, string>();

/** An option that is parsed like any other, and of which only a note comes. */
export function ignored(option: Option, reason: string): Option {
  option.description = 'Accepted without effect';
  reasons.set(option, reason);
  return option;
}

/** A word that must be one of a few, or fit a pattern. */
export function wordOption(
  flags: string,
  description: string,
  isRight: (value: string) => boolean,
  shape: string,
): Option {
  const name = nameOf(flags);
  return new Option(flags, description).argParser((value: string) => {
    if (isRight(value)) return value;
    throw usageError(`${name}=${value} is not possible`, `give ${shape}`);
  });
}

export function ignoredSwitch(name: string, reason: string): Option {
  const option = booleanOption(name, '', true);
  option.defaultValue = undefined;
  return ignored(option, reason);
}

export const isGiven = (command: Command, option: Option): boolean =>
  command.getOptionValueSource(option.attributeName()) === 'cli';

/** One line for each option that was given in vain. */
export function noteIgnored(command: Command, context: CliContext): void {
  for (const option of command.options) {
    const reason = reasons.get(option);
    if (reason === undefined || !isGiven(command, option)) continue;
    writeLine(context.stderr, `note: ${option.long} has no effect: ${reason}`);
  }
}

/** What every old command has, or gets here. */
export function addLegacyOptions(command: Command): Command {
  return addInstallationOptions(command)
    .addOption(booleanOption('--verbose', 'Print stack traces and the output of the tools of Neo4j', false))
    .addOption(ignoredSwitch('--expand-commands', 'graphkeep runs no commands out of a configuration file'));
}

const MEMORY = /^\d{1,9}[kmgt]?$/i;

/** `8m`, as in the settings of Neo4j. */
export function memoryOption(name: string, description: string): Option {
  return wordOption(
    `${name} <size>`,
    description,
    (value) => MEMORY.test(value),
    'a size such as 8m, 512m or 2g',
  );
}

/** Bytes of a value that `memoryOption` has let through. */
export const memoryBytes = (value: string): number => parseSize(value) ?? Number.MAX_SAFE_INTEGER;

/** `20m`; a figure alone is seconds. */
export function timeoutOption(reason: string): Option {
  const isTime = (value: string): boolean => /^\d{1,9}(ms|s|m|h)?$/.test(value);
  const shape = 'a time such as 500ms, 30s, 20m or 1h';
  return ignored(wordOption('--timeout <time>', '', isTime, shape), reason);
}

export function choiceIgnored(name: string, choices: readonly string[], reason: string): Option {
  const isChoice = (value: string): boolean => choices.includes(value.toLowerCase());
  return ignored(wordOption(`${name} <value>`, '', isChoice, `one of ${choices.join(', ')}`), reason);
}

/** The address of a backup server: this host is read from its files, another one cannot be. */
export function fromAddressOption(): Option {
  const option = new Option('--from <address>').argParser((value: string) => {
    const [, bracketed, plain, port] =
      /^(?:\[([0-9a-f:.]+)\]|([^:[\]/]+))(?::(\d{1,5}))?$/i.exec(value) ?? [];
    const host = (bracketed ?? plain)?.toLowerCase();
    if (host === undefined || (port !== undefined && (Number(port) < 1 || Number(port) > 65_535))) {
      throw usageError(`--from=${value} is not an address`, 'write <host>[:<port>], e.g. localhost:6362');
    }
    if (isThisHost(host)) return value;
    throw refusal(
      `--from=${value}`,
      'this version backs up the files of a Neo4j on this host, not over the network',
      'run graphkeep on the host of Neo4j, with --neo4j-home=<folder>',
    );
  });
  return ignored(option, 'the files of this host are read, no backup server is asked');
}

function isThisHost(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host) || host === ownName();
}

const ownName = (): string => os.hostname().toLowerCase();

/** @throws GK_USAGE in the words of the old tool */
export function requireOption<Value>(value: Value | undefined, name: string): Value {
  if (value !== undefined) return value;
  throw usageError(`Missing argument '${name}'`, `give --${name}=<value>`);
}

/** Of the old tools: 1 for every failure. Whoever was ended by a signal says so, like any program. */
export function legacyStatus(exitStatus: number): number {
  const isPlain = exitStatus === 0 || exitStatus >= EXIT_SIGNALS_FROM;
  return isPlain ? exitStatus : EXIT_FAILED;
}
