/**
 * The head of a request for a body, and of the one kind of answer whose body is received directly: its length in front, and
 * nothing done to it.
 */

export interface PlainHead {
  /** By their names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly bodyBytes: number;
  /** False when the other side closes the connection behind the body. */
  readonly isKept: boolean;
}

const END_OF_HEAD = '\r\n\r\n';

/** @param path and headers as Node's HTTP would take them: nothing is escaped */
export function writeGetHead(path: string, headers: Readonly<Record<string, string | number>>): string {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  return `${[`GET ${path} HTTP/1.1`, ...lines].join('\r\n')}${END_OF_HEAD}`;
}

/** How many bytes the head has, with the empty line that ends it; undefined while that has not come. */
export function headBytesOf(received: Buffer): number | undefined {
  const at = received.indexOf(END_OF_HEAD, 0, 'latin1');
  return at === -1 ? undefined : at + END_OF_HEAD.length;
}

/**
 * @param head up to and with the empty line
 * @returns undefined for what is not the plain answer: another status than 200 and 206, chunks, encodings, no length, a
 * line that is no header, a header that comes twice
 */
export function parsePlainHead(head: Buffer): PlainHead | undefined {
  const [statusLine, ...lines] = head.toString('latin1', 0, head.length - END_OF_HEAD.length).split('\r\n');
  const headers = headersOf(lines);
  if (!/^HTTP\/1\.1 20[06](?: |$)/.test(statusLine!) || headers === undefined) return undefined;
  const isChanged = 'transfer-encoding' in headers || 'content-encoding' in headers;
  const length = headers['content-length'];
  if (isChanged || length === undefined || !/^\d{1,10}$/.test(length)) return undefined;
  const isKept = !/\bclose\b/i.test(headers.connection ?? '');
  return { headers, bodyBytes: Number(length), isKept };
}

function headersOf(lines: readonly string[]): Record<string, string> | undefined {
  const headers: Record<string, string> = Object.create(null);
  for (const line of lines) {
    const [, name, value] = /^([\w!#$%&'*+.^`|~-]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? [];
    const key = name?.toLowerCase();
    if (key === undefined || key in headers) return undefined;
    headers[key] = value!;
  }
  return headers;
}
