/**
 * Proves the bytes of a configuration artifact as they pass by, in order and once: on their way into a store, where they
 * cannot be read back before they have their name, and out of a file.
 */
import { createHash } from 'node:crypto';
import { layoutOf, manifestBytesOf, type PlacedMember } from '../formats/configuration/archive.ts';
import { type ConfigurationManifest, parseManifest } from '../formats/configuration/manifest.ts';
import { FormatError } from '../formats/formaterror.ts';
import { TAR_BLOCK_BYTES, TAR_END_BYTES, tarPadding } from '../formats/tar.ts';
import { CONFIGURATION_MANIFEST_BYTES_MAX } from '../limits.ts';

/** Takes all pieces. @throws FormatError unless every byte is what the manifest at the beginning demands */
export async function proveConfiguration(pieces: AsyncIterable<Buffer>): Promise<ConfigurationManifest> {
  const bytes = new PassingBytes(pieces);
  const firstBlock = await bytes.exactly(TAR_BLOCK_BYTES);
  const manifestBytes = await bytes.exactly(boundedManifestBytes(firstBlock));
  const manifest = parseManifest(manifestBytes);
  const { head, members } = layoutOf(manifestBytes, manifest);
  const rest = await bytes.exactly(head.length - firstBlock.length - manifestBytes.length);
  if (!head.equals(Buffer.concat([firstBlock, manifestBytes, rest]))) throw manifestFails();
  for (const placed of members) await proveMember(placed, bytes);
  requireZeros(await bytes.exactly(TAR_END_BYTES), 'the end');
  if (await bytes.isMore()) throw new FormatError('there is more behind its end');
  return manifest;
}

export function manifestFails(): FormatError {
  return new FormatError('the manifest fails its SHA-256');
}

/** How long the manifest is. @throws FormatError */
export function boundedManifestBytes(firstBlock: Buffer): number {
  const bytes = manifestBytesOf(firstBlock);
  if (bytes > CONFIGURATION_MANIFEST_BYTES_MAX) throw new FormatError(`a manifest of ${bytes} bytes`);
  return bytes;
}

async function proveMember({ member, header }: PlacedMember, bytes: PassingBytes): Promise<void> {
  const name = `${member.place}/${member.path}`;
  if (!(await bytes.exactly(TAR_BLOCK_BYTES)).equals(header))
    throw new FormatError(`the tar header of ${name} is another one`);
  const hash = createHash('sha256');
  for (let left = member.bytes; left > 0; ) {
    const piece = await bytes.some(left);
    hash.update(piece);
    left -= piece.length;
  }
  // Going on first: a source that noticed that the file changed under it has the better words for it.
  await bytes.isMore();
  if (hash.digest('hex') !== member.sha256) throw new FormatError(`${name} fails its SHA-256`);
  requireZeros(await bytes.exactly(tarPadding(member.bytes)), `what follows ${name}`);
}

function requireZeros(bytes: Buffer, where: string): void {
  if (bytes.some((byte) => byte !== 0)) throw new FormatError(`${where} is not zero`);
}

/** What comes in pieces of any size, by the sizes that the layout has. */
class PassingBytes {
  readonly #pieces: AsyncIterator<Buffer>;
  #piece: Buffer = Buffer.alloc(0);
  #positionBytes = 0;

  constructor(pieces: AsyncIterable<Buffer>) {
    this.#pieces = pieces[Symbol.asyncIterator]();
  }

  async isMore(): Promise<boolean> {
    while (this.#piece.length === 0) {
      const next = await this.#pieces.next();
      if (next.done === true) return false;
      this.#piece = next.value;
    }
    return true;
  }

  /** At least one byte. @throws FormatError at the end */
  async some(bytesMax: number): Promise<Buffer> {
    if (!(await this.isMore()))
      throw new FormatError(`it ends at byte ${this.#positionBytes}, inside its content`);
    const taken = this.#piece.subarray(0, bytesMax);
    this.#piece = this.#piece.subarray(taken.length);
    this.#positionBytes += taken.length;
    return taken;
  }

  async exactly(bytes: number): Promise<Buffer> {
    const taken: Buffer[] = [];
    for (let left = bytes; left > 0; left -= taken.at(-1)!.length) taken.push(await this.some(left));
    return Buffer.concat(taken);
  }
}
