/**
 * How a store is reached: what the command line and the configuration may say of endpoints, TLS and credentials. What is
 * not said here comes from where the users of that cloud expect it: environment, profiles, the identity of the machine.
 */
import type { SectionLimits } from './parts.ts';

export interface StoreSettings {
  readonly s3?: S3Settings;
  readonly azure?: AzureSettings;
  readonly google?: GoogleSettings;
  readonly tls?: StoreTlsSettings;
  /** How long a store may bring nothing at all, tries again included, before it is given up. */
  readonly patienceMs?: number;
  /** How long a connection that is open may bring nothing. */
  readonly silenceMs?: number;
  /** Told of a request that is tried again. */
  readonly onRetry?: (message: string) => void;
  /** Other limits than those of the store, for tests: what is done at a limit must be tried on small objects. */
  readonly uploads?: Partial<SectionLimits>;
}

export interface StoreTlsSettings {
  /** A PEM file of authorities that are trusted besides those of the system. */
  readonly authorityFile?: string;
  /** Trusts whoever answers: for a test, never for a backup. */
  readonly skipVerify?: boolean;
}

export type ChecksumMode = 'WHEN_SUPPORTED' | 'WHEN_REQUIRED';

/** For all S3 of a run; what a profile in a URL says goes before it. */
export interface S3Settings {
  /** Instead of AWS; without it `AWS_ENDPOINT_URL_S3`, then `AWS_ENDPOINT_URL`, then what the profile says. */
  readonly endpoint?: string;
  readonly region?: string;
  /** Bucket in the path and not in the host name; else as the profile says, else for an endpoint that is not of AWS. */
  readonly pathStyle?: boolean;
  readonly profile?: string;
  readonly credentials?: S3Credentials;
  /** `WHEN_REQUIRED` for stores that do not know the checksums of AWS. */
  readonly requestChecksums?: ChecksumMode;
  readonly responseChecksums?: ChecksumMode;
  /** SSE-C, 32 bytes: the store encrypts with it and forgets it. */
  readonly customerKey?: Buffer;
}

export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/** The first of connection string, account key, token (SAS), application; else the default chain of Azure. */
export interface AzureSettings {
  /** The whole URL of the account, for an emulator; without it `https://<account>.blob.core.windows.net`. */
  readonly endpoint?: string;
  /** Instead of `blob.core.windows.net`, for another Azure cloud; without it as `AZURE_AUTHORITY_HOST` says. */
  readonly endpointSuffix?: string;
  readonly connectionString?: string;
  readonly accountKey?: string;
  readonly sasToken?: string;
  readonly application?: AzureApplication;
}

/** What Azure calls a service principal. */
export interface AzureApplication {
  readonly tenantId: string;
  readonly clientId: string;
  readonly clientSecret: string;
}

/** Who we are comes from the application default credentials: `GOOGLE_APPLICATION_CREDENTIALS`, gcloud, the machine. */
export interface GoogleSettings {
  /** Without it `STORAGE_EMULATOR_HOST`, then the store of the universe that the credentials are of. */
  readonly endpoint?: string;
  /** That pays for the requests. */
  readonly projectId?: string;
  /** No credentials at all: an emulator. */
  readonly anonymous?: boolean;
}
