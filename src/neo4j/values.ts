/**
 * The kinds of values that settings and options share, in Neo4j's spelling: sizes (`10MiB`), durations (`5m`),
 * addresses (`host:port`). Each returns undefined for what it does not know; the caller names the setting or option.
 */
import { BlockList, isIP, isIPv6 } from 'node:net';

/** Where a backup server listens, with Neo4j's own as with ours. */
export const BACKUP_PORT = 6362;

export interface Address {
  readonly host: string;
  readonly port: number;
}

const SIZE_UNITS = ['', 'k', 'm', 'g', 't'];

/** `50M`, `1.5GiB`, `4096`: units count by 1024, as in Neo4j's settings. */
export function parseSize(text: string): number | undefined {
  const [, figure = '', unit = ''] = /^(\d{1,12}(?:\.\d{1,3})?)([kmgt]?)(?:i?b)?$/i.exec(text) ?? [];
  if (figure === '') return undefined;
  const bytes = Math.round(Number(figure) * 1024 ** SIZE_UNITS.indexOf(unit.toLowerCase()));
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** Bytes a second. Nothing and terabytes are typos. */
export function parseRate(text: string): number | undefined {
  const bytes = /t/i.test(text) ? undefined : parseSize(text);
  return bytes === 0 ? undefined : bytes;
}

/** `3`, `3%`: 1 to 100. */
export function parsePercent(text: string): number | undefined {
  const percent = /^(\d{1,3}) ?%?$/.exec(text)?.[1];
  return percent !== undefined && Number(percent) >= 1 && Number(percent) <= 100
    ? Number(percent)
    : undefined;
}

const DURATION_UNITS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** `5m`, `30s`, `1h30m`, `500ms`; a figure alone is seconds. Milliseconds. */
export function parseDurationMs(text: string): number | undefined {
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  if (!/^(\d{1,9}(ms|[smhd]))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, figure = '', unit = ''] of text.matchAll(/(\d+)(ms|[smhd])/g)) {
    total += Number(figure) * (DURATION_UNITS_MS[unit] ?? 0);
  }
  return total;
}

export function parseBooleanWord(text: string): boolean | undefined {
  const word = text.toLowerCase();
  return word === 'true' || word === 'false' ? word === 'true' : undefined;
}

/** `$(…)`: Neo4j would run it as a command and take what it prints. */
export function isCommandValue(value: string): boolean {
  const text = value.trim();
  return text.length > 3 && text.startsWith('$(') && text.endsWith(')');
}

const PORT_MAX = 65_535;

/** `host:port`, `host`, `:port`, `[::1]:6362`, `[::1]`, `::1`; whichever part is missing comes from `fallback`. */
export function parseAddress(text: string, fallback: Address): Address | undefined {
  if (isIPv6(text)) return { host: text.toLowerCase(), port: fallback.port };
  const [whole, bracketed, plain = '', figure] =
    /^(?:\[([^\]]*)\]|([^:[\]/\s]*))(?::(\d{1,5}))?$/.exec(text) ?? [];
  if (whole === undefined || whole === '') return undefined;
  if (bracketed !== undefined && !isIPv6(bracketed)) return undefined;
  if (!/^[a-z0-9._-]*$/i.test(plain)) return undefined;
  const port = figure === undefined ? fallback.port : Number(figure);
  if (port > PORT_MAX) return undefined;
  const host = (bracketed ?? plain).toLowerCase();
  return { host: host === '' ? fallback.host : host, port };
}

/** As it is written in an address: an IPv6 host in brackets. */
export function formatAddress({ host, port }: Address): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

const LOOPBACK_ADDRESSES = new BlockList();
LOOPBACK_ADDRESSES.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK_ADDRESSES.addAddress('::1', 'ipv6');

/** Names but `localhost` (RFC 6761) may lead anywhere, today or tomorrow. */
export function isLoopback(host: string): boolean {
  if (isIP(host) === 0) return host.toLowerCase() === 'localhost';
  return LOOPBACK_ADDRESSES.check(host, isIPv6(host) ? 'ipv6' : 'ipv4');
}
