/**
 * Credentials as they come in Kubernetes secrets and in the files of each cloud's tools: the credentials file of AWS, the
 * JSON key of a Google service account, the two lines of an Azure account; and where each of them is sent.
 */
import assert from 'node:assert/strict';
import { createVerify, generateKeyPairSync } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect, type Server } from 'node:net';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { parseStoreUrl } from '../../src/storage/objects/address.ts';
import { connectAzure } from '../../src/storage/objects/azureclient.ts';
import { openObjectStore } from '../../src/storage/objects/open.ts';
import type { StoreSettings } from '../../src/storage/objects/settings.ts';
import { makeCertificates } from '../fixtures/certificates.ts';
import { failure, temporaryFolder } from '../fixtures/workspace.ts';
import { cli } from '../unit/cli/harness.ts';
import { ACCOUNT, ACCOUNT_KEY, startAzurite } from './azurite.ts';
import { describeWith, withEnvironment } from './suitetools.ts';
import { ACCESS_KEY, SECRET_KEY, startVersity } from './versity.ts';

function fileOf(context: TestContext, name: string, content: string): string {
  const file = join(temporaryFolder(context), name);
  // As Kubernetes mounts a secret.
  writeFileSync(file, content, { mode: 0o644 });
  return file;
}

describeWith('AWS: the credentials file', startVersity, (running) => {
  const endpoint = running.direct.s3!.endpoint!;
  const profiles = [
    '[default]',
    `aws_access_key_id = ${ACCESS_KEY}`,
    'aws_secret_access_key = planted-secret-Of-Nobody-4713',
    '[backup]',
    `aws_access_key_id = ${ACCESS_KEY}`,
    `aws_secret_access_key = ${SECRET_KEY}`,
    '',
  ].join('\n');
  const cases = {
    'its default profile': {
      text: profiles.replaceAll(/\[default\][^[]*|\[backup\]/g, (found) =>
        found === '[backup]' ? '[default]' : '',
      ),
      variables: {},
      option: [],
    },
    '--s3-profile': { text: profiles, variables: {}, option: ['--s3-profile=backup'] },
    AWS_PROFILE: { text: profiles, variables: { AWS_PROFILE: 'backup' }, option: [] },
    '--s3-profile before AWS_PROFILE': {
      text: profiles,
      variables: { AWS_PROFILE: 'default' },
      option: ['--s3-profile=backup'],
    },
    '--s3-profile before a key in the environment': {
      text: profiles,
      variables: { AWS_ACCESS_KEY_ID: 'nobody', AWS_SECRET_ACCESS_KEY: 'planted-secret-Of-Nobody-4713' },
      option: ['--s3-profile=backup'],
    },
  };
  for (const [name, { text, variables, option }] of Object.entries(cases)) {
    test(`${name} is used`, async (context) => {
      const file = fileOf(context, 'credentials', text);
      const environment = {
        AWS_SHARED_CREDENTIALS_FILE: file,
        AWS_CONFIG_FILE: `${file}.none`,
        ...variables,
      };
      const line = ['backup', 'inspect', 's3://backups/profiles', `--s3-endpoint=${endpoint}`, ...option];
      const run = await withEnvironment(environment, () => cli(line));
      assert.equal(run.exitStatus, 0, run.stderr);
    });
  }

  test('another profile is refused, and nothing of it is told', async (context) => {
    const file = fileOf(context, 'credentials', profiles);
    const environment = { AWS_SHARED_CREDENTIALS_FILE: file, AWS_CONFIG_FILE: `${file}.none` };
    const line = ['backup', 'inspect', 's3://backups/profiles', `--s3-endpoint=${endpoint}`, '--verbose'];
    const wrong = await withEnvironment(environment, () => cli(line));
    assert.equal(wrong.exitStatus, 77, wrong.stderr);
    const none = await withEnvironment(environment, () => cli([...line, '--s3-profile=nowhere']));
    assert.equal(none.exitStatus, 78, none.stderr);
    assert.match(none.stderr, /there is no profile nowhere of AWS/);
    assert.doesNotMatch(wrong.stderr + none.stderr, /planted/);
  });
});

describeWith('Azure: the file of an account', startAzurite, (running) => {
  const { endpoint } = running.direct.azure!;
  const inspectWith = (file: string) =>
    withEnvironment({ AZURE_STORAGE_ACCOUNT_FILE: file }, () =>
      cli(['backup', 'inspect', `azb://${ACCOUNT}/backups/files`, `--azure-endpoint=${endpoint}`]),
    );

  test('two lines, as the secret of a chart has them', async (context) => {
    const lines = [`AZURE_STORAGE_ACCOUNT_NAME=${ACCOUNT}`, `AZURE_STORAGE_ACCOUNT_KEY=${ACCOUNT_KEY}`];
    for (const text of [
      lines.join('\n'),
      `${lines[0]}\r\n${lines[1]}\r\n`,
      `AZURE_STORAGE_ACCOUNT=${ACCOUNT}\nAZURE_STORAGE_KEY=${ACCOUNT_KEY}\n`,
      `export ${lines[1]!.replace(/=(.*)$/s, '="$1"')}\n`,
    ]) {
      const run = await inspectWith(fileOf(context, 'azure', text));
      assert.equal(run.exitStatus, 0, run.stderr);
    }
  });

  test('one that is for another account, that has no key, or is missing', async (context) => {
    const planted = 'cGxhbnRlZA==';
    const cases = [
      [`AZURE_STORAGE_ACCOUNT_NAME=other\nAZURE_STORAGE_ACCOUNT_KEY=${planted}`, /is for the account other/],
      [`AZURE_CLIENT_SECRET=${planted}`, /has no line AZURE_STORAGE_ACCOUNT_KEY/],
    ] as const;
    for (const [text, words] of cases) {
      const run = await inspectWith(fileOf(context, 'azure', text));
      assert.equal(run.exitStatus, 78);
      assert.match(run.stderr, words);
      assert.ok(!run.stderr.includes(planted));
    }
    assert.equal((await inspectWith('/nowhere/azure')).exitStatus, 66);
  });
});

describe('Azure: an application', () => {
  test('its file is exchanged for a token where one signs in, and the token goes to the store', async (context) => {
    const { authority, server } = await makeCertificates(temporaryFolder(context));
    const asked: string[] = [];
    const service = createTlsServer(
      { key: readFileSync(server.key), cert: readFileSync(server.certificate) },
      async (request, response) => {
        const body: Buffer[] = [];
        for await (const chunk of request) body.push(chunk as Buffer);
        const { authorization = '' } = request.headers;
        asked.push(`${request.url} ${Buffer.concat(body).toString()} ${authorization}`);
        response.setHeader('connection', 'close');
        const base = `https://localhost:${port}/my-tenant`;
        if (request.url?.includes('openid-configuration')) {
          response.setHeader('content-type', 'application/json');
          const places = { authorization_endpoint: `${base}/a`, token_endpoint: `${base}/oauth2/v2.0/token` };
          response.end(JSON.stringify({ ...places, issuer: base, jwks_uri: `${base}/k` }));
        } else if (request.url?.includes('/oauth2/v2.0/token')) {
          response.setHeader('content-type', 'application/json');
          response.end(
            JSON.stringify({ access_token: 'planted-token', expires_in: 3600, token_type: 'Bearer' }),
          );
        } else {
          response.setHeader('content-type', 'application/xml');
          response.end(
            '<?xml version="1.0"?><EnumerationResults ServiceEndpoint="x" ContainerName="backups"><Blobs/></EnumerationResults>',
          );
        }
      },
    );
    const port = await listening(context, service);
    const lines = [
      'AZURE_TENANT_ID=my-tenant',
      'AZURE_CLIENT_ID=my-client',
      'AZURE_CLIENT_SECRET=planted-secret',
    ];
    const environment = {
      AZURE_STORAGE_ACCOUNT_FILE: fileOf(context, 'azure', lines.join('\n')),
      AZURE_AUTHORITY_HOST: `https://localhost:${port}`,
      // The library has no option for an authority of one's own.
      NODE_TLS_REJECT_UNAUTHORIZED: '0',
    };
    await withEnvironment(environment, async () => {
      const store = await openObjectStore('azb://myaccount/backups', {
        azure: { endpoint: `https://localhost:${port}` },
        tls: { authorityFile: authority.certificate },
        patienceMs: 1,
      });
      for await (const { key } of store.list('')) assert.fail(key);
      store.close();
    });
    assert.ok(
      asked.some((request) => /client_secret=planted-secret/.test(request)),
      asked.join('\n'),
    );
    assert.match(asked.at(-1)!, /comp=list.* Bearer planted-token$/);
  });
});

describe('Azure: where the account is', () => {
  const urlOf = async (url: string, azure = {}): Promise<string> => {
    const { container, agents } = await connectAzure(parseStoreUrl(url), {
      azure: { accountKey: ACCOUNT_KEY, ...azure },
    });
    agents.close();
    return container.url;
  };

  test('by the suffix, by who signs in, or by the whole host name', async () => {
    const government = 'https://myaccount.blob.core.usgovcloudapi.net/backups';
    const url = 'azb://myaccount/backups/x';
    assert.equal(await urlOf(url), 'https://myaccount.blob.core.windows.net/backups');
    assert.equal(await urlOf(url, { endpointSuffix: 'blob.core.usgovcloudapi.net' }), government);
    assert.equal(await urlOf('azb://myaccount.blob.core.usgovcloudapi.net/backups'), government);
    for (const authority of ['https://login.microsoftonline.us', 'login.microsoftonline.us/']) {
      await withEnvironment({ AZURE_AUTHORITY_HOST: authority }, async () => {
        assert.equal(await urlOf(url), government);
        assert.match(
          await urlOf(url, { endpointSuffix: 'blob.example' }),
          /^https:\/\/myaccount\.blob\.example\//,
        );
      });
    }
    await assert.rejects(urlOf(url, { endpointSuffix: 'x/y?sig=1' }), failure('GK_CONFIG', /suffix/));
  });
});

interface Listening {
  readonly port: number;
  readonly seen: IncomingMessage[];
}

async function listening(context: TestContext, server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  context.after(() => void server.close());
  return (server.address() as AddressInfo).port;
}

/** An empty bucket of Google over TLS, which notes what it was asked. */
async function emptyBucket(context: TestContext): Promise<Listening & { readonly authorityFile: string }> {
  const { authority, server } = await makeCertificates(temporaryFolder(context));
  const seen: IncomingMessage[] = [];
  const bucket = createTlsServer(
    { key: readFileSync(server.key), cert: readFileSync(server.certificate) },
    (request, response) => {
      seen.push(request);
      response.setHeader('content-type', 'application/json');
      response.setHeader('connection', 'close');
      response.end('{"kind":"storage#objects"}');
    },
  );
  return { port: await listening(context, bucket), seen, authorityFile: authority.certificate };
}

async function listed(settings: StoreSettings): Promise<void> {
  const store = await openObjectStore('gs://backups/x', { ...settings, patienceMs: 1 });
  try {
    for await (const { key } of store.list('')) assert.fail(key);
  } finally {
    store.close();
  }
}

/** The JSON key of a service account, and what proves its signature. */
function serviceAccount(context: TestContext, more: object = {}) {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const content = {
    type: 'service_account',
    project_id: 'example',
    private_key_id: 'planted',
    private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    client_email: 'backup@example.iam.gserviceaccount.com',
    token_uri: 'https://oauth2.googleapis.com/token',
    ...more,
  };
  return { file: fileOf(context, 'key.json', JSON.stringify(content)), publicKey };
}

function claimsOf(
  jwt: string,
  publicKey: ReturnType<typeof serviceAccount>['publicKey'],
): Record<string, unknown> {
  const [head, body, signature] = jwt.split('.') as [string, string, string];
  const isSigned = createVerify('RSA-SHA256')
    .update(`${head}.${body}`)
    .verify(publicKey, Buffer.from(signature, 'base64url'));
  assert.ok(isSigned);
  return JSON.parse(Buffer.from(body, 'base64url').toString()) as Record<string, unknown>;
}

describe('Google: the key of a service account', () => {
  test('of a universe of its own: it signs for itself, and goes to the store of that universe', async (context) => {
    const { port, seen, authorityFile } = await emptyBucket(context);
    const { file, publicKey } = serviceAccount(context, { universe_domain: 'universe.example' });
    const google = { endpoint: `https://localhost:${port}`, projectId: 'who-pays' };
    await withEnvironment({ GOOGLE_APPLICATION_CREDENTIALS: file }, async () => {
      await listed({ google, tls: { authorityFile } });
      const { authorization = '', ...headers } = seen[0]!.headers;
      const claims = claimsOf(authorization.replace(/^Bearer /, ''), publicKey);
      assert.equal(claims.iss, 'backup@example.iam.gserviceaccount.com');
      assert.equal(headers['x-goog-user-project'], 'who-pays');
      // Where it goes by itself: to a host that is nowhere.
      await assert.rejects(listed({}), failure('GK_HOST_UNKNOWN', /gs:\/\/backups/));
    });
  });

  test('is exchanged for a token at Google, and the token goes to the store', async (context) => {
    const { port, seen, authorityFile } = await emptyBucket(context);
    const { file, publicKey } = serviceAccount(context);
    const tunnelled = await tokenService(context);
    const environment = {
      GOOGLE_APPLICATION_CREDENTIALS: file,
      HTTPS_PROXY: `http://127.0.0.1:${tunnelled.port}`,
      NO_PROXY: 'localhost',
      // The library has no option for an authority of one's own.
      NODE_TLS_REJECT_UNAUTHORIZED: '0',
    };
    await withEnvironment(environment, () =>
      listed({ google: { endpoint: `https://localhost:${port}` }, tls: { authorityFile } }),
    );
    assert.deepEqual(tunnelled.hosts, ['oauth2.googleapis.com:443']);
    const assertion = new URLSearchParams(tunnelled.bodies[0]).get('assertion') ?? '';
    assert.match(String(claimsOf(assertion, publicKey).scope), /devstorage\.read_write/);
    assert.equal(seen[0]!.headers.authorization, 'Bearer ya29.granted');
    assert.equal(seen[0]!.headers['x-goog-user-project'], undefined);
  });

  test('over plain HTTP no command line sends a token', async (context) => {
    const seen: IncomingMessage[] = [];
    const bucket = createServer((request, response) => {
      seen.push(request);
      response.end('{"kind":"storage#objects"}');
    });
    const port = await listening(context, bucket);
    const { file } = serviceAccount(context, { universe_domain: 'universe.example' });
    const run = await withEnvironment({ GOOGLE_APPLICATION_CREDENTIALS: file }, () =>
      cli(['backup', 'inspect', 'gs://backups', `--gcs-endpoint=http://127.0.0.1:${port}`]),
    );
    bucket.closeAllConnections();
    assert.equal(run.exitStatus, 0, run.stderr);
    assert.ok(seen.length > 0);
    for (const { headers } of seen) assert.equal(headers.authorization, undefined);
  });

  test('over TLS it does, and says who pays', async (context) => {
    const { port, seen, authorityFile } = await emptyBucket(context);
    const { file } = serviceAccount(context, { universe_domain: 'universe.example' });
    const line = ['backup', 'inspect', 'gs://backups', `--gcs-endpoint=https://localhost:${port}`];
    const run = await withEnvironment({ GOOGLE_APPLICATION_CREDENTIALS: file }, () =>
      cli([...line, `--store-ca=${authorityFile}`, '--gcs-project=who-pays']),
    );
    assert.equal(run.exitStatus, 0, run.stderr);
    assert.match(String(seen[0]!.headers.authorization), /^Bearer eyJ/);
    assert.equal(seen[0]!.headers['x-goog-user-project'], 'who-pays');
  });
});

/** What stands for oauth2.googleapis.com behind a proxy: it grants a token to everybody. */
async function tokenService(
  context: TestContext,
): Promise<{ port: number; hosts: string[]; bodies: string[] }> {
  const { wrongHostServer } = await makeCertificates(temporaryFolder(context));
  const bodies: string[] = [];
  const service = createTlsServer(
    { key: readFileSync(wrongHostServer.key), cert: readFileSync(wrongHostServer.certificate) },
    async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      bodies.push(Buffer.concat(chunks).toString());
      response.setHeader('content-type', 'application/json');
      response.setHeader('connection', 'close');
      response.end(JSON.stringify({ access_token: 'ya29.granted', expires_in: 3600, token_type: 'Bearer' }));
    },
  );
  const servicePort = await listening(context, service);
  const hosts: string[] = [];
  const proxy = createServer();
  proxy.on('connect', (request, socket) => {
    hosts.push(request.url ?? '');
    const onward = connect(servicePort, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      socket.pipe(onward).pipe(socket);
    });
    for (const end of [socket, onward]) end.on('error', () => undefined);
  });
  return { port: await listening(context, proxy), hosts, bodies };
}
