import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { printJsonSummary, printSeveralSummary, type WorkItem, workThrough } from '../../../src/cli/work.ts';
import { GraphkeepError } from '../../../src/errors.ts';
import { memoryContext } from './harness.ts';

interface Result {
  value: bigint;
}

const good = (subject: string): WorkItem<Result> => ({ subject, run: async () => ({ value: 7n }) });
const bad = (subject: string): WorkItem<Result> => ({
  subject,
  run: () => Promise.reject(new GraphkeepError('GK_NO_SPACE', 'full')),
});

function options(context: ReturnType<typeof memoryContext>, talk = true) {
  const print = talk ? (result: Result) => context.stdout.write(`${result.value}\n`) : undefined;
  return { context, talk, verbose: false, doing: 'do it', print };
}

describe('exit status', () => {
  test('one item: its own; several: 1; none failed: 0', async () => {
    const status = async (items: WorkItem<Result>[]) =>
      (await workThrough(items, options(memoryContext()))).exitStatus;
    assert.equal(await status([bad('a')]), 81);
    assert.equal(await status([good('a'), bad('b')]), 1);
    assert.equal(await status([bad('a'), bad('b')]), 1);
    assert.equal(await status([good('a'), good('b')]), 0);
  });
});

test('one failure does not stop the others', async () => {
  const context = memoryContext();
  const summary = await workThrough([bad('a'), good('b'), bad('c')], options(context));
  printSeveralSummary(context, summary, 'databases backed up');
  assert.equal(context.stdout.text, '7\n');
  assert.match(context.stderr.text, /error: a: full\n/);
  assert.match(context.stderr.text, /1 of 3 databases backed up; failed: 'a', 'c'\n$/);
});

test('JSON is one document with results, errors and what the exit status means', async () => {
  const context = memoryContext();
  const summary = await workThrough([good('a'), bad('b')], options(context, false));
  printJsonSummary(context, 'backups', summary);
  const error = { code: 'GK_NO_SPACE', message: 'full', exitStatus: 81 };
  const document: unknown = JSON.parse(context.stdout.text);
  assert.partialDeepStrictEqual(document, {
    backups: [
      { subject: 'a', ok: true, value: 7, notices: [] },
      { subject: 'b', ok: false, error },
    ],
    error: { code: 'GK_FAILED', message: '1 of 2 failed', exitStatus: 1 },
  });
  assert.equal(context.stderr.text, '');
});

test('an interrupted run skips the rest and ends with the status of the signal', async () => {
  const controller = new AbortController();
  let stopped = false;
  const context = {
    ...memoryContext(),
    lowerPriority: () => {},
    watchSignals: () => ({
      signal: controller.signal,
      exitStatus: () => (controller.signal.aborted ? 143 : undefined),
      stop() {
        stopped = true;
      },
    }),
  };
  const interrupted: WorkItem<Result> = {
    subject: 'a',
    run: async ({ signal }) => {
      controller.abort();
      signal.throwIfAborted();
      return { value: 1n };
    },
  };
  const summary = await workThrough([interrupted, good('b')], options(context));
  assert.equal(summary.exitStatus, 143);
  assert.deepEqual(
    summary.outcomes.map((outcome) => outcome.error?.code),
    ['GK_INTERRUPTED', 'GK_INTERRUPTED'],
  );
  assert.ok(stopped);
});

test('a signal after the last byte changes nothing', async () => {
  const controller = new AbortController();
  const context = {
    ...memoryContext(),
    lowerPriority: () => {},
    watchSignals: () => ({ signal: controller.signal, exitStatus: () => 130, stop() {} }),
  };
  assert.equal((await workThrough([good('a')], options(context))).exitStatus, 0);
});

describe('what is done afterwards with a result', () => {
  const checked = (error?: GraphkeepError): WorkItem<Result> => ({
    ...good('a'),
    afterwards: async ({ value }) => ({
      result: { value: value + 1n },
      ...(error === undefined ? {} : { error }),
    }),
  });

  test('adds to it, and its error does not take it back', async () => {
    const context = memoryContext();
    const error = new GraphkeepError('GK_INCONSISTENT', 'not consistent');
    const summary = await workThrough([checked(error)], options(context));
    assert.equal(summary.exitStatus, 87);
    assert.equal(context.stdout.text, '8\n');
    assert.match(context.stderr.text, /error: not consistent/);
    assert.equal((await workThrough([checked()], options(memoryContext()))).exitStatus, 0);
  });

  test('that it could not be done is an error beside the result, in JSON as well', async () => {
    const context = memoryContext();
    const failing: WorkItem<Result> = {
      ...good('a'),
      afterwards: () => Promise.reject(new GraphkeepError('GK_STOCK_FAILED', 'no Java')),
    };
    const summary = await workThrough([failing], options(context, false));
    printJsonSummary(context, 'backups', summary);
    assert.partialDeepStrictEqual(JSON.parse(context.stdout.text), {
      backups: [{ subject: 'a', ok: false, value: 7, error: { code: 'GK_STOCK_FAILED' } }],
      error: { code: 'GK_STOCK_FAILED', exitStatus: 83 },
    });
  });
});
