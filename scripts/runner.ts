/**
 * Runs test files with node:test and counts what really ran: leaf tests, not suites. Every skipped test is named with
 * its reason, and the last line is the one that CI reads.
 */
import { spawnSync } from 'node:child_process';
import { globSync } from 'node:fs';
import { join, relative } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';

/** Each test file is a process of its own and loads much the same source: compiled once, that is half a second less. */
const COMPILE_CACHE = join(import.meta.dirname, '..', 'node_modules', '.cache', 'compile');
const SLOWEST_SHOWN = 10;

interface Counts {
  passed: number;
  failed: number;
  skipped: string[];
  files: { readonly file: string; readonly seconds: number }[];
}

/** @param concurrency test files at once; files that start servers must go one after the other */
async function runFiles(files: readonly string[], concurrency: number, counts: Counts): Promise<void> {
  const events = run({ files: [...files], concurrency, timeout: Number.POSITIVE_INFINITY });
  events.on('test:pass', (event) => {
    if (event.details.type === 'suite') return;
    if (event.skip === undefined || event.skip === false) counts.passed++;
    else
      counts.skipped.push(
        `${event.name}: ${event.skip === true || event.skip === '' ? 'no reason given' : event.skip}`,
      );
  });
  events.on('test:fail', (event) => {
    if (event.details.type !== 'suite') counts.failed++;
    // A suite that fails in its own hooks has no failing test to show for it.
    else if (event.details.error.cause instanceof Error) counts.failed++;
  });
  events.on('test:summary', ({ file, duration_ms: durationMs }) => {
    if (file !== undefined) counts.files.push({ file, seconds: durationMs / 1000 });
  });
  await new Promise<void>((resolve, reject) => {
    events.on('error', reject);
    events.compose(spec).on('end', resolve).on('error', reject).pipe(process.stdout, { end: false });
  });
}

/** A step that is no test file: counts as one test. */
function runTool(name: string, command: string, args: readonly string[], counts: Counts): void {
  const { status } = spawnSync(command, args, { stdio: ['ignore', 'inherit', 'inherit'] });
  console.log(status === 0 ? `✔ ${name}` : `✖ ${name} (status ${status})`);
  if (status === 0) counts.passed++;
  else counts.failed++;
}

export interface Plan {
  readonly tools: readonly (readonly [name: string, command: string, ...args: string[]])[];
  readonly phases: readonly Phase[];
}

/** Test files that run together, by globs. */
export interface Phase {
  readonly files: readonly string[];
  readonly filesAtOnce: number;
}

/** Runs the plan, prints the closing line, and sets the exit status. */
export async function runPlan(plan: Plan): Promise<void> {
  process.env.NODE_COMPILE_CACHE ??= COMPILE_CACHE;
  const counts: Counts = { passed: 0, failed: 0, skipped: [], files: [] };
  for (const [name, command, ...args] of plan.tools) runTool(name, command, args, counts);
  for (const { files, filesAtOnce } of plan.phases) await runFiles(filesOf(files), filesAtOnce, counts);
  for (const { file, seconds } of slowestOf(counts)) console.log(`${seconds.toFixed(0)} s  ${file}`);
  for (const skipped of counts.skipped) console.log(`skipped: ${skipped}`);
  console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped.length} skipped`);
  process.exitCode = counts.failed === 0 && counts.passed > 0 ? 0 : 1;
}

/** Where the time of a run went: files run side by side, so their sum is more than the run took. */
function slowestOf({ files }: Counts): Counts['files'] {
  const byTime = files.toSorted((left, right) => right.seconds - left.seconds);
  return byTime.slice(0, SLOWEST_SHOWN).map((one) => ({ ...one, file: relative(process.cwd(), one.file) }));
}

function filesOf(patterns: readonly string[]): string[] {
  const files = patterns.flatMap((pattern) => globSync(pattern).sort());
  if (files.length === 0) throw new Error(`no test file matches ${patterns.join(' ')}`);
  return files;
}
