import { defineMetadataTests } from './metadatasuite.ts';

defineMetadataTests('5.26');
