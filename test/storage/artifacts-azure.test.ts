/** Artifacts in Azure blob storage. */
import { artifactSuite } from './artifacts.ts';
import { startAzurite } from './azurite.ts';

artifactSuite('Azure (Azurite)', startAzurite);
