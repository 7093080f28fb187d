import { defineLegacyTests } from './legacysuite.ts';

defineLegacyTests('2026.08');
