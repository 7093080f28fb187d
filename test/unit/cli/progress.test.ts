import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createProgress } from '../../../src/cli/progress.ts';
import { memoryStream } from './harness.ts';

const MIB = 1024 ** 2;

function fixture(terminal: boolean, columns = 200) {
  const stream = memoryStream(terminal ? { columns } : undefined);
  const clock = { timeMs: 1000 };
  const progress = createProgress({ stream, enabled: true, label: 'neo4j', now: () => clock.timeMs });
  return { stream, clock, progress };
}

describe('in a terminal', () => {
  test('one line with percent, bytes, rate and time left', () => {
    const { stream, clock, progress } = fixture(true);
    progress.progress({ phase: 'copy', doneBytes: 0, totalBytes: 400 * MIB });
    clock.timeMs += 1000;
    progress.progress({ phase: 'copy', doneBytes: 100 * MIB, totalBytes: 400 * MIB });
    const line = stream.text.split('\r\u001b[K').at(-1);
    assert.equal(line, 'neo4j copy [######------------------] 25%  100 MiB of 400 MiB  100 MiB/s  0:03 left');
    assert.doesNotMatch(stream.text, /\n/);
  });

  test('draws ten times a second at most, and always the end', () => {
    const { stream, clock, progress } = fixture(true);
    for (let done = 0; done <= 1000; done += 1) {
      progress.progress({ phase: 'copy', doneBytes: done, totalBytes: 1000 });
      clock.timeMs += 1;
    }
    const drawn = stream.text.split('\r\u001b[K').length - 1;
    assert.ok(drawn >= 10 && drawn <= 12, String(drawn));
    assert.match(stream.text, /100%/);
  });

  test('never wraps', () => {
    const { stream, progress } = fixture(true, 40);
    progress.progress({ phase: 'copy', doneBytes: 1, totalBytes: 2 });
    const line = stream.text.replace('\r\u001b[K', '');
    assert.equal(line.length, 39);
  });

  test('a note removes the bar first, and so does the end', () => {
    const { stream, progress } = fixture(true);
    progress.progress({ phase: 'copy', doneBytes: 1, totalBytes: 2 });
    progress.notice('an index was left out');
    assert.ok(stream.text.endsWith('\r\u001b[Knote: an index was left out\n'));
    progress.progress({ phase: 'copy', doneBytes: 2, totalBytes: 2 });
    progress.finish();
    assert.ok(stream.text.endsWith('\r\u001b[K'));
    assert.deepEqual(progress.notices, ['an index was left out']);
  });

  test('the rate is that of the last seconds', () => {
    const { stream, clock, progress } = fixture(true);
    let done = 0;
    for (let second = 0; second < 60; second += 1) {
      done += second < 30 ? 100 * MIB : MIB;
      clock.timeMs += 1000;
      progress.progress({ phase: 'copy', doneBytes: done, totalBytes: 10_000 * MIB });
    }
    assert.match(stream.text.split('\r\u001b[K').at(-1) ?? '', / 1\.0 MiB\/s /);
  });

  test('a copy that begins anew shows no negative rate', () => {
    const { stream, clock, progress } = fixture(true);
    for (const doneBytes of [0, 500, 0, 100]) {
      clock.timeMs += 1000;
      progress.progress({ phase: 'copy', doneBytes, totalBytes: 1000 });
    }
    assert.doesNotMatch(stream.text, /-\d/);
  });
});

describe('elsewhere', () => {
  test('a line for each ten percent at most', () => {
    const { stream, clock, progress } = fixture(false);
    for (let done = 0; done <= 1000; done += 1) {
      progress.progress({ phase: 'copy', doneBytes: done * MIB, totalBytes: 1000 * MIB });
      clock.timeMs += 100;
    }
    const lines = stream.text.trimEnd().split('\n');
    assert.equal(lines.length, 10);
    assert.match(lines[0] ?? '', /^neo4j: copy 10% \(100 MiB of 1000 MiB, 10\.0 MiB\/s\)$/);
    assert.ok(!stream.text.includes('\r') && !stream.text.includes('\u001b'));
  });

  test('nothing for work of less than two seconds', () => {
    const { stream, clock, progress } = fixture(false);
    for (let done = 0; done <= 100; done += 1) {
      progress.progress({ phase: done < 90 ? 'copy' : 'log', doneBytes: done, totalBytes: 100 });
      clock.timeMs += 15;
    }
    assert.equal(stream.text, '');
  });

  test('a line every 30 seconds when it is slow', () => {
    const { stream, clock, progress } = fixture(false);
    for (let second = 0; second < 100; second += 1) {
      progress.progress({ phase: 'copy', doneBytes: second, totalBytes: 1_000_000 });
      clock.timeMs += 1000;
    }
    assert.equal(stream.text.trimEnd().split('\n').length, 3);
  });
});

test('disabled: silence, and the notes are kept', () => {
  const stream = memoryStream({ columns: 80 });
  const progress = createProgress({ stream, enabled: false, label: 'x' });
  progress.progress({ phase: 'copy', doneBytes: 1, totalBytes: 2 });
  progress.notice('kept');
  progress.finish();
  assert.equal(stream.text, '');
  assert.deepEqual(progress.notices, ['kept']);
});
