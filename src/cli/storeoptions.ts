/** How object stores are reached: the options of every command that takes a path of artifacts. */
import { type Command, Option } from 'commander';
import type { StoreSettings } from '../storage/objects/settings.ts';
import type { ObjectAttributes, ObjectEncryption, ObjectLock } from '../storage/objects/store.ts';
import { useStoreSettings } from '../storage/places.ts';
import type { CliContext } from './context.ts';
import { booleanOption, pathOption, usageError } from './options.ts';

interface StoreOptions {
  s3Endpoint?: string;
  s3Region?: string;
  s3PathStyle?: boolean;
  s3Checksums?: 'WHEN_SUPPORTED' | 'WHEN_REQUIRED';
  azureEndpoint?: string;
  gcsEndpoint?: string;
  storeCa?: string;
  storeSkipVerify: boolean;
}

interface AttributeOptions {
  storageClass?: string;
  objectTags?: Readonly<Record<string, string>>;
  objectLock?: ObjectLock;
  legalHold?: boolean;
  serverSideEncryption?: ObjectEncryption;
}

/** How artifacts are kept in a store; for the commands that write some. */
export function addAttributeOptions(command: Command): Command {
  return command
    .addOption(new Option('--storage-class <name>', 'Storage class of artifacts, in the words of the store'))
    .addOption(
      new Option('--object-tags <tags>', 'Tags of artifacts: <key>=<value>[,<key>=<value>]').argParser(
        parseTags,
      ),
    )
    .addOption(
      new Option(
        '--object-lock <lock>',
        'Nobody can remove artifacts before a day: governance,<yyyy-MM-dd> or compliance,<yyyy-MM-dd>',
      ).argParser(parseLock),
    )
    .addOption(new Option('--legal-hold', 'Artifacts cannot be removed until the hold is taken away'))
    .addOption(
      new Option(
        '--server-side-encryption <by>',
        'Who holds the key: store, kms, kms:<key> or scope:<name> (default: as the bucket is set)',
      ).argParser(parseEncryption),
    );
}

function parseTags(value: string): Record<string, string> {
  const pairs = value.split(',').map((pair) => /^([^=]+)=(.*)$/.exec(pair) ?? []);
  if (pairs.some(({ length }) => length === 0))
    throw usageError(`--object-tags takes <key>=<value>[,<key>=<value>], not '${value}'`);
  return Object.fromEntries(pairs.map(([, key = '', text = '']) => [key, text]));
}

function parseLock(value: string): ObjectLock {
  const [, mode, day = ''] = /^(governance|compliance),(\d{4}-\d{2}-\d{2})$/i.exec(value) ?? [];
  const until = new Date(`${day}T00:00:00Z`);
  if (mode === undefined || Number.isNaN(until.getTime()) || !until.toISOString().startsWith(day)) {
    throw usageError(
      `--object-lock takes governance,<yyyy-MM-dd> or compliance,<yyyy-MM-dd>, not '${value}'`,
    );
  }
  if (until.getTime() <= Date.now()) throw usageError(`--object-lock ends in the past: ${day}`);
  return { mode: mode.toLowerCase() === 'governance' ? 'governance' : 'compliance', until };
}

function parseEncryption(value: string): ObjectEncryption {
  const [kind, ...rest] = value.split(':');
  const name = rest.join(':');
  if (kind === 'store' && name === '') return { by: 'store' };
  if (kind === 'kms') return name === '' ? { by: 'kms' } : { by: 'kms', keyId: name };
  if (kind === 'scope' && name !== '') return { by: 'scope', scope: name };
  throw usageError(`--server-side-encryption takes store, kms, kms:<key> or scope:<name>, not '${value}'`);
}

function attributesOf(options: AttributeOptions): ObjectAttributes {
  const { storageClass, objectTags, objectLock, legalHold, serverSideEncryption } = options;
  return {
    ...(storageClass === undefined ? {} : { storageClass }),
    ...(objectTags === undefined ? {} : { tags: objectTags }),
    ...(objectLock === undefined ? {} : { lock: objectLock }),
    ...(legalHold === undefined ? {} : { legalHold }),
    ...(serverSideEncryption === undefined ? {} : { encryption: serverSideEncryption }),
  };
}

/** Credentials are no options: they come from where the users of each cloud keep them. */
export function addStoreOptions(command: Command, context: CliContext): Command {
  command
    .addOption(new Option('--s3-endpoint <url>', 'An S3 that is not of AWS (default: $AWS_ENDPOINT_URL_S3)'))
    .addOption(new Option('--s3-region <name>', 'Region of the bucket (default: as the AWS tools find it)'))
    .addOption(new Option('--s3-path-style', 'The bucket stands in the path and not in the host name'))
    .addOption(
      new Option('--s3-checksums <when>', 'WHEN_REQUIRED for stores that refuse those of AWS').choices([
        'WHEN_SUPPORTED',
        'WHEN_REQUIRED',
      ]),
    )
    .addOption(new Option('--azure-endpoint <url>', 'Azure storage elsewhere, e.g. an emulator'))
    .addOption(
      new Option('--gcs-endpoint <url>', 'Google storage elsewhere, e.g. an emulator; without credentials'),
    )
    .addOption(pathOption('--store-ca <file>', 'Certificate authority of the store, in PEM'))
    .addOption(booleanOption('--store-skip-verify', 'Trust whatever certificate the store shows', false));
  return command.hook('preAction', (_command, acting) => {
    const options = acting.opts<StoreOptions & AttributeOptions>();
    if (options.storeSkipVerify) {
      context.stderr.write('warning: the certificate of the store is not checked (--store-skip-verify)\n');
    }
    useStoreSettings(settingsOf(options), attributesOf(options));
  });
}

function settingsOf(options: StoreOptions): StoreSettings {
  const { s3Endpoint, s3Region, s3PathStyle, s3Checksums, azureEndpoint, gcsEndpoint, storeCa } = options;
  return {
    s3: {
      ...(s3Endpoint === undefined ? {} : { endpoint: s3Endpoint }),
      ...(s3Region === undefined ? {} : { region: s3Region }),
      ...(s3PathStyle === undefined ? {} : { pathStyle: s3PathStyle }),
      ...(s3Checksums === undefined ? {} : { requestChecksums: s3Checksums, responseChecksums: s3Checksums }),
    },
    azure: azureEndpoint === undefined ? {} : { endpoint: azureEndpoint },
    google: gcsEndpoint === undefined ? {} : { endpoint: gcsEndpoint, anonymous: true },
    tls: {
      ...(storeCa === undefined ? {} : { authorityFile: storeCa }),
      skipVerify: options.storeSkipVerify,
    },
  };
}
