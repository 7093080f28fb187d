/**
 * The six steps of the hot copy, each against a folder that changes at exactly the wrong moment: a "server" that runs
 * in the progress callback appends, rotates, prunes and checkpoints between two pieces of the copy. The bytes are those
 * of real servers. steps.test.ts takes the steps out one by one and expects these tests to fail.
 */
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { readMembers } from '../../src/artifact/members.ts';
import { openArtifact } from '../../src/artifact/reader.ts';
import { lastCheckpoint } from '../../src/formats/txlog/checkpoint.ts';
import { parseLogHeader } from '../../src/formats/txlog/header.ts';
import { backupDatabase } from '../../src/operations/backup.ts';
import type { BackupResult, DatabaseFolders } from '../../src/operations/types.ts';
import { validateArtifact } from '../../src/operations/validate.ts';
import { makeDatabase } from '../fixtures/database.ts';
import {
  fixture,
  LINES,
  type Line,
  LOG_FIXTURE,
  NEOSTORE_FIXTURE,
  transactionsOf,
} from '../fixtures/lines.ts';
import { checkpointAfter, type LogFile, splitLog } from '../fixtures/logs.ts';
import { failure, makeFolder, namesIn, openFilesBelow, temporaryFolder } from '../fixtures/workspace.ts';

const STORE_BYTES = 12 * 1024 * 1024;
/** Six frames at this rate take about half a second: time for the folder watch to see what happens. */
const RATE_BYTES_PER_SECOND = 24 * 1024 * 1024;
const ZERO_TAIL = 64 * 1024;
const PAGE_BYTES = 8192;

/** A database whose log has four files, of which the server has written two so far; the fence is early in the first. */
interface Scene {
  readonly folders: DatabaseFolders;
  readonly files: readonly LogFile[];
  readonly target: string;
  readonly checkpointPath: string;
  /** Bytes of the checkpoint file when the copy begins. */
  readonly checkpointBytes: Buffer;
  readonly highest: bigint;
  write(file: LogFile): void;
  prune(file: LogFile): void;
}

function makeScene(context: TestContext, line: Line, filesAtStart: number): Scene {
  const root = temporaryFolder(context);
  const folders = makeDatabase(root, line, { propertyStoreBytes: STORE_BYTES });
  const files = splitLog(line, [8n, 16n, 24n], ZERO_TAIL);
  const pathOf = (file: LogFile): string => join(folders.logDirectory, file.name);
  const write = (file: LogFile): void => writeFileSync(pathOf(file), file.bytes);
  rmSync(join(folders.logDirectory, LOG_FIXTURE));
  for (const file of files.slice(0, filesAtStart)) write(file);
  const checkpointPath = join(folders.logDirectory, 'checkpoint.0');
  const checkpointBytes = checkpointAfter(line, 5n, files);
  writeFileSync(checkpointPath, Buffer.concat([checkpointBytes, Buffer.alloc(ZERO_TAIL)]));
  return {
    folders,
    files,
    target: makeFolder(root, 'target'),
    checkpointPath,
    checkpointBytes,
    highest: transactionsOf(fixture(line, LOG_FIXTURE)).at(-1)!.appendIndex,
    write,
    prune: (file) => rmSync(pathOf(file)),
  };
}

/** Takes a backup; `server` runs after each piece that was copied, with the number of the piece. */
async function backupWhile(
  scene: Scene,
  server: (piece: number) => void,
  compress = true,
): Promise<BackupResult> {
  let piece = 0;
  return backupDatabase(scene.folders, {
    targetDirectory: scene.target,
    compress,
    compressionLevel: 1,
    keepFailed: false,
    type: 'FULL',
    rateBytesPerSecond: RATE_BYTES_PER_SECOND,
    listener: { progress: () => server(piece++), notice: () => {} },
  });
}

async function membersOf(path: string): Promise<Map<string, Buffer>> {
  const members = new Map<string, Buffer>();
  let current = '';
  const artifact = await openArtifact(path);
  await readMembers(artifact, {
    begin: async (member) => {
      current = member.path;
      members.set(current, Buffer.alloc(0));
    },
    content: async (bytes) => {
      members.set(current, Buffer.concat([members.get(current)!, bytes]));
    },
    end: async () => {},
  });
  await artifact.file.close();
  return members;
}

async function assertValid(backup: BackupResult): Promise<void> {
  assert.deepEqual((await validateArtifact(backup.artifactPath)).problems, []);
}

for (const line of LINES) {
  describe(`a copy of a changing database of ${line}`, () => {
    test('identify: a format that cannot be proven is refused, not guessed', async (context) => {
      const scene = makeScene(context, line, 4);
      const path = join(scene.folders.storeDirectory, NEOSTORE_FIXTURE);
      const neostore = readFileSync(path);
      // "aligned" becomes "alignee" in the slots of the store id.
      const at = neostore.indexOf(Buffer.from('ned')) + 2;
      neostore[at] = 'e'.charCodeAt(0);
      writeFileSync(path, neostore);
      await assert.rejects(
        backupWhile(scene, () => {}),
        failure('GK_UNSUPPORTED'),
      );
      assert.deepEqual(namesIn(scene.target), []);
    });

    test('pin: log files that appear and are pruned during the copy are all there', async (context) => {
      const scene = makeScene(context, line, 2);
      let pruned = false;
      const backup = await backupWhile(scene, (piece) => {
        if (piece === 1) scene.write(scene.files[2]!);
        // As soon as the copy holds the new file, a checkpoint takes it away and rotation begins the next one.
        const isHeld = openFilesBelow(scene.folders.logDirectory).some((path) =>
          path.endsWith(scene.files[2]!.name),
        );
        if (pruned || !isHeld) return;
        scene.write(scene.files[3]!);
        for (const file of scene.files.slice(0, 3)) scene.prune(file);
        pruned = true;
      });
      assert.ok(pruned, 'the copy did not see a log file that appeared');
      assert.equal(backup.highestTransaction, scene.highest);
      assert.equal(backup.attempts, 1);
      await assertValid(backup);
    });

    test('fence: a checkpoint that happens during the copy is not the one to recover from', async (context) => {
      const scene = makeScene(context, line, 4);
      const newer = checkpointAfter(line, 20n, scene.files).subarray(128);
      const backup = await backupWhile(scene, (piece) => {
        if (piece === 2) writeFileSync(scene.checkpointPath, Buffer.concat([scene.checkpointBytes, newer]));
      });
      const members = await membersOf(backup.artifactPath);
      const checkpoint = lastCheckpoint(members.get('checkpoint.0')!)!;
      assert.equal(checkpoint.appendIndex, 5n);
      assert.equal(checkpoint.endBytes, members.get('checkpoint.0')!.length, 'nothing behind it');
      assert.equal(backup.transactionsAfterFence, scene.highest - 5n);
    });

    test('copy: a tree that a checkpoint changed meanwhile is copied anew', async (context) => {
      const scene = makeScene(context, line, 4);
      const path = join(scene.folders.storeDirectory, 'neostore.counts.db');
      const changed = advancedTree(readFileSync(path));
      let done = false;
      const backup = await backupWhile(scene, () => {
        done ||= changeWhileRead(path, changed);
      });
      assert.ok(done);
      const members = await membersOf(backup.artifactPath);
      assert.ok(members.get('neostore.counts.db')!.equals(changed), 'the copy is from one moment');
      assert.deepEqual(backup.leftOut, []);
    });

    test('tail: what was committed during the copy is in the artifact, and each file ends at its last transaction', async (context) => {
      const scene = makeScene(context, line, 2);
      const backup = await backupWhile(scene, (piece) => {
        if (piece === 3) for (const file of scene.files.slice(2)) scene.write(file);
      });
      assert.equal(backup.highestTransaction, scene.highest);
      const members = await membersOf(backup.artifactPath);
      for (const file of scene.files) {
        const transactions = transactionsOf(members.get(file.name)!);
        assert.equal(transactions.at(-1)!.appendIndex, file.last, file.name);
        assert.equal(members.get(file.name)!.length, transactions.at(-1)!.endBytes, 'no zero behind it');
      }
    });

    test('tail: the log of the artifact begins at the fence, and its checkpoint says so', async (context) => {
      const scene = makeScene(context, line, 4);
      const backup = await backupWhile(scene, () => {});
      const members = await membersOf(backup.artifactPath);
      const log = members.get(scene.files[0]!.name)!;
      assert.equal(transactionsOf(log)[0]!.appendIndex, 6n);
      assert.equal(parseLogHeader(log)!.previousAppendIndex, 5n);
      const { position } = lastCheckpoint(members.get('checkpoint.0')!)!;
      assert.deepEqual(position, { logVersion: 0n, offsetBytes: 128n });
    });

    test('tail: a transaction that fails its checksum, with others behind it, fails the backup', async (context) => {
      const scene = makeScene(context, line, 4);
      const damaged = scene.files[1]!;
      const bytes = Buffer.from(damaged.bytes);
      const { startBytes } = transactionsOf(bytes)[1]!;
      bytes[startBytes + 4]! ^= 1; // in the start time: nothing but the checksum notices
      writeFileSync(join(scene.folders.logDirectory, damaged.name), bytes);
      await assert.rejects(
        backupWhile(scene, () => {}),
        failure('GK_STORE_DAMAGED', /checksum/),
      );
      assert.deepEqual(namesIn(scene.target), []);
    });

    test('tail: a log file that lacks a transaction fails the backup', async (context) => {
      const scene = makeScene(context, line, 4);
      const holed = scene.files[1]!;
      const { startBytes, endBytes } = transactionsOf(holed.bytes)[2]!;
      const bytes = Buffer.concat([holed.bytes.subarray(0, startBytes), holed.bytes.subarray(endBytes)]);
      writeFileSync(join(scene.folders.logDirectory, holed.name), bytes);
      await assert.rejects(
        backupWhile(scene, () => {}),
        failure('GK_STORE_DAMAGED', /gap/),
      );
    });

    test('publish: until the end there is no file that looks like an artifact', async (context) => {
      const scene = makeScene(context, line, 4);
      const seen = new Set<string>();
      const backup = await backupWhile(scene, () => {
        for (const name of namesIn(scene.target)) seen.add(name);
      });
      assert.ok(seen.size > 0, 'the file is written where it will be published');
      assert.deepEqual(
        [...seen].filter((name) => name.endsWith('.backup')),
        [],
      );
      assert.equal(namesIn(scene.target).length, 1);
      await assertValid(backup);
    });

    test('verify: a flipped bit that only the checksum of its frame can see, in the head or in padding', async (context) => {
      const scene = makeScene(context, line, 4);
      const { artifactPath } = await backupWhile(scene, () => {}, false);
      const { index, file } = await openArtifact(artifactPath);
      await file.close();
      const good = readFileSync(artifactPath);
      const timeByte = good.indexOf(Buffer.from('neo4j')) + 5 + 7;
      const lastPaddingByte = index!.frames.at(-1)![0] - 1;
      for (const at of [timeByte, lastPaddingByte]) {
        const bytes = Buffer.from(good);
        bytes[at]! ^= 1;
        writeFileSync(artifactPath, bytes);
        assert.equal((await validateArtifact(artifactPath)).valid, false, `byte ${at}`);
      }
    });
  });
}

/** The tree one checkpoint later: both state pages name newer generations. */
function advancedTree(tree: Buffer): Buffer {
  const advanced = Buffer.from(tree);
  for (const page of [1, 2]) {
    const at = page * PAGE_BYTES;
    const state = advanced.subarray(at, at + 57);
    if (state.every((byte) => byte === 0)) continue;
    state.writeUInt32BE(state.readUInt32BE(0) + 2, 0);
    state.writeUInt32BE(state.readUInt32BE(4) + 2, 4);
    state.copy(advanced, at + 57);
  }
  return advanced;
}

/** Changes the tree as soon as this process holds it open, which is between its first and its second look at it. */
function changeWhileRead(path: string, changed: Buffer): boolean {
  if (!openFilesBelow(dirname(path)).includes(path)) return false;
  writeFileSync(path, changed);
  return true;
}
