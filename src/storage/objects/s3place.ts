/**
 * Which S3 a URL means: endpoint, region, style of its addresses, who we are. For a profile that stands in the URL what it
 * says goes before all that holds for the whole run: `s3://onsite@a` and `s3://cloud@b` are two stores of one run. For any
 * other the order is that of the tools of AWS: options, variables, profile.
 */
import { AwsProfile } from './awsprofile.ts';
import { checkEndpoint } from './endpoint.ts';
import type { S3Credentials, S3Settings } from './settings.ts';

export interface S3Place {
  /** undefined: AWS itself, in that region. */
  readonly endpoint: string | undefined;
  /** undefined: the SDK asks the machine. */
  readonly region: string | undefined;
  readonly pathStyle: boolean | undefined;
  /** For the SDK to find credentials and further settings in; undefined leaves the choice to it. */
  readonly profile: string | undefined;
  readonly credentials: S3Credentials | undefined;
  readonly secrets: readonly (string | undefined)[];
}

/** @param profile of the URL. @throws GK_CONFIG */
export async function findS3Place(profile: string | undefined, s3: S3Settings): Promise<S3Place> {
  const named = profile ?? s3.profile;
  const found = await AwsProfile.read(named);
  const endpoint = profile === undefined ? commonEndpoint(s3, found) : ownEndpoint(s3, found);
  const commonRegion = s3.region || process.env.AWS_REGION || process.env.AWS_DEFAULT_REGION;
  const region = profile === undefined ? commonRegion || found.region : found.region || commonRegion;
  const isElsewhere = endpoint !== undefined && !isOfAws(endpoint);
  return {
    endpoint,
    // Other stores do not ask for one.
    region: region || (endpoint === undefined ? undefined : 'us-east-1'),
    pathStyle: s3.pathStyle ?? found.pathStyle ?? (isElsewhere ? true : undefined),
    profile: named,
    credentials: profile === undefined ? s3.credentials : undefined,
    secrets: [...found.secrets, s3.credentials?.secretAccessKey, s3.credentials?.sessionToken],
  };
}

function commonEndpoint(s3: S3Settings, found: AwsProfile): string | undefined {
  if (s3.endpoint) return checked(s3.endpoint);
  return isIgnored(found) ? undefined : (variableEndpoint() ?? found.endpoint());
}

function ownEndpoint(s3: S3Settings, found: AwsProfile): string | undefined {
  const own = isIgnored(found) ? undefined : found.endpoint();
  return own ?? commonEndpoint(s3, found);
}

function variableEndpoint(): string | undefined {
  const endpoint = process.env.AWS_ENDPOINT_URL_S3 || process.env.AWS_ENDPOINT_URL;
  return endpoint ? checked(endpoint) : undefined;
}

function checked(endpoint: string): string {
  return checkEndpoint(endpoint, 'AWS_ENDPOINT_URL_S3=https://s3.example.com:9000');
}

function isIgnored({ ignoresEndpoints }: AwsProfile): boolean {
  return process.env.AWS_IGNORE_CONFIGURED_ENDPOINT_URLS?.toLowerCase() === 'true' || ignoresEndpoints;
}

function isOfAws(endpoint: string): boolean {
  return /(^|\.)amazonaws\.com(\.cn)?$/.test(new URL(endpoint).hostname);
}
