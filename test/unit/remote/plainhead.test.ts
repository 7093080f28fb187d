/** Which answers bodies are received from directly. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { headBytesOf, parsePlainHead } from '../../../src/remote/plainhead.ts';

const head = (...lines: readonly string[]): Buffer => Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');

describe('the head of a plain answer', () => {
  test('has its headers by their names in lower case, and the length of the body', () => {
    const parsed = parsePlainHead(
      head('HTTP/1.1 206 Partial Content', 'Content-Length: 17', 'X-Sum:\tab c ', 'Empty:'),
    );
    assert.deepEqual(
      { ...parsed, headers: { ...parsed?.headers } },
      { bodyBytes: 17, isKept: true, headers: { 'content-length': '17', 'x-sum': 'ab c', empty: '' } },
    );
  });

  test('may have no reason, and may end the connection', () => {
    assert.equal(
      parsePlainHead(head('HTTP/1.1 200', 'content-length: 0', 'Connection: Close'))?.isKept,
      false,
    );
  });

  test('ends with an empty line', () => {
    const whole = head('HTTP/1.1 200 OK', 'a: b');
    assert.equal(headBytesOf(Buffer.concat([whole, Buffer.from('body')])), whole.length);
    assert.equal(headBytesOf(whole.subarray(0, -1)), undefined);
  });

  const length = 'content-length: 5';
  const others: readonly (readonly [name: string, lines: readonly string[]])[] = [
    ['an error', ['HTTP/1.1 503 Service Unavailable', length]],
    ['another way to 200', ['HTTP/1.1 2001 OK', length]],
    ['a redirect', ['HTTP/1.1 302 Found', length]],
    ['an older HTTP', ['HTTP/1.0 200 OK', length]],
    ['something else', ['SSH-2.0-OpenSSH_9.9', length]],
    ['one without its length', ['HTTP/1.1 200 OK', 'date: today']],
    ['one in chunks', ['HTTP/1.1 200 OK', 'transfer-encoding: chunked', length]],
    ['one that was compressed on the way', ['HTTP/1.1 200 OK', 'content-encoding: gzip', length]],
    ['two lengths', ['HTTP/1.1 200 OK', length, 'Content-Length: 6']],
    ['a length that is none', ['HTTP/1.1 200 OK', 'content-length: +5']],
    ['a length without end', ['HTTP/1.1 200 OK', 'content-length: 12345678901']],
    ['a header that goes on in the next line', ['HTTP/1.1 200 OK', length, ' more']],
    ['a line without a name', ['HTTP/1.1 200 OK', length, ': value']],
    ['a space behind a name', ['HTTP/1.1 200 OK', 'content-length : 5']],
    ['line ends without a return', ['HTTP/1.1 200 OK\ncontent-length: 5']],
  ];
  for (const [name, lines] of others) {
    test(`${name} is none`, () => assert.equal(parsePlainHead(head(...lines)), undefined));
  }
});
