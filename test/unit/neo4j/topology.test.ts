/** Where databases live, out of the rows that a cluster would answer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readHosts } from '../../../src/neo4j/topology.ts';

const online = { currentStatus: 'online', writer: false };

test('secondaries come first, the writer last, and what is not online not at all', async () => {
  const asked: string[] = [];
  const hosts = await readHosts(async (query) => {
    asked.push(query);
    return [
      { ...online, name: 'movies', address: 'one.example.com:7687', role: 'primary', writer: true },
      { ...online, name: 'movies', address: 'two.example.com:7687', role: 'primary' },
      { ...online, name: 'movies', address: 'three.example.com:7687', role: 'secondary' },
      {
        ...online,
        name: 'movies',
        address: 'four.example.com:7687',
        role: 'secondary',
        currentStatus: 'starting',
      },
      { ...online, name: 'system', address: '[2001:db8::1]:7687', role: 'standalone', writer: true },
      { ...online, name: 'elsewhere', address: null, role: 'primary' },
      { ...online, name: 'strange', address: 'no address at all', role: 'primary' },
    ];
  });
  assert.deepEqual(
    [...hosts],
    [
      ['movies', ['three.example.com', 'two.example.com', 'one.example.com']],
      ['system', ['2001:db8::1']],
    ],
  );
  assert.equal(asked.length, 1);
  assert.match(asked[0]!, /^SHOW DATABASES YIELD /);
});
