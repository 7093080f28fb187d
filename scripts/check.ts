/** `npm run check`: types, lint, format and unit tests, for daily work. */
import { runPlan } from './runner.ts';

await runPlan({
  tools: [
    ['types', 'tsc', '-p', 'tsconfig.json'],
    ['lint and format', 'biome', 'check'],
  ],
  phases: [{ files: ['test/unit/**/*.test.ts'], filesAtOnce: 3 }],
});
