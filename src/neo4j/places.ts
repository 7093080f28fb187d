/**
 * The folders of an installation that hold neither program nor data: configuration, certificates, licenses, plugins, and
 * what single settings name elsewhere. They are found by the settings, in the old installation and in the new one, so a
 * file finds its place on a machine that is laid out in another way.
 */
import path from 'node:path';
import { readSettings, type SettingsReader } from './configuration.ts';

export interface Place {
  /** As configuration artifacts name it. */
  readonly name: string;
  readonly role: 'configuration' | 'certificate' | 'license' | 'plugin';
  readonly folder: string;
  /** Of a folder in which one file counts, its name. */
  readonly only?: string;
}

export interface InstallationPlaces {
  readonly places: readonly Place[];
  /** Files that settings name as private keys. */
  readonly privateKeys: ReadonlySet<string>;
  /** Files of settings that lie in none of the places. */
  readonly outside: readonly string[];
  /** Settings whose values look like secrets. */
  readonly secretSettings: readonly string[];
}

const POLICY_SETTING = /^dbms\.ssl\.policy\.([A-Za-z0-9_-]+)\.[a-z_]+$/;
const LICENSE_SETTING = /license_?file$/i;
const SECRET_SETTING = /password|secret|credential/i;

/** @throws GK_CONFIG when `neo4j.conf` contradicts itself or names a folder that is not known without running a command */
export async function readPlaces(home: string, configurationDirectory: string): Promise<InstallationPlaces> {
  const settings = await readSettings({ home, configurationDirectory });
  const folder = (name: string) => settings.directory(`server.directories.${name}`, name, home);
  const certificates = folder('certificates');
  const policies = policiesOf(settings, home, certificates);
  const places: Place[] = [
    { name: 'configuration', role: 'configuration', folder: configurationDirectory },
    { name: 'certificates', role: 'certificate', folder: certificates },
    { name: 'licenses', role: 'license', folder: folder('licenses') },
    ...policies.map(({ scope, base }): Place => {
      return { name: `policy.${scope}`, role: 'certificate', folder: base };
    }),
    ...licensePlaces(settings, home),
    { name: 'plugins', role: 'plugin', folder: folder('plugins') },
  ];
  const distinct = withoutNested(places);
  const named = policies.flatMap(({ files }) => files);
  return {
    places: distinct,
    privateKeys: new Set(policies.map(({ privateKey }) => privateKey)),
    outside: named.filter((file) => !distinct.some((place) => isBelow(file, place.folder))),
    secretSettings: settings.names.filter((name) => holdsSecret(settings, name)).sort(),
  };
}

interface Policy {
  readonly scope: string;
  readonly base: string;
  readonly privateKey: string;
  /** What it names, private key included. */
  readonly files: readonly string[];
}

function policiesOf(settings: SettingsReader, home: string, certificates: string): Policy[] {
  const scopes = new Set(settings.names.flatMap((name) => POLICY_SETTING.exec(name)?.[1] ?? []));
  return [...scopes].sort().map((scope) => {
    const key = (name: string) => `dbms.ssl.policy.${scope}.${name}`;
    const base = settings.directory(key('base_directory'), path.join(certificates, scope), home);
    const privateKey = settings.directory(key('private_key'), 'private.key', base);
    const publicCertificate = settings.directory(key('public_certificate'), 'public.crt', base);
    const files = [privateKey, publicCertificate].filter((file) => !isBelow(file, base));
    return { scope, base, privateKey, files };
  });
}

/** One that a command names is not known without running it, and one without a name is none. */
function licensePlaces(settings: SettingsReader, home: string): Place[] {
  const isNamed = (name: string) =>
    LICENSE_SETTING.test(name) && (settings.plainText(name)?.trim() ?? '') !== '';
  return settings.names.filter(isNamed).map((name): Place => {
    const file = settings.directory(name, '', home);
    return {
      name: `license.${name}`,
      role: 'license',
      folder: path.dirname(file),
      only: path.basename(file),
    };
  });
}

/** The first of two places has the files that are below both. */
function withoutNested(places: readonly Place[]): Place[] {
  return places.filter((place, number) => {
    const before = places.slice(0, number).filter(({ only }) => only === undefined);
    return !before.some(({ folder }) => place.folder === folder || isBelow(place.folder, folder));
  });
}

/** A value that a command yields, or an empty one, is none that an artifact would hold. */
function holdsSecret(settings: SettingsReader, name: string): boolean {
  if (!SECRET_SETTING.test(name) || /password_(minimum|min)|minimum_password/.test(name)) return false;
  const value = settings.plainText(name)?.trim() ?? '';
  return value !== '' && !/^(true|false|\d+)$/i.test(value);
}

/** By name; links are looked through where files are read. */
export function isBelow(file: string, folder: string): boolean {
  const relative = path.relative(folder, file);
  return relative !== '' && relative !== '..' && !relative.startsWith(`..${path.sep}`);
}
