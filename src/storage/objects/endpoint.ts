/** Endpoints that a user gives instead of those of the cloud. */
import { GraphkeepError } from '../../errors.ts';

/** Whether others may listen to what is said to it. */
export function isOpenToOthers(endpoint: string): boolean {
  const { protocol, hostname } = new URL(endpoint);
  return protocol === 'http:' && !/^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
}

/** @throws GK_CONFIG; repeats nothing of it, since there may be a password in it */
export function checkEndpoint(endpoint: string, example: string): string {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  const isPlain = url !== undefined && /^https?:$/.test(url.protocol) && url.username + url.password === '';
  if (isPlain && url.search === '') return endpoint;
  throw new GraphkeepError(
    'GK_CONFIG',
    'the endpoint of the object store is not an http(s):// URL of a host',
    {
      hint: `write it as in ${example}, without credentials`,
    },
  );
}
