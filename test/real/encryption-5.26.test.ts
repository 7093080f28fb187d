import { defineEncryptionTests } from './encryptionsuite.ts';

defineEncryptionTests('5.26');
