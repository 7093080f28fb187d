/** How object stores are reached: the options of every command that takes a path of artifacts. */
import { type Command, Option } from 'commander';
import type { AzureSettings, GoogleSettings, StoreSettings } from '../storage/objects/settings.ts';
import type { ObjectAttributes, ObjectEncryption, ObjectLock } from '../storage/objects/store.ts';
import { isStoreUrl, useStoreSettings } from '../storage/places.ts';
import type { CliContext } from './context.ts';
import { booleanOption, pathOption, usageError } from './options.ts';

interface StoreOptions {
  s3Profile?: string;
  s3Endpoint?: string;
  s3Region?: string;
  s3PathStyle?: boolean;
  s3Checksums?: 'WHEN_SUPPORTED' | 'WHEN_REQUIRED';
  azureEndpoint?: string;
  azureEndpointSuffix?: string;
  gcsEndpoint?: string;
  gcsProject?: string;
  storeCa?: string;
  storeSkipVerify: boolean;
  serverSideEncryption?: EncryptionChoice;
}

/** A key of one's own is needed for reading as well; all else is only said when something is written. */
type EncryptionChoice = ObjectEncryption | { readonly by: 'customer'; readonly keyFile: string };

interface AttributeOptions {
  storageClass?: string;
  objectTags?: Readonly<Record<string, string>>;
  objectLock?: ObjectLock;
  legalHold?: boolean;
}

/**
 * For the commands that read artifacts. Credentials are no options: they come from where the users of each cloud keep
 * them.
 */
export function addStoreOptions(command: Command, context: CliContext): Command {
  command.addOption(
    new Option(
      '--server-side-encryption <by>',
      "customer:<file> for artifacts in S3 that were written with a key of one's own",
    ).argParser(parseCustomer),
  );
  return addAccessOptions(command, context);
}

/**
 * For the commands that write artifacts: how they are kept in a store as well.
 * @param targetsOf where the command that was given writes them
 */
export function addWritableStoreOptions(
  command: Command,
  context: CliContext,
  targetsOf: (given: Command) => readonly (string | undefined)[],
): Command {
  command
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
        'Who holds the key: store, kms, kms:<key>, scope:<name> or customer:<file> (default: as the bucket is set)',
      ).argParser(parseEncryption),
    )
    .hook('preAction', (_command, given) => {
      const targets = targetsOf(given).filter((target) => target !== undefined);
      requireStores(attributesOf(given.opts()), targets, context);
    });
  return addAccessOptions(command, context);
}

/** By which option each attribute is asked for. */
const ATTRIBUTE_OPTIONS: Readonly<Record<Exclude<keyof ObjectAttributes, 'contentType'>, string>> = {
  storageClass: '--storage-class',
  tags: '--object-tags',
  lock: '--object-lock',
  legalHold: '--legal-hold',
  encryption: '--server-side-encryption',
};

/** Who asks for a lock or for encryption, and gets a plain file, believes to be protected and is not. */
function requireStores(asked: ObjectAttributes, targets: readonly string[], context: CliContext): void {
  const names = Object.entries(ATTRIBUTE_OPTIONS).flatMap(([key, name]) => (key in asked ? [name] : []));
  const folders = targets.filter((target) => !isStoreUrl(target));
  if (names.length === 0 || folders.length === 0) return;
  const what = `${names.join(', ')}: only what is kept in an object store can have that`;
  if (folders.length === targets.length) {
    throw usageError(
      `${what}, and ${folders[0]} is a folder`,
      'leave it out, or give a place in a store: s3://, gs:// or azb://',
    );
  }
  context.stderr.write(`note: ${what}; in ${folders.join(', ')} artifacts are plain files\n`);
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

function parseCustomer(value: string): EncryptionChoice {
  const choice = parseEncryption(value);
  if (choice.by === 'customer') return choice;
  throw usageError(
    `--server-side-encryption=${value} says how artifacts are written, and this command writes none`,
    'leave it out; only customer:<file> is needed for reading',
  );
}

function parseEncryption(value: string): EncryptionChoice {
  const [kind, ...rest] = value.split(':');
  const name = rest.join(':');
  if (kind === 'store' && name === '') return { by: 'store' };
  if (kind === 'kms') return name === '' ? { by: 'kms' } : { by: 'kms', keyId: name };
  if (kind === 'scope' && name !== '') return { by: 'scope', scope: name };
  if (kind === 'customer' && name !== '') return { by: 'customer', keyFile: name };
  // Not repeated: somebody may have written the key itself.
  throw usageError(
    '--server-side-encryption takes store, kms, kms:<key>, scope:<name> or customer:<file>',
    'the key of customer: is in a file of 32 bytes, and never on the command line',
  );
}

function attributesOf(options: AttributeOptions & StoreOptions): ObjectAttributes {
  const { storageClass, objectTags, objectLock, legalHold, serverSideEncryption } = options;
  const isOfStore = serverSideEncryption !== undefined && serverSideEncryption.by !== 'customer';
  return {
    ...(storageClass === undefined ? {} : { storageClass }),
    ...(objectTags === undefined ? {} : { tags: objectTags }),
    ...(objectLock === undefined ? {} : { lock: objectLock }),
    ...(legalHold === undefined ? {} : { legalHold }),
    ...(isOfStore ? { encryption: serverSideEncryption } : {}),
  };
}

/** How a store is reached. */
function addAccessOptions(command: Command, context: CliContext): Command {
  command
    .addOption(
      new Option(
        '--s3-profile <name>',
        'Profile of each s3:// URL that names none by s3://<profile>@ (default: $AWS_PROFILE)',
      ),
    )
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
      new Option(
        '--azure-endpoint-suffix <host>',
        'Another Azure cloud, e.g. blob.core.usgovcloudapi.net (default: as $AZURE_AUTHORITY_HOST)',
      ),
    )
    .addOption(
      new Option(
        '--gcs-endpoint <url>',
        'Google storage elsewhere; http:// is an emulator, without credentials',
      ),
    )
    .addOption(
      new Option('--gcs-project <id>', 'Project that pays for the requests, e.g. of a requester-pays bucket'),
    )
    .addOption(pathOption('--store-ca <file>', 'Certificate authority of the store, in PEM'))
    .addOption(booleanOption('--store-skip-verify', 'Trust whatever certificate the store shows', false));
  return command.hook('preAction', async (_command, acting) => {
    const options = acting.opts<StoreOptions & AttributeOptions>();
    if (options.storeSkipVerify) {
      context.stderr.write('warning: the certificate of the store is not checked (--store-skip-verify)\n');
    }
    useStoreSettings(settingsOf(options, await customerKeyOf(options)), attributesOf(options));
  });
}

async function customerKeyOf({ serverSideEncryption }: StoreOptions): Promise<Buffer | undefined> {
  if (serverSideEncryption?.by !== 'customer') return undefined;
  const { readCustomerKey } = await import('../storage/objects/customerkey.ts');
  return readCustomerKey(serverSideEncryption.keyFile);
}

function settingsOf(options: StoreOptions, customerKey: Buffer | undefined): StoreSettings {
  const { s3Profile, s3Endpoint, s3Region, s3PathStyle, s3Checksums, storeCa } = options;
  return {
    s3: {
      ...(customerKey === undefined ? {} : { customerKey }),
      ...(s3Profile === undefined ? {} : { profile: s3Profile }),
      ...(s3Endpoint === undefined ? {} : { endpoint: s3Endpoint }),
      ...(s3Region === undefined ? {} : { region: s3Region }),
      ...(s3PathStyle === undefined ? {} : { pathStyle: s3PathStyle }),
      ...(s3Checksums === undefined ? {} : { requestChecksums: s3Checksums, responseChecksums: s3Checksums }),
    },
    azure: azureSettings(options),
    google: googleSettings(options),
    tls: {
      ...(storeCa === undefined ? {} : { authorityFile: storeCa }),
      skipVerify: options.storeSkipVerify,
    },
  };
}

function azureSettings({ azureEndpoint, azureEndpointSuffix }: StoreOptions): AzureSettings {
  return {
    ...(azureEndpoint === undefined ? {} : { endpoint: azureEndpoint }),
    ...(azureEndpointSuffix === undefined ? {} : { endpointSuffix: azureEndpointSuffix }),
  };
}

/** A token is never sent in the clear: what speaks plain HTTP is taken for an emulator, which asks for none. */
function googleSettings({ gcsEndpoint, gcsProject }: StoreOptions): GoogleSettings {
  return {
    ...(gcsEndpoint === undefined ? {} : { endpoint: gcsEndpoint, anonymous: /^http:/i.test(gcsEndpoint) }),
    ...(gcsProject === undefined ? {} : { projectId: gcsProject }),
  };
}
