/** The judgement on artifacts of any tool: members as another one may have put them together, one after the other. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { MemberKind } from '../../../src/formats/artifact/index.ts';
import { type Checkpoint, lastCheckpoint } from '../../../src/formats/txlog/checkpoint.ts';
import { MANDATORY_FILES, METADATA_STORE } from '../../../src/hotcopy/storefiles.ts';
import { ArtifactProof } from '../../../src/operations/artifactproof.ts';
import { fixture, LINES, type Line, LOG_FIXTURE, NEOSTORE_FIXTURE, storeIdOf } from '../../fixtures/lines.ts';
import { checkpointAfter, splitLog, transactionIn } from '../../fixtures/logs.ts';
import { failure } from '../../fixtures/workspace.ts';

const NOTHING = Buffer.alloc(0);

/** Judges a full artifact whose log is the fixture's up to `last`, whole, as the tools of the vendor leave it. */
async function judge(line: Line, checkpoint: Checkpoint, last: bigint): Promise<ArtifactProof> {
  const log = fixture(line, LOG_FIXTURE);
  const descriptor = {
    storeId: storeIdOf(line),
    databaseUuid: Buffer.alloc(16),
    databaseName: 'neo4j',
    timeSeconds: 0n,
    lowestAppendIndex: 0n,
    highestAppendIndex: last,
    recovered: false,
    compressed: true,
    full: true,
    properties: new Map<string, Buffer>(),
  };
  const proof = new ArtifactProof(descriptor, checkpoint);
  const give = async (path: string, kind: MemberKind, content: Buffer): Promise<void> => {
    await proof.begin({ path, kind, bytes: content.length });
    if (content.length > 0) await proof.content(content, 0);
    await proof.end();
  };
  for (const name of MANDATORY_FILES) {
    if (name !== METADATA_STORE) await give(name, 'store', NOTHING);
  }
  await give(METADATA_STORE, 'store', fixture(line, NEOSTORE_FIXTURE));
  await give(LOG_FIXTURE, 'log', log.subarray(0, transactionIn(log, last).endBytes));
  proof.concludeFull(undefined);
  return proof;
}

for (const line of LINES) {
  describe(`proof of an artifact of ${line}`, () => {
    const checkpointAt = (position: bigint, named: bigint): Checkpoint =>
      lastCheckpoint(checkpointAfter(line, position, splitLog(line, []), named))!;

    test('the checkpoint names the transaction at its position, a later one, or an earlier one', async () => {
      for (const [position, named, last, transactions] of [
        [20n, 20n, 41n, 21n],
        [20n, 20n, 20n, 0n],
        [10n, 15n, 41n, 31n],
        [10n, 15n, 15n, 5n],
        [20n, 19n, 41n, 21n],
        [20n, 17n, 41n, 21n],
        [20n, 19n, 20n, 0n],
      ] as const) {
        const proof = await judge(line, checkpointAt(position, named), last);
        assert.equal(proof.transactions, transactions, `at ${position}, named ${named}, up to ${last}`);
      }
    });

    test('the log must reach the later of the two', async () => {
      for (const [position, named, last] of [
        [10n, 15n, 14n],
        [10n, 15n, 10n],
        [20n, 19n, 19n],
      ] as const) {
        const judging = judge(line, checkpointAt(position, named), last);
        await assert.rejects(judging, /ends (at|before) transaction|no transaction end/, `up to ${last}`);
      }
    });

    test('a position that is not where the checkpoint says leaves a gap', async () => {
      const { position } = checkpointAt(20n, 20n);
      for (const positionAppendIndex of [18n, 19n, 21n]) {
        const checkpoint = { ...checkpointAt(18n, 18n), position, positionAppendIndex };
        await assert.rejects(judge(line, checkpoint, 41n), failure('GK_STORE_DAMAGED', /gap/));
      }
    });
  });
}
