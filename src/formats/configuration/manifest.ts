/**
 * What a configuration artifact says about itself: the JSON that stands first in it. Layout: docs/dbms.md.
 * Read with suspicion: every name, number and path is checked before anything is done with it.
 */
import { FormatError } from '../formaterror.ts';
import { safeMemberPath } from '../tar.ts';

export const CONFIGURATION_FORMAT = 'graphkeep-configuration';
export const CONFIGURATION_FORMAT_VERSION = 1;

const ROLES = ['configuration', 'certificate', 'license', 'plugin'] as const;
export type ConfigurationRole = (typeof ROLES)[number];

/** `privateKey`: only encrypted artifacts take it. `link`: it leads out of its folder. `outside`: in none of the folders. */
const REASONS = ['privateKey', 'link', 'outside', 'special'] as const;
export type LeftOutReason = (typeof REASONS)[number];

/** A file of an installation: below which of its folders, and where there. */
export interface FilePlace {
  /** `configuration`, `certificates`, `licenses`, `plugins`, `policy.<scope>` or `license.<setting>`. */
  readonly place: string;
  readonly path: string;
}

export interface ConfigurationMember extends FilePlace {
  readonly role: ConfigurationRole;
  readonly bytes: number;
  /** Hex. */
  readonly sha256: string;
  /** The lowest nine bits. */
  readonly mode: number;
}

export interface PluginFacts {
  readonly file: string;
  readonly title?: string;
  readonly version?: string;
  readonly bytes: number;
  readonly sha256: string;
  /** Whether the jar itself is a member. */
  readonly included: boolean;
}

export interface LeftOutFile {
  /** As `<place>/<path>`, or the path of a file that is in none of the places. */
  readonly file: string;
  readonly reason: LeftOutReason;
}

export interface ConfigurationManifest {
  readonly program: string;
  /** ISO 8601, UTC. */
  readonly time: string;
  readonly host: string;
  /** Absent when no jars of a Neo4j lie in the home. */
  readonly neo4j?: { readonly version: string; readonly edition: string };
  readonly members: readonly ConfigurationMember[];
  readonly plugins: readonly PluginFacts[];
  readonly leftOut: readonly LeftOutFile[];
  /** Names of settings whose values look like secrets: they are in the artifact as they are. */
  readonly secretSettings: readonly string[];
}

/** What a terminal would obey instead of showing it. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: those are what is looked for
const CONTROL = /[\x00-\x1f\x7f-\x9f]/;

const PLACE =
  /^(configuration|certificates|licenses|plugins|(policy|license)\.[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99})$/;
const TEXT_CHARACTERS_MAX = 4096;
const LIST_ENTRIES_MAX = 100_000;

export function writeManifest(manifest: ConfigurationManifest): Buffer {
  const document = { format: CONFIGURATION_FORMAT, version: CONFIGURATION_FORMAT_VERSION, ...manifest };
  return Buffer.from(`${JSON.stringify(document, undefined, 2)}\n`, 'utf8');
}

/** @throws FormatError */
export function parseManifest(bytes: Buffer): ConfigurationManifest {
  const fields = record(parseJson(bytes), 'is no object');
  require(fields.format === CONFIGURATION_FORMAT, 'is of another format');
  if (fields.version !== CONFIGURATION_FORMAT_VERSION) {
    throw new FormatError(
      `configuration of format version ${JSON.stringify(fields.version)}; this graphkeep reads 1`,
    );
  }
  const members = list(fields.members, 'members').map(parseMember);
  const names = new Set(members.map(archivePathOf));
  require(names.size === members.length, 'names a file twice');
  const time = text(fields.time, 'time');
  require(!Number.isNaN(Date.parse(time)), 'has no time');
  return {
    program: text(fields.program, 'program'),
    time,
    host: text(fields.host, 'host'),
    ...(fields.neo4j === undefined ? {} : { neo4j: parseNeo4j(fields.neo4j) }),
    members,
    plugins: list(fields.plugins, 'plugins').map(parsePlugin),
    leftOut: list(fields.leftOut, 'leftOut').map(parseLeftOut),
    secretSettings: list(fields.secretSettings, 'secretSettings').map((name) => text(name, 'secretSettings')),
  };
}

/** Text of others as it may stand in a manifest. */
export function printable(text: string): string {
  return text.replaceAll(new RegExp(CONTROL, 'g'), '?');
}

/** Where the member stands in the archive. */
export function archivePathOf({ place, path }: FilePlace): string {
  return `${place}/${path}`;
}

/** A path as it may stand in an artifact and in a list of checksums. @throws FormatError */
export function checkedPath(path: string): string {
  if (CONTROL.test(path) || path.includes('\\') || safeMemberPath(path) !== path) {
    throw new FormatError(
      `a file of the configuration has an impossible path: ${JSON.stringify(path.slice(0, 200))}`,
    );
  }
  return path;
}

function parseMember(value: unknown): ConfigurationMember {
  const fields = record(value, 'lists a member that is none');
  const place = text(fields.place, 'place');
  require(PLACE.test(place), `names the unknown place ${place.slice(0, 100)}`);
  const role = ROLES.find((known) => known === fields.role);
  require(role !== undefined, 'gives a member an unknown role');
  return {
    place,
    path: checkedPath(text(fields.path, 'path')),
    role,
    bytes: count(fields.bytes, Number.MAX_SAFE_INTEGER),
    sha256: digest(fields.sha256),
    mode: count(fields.mode, 0o777),
  };
}

function parsePlugin(value: unknown): PluginFacts {
  const fields = record(value, 'lists a plugin that is none');
  const file = checkedPath(text(fields.file, 'file'));
  require(!file.includes('/'), 'lists a plugin in a folder');
  require(typeof fields.included === 'boolean', 'does not say whether a plugin is included');
  return {
    file,
    ...(fields.title === undefined ? {} : { title: text(fields.title, 'title') }),
    ...(fields.version === undefined ? {} : { version: text(fields.version, 'version') }),
    bytes: count(fields.bytes, Number.MAX_SAFE_INTEGER),
    sha256: digest(fields.sha256),
    included: fields.included,
  };
}

function parseLeftOut(value: unknown): LeftOutFile {
  const fields = record(value, 'lists a file that is none');
  const reason = REASONS.find((known) => known === fields.reason);
  require(reason !== undefined, 'gives an unknown reason');
  return { file: text(fields.file, 'file'), reason };
}

function parseNeo4j(value: unknown): { version: string; edition: string } {
  const fields = record(value, 'names no Neo4j');
  return { version: text(fields.version, 'version'), edition: text(fields.edition, 'edition') };
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    throw new FormatError('the manifest of the configuration is not JSON');
  }
}

function require(condition: boolean, what: string): asserts condition {
  if (!condition) throw new FormatError(`the manifest of the configuration ${what}`);
}

function record(value: unknown, otherwise: string): Record<string, unknown> {
  require(typeof value === 'object' && value !== null && !Array.isArray(value), otherwise);
  return { ...value };
}

function list(value: unknown, what: string): readonly unknown[] {
  require(Array.isArray(value) && value.length <= LIST_ENTRIES_MAX, `has no list of ${what}`);
  return value;
}

function text(value: unknown, what: string): string {
  const isText = typeof value === 'string' && value.length <= TEXT_CHARACTERS_MAX && !CONTROL.test(value);
  require(isText, `has no text as ${what}`);
  return value;
}

function count(value: unknown, max: number): number {
  require(typeof value === 'number' &&
    Number.isSafeInteger(value) &&
    value >= 0 &&
    value <= max, 'has a wrong number');
  return value;
}

function digest(value: unknown): string {
  require(typeof value === 'string' && /^[0-9a-f]{64}$/.test(value), 'gives a file no hash');
  return value;
}
