/**
 * A backup runs beside the server that it copies: on a busy machine it must take what the server leaves, not half of
 * it. The processor priority of this process is lowered, which costs nothing where processors are idle.
 */
import { readdirSync } from 'node:fs';
import os from 'node:os';

/** As `nice` without an argument: about a tenth of the share of a process that competes. */
const NICENESS = 10;

/**
 * Every thread has a priority of its own on Linux; those that are made later inherit the one of their maker.
 * @param sparedThread keeps its priority
 */
export function lowerPriority(sparedThread?: number): void {
  for (const thread of readdirSync('/proc/self/task')) {
    if (Number(thread) === sparedThread) continue;
    try {
      os.setPriority(Number(thread), NICENESS);
    } catch {
      // A thread that has ended meanwhile, or a system that does not allow it: the backup is right at any priority.
    }
  }
}
