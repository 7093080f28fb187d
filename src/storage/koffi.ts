/** Native functions: koffi is loaded at the first call, so that commands which need none start without it. */
import { createRequire } from 'node:module';

export type Koffi = typeof import('koffi');
/** The functions of this process: of the C library, and of what Node itself is made of. */
export type Library = ReturnType<Koffi['load']>;

/** @throws an Error when there is no module for this platform */
export function loadKoffi(): Koffi {
  return createRequire(import.meta.url)('koffi') as Koffi;
}
