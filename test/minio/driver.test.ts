/** The driver of S3 against MinIO. */
import { objectStoreSuite } from '../storage/suite.ts';
import { startMinio } from './server.ts';

objectStoreSuite('S3 (MinIO)', startMinio);
