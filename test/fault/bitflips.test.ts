/**
 * One flipped bit anywhere in an artifact: `validate` finds it, and `restore` refuses it and leaves what was there.
 * The places are drawn from a seed, from every region of the file in turn; GRAPHKEEP_FAULT_SEED takes another one.
 */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { openArtifact } from '../../src/artifact/reader.ts';
import { GraphkeepError } from '../../src/errors.ts';
import { FOOTER_BYTES } from '../../src/formats/artifact/index.ts';
import { SKIPPABLE_HEADER_BYTES } from '../../src/formats/zstd.ts';
import { FRAME_RAW_BYTES, MIB } from '../../src/limits.ts';
import { backupDatabase } from '../../src/operations/backup.ts';
import { restoreDatabase } from '../../src/operations/restore.ts';
import { validateArtifact } from '../../src/operations/validate.ts';
import { foldersIn, makeDatabase, put } from '../fixtures/database.ts';
import { randomNumbers } from '../fixtures/random.ts';
import {
  assertSameFiles,
  filesBelow,
  makeFolder,
  openFilesBelow,
  smallFileSystem,
  temporaryFolder,
} from '../fixtures/workspace.ts';

const SEED = Number(process.env.GRAPHKEEP_FAULT_SEED ?? 20261121);
const FLIPS_OF_EACH_ARTIFACT = 510;

interface Region {
  readonly name: string;
  readonly from: number;
  readonly to: number;
}

async function makeArtifact(
  context: TestContext,
  compress: boolean,
): Promise<{ root: string; path: string }> {
  // Hundreds of restores, each with a sync of every file: memory is a faster disk where there is one to be had.
  const memory = smallFileSystem(context, 64 * MIB);
  const root = 'folder' in memory ? memory.folder : temporaryFolder(context);
  // Uncompressed, which is read faster, one member has two frames; all others have one.
  const propertyStoreBytes = compress ? 8192 : FRAME_RAW_BYTES + 2 * 8192;
  const source = makeDatabase(join(root, 'source'), '5.26', { propertyStoreBytes });
  const { artifactPath } = await backupDatabase(source, {
    targetDirectory: makeFolder(root, 'backups'),
    compress,
    compressionLevel: 1,
    keepFailed: false,
    type: 'FULL',
  });
  return { root, path: artifactPath };
}

/** The parts of the file that are guarded by different means. */
async function regionsOf(path: string): Promise<Region[]> {
  const { file, index } = await openArtifact(path);
  await file.close();
  const { frames, members } = index!;
  const frameRegion = (name: string, number: number): Region => {
    const [from, storedBytes] = frames[number]!;
    return { name, from, to: from + storedBytes };
  };
  const [, headBytes] = frames[0]!;
  const indexStart = frames.at(-1)![0] + frames.at(-1)![1];
  const contentStart = indexStart + SKIPPABLE_HEADER_BYTES;
  const contentEnd = file.bytes - FOOTER_BYTES;
  return [
    { name: 'magic', from: 0, to: 4 },
    { name: 'head', from: 4, to: headBytes },
    ...members.flatMap((member) =>
      Array.from({ length: member.frameCount }, (_, number) =>
        frameRegion(`${member.path}, frame ${number + 1}`, member.firstFrame + number),
      ),
    ),
    frameRegion('end of the tar', frames.length - 1),
    { name: 'skippable header', from: indexStart, to: contentStart },
    { name: 'index', from: contentStart, to: contentEnd },
    { name: 'footer', from: contentEnd, to: file.bytes },
  ];
}

function flipBit(path: string, place: number, bit: number, whole: Buffer): void {
  const descriptor = openSync(path, 'r+');
  writeSync(descriptor, Buffer.of(whole[place]! ^ (1 << bit)), 0, 1, place);
  closeSync(descriptor);
}

function restoreByte(path: string, place: number, whole: Buffer): void {
  const descriptor = openSync(path, 'r+');
  writeSync(descriptor, whole, place, 1, place);
  closeSync(descriptor);
}

/** Small regions get as many flips as large ones: a region is a way of being found. */
function* places(
  regions: readonly Region[],
  seed: number,
): Generator<{ region: Region; place: number; bit: number }> {
  const next = randomNumbers(seed);
  for (let count = 0; count < FLIPS_OF_EACH_ARTIFACT; count++) {
    const region = regions[count % regions.length]!;
    yield { region, place: region.from + next(region.to - region.from), bit: next(8) };
  }
}

for (const compress of [true, false]) {
  describe(`bit flips in an artifact, ${compress ? '' : 'un'}compressed (seed ${SEED})`, () => {
    test(`${FLIPS_OF_EACH_ARTIFACT} of them are all found`, async (context) => {
      const { root, path } = await makeArtifact(context, compress);
      const whole = readFileSync(path);
      const regions = await regionsOf(path);
      assert.equal(regions[0]!.from, 0);
      for (const [number, region] of regions.entries()) {
        assert.equal(
          region.to,
          regions[number + 1]?.from ?? whole.length,
          `${region.name} ends where the next begins`,
        );
        assert.ok(region.to > region.from, region.name);
      }
      const empty = foldersIn(makeFolder(root, 'empty'));
      const taken = makeDatabase(makeFolder(root, 'taken'), '2026.08', { seed: 9 });
      put(join(root, 'taken/databases/store_lock'), Buffer.alloc(0));
      const before = filesBelow(join(root, 'taken'));
      assert.equal((await validateArtifact(path)).valid, true);

      const found = new Map<string, number>();
      for (const { region, place, bit } of places(regions, SEED)) {
        const where = `bit ${bit} of byte ${place}, in ${region.name}`;
        flipBit(path, place, bit, whole);
        assert.equal((await validateArtifact(path)).valid, false, `validate: ${where}`);
        const target = place % 2 === 0 ? empty : taken;
        const restoring = restoreDatabase({ artifactPath: path, target, overwriteDestination: true });
        await assert.rejects(restoring, isRefusal, `restore: ${where}`);
        restoreByte(path, place, whole);
        found.set(region.name, (found.get(region.name) ?? 0) + 1);
      }

      assert.equal(readFileSync(path).equals(whole), true, 'each flip was taken back');
      assert.deepEqual(
        [...filesBelow(join(root, 'empty')).keys()].filter((name) => /neo4j|graphkeep/.test(name)),
        [],
      );
      assertSameFiles(filesBelow(join(root, 'taken')), before);
      assert.deepEqual(openFilesBelow(root), []);
      for (const region of regions) assert.ok(found.get(region.name)! >= 10, region.name);
      context.diagnostic(`${FLIPS_OF_EACH_ARTIFACT} flips in ${regions.length} regions, seed ${SEED}`);
      // The artifact that all of them were made from is good: nothing above was refused for another reason.
      await restoreDatabase({ artifactPath: path, target: empty, overwriteDestination: false });
    });

    test('every single bit of the magic, the skippable header and the footer is found', async (context) => {
      const { path } = await makeArtifact(context, compress);
      const whole = readFileSync(path);
      const small = (await regionsOf(path)).filter((region) =>
        ['magic', 'skippable header', 'footer'].includes(region.name),
      );
      for (const region of small) {
        for (let place = region.from; place < region.to; place++) {
          for (let bit = 0; bit < 8; bit++) {
            flipBit(path, place, bit, whole);
            const { valid } = await validateArtifact(path);
            assert.equal(valid, false, `bit ${bit} of byte ${place}, in ${region.name}`);
            restoreByte(path, place, whole);
          }
        }
      }
      assert.equal((await validateArtifact(path)).valid, true);
    });
  });
}

/** A flip in the head may make the artifact a differential one, or one of another kind: refused as well. */
function isRefusal(error: unknown): boolean {
  assert.ok(error instanceof GraphkeepError, `not a GraphkeepError: ${String(error)}`);
  assert.ok(
    ['GK_ARTIFACT_CORRUPT', 'GK_UNSUPPORTED'].includes(error.code),
    `${error.code}: ${error.message}`,
  );
  return true;
}
