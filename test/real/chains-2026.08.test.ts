import { defineChainTests } from './chainsuite.ts';

defineChainTests('2026.08');
