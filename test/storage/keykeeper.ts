/**
 * What SSE-C is at AWS, in front of a real S3 that does not know it: an object that was written with a key is only read and
 * looked at with the same one, each part needs it, and the answer says that it was used. The bytes stay as they are.
 */
import { FaultProxy, type SeenRequest } from './faults.ts';

const PREFIX = 'x-amz-server-side-encryption-customer-';

export interface KeyKeeper {
  readonly proxy: FaultProxy;
  /** Paths of the objects, and whether each was written with a key. */
  readonly written: ReadonlyMap<string, string>;
}

export async function startKeyKeeper(target: string): Promise<KeyKeeper> {
  const proxy = await FaultProxy.start(target);
  const written = new Map<string, string>();
  proxy.moreHeaders = ({ headers }) =>
    Object.fromEntries(
      [`${PREFIX}algorithm`, `${PREFIX}key-md5`].flatMap((name) =>
        headers[name] === undefined ? [] : [[name, String(headers[name])]],
      ),
    );
  proxy.onForward = async (request) => {
    const path = request.path.split('?')[0]!;
    const given = keyOf(request);
    if (request.method === 'PUT' || request.method === 'POST') {
      const isBegun = written.get(path) ?? given;
      if (isBegun !== given) return refusal;
      // The object that is copied has to be opened as well.
      const source = request.headers['x-amz-copy-source'];
      if (source !== undefined && written.get(`/${String(source)}`) !== copyKeyOf(request)) return refusal;
      if (given !== '') written.set(path, given);
      return undefined;
    }
    // A list and a removal need no key.
    if (request.method === 'DELETE' || path.split('/').length < 3) return undefined;
    return (written.get(path) ?? given) === given ? undefined : refusal;
  };
  return { proxy, written };
}

const refusal = {
  kind: 'answer',
  status: 400,
  body: '<Error><Code>InvalidRequest</Code><Message>The object was stored with a key.</Message></Error>',
} as const;

function keyOf({ headers }: SeenRequest): string {
  return String(headers[`${PREFIX}key`] ?? '');
}

function copyKeyOf({ headers }: SeenRequest): string {
  return String(headers['x-amz-copy-source-server-side-encryption-customer-key'] ?? '');
}
