import { defineNetworkTests } from './networksuite.ts';

defineNetworkTests('2026.08');
