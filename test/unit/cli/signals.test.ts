import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import { watchSignals } from '../../../src/cli/signals.ts';

class Source extends EventEmitter {
  readonly exits: number[] = [];
  exit(status: number): void {
    this.exits.push(status);
  }
}

for (const [name, status] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const) {
  test(`${name}: aborts first, ends the process the second time`, () => {
    const source = new Source();
    const watch = watchSignals(source);
    assert.equal(watch.exitStatus(), undefined);
    source.emit(name, name);
    assert.ok(watch.signal.aborted);
    assert.equal(watch.exitStatus(), status);
    assert.deepEqual(source.exits, []);
    source.emit('SIGINT', 'SIGINT');
    assert.deepEqual(source.exits, [130]);
  });
}

test('stopped: nobody listens any more', () => {
  const source = new Source();
  watchSignals(source).stop();
  assert.deepEqual(source.eventNames(), []);
});
