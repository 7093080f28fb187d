import assert from 'node:assert/strict';
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type Graph, type GraphSource, openGraph } from '../../../src/engine/graph.ts';
import { Overlay, readOverlay } from '../../../src/engine/overlay.ts';
import { GraphkeepError } from '../../../src/errors.ts';
import { RECORD_STORES } from '../../../src/formats/records/layout.ts';
import type { PropertyValue } from '../../../src/formats/records/values.ts';
import { describeGraph, graphSource, unpackFixture } from '../../fixtures/graphs.ts';
import { LINES } from '../../fixtures/lines.ts';
import { failure, temporaryFolder } from '../../fixtures/workspace.ts';

const UPPER = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';
const LOWER = UPPER.toLowerCase();
const DIGITS = '0123456789';
const LATIN = Array.from({ length: 64 }, (_, index) => String.fromCharCode(0xc0 + index))
  .filter((letter) => letter !== '\u00d7' && letter !== '\u00f7')
  .join('');

function pieces(text: string, length: number, behind = ''): string[] {
  return Array.from(
    { length: Math.ceil(text.length / length) },
    (_, index) => text.slice(index * length, (index + 1) * length) + behind,
  );
}

/** Every character of every codec of short strings, and what fits none; as the fixtures were made. */
const STRINGS = [
  '',
  'a',
  ...pieces("0123456789 .-+,'", 9),
  ...pieces('0123456789 -:/+,', 9),
  ...pieces(` ${UPPER}_.-:/`, 11),
  ...pieces(` ${LOWER}_.-:/`, 11),
  ...pieces(`,${LOWER}_.-+@`, 11),
  ...pieces(` ${LOWER}${DIGITS}_.-:/+,'@|;*?&%#()$<>=`, 12),
  ...pieces(` ${UPPER}${LOWER}${DIGITS}_`, 9, 'aB1'),
  ...pieces(` ${UPPER}_.-:/;${LOWER}+,'@|`, 9, 'aB;'),
  ...pieces(LATIN, 7, 'aZ_ 07'),
  'Ä.Ö-',
  'deadbeef0123456789',
  'DEADBEEF0123456789',
  'é¤½',
  '日本語',
  '🙂',
  'x'.repeat(60),
  'y'.repeat(500),
  'Ünï'.repeat(100),
  'it\'s {json: "yes"}',
];

const VALUES: Readonly<Record<string, PropertyValue>> = {
  b: true,
  c: false,
  zero: 0n,
  small: -5n,
  big: 9007199254740991n,
  huge: -(2n ** 63n),
  f: 1.5,
  g: -0.1,
  ints: [1n, 2n, 3n],
  negatives: [-1n, 0n, 1n],
  longs: Array.from({ length: 100 }, (_, index) => BigInt(index + 1)),
  wide: [-(2n ** 63n), 2n ** 63n - 1n],
  floats: [1.5, -2.25],
  manyFloats: Array.from({ length: 40 }, (_, index) => (index + 1) / 8),
  bools: [true, false, true],
  manyBools: Array.from({ length: 400 }, (_, index) => (index + 1) % 3 === 0),
  texts: ['a', 'ö', 'l'.repeat(300)],
  few: ['a'],
  none: [],
};

async function propertiesByName(graph: Graph, label: string): Promise<Map<string, PropertyValue>[]> {
  const [labels, keys] = [await graph.labels(), await graph.propertyKeys()];
  const found: Map<string, PropertyValue>[] = [];
  for await (const node of graph.nodes()) {
    const names = (await graph.labelIdsOf(node)).map((id) => labels.get(id));
    if (!names.includes(label)) continue;
    const properties = await graph.propertiesFrom(node.record.firstProperty);
    found.push(new Map([...properties].map(([key, value]) => [keys.get(key)!, value])));
  }
  return found;
}

for (const line of LINES) {
  describe(`a graph of Neo4j ${line}, read natively`, () => {
    for (const name of ['graph-log', 'graph-aligned', 'graph-standard'] as const) {
      test(`${name}: every value as it was written`, async (context) => {
        const graph = await openGraph(await graphSource(await unpackFixture(context, line, name)));
        const texts = await propertiesByName(graph, 'Text');
        const byNumber = texts.toSorted((left, right) => Number(left.get('i')) - Number(right.get('i')));
        assert.deepEqual(
          byNumber.map((properties) => properties.get('s')),
          STRINGS,
        );
        const [values] = await propertiesByName(graph, 'Value');
        for (const [key, value] of Object.entries(VALUES)) assert.deepEqual(values!.get(key), value, key);
        for (const key of ['p', 'd', 't', 'u', 'z', 'ps', 'ds'])
          assert.equal(typeof values!.get(key), 'object', key);
        assert.equal(values!.size, Object.keys(VALUES).length + 7);
        await graph.close();
      });
    }

    test('the log alone and the stores alone say the same, in both formats', async (context) => {
      const described = [];
      for (const name of ['graph-log', 'graph-aligned', 'graph-standard'] as const) {
        const graph = await openGraph(await graphSource(await unpackFixture(context, line, name)));
        described.push(await describeGraph(graph));
        await graph.close();
      }
      const [fromLog, aligned, standard] = described;
      assert.equal(fromLog!.length, 132);
      assert.deepEqual(aligned, fromLog);
      assert.deepEqual(standard, fromLog);
    });

    test('a dense node, its loop, what was deleted and what was relabelled', async (context) => {
      const graph = await openGraph(await graphSource(await unpackFixture(context, line, 'graph-aligned')));
      const labels = await graph.labels();
      const degrees = new Map<string, number>();
      for await (const node of graph.nodes()) {
        const name = (await graph.labelIdsOf(node)).map((id) => labels.get(id)).join();
        if (name !== 'Hub') continue;
        assert.equal(node.record.dense, true);
        const types = await graph.relationshipTypes();
        for await (const { record } of graph.relationshipsOf(node)) {
          const type = types.get(record.type)!;
          degrees.set(type, (degrees.get(type) ?? 0) + 1);
        }
      }
      assert.deepEqual(Object.fromEntries(degrees), { LOOP: 1, OUT: 72, BACK: 72 });
      let count = 0;
      for await (const _ of graph.relationships()) count++;
      assert.equal(count, 145);
      assert.equal((await propertiesByName(graph, 'Other')).length, 10);
      await graph.close();
    });

    test('the rules of the schema', async (context) => {
      const graph = await openGraph(await graphSource(await unpackFixture(context, line, 'graph-log')));
      const names = [];
      for await (const { record } of graph.schemaRules())
        names.push(record.get('__org.neo4j.SchemaRule.name'));
      // Two lookup indexes, and the constraint with its index.
      assert.equal(names.length, 4);
      assert.equal(names.filter((name) => name === 'leaf').length, 2);
      await graph.close();
    });

    test('without the log, what is in the log only is not there', async (context) => {
      const source = await graphSource(await unpackFixture(context, line, 'graph-log'));
      const graph = await openGraph({ ...source, log: [] });
      assert.deepEqual(await describeGraph(graph), []);
      await graph.close();
    });
  });
}

/** All that can be asked, so that every damaged byte that matters is met. */
async function readAll(source: GraphSource): Promise<void> {
  const graph = await openGraph(source);
  try {
    await describeGraph(graph);
    for await (const _ of graph.schemaRules());
    for await (const { record } of graph.relationships()) await graph.propertiesFrom(record.firstProperty);
  } finally {
    await graph.close();
  }
}

function isExplained(error: unknown): void {
  assert.ok(
    error instanceof GraphkeepError,
    `not a GraphkeepError: ${error instanceof Error ? error.stack : error}`,
  );
  assert.equal(error.code, 'GK_STORE_DAMAGED', error.message);
}

describe('damage', () => {
  for (const name of ['graph-aligned', 'graph-standard', 'graph-log'] as const) {
    test(`changed bytes in ${name} are an error that says where, or another value; never more`, async (context) => {
      const folders = await unpackFixture(context, '2026.08', name);
      const root = temporaryFolder(context);
      const files = [
        ...Object.values(RECORD_STORES).map(({ file }) => join('store', file)),
        ...readdirSync(folders.logDirectory)
          .filter((file) => file.startsWith('neostore.tr'))
          .map((file) => join('log', file)),
      ];
      let seen = 0;
      let damagedRuns = 0;
      const change = fc.record({
        file: fc.constantFrom(...files),
        at: fc.double({ min: 0, max: 1, noNaN: true }),
        byte: fc.nat(255),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 40 }), async (changes) => {
          const copy = join(root, String(seen++));
          cpSync(folders.storeDirectory, join(copy, 'store'), { recursive: true });
          cpSync(folders.logDirectory, join(copy, 'log'), { recursive: true });
          for (const { file, at, byte } of changes) {
            const bytes = readFileSync(join(copy, file));
            // Records lie at the beginnings of the files.
            if (bytes.length > 0) bytes[Math.floor(at * at * (bytes.length - 1))] = byte;
            writeFileSync(join(copy, file), bytes);
          }
          const copied = {
            name: 'neo4j',
            storeDirectory: join(copy, 'store'),
            logDirectory: join(copy, 'log'),
          };
          await readAll(await graphSource(copied)).catch((error: unknown) => {
            damagedRuns++;
            isExplained(error);
          });
        }),
        { numRuns: 60 },
      );
      assert.ok(damagedRuns > 5, `${damagedRuns} runs met damage`);
    });
  }

  test('a chain of properties that runs in a circle', async (context) => {
    const source = await graphSource(await unpackFixture(context, '5.26', 'graph-aligned'));
    const overlay = await readOverlay(source.log);
    assert.equal(overlay.of('properties').size, 0);
    const path = join(source.storeDirectory, RECORD_STORES.properties.file);
    const bytes = readFileSync(path);
    // Each record leads to the one behind it, and the last of ten to the first.
    const recordBytes = RECORD_STORES.properties.recordBytes;
    for (let id = 0; id < 10; id++) {
      bytes.writeUInt32BE((id + 1) % 10, id * recordBytes + 5);
      bytes.writeUInt8(bytes.readUInt8(id * recordBytes) & 0xf0, id * recordBytes);
      // A short string of no characters, each of another key.
      bytes.writeBigUInt64BE(BigInt(100 + id) | (11n << 24n), id * recordBytes + 9);
      bytes.writeBigUInt64BE(0n, id * recordBytes + 17);
    }
    writeFileSync(path, bytes);
    const graph = await openGraph(source);
    await assert.rejects(
      graph.propertiesFrom(0),
      failure('GK_STORE_DAMAGED', /key 100 is there twice|circle/),
    );
    await graph.close();
  });

  test('relationships that run in a circle', async (context) => {
    const source = await graphSource(await unpackFixture(context, '5.26', 'graph-aligned'));
    const intact = await openGraph(source);
    let victim: { id: number; type: string } | undefined;
    for await (const node of intact.nodes()) {
      if (!node.record.dense && node.record.firstRelationship >= 0)
        victim = { id: node.record.firstRelationship, type: '' };
      if (victim !== undefined) break;
    }
    await intact.close();
    const path = join(source.storeDirectory, RECORD_STORES.relationships.file);
    const bytes = readFileSync(path);
    const at = victim!.id * RECORD_STORES.relationships.recordBytes;
    for (const next of [17, 25]) bytes.writeUInt32BE(victim!.id, at + next);
    writeFileSync(path, bytes);
    await assert.rejects(readAll(source), failure('GK_STORE_DAMAGED', /circle/));
  });

  /** Sets bits of one byte of a record. */
  function spoil(
    source: GraphSource,
    store: keyof typeof RECORD_STORES,
    id: number,
    at: number,
    bits: number,
  ): void {
    const path = join(source.storeDirectory, RECORD_STORES[store].file);
    const bytes = readFileSync(path);
    const offset = id * RECORD_STORES[store].recordBytes + at;
    bytes.writeUInt8(bytes.readUInt8(offset) ^ bits, offset);
    writeFileSync(path, bytes);
  }

  test('a value that begins in the middle of another', async (context) => {
    const source = await graphSource(await unpackFixture(context, '5.26', 'graph-aligned'));
    spoil(source, 'strings', 1, 0, 0x80);
    await assert.rejects(
      readAll(source),
      failure('GK_STORE_DAMAGED', /strings: it is a piece of another value/),
    );
  });

  test('a group of another node', async (context) => {
    const source = await graphSource(await unpackFixture(context, '5.26', 'graph-aligned'));
    spoil(source, 'groups', 1, 23, 0x01);
    await assert.rejects(readAll(source), failure('GK_STORE_DAMAGED', /groupstore.db: it belongs to node/));
  });

  test('a node with the labels of another', async (context) => {
    const source = await graphSource(await unpackFixture(context, '5.26', 'graph-aligned'));
    // Behind the header of the record and that of the array lies the id of the node.
    spoil(source, 'nodeLabels', 1, 8 + 3, 0x01);
    await assert.rejects(readAll(source), failure('GK_STORE_DAMAGED', /the labels belong to node/));
  });

  test('a store in several files is refused', async (context) => {
    const source = await graphSource(await unpackFixture(context, '5.26', 'graph-aligned'));
    writeFileSync(join(source.storeDirectory, `${RECORD_STORES.nodes.file}.1`), '');
    await assert.rejects(readAll(source), failure('GK_UNSUPPORTED', /several files/));
  });

  test('a log that changes more than can be held is refused', async (context) => {
    const source = await graphSource(await unpackFixture(context, '5.26', 'graph-log'));
    await assert.rejects(
      readOverlay(source.log, undefined, new Overlay(100)),
      failure('GK_UNSUPPORTED', /held in memory/),
    );
  });

  test('a torn transaction at the end of the log changes nothing', async (context) => {
    const source = await graphSource(await unpackFixture(context, '5.26', 'graph-log'));
    const path = source.log[0]!.path;
    const whole = readFileSync(path);
    writeFileSync(path, whole.subarray(0, whole.length - 1));
    const graph = await openGraph(source);
    // The last transaction relabelled ten nodes.
    assert.equal((await propertiesByName(graph, 'Other')).length, 0);
    await graph.close();
  });
});
