/**
 * The layout of a configuration artifact: a plain tar, so that a person without graphkeep gets at the files, too
 * (`tar xf`, `sha256sum -c SHA256SUMS`). First the manifest, then the hashes of all, then the members in the order of the
 * manifest. It follows from the manifest to the last byte, so a reader compares instead of parsing.
 */
import { createHash } from 'node:crypto';
import { FormatError } from '../formaterror.ts';
import { parseTarHeader, TAR_BLOCK_BYTES, TAR_END_BYTES, tarPadding, writeTarHeader } from '../tar.ts';
import { archivePathOf, type ConfigurationManifest, type ConfigurationMember } from './manifest.ts';

export const MANIFEST_PATH = 'manifest.json';
export const SUMS_PATH = 'SHA256SUMS';

/** A member and where its content begins. */
export interface PlacedMember {
  readonly member: ConfigurationMember;
  readonly header: Buffer;
  readonly contentOffset: number;
}

export interface ArchiveLayout {
  /** Everything before the first member: the manifest and the hashes. */
  readonly head: Buffer;
  readonly members: readonly PlacedMember[];
  readonly totalBytes: number;
}

/** @throws FormatError for a path that is too long for a tar */
export function layoutOf(manifestBytes: Buffer, manifest: ConfigurationManifest): ArchiveLayout {
  const head = Buffer.concat([
    ...entry(MANIFEST_PATH, manifestBytes),
    ...entry(SUMS_PATH, Buffer.from(sumsOf(manifestBytes, manifest), 'utf8')),
  ]);
  let offset = head.length;
  const members = manifest.members.map((member): PlacedMember => {
    const contentOffset = offset + TAR_BLOCK_BYTES;
    offset = contentOffset + member.bytes + tarPadding(member.bytes);
    return { member, header: writeTarHeader(archivePathOf(member), member.bytes), contentOffset };
  });
  return { head, members, totalBytes: offset + TAR_END_BYTES };
}

/** How long the manifest is, by the first block of the file. @throws FormatError when it is no such artifact */
export function manifestBytesOf(firstBlock: Buffer): number {
  const header = parseTarHeader(firstBlock);
  if (header === undefined || header.path !== MANIFEST_PATH || header.type !== 'file')
    throw new FormatError('it does not begin with a manifest');
  return header.bytes;
}

/** As `sha256sum` writes and checks it. */
function sumsOf(manifestBytes: Buffer, { members }: ConfigurationManifest): string {
  const ofManifest = createHash('sha256').update(manifestBytes).digest('hex');
  const lines = members.map((member) => `${member.sha256}  ${archivePathOf(member)}\n`);
  return [`${ofManifest}  ${MANIFEST_PATH}\n`, ...lines].join('');
}

function entry(path: string, content: Buffer): Buffer[] {
  return [writeTarHeader(path, content.length), content, Buffer.alloc(tarPadding(content.length))];
}
