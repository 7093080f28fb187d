/** The driver of Azure against Azurite. */
import { startAzurite } from './azurite.ts';
import { objectStoreSuite } from './suite.ts';

objectStoreSuite('Azure (Azurite)', startAzurite);
