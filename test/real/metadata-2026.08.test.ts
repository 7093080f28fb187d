import { defineMetadataTests } from './metadatasuite.ts';

defineMetadataTests('2026.08');
