/** The log of an artifact: the tail of the server's log as if it had rotated where the tail begins. */
import { concatenated, type MemberSource, memberFromBytes } from '../artifact/membersource.ts';
import { LOG_HEADER_BYTES, writeLogHeaderAfter } from '../formats/txlog/header.ts';
import { memberFromHandle } from './member.ts';
import type { Tail, TailFile } from './tail.ts';

/**
 * What lies before the tail in its first file, up to a whole rotation size, is in the store files or in the parent already
 * and would only make every artifact larger. So the first file gets the header that a rotation would have written there.
 */
export async function membersOfTail(tail: Tail): Promise<MemberSource[]> {
  const [first, ...others] = tail.files as [TailFile, ...TailFile[]];
  const header = Buffer.alloc(LOG_HEADER_BYTES);
  await memberFromHandle(first.handle, first.name, 'log', LOG_HEADER_BYTES).read(header, 0);
  return [
    concatenated(first.name, 'log', [
      memberFromBytes(first.name, 'log', writeLogHeaderAfter(header, tail.appendIndexBefore)),
      memberFromHandle(first.handle, first.name, 'log', first.endBytes - first.startBytes, first.startBytes),
    ]),
    ...others.map((file) => memberFromHandle(file.handle, file.name, 'log', file.endBytes)),
  ];
}

/** Files without a transaction say nothing that a differential needs. */
export function withoutEmptyFiles(tail: Tail): Tail {
  return { ...tail, files: tail.files.filter((file) => file.endBytes > file.startBytes) };
}
