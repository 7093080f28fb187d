/**
 * How a command works through several databases or artifacts: one after the other, each on its own, so that one
 * failure does not keep the rest from being done. It owns the rule for the exit status and the form of the JSON
 * document; what is done to each is the command's.
 */
import { asGraphkeepError, GraphkeepError } from '../errors.ts';
import { type CliContext, writeLine } from './context.ts';
import { createProgress, type Progress } from './progress.ts';
import { type ErrorFields, errorFields, renderError, renderJson } from './render.ts';

export interface WorkItem<Result> {
  /** Name for people: a database, or a file. */
  readonly subject: string;
  run(context: WorkContext): Promise<Result>;
  /** What is done with a result that stands whatever comes of this, e.g. a check: its error does not take it back. */
  afterwards?(result: Result, context: WorkContext): Promise<Afterwards<Result>>;
}

export interface Afterwards<Result> {
  /** With what was found out. */
  readonly result: Result;
  readonly error?: GraphkeepError;
}

export interface WorkContext {
  readonly signal: AbortSignal;
  readonly progress: Progress;
}

export interface WorkOutcome<Result> {
  readonly subject: string;
  readonly result?: Result;
  readonly error?: GraphkeepError;
  readonly notices: readonly string[];
}

export interface WorkOptions<Result> {
  readonly context: CliContext;
  /** false when a program reads the output: neither progress nor notes are printed. */
  readonly talk: boolean;
  readonly verbose: boolean;
  /** Completes "could not …". */
  readonly doing: string;
  /** Prints the result of one item as soon as it is there. Without it, errors are not printed here either. */
  readonly print?: ((result: Result) => void) | undefined;
  /** The status of a run in which some failed; by default that of `exitStatusOf`. */
  readonly statusOf?: (outcomes: readonly WorkOutcome<Result>[]) => number;
}

export interface WorkSummary<Result> {
  readonly outcomes: readonly WorkOutcome<Result>[];
  readonly exitStatus: number;
}

export async function workThrough<Result>(
  items: readonly WorkItem<Result>[],
  options: WorkOptions<Result>,
): Promise<WorkSummary<Result>> {
  const watch = options.context.watchSignals();
  const outcomes: WorkOutcome<Result>[] = [];
  try {
    for (const item of items) {
      const outcome = await workOn(item, watch.signal, options);
      outcomes.push(outcome);
      if (options.print !== undefined) printOutcome(outcome, items.length > 1, options);
    }
  } finally {
    watch.stop();
  }
  const failed = outcomes.some((outcome) => outcome.error !== undefined);
  // Interrupted after everything was done: the work counts.
  const statusOf = options.statusOf ?? exitStatusOf;
  const exitStatus = failed ? (watch.exitStatus() ?? statusOf(outcomes)) : 0;
  return { outcomes, exitStatus };
}

async function workOn<Result>(
  item: WorkItem<Result>,
  signal: AbortSignal,
  options: WorkOptions<Result>,
): Promise<WorkOutcome<Result>> {
  const progress = createProgress({
    stream: options.context.stderr,
    enabled: options.talk,
    label: item.subject,
  });
  const { subject } = item;
  const { notices } = progress;
  try {
    if (signal.aborted) {
      throw new GraphkeepError('GK_INTERRUPTED', 'interrupted before it was begun', {
        hint: 'run the command again',
      });
    }
    const result = await item.run({ signal, progress });
    return { subject, ...(await finishWork(item, result, { signal, progress }, options)), notices };
  } catch (error) {
    return { subject, error: asGraphkeepError(error, options.doing), notices };
  } finally {
    progress.finish();
  }
}

async function finishWork<Result>(
  item: WorkItem<Result>,
  result: Result,
  context: WorkContext,
  options: WorkOptions<Result>,
): Promise<Afterwards<Result>> {
  try {
    return (await item.afterwards?.(result, context)) ?? { result };
  } catch (error) {
    return { result, error: asGraphkeepError(error, options.doing) };
  }
}

function printOutcome<Result>(
  outcome: WorkOutcome<Result>,
  several: boolean,
  options: WorkOptions<Result>,
): void {
  if (outcome.result !== undefined) options.print?.(outcome.result);
  if (outcome.error === undefined) return;
  const subject = several ? { subject: outcome.subject } : {};
  options.context.stderr.write(renderError(outcome.error, { verbose: options.verbose, ...subject }));
}

/** What commands over several items have in common: the form of the output, the words for it, and its key in JSON. */
export interface Report<Result> {
  readonly context: CliContext;
  readonly json: boolean;
  readonly verbose: boolean;
  /** Completes "could not …". */
  readonly doing: string;
  /** Completes "2 of 3 …". */
  readonly done: string;
  readonly jsonKey: string;
  readonly render: (result: Result) => string;
}

/** Works through the items and prints results and errors in the form asked for. @returns the exit status */
export async function workAndReport<Result extends object>(
  items: readonly WorkItem<Result>[],
  { context, json, verbose, doing, done, jsonKey, render }: Report<Result>,
): Promise<number> {
  const print = json ? undefined : (result: Result) => context.stdout.write(render(result));
  const summary = await workThrough(items, { context, talk: !json, verbose, doing, print });
  if (json) printJsonSummary(context, jsonKey, summary);
  else printSeveralSummary(context, summary, done);
  return summary.exitStatus;
}

/** One: its own status. Several: 1 if any failed, as `neo4j-admin` does, since no single status fits all of them. */
export function exitStatusOf(outcomes: readonly { error?: GraphkeepError }[]): number {
  const errors = outcomes.flatMap((outcome) => outcome.error ?? []);
  const first = errors[0];
  if (first === undefined) return 0;
  return outcomes.length === 1 ? first.exitStatus : 1;
}

/** `{<key>: [{…result} | {…, error}], error?}`: the second `error` is what the exit status stands for. */
export function printJsonSummary<Result extends object>(
  context: CliContext,
  key: string,
  summary: WorkSummary<Result>,
): void {
  const entries = summary.outcomes.map(({ subject, result, error, notices }) => ({
    subject,
    ok: error === undefined,
    ...(result ?? {}),
    ...(error === undefined ? {} : { error: errorFields(error) }),
    notices,
  }));
  const error = summaryError(summary);
  context.stdout.write(renderJson({ [key]: entries, ...(error === undefined ? {} : { error }) }));
}

function summaryError(summary: WorkSummary<object>): ErrorFields | undefined {
  const errors = summary.outcomes.flatMap((outcome) => outcome.error ?? []);
  const first = errors[0];
  if (first === undefined) return undefined;
  if (summary.outcomes.length === 1) return { ...errorFields(first), exitStatus: summary.exitStatus };
  const several = new GraphkeepError('GK_FAILED', `${errors.length} of ${summary.outcomes.length} failed`);
  return { ...errorFields(several), exitStatus: summary.exitStatus };
}

/** The last line of a run over several: who scrolls up in a cron mail should know what to look for. */
export function printSeveralSummary(context: CliContext, summary: WorkSummary<unknown>, done: string): void {
  if (summary.outcomes.length < 2) return;
  const failed = summary.outcomes.filter((outcome) => outcome.error !== undefined);
  const succeeded = summary.outcomes.length - failed.length;
  const names = failed.map((outcome) => `'${outcome.subject}'`).join(', ');
  writeLine(
    context.stderr,
    `${succeeded} of ${summary.outcomes.length} ${done}${failed.length === 0 ? '' : `; failed: ${names}`}`,
  );
}
