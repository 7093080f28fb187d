import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PROCESSOR_DEBT_MS_MAX, PROCESSOR_SAMPLE_MS, PROCESSOR_WAIT_MS_MAX } from '../../../src/limits.ts';
import { parseProcStat, processorMeter } from '../../../src/operations/processormeter.ts';

import { ProcessorShare } from '../../../src/operations/processorshare.ts';
import { Machine } from '../../fixtures/machine.ts';
import { failure } from '../../fixtures/workspace.ts';

/** Works in pieces beside others for a while. @returns processors used */
async function work(machine: Machine, share: ProcessorShare, others: number, pieceMs = 5): Promise<number> {
  machine.others = others;
  const begun = machine.nowMs();
  let usedMs = 0;
  while (machine.nowMs() - begun < 20_000) {
    await share.wait(undefined);
    machine.pass(pieceMs, pieceMs * 0.8, pieceMs * 0.2);
    usedMs += pieceMs;
  }
  return usedMs / (machine.nowMs() - begun);
}

/** How long the share made wait. */
async function waitedMs(machine: Machine, share: ProcessorShare): Promise<number> {
  const begun = machine.nowMs();
  await share.wait(undefined);
  return machine.nowMs() - begun;
}

describe('share of the processors', () => {
  test('nothing is held back while half of them is free, whatever this process uses', async () => {
    const machine = new Machine(2);
    const share = new ProcessorShare(3, { meter: machine, onBusy: () => assert.fail('not busy') });
    assert.equal(await work(machine, share, 0.45), 1);
  });

  test('of processors that others fill, it takes what it may at any rate', async () => {
    for (const [processors, percent] of [
      [2, 3],
      [8, 3],
      [2, 20],
    ] as const) {
      const machine = new Machine(processors);
      let notices = 0;
      const share = new ProcessorShare(percent, { meter: machine, onBusy: () => notices++ });
      await work(machine, share, 1);
      const used = await work(machine, share, 1);
      const allowed = (processors * percent) / 100;
      assert.ok(used > allowed * 0.8 && used < allowed * 1.2, `${used} of ${allowed}`);
      assert.equal(notices, 1);
    }
  });

  test('of what nobody else uses it takes a fifth', async () => {
    for (const low of [0, 0.1]) {
      const machine = new Machine(4);
      machine.low = low;
      const share = new ProcessorShare(1, { meter: machine });
      await work(machine, share, 0.6);
      const used = await work(machine, share, 0.6);
      const allowed = ((0.4 - low) * 4) / 5;
      assert.ok(used > allowed * 0.8 && used < allowed * 1.2, `${used} of ${allowed}`);
    }
  });

  test('it is fast again when the others are done', async () => {
    const machine = new Machine(2);
    const share = new ProcessorShare(3, { meter: machine });
    await work(machine, share, 1);
    await work(machine, share, 0);
    assert.equal(await work(machine, share, 0), 1);
  });

  test('an idle hour is not caught up, and long work that nothing held back not paid off', async () => {
    const machine = new Machine(2);
    const share = new ProcessorShare(3, { meter: machine });
    await work(machine, share, 1);
    machine.pass(3_600_000);
    assert.equal(await waitedMs(machine, share), 0);
    machine.pass(PROCESSOR_SAMPLE_MS, 25);
    assert.ok((await waitedMs(machine, share)) > 0);
    machine.pass(60_000, 60_000);
    const waited = await waitedMs(machine, share);
    assert.ok(waited <= PROCESSOR_WAIT_MS_MAX + 1 && waited > PROCESSOR_DEBT_MS_MAX, String(waited));
  });

  test('100 never waits, and the machine is not asked', async () => {
    const machine = new Machine(2);
    const share = new ProcessorShare(100, { meter: machine });
    assert.equal(share.isUnlimited, true);
    assert.equal(await work(machine, share, 1), 1);
  });

  test('who is interrupted does not wait on', async () => {
    const machine = new Machine(2);
    const share = new ProcessorShare(3, { meter: machine });
    await work(machine, share, 1);
    machine.pass(PROCESSOR_SAMPLE_MS, 1_000);
    await assert.rejects(share.wait(AbortSignal.abort()), failure('GK_INTERRUPTED', /interrupted/));
  });
});

describe('use of the processors', () => {
  test('is read from the line of all of them', () => {
    const text =
      'cpu  100 20 30 400 50 6 7 800 9 0\ncpu0 50 10 15 200 25 3 4 400 4 0\ncpu1 50 10 15 200 25 3 3 400 5 0\nintr 1\n';
    const expected = { processors: 2, ordinaryMs: 1430, idleMs: 4500, allMs: 6130 };
    assert.deepEqual(parseProcStat(text), expected);
    assert.throws(() => parseProcStat('intr 1\n'), /no line of all processors/);
  });

  test('of this machine and this process grows', () => {
    const meter = processorMeter()!;
    const [before, own] = [meter.machine(), meter.own()];
    const end = meter.nowMs() + 100;
    while (meter.nowMs() < end);
    const after = meter.machine();
    assert.ok(after.processors > 0);
    assert.ok(after.allMs > before.allMs);
    assert.ok(after.ordinaryMs >= before.ordinaryMs && after.ordinaryMs <= after.allMs);
    assert.ok(meter.own().userMs + meter.own().systemMs > own.userMs + own.systemMs);
  });

  test('a pause on it ends when it is interrupted', async () => {
    const stop = new AbortController();
    const paused = processorMeter()!.pause(600_000, stop.signal);
    stop.abort();
    await assert.rejects(paused, failure('GK_INTERRUPTED', /interrupted/));
  });
});
