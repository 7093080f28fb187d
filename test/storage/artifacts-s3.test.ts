/** Artifacts in an S3. */
import { artifactSuite } from './artifacts.ts';
import { startVersity } from './versity.ts';

artifactSuite('S3 (versitygw)', startVersity);
