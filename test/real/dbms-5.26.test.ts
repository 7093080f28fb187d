import { defineDbmsTests } from './dbmssuite.ts';

defineDbmsTests('5.26');
