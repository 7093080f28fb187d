/**
 * What Prometheus is told. Names of databases come from the folders, kinds of failures from the table of errors: no client
 * can make the number of series grow. Times of backups are known since the start of the server only.
 */
import { Counter, Gauge, Histogram, Registry } from '@prometheus-io/client';
import { asGraphkeepError } from '../errors.ts';
import { readFreshness } from '../hotcopy/freshness.ts';
import type { Installation } from '../neo4j/installation.ts';
import type { BackupReport } from '../remote/protocol.ts';
import { VERSION } from '../version.ts';

const DURATION_BUCKETS_SECONDS = [0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400];
/** Names begin with this; what follows is in docs/server.md. */
const PREFIX = 'graphkeep_';

export class Metrics {
  readonly registry = new Registry();
  readonly #installation: Installation;
  readonly #success = this.#gauge('last_success_timestamp_seconds', 'Last backup that succeeded', [
    'database',
    'kind',
  ]);
  readonly #age = this.#gauge('newest_backup_age_seconds', 'Age of the newest backup that succeeded', [
    'database',
  ]);
  readonly #fenceAge = this.#gauge(
    'checkpoint_age_seconds',
    'Age of the checkpoint a backup would start from',
    ['database'],
  );
  readonly #window = this.#gauge(
    'log_window_transactions',
    'Transactions before the last checkpoint that the log still holds: how far back a differential can reach',
    ['database'],
  );
  readonly #unreadable = this.#gauge(
    'database_unreadable',
    'A database whose files cannot be measured, so not be backed up either, by the stable code of the error',
    ['database', 'code'],
  );
  readonly #ready = this.#gauge('ready', 'Whether the databases can be listed', []);
  readonly #sessions = this.#gauge('sessions', 'Open sessions', []);
  readonly #duration: Histogram<'database' | 'kind'>;
  readonly #bytes: Counter<'database'>;
  readonly #failures: Counter<'database' | 'code'>;
  readonly #expired: Counter<'database'>;
  readonly #refused: Counter<string>;
  readonly #newest = new Map<string, number>();
  #rendered: Promise<string> | undefined;

  constructor(installation: Installation, sessionCount: () => number) {
    this.#installation = installation;
    const registers = [this.registry];
    const named = (name: string, help: string) => ({ name: `${PREFIX}${name}`, help, registers });
    this.#duration = new Histogram({
      ...named('backup_duration_seconds', 'Duration of backups that succeeded'),
      labelNames: ['database', 'kind'],
      buckets: DURATION_BUCKETS_SECONDS,
    });
    this.#bytes = new Counter({
      ...named('sent_bytes_total', 'Bytes of databases sent to clients'),
      labelNames: ['database'],
    });
    this.#failures = new Counter({
      ...named('failures_total', 'Backups that failed, by the stable code of the error'),
      labelNames: ['database', 'code'],
    });
    this.#expired = new Counter({
      ...named('sessions_expired_total', 'Sessions closed since nothing was heard of their client'),
      labelNames: ['database'],
    });
    this.#refused = new Counter(
      named('refused_requests_total', 'Requests without a known token or certificate'),
    );
    this.#gauge('info', 'Version of the server', ['version']).set({ version: VERSION }, 1);
    this.#sessionCount = sessionCount;
  }

  readonly #sessionCount: () => number;

  sent(database: string, bytes: number): void {
    this.#bytes.inc({ database }, bytes);
  }

  expired(database: string): void {
    this.#expired.inc({ database });
  }

  refused(): void {
    this.#refused.inc();
  }

  reported(database: string, report: BackupReport): void {
    if (!report.succeeded) {
      this.#failures.inc({ database, code: report.errorCode ?? 'GK_FAILED' });
      return;
    }
    const now = Date.now() / 1000;
    this.#newest.set(database, now);
    this.#success.set({ database, kind: report.kind }, now);
    this.#duration.observe({ database, kind: report.kind }, report.durationMs / 1000);
  }

  /**
   * The text form of Prometheus; what is read from the databases is read now. Who asks meanwhile gets the same answer: two
   * at once would take each other's figures away, and many would read the disk as often.
   */
  render(): Promise<string> {
    this.#rendered ??= this.#render().finally(() => {
      this.#rendered = undefined;
    });
    return this.#rendered;
  }

  async #render(): Promise<string> {
    this.#sessions.set(this.#sessionCount());
    for (const [database, time] of this.#newest) this.#age.set({ database }, Date.now() / 1000 - time);
    // A database that was dropped must not stay as it was last seen.
    this.#fenceAge.reset();
    this.#window.reset();
    this.#unreadable.reset();
    // Without the folder there is nothing to be measured, but what was counted is still true.
    const databases = await this.#installation.listDatabases().catch(() => undefined);
    this.#ready.set(databases === undefined ? 0 : 1);
    for (const database of databases ?? []) await this.#measure(database);
    return this.registry.metrics();
  }

  async #measure(database: string): Promise<void> {
    try {
      const freshness = await readFreshness(this.#installation.folders(database));
      this.#fenceAge.set({ database }, (Date.now() - freshness.checkpointTime.getTime()) / 1000);
      const oldest = freshness.followableTransaction;
      if (oldest !== undefined)
        this.#window.set({ database }, Number(freshness.checkpointTransaction - oldest));
    } catch (error) {
      // No backup has failed yet: to count one at every look would ring the wrong bell.
      this.#unreadable.set({ database, code: asGraphkeepError(error, 'measure').code }, 1);
    }
  }

  #gauge<Label extends string>(name: string, help: string, labelNames: Label[]): Gauge<Label> {
    return new Gauge({ name: `${PREFIX}${name}`, help, labelNames, registers: [this.registry] });
  }
}
