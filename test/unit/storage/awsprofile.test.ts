/** What profiles of the files of AWS say of a store, and before what else it goes; as the SDK itself then does it. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { connectS3 } from '../../../src/storage/objects/s3client.ts';
import { findS3Place } from '../../../src/storage/objects/s3place.ts';
import type { S3Settings } from '../../../src/storage/objects/settings.ts';
import { failure, temporaryFolder } from '../../fixtures/workspace.ts';
import { withEnvironment } from '../../storage/suitetools.ts';

const CONFIGURATION = `
[default]
region = eu-default-1
endpoint_url = https://default.example.com
[profile onsite]
region = eu-onsite-1
endpoint_url = https://onsite.example.com:9000 ; as the manual has it
[profile served]
services = all
endpoint_url = https://passed-over.example.com
[services all]
dynamodb =
  endpoint_url = https://dynamo.example.com
s3 =
  endpoint_url = https://served.example.com
[profile elsewhere]
services = none
[profile half]
services = others
endpoint_url = https://half.example.com
[services others]
dynamodb =
  endpoint_url = https://dynamo.example.com
[profile plain]
region = eu-plain-1
[profile ofaws]
region = eu-plain-1
ignore_configured_endpoint_urls = true
endpoint_url = https://passed-over.example.com
[profile virtual]
endpoint_url = https://virtual.example.com
s3 =
  addressing_style = virtual
[profile path]
s3 =
  addressing_style = path
[profile aws]
endpoint_url = https://s3.eu-west-1.amazonaws.com
[profile broken]
endpoint_url = https://user:planted@broken.example.com
[profile empty]
[profile open]
endpoint_url = http://open.example.com
`;
const CREDENTIALS = `
[default]
aws_access_key_id = of-default
aws_secret_access_key = planted-default
[onsite]
aws_access_key_id = of-onsite
aws_secret_access_key = planted-onsite
aws_session_token = planted-token
[keysonly]
aws_access_key_id = of-keysonly
aws_secret_access_key = planted-keysonly
`;
/** Of the machine that runs the tests nothing may be left. */
const NOTHING = {
  AWS_PROFILE: '',
  AWS_REGION: '',
  AWS_DEFAULT_REGION: '',
  AWS_ENDPOINT_URL: '',
  AWS_ENDPOINT_URL_S3: '',
  AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: '',
  AWS_ACCESS_KEY_ID: '',
  AWS_SECRET_ACCESS_KEY: '',
  AWS_SESSION_TOKEN: '',
};
/** All that holds for the whole run, and that a profile in the URL goes before. */
const COMMON = {
  AWS_PROFILE: 'plain',
  AWS_REGION: 'us-variable-1',
  AWS_ENDPOINT_URL_S3: 'https://variable.example.com',
  AWS_ACCESS_KEY_ID: 'of-variable',
  AWS_SECRET_ACCESS_KEY: 'planted-variable',
};

type Variables = Readonly<Record<string, string>>;

function withFiles<Result>(context: TestContext, variables: Variables, work: () => Promise<Result>) {
  const folder = temporaryFolder(context);
  const files = {
    AWS_CONFIG_FILE: join(folder, 'config'),
    AWS_SHARED_CREDENTIALS_FILE: join(folder, 'keys'),
  };
  writeFileSync(files.AWS_CONFIG_FILE, CONFIGURATION);
  writeFileSync(files.AWS_SHARED_CREDENTIALS_FILE, CREDENTIALS);
  return withEnvironment({ ...NOTHING, ...files, ...variables }, work);
}

describe('where a profile is', () => {
  async function placeOf(
    context: TestContext,
    profile?: string,
    s3: S3Settings = {},
    variables: Variables = {},
  ) {
    const found = await withFiles(context, variables, () => findS3Place(profile, s3));
    return [found.endpoint, found.region, found.pathStyle];
  }
  const option = { endpoint: 'https://option.example.com', region: 'us-option-1' };

  test('in the URL: what it says goes before options and variables, and these before the default of AWS', async (context) => {
    const of = (profile: string, s3: S3Settings = option, variables: Variables = COMMON) =>
      placeOf(context, profile, s3, variables);
    const onsite = ['https://onsite.example.com:9000', 'eu-onsite-1', true];
    assert.deepEqual(await of('onsite'), onsite);
    assert.deepEqual(await of('onsite', {}, {}), onsite);
    assert.deepEqual(await of('plain'), [option.endpoint, 'eu-plain-1', true]);
    assert.deepEqual(await of('plain', {}), ['https://variable.example.com', 'eu-plain-1', true]);
    assert.deepEqual(await of('plain', {}, {}), [undefined, 'eu-plain-1', undefined]);
    assert.deepEqual(await of('keysonly'), [option.endpoint, option.region, true]);
    assert.deepEqual(await of('keysonly', {}), ['https://variable.example.com', 'us-variable-1', true]);
    assert.deepEqual(await of('served', {}, {}), ['https://served.example.com', 'us-east-1', true]);
    assert.deepEqual(await of('half', {}, {}), ['https://half.example.com', 'us-east-1', true]);
  });

  test('of the whole run: options, variables, profile, as the tools of AWS do it', async (context) => {
    const { AWS_PROFILE: _, ...variables } = COMMON;
    const named = { ...option, profile: 'onsite' };
    assert.deepEqual(await placeOf(context, undefined, named, variables), [
      option.endpoint,
      option.region,
      true,
    ]);
    assert.deepEqual(await placeOf(context, undefined, { profile: 'onsite' }, variables), [
      'https://variable.example.com',
      'us-variable-1',
      true,
    ]);
    const onsite = ['https://onsite.example.com:9000', 'eu-onsite-1', true];
    assert.deepEqual(await placeOf(context, undefined, { profile: 'onsite' }), onsite);
    assert.deepEqual(await placeOf(context, undefined, {}, { AWS_PROFILE: 'onsite' }), onsite);
    assert.deepEqual(await placeOf(context), ['https://default.example.com', 'eu-default-1', true]);
    assert.deepEqual(await placeOf(context, undefined, {}, { AWS_PROFILE: 'nowhere' }), [
      undefined,
      undefined,
      undefined,
    ]);
  });

  test('endpoints that are to be ignored', async (context) => {
    const ignored = { AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: 'true', ...COMMON };
    assert.deepEqual(await placeOf(context, 'onsite', {}, ignored), [undefined, 'eu-onsite-1', undefined]);
    assert.deepEqual(await placeOf(context, 'onsite', option, ignored), [
      option.endpoint,
      'eu-onsite-1',
      true,
    ]);
    assert.deepEqual(await placeOf(context, 'ofaws', {}, COMMON), [undefined, 'eu-plain-1', undefined]);
  });

  test('the bucket stands in the path where it is not AWS, or as the profile or the option says', async (context) => {
    const styleOf = async (profile: string, s3: S3Settings = {}) => (await placeOf(context, profile, s3))[2];
    assert.equal(await styleOf('virtual'), false);
    assert.equal(await styleOf('virtual', { pathStyle: true }), true);
    assert.equal(await styleOf('path'), true);
    assert.equal(await styleOf('aws'), undefined);
  });

  test('one that is not there is named, with the files', async (context) => {
    const names = [
      'nowhere',
      'empty',
      'constructor',
      '__proto__',
      'services.all',
      'profile onsite',
      'OnSite',
    ];
    for (const name of names) {
      const told = failure('GK_CONFIG', /there is no profile .* of AWS, .*config nor in .*keys$/);
      await assert.rejects(placeOf(context, name), told, name);
      await assert.rejects(placeOf(context, undefined, { profile: name }), told, name);
      await assert.rejects(placeOf(context, name), (error) =>
        String(error).includes(`no profile ${name} of`),
      );
    }
    const files = {
      AWS_CONFIG_FILE: temporaryFolder(context),
      AWS_SHARED_CREDENTIALS_FILE: join(temporaryFolder(context), 'none'),
    };
    const told = /, neither in \S+ \(cannot be read\) nor in \S+none \(not there\)$/;
    await assert.rejects(placeOf(context, 'onsite', {}, files), failure('GK_CONFIG', told));
    const home = temporaryFolder(context);
    const atHome = { HOME: home, AWS_CONFIG_FILE: '', AWS_SHARED_CREDENTIALS_FILE: '~/keys' };
    await assert.rejects(placeOf(context, 'onsite', {}, atHome), (error) => {
      assert.ok(
        String(error).includes(join(home, '.aws', 'config')) && String(error).includes(join(home, 'keys')),
      );
      return failure('GK_CONFIG')(error);
    });
  });

  test('services that are not there, and an endpoint that is none', async (context) => {
    await assert.rejects(placeOf(context, 'elsewhere'), failure('GK_CONFIG', /elsewhere .* services .*none/));
    await assert.rejects(placeOf(context, 'broken'), (error) => {
      assert.doesNotMatch(String(error), /planted/);
      return failure('GK_CONFIG', /endpoint/)(error);
    });
  });
});

describe('what the SDK does with a profile of a URL', () => {
  async function asked(
    context: TestContext,
    profile: string | undefined,
    s3: S3Settings,
    variables: Variables,
  ) {
    return withFiles(context, variables, async () => {
      const { sdk, client, agents, scrub } = await connectS3(profile === undefined ? {} : { profile }, {
        s3,
      });
      // The SDK says once in a process what it passes over.
      const warn = context.mock.method(console, 'warn');
      let target = '';
      // Just before it would be sent.
      client.middlewareStack.add(
        () => (parts) => {
          const { hostname, path } = parts.request as { hostname: string; path: string };
          target = `${hostname}${path}`;
          throw new Error('far enough');
        },
        { step: 'finalizeRequest', priority: 'low' },
      );
      await assert.rejects(client.send(new sdk.HeadObjectCommand({ Bucket: 'bkt', Key: 'x' })), /far enough/);
      const { accessKeyId } = await client.config.credentials();
      assert.equal(warn.mock.callCount(), 0, 'nothing is said on the terminal');
      const region = await client.config.region();
      client.destroy();
      agents.close();
      return { target, accessKeyId, region, scrub };
    });
  }

  test('it is asked with the keys of that profile, whatever else there is', async (context) => {
    const credentials = { accessKeyId: 'of-settings', secretAccessKey: 'planted-settings' };
    const { scrub, ...place } = await asked(context, 'onsite', { credentials, profile: 'keysonly' }, COMMON);
    assert.deepEqual(place, {
      target: 'onsite.example.com/bkt/x',
      accessKeyId: 'of-onsite',
      region: 'eu-onsite-1',
    });
    assert.equal(scrub('planted-onsite planted-token planted-default'), '*** *** ***');
  });

  test('without an endpoint it is AWS, even where another profile has one', async (context) => {
    const ofDefault = await asked(context, undefined, {}, {});
    assert.equal(ofDefault.target, 'default.example.com/bkt/x');
    const variables = { AWS_PROFILE: 'default', AWS_REGION: 'eu-west-1' };
    for (const [profile, s3] of [
      ['keysonly', {}],
      [undefined, { profile: 'keysonly' }],
    ] as const) {
      const { target, accessKeyId } = await asked(context, profile, s3, variables);
      assert.deepEqual([target, accessKeyId], ['bkt.s3.eu-west-1.amazonaws.com/x', 'of-keysonly']);
    }
  });

  test('a key of one’s own does not go to its endpoint in the clear', async (context) => {
    const customerKey = Buffer.alloc(32, 7);
    const connecting = withFiles(context, {}, () => connectS3({ profile: 'open' }, { s3: { customerKey } }));
    await assert.rejects(connecting, failure('GK_CONFIG', /not over http/));
  });
});
