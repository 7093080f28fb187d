/** Health, readiness and figures of a whole backup server, while backups succeed and fail. */
import assert from 'node:assert/strict';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { installationFromPaths } from '../../../src/neo4j/installation.ts';
import { Metrics } from '../../../src/server/metrics.ts';
import { type Answered, askServer, backUp, json, Served, type ServedShape } from '../../fixtures/served.ts';

function serve(context: TestContext, more: ServedShape = {}): Promise<Served> {
  const settings = { 'graphkeep.server.monitoring_address': '127.0.0.1:0', ...more.settings };
  return Served.start(context, { ...more, settings });
}

const monitor = (served: Served, path: string): Promise<Answered> =>
  askServer({ port: served.monitoringPort, path });

/** Series with their labels → figures. */
async function figures(served: Served): Promise<Map<string, number>> {
  const { status, text, headers } = await monitor(served, '/metrics');
  assert.equal(status, 200, text);
  assert.match(String(headers['content-type']), /^text\/plain/);
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [
      line.slice(0, line.lastIndexOf(' ')),
      Number(line.slice(line.lastIndexOf(' ') + 1)),
    ]),
  );
}

const report = (database: string, more: object = {}) => ({
  path: `/v1/databases/${database}/reports`,
  ...json({ succeeded: true, kind: 'full', durationMs: 2000, artifactBytes: 7, ...more }),
});

describe('figures', () => {
  test('of a server that has not done anything yet', async (context) => {
    const served = await serve(context);
    const found = await figures(served);
    assert.equal(found.get('graphkeep_ready'), 1);
    assert.equal(found.get('graphkeep_sessions'), 0);
    assert.equal(found.get('graphkeep_refused_requests_total'), 0);
    assert.ok([...found.keys()].some((name) => /^graphkeep_info\{version="\d+\.\d+\.\d+"\}$/.test(name)));
    const about = [...found.keys()].filter((name) => name.includes('database='));
    assert.deepEqual(about.sort(), [
      'graphkeep_checkpoint_age_seconds{database="neo4j"}',
      'graphkeep_log_window_transactions{database="neo4j"}',
    ]);
  });

  test('of a backup that succeeded: when, how long, how old, how many bytes', async (context) => {
    const served = await serve(context);
    const before = Date.now() / 1000;
    const run = await backUp(context, { port: served.port });
    assert.equal(run.exitStatus, 0, run.stdout);
    const found = await figures(served);
    const last = found.get('graphkeep_last_success_timestamp_seconds{database="neo4j",kind="full"}')!;
    assert.ok(last >= before && last <= Date.now() / 1000, String(last));
    const age = found.get('graphkeep_newest_backup_age_seconds{database="neo4j"}')!;
    assert.ok(age >= 0 && age <= Date.now() / 1000 - before, String(age));
    const duration = 'graphkeep_backup_duration_seconds';
    assert.equal(found.get(`${duration}_count{database="neo4j",kind="full"}`), 1);
    assert.ok(found.get(`${duration}_sum{database="neo4j",kind="full"}`)! > 0);
    assert.ok(found.get('graphkeep_sent_bytes_total{database="neo4j"}')! > 100_000);
    assert.equal(found.get('graphkeep_sessions'), 0);
    const ends = (await served.stop()).filter(({ event }) => event === 'sessionEnd');
    const sent = ends.reduce((sum, { sentBytes = 0 }) => sum + sentBytes, 0);
    assert.equal(found.get('graphkeep_sent_bytes_total{database="neo4j"}'), sent);
  });

  test('of reports: durations add up, kinds are apart, failures are counted by their code', async (context) => {
    const served = await serve(context, { databases: ['other'] });
    const reports = [
      report('neo4j'),
      report('neo4j', { durationMs: 3000 }),
      report('neo4j', { kind: 'differential', durationMs: 500 }),
      report('other', { succeeded: false, errorCode: 'GK_NO_SPACE' }),
      report('other', { succeeded: false, errorCode: 'GK_NO_SPACE' }),
      report('other', { succeeded: false, errorCode: 'GK_IO' }),
      // Codes are names of series: one that is made up is not taken as it is.
      report('other', { succeeded: false, errorCode: 'GK_MADE_UP_1' }),
      report('other', { succeeded: false, errorCode: 'toString' }),
    ];
    for (const each of reports) assert.equal((await served.ask(each)).status, 204);
    const found = await figures(served);
    const duration = 'graphkeep_backup_duration_seconds';
    assert.equal(found.get(`${duration}_sum{database="neo4j",kind="full"}`), 5);
    assert.equal(found.get(`${duration}_count{database="neo4j",kind="full"}`), 2);
    assert.equal(found.get(`${duration}_sum{database="neo4j",kind="differential"}`), 0.5);
    const failures = [...found].filter(([name]) => name.startsWith('graphkeep_failures_total'));
    assert.deepEqual(failures.sort(), [
      ['graphkeep_failures_total{database="other",code="GK_FAILED"}', 2],
      ['graphkeep_failures_total{database="other",code="GK_IO"}', 1],
      ['graphkeep_failures_total{database="other",code="GK_NO_SPACE"}', 2],
    ]);
    const successes = [...found.keys()].filter((name) => name.startsWith('graphkeep_last_success'));
    assert.ok(
      successes.every((name) => name.includes('"neo4j"')),
      'a failure is no success',
    );
  });

  test('of the log: how old the checkpoint is, how far back a differential reaches', async (context) => {
    const served = await serve(context);
    const found = await figures(served);
    const age = found.get('graphkeep_checkpoint_age_seconds{database="neo4j"}')!;
    assert.ok(age > 0 && age < Date.now() / 1000, String(age));
    assert.ok(found.get('graphkeep_log_window_transactions{database="neo4j"}')! > 0);
  });

  test('of names that are nothing: no series, whoever makes them up', async (context) => {
    const served = await serve(context);
    const before = (await figures(served)).size;
    for (let number = 0; number < 50; number += 1) {
      const name = `made-up-${number}`;
      assert.equal((await served.ask(report(name))).status, 404);
      const body = json({ database: name, kind: 'snapshot', request: name });
      assert.equal((await served.ask({ path: '/v1/sessions', ...body })).status, 404);
      await served.ask({ path: `/v1/${name}` });
    }
    assert.equal((await figures(served)).size, before);
  });

  test('of sessions, and of who was refused', async (context) => {
    const served = await serve(context, { settings: { 'graphkeep.server.session_timeout': '1s' } });
    const body = json({ database: 'neo4j', kind: 'log', request: 'held' });
    assert.equal((await served.ask({ path: '/v1/sessions', ...body })).status, 200);
    assert.equal((await figures(served)).get('graphkeep_sessions'), 1);
    await served.ask({ path: '/v1/databases', headers: { host: 'evil.example' } });
    assert.equal((await figures(served)).get('graphkeep_refused_requests_total'), 1);
    // It ends by itself: nobody asks for anything any more.
    let found = await figures(served);
    while (found.get('graphkeep_sessions') !== 0) found = await figures(served);
    assert.equal(found.get('graphkeep_sessions_expired_total{database="neo4j"}'), 1);
    assert.ok((await served.stop()).some(({ event }) => event === 'sessionExpired'));
  });

  test('of a database that cannot be measured: that, and no failed backup at every look', async (context) => {
    const served = await serve(context);
    writeFileSync(join(served.root, 'data', 'databases', 'neo4j', 'neostore'), 'no store');
    await figures(served);
    const found = await figures(served);
    const broken = [...found].filter(([name]) => name.startsWith('graphkeep_database_unreadable'));
    assert.equal(broken.length, 1);
    assert.match(broken[0]![0], /\{database="neo4j",code="GK_[A-Z_]+"\}$/);
    assert.ok(![...found.keys()].some((name) => /failures_total|checkpoint_age/.test(name)));
  });

  test('are read once for many who ask at the same time, and anew for the next', async (context) => {
    const { root } = await serve(context);
    const data = join(root, 'data');
    const installation = installationFromPaths(join(data, 'databases'), join(data, 'transactions'));
    const metrics = new Metrics(installation, () => 0);
    const first = metrics.render();
    assert.equal(metrics.render(), first);
    await first;
    const next = metrics.render();
    assert.notEqual(next, first);
    await next;
  });

  test('of a database that was dropped: what is read from it is gone', async (context) => {
    const served = await serve(context, { databases: ['other'] });
    assert.ok((await figures(served)).has('graphkeep_checkpoint_age_seconds{database="other"}'));
    for (const kind of ['databases', 'transactions'])
      rmSync(join(served.root, 'data', kind, 'other'), { recursive: true });
    assert.ok(![...(await figures(served)).keys()].some((name) => name.includes('other')));
  });
});

describe('health and readiness', () => {
  test('ready as long as the databases can be listed; alive all the time', async (context) => {
    const served = await serve(context);
    const databases = join(served.root, 'data', 'databases');
    const both = async (): Promise<number[]> => {
      const statuses = [];
      for (const port of [served.port, served.monitoringPort]) {
        for (const path of ['/health', '/ready']) statuses.push((await askServer({ port, path })).status);
      }
      return statuses;
    };
    assert.deepEqual(await both(), [200, 200, 200, 200]);
    renameSync(databases, `${databases}.away`);
    assert.deepEqual(await both(), [200, 503, 200, 503]);
    const { text } = await monitor(served, '/ready');
    assert.ok(!text.includes(served.root), 'paths of the host are not for whoever asks');
    assert.ok(served.logLines.join('').includes(databases), 'but the log has them');
    const found = await figures(served);
    assert.equal(found.get('graphkeep_ready'), 0);
    renameSync(`${databases}.away`, databases);
    assert.deepEqual(await both(), [200, 200, 200, 200]);
    assert.equal((await figures(served)).get('graphkeep_ready'), 1);
  });

  test('the address for probes serves nothing else', async (context) => {
    const served = await serve(context);
    for (const path of ['/v1/databases', '/v1/server', '/v1/sessions', '/'])
      assert.equal((await monitor(served, path)).status, 404, path);
  });

  test('without the setting there is no such address', async (context) => {
    const served = await Served.start(context);
    assert.equal(served.server.monitoringAddress, undefined);
  });
});
