import { defineChainTests } from './chainsuite.ts';

defineChainTests('5.26');
