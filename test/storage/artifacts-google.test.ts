/** Artifacts in Google Cloud storage. */
import { artifactSuite } from './artifacts.ts';
import { startFakeGcs } from './fakegcs.ts';

artifactSuite('Google (fake-gcs-server)', startFakeGcs);
