import { defineLineTests } from './suite.ts';

defineLineTests('5.26');
