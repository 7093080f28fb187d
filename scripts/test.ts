/** `npm test`: everything, real Neo4j included. Servers and jars are fetched on the first run and kept in a cache. */
import { ensureDistribution, LINES } from '../test/real/harness/distribution.ts';
import { runPlan } from './runner.ts';

for (const line of LINES) {
  console.log(`Neo4j ${line}: ${(await ensureDistribution(line)).version}`);
}
await runPlan({
  tools: [
    ['types', 'tsc', '-p', 'tsconfig.json'],
    ['lint and format', 'biome', 'check'],
  ],
  parallel: ['test/unit/**/*.test.ts', 'test/fault/**/*.test.ts'],
  serial: ['test/real/**/*.test.ts'],
});
