/**
 * Profiles of the shared configuration files of AWS, `~/.aws/config` and `~/.aws/credentials`: what one says of a store.
 * The files are read by the code with which the SDK reads them when it looks for credentials.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { GraphkeepError, isErrno } from '../../errors.ts';
import { checkEndpoint } from './endpoint.ts';

type SdkConfig = typeof import('@smithy/core/config');
type Sections = Awaited<ReturnType<SdkConfig['parseKnownFiles']>>;
type Values = Sections[string];

/** Sections of the files that are no profiles; the SDK gives them names like these. */
const NO_PROFILE = /^(services|sso-session)\./;

export class AwsProfile {
  readonly name: string;
  readonly region: string | undefined;
  /** `addressing_style` of its `s3` settings. */
  readonly pathStyle: boolean | undefined;
  /** It wants to be sent to AWS, whatever variables and files say. */
  readonly ignoresEndpoints: boolean;
  /** Keys of all profiles, since one may lead to another; for what blacks them out. */
  readonly secrets: readonly (string | undefined)[];
  readonly #sections: Sections;
  readonly #values: Values;

  private constructor(name: string, sections: Sections, values: Values) {
    this.name = name;
    this.#sections = sections;
    this.#values = values;
    this.region = values.region;
    const style = values['s3.addressing_style']?.toLowerCase();
    this.pathStyle = style === 'path' ? true : style === 'virtual' ? false : undefined;
    this.ignoresEndpoints = values.ignore_configured_endpoint_urls?.toLowerCase() === 'true';
    this.secrets = Object.values(sections).flatMap((section) => [
      section?.aws_secret_access_key,
      section?.aws_session_token,
    ]);
  }

  /**
   * @param named undefined for the profile that holds by itself, of which the files need not know
   * @throws GK_CONFIG for one that was named and is not there
   */
  static async read(named: string | undefined): Promise<AwsProfile> {
    const sdk = await import('@smithy/core/config');
    const files = sharedFiles(sdk.getHomeDir());
    const sections = await sdk.parseKnownFiles({ configFilepath: files[0], filepath: files[1] });
    const name = sdk.getProfileName(named === undefined ? {} : { profile: named });
    const values = NO_PROFILE.test(name) ? undefined : sectionOf(sections, name);
    if (values !== undefined || named === undefined) return new AwsProfile(name, sections, values ?? {});
    throw new GraphkeepError(
      'GK_CONFIG',
      `there is no profile ${name} of AWS, neither in ${(await Promise.all(files.map(told))).join(' nor in ')}`,
      {
        hint:
          `begin a section [profile ${name}] in the first, or [${name}] in the second, with at least a region; ` +
          'AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE name other files',
      },
    );
  }

  /** Of S3 in its section of services, else its own. @throws GK_CONFIG */
  endpoint(): string | undefined {
    const { services, endpoint_url: own } = this.#values;
    const section = services === undefined ? {} : sectionOf(this.#sections, `services.${services}`);
    if (section === undefined) {
      throw new GraphkeepError(
        'GK_CONFIG',
        `the profile ${this.name} of AWS names services that are not there: ${services}`,
        { hint: `begin a section [services ${services}] in the configuration file of AWS` },
      );
    }
    const endpoint = section['s3.endpoint_url'] || own;
    if (!endpoint) return undefined;
    return checkEndpoint(endpoint, `endpoint_url = https://s3.example.com:9000 of the profile ${this.name}`);
  }
}

/** Not what every object has by birth: a profile may be called `constructor`. */
function sectionOf(sections: Sections, name: string): Values | undefined {
  return Object.hasOwn(sections, name) ? sections[name] : undefined;
}

function sharedFiles(home: string): [configuration: string, credentials: string] {
  const { AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE } = process.env;
  const absolute = (file: string): string => (file.startsWith('~/') ? path.join(home, file.slice(2)) : file);
  return [
    absolute(AWS_CONFIG_FILE || '~/.aws/config'),
    absolute(AWS_SHARED_CREDENTIALS_FILE || '~/.aws/credentials'),
  ];
}

/** The SDK passes over a file that it cannot read, and then what is in it seems to be missing. */
async function told(file: string): Promise<string> {
  try {
    await readFile(file);
    return file;
  } catch (error) {
    return `${file} (${isErrno(error, 'ENOENT', 'ENOTDIR') ? 'not there' : 'cannot be read'})`;
  }
}
