import { defineLegacyTests } from './legacysuite.ts';

defineLegacyTests('5.26');
