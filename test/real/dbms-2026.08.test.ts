import { defineDbmsTests } from './dbmssuite.ts';

defineDbmsTests('2026.08');
