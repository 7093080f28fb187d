import { defineNetworkTests } from './networksuite.ts';

defineNetworkTests('5.26');
