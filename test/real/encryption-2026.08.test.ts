import { defineEncryptionTests } from './encryptionsuite.ts';

defineEncryptionTests('2026.08');
