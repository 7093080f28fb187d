import { defineLineTests } from './suite.ts';

defineLineTests('2026.08');
