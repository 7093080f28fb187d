/** The driver of S3 against versitygw. */
import { objectStoreSuite } from './suite.ts';
import { startVersity } from './versity.ts';

objectStoreSuite('S3 (versitygw)', startVersity);
