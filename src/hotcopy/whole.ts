/** A small group read into memory at once: over a network each question to a server takes its way. */
import type { OpenGroup } from './group.ts';

export function bytesOfGroup({ members }: OpenGroup): number {
  return members.reduce((sum, { bytes }) => sum + bytes, 0);
}

/**
 * Reads all members of an open group, and closes it.
 * @returns the content of each, in order; undefined when they are not from one moment
 * @throws GK_SOURCE_MOVED, what reading a file fails with
 */
export async function readWhole(group: OpenGroup): Promise<Buffer[] | undefined> {
  try {
    const contents = group.members.map(({ bytes }) => Buffer.alloc(bytes));
    for (const [index, member] of group.members.entries()) await member.read(contents[index]!, 0);
    return (await group.confirm()) ? contents : undefined;
  } finally {
    await group.close();
  }
}
