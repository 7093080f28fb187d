/** `npm test`: everything, real Neo4j included. Servers and jars are fetched on the first run and kept in a cache. */
import { ensureClassArchive } from '../test/real/harness/classarchive.ts';
import { ensureDistribution, LINES } from '../test/real/harness/distribution.ts';
import { prepareStoreServers } from '../test/storage/prepare.ts';
import { runPlan } from './runner.ts';

for (const line of LINES) {
  console.log(`Neo4j ${line}: ${(await ensureDistribution(line)).version}`);
  await ensureClassArchive(line);
}
await prepareStoreServers();
await runPlan({
  tools: [
    ['types', 'tsc', '-p', 'tsconfig.json'],
    ['lint and format', 'biome', 'check'],
  ],
  phases: [
    { files: ['test/unit/**/*.test.ts', 'test/fault/**/*.test.ts'], filesAtOnce: 3 },
    { files: ['test/storage/**/*.test.ts'], filesAtOnce: 3 },
    // What these count (checkpoints and pruning that fall into a copy) needs a machine of its own.
    { files: ['test/real/neo4j*.test.ts'], filesAtOnce: 1 },
    // These wait for servers most of the time. The longest first, so that none of them is left alone at the end.
    {
      files: [
        'test/real/{chains,network}*.test.ts',
        'test/real/{dbms,encryption,legacy,metadata,package,samples,stock,upgrade}*.test.ts',
      ],
      filesAtOnce: 3,
    },
  ],
});
