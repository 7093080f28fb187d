/** The report at the end: what was copied, how long it took, what the load felt of it, and the proofs. */
import { formatBytes } from '../src/cli/render.ts';
import type { BackupFigures, RestoreFigures, ValidationFigures } from './program.ts';
import type { Proof } from './proofs.ts';
import { count, paint, say, seconds } from './screen.ts';

/** Throughput of the load over one stretch of time. */
export interface Stretch {
  readonly transactionsPerSecond: number;
  readonly transfersPerSecond: number;
  readonly elapsedMs: number;
}

export interface Report {
  readonly version: string;
  readonly backup: BackupFigures;
  readonly differential: BackupFigures;
  /** Backups taken one after the other, to have a stretch long enough to measure the load in. */
  readonly backups: number;
  readonly before: Stretch;
  readonly during: Stretch;
  readonly after: Stretch;
  readonly validation: ValidationFigures;
  readonly restore: RestoreFigures;
  readonly bootMs: number;
  readonly proofs: readonly Proof[];
}

const LABEL_WIDTH = 15;

function line(label: string, text: string): void {
  say(`  ${paint('dim', label.padEnd(LABEL_WIDTH))}${text}`);
}

/** @returns whether every proof holds */
export function printReport(report: Report): boolean {
  const good = report.proofs.every((proof) => proof.holds);
  say();
  say(paint('bold', `graphkeep: Neo4j Community ${report.version}, backed up while it was written to`));
  say();
  printCopy(report);
  say();
  printLoad(report);
  say();
  printProofs(report.proofs);
  say();
  const failed = report.proofs.filter((proof) => !proof.holds).length;
  say(
    good
      ? paint('green', `  All ${report.proofs.length} proofs hold.`)
      : paint('red', `  ${failed} of ${report.proofs.length} proofs FAILED.`),
  );
  return good;
}

function differentialText({ processMs, artifactBytes, highestTransaction }: BackupFigures): string {
  return `${seconds(processMs)} for ${formatBytes(artifactBytes)}, up to transaction ${count(highestTransaction)}`;
}

function printCopy({ backup, differential, validation, restore, bootMs }: Report): void {
  const { memberBytes, storeBytes, logBytes, artifactBytes } = backup;
  line('copied', `${backup.memberCount} files, ${formatBytes(memberBytes)}`);
  line('', `${formatBytes(storeBytes)} of store, ${formatBytes(logBytes)} of transaction log`);
  line(
    'artifact',
    `${formatBytes(artifactBytes)}, ${(memberBytes / artifactBytes).toFixed(1)} times smaller`,
  );
  line('transactions', `up to ${count(backup.highestTransaction)}, the last one that the log held`);
  line('', `${count(backup.transactionsAfterFence)} of them replayed by Neo4j at its start`);
  if (backup.leftOut.length > 0) line('left out', `${backup.leftOut.join(', ')} (Neo4j rebuilt them)`);
  say();
  line('backup', rate(backup.processMs, memberBytes));
  line('differential', differentialText(differential));
  line('validation', rate(validation.processMs, validation.memberBytes));
  line('restore', rate(restore.processMs, restore.memberBytes));
  line('first start', `${seconds(bootMs).padStart(7)}   Neo4j on the restored files, recovery included`);
}

function rate(durationMs: number, bytes: number): string {
  return `${seconds(durationMs).padStart(7)}   ${formatBytes((bytes * 1000) / durationMs)}/s, the start of the program included`;
}

function printLoad({ before, during, after, backups }: Report): void {
  line('write load', 'transactions a second   transfers a second');
  stretchLine('before', before, `${seconds(before.elapsedMs)}`);
  const share = Math.round((100 * during.transactionsPerSecond) / before.transactionsPerSecond);
  stretchLine('during', during, `${seconds(during.elapsedMs)} of ${backups} backups back to back: ${share}%`);
  stretchLine('after', after, `${seconds(after.elapsedMs)}`);
}

function stretchLine(label: string, stretch: Stretch, note: string): void {
  const transactions = count(stretch.transactionsPerSecond).padStart(21);
  const transfers = count(stretch.transfersPerSecond).padStart(21);
  line(`  ${label}`, `${transactions}${transfers}   ${paint('dim', `over ${note}`)}`);
}

function printProofs(proofs: readonly Proof[]): void {
  const width = Math.max(...proofs.map((proof) => proof.claim.length));
  for (const { claim, figure, holds } of proofs) {
    const mark = holds ? paint('green', '✓') : paint('red', '✗');
    say(`  ${mark} ${claim.padEnd(width)}   ${figure}`);
  }
}
