/** The driver of Google against fake-gcs-server. */
import { startFakeGcs } from './fakegcs.ts';
import { objectStoreSuite } from './suite.ts';

objectStoreSuite('Google (fake-gcs-server)', startFakeGcs);
