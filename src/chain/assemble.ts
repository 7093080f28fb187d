/**
 * The log files that differentials add behind the log of their full artifact. Each piece becomes a file of its own, with
 * the next number and the header that a rotation there would have written: so nothing depends on how the files of the
 * server were numbered or cut, and a log whose format changed in between stays two files.
 */
import { concatenated, type MemberSource, memberFromBytes, pieceOfMember } from '../artifact/membersource.ts';
import { type Artifact, openArtifact } from '../artifact/reader.ts';
import { GraphkeepError } from '../errors.ts';
import { LOG_HEADER_BYTES, writeLogHeaderAfter } from '../formats/txlog/header.ts';
import type { LogPiece } from './proof.ts';

const LOG_NAME_PREFIX = 'neostore.transaction.db.';

/**
 * The files one after the other; each must be read before the next is asked for, since only one artifact is held open.
 * @param lastVersion number of the newest log file before the first piece
 */
export async function* assembledLog(
  pieces: readonly LogPiece[],
  lastVersion: bigint,
): AsyncGenerator<MemberSource, void> {
  let open: Artifact | undefined;
  try {
    for (const [number, piece] of pieces.entries()) {
      if (open?.file.path !== piece.artifactPath) {
        await open?.file.close();
        open = undefined;
        open = await openArtifact(piece.artifactPath);
      }
      yield logFileOf(piece, open, lastVersion + 1n + BigInt(number));
    }
  } finally {
    await open?.file.close();
  }
}

function logFileOf(piece: LogPiece, artifact: Artifact, version: bigint): MemberSource {
  const name = `${LOG_NAME_PREFIX}${version}`;
  const { index } = artifact;
  const member = index?.members.find(({ path }) => path === piece.memberPath);
  if (index === undefined || member === undefined || piece.endBytes > member.bytes) {
    throw new GraphkeepError('GK_CHAIN_BROKEN', `${piece.artifactPath} was replaced meanwhile`);
  }
  const header = writeLogHeaderAfter(piece.header, piece.previousAppendIndex, version);
  const bytes = piece.endBytes - piece.startBytes;
  return concatenated(name, 'log', [
    memberFromBytes(name, 'log', header),
    pieceOfMember(artifact, index, member, piece.startBytes, bytes),
  ]);
}

/** Bytes of the log files that `assembleLog` makes. */
export function assembledBytes(pieces: readonly LogPiece[]): number {
  return pieces.reduce((sum, piece) => sum + LOG_HEADER_BYTES + piece.endBytes - piece.startBytes, 0);
}
