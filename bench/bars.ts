/** The numbers to reach (docs/design.md), as ratios within one run, and whether they are reached. */
import { MIB } from '../src/limits.ts';
import { CONDITIONS, type Effect, effectOf } from './effect.ts';
import { LARGE_LOCAL, LARGE_LOOPBACK, LARGE_TLS } from './largestore.ts';
import { median, type Sample } from './measure.ts';
import { LONG_LOCAL, LONG_UPLOAD, LONG_VENDOR_UPLOAD, TO_STORE, VENDOR_UPLOAD } from './objectstore.ts';

export interface Measured {
  readonly name: string;
  readonly samples: readonly Sample[];
  readonly bytes: number | undefined;
}

export interface Bar {
  readonly what: string;
  readonly bar: string;
  readonly value: string;
  readonly verdict: 'met' | 'missed' | 'not measured';
}

export const OVER_LOOPBACK = 'graphkeep backup over loopback';
export const OVER_TLS = 'graphkeep backup over loopback, TLS';
const MEMORY_MAX_MIB = 256;
const SMALL_DIFFERENTIAL = 'differential, 1 MiB of log, store as it is';
const LONG_DIFFERENTIAL = 'differential, 5 GiB of log';

type Comparison = 'atLeast' | 'atMost';

export function barsOf(measured: readonly Measured[], effects: readonly Effect[]): Bar[] {
  const wall = (name: string): number | undefined => {
    const found = measured.find((item) => item.name === name);
    return found === undefined ? undefined : median(found.samples.map((sample) => sample.wallMs));
  };
  const bytes = (name: string): number | undefined => measured.find((item) => item.name === name)?.bytes;
  const infoMs = smallest(wall('stock load --info of the dump'), wall('stock load --info of the artifact'));
  const tarMs = wall(measured.find((item) => /^tar .*T2$/.test(item.name))?.name ?? '');
  return [
    barOf('full backup, time of tar | zstd', divide(wall('graphkeep backup'), tarMs), 'atMost', 1),
    barOf(
      'full backup, faster than stock dump',
      divide(wall('stock dump'), wall('graphkeep backup')),
      'atLeast',
      5,
    ),
    barOf(
      'artifact, smaller than stock dump',
      divide(bytes('stock dump'), bytes('graphkeep backup')),
      'atLeast',
      3,
    ),
    barOf(
      'restore, faster than stock load',
      divide(wall('stock load of the dump'), wall('graphkeep restore')),
      'atLeast',
      6,
    ),
    barOf('inspect, faster than load --info', divide(infoMs, wall('graphkeep inspect')), 'atLeast', 20),
    ...[OVER_LOOPBACK, OVER_TLS].map((name) =>
      barOf(`${name}, time of the local one`, divide(wall(name), wall('graphkeep backup')), 'atMost', 1.3),
    ),
    ...[LARGE_LOOPBACK, LARGE_TLS].map((name) =>
      barOf(`of 3.1 GiB: ${name}`, divide(wall(name), wall(LARGE_LOCAL)), 'atMost', 1.3),
    ),
    barOf(
      'backup to S3, time of the slower of local and aws s3 cp',
      divide(wall(TO_STORE), largest(wall('graphkeep backup'), wall(VENDOR_UPLOAD))),
      'atMost',
      1 / 0.8,
    ),
    barOf(
      'the same of 3.5 GiB, not compressed',
      divide(wall(LONG_UPLOAD), largest(wall(LONG_LOCAL), wall(LONG_VENDOR_UPLOAD))),
      'atMost',
      1 / 0.8,
    ),
    barOf('memory of backup, MiB', peakMib(measured, 'graphkeep backup'), 'atMost', MEMORY_MAX_MIB),
    barOf('memory of restore, MiB', peakMib(measured, 'graphkeep restore'), 'atMost', MEMORY_MAX_MIB),
    barOf('memory of an upload of 3.5 GiB, MiB', peakMib(measured, LONG_UPLOAD), 'atMost', MEMORY_MAX_MIB),
    barOf('differential of 1 MiB of log, seconds', seconds(wall(SMALL_DIFFERENTIAL)), 'atMost', 1),
    barOf(
      'the same on a store of 5 GiB, seconds',
      seconds(wall('differential, 1 MiB of log, store of 5 GiB')),
      'atMost',
      1,
    ),
    barOf(
      'memory of a differential of 5 GiB, MiB',
      peakMib(measured, LONG_DIFFERENTIAL),
      'atMost',
      MEMORY_MAX_MIB,
    ),
    barOf(
      'memory of its validation, MiB',
      peakMib(measured, 'validate of that differential'),
      'atMost',
      MEMORY_MAX_MIB,
    ),
    ...CONDITIONS.map(({ name }) =>
      barOf(`load on the server, ${name}`, effectOf(effects, name)?.mean, 'atLeast', 0.95),
    ),
  ];
}

function seconds(milliseconds: number | undefined): number | undefined {
  return milliseconds === undefined ? undefined : milliseconds / 1000;
}

function divide(dividend: number | undefined, divisor: number | undefined): number | undefined {
  return dividend === undefined || divisor === undefined ? undefined : dividend / divisor;
}

function smallest(...values: (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
}

/** Both are needed: alone, either is not what the bar is about. */
function largest(...values: (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined);
  return known.length < values.length ? undefined : Math.max(...known);
}

function peakMib(measured: readonly Measured[], name: string): number | undefined {
  const peaks = (measured.find((item) => item.name === name)?.samples ?? []).flatMap(
    (sample) => sample.peakBytes ?? [],
  );
  return peaks.length === 0 ? undefined : Math.max(...peaks) / MIB;
}

function barOf(what: string, value: number | undefined, comparison: Comparison, limit: number): Bar {
  const bar = `${comparison === 'atLeast' ? '>=' : '<='} ${limit}`;
  if (value === undefined) return { what, bar, value: '-', verdict: 'not measured' };
  const met = comparison === 'atLeast' ? value >= limit : value <= limit;
  return {
    what,
    bar,
    value: value >= 100 ? value.toFixed(0) : value.toFixed(2),
    verdict: met ? 'met' : 'missed',
  };
}
